"""Rows that several sources make: three sources of a customer, their tapes, and how to play them on a target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any

import msgspec
from hypothesis import strategies as st

from cdc.engine.apply import Applier, Batch, TableBatch
from cdc.engine.merging_target import MergingTarget
from cdc.engine.oracle_sources import Sources
from cdc.engine.parked import retry
from cdc.mapping.rules import TableRules
from cdc.model import (
    UNAVAILABLE,
    ColumnType,
    Contributes,
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
from cdc.target.base import Advance, Owner, Parked
from cdc.target.contributions import ContributingTarget
from tests.blocks import in_blocks

_TEXT, _INTEGER = ColumnType(Kind.TEXT, "text"), ColumnType(Kind.INTEGER, "int8")
_TYPES = {
    "id": _INTEGER,
    "name": _TEXT,
    "phone": _TEXT,
    "street": _TEXT,
    "city": _TEXT,
    "score": _INTEGER,
    "balance": ColumnType(Kind.DECIMAL, "numeric", 12, 2),
    "tags": ColumnType(Kind.ARRAY, "_text", element=_TEXT),
    "settings": ColumnType(Kind.JSON, "jsonb"),
    "version": _INTEGER,
    "@no": _INTEGER,
}
SAYS = {
    "crm": ("id", "name", "phone", "street", "city", "score", "tags", "version"),
    "portal": ("id", "name", "phone", "settings", "tags", "version"),
    "billing": ("id", "name", "street", "city", "score", "balance", "settings", "version", "@no"),
}
"""The columns of each source; several rows of billing make one customer."""

NOW_S = 1_000_000.0
COLUMNS = ("id", "name", "phone", "street", "city", "score", "tags", "version", "settings", "balance")
RULES = TableRules.model_validate(
    {
        "sources": ["crm", "portal", "billing"],
        "columns": {
            "phone": {"priority": ["portal", "crm"]},
            "score": "max",
            "balance": "delta",
            "tags": "union",
            "settings": "merge",
            "version": "max",
        },
        "groups": {"address": {"columns": ["street", "city"], "resolve": {"newest": "version"}}},
    }
)


PARTITIONS = {name: TopicPartition(f"{name}.public.customers", 0) for name in SAYS}
NUMBERED = {"billing"}
"""Sources of which two rows make one customer."""


def mapping_of(customers: str) -> str:
    return f"golden/hub.{customers}"


def tables(customers: str, soft_delete: str | None = None) -> dict[str, TargetTable]:
    """What the sources' mappings write, for a target table of this name."""
    return {
        name: TargetTable(
            mapping=f"{mapping_of(customers)}@{name}",
            namespace="hub",
            name=customers,
            columns=tuple(TargetColumn(column, _TYPES[column], nullable=column != "id") for column in columns),
            key=("id", "@no") if name in NUMBERED else ("id",),
            partials=True,
            contributes=Contributes(mapping_of(customers), name, 1, soft_delete),
        )
        for name, columns in SAYS.items()
    }


def nameless(table: TargetTable) -> TargetTable:
    """The table as the mapping of a record without a key knows it."""
    assert table.contributes is not None
    way = msgspec.structs.replace(table.contributes, width=0)
    return msgspec.structs.replace(table, columns=(), key=(), partials=False, contributes=way)


@dataclass
class SourceTape:
    """Changes of one source, positions and commit times rising as the source would write them. Commits may share a
    time; only the halves of a key change share a position."""

    source: str
    rows: list[MappedRow] = field(default_factory=list)
    clock: int = 1_000
    place: int = 0

    def add(self, op: str, number: int, values: dict[str, Any], seconds: int = 1) -> SourceTape:
        """`op`: read, full, partial (what `values` lacks is UNAVAILABLE) or delete."""
        self._on(seconds)
        self._put(op, number, values)
        return self

    def move(self, old: int, new: int, values: dict[str, Any]) -> SourceTape:
        """A source row's key changes: both halves at one position; the create lacks what `values` lacks."""
        self._on(1)
        if old != new:
            self._put("delete", old, {}, moved_to=self._key(new))
            self._put("partial", new, values, moved_from=self._key(old))
        return self

    def truncate(self) -> SourceTape:
        self._on(1)
        self.rows.append(MappedRow(RowOp.TRUNCATE, (), None, Position(1, self.place, self.place), self._record()))
        return self

    def _on(self, seconds: int) -> None:
        self.clock += seconds
        self.place += 1

    def _columns(self, number: int) -> dict[str, Any]:
        return {"id": (number + 1) // 2, "@no": number} if self.source in NUMBERED else {"id": number}

    def _key(self, number: int) -> tuple[Any, ...]:
        return tuple(self._columns(number).values())

    def _record(self) -> RawRecord:
        return RawRecord(*PARTITIONS[self.source], len(self.rows), b"k", b"v")

    def _put(self, op: str, number: int, values: dict[str, Any], **moved: tuple[Any, ...]) -> None:
        own, lacks = self._columns(number), UNAVAILABLE if op == "partial" else None
        image = tuple([own.get(name, values.get(name, lacks)) for name in SAYS[self.source]])
        self.rows.append(
            MappedRow(
                op=RowOp.DELETE if op == "delete" else RowOp.UPSERT,
                key=self._key(number),
                values=None if op == "delete" else image,
                position=Position(1, self.place, self.place),
                record=self._record(),
                snapshot="initial" if op == "read" else "",
                time_us=self.clock,
                **moved,
            )
        )


_texts = st.sampled_from(["a", "b", None])
_values = st.fixed_dictionaries(
    {
        "name": _texts,
        "phone": _texts,
        "street": _texts,
        "city": _texts,
        "score": st.sampled_from([1, 2, None]),
        "balance": st.sampled_from(["1.10", "2.00", None]),
        "tags": st.sampled_from([["x"], ["x", "y"], ["z"], None]),
        "settings": st.sampled_from(['{"a":1}', '{"a":2,"b":{"c":1}}', '{"b":{"d":2}}', None]),
        "version": st.sampled_from([1, 2, 3, None]),
    }
)
_kinds = st.sampled_from(["read", "full", "full", "full", "partial", "partial", "delete", "move", "truncate"])
_change = st.tuples(_kinds, st.integers(1, 3), st.integers(1, 3), _values, st.integers(0, 2))


@st.composite
def tapes(draw: st.DrawFn) -> dict[str, list[MappedRow]]:
    """For each source what it wrote, in its own order."""
    found = {}
    for name in SAYS:
        tape = SourceTape(name)
        for kind, number, other, values, seconds in draw(st.lists(_change, max_size=8)):
            some = {key: value for index, (key, value) in enumerate(values.items()) if index % 2}
            if kind == "move":
                tape.add("full", number, values).move(number, other, some)
            elif kind == "truncate":
                tape.truncate()
            else:
                tape.add(kind, number, some if kind == "partial" else values, seconds)
        found[name] = tape.rows
    return found


def interleaved(tape: dict[str, list[MappedRow]], order: Sequence[int]) -> list[tuple[str, MappedRow]]:
    """All changes, each source's in its own order; `order` chooses whose turn it is."""
    left = {name: list(rows) for name, rows in tape.items()}
    found = []
    for turn in order:
        names = [name for name, rows in left.items() if rows]
        if names:
            name = names[turn % len(names)]
            found.append((name, left[name].pop(0)))
    return found + [(name, row) for name, rows in left.items() for row in rows]


def expected(tape: Sequence[tuple[str, MappedRow]], rules: TableRules = RULES) -> Sources:
    oracle = Sources(rules, COLUMNS, tables("customers"))
    for name, row in tape:
        oracle.apply(name, row)
    return oracle


class Player:
    """Plays changes on a target through the engine's batch path; it may be asked again, also for what was played."""

    def __init__(
        self,
        inner: ContributingTarget,
        customers: str = "customers",
        rules: TableRules = RULES,
        *,
        soft_delete: str | None = None,
        blocks: bool = True,
        only: Sequence[str] = tuple(SAYS),
        keyless: bool = False,
        now_s: float = NOW_S,
    ) -> None:
        """`only`: the sources whose partitions this worker has. `keyless`: it meets records without a key only, which
        is how truncates come: nothing but the tables' names is known."""
        known = tables(customers, soft_delete)
        self.tables = {name: nameless(known[name]) if keyless else known[name] for name in known if name in only}
        self.target = MergingTarget(inner, {mapping_of(customers): rules}, lambda: now_s)
        self.target.open(Owner(customers, "target"))
        for table in self.tables.values():
            self.target.prepare(table)
        partitions = {name: PARTITIONS[name] for name in only}
        marks = {mark.partition: mark for mark in self.target.take(dict.fromkeys(partitions.values(), "topic-id"))}
        self._fences = {name: marks[partition].fence for name, partition in partitions.items()}
        self._next: dict[str, int | None] = {name: marks[partition].next for name, partition in partitions.items()}
        self._blocks = blocks
        self._seen: dict[tuple[str, int], MappedRow] = {}
        self.applier = Applier(self.target)
        self.applier.held = self.target.parked(list(partitions.values()))

    def play(self, tape: Sequence[tuple[str, MappedRow]], cuts: Sequence[int] = ()) -> None:
        self._seen.update({(name, row.record.offset): row for name, row in tape})

        def remap(parked: Parked) -> tuple[TargetTable, MappedRow | Decision]:
            name = parked.mapping.split("@")[1]
            return self.tables[name], self._seen[name, parked.record.offset]

        # The engine ends a batch before a truncate, so that parked keys that heal do so before their rows are gone.
        truncates = {index for index, (_, row) in enumerate(tape) if row.op is RowOp.TRUNCATE}
        edges = sorted({0, *(cut for cut in cuts if cut < len(tape)), *truncates, len(tape)})
        for start, end in pairwise(edges):
            applied = self.applier.apply(self._batch(tape[start:end]))
            if applied.may_heal:
                guard = partial(_as_they_are, [self._move(name, 0) for name in self.tables])
                retry(self.target, applied.may_heal, remap, guard, self.applier.held, self.applier.waiting)

    def _batch(self, tape: Sequence[tuple[str, MappedRow]]) -> Batch:
        tables, moves = [], []
        for name, table in self.tables.items():
            rows = [row for source, row in tape if source == name]
            if rows:
                batch = TableBatch(table, in_blocks(rows, timed=True) if self._blocks else [*rows])
                batch.fold()
                tables.append(batch)
                moves.append(self._move(name, len(rows)))
        return Batch(tables, moves)

    def _move(self, name: str, number: int) -> Advance:
        before = self._next[name]
        after = (before or 0) + number
        if number:
            self._next[name] = after
        return Advance(
            PARTITIONS[name], self._fences[name], before, after if number else before, "" if number else None
        )


def _as_they_are(moves: list[Advance], partitions: object) -> list[Advance]:
    return moves
