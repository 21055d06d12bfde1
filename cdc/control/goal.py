"""Whole pipelines caught up: what `cdc run --until-caught-up`, the demo and tests wait for."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from cdc.control.caught_up import CaughtUp, Report, wait_caught_up
from cdc.control.connect import Connect
from cdc.control.operate import opened, partitions_of, topics, topics_of
from cdc.db.source import connect_source
from cdc.mapping.model import Pipeline
from cdc.model import TopicPartition
from cdc.settings import Settings


def wait_pipelines(
    settings: Settings,
    pipelines: Sequence[Pipeline],
    *,
    deadline_s: float,
    report: Report = lambda progress: None,
) -> dict[tuple[str, str], CaughtUp]:
    """Wait until everything committed at the pipelines' sources now is in their targets; by (pipeline, source).

    Raises as `wait_caught_up` does. Workers must be running: this only watches.
    """
    found = {}
    for pipeline in pipelines:
        sources = sorted({table.source_name for table in pipeline.tables})
        for source in sources:
            found[pipeline.label, source] = _wait(settings, pipeline, source, deadline_s, report)
    return found


def _wait(settings: Settings, pipeline: Pipeline, source: str, deadline_s: float, report: Report) -> CaughtUp:
    names = [
        topic for topic, tables in topics_of(pipeline).items() if any(table.source_name == source for table in tables)
    ]
    database = connect_source(settings.source(source))
    try:
        with (
            Connect(settings.connect) as connect,
            opened(settings, pipeline) as operator,
            topics(settings, pipeline) as consumer,
        ):

            def ends() -> dict[TopicPartition, int]:
                """Ends of what holds anything: an empty partition has no watermark yet, and needs none."""
                partitions = partitions_of(consumer, names)
                starts, found = consumer.starts(partitions), consumer.ends(partitions)
                return {each: end for each, end in found.items() if end > starts[each]}

            def watermarks() -> dict[TopicPartition, int]:
                return {mark.partition: mark.next for mark in operator.partitions() if mark.next is not None}

            return wait_caught_up(
                database, connect, source, ends=ends, watermarks=watermarks, deadline_s=deadline_s, report=report
            )
    finally:
        database.close()


class Goal:
    """`wait_pipelines` in the background, for a supervisor that asks now and then whether it is reached."""

    def __init__(self, settings: Settings, pipelines: Sequence[Pipeline], deadline_s: float) -> None:
        self._error: Exception | None = None
        self._thread = threading.Thread(
            target=self._wait, args=(settings, pipelines, deadline_s), name="caught up", daemon=True
        )
        self._thread.start()

    def reached(self) -> bool:
        """True when all is in. Raises what the waiting raised."""
        if self._thread.is_alive():
            return False
        if self._error is not None:
            raise self._error
        return True

    def _wait(self, settings: Settings, pipelines: Sequence[Pipeline], deadline_s: float) -> None:
        try:
            wait_pipelines(settings, pipelines, deadline_s=deadline_s)
        except Exception as error:
            self._error = error
