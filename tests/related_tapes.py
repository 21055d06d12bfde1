"""Tapes of several tables whose rows depend on one another, the tables they need, and how to play them on a target.

One topic a table. Positions rise in the order the source committed; a tape may bring them in any order that keeps each
key's own.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import pairwise

import msgspec

from cdc.engine.apply import Applier, Batch, TableBatch
from cdc.engine.oracle import HEALING, Oracle
from cdc.engine.oracle_related import Constraints, Reference, RelatedOracle
from cdc.engine.order import Held
from cdc.engine.parked import retry
from cdc.model import (
    ColumnType,
    Decision,
    Kind,
    MappedRow,
    Position,
    RawRecord,
    RowOp,
    TargetColumn,
    TargetTable,
    TopicPartition,
)
from cdc.target.base import Advance, Owner, Parked, hold_of
from tests.fix_targets import Bench

Change = tuple[str, MappedRow]  # (table's short name, row)
Again = Callable[[Iterable[Held]], None]
"""A retry of these keys."""
PARENT = TargetColumn("parent", ColumnType(Kind.INTEGER, "int8"))
UNDECIDED = "a value that nobody gives up"
"""Who has it depends on the order of arrival; no source that keeps its own unique keys sends this."""
_numbers = itertools.count(1)


@dataclass
class Script:
    """Writes down changes: the source's commits, one after another. `at` puts one at an older commit."""

    commit: int = 0
    offsets: dict[str, int] = field(default_factory=dict)

    def put(self, table: str, key: int, parent: int | None = None, notes: str | None = None, at: int = 0) -> Change:
        return self._change(table, key, (key, f"{table} {key}", notes, parent), at)

    def delete(self, table: str, key: int, at: int = 0) -> Change:
        return self._change(table, key, None, at)

    def _change(self, table: str, key: int, values: tuple[object, ...] | None, at: int) -> Change:
        self.commit += 1
        offset = self.offsets[table] = self.offsets.get(table, -1) + 1
        op = RowOp.DELETE if values is None else RowOp.UPSERT
        position = Position(1, at or self.commit, 0)
        return table, MappedRow(op, (key,), values, position, RawRecord(table, 0, offset, b"k", b"v"))


def renumbered(tape: Iterable[Change]) -> list[Change]:
    """The same changes as they arrive in another order: with the offsets of that order."""
    offsets: dict[str, int] = {}
    arrived = []
    for table, row in tape:
        offset = offsets[table] = offsets.get(table, -1) + 1
        record = msgspec.structs.replace(row.record, offset=offset)
        arrived.append((table, msgspec.structs.replace(row, record=record)))
    return arrived


@dataclass(frozen=True)
class Shape:
    """Tables by their short names. `references`: child and parent (by `parent` to `id`). `unique`: those whose notes
    are unique; of these, `needed`: those whose notes may not be NULL."""

    tables: tuple[str, ...]
    references: tuple[tuple[str, str], ...] = ()
    unique: tuple[str, ...] = ()
    needed: tuple[str, ...] = ()
    deferrable: bool = False


FAMILY = Shape(("parent", "child", "grandchild"), (("child", "parent"), ("grandchild", "child")))
TREE = Shape(("node",), (("node", "node"),))
CIRCLE = Shape(("a", "b"), (("a", "b"), ("b", "a")), deferrable=True)
UNIQUE = Shape(("person",), unique=("person",))
NEEDED = Shape(("person",), unique=("person",), needed=("person",))
BOTH = Shape(("parent", "child"), (("child", "parent"),), unique=("parent", "child"))


class Tables:
    """A shape made on a bench's target, and its oracle."""

    def __init__(self, bench: Bench, shape: Shape) -> None:
        self.bench = bench
        self.shape = shape
        number = next(_numbers)
        self.owner = Owner(f"related {number}", "target")
        self.tables: dict[str, TargetTable] = {}
        made = {name: bench.table() for name in shape.tables}
        target = bench.target()
        target.open(self.owner)
        with closing(target):
            for table in made.values():
                target.prepare(table)
        for name in shape.tables:
            self.tables[name] = msgspec.structs.replace(made[name], columns=(*made[name].columns, PARENT))
        for name in shape.tables:
            self._constrain(name)

    def _constrain(self, name: str) -> None:
        table, shape = self.tables[name], self.shape
        parents = [self.tables[parent] for child, parent in shape.references if child == name]
        refers = " REFERENCES {parent} (id)" if parents else ""
        later = " DEFERRABLE INITIALLY DEFERRED" if shape.deferrable else ""
        column = f"ALTER TABLE {{table}} ADD COLUMN parent {self.bench.integer}{refers}{later}"
        self.bench.run(column, table=table, **({"parent": parents[0]} if parents else {}))
        if name in shape.unique:
            self.bench.run(f"CREATE UNIQUE INDEX unique_{table.name} ON {{table}} (notes)", table=table)
        if name in shape.needed:
            self.bench.run("ALTER TABLE {table} ALTER notes SET NOT NULL", table=table)

    def oracle(self, tape: Iterable[Change]) -> RelatedOracle:
        """The oracle after the tape."""
        mappings = {name: table.mapping for name, table in self.tables.items()}
        constraints = {
            mappings[name]: Constraints(
                tuple(
                    Reference(("parent",), mappings[parent], ("id",))
                    for child, parent in self.shape.references
                    if child == name
                ),
                (("notes",),) if name in self.shape.unique else (),
            )
            for name in self.shape.tables
        }
        oracle = RelatedOracle({table.mapping: Oracle(table) for table in self.tables.values()}, constraints)
        oracle.play((mappings[name], row) for name, row in tape)
        return oracle

    def check(self, tape: Sequence[Change], cuts: Sequence[int]) -> Applier:
        """The tape, cut into batches there, leaves what the oracle says: rows, and keys that wait."""
        oracle, applier = self.oracle(tape), self.play(tape, cuts)
        for table in self.tables.values():
            assert self.bench.visible(table) == oracle.tables[table.mapping].visible(), table.mapping
        assert set(applier.held) == {(mapping, hold_of(key)) for mapping, key in oracle.parked()}
        tallied = self.bench.tallied(self.owner)
        assert tallied.total() == len(tape)
        assert min(tallied.values(), default=0) >= 0
        return applier

    def play(
        self, tape: Sequence[Change], cuts: Sequence[int] = (), seen: Callable[[Applier, Again], None] | None = None
    ) -> Applier:
        """In batches, as a worker does; at the end (`seen` looks at it before) time passes, until nothing heals any
        more."""
        target = self.bench.target()
        target.open(self.owner)
        with closing(target):
            partitions = {name: TopicPartition(name, 0) for name in self.shape.tables}
            marks = {mark.partition: mark for mark in target.take(dict.fromkeys(partitions.values(), "id"))}
            for table in self.tables.values():
                target.prepare(table)
            applier = Applier(target)
            by_record = {(row.record.topic, row.record.offset): (self.tables[name], row) for name, row in tape}
            done = {name: marks[partition].next for name, partition in partitions.items()}

            def remap(parked: Parked) -> tuple[TargetTable, MappedRow | Decision]:
                return by_record[parked.record.topic, parked.record.offset]

            def guard(which: Iterable[TopicPartition]) -> list[Advance]:
                return [Advance(each, marks[each].fence, done[each.topic], done[each.topic]) for each in which]

            def again(keys: Iterable[Held]) -> None:
                retry(target, keys, remap, guard, applier.held, applier.waiting)

            edges = sorted({0, *(cut for cut in cuts if cut < len(tape)), len(tape)})
            for start, end in pairwise(edges):
                rows: dict[str, list[MappedRow]] = {}
                for name, row in tape[start:end]:
                    target.prepare(self.tables[name])
                    rows.setdefault(name, []).append(row)
                moves = []
                for name, found in rows.items():
                    expected, done[name] = done[name], (done[name] or 0) + len(found)
                    moves.append(Advance(partitions[name], marks[partitions[name]].fence, expected, done[name], ""))
                applied = applier.apply(
                    Batch([TableBatch(self.tables[name], [*found]) for name, found in rows.items()], moves)
                )
                again(applied.may_heal)
            if seen is not None:
                seen(applier, again)
            before: dict[tuple[str, str], str] = {}
            while applier.held != before:
                before = dict(applier.held)
                again({key for key, reason in before.items() if reason in HEALING})
            assert target.parked(list(partitions.values())) == applier.held
        return applier


def named_cases() -> dict[str, tuple[Shape, list[Change]]]:
    """What must come out right by any cut into batches."""
    cases: dict[str, tuple[Shape, list[Change]]] = {}
    s = Script()
    cases["parent and child"] = (FAMILY, [s.put("parent", 1), s.put("child", 1, 1), s.put("grandchild", 1, 1)])
    s = Script()
    cases["child before its parent"] = (
        FAMILY,
        [s.put("child", 1, 1, at=2), s.put("child", 2, 2, at=4), s.put("parent", 1, at=1), s.put("parent", 2, at=3)],
    )
    s = Script()
    cases["grandchildren come first"] = (
        FAMILY,
        [s.put("grandchild", 1, 1), s.put("grandchild", 2, 2), s.put("child", 1, 1), s.put("parent", 1)],
    )
    s = Script()
    there = [s.put("parent", 1), s.put("child", 1, 1), s.put("child", 2, 1), s.put("grandchild", 1, 2)]
    cases["deletes, children first"] = (
        FAMILY,
        [*there, s.delete("grandchild", 1), s.delete("child", 2), s.delete("child", 1), s.delete("parent", 1)],
    )
    s = Script()
    there = [s.put("parent", 1), s.put("child", 1, 1), s.put("grandchild", 1, 1)]
    cases["deletes, parents first"] = (
        FAMILY,
        [*there, s.delete("parent", 1, at=9), s.delete("child", 1, at=8), s.delete("grandchild", 1, at=7)],
    )
    s = Script()
    there = [s.put("parent", 1), s.put("parent", 2), s.put("child", 1, 1)]
    cases["child moves, then its old parent goes"] = (FAMILY, [*there, s.put("child", 1, 2), s.delete("parent", 1)])
    s = Script()
    there = [s.put("parent", 1), s.put("child", 1, 1)]
    cases["child moves to a new parent, the old one goes first"] = (
        FAMILY,
        [*there, s.delete("parent", 1, at=9), s.put("child", 1, 2, at=8), s.put("parent", 2, at=7)],
    )
    s = Script()
    cases["a parent is deleted and comes again"] = (
        FAMILY,
        [s.put("parent", 1), s.delete("parent", 1), s.put("child", 1, 1, at=9), s.put("parent", 1, at=8)],
    )
    s = Script()
    cases["the parent never comes"] = (
        FAMILY,
        [s.put("child", 1, 7), s.put("child", 1, 7), s.put("child", 2), s.put("grandchild", 1, 1), s.put("parent", 1)],
    )
    s = Script()
    cases["a waiting child is deleted"] = (FAMILY, [s.put("child", 1, 7), s.delete("child", 1), s.put("parent", 7)])
    s = Script()
    cases["a waiting child finds another parent"] = (
        FAMILY,
        [s.put("parent", 1), s.put("child", 1, 7), s.put("child", 1, 1), s.put("grandchild", 1, 1)],
    )
    s = Script()
    cases["a tree in any order"] = (
        TREE,
        [s.put("node", 3, 2), s.put("node", 2, 1), s.put("node", 9, 8), s.put("node", 1), s.put("node", 4, 4)],
    )
    s = Script()
    there = [s.put("node", 1), s.put("node", 2, 1), s.put("node", 3, 2), s.put("node", 4, 1)]
    cases["a branch of a tree goes"] = (TREE, [*there, s.delete("node", 3), s.delete("node", 2), s.put("node", 5, 4)])
    s = Script()
    there = [s.put("node", 1), s.put("node", 2), s.put("node", 3, 1)]
    cases["a branch of a tree moves, then its root goes"] = (TREE, [*there, s.put("node", 3, 2), s.delete("node", 1)])
    s = Script()
    cases["two rows of a tree refer to one another"] = (
        TREE,
        [s.put("node", 1, 2), s.put("node", 2, 1), s.put("node", 3, 9)],
    )
    s = Script()
    cases["a circle of two tables"] = (
        CIRCLE,
        [s.put("a", 1, 1), s.put("b", 1, 1), s.put("a", 2, 2), s.put("b", 3, 2), s.put("a", 5)],
    )
    s = Script()
    there = [s.put("person", 1, notes="x"), s.put("person", 2, notes="y")]
    cases["two rows swap a value"] = (
        UNIQUE,
        [*there, s.put("person", 1, notes="y"), s.put("person", 2, notes="x"), s.put("person", 3, notes="z")],
    )
    s = Script()
    there = [s.put("person", 1, notes="x"), s.put("person", 2, notes="y")]
    cases["two rows swap a value over a third one"] = (
        UNIQUE,
        [*there, s.put("person", 1, notes="?"), s.put("person", 2, notes="x"), s.put("person", 1, notes="y")],
    )
    s = Script()
    there = [s.put("person", key, notes=str(key)) for key in range(1, 5)]
    cases["a chain"] = (UNIQUE, [*there, *(s.put("person", key, notes=str(key + 1)) for key in (4, 3, 2, 1))])
    s = Script()
    there = [s.put("person", key, notes=str(key)) for key in range(1, 5)]
    cases["a chain that comes in the wrong order"] = (
        UNIQUE,
        [*there, *(s.put("person", key, notes=str(key + 1), at=20 - key) for key in (1, 2, 3, 4))],
    )
    s = Script()
    there = [s.put("person", key, notes=str(key)) for key in (1, 2, 3)]
    cases["a ring of three"] = (UNIQUE, [*there, *(s.put("person", key, notes=str(key % 3 + 1)) for key in (1, 2, 3))])
    s = Script()
    there = [s.put("person", 1, notes="x"), s.put("person", 2, notes="y")]
    cases["a row takes the value of a deleted one"] = (
        UNIQUE,
        [
            *there,
            s.delete("person", 1, at=8),
            s.put("person", 2, notes="x", at=9),
            s.put("person", 3, notes="y", at=10),
        ],
    )
    s = Script()
    cases["the value is given up after it was taken"] = (
        UNIQUE,
        [s.put("person", 1, notes="x"), s.put("person", 2, notes="x", at=9), s.put("person", 1, notes=None, at=8)],
    )
    s = Script()
    cases[UNDECIDED] = (
        UNIQUE,
        [
            *(s.put("person", 1, notes="x"), s.put("person", 2, notes="y"), s.put("person", 2, notes="x")),
            *(s.put("person", 3, notes="x"), s.put("person", 4, notes="z")),
        ],
    )
    s = Script()
    cases["a row that is parked keeps its value"] = (
        BOTH,
        [
            *(s.put("parent", 1, notes="p"), s.put("child", 1, 1, "x"), s.put("child", 1, 7, "y")),
            *(s.put("child", 2, 1, "x"), s.put("parent", 7, notes="q")),
        ],
    )
    s = Script()
    there = [s.put("parent", 1, notes="p"), s.put("child", 1, 1, "x"), s.put("child", 2, 1, "y")]
    cases["a new parent takes the old one's value"] = (
        BOTH,
        [
            *there,
            s.put("parent", 1, notes=None),
            s.put("parent", 2, notes="p"),
            *(s.put("child", 1, 2, "y"), s.put("child", 2, 2, "x"), s.delete("parent", 1)),
        ],
    )
    return cases
