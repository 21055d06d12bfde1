"""The reference target's rows of tables with conflict rules (`cdc.rules`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from cdc.decisions import named, seen
from cdc.model import (
    UNAVAILABLE,
    Action,
    Decision,
    DeletePolicy,
    Detect,
    Kind,
    MappedRow,
    Outcome,
    Position,
    RowOp,
    TargetTable,
    Value,
    Write,
)
from cdc.rules import BY_VERSION, Facts, Step, combined, effective, judge, replaced, same, wins
from cdc.target.base import MIXED_REASON, PoisonRow

if TYPE_CHECKING:
    from cdc.target.memory import MemoryTarget, StoredRow, Table

_NOBODY = Position(0, 0, 0, 0)


def write_ruled(target: MemoryTarget, table: TargetTable, stored: Table, write: Write, index: int) -> Decision:
    """One write that is not stale."""
    row, current = write.row, stored.rows.get(write.row.key)
    whole, values = True, row.values
    known = (current and current.position, stored.tombstones.get(row.key))
    if row.partial:
        whole = row.moved_from is not None
        if row.moved_from is not None and row.position not in known:
            lent = stored.moved.get((row.moved_from, row.key, row.position.place))
            if lent is None:
                return Decision(Outcome.PARKED, "moved_values_missing")
            values = _with_key(table, tuple(replaced(lent, effective(table, row))), row.key)
    step, decision = judge(table, write, _facts(table, stored, write), whole)
    if step is Step.MIXED:
        return Decision(Outcome.PARKED, MIXED_REASON)
    if step is Step.NOTHING:
        return _telling(table, row, decision, _values(current), stored)
    before = _values(current)
    if row.op is RowOp.DELETE:
        _delete(table, stored, row, step)
    elif step is Step.KEEP:
        _keep(current, row)
    else:
        assert values is not None
        new = values
        if current is not None:
            over = values if row.moved_from is not None else effective(table, row)
            new = combined(table, current.values, over) if step is Step.MERGE else tuple(replaced(current.values, over))
        if not target.accepts(table, new):
            raise PoisonRow("the table refuses the row", reason="refused", index=index)
        _put(stored, row, new, current)
    return _telling(table, row, decision, before, stored)


def _values(row: StoredRow | None) -> tuple[Value, ...] | None:
    return None if row is None else row.values


def _telling(
    table: TargetTable, row: MappedRow, decision: Decision, before: tuple[Value, ...] | None, stored: Table
) -> Decision:
    """The decision, with what was seen where it speaks of a conflict."""
    if decision.conflict is None:
        return decision
    now = stored.rows.get(row.key)
    told = seen(
        None if before is None else named(table.columns, before),
        None if row.values is None else named(table.columns, effective(table, row)),
        None if now is None else named(table.columns, now.values),
    )
    return msgspec.structs.replace(decision, conflict=msgspec.structs.replace(decision.conflict, seen=told))


def _put(stored: Table, row: MappedRow, values: tuple[Value, ...], current: StoredRow | None) -> None:
    if row.moved_from is not None:
        stored.moved.pop((row.moved_from, row.key, row.position.place), None)
    time_us = _time(row)
    if time_us is None and current is not None:
        time_us = current.time_us
    stored.put(row.key, values, row.position, time_us)


def _keep(current: StoredRow | None, row: MappedRow) -> None:
    if current is not None and current.position != _NOBODY:
        current.position = row.position


def _delete(table: TargetTable, stored: Table, row: MappedRow, step: Step) -> None:
    current = stored.rows.get(row.key)
    if row.moved_to is not None and current is not None:
        stored.moved[row.key, row.moved_to, row.position.place] = current.values
    if step is Step.KEEP:
        _keep(current, row)
    elif table.on_delete is DeletePolicy.SOFT and current is not None:
        current.deleted, current.position = True, row.position
    else:
        stored.rows.pop(row.key, None)
        stored.tombstones[row.key] = row.position


def _facts(table: TargetTable, stored: Table, write: Write) -> Facts:
    current, buried = stored.rows.get(write.row.key), stored.tombstones.get(write.row.key)
    if current is None:
        return Facts(False, None, buried, stored.floor)
    differs, columns = _differs(table, write, current)
    return Facts(
        True,
        None if current.position == _NOBODY else current.position,
        buried,
        stored.floor,
        current.deleted,
        differs,
        columns,
        _winners(table, write.row, current),
    )


def _differs(table: TargetTable, write: Write, current: StoredRow) -> tuple[bool, tuple[int, ...]]:
    """Against what the first change of a chain expects."""
    rules, row, first = table.rules, write.row, write.rows[0]
    assert rules is not None
    if rules.detect is Detect.COMMIT_TIME:
        there, incoming = current.time_us, _time(first)
        return there is not None and incoming is not None and there > incoming, ()
    if rules.detect is Detect.VERSION:
        assert rules.version is not None
        image = first.values or first.before
        version = current.values[rules.version]
        if image is None or version is None:
            return False, ()
        kind = table.columns[rules.version].type.kind
        return not wins(Action.NEWEST, version, image[rules.version], kind), ()
    if not rules.reads_before or row.before is None:
        return False, ()
    columns = tuple(
        index
        for index in rules.compared
        if row.before[index] is not UNAVAILABLE
        and not same(table.columns[index].type.kind, row.before[index], current.values[index])
    )
    return bool(columns), columns


def _winners(table: TargetTable, row: MappedRow, current: StoredRow) -> frozenset[Action]:
    rules = table.rules
    assert rules is not None
    if rules.detect is Detect.COMMIT_TIME:
        return frozenset(each for each in BY_VERSION if wins(each, current.time_us, _time(row), Kind.INTEGER))
    if rules.version is None:
        return frozenset()
    image = row.values or row.before
    incoming = None if image is None else image[rules.version]
    kind = table.columns[rules.version].type.kind
    return frozenset(each for each in BY_VERSION if wins(each, current.values[rules.version], incoming, kind))


def _time(row: MappedRow) -> int | None:
    return None if row.snapshot else row.time_us


def _with_key(table: TargetTable, values: tuple[Value, ...], key: tuple[Value, ...]) -> tuple[Value, ...]:
    made = list(values)
    for index, value in zip(table.key_indexes, key, strict=True):
        made[index] = value
    return tuple(made)
