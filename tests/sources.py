"""Rows that several sources make: three sources of a customer, their tapes, and how to play them on a target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any

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
from cdc.target.base import Advance, Owner, Parked, Target
from tests.blocks import in_blocks

OWNER = Owner("golden", "target")
MAPPING = "golden/golden.customers"
_TEXT, _INTEGER = ColumnType(Kind.TEXT, "text"), ColumnType(Kind.INTEGER, "int8")
_TYPES = {
    "id": _INTEGER,
    "email": _TEXT,
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
    "crm": ("id", "email", "phone", "street", "city", "score", "tags", "version"),
    "portal": ("id", "email", "phone", "settings", "tags", "version"),
    "billing": ("id", "email", "street", "city", "score", "balance", "settings", "version", "@no"),
}
"""The columns of each source; several rows of billing make one customer."""

COLUMNS = ("id", "email", "phone", "street", "city", "score", "tags", "version", "settings", "balance")
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


def contributor(name: str) -> TargetTable:
    columns = tuple(TargetColumn(column, _TYPES[column], nullable=column != "id") for column in SAYS[name])
    return TargetTable(
        mapping=f"{MAPPING}@{name}",
        namespace="golden",
        name="customers",
        columns=columns,
        key=("id", "@no") if name == "billing" else ("id",),
        partials=True,
        contributes=Contributes(MAPPING, name, 1),
    )


TABLES = {name: contributor(name) for name in SAYS}
PARTITIONS = {name: TopicPartition(f"{name}.public.customers", 0) for name in SAYS}


@dataclass
class SourceTape:
    """Changes of one source, positions and commit times rising as the source would write them."""

    source: str
    rows: list[MappedRow] = field(default_factory=list)
    clock: int = 1_000

    def add(self, op: str, number: int, values: dict[str, Any], seconds: int = 1) -> SourceTape:
        """`op`: read, full, partial (what `values` lacks is UNAVAILABLE) or delete."""
        self.clock += seconds
        says = SAYS[self.source]
        # Two rows of billing make one customer, and they have numbers of their own.
        key: dict[str, Any] = {"id": (number + 1) // 2, "@no": number} if self.source == "billing" else {"id": number}
        lacks = UNAVAILABLE if op == "partial" else None
        image = tuple([key.get(name, values.get(name, lacks)) for name in says])
        self.rows.append(
            MappedRow(
                op=RowOp.DELETE if op == "delete" else RowOp.UPSERT,
                key=tuple([key[name] for name in TABLES[self.source].key]),
                values=None if op == "delete" else image,
                position=Position(1, self.clock, 0),
                record=RawRecord(*PARTITIONS[self.source], len(self.rows), b"k", b"v"),
                snapshot="initial" if op == "read" else "",
                time_us=self.clock,
            )
        )
        return self


_texts = st.sampled_from(["a", "b", None])
_values = st.fixed_dictionaries(
    {
        "email": _texts,
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
_change = st.tuples(
    st.sampled_from(["read", "full", "full", "partial", "delete"]),
    st.integers(1, 3),
    _values,
    st.integers(0, 2),
)


@st.composite
def tapes(draw: st.DrawFn) -> dict[str, list[MappedRow]]:
    """For each source what it wrote, in its own order."""
    found = {}
    for name in SAYS:
        tape = SourceTape(name)
        for op, number, values, seconds in draw(st.lists(_change, max_size=8)):
            said = {key: value for index, (key, value) in enumerate(values.items()) if op != "partial" or index % 2}
            tape.add(op, number, said, seconds)
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
    oracle = Sources(rules, COLUMNS, TABLES)
    for name, row in tape:
        oracle.apply(name, row)
    return oracle


class Player:
    """Plays changes on a target through the engine's batch path; it may be asked again, also for what was played."""

    def __init__(self, inner: Target, rules: TableRules = RULES, *, blocks: bool = True) -> None:
        self.target = MergingTarget(inner, {MAPPING: rules})
        self.target.open(OWNER)
        for table in TABLES.values():
            self.target.prepare(table)
        marks = {mark.partition: mark for mark in self.target.take(dict.fromkeys(PARTITIONS.values(), "topic-id"))}
        self._fences = {name: marks[partition].fence for name, partition in PARTITIONS.items()}
        self._next: dict[str, int | None] = {name: marks[partition].next for name, partition in PARTITIONS.items()}
        self._blocks = blocks
        self.applier = Applier(self.target)
        self.applier.held = self.target.parked(list(PARTITIONS.values()))

    def play(self, tape: Sequence[tuple[str, MappedRow]], cuts: Sequence[int] = ()) -> None:
        rows = {(name, row.record.offset): row for name, row in tape}

        def remap(parked: Parked) -> tuple[TargetTable, MappedRow | Decision]:
            name = parked.mapping.split("@")[1]
            return TABLES[name], rows[name, parked.record.offset]

        edges = sorted({0, *(cut for cut in cuts if cut < len(tape)), len(tape)})
        for start, end in pairwise(edges):
            applied = self.applier.apply(self._batch(tape[start:end]))
            if applied.may_heal:
                guard = partial(_as_they_are, [self._move(name, 0) for name in TABLES])
                retry(self.target, applied.may_heal, remap, guard, self.applier.held)

    def _batch(self, tape: Sequence[tuple[str, MappedRow]]) -> Batch:
        tables, moves = [], []
        for name, table in TABLES.items():
            rows = [row for source, row in tape if source == name]
            if rows:
                batch = TableBatch(table, in_blocks(rows) if self._blocks else [*rows])
                batch.fold()
                tables.append(batch)
                moves.append(self._move(name, len(rows)))
        return Batch(tables, moves)

    def _move(self, name: str, number: int) -> Advance:
        before = self._next[name]
        after = (before or 0) + number
        if number:
            self._next[name] = after
        return Advance(PARTITIONS[name], self._fences[name], before, after if number else before, "" if number else None)


def _as_they_are(moves: list[Advance], partitions: object) -> list[Advance]:
    return moves
