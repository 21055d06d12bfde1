"""Worker: what was noticed while decoding is settled before the batch that holds it is written."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass

import pytest

from cdc.errors import CdcError, Fenced, Terminal
from cdc.model import TopicPartition
from tests.simulator import PIPELINE, TOPIC, World

MAPPING = "simulated/hub.people"


@dataclass(frozen=True)
class RestoredSource:
    """The source after a restore: its log ends before what was read."""

    identity: str = "7301"
    timeline: str = "1"
    position: tuple[int, int] = (1, 0)


def world_with_a_cut() -> World:
    """One poll gives: a row, a truncate (which begins the second batch), and whatever the test adds behind it."""
    world = World()
    world.start("one")
    world.source.put(4, "a", None)
    world.source.truncate()
    world.source.put(4, "b", None)
    return world


def test_a_repeated_snapshot_behind_a_cut_is_remembered_with_its_rows() -> None:
    world = world_with_a_cut()
    world.source.snapshot()
    world.settle()
    assert [found.mapping for found in world.storage.repeated.values()] == [MAPPING]


def test_positions_that_fell_behind_a_cut_are_asked_about_before_they_are_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = world_with_a_cut()
    old = world.source.sent[0]
    world.source.lsn += 1000
    world.source.sent.append(old)
    world.deliver(len(world.source.sent))
    monkeypatch.setattr("tests.simulator.SameSource", RestoredSource)
    world.turn("one")
    with pytest.raises(Terminal, match="another incarnation"):
        world.turn("one")
    assert [mark.next for mark in world.storage.watermarks.values() if mark.next] == [1]


def test_a_requested_retry_waits_for_the_writer_and_goes_before_the_next_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    world.start("one")
    world.settle()
    worker, _, target = world.workers["one"]
    began: list[object] = []
    monkeypatch.setattr(type(target), "retries", lambda self, partitions: [(MAPPING, "[4]")] if not began else [])
    monkeypatch.setattr(worker._writer, "retry", lambda keys, remap, guard: began.append(keys))
    worker._writer._job = Future()
    world.now += 10
    worker.turn()
    assert began == []
    world.source.put(4, "a", None)
    world.deliver(1)
    worker.turn()
    assert worker._ready is None, "nothing new is made ready before the retry"
    worker._writer._job = None
    worker.turn()
    assert began == [{(MAPPING, "[4]")}]
    world.settle()
    assert world.target_rows() == {4: ("a", None)}


def test_a_record_is_set_aside_that_a_worker_had_read_already() -> None:
    """The request is seen in housekeeping: what was read is dropped, and read again."""
    world = World()
    world.start("one")
    world.settle()
    worker, _, _ = world.workers["one"]
    for name in ("a", "b", "c"):
        world.source.put(4, name, None)
    world.deliver(3)
    worker._writer._job = Future()  # the target is busy: records wait in the worker
    worker.turn()
    assert not worker._intake.empty
    world.storage.park_requests.add((worker.owner, TopicPartition(TOPIC, 0), 1))
    worker._writer._job = None
    world.now += 10
    with pytest.raises(Fenced, match="to be set aside"):
        worker._look_for_requests()
    worker._start_over()
    world.settle()
    assert world.target_rows() == {4: ("a", None)}
    assert [(parked.reason, parked.record.offset) for parked in world.storage.parked.values()] == [
        ("on_request", 1),
        ("held", 2),
    ]
    assert world.storage.park_requests == set()
    world.storage.retry_requests.add((MAPPING, "[4]"))
    world.settle()
    assert (world.target_rows(), world.storage.parked) == ({4: ("c", None)}, {})


def test_fenced_in_housekeeping_starts_over() -> None:
    """A job that ends between two looks is collected in housekeeping: there too a fence is no failure."""
    world = World()
    world.start("one")
    world.settle()
    worker, _, _ = world.workers["one"]
    failed: Future[object] = Future()
    failed.set_exception(Fenced("somebody else has them"))
    worker._hand_over = lambda: setattr(worker._writer, "_job", failed)  # type: ignore[method-assign]
    fences = {mark.partition: mark.fence for mark in world.storage.watermarks.values()}
    world.now += 10
    worker.turn()
    assert all(mark.fence > fences[mark.partition] for mark in world.storage.watermarks.values())


SHOUTED = """
pipeline: simulated
source: crm
target: memory
tables:
  - from: public.people
    to: hub.people
    columns: {id: id, name: {sql: upper(name)}, notes: notes}
"""


def test_a_version_that_is_deployed_begins_where_the_watermarks_are() -> None:
    """Both workers go on by it, without a restart; what was read by the older one is not committed."""
    world = World()
    for name in ("one", "two"):
        world.start(name)
    for key in range(8):
        world.source.put(key, f"before {key}", None)
    world.settle()
    workers = [world.workers[name][0] for name in ("one", "two")]
    for key in range(0, 8, 2):
        world.source.put(key, f"after {key}", None)
    world.deliver(4)
    for worker in workers:
        worker._writer._job = Future()  # the target is busy: they wait, read and decoded
        worker.turn()
        worker._writer._job = None
    assert world.deploy(SHOUTED) == 1
    world.settle()
    assert [worker.version for worker in workers] == [1, 1]
    assert world.target_rows() == {key: (f"AFTER {key}" if key % 2 == 0 else f"before {key}", None) for key in range(8)}


def test_a_version_that_cannot_be_run_stops_the_worker() -> None:
    world = World()
    world.start("one")
    world.source.put(1, "a", None)
    world.settle()
    world.deploy("pipeline: simulated")
    world.now += 10
    with pytest.raises(CdcError, match="missing"):
        world.turn("one")


def test_a_table_that_is_no_longer_mapped_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.start("one")
    world.source.put(1, "a", None)
    world.settle()
    worker, consumer, _ = world.workers["one"]
    asked: list[list[str]] = []
    monkeypatch.setattr(consumer, "subscribe", lambda topics, group: asked.append(list(topics)))
    world.deploy(SHOUTED.replace("public.people", "public.other"))
    world.source.put(1, "b", None)
    world.deliver(1)
    world.now += 10
    world.turn("one")
    world.turn("one")
    assert (asked, worker.version, dict(worker._partitions.owned)) == ([["crm.public.other"]], 1, {})
    assert world.target_rows() == {1: ("a", None)}
    world.deploy(PIPELINE)
    world.now += 10
    world.turn("one")
    assert (asked[-1], worker.version) == ([TOPIC], 2)
    world.rebalance()
    world.settle()
    assert world.target_rows() == {1: ("b", None)}, "its watermark stayed"
