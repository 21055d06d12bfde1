"""What is told of conflicts: their counts, and for the first of a batch the values between which was decided.

Counted is every conflict, by table, type and what was done about it; also the changes that were stale. Kept with
values are, per batch, the first `KEPT` of each table and type: a flood of conflicts costs little more than a few.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Final, NamedTuple

import msgspec

from cdc.model import (
    UNAVAILABLE,
    Action,
    Conflict,
    ConflictType,
    Decision,
    MappedRow,
    Outcome,
    Position,
    Seen,
    TargetColumn,
    TargetTable,
    TopicPartition,
    Value,
)

KEPT: Final = 20
"""Conflicts of a batch that are kept with values, of each table and type."""

LONGEST: Final = 1000
"""Characters of a value that are kept."""

Values = Mapping[str, Value]
_STALE = Conflict(ConflictType.STALE, Action.SKIP)
_PARKED = {
    "unique_violation": ConflictType.SECOND_UNIQUE_VIOLATION,
    **{type_.value: type_ for type_ in ConflictType if type_ is not ConflictType.STALE},
}
"""Reasons to park that are conflicts."""


class Counted(NamedTuple):
    """What conflicts are counted by."""

    mapping: str
    partition: TopicPartition
    type: ConflictType
    action: Action


class KeptConflict(msgspec.Struct, frozen=True):
    """One conflict. `hold`: the canonical text of its target key, a row value as `seen` is."""

    mapping: str
    hold: str
    conflict: Conflict
    position: Position
    partition: TopicPartition
    offset: int


class Conflicts:
    """Those of one transaction."""

    def __init__(self) -> None:
        self.counts: Counter[Counted] = Counter()
        self.kept: list[KeptConflict] = []
        self._kept: Counter[tuple[str, ConflictType]] = Counter()

    def add(
        self,
        table: TargetTable,
        partition: TopicPartition,
        conflict: Conflict,
        rows: Iterator[Callable[[], tuple[MappedRow, str]]],
        number: int = 1,
    ) -> None:
        """`number` changes that met the same. `rows`: each with the text of its key, made only where it is kept."""
        self.counts[Counted(table.mapping, partition, conflict.type, conflict.action)] += number
        kind = table.mapping, conflict.type
        if conflict.type is not ConflictType.STALE and self._kept[kind] < KEPT:
            for row in islice(rows, KEPT - self._kept[kind]):
                self._kept[kind] += 1
                self._keep(table, partition, conflict, *row())

    def _keep(
        self, table: TargetTable, partition: TopicPartition, conflict: Conflict, change: MappedRow, hold: str
    ) -> None:
        if conflict.seen is None:
            conflict = msgspec.structs.replace(conflict, seen=seen(None, incoming(table, change), None))
        self.kept.append(KeptConflict(table.mapping, hold, conflict, change.position, partition, change.record.offset))


def met(decision: Decision) -> Conflict | None:
    """The conflict that a decision speaks of."""
    if decision.conflict is not None:
        return decision.conflict
    if decision.outcome is Outcome.PARKED:
        type_ = _PARKED.get(decision.reason)
        return None if type_ is None else Conflict(type_, Action.PARK)
    return _STALE if decision.outcome is Outcome.SKIPPED and decision.reason == ConflictType.STALE else None


def word(outcome: str, reason: str) -> str:
    """How a decision is told in one word: applied, type:action, parked:reason, skipped:reason."""
    if outcome == Outcome.PARKED:
        return f"parked:{reason}"
    if ":" in reason:  # a conflict's type and what was done about it
        return reason
    return f"{outcome}:{reason}" if reason else str(outcome)


def named(columns: Sequence[TargetColumn], values: Sequence[Value]) -> dict[str, Value]:
    """Values of a row by column."""
    return {column.name: value for column, value in zip(columns, values, strict=True)}


def incoming(table: TargetTable, row: MappedRow) -> dict[str, Value] | None:
    """What a change says; None for a delete."""
    return None if row.values is None else named(table.columns, row.values)


def seen(before: Values | None, incoming: Values | None, resulting: Values | None) -> Seen:
    """Only the columns in which the three differ; all of them where one of the three is missing."""
    sides = [None if side is None else _texts(side) for side in (before, incoming, resulting)]
    there = [side for side in sides if side is not None]
    names = dict.fromkeys(name for side in there for name in side)
    whole = len(there) < len(sides)
    told = [name for name in names if whole or len({side[name] for side in there if name in side}) > 1]
    return Seen(
        *(None if side is None else {name: _kept(side[name]) for name in told if name in side} for side in sides)
    )


def _texts(values: Values) -> dict[str, str | None]:
    return {name: _text(value) for name, value in values.items() if value is not UNAVAILABLE}


def _kept(text: str | None) -> str | None:
    """As every target can keep it, also what a row was refused for; of a long one its beginning."""
    if text is None:
        return None
    short = text if len(text) <= LONGEST else f"{text[:LONGEST]}… ({len(text):,} characters)"
    return short.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")


def _text(value: Value) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return value.hex() if isinstance(value, bytes) else str(value)
