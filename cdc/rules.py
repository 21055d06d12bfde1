"""Conflict rules of tables where one source row makes one target row: what is a conflict, and what is done about it.

A change meets the target row as it is: as this mapping left it (*ours*: the row has a position), changed by somebody
else since, or made by somebody else (no position). First the guard: a change older than what its key met last is
*stale* and always skipped; one at the very position that its row or tombstone has was here already, and a replay
changes nothing. Then, in this order, the first that holds:

    key_exists               the create half of a key change, and a row stands at the new key
    insert_exists            a create or a snapshot read, and the row is not ours
    update_origin_differs    an update, and the row is not ours
    update_recently_deleted  an update, and the row was deleted by an older change (or is marked as deleted)
    update_missing           an update, and there is no row, nor the memory of one
    update_differing         the row is ours, but not what the change expects, by `detect`
    delete_missing           a delete, and there is no row (or it is marked as deleted already)
    delete_recently_updated  a delete, and the row is not ours, or not what the change expects

What a change expects, by `detect`:

    position         nothing more
    changed_columns  the columns that it changes are as its before image says; others are neither compared nor written
    all_columns      every column is as its before image says
    version          the row's version column is not higher than the change's (a delete's: its before image's); NULL is
                     lower than any
    commit_time      the row's change was not committed later, by the source's clock; snapshot reads have no such time

A before image is compared only in columns without a rule of their own: with one they may differ on purpose. Without a
before image (PostgreSQL without REPLICA IDENTITY FULL, snapshot reads) nothing is compared, as with `position`.

What is done, by action:

    source_wins       the change is written as it is, a delete deletes
    merge             the change is written by the columns' own rules
    update_or_insert  the same; a row that is missing is inserted
    target_wins, skip the row stays; of a missing one nothing is written, only a delete's position is remembered
    insert_or_skip    the same, where a row is there
    update_if_newer   `merge` when the change's version (or commit time) is higher than the row's, else the row stays
    newest, oldest    `merge` when it is not lower, or when it is lower; a row without version loses, a change without
                      one loses to a row that has one
    park              the change is set aside for a person (a missing row: until it comes), its key waits
    error             the pipeline stops

A row of ours that stays takes the change's position: it was decided. One that somebody else made stays theirs, without
position. A partial image cannot make a row: where that is missing it waits, whatever the rule, unless it is skipped.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from enum import Enum
from math import isnan
from types import MappingProxyType
from typing import Any, NamedTuple

from cdc.errors import Terminal
from cdc.model import (
    APPLIED,
    STALE,
    UNAVAILABLE,
    Action,
    Combine,
    Conflict,
    ConflictType,
    Decision,
    Detect,
    Kind,
    MappedRow,
    Outcome,
    Position,
    RowOp,
    Rules,
    TargetTable,
    Unit,
    Value,
    Write,
)

Image = tuple[Value, ...]

_EXISTING = {
    *(Action.SOURCE_WINS, Action.MERGE, Action.TARGET_WINS, Action.SKIP, Action.UPDATE_IF_NEWER),
    *(Action.NEWEST, Action.OLDEST, Action.PARK, Action.ERROR),
}
_INSERTING = {*_EXISTING, Action.UPDATE_OR_INSERT, Action.INSERT_OR_SKIP}
_ASIDE = {Action.SKIP, Action.PARK, Action.ERROR}
_DELETED = {*_ASIDE, Action.UPDATE_OR_INSERT, Action.SOURCE_WINS, Action.TARGET_WINS}

ALLOWED: Mapping[ConflictType, frozenset[Action]] = MappingProxyType(
    {
        ConflictType.INSERT_EXISTS: frozenset(_INSERTING),
        ConflictType.KEY_EXISTS: frozenset(_INSERTING),
        ConflictType.UPDATE_DIFFERING: frozenset(_EXISTING),
        ConflictType.UPDATE_ORIGIN_DIFFERS: frozenset(_EXISTING),
        ConflictType.UPDATE_RECENTLY_DELETED: frozenset(_DELETED),
        ConflictType.UPDATE_MISSING: frozenset({*_ASIDE, Action.UPDATE_OR_INSERT}),
        ConflictType.DELETE_MISSING: frozenset({*_ASIDE, Action.SOURCE_WINS}),
        ConflictType.DELETE_RECENTLY_UPDATED: frozenset(_EXISTING - {Action.MERGE}),
        ConflictType.SECOND_UNIQUE_VIOLATION: frozenset(_ASIDE),
        ConflictType.MULTIPLE_UNIQUE_CONFLICTS: frozenset(_ASIDE),
        ConflictType.FOREIGN_KEY_MISSING: frozenset(_ASIDE),
        ConflictType.VALUE_OUT_OF_RANGE: frozenset(_ASIDE),
        ConflictType.STALE: frozenset({Action.SKIP}),
        ConflictType.SOURCE_COLUMN_MISSING: frozenset({Action.SKIP, Action.ERROR}),
        ConflictType.TARGET_COLUMN_MISSING: frozenset({Action.ERROR}),
        ConflictType.TARGET_TABLE_MISSING: frozenset({Action.ERROR}),
    }
)
"""What can be done about a conflict."""

_DEFAULTS = {
    **dict.fromkeys(ConflictType, Action.PARK),
    ConflictType.INSERT_EXISTS: Action.MERGE,
    ConflictType.KEY_EXISTS: Action.MERGE,
    ConflictType.UPDATE_DIFFERING: Action.MERGE,
    ConflictType.UPDATE_ORIGIN_DIFFERS: Action.MERGE,
    ConflictType.UPDATE_RECENTLY_DELETED: Action.UPDATE_OR_INSERT,
    ConflictType.UPDATE_MISSING: Action.UPDATE_OR_INSERT,
    ConflictType.DELETE_MISSING: Action.SOURCE_WINS,
    ConflictType.DELETE_RECENTLY_UPDATED: Action.SOURCE_WINS,
    ConflictType.STALE: Action.SKIP,
    ConflictType.SOURCE_COLUMN_MISSING: Action.ERROR,
}
BY_VERSION = frozenset({Action.UPDATE_IF_NEWER, Action.NEWEST, Action.OLDEST})
"""Actions that compare versions or commit times."""


def action_of(rules: Rules | None, type_: ConflictType) -> Action:
    """What is to be done about a conflict of this type."""
    return _DEFAULTS[type_] if rules is None else dict(rules.on).get(type_, _DEFAULTS[type_])


# --- how columns combine ---------------------------------------------------------------------------------------------


def effective(table: TargetTable, row: MappedRow) -> Image:
    """The values of an upsert that are written onto an existing row; UNAVAILABLE where that keeps its own."""
    assert row.values is not None
    rules = table.rules
    if rules is None or rules.detect is not Detect.CHANGED_COLUMNS or row.before is None:
        return row.values
    kept = {index for index in rules.compared if row.before[index] is UNAVAILABLE}
    return tuple(UNAVAILABLE if index in kept else value for index, value in enumerate(row.values))


def combined(table: TargetTable, old: Image, new: Image) -> Image:
    """The row that `new` (see `effective`) makes of `old`, by the columns' own rules. The same for two changes of one
    row that follow each other: combining is associative."""
    values = replaced(old, new)
    for unit in table.rules.units if table.rules is not None else ():
        if not _takes(table, unit, old, new):
            for index in unit.columns:
                values[index] = old[index] if old[index] is not UNAVAILABLE else new[index]
    return tuple(values)


def replaced(old: Image, new: Image) -> list[Value]:
    """`new` where it has values, else `old`."""
    return [before if value is UNAVAILABLE else value for before, value in zip(old, new, strict=True)]


def _takes(table: TargetTable, unit: Unit, old: Image, new: Image) -> bool:
    """Whether the incoming values of a unit take the place of those that are there."""
    match unit.combine:
        case Combine.TARGET_WINS:
            return False
        case Combine.KEEP_IF_NULL:
            return any(new[index] is not None and new[index] is not UNAVAILABLE for index in unit.columns)
        case Combine.FILL_NULLS:
            return all(old[index] is None for index in unit.columns)
        case Combine.MAX | Combine.MIN:
            (index,) = unit.columns
            there, incoming = old[index], new[index]
            if incoming is None or incoming is UNAVAILABLE:
                return False
            key = order_of(table.columns[index].type.kind)
            if there is None or there is UNAVAILABLE:
                return True
            higher, lower = (incoming, there) if unit.combine is Combine.MAX else (there, incoming)
            return bool(key(higher) > key(lower))
        case Combine.NEWEST | Combine.OLDEST:
            assert unit.version is not None
            action = Action.NEWEST if unit.combine is Combine.NEWEST else Action.OLDEST
            return wins(action, old[unit.version], new[unit.version], table.columns[unit.version].type.kind)
    return True


def wins(action: Action, there: Value, incoming: Value, kind: Kind) -> bool:
    """Whether a change with the version `incoming` is written onto a row with the version `there`."""
    if there is None:
        return True
    if incoming is None:
        return False
    key = order_of(kind)
    old, new = key(there), key(incoming)
    if action is Action.OLDEST:
        return bool(new < old)
    return bool(new >= old if action is Action.NEWEST else new > old)


_ISO = re.compile(r"([+-]?\d+)-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d+))?Z")


def _moment(text: str) -> tuple[int, ...]:
    match = _ISO.fullmatch(text)
    if match is None:
        return (-(10**9),) if text.startswith("-") else (10**9,)
    return (*map(int, match.groups()[:6]), int((match[7] or "").ljust(9, "0")))


def _number(text: str) -> tuple[bool, Decimal]:
    number = Decimal(text)
    return (True, Decimal(0)) if number.is_nan() else (False, number)


def _float(value: float) -> tuple[bool, float]:
    return (True, 0.0) if isnan(value) else (False, value)


_ORDERS: dict[Kind, Callable[[Any], Any]] = {
    **dict.fromkeys((Kind.INTEGER, Kind.BOOLEAN, Kind.DATE, Kind.TIME, Kind.TIMESTAMP), lambda value: value),
    **dict.fromkeys((Kind.TEXT, Kind.BYTES, Kind.UUID), lambda value: value),
    Kind.DECIMAL: _number,
    Kind.FLOAT32: _float,
    Kind.FLOAT64: _float,
    Kind.TIMESTAMPTZ: _moment,
}
ORDERED = frozenset(_ORDERS)
"""Kinds of values with an order that is the same everywhere (texts: by code point)."""
VERSIONS = frozenset({Kind.INTEGER, Kind.DECIMAL, Kind.DATE, Kind.TIMESTAMP, Kind.TIMESTAMPTZ})
"""Kinds that may say which row is newer."""


def order_of(kind: Kind) -> Callable[[Value], Any]:
    """The key by which canonical values of an ordered kind compare, as PostgreSQL compares them."""
    return _ORDERS[kind]


def same(kind: Kind, left: Value, right: Value) -> bool:
    """Whether two canonical values are one, however they are written."""
    if left is None or right is None or kind not in ORDERED:
        return bool(left == right)
    key = order_of(kind)
    return bool(key(left) == key(right))


# --- what a change meets, and what is done ---------------------------------------------------------------------------


class Step(Enum):
    """What is written."""

    INSERT = "insert"  # the row is not there
    MERGE = "merge"  # onto the row, by the columns' rules
    REPLACE = "replace"  # onto the row, as it is
    KEEP = "keep"  # the row takes the change's position; one that is not ours stays without
    REMOVE = "remove"  # the row, if it is there; the delete's position is remembered
    NOTHING = "nothing"
    MIXED = "mixed"  # nothing: the change was folded of several, which must be decided one by one


class Facts(NamedTuple):
    """What a change meets under its key. `position` is None for a row of somebody else, and when there is none.

    `differs`: the row is not what the change expects (see `Detect`); `columns`: which of them, where columns are
    compared. `winners`: which of newest, oldest and update_if_newer would write the change.
    """

    exists: bool
    position: Position | None
    buried: Position | None
    floor: Position
    deleted: bool = False
    differs: bool = False
    columns: tuple[int, ...] = ()
    winners: frozenset[Action] = frozenset()


UPDATE_MISSING = Decision(Outcome.PARKED, "update_missing")


def judge(table: TargetTable, write: Write, facts: Facts, whole: bool) -> tuple[Step, Decision]:
    """What to do about one write of a table with rules. `whole`: the change brings every value, its own or borrowed
    ones. Raises `Terminal` where the rule is to stop."""
    row, known = write.row, [each for each in (facts.position, facts.buried) if each is not None]
    if row.position < facts.floor or any(row.position < each for each in known):
        return Step.NOTHING, STALE
    if row.position in known:
        return Step.NOTHING, APPLIED
    if write.base < facts.floor or any(write.base <= each for each in known):
        return Step.MIXED, APPLIED
    type_ = conflict_of(row, facts)
    if type_ is None:
        return (_unopposed(row, facts), APPLIED) if whole or facts.exists else (Step.NOTHING, UPDATE_MISSING)
    if write.chain:
        return Step.MIXED, APPLIED
    action = action_of(table.rules, type_)
    conflict = Conflict(type_, action, tuple(table.columns[index].name for index in facts.columns))
    if action is Action.ERROR:
        raise stopped(table, row, type_)
    if action is Action.PARK:
        return Step.NOTHING, Decision(Outcome.PARKED, type_, _detail(conflict), conflict)
    step = _step(row, facts, action)
    if step is Step.INSERT and not whole:
        return Step.NOTHING, UPDATE_MISSING
    kept = step in (Step.KEEP, Step.NOTHING) or (step is Step.REMOVE and action is Action.SKIP)
    return step, Decision(Outcome.SKIPPED if kept else Outcome.APPLIED, f"{type_}:{action}", "", conflict)


def conflict_of(row: MappedRow, facts: Facts) -> ConflictType | None:
    """The conflict between a change that passed the guard and what it meets."""
    alive = facts.exists and not facts.deleted
    theirs = facts.exists and facts.position is None
    if row.op is RowOp.DELETE:
        if theirs or (alive and facts.differs):
            return ConflictType.DELETE_RECENTLY_UPDATED
        return None if alive or row.created else ConflictType.DELETE_MISSING
    if row.moved_from is not None and alive:
        return ConflictType.KEY_EXISTS
    if theirs:
        return ConflictType.INSERT_EXISTS if row.created else ConflictType.UPDATE_ORIGIN_DIFFERS
    if alive:
        return ConflictType.UPDATE_DIFFERING if facts.differs else None
    if row.created or row.moved_from is not None:
        return None
    deleted = facts.exists or facts.buried is not None
    return ConflictType.UPDATE_RECENTLY_DELETED if deleted else ConflictType.UPDATE_MISSING


def _unopposed(row: MappedRow, facts: Facts) -> Step:
    if row.op is RowOp.DELETE:
        return Step.REMOVE
    return Step.MERGE if facts.exists else Step.INSERT


def _step(row: MappedRow, facts: Facts, action: Action) -> Step:
    stays = action in (Action.TARGET_WINS, Action.SKIP, Action.INSERT_OR_SKIP)
    if action in BY_VERSION:
        stays = action not in facts.winners
    if row.op is RowOp.DELETE:
        return Step.KEEP if stays and facts.exists else Step.REMOVE
    if stays:
        return Step.KEEP if facts.exists else Step.NOTHING
    if not facts.exists:
        return Step.INSERT
    return Step.REPLACE if action is Action.SOURCE_WINS else Step.MERGE


def stopped(table: TargetTable, row: MappedRow, type_: ConflictType) -> Terminal:
    """The error of a rule that says so."""
    return Terminal(
        f"{type_} in {table.namespace}.{table.name}, where the rule is to stop",
        where=row.record.where,
        hint=f"mend the target's row, or change 'on: {{{type_}: …}}' in the rules of {table.mapping}",
    )


def _detail(conflict: Conflict) -> str:
    return "set aside by a rule" + (f"; differing: {', '.join(conflict.columns)}" if conflict.columns else "")
