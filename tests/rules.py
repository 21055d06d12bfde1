"""Conflicts played: changes, and what somebody else writes in between, on the oracle and on targets.

A script is a list of steps. `Change`s go through the engine; `theirs` makes a row without our position, `edited`
changes values of a row and leaves its position, `gone` removes one.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any, TypeAlias

from cdc.engine.apply import Applier, Batch, TableBatch
from cdc.engine.oracle import BEGINNING, HEALING, Oracle, Row
from cdc.engine.parked import retry
from cdc.model import (
    UNAVAILABLE,
    ColumnType,
    Decision,
    DeletePolicy,
    Kind,
    MappedRow,
    Position,
    RawRecord,
    RowOp,
    Rules,
    TargetColumn,
    TargetTable,
)
from cdc.target.base import Advance, Owner, Parked
from cdc.target.memory import StoredRow
from tests.blocks import in_blocks
from tests.fix_targets import Bench, MemoryBench
from tests.tapes import PARTITION

_numbers = itertools.count(1)
Values: TypeAlias = tuple[Any, ...]
"""name, notes, number, version; the key comes before them."""

COLUMNS = {
    "id": ColumnType(Kind.INTEGER, "int8"),
    "name": ColumnType(Kind.TEXT, "text"),
    "notes": ColumnType(Kind.TEXT, "text"),
    "number": ColumnType(Kind.INTEGER, "int4"),
    "version": ColumnType(Kind.INTEGER, "int8"),
}
NAME, NOTES, NUMBER, VERSION = 1, 2, 3, 4


@dataclass(frozen=True)
class Change:
    """`op`: c, r, u or d. `values`: with UNAVAILABLE, a partial image. `before`: the values before the change."""

    op: str
    key: int
    values: Values | None
    at: int
    before: Values | None = None
    time: int | None = None
    moved_from: int | None = None
    moved_to: int | None = None


@dataclass(frozen=True)
class Foreign:
    """What somebody else does to the target."""

    what: str  # theirs, edited, gone
    key: int
    values: Values | None = None


Step: TypeAlias = Change | Foreign


def table(name: str, rules: Rules, on_delete: DeletePolicy = DeletePolicy.DELETE) -> TargetTable:
    return TargetTable(
        mapping=f"tapes/{name}",
        namespace="hub",
        name=name,
        columns=tuple(TargetColumn(column, type_, nullable=column != "id") for column, type_ in COLUMNS.items()),
        key=("id",),
        on_delete=on_delete,
        soft_delete="is_deleted" if on_delete is DeletePolicy.SOFT else None,
        partials=True,
        rules=rules,
    )


def new_table(given: Rules, policy: DeletePolicy = DeletePolicy.DELETE) -> TargetTable:
    """One that nothing has written to."""
    return table(f"rules_{next(_numbers)}", given, policy)


def rows_of(rules: Rules, steps: Sequence[Step]) -> list[MappedRow | Foreign]:
    """The changes as a plan would map them, with rising offsets."""
    found: list[MappedRow | Foreign] = []
    for step in steps:
        if isinstance(step, Foreign):
            found.append(step)
            continue
        offset = sum(isinstance(each, MappedRow) for each in found)
        found.append(
            MappedRow(
                op=RowOp.DELETE if step.op == "d" else RowOp.UPSERT,
                key=(step.key,),
                values=None if step.values is None else (step.key, *step.values),
                position=Position(1, step.at, 0),
                record=RawRecord(PARTITION.topic, PARTITION.partition, offset, b"k", b"v"),
                snapshot="initial" if step.op == "r" else "",
                moved_from=None if step.moved_from is None else (step.moved_from,),
                moved_to=None if step.moved_to is None else (step.moved_to,),
                time_us=step.time,
                created=step.op in "cr",
                before=_before(rules, step),
            )
        )
    return found


def _before(rules: Rules, step: Change) -> Values | None:
    """As `Plan` makes it: UNAVAILABLE where nothing is compared."""
    compared = (rules.version,) if rules.version is not None and step.op == "d" else rules.compared
    if step.before is None or not compared or step.moved_from is not None:
        return None
    before, after = (step.key, *step.before), None if step.values is None else (step.key, *step.values)
    found: list[Any] = [UNAVAILABLE] * len(before)
    for index in compared:
        same = after is not None and (after[index] is UNAVAILABLE or after[index] == before[index])
        if rules.detect != "changed_columns" or not same:
            found[index] = before[index]
    return tuple(found)


# -- the oracle


def expected(table: TargetTable, rows: Sequence[MappedRow | Foreign]) -> tuple[Oracle, list[Decision]]:
    oracle, decisions = Oracle(table), []
    for row in rows:
        if isinstance(row, MappedRow):
            decisions.append(oracle.apply(row))
            continue
        key, there = (row.key,), oracle.rows.get((row.key,))
        if row.what == "theirs":
            oracle.rows[key] = Row(_whole(row), BEGINNING)
        elif row.what == "edited" and there is not None:
            there.values = _whole(row)
        elif row.what == "gone":
            oracle.rows.pop(key, None)
        oracle._heal()
    return oracle, decisions


def _whole(row: Foreign) -> Values:
    assert row.values is not None
    return (row.key, *row.values)


# -- targets


@dataclass
class Played:
    """What is there afterwards. `positions`: None for a row of somebody else. `parked`: reasons by key. `tallies`:
    records by outcome and reason."""

    rows: dict[int, Values]
    positions: dict[int, Position | None]
    parked: dict[str, str]
    tallies: Counter[tuple[str, str]]

    @property
    def told(self) -> set[str]:
        """What is said of conflicts."""
        return {f"{outcome} {reason}" for (outcome, reason), number in self.tallies.items() if number and ":" in reason}


def play(
    bench: Bench, table: TargetTable, rows: Sequence[MappedRow | Foreign], *, single: bool, blocks: bool
) -> Played:
    """`single`: a batch for each change; else one for all changes that stand between two foreign steps."""
    held = run(bench, table, rows, single=single, blocks=blocks)
    return Played(*seen(bench, table), held, _tallies(bench, table))


def run(
    bench: Bench, table: TargetTable, rows: Sequence[MappedRow | Foreign], *, single: bool, blocks: bool
) -> dict[str, str]:
    """The same, without reading the rows afterwards: the held keys with their reasons."""
    changes = [row for row in rows if isinstance(row, MappedRow)]
    with closing(bench.target()) as target:
        target.open(Owner(table.name, "target"))
        target.prepare(table)
        mark = target.take({PARTITION: "topic-id"})[0]
        applier, done = Applier(target), mark.next or 0

        def remap(parked: Parked) -> tuple[TargetTable, MappedRow | Decision]:
            return table, changes[parked.record.offset]

        def heal(held: set[tuple[str, str]]) -> None:
            as_it_is = Advance(PARTITION, mark.fence, done or None, done or None)
            retry(target, held, remap, partial(_always, as_it_is), applier.held, applier.waiting)

        for is_change, group in groupby(rows, lambda row: isinstance(row, MappedRow)):
            steps = list(group)
            for batch in [[step] for step in steps] if single or not is_change else [steps]:
                if not is_change:
                    _write(bench, table, batch[0])
                    heal({key for key, reason in applier.held.items() if reason in HEALING})
                    continue
                before, done = done, done + len(batch)
                made = TableBatch(table, in_blocks(batch) if blocks else [*batch])
                made.fold()
                if made.writes is not None:
                    made.writes.encoded = target.encode(table, made.writes)
                move = Advance(PARTITION, mark.fence, before or None, done, "")
                applied = applier.apply(Batch([made], [move]))
                if applied.may_heal:
                    heal(applied.may_heal)
        held = {hold: reason for (_, hold), reason in applier.held.items()}
        assert {hold for _, hold in target.parked([PARTITION])} == set(held)
    return held


def _tallies(bench: Bench, table: TargetTable) -> Counter[tuple[str, str]]:
    found: Counter[tuple[str, str]] = Counter()
    if isinstance(bench, MemoryBench):
        for (mapping, _, outcome, reason), number in bench.storage.tallies.items():
            found[outcome, reason] += number if mapping == table.mapping else 0
        return found
    with closing(bench.operator()) as operator:
        operator.open(Owner(table.name, "target"))
        for tally in operator.tallies():
            found[tally.outcome, tally.reason] += tally.number
    return found


def _always(advance: Advance, partitions: object) -> list[Advance]:
    return [advance]


def seen(bench: Bench, table: TargetTable) -> tuple[dict[int, Values], dict[int, Position | None]]:
    """Rows as a reader gets them (with the soft-delete mark at the end, where there is one), and their positions."""
    names = [column.name for column in table.columns] + ([table.soft_delete] if table.soft_delete else [])
    rows = {row[0]: tuple(row[1:]) for row in bench.rows(table, names)}
    packed = dict(bench.rows(table, ("id", "_cdc_position")))
    positions = {key: None if text is None else Position.unpack(text) for key, text in packed.items()}
    return rows, {key: None if position == BEGINNING else position for key, position in positions.items()}


def of_oracle(oracle: Oracle) -> tuple[dict[int, Values], dict[int, Position | None]]:
    """The same of the oracle."""
    rows = {key[0]: row[1:] for key, row in oracle.visible().items()}
    positions = {key[0]: row.position for key, row in oracle.rows.items()}
    return rows, {key: None if position == BEGINNING else position for key, position in positions.items()}


def _write(bench: Bench, table: TargetTable, step: Foreign) -> None:
    """Somebody else writes."""
    if isinstance(bench, MemoryBench):
        stored = bench.storage.tables[table.mapping].rows
        if step.what == "theirs":
            stored[step.key,] = StoredRow(_whole(step))
        elif step.what == "edited" and (step.key,) in stored:
            stored[step.key,].values = _whole(step)
        elif step.what == "gone":
            stored.pop((step.key,), None)
        return
    if step.what in ("theirs", "gone"):
        bench.run(f"DELETE FROM {{table}} WHERE id = {step.key}", table=table)
    values = [_literal(value) for value in step.values or ()]
    if step.what == "theirs":
        names = ", ".join(COLUMNS)
        bench.run(f"INSERT INTO {{table}} ({names}) VALUES ({step.key}, {', '.join(values)})", table=table)
    elif step.what == "edited":
        pairs = ", ".join(f"{name} = {value}" for name, value in zip([*COLUMNS][1:], values, strict=True))
        bench.run(f"UPDATE {{table}} SET {pairs} WHERE id = {step.key}", table=table)


def _literal(value: object) -> str:
    return "NULL" if value is None else str(value) if isinstance(value, int) else f"'{value}'"
