"""What waits for other rows: behind a parked parent, for rows of another worker; and truncates of whole families."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing

import msgspec
import pytest

from cdc.engine.apply import Applier, Batch, TableBatch
from cdc.engine.failpoints import nothing
from cdc.engine.order import FIRST_S
from cdc.engine.writer import Writer
from cdc.model import MappedRow, Position, RawRecord, RowOp, TargetTable, TopicPartition
from cdc.target.base import Advance, Parked, Target, hold_of
from tests.fix_targets import Bench, PostgresBench, differs
from tests.related_tapes import FAMILY, Again, Change, Script, Tables
from tests.simulator import InlineExecutor
from tests.tapes import REFUSED_TEXT


def test_a_family_waits_for_its_parked_parent(bench: Bench) -> None:
    """Everything that depends on it waits with it, other families flow; a retry of the parent brings in all of it."""
    if not isinstance(bench, PostgresBench):
        pytest.skip("the check that refuses the parent is lifted by its name")
    script = Script()
    tables = Tables(bench, FAMILY)
    parent = tables.tables["parent"]
    bench.refuse(parent)
    tape = [
        _renamed(script.put("parent", 1), REFUSED_TEXT),
        *(script.put("child", 1, 1), script.put("grandchild", 1, 1)),
        *(script.put("parent", 2), script.put("child", 2, 2), script.put("grandchild", 2, 2)),
    ]
    reasons: dict[str, str] = {}

    def seen(applier: Applier, again: Again) -> None:
        reasons.update({mapping: reason for (mapping, _), reason in applier.held.items()})
        bench.run(f"ALTER TABLE {{t}} DROP CONSTRAINT {parent.name}_name_check", t=parent)
        again([(parent.mapping, hold_of((1,)))])

    applier = tables.play(tape, [1, 2, 3], seen)
    assert list(reasons.values()) == ["check_violation", "foreign_key_missing", "foreign_key_missing"]
    assert applier.held == {}
    for name in FAMILY.tables:
        assert set(bench.visible(tables.tables[name])) == {(1,), (2,)}


def _renamed(change: Change, name: str) -> Change:
    table, row = change
    assert row.values is not None
    return table, msgspec.structs.replace(row, values=(row.values[0], name, *row.values[2:]))


class Worker:
    """The writing half of a worker that owns one topic."""

    def __init__(self, tables: Tables, topic: str) -> None:
        self.now = 0.0
        self.table = tables.tables[topic]
        self.partition = TopicPartition(topic, 0)
        self.target: Target = tables.bench.target()
        self.writer = Writer(self.target, tables.owner, nothing, InlineExecutor(), lambda: self.now)
        self.writer.open()
        (mark,) = self.target.take({self.partition: "id"})
        self.fence, self.done = mark.fence, mark.next
        self.rows: dict[int, MappedRow] = {}

    def write(self, *changes: Change) -> None:
        rows = [row for _, row in changes]
        self.rows |= {row.record.offset: row for row in rows}
        expected, self.done = self.done, (self.done or 0) + len(rows)
        batch = Batch([TableBatch(self.table, [*rows])], [Advance(self.partition, self.fence, expected, self.done, "")])
        self.writer.submit(batch, self.remap, self.guard)
        self.writer.collect()

    def idle(self) -> None:
        """What the loop does when nothing comes."""
        keys = self.writer.due()
        if keys:
            self.writer.retry(keys, self.remap, self.guard)
            self.writer.collect()

    def remap(self, parked: Parked) -> tuple[TargetTable, MappedRow]:
        return self.table, self.rows[parked.record.offset]

    def guard(self, partitions: Iterable[TopicPartition]) -> list[Advance]:
        return [Advance(self.partition, self.fence, self.done, self.done)]


@pytest.mark.parametrize("busy", [False, True])
def test_a_child_comes_in_when_another_worker_wrote_its_parent(bench: Bench, busy: bool) -> None:
    """By the clock: in a quiet moment, or between two batches of a busy stream."""
    differs(bench, "foreign keys")
    script = Script()
    tables = Tables(bench, FAMILY)
    first, second = Worker(tables, "child"), Worker(tables, "parent")
    with closing(first.writer), closing(second.writer):
        first.write(script.put("child", 1, 1))
        assert list(first.writer.held.values()) == ["foreign_key_missing"]
        assert "(parent)" in first.target.queue(first.table.mapping, ["[1]"])[0].error
        assert (first.writer.waiting(), first.target.standing().records) == (1, 0), "it does not count for parked.max"
        second.write(script.put("parent", 1))
        first.idle()
        assert first.writer.held, "its turn has not come yet"
        first.now += 2 * FIRST_S
        if busy:
            first.write(script.put("child", 2))
        else:
            first.idle()
        assert first.writer.held == {}
    assert (1,) in bench.visible(first.table)


def test_families_are_truncated_children_first(bench: Bench) -> None:
    """One TRUNCATE of the source comes as a record a table, in any order."""
    differs(bench, "foreign keys")
    script = Script()
    tables = Tables(bench, FAMILY)
    tables.play([script.put("parent", 1), script.put("child", 1, 1), script.put("grandchild", 1, 1)])
    target = bench.target()
    target.open(tables.owner)
    with closing(target):
        moves, batches = [], []
        for name, table in tables.tables.items():
            target.prepare(table)
            (mark,) = target.take({TopicPartition(name, 0): "id"})
            truncate = MappedRow(RowOp.TRUNCATE, (), None, Position(1, 50, 0), RawRecord(name, 0, 1, None, b"v"))
            row = msgspec.structs.replace(script.put(name, 7, at=60)[1], record=RawRecord(name, 0, 2, b"k", b"v"))
            batches.append(TableBatch(table, [truncate, row]))
            moves.append(Advance(mark.partition, mark.fence, mark.next, (mark.next or 0) + 2, ""))
        Applier(target).apply(Batch(batches, moves))
    assert [set(bench.visible(table)) for table in tables.tables.values()] == [{(7,)}] * 3
