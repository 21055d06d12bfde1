"""Retry of parked keys whose first record cannot be mapped: what may pass it by rule, and what waits."""

from __future__ import annotations

import pytest

from cdc.engine.apply import Applier, Batch, Held, TableBatch
from cdc.engine.parked import retry
from cdc.errors import Poison
from cdc.model import Decision, MappedRow, TargetTable
from cdc.target.base import Advance, Parked
from cdc.target.memory import MemoryTarget
from tests.tapes import OWNER, PARTITION, Tape, table

KEY: Held = ("tapes/customers", "[1]")


class Bench:
    """A memory target on which one record cannot be mapped, and the rows that follow it."""

    def __init__(self, supersede: bool) -> None:
        self.tape, self.table = Tape(), table(supersede=supersede)
        self.target = MemoryTarget()
        self.target.open(OWNER)
        self.target.prepare(self.table)
        self.fence = self.target.take({PARTITION: "id"})[0].fence
        self.applier = Applier(self.target)
        self.done: int | None = None
        self.rows: dict[int, MappedRow] = {}
        bad = self.tape.full(1, "bad", "x", (2, 0))
        self.fatal = False
        self.apply(Parked(*KEY, bad.record, bad.position, "expression_failed", "column 'name'"))

    def apply(self, row: MappedRow | Parked) -> None:
        if isinstance(row, MappedRow):
            self.rows[row.record.offset] = row
        expected, self.done = self.done, (self.done or 0) + 1
        batch = Batch([TableBatch(self.table, [row])], [Advance(PARTITION, self.fence, expected, self.done, "")])
        done = self.applier.apply(batch)
        self.retry(done.may_heal)

    def retry(self, keys: set[Held]) -> None:
        retry(self.target, keys, self.remap, lambda _: [], self.applier.held, self.applier.waiting)

    def remap(self, parked: Parked) -> tuple[TargetTable, MappedRow | Decision]:
        if parked.record.offset not in self.rows:
            if self.fatal:
                raise ZeroDivisionError
            raise Poison("still bad", reason="expression_failed")
        return self.table, self.rows[parked.record.offset]

    def names(self) -> dict[int, object]:
        return {key[0]: row.values[1] for key, row in self.target.storage.tables[self.table.mapping].rows.items()}

    def waiting(self) -> list[tuple[int, str]]:
        return [(each.record.offset, each.reason) for each in self.target.queue(KEY[0], [KEY[1]])]


def test_everything_waits_behind_it_without_the_rule() -> None:
    bench = Bench(supersede=False)
    bench.apply(bench.tape.full(1, "good", "x", (3, 0)))
    assert (bench.names(), bench.waiting()) == ({}, [(0, "expression_failed"), (1, "held")])


def test_a_whole_image_takes_its_place_by_the_rule() -> None:
    bench = Bench(supersede=True)
    bench.apply(bench.tape.partial(1, "partial", (3, 0)))
    assert (bench.names(), bench.waiting()) == ({}, [(0, "expression_failed"), (1, "held")])
    bench.apply(bench.tape.full(1, "good", "x", (4, 0)))
    assert (bench.names(), bench.waiting(), bench.applier.held) == ({1: "good"}, [], {})


def test_an_older_whole_image_does_not() -> None:
    bench = Bench(supersede=True)
    bench.apply(bench.tape.full(1, "older", "x", (1, 0)))
    assert (bench.names(), bench.waiting()) == ({1: "older"}, [(0, "expression_failed")])
    bench.apply(bench.tape.delete(1, (3, 0)))
    assert (bench.names(), bench.waiting()) == ({}, [])


def test_a_record_that_nobody_survives_stays_where_it_was_set_aside() -> None:
    bench = Bench(supersede=False)
    worse = bench.tape.full(1, "fatal", "x", (3, 0))
    bench.apply(Parked(*KEY, worse.record, worse.position, "on_request", "me: it kills workers"))
    bench.rows[0] = bench.tape.full(1, "mended", "x", (2, 0))
    bench.fatal = True
    bench.retry({KEY})
    assert (bench.names(), bench.waiting()) == ({1: "mended"}, [(1, "on_request")])
    bench.target.storage.retry_requests.add(KEY)
    with pytest.raises(ZeroDivisionError):
        bench.retry({KEY})


def test_records_without_a_key_do_not_wait_for_one_another() -> None:
    bench = Bench(supersede=False)
    rows = [bench.tape.full(key, "late", "x", (2, 0)) for key in (7, 8)]
    for row in rows:
        bench.apply(Parked(KEY[0], "", row.record, row.position, "unreadable_record"))
    bench.rows[rows[1].record.offset] = rows[1]
    bench.retry({(KEY[0], "")})
    assert bench.names() == {8: "late"}
    assert list(bench.applier.held) == [KEY]
