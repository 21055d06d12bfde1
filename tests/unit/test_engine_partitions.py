"""Partitions: what is taken, what is refused, and partitions that were added later."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest

from cdc.engine.partitions import Partitions
from cdc.errors import Fenced, Terminal
from cdc.model import TopicPartition
from cdc.target.base import Advance, Owner
from cdc.target.memory import MemoryTarget, Storage
from tests.simulator import Broker, FakeConsumer

TOPIC = "crm.public.people"
P0, P1, P2 = (TopicPartition(TOPIC, number) for number in range(3))


@dataclass
class Topic:
    """The topic as its brokers describe it."""

    id: str = "first"
    number: int = 2
    policy: frozenset[str] = frozenset({"delete"})
    starts: dict[TopicPartition, int] = field(default_factory=dict)
    ends: dict[TopicPartition, int] = field(default_factory=dict)


class TopicConsumer(FakeConsumer):
    """A consumer of one described topic."""

    def __init__(self, topic: Topic) -> None:
        super().__init__(Broker())
        self.topic = topic

    def starts(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        return {each: self.topic.starts.get(each, 0) for each in partitions}

    def ends(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        return {each: self.topic.ends.get(each, 100) for each in partitions}

    def partitions(self, topics: Iterable[str]) -> dict[str, int]:
        return dict.fromkeys(topics, self.topic.number)

    def topic_ids(self, topics: Iterable[str]) -> dict[str, str]:
        return dict.fromkeys(topics, self.topic.id)

    def retention_s(self, topics: Iterable[str]) -> dict[str, float]:
        return dict.fromkeys(topics, 60.0)

    def cleanup_policy(self, topics: Iterable[str]) -> dict[str, frozenset[str]]:
        return dict.fromkeys(topics, self.topic.policy)


class Bench:
    def __init__(self) -> None:
        self.topic, self.storage = Topic(), Storage()
        self.partitions = self.worker()

    def worker(self) -> Partitions:
        """Another worker on the same topic and target."""
        self.consumer, self.target = TopicConsumer(self.topic), MemoryTarget(self.storage)
        self.consumer.assigned = {P0, P1, P2}
        self.target.open(Owner("people", "hub"))
        return Partitions(self.consumer, self.target, lambda topic: topic.split(".")[0])

    def commit(self, **nexts: int) -> None:
        """Watermarks move as batches of the owner would move them: `commit(p0=5)`."""
        moves = []
        for name, offset in nexts.items():
            own = self.partitions.owned[TopicPartition(TOPIC, int(name[1:]))]
            moves.append(Advance(own.partition, own.fence, own.expected, offset))
        with self.target.begin() as transaction:
            transaction.advance(moves)
        self.partitions.advance(moves)


def test_taking_positions_the_consumer_at_the_watermarks() -> None:
    bench = Bench()
    bench.topic.starts[P1] = 3
    bench.partitions.take([P0, P1])
    assert bench.consumer.positions == bench.partitions.positions() == {P0: 0, P1: 3}
    assert {own.partition: (own.source, own.expected, own.next) for own in bench.partitions.owned.values()} == {
        P0: ("crm", None, 0),
        P1: ("crm", None, 3),
    }
    bench.commit(p0=7)
    bench.partitions = bench.worker()
    bench.partitions.take([P0])
    assert bench.consumer.positions == {P0: 7}


def test_taking_nothing_asks_nobody() -> None:
    assert Bench().partitions.take([]) == []


def test_taking_raises_the_fence_so_that_the_owner_before_commits_nothing() -> None:
    bench = Bench()
    bench.partitions.take([P0])
    before, old_target = bench.partitions, bench.target
    bench.worker().take([P0])
    with pytest.raises(Fenced), old_target.begin() as transaction:
        transaction.advance(before.guard()([P0]))


def test_the_guard_compares_what_was_handed_out() -> None:
    bench = Bench()
    bench.partitions.take([P0])
    fence = bench.partitions.owned[P0].fence
    bench.partitions.advance([Advance(P0, fence, None, 5)])
    assert bench.partitions.guard()([P0, P1]) == [Advance(P0, fence, 5, 5)]


def test_dropped_partitions_are_nobodys() -> None:
    bench = Bench()
    bench.partitions.take([P0, P1])
    bench.partitions.drop([P0])
    assert bench.partitions.mine == {P1}


def test_a_topic_created_again_is_refused() -> None:
    bench = Bench()
    bench.partitions.take([P0])
    bench.commit(p0=7)
    bench.topic.id = "second"
    with pytest.raises(Terminal, match="created again") as raised:
        bench.worker().take([P0])
    assert raised.value.where == f"{TOPIC}:0"


def test_a_topic_created_again_before_anything_was_read_of_it_is_simply_read() -> None:
    bench = Bench()
    bench.partitions.take([P0])
    bench.topic.id = "second"
    bench.partitions = bench.worker()
    bench.partitions.take([P0])
    bench.commit(p0=7)
    assert bench.worker().take([P0])[0].topic_id == "second"


def test_offsets_that_retention_passed_are_named() -> None:
    bench = Bench()
    bench.partitions.take([P0])
    bench.commit(p0=7)
    bench.topic.starts[P0] = 10
    with pytest.raises(Terminal, match="offsets 7 to 9 are gone"):
        bench.worker().take([P0])


def test_a_watermark_behind_the_end_is_refused() -> None:
    bench = Bench()
    bench.partitions.take([P0])
    bench.commit(p0=7)
    bench.topic.ends[P0] = 7
    bench.worker().take([P0])
    bench.topic.ends[P0] = 6
    with pytest.raises(Terminal, match="7 lies behind the topic's end 6"):
        bench.worker().take([P0])


@pytest.mark.parametrize("policy", [{"compact"}, {"compact", "delete"}])
def test_a_compacted_topic_is_refused_before_anything_is_taken(policy: set[str]) -> None:
    bench = Bench()
    bench.topic.policy = frozenset(policy)
    with pytest.raises(Terminal, match="compacted"):
        bench.partitions.take([P0])
    assert bench.storage.watermarks == {}


def grown() -> Bench:
    """A topic of two partitions, both half read, that got a third one."""
    bench = Bench()
    bench.partitions.take([P0, P1])
    bench.commit(p0=5, p1=5)
    bench.topic.number = 3
    bench.topic.ends.update({P0: 10, P1: 10})
    bench.partitions = bench.worker()
    bench.partitions.take([P0, P1, P2])
    return bench


def test_an_added_partition_waits_until_the_older_ones_are_drained() -> None:
    bench = grown()
    assert (set(bench.partitions.owned), bench.partitions.mine) == ({P0, P1}, {P0, P1, P2})
    bench.topic.ends.update({P0: 99, P1: 99})  # what comes later is not waited for
    assert bench.partitions.release() == []
    bench.commit(p0=10)
    assert bench.partitions.release() == []
    bench.commit(p1=10)
    assert [mark.partition for mark in bench.partitions.release()] == [P2]
    assert set(bench.partitions.owned) == {P0, P1, P2}
    assert bench.consumer.positions[P2] == 0
    assert bench.partitions.release() == []


def test_an_added_partition_that_went_to_another_worker_is_not_released_here() -> None:
    bench = grown()
    bench.partitions.take([P0, P1])
    bench.commit(p0=10, p1=10)
    assert bench.partitions.release() == []
    assert bench.partitions.mine == {P0, P1}


def test_an_added_partition_of_a_drained_topic_is_released_at_once() -> None:
    bench = Bench()
    bench.partitions.take([P0, P1])
    bench.commit(p0=10, p1=10)
    bench.topic.number = 3
    bench.topic.ends.update({P0: 10, P1: 10})
    bench.partitions.take([P0, P1, P2])
    assert [mark.partition for mark in bench.partitions.release()] == [P2]


def test_an_added_partition_still_waits_after_a_restart() -> None:
    bench = grown()
    bench.partitions = bench.worker()
    bench.partitions.take([P2])
    assert set(bench.partitions.owned) == set()
    assert bench.partitions.release() == []


def test_all_partitions_of_a_new_topic_are_known_from_the_start() -> None:
    """The other half may belong to a worker that starts later: it must not look as if it had been added."""
    bench = Bench()
    bench.partitions.take([P0])
    bench.partitions = bench.worker()
    bench.partitions.take([P1])
    assert set(bench.partitions.owned) == {P1}
