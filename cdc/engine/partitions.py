"""The partitions a worker owns: taking them, checking that their topics still are what the watermarks speak of.

Everything that could lose changes without a word is an error here: a topic created again under its old name, offsets
that retention has passed, a compacted topic, partitions added while older ones still hold undelivered changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from cdc.engine.intake import Owned
from cdc.engine.parked import Guard
from cdc.errors import Terminal
from cdc.model import TopicPartition
from cdc.source.consumer import Consumer
from cdc.target.base import Advance, Target, Watermark


class Partitions:
    """What this worker owns. `source_of(topic)` names the source; `target` is the worker's own connection."""

    def __init__(self, consumer: Consumer, target: Target, source_of: Callable[[str], str]) -> None:
        self._consumer = consumer
        self._target = target
        self._source_of = source_of
        self.owned: dict[TopicPartition, Owned] = {}

    def take(self, partitions: Iterable[TopicPartition]) -> list[Watermark]:
        """Become the owner (raising fences), check, and position the consumer at the watermarks."""
        wanted = sorted(partitions)
        if not wanted:
            return []
        topics = sorted({partition.topic for partition in wanted})
        ids = self._consumer.topic_ids(topics)
        self._refuse_compacted(topics)
        marks = self._target.take({partition: ids[partition.topic] for partition in wanted})
        self._check_ids(marks, ids)
        self._check_growth(topics)
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
                    hint="changes between the two are lost: `cdc rewind --to-earliest` on this topic, then re-load its"
                    " table at the source (snapshot signal) and sweep",
                )

    def _check_growth(self, topics: list[str]) -> None:
        """New partitions wait until the old ones are drained: a key may have moved to another partition."""
        counts = self._consumer.partitions(topics)
        known: dict[str, dict[int, Watermark]] = {}
        for mark in self._target.watermarks():
            known.setdefault(mark.partition.topic, {})[mark.partition.partition] = mark
        for topic in topics:
            old = {number: mark for number, mark in known.get(topic, {}).items() if mark.next is not None}
            new = [number for number in range(counts.get(topic, 0)) if number not in old]
            if not old or not new or max(old) > min(new):
                continue
            ends = self._consumer.ends([TopicPartition(topic, number) for number in new])
            starts = self._consumer.starts([TopicPartition(topic, number) for number in new])
            if all(ends[partition] == starts[partition] for partition in ends):
                continue
            olds = [mark.partition for mark in old.values()]
            old_ends = self._consumer.ends(olds)
            behind = [mark.partition for mark in old.values() if (mark.next or 0) < old_ends[mark.partition]]
            if behind:
                raise Terminal(
                    f"the topic grew to {counts[topic]} partitions while {len(behind)} of the older ones still hold"
                    " changes to apply: a key's newer change could overtake its older one",
                    where=topic,
                    hint=f"drain the old partitions first: cdc run --only-partitions {topic}:"
                    + ",".join(str(number) for number in sorted(old)),
                )


def _check_range(mark: Watermark, start: int, end: int) -> None:
    if mark.next is None or start <= mark.next <= end:
        return
    where = f"{mark.partition.topic}:{mark.partition.partition}"
    if mark.next < start:
        raise Terminal(
            f"offsets {mark.next} to {start - 1} are gone from the topic: its retention passed the watermark",
            where=where,
            hint="re-load the table at the source (snapshot signal), `cdc rewind --to-earliest` on this topic, sweep",
        )
    raise Terminal(
        f"the watermark {mark.next} lies behind the topic's end {end}: the topic lost records or was created again",
        where=where,
        hint="check the broker; then `cdc rewind --to-earliest` on this topic and re-load its table at the source",
    )
