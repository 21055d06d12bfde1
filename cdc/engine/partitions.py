"""The partitions a worker owns: taking them, checking that their topics still are what the watermarks speak of.

Everything that could lose changes without a word is an error here: a topic created again under its old name, offsets
that retention has passed, a compacted topic, partitions added while older ones still hold undelivered changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import structlog

from cdc.engine.intake import Owned
from cdc.engine.parked import Guard
from cdc.errors import Terminal
from cdc.model import TopicPartition
from cdc.source.consumer import Consumer
from cdc.target.base import Advance, Target, Watermark

_log = structlog.get_logger(__name__)


class Partitions:
    """What this worker owns. `source_of(topic)` names the source; `target` is the worker's own connection."""

    def __init__(self, consumer: Consumer, target: Target, source_of: Callable[[str], str]) -> None:
        self._consumer = consumer
        self._target = target
        self._source_of = source_of
        self.owned: dict[TopicPartition, Owned] = {}
        self._grown: dict[TopicPartition, dict[TopicPartition, int]] = {}  # waits for these offsets of older ones

    @property
    def mine(self) -> set[TopicPartition]:
        """Everything assigned: what is read, and what waits for older partitions."""
        return {*self.owned, *self._grown}

    def take(self, partitions: Iterable[TopicPartition]) -> list[Watermark]:
        """Become the owner (raising fences), check, and position the consumer at the watermarks.

        Partitions that were added while older ones still hold changes wait: a key may have moved to them, and its
        newer change must not overtake its older one. `release` takes them when the older ones are drained.
        """
        wanted = sorted(partitions)
        if not wanted:
            return []
        topics = sorted({partition.topic for partition in wanted})
        ids = self._consumer.topic_ids(topics)
        self._refuse_compacted(topics)
        self._register(topics, ids)
        self._grown = {each: olds for each, olds in self._grown.items() if each in wanted}
        ready = [partition for partition in wanted if partition not in self._grown]
        return self._take(ready, ids)

    def release(self) -> list[Watermark]:
        """Take the partitions whose older ones have been drained by now."""
        if not self._grown:
            return []
        done = {mark.partition: mark.next or 0 for mark in self._target.watermarks()}
        drained = [
            partition
            for partition, olds in self._grown.items()
            if all(done.get(old, 0) >= end for old, end in olds.items())
        ]
        for partition in drained:
            del self._grown[partition]
        ids = self._consumer.topic_ids({partition.topic for partition in drained})
        self._target.register({partition: ids[partition.topic] for partition in drained})
        return self._take(drained, ids)

    def _take(self, wanted: list[TopicPartition], ids: Mapping[str, str]) -> list[Watermark]:
        if not wanted:
            return []
        marks = self._target.take({partition: ids[partition.topic] for partition in wanted})
        self._check_ids(marks, ids)
        starts, ends = self._consumer.starts(wanted), self._consumer.ends(wanted)
        for mark in marks:
            start = starts[mark.partition]
            _check_range(mark, start, ends[mark.partition])
            own = Owned(mark.partition, self._source_of(mark.partition.topic), mark.fence, mark.next, start)
            self.owned[mark.partition] = own
            self._consumer.seek(mark.partition, own.next)
        return marks

    def drop(self, partitions: Iterable[TopicPartition]) -> None:
        for partition in partitions:
            self.owned.pop(partition, None)
            self._grown.pop(partition, None)

    def advance(self, moves: Sequence[Advance]) -> None:
        """The next batch builds on these."""
        for move in moves:
            self.owned[move.partition].expected = move.next

    def guard(self) -> Guard:
        """A compare of the partitions as the batches handed out so far leave them."""
        now = {own.partition: (own.fence, own.expected) for own in self.owned.values()}

        def compare(partitions: Iterable[TopicPartition]) -> list[Advance]:
            return [Advance(each, *now[each], now[each][1]) for each in partitions if each in now]

        return compare

    def positions(self) -> dict[TopicPartition, int]:
        """Where the consumer stands, for the partitions that have a position."""
        found = {partition: self._consumer.position(partition) for partition in self.owned}
        return {partition: position for partition, position in found.items() if position is not None}

    def _refuse_compacted(self, topics: list[str]) -> None:
        for topic, policies in self._consumer.cleanup_policy(topics).items():
            if "compact" in policies:
                raise Terminal(
                    "the topic is compacted: changes between a watermark and the newest one of a key would be missing",
                    where=topic,
                    hint="set its cleanup.policy=delete (topic.creation.default.cleanup.policy in the connector)",
                )

    def _check_ids(self, marks: Iterable[Watermark], ids: Mapping[str, str]) -> None:
        for mark in marks:
            if mark.next is not None and mark.topic_id != ids[mark.partition.topic]:
                raise Terminal(
                    f"the topic was created again: the watermark {mark.next} belongs to the topic with id"
                    f" {mark.topic_id}, this one is {ids[mark.partition.topic]}",
                    where=f"{mark.partition.topic}:{mark.partition.partition}",
                    hint="changes between the two are lost: `cdc rewind --to-earliest` on this topic, then"
                    " `cdc source load` its table and `cdc sweep`",
                )

    def _register(self, topics: list[str], ids: Mapping[str, str]) -> None:
        """Remember the partitions of new topics; find those added to known ones."""
        counts = self._consumer.partitions(topics)
        known: dict[str, dict[TopicPartition, int]] = {}
        for mark in self._target.watermarks():
            known.setdefault(mark.partition.topic, {})[mark.partition] = mark.next or 0
        for topic in topics:
            all_of_it = {TopicPartition(topic, number) for number in range(counts.get(topic, 0))}
            olds = known.get(topic)
            new = all_of_it - set(olds or ())
            if olds is None:
                self._target.register(dict.fromkeys(all_of_it, ids[topic]))
            elif new:
                ends = {old: end for old, end in self._consumer.ends(olds).items() if olds[old] < end}
                for partition in new:
                    self._grown.setdefault(partition, ends)
                _log.warning("the topic grew: new partitions wait until the older ones are drained", topic=topic)


def _check_range(mark: Watermark, start: int, end: int) -> None:
    if mark.next is None or start <= mark.next <= end:
        return
    where = f"{mark.partition.topic}:{mark.partition.partition}"
    if mark.next < start:
        raise Terminal(
            f"offsets {mark.next} to {start - 1} are gone from the topic: its retention passed the watermark",
            where=where,
            hint="`cdc rewind --to-earliest` on this topic, then `cdc source load` its table, `cdc sweep`",
        )
    raise Terminal(
        f"the watermark {mark.next} lies behind the topic's end {end}: the topic lost records or was created again",
        where=where,
        hint="check the broker; then `cdc rewind --to-earliest` on this topic and `cdc source load` its table",
    )
