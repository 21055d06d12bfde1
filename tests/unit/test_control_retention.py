"""What retention is about to take is told before it is gone: by time, and by the pace of a topic's beginning."""

from __future__ import annotations

import pytest

from cdc.control.retention import Watch
from cdc.control.status import Offsets, PartitionStatus, PipelineStatus, Status, TopicStatus, duration, partition_status
from cdc.model import TopicPartition
from cdc.target.operator import PartitionState

PLACE = TopicPartition("crm.public.customers", 0)
DAY = 86_400.0


def partition(waits_s: float, retention_s: float) -> PartitionStatus:
    offsets = Offsets({PLACE: 0}, {PLACE: 100}, {PLACE.topic: "id"}, {PLACE.topic: retention_s})
    now_us = int(1e15)
    mark = PartitionState(PLACE, "id", 40, 1, "", None)
    return partition_status(PLACE, mark, offsets, int(now_us / 1000 - waits_s * 1000), now_us)


def status(each: PartitionStatus) -> Status:
    topic = TopicStatus(PLACE.topic, "crm", ("crm/hub.customers",), (each,), 0, {}, {})
    return Status((PipelineStatus("crm:partner", "partner", "running", "", 0.0, (), (topic,), ()),), (), ())


@pytest.mark.parametrize(
    ("waits_s", "retention_s", "near"),
    [(DAY, 7 * DAY, False), (4.5 * DAY, 7 * DAY, False), (5 * DAY, 7 * DAY, True), (9 * DAY, 7 * DAY, True)],
)
def test_by_time(waits_s: float, retention_s: float, near: bool) -> None:
    found = partition(waits_s, retention_s)
    assert found.loss_is_near == near
    assert found.loss_in_s == max(0.0, retention_s - waits_s)
    assert ("retention takes what waits in" in found.problem) == near
    assert status(found).healthy != near


def test_for_ever_is_never_near() -> None:
    found = partition(1000 * DAY, float("inf"))
    assert (found.loss_in_s, found.loss_is_near) == (None, False)


def test_by_pace() -> None:
    """Retention by size: the beginning comes nearer by 10 records a second, 100 records are left."""
    times = iter([0.0, 60.0, 120.0])
    watch = Watch(lambda: next(times))
    looks = [PartitionStatus(0, 900, start, 5000, 10, 1.0) for start in (0, 600, 600)]
    found = [list(watch.look(status(look))) for look in looks]
    assert found == [[], [("crm:partner", f"{PLACE.topic}:0", 30.0)], []]


def test_what_is_near_is_told_with_the_time_that_is_left() -> None:
    found = list(Watch(lambda: 0.0).look(status(partition(6 * DAY, 7 * DAY))))
    assert found == [("crm:partner", f"{PLACE.topic}:0", DAY)]


def test_durations() -> None:
    assert [duration(s) for s in (45, 600, 12_000, 190_000)] == ["45 s", "10 min", "3 h 20 min", "2 d 4 h"]
