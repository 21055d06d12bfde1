"""How long until a topic's retention takes what a pipeline has not applied: told well before it happens."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import structlog

from cdc.control.status import PartitionStatus, PipelineStatus, Status, status
from cdc.errors import CdcError
from cdc.mapping.model import Pipeline
from cdc.settings import Settings

_log = structlog.get_logger(__name__)

EVERY_S = 60.0
SOON_S = 3600.0
"""By the pace at which a topic's beginning moves: warned when it reaches the watermark in less."""
_Place = tuple[str, str, int]  # pipeline, topic, partition


class Watch:
    """Looks at statuses one after the other; says what is at risk. By time as `cdc status` does, and by the pace at
    which a topic's beginning comes nearer, which retention by size makes unpredictable otherwise."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._starts: dict[_Place, tuple[float, int]] = {}

    def look(self, now: Status) -> Iterator[tuple[str, str, float]]:
        """(pipeline, place, seconds left at most) of every partition at risk."""
        at = self._clock()
        for pipeline, topic, partition in _partitions(now):
            place = (pipeline.name, topic, partition.partition)
            left = partition.loss_in_s if partition.loss_is_near else None
            paced = self._by_pace(place, partition, at)
            if paced is not None and paced < SOON_S:
                left = paced if left is None else min(left, paced)
            if left is not None:
                yield pipeline.name, f"{topic}:{partition.partition}", left
            if partition.start is not None:
                self._starts[place] = (at, partition.start)

    def _by_pace(self, place: _Place, partition: PartitionStatus, at: float) -> float | None:
        before = self._starts.get(place)
        if before is None or partition.start is None or not partition.lag or at <= before[0]:
            return None
        pace = (partition.start - before[1]) / (at - before[0])
        ahead = (partition.watermark or partition.start) - partition.start
        return max(0.0, ahead / pace) if pace > 0 else None


def keep_warned(settings: Settings, pipelines: Sequence[Pipeline], every_s: float = EVERY_S) -> None:
    """Warn in the log of what is about to be lost, in the background, as long as we live. Workers may be stuck, waiting
    or gone meanwhile: that is when it matters."""
    never, watch = threading.Event(), Watch()

    def work() -> None:
        while True:
            try:
                warn(watch, status(settings, pipelines))
            except CdcError as error:
                _log.warning("it could not be seen how much time retention leaves", error=error.what)
            if never.wait(every_s):
                return

    threading.Thread(target=work, name="retention", daemon=True).start()


def warn(watch: Watch, now: Status) -> None:
    for pipeline, where, left in watch.look(now):
        _log.warning(
            "changes that wait will be lost to the topic's retention",
            pipeline=pipeline,
            where=where,
            left_s=math.floor(left),
            hint="see cdc status; let the target catch up, or raise the topic's retention.ms (and retention.bytes) now",
        )


def _partitions(now: Status) -> Iterator[tuple[PipelineStatus, str, PartitionStatus]]:
    for pipeline in now.pipelines:
        for topic in pipeline.topics:
            for partition in topic.partitions:
                yield pipeline, topic.topic, partition
