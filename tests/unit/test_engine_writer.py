"""Writer: a connection that is lost around a commit, fences, and jobs that wait."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Executor, Future
from typing import Any

import msgspec
import pytest

from cdc.engine.apply import Batch, TableBatch, healing
from cdc.engine.failpoints import nothing
from cdc.engine.writer import Writer
from cdc.errors import Fenced, Poison, Terminal, Transient
from cdc.model import MappedRow, Outcome, TargetTable, TopicPartition
from cdc.target.base import Advance, Owner, Parked
from cdc.target.memory import MemoryTarget, Storage
from tests.simulator import InlineExecutor
from tests.tapes import OWNER, PARTITION, Tape, table

OTHER = TopicPartition(PARTITION.topic, 1)
PEOPLE = table()


class OpeningTarget(MemoryTarget):
    """Counts how often it was connected."""

    opened = 0

    def open(self, owner: Owner) -> None:
        self.opened += 1
        super().open(owner)


class Bench:
    """A writer on a memory target, with the partitions taken."""

    def __init__(self, pool: Executor | None = None) -> None:
        self.tape = Tape()
        self.target = OpeningTarget(Storage())
        self.writer = Writer(self.target, OWNER, nothing, pool or InlineExecutor())
        self.writer.open()
        self.fence = self.target.take({PARTITION: "id", OTHER: "id"})[0].fence
        self.done: int | None = None

    def batch(self, *rows: MappedRow | Parked) -> Batch:
        expected, self.done = self.done, (self.done or 0) + len(rows)
        return Batch([TableBatch(PEOPLE, list(rows))], [Advance(PARTITION, self.fence, expected, self.done, "")])

    def submit(self, batch: Batch) -> None:
        self.writer.submit(batch, remap, self.guard)

    def guard(self, partitions: Iterable[TopicPartition]) -> list[Advance]:
        return [Advance(PARTITION, self.fence, self.done, self.done)]

    def rows(self) -> dict[int, str]:
        return {key[0]: row.values[1] for key, row in self.target.storage.tables[PEOPLE.mapping].rows.items()}

    def tallied(self, outcome: Outcome) -> int:
        return sum(count for key, count in self.target.storage.tallies.items() if key[2] == outcome)


def remap(parked: Parked) -> tuple[TargetTable, MappedRow]:
    raise Poison("still bad", reason="refused")


def once(error: Exception, then: Callable[[], Any] = lambda: None) -> Callable[[], None]:
    """A fault that does `then` and raises, the first time only."""
    left = [error]

    def fault() -> None:
        if left:
            then()
            raise left.pop()

    return fault


def test_a_batch_whose_commit_was_lost_before_it_happened_is_written_again() -> None:
    bench = Bench()
    bench.target.faults["commit"] = once(Transient("gone"))
    bench.submit(bench.batch(bench.tape.full(1, "a", None, (1, 1))))
    written = bench.writer.collect()
    assert written is not None
    assert written.applied.number(Outcome.APPLIED) == 1
    assert (bench.rows(), bench.target.opened, bench.tallied(Outcome.APPLIED)) == ({1: "a"}, 2, 1)


def test_a_batch_whose_commit_got_no_answer_is_not_written_again() -> None:
    bench = Bench()
    bench.target.faults["committed"] = once(Transient("gone"))
    bench.submit(bench.batch(bench.tape.full(1, "a", None, (1, 1))))
    assert bench.writer.collect() is not None
    assert (bench.rows(), bench.target.opened, bench.tallied(Outcome.APPLIED)) == ({1: "a"}, 2, 1)


def test_rows_wait_behind_what_a_batch_without_an_answer_parked() -> None:
    bench = Bench()
    bench.target.faults["committed"] = once(Transient("gone"))
    bench.submit(bench.batch(bench.tape.partial(1, "waits", (2, 2))))
    written = bench.writer.collect()
    assert written is not None
    assert written.applied.parked == bench.writer.held == {(PEOPLE.mapping, "[1]"): "update_missing"}
    bench.submit(bench.batch(bench.tape.partial(1, "behind", (3, 3))))
    bench.writer.collect()
    assert [parked.reason for parked in bench.target.queue(PEOPLE.mapping, ["[1]"])] == ["update_missing", "held"]


def test_a_worker_that_lost_its_fence_meanwhile_writes_nothing() -> None:
    bench = Bench()
    thief = MemoryTarget(bench.target.storage)
    thief.open(OWNER)
    bench.target.faults["commit"] = once(Transient("gone"), lambda: thief.take({PARTITION: "id"}))
    bench.submit(bench.batch(bench.tape.full(1, "a", None, (1, 1))))
    with pytest.raises(Fenced):
        bench.writer.collect()
    assert bench.rows() == {}


def test_a_watermark_moved_meanwhile_is_a_fence_too() -> None:
    bench = Bench()

    def move() -> None:
        key = (OWNER, PARTITION)
        bench.target.storage.watermarks[key] = msgspec.structs.replace(bench.target.storage.watermarks[key], next=99)

    bench.target.faults["commit"] = once(Transient("gone"), move)
    bench.submit(bench.batch(bench.tape.full(1, "a", None, (1, 1))))
    with pytest.raises(Fenced):
        bench.writer.collect()


def test_a_batch_that_seems_half_in_is_fenced() -> None:
    bench = Bench()
    batch = bench.batch(bench.tape.full(1, "a", None, (1, 1)))
    batch.moves.append(Advance(OTHER, bench.fence, None, 5, ""))

    def half() -> None:
        key = (OWNER, OTHER)
        bench.target.storage.watermarks[key] = msgspec.structs.replace(bench.target.storage.watermarks[key], next=5)

    bench.target.faults["commit"] = once(Transient("gone"), half)
    bench.submit(batch)
    with pytest.raises(Fenced):
        bench.writer.collect()


def test_what_needs_a_person_is_raised_at_once() -> None:
    bench = Bench()
    bench.target.faults["write"] = once(Terminal("no privilege"))
    bench.submit(bench.batch(bench.tape.full(1, "a", None, (1, 1))))
    with pytest.raises(Terminal):
        bench.writer.collect()
    assert bench.target.opened == 1


def test_healing_that_fails_for_a_passing_reason_is_left_for_later() -> None:
    bench = Bench()
    rows = {}

    def remap_again(parked: Parked) -> tuple[TargetTable, MappedRow]:
        return PEOPLE, rows[parked.record.offset]

    waits = bench.tape.partial(1, "waits", (2, 2))
    older = bench.tape.full(1, "older", "notes", (1, 1))
    rows.update({row.record.offset: row for row in (waits, older)})
    bench.submit(bench.batch(waits))
    bench.writer.collect()
    assert healing(bench.writer.held, PEOPLE.mapping) == {(PEOPLE.mapping, "[1]")}

    begun: list[int] = []

    def second_begin() -> None:
        begun.append(1)
        if len(begun) == 2:
            raise Transient("gone")

    bench.target.faults["begin"] = second_begin
    bench.writer.submit(bench.batch(older), remap_again, bench.guard)
    assert bench.writer.collect() is not None
    assert healing(bench.writer.held, PEOPLE.mapping) == {(PEOPLE.mapping, "[1]")}
    bench.writer.retry(healing(bench.writer.held, PEOPLE.mapping), remap_again, bench.guard)
    assert bench.writer.collect() is not None
    assert (bench.rows(), bench.writer.held) == ({1: "waits"}, {})


def test_a_retry_connects_again_too() -> None:
    bench = Bench()
    bench.submit(bench.batch(bench.tape.partial(1, "waits", (2, 2))))
    bench.writer.collect()
    bench.target.faults["begin"] = once(Transient("gone"))
    bench.writer.retry({(PEOPLE.mapping, "[1]")}, remap, bench.guard)
    assert bench.writer.collect() is not None
    assert (bench.target.opened, bench.writer.held) == (2, {(PEOPLE.mapping, "[1]"): "refused"})


class LaterExecutor(Executor):
    """Keeps a job until the test says go."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.future: Future[Any] = Future()
        self.job = fn
        return self.future

    def go(self) -> None:
        try:
            self.future.set_result(self.job())
        except Exception as error:
            self.future.set_exception(error)


def test_one_job_at_a_time_and_its_result_when_it_is_done() -> None:
    pool = LaterExecutor()
    bench = Bench(pool)
    assert bench.writer.collect() is None
    bench.submit(bench.batch(bench.tape.full(1, "a", None, (1, 1))))
    assert bench.writer.busy
    assert bench.writer.collect() is None
    assert not bench.writer.finished.is_set()
    pool.go()
    assert (bench.writer.busy, bench.writer.finished.is_set()) == (True, True)
    assert bench.writer.collect(None) is not None
    assert not bench.writer.busy
    assert bench.writer.collect(None) is None


def test_an_abandoned_job_is_waited_for_and_its_error_forgotten() -> None:
    bench = Bench()
    bench.target.faults["write"] = once(Fenced("moved"))
    bench.submit(bench.batch(bench.tape.full(1, "a", None, (1, 1))))
    bench.writer.abandon()
    assert bench.writer.collect(None) is None
