"""The oracle's half for tables with conflict rules: one change against the row as it is, nothing folded, no speed.

What the words mean is said in `cdc.rules`, and written down here a second time, on its own: the write paths, which
share the functions of `cdc.rules`, must equal this. Only the order of values is taken from there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cdc.model import (
    APPLIED,
    UNAVAILABLE,
    Action,
    Combine,
    Conflict,
    ConflictType,
    Decision,
    DeletePolicy,
    Detect,
    MappedRow,
    Outcome,
    RowOp,
    Rules,
    TargetTable,
    Unit,
    Value,
)
from cdc.rules import action_of, order_of, same, stopped

if TYPE_CHECKING:
    from cdc.engine.oracle import Oracle, Row

Values = tuple[Value, ...]


def decide(oracle: Oracle, row: MappedRow) -> Decision:
    """Take a change that is not stale."""
    current = oracle.rows.get(row.key)
    buried = oracle.tombstones.get(row.key)
    if row.op is RowOp.DELETE and oracle.table.on_delete is DeletePolicy.IGNORE:
        return oracle._delete(row)
    if row.position in (current and current.position, buried):
        return APPLIED  # it was here before
    if row.op is RowOp.DELETE:
        return _delete(oracle, row, current)
    return _upsert(oracle, row, current, buried is not None)


def _delete(oracle: Oracle, row: MappedRow, current: Row | None) -> Decision:
    type_ = None
    if current is not None and _is_theirs(current):
        type_ = ConflictType.DELETE_RECENTLY_UPDATED
    elif current is None or current.deleted:
        type_ = ConflictType.DELETE_MISSING
    elif _differs(oracle.table, row, current):
        type_ = ConflictType.DELETE_RECENTLY_UPDATED
    action, decision = _ruled(oracle.table, row, type_)
    if action is Action.PARK:
        return decision
    if row.moved_to is not None and current is not None:
        oracle.moved[row.key, row.moved_to, row.position.place] = current.values
    if current is not None and _stays(oracle.table, row, current, action):
        return _keep(current, row, decision)
    oracle._remove(row.key, row.position)
    return _skipped(decision) if action is Action.SKIP else decision


def _upsert(oracle: Oracle, row: MappedRow, current: Row | None, buried: bool) -> Decision:
    values = row.values
    assert values is not None
    if row.partial and row.moved_from is not None:
        lent = oracle.moved.get((row.moved_from, row.key, row.position.place))
        if lent is None:
            return Decision(Outcome.PARKED, "moved_values_missing")
        values = tuple(old if new is UNAVAILABLE else new for old, new in zip(lent, values, strict=True))
        for index, value in zip(oracle.table.key_indexes, row.key, strict=True):
            values = (*values[:index], value, *values[index + 1 :])
    action, decision = _ruled(oracle.table, row, _type_of(oracle.table, row, current, buried))
    if action is Action.PARK:
        return decision
    if current is None:
        if action in (Action.SKIP, Action.TARGET_WINS):
            return _skipped(decision)
        if UNAVAILABLE in values:
            return Decision(Outcome.PARKED, "update_missing")
        new = values
    else:
        if _stays(oracle.table, row, current, action):
            return _keep(current, row, decision)
        new = _written(oracle.table, row, values, current.values, as_it_is=action is Action.SOURCE_WINS)
    if not oracle.accepts(new):
        return Decision(Outcome.PARKED, "refused")
    if row.moved_from is not None:
        oracle.moved.pop((row.moved_from, row.key, row.position.place), None)
    time_us = _time(row)
    if time_us is None and current is not None:
        time_us = current.time_us
    oracle.put(row.key, new, row.position, time_us)
    return decision


def _type_of(table: TargetTable, row: MappedRow, current: Row | None, buried: bool) -> ConflictType | None:
    if current is not None and not current.deleted and row.moved_from is not None:
        return ConflictType.KEY_EXISTS
    if current is not None and _is_theirs(current):
        return ConflictType.INSERT_EXISTS if row.created else ConflictType.UPDATE_ORIGIN_DIFFERS
    if current is not None and not current.deleted:
        return ConflictType.UPDATE_DIFFERING if _differs(table, row, current) else None
    if row.created or row.moved_from is not None:
        return None
    if current is not None or buried:
        return ConflictType.UPDATE_RECENTLY_DELETED
    return ConflictType.UPDATE_MISSING


def _ruled(table: TargetTable, row: MappedRow, type_: ConflictType | None) -> tuple[Action, Decision]:
    """What the rules say about a conflict; without one, the change is merged."""
    if type_ is None:
        return Action.MERGE, APPLIED
    action = action_of(table.rules, type_)
    if action is Action.ERROR:
        raise stopped(table, row, type_)
    if action is Action.PARK:
        return action, Decision(Outcome.PARKED, type_, conflict=Conflict(type_, action))
    return action, Decision(Outcome.APPLIED, f"{type_}:{action}", conflict=Conflict(type_, action))


def _skipped(decision: Decision) -> Decision:
    return Decision(Outcome.SKIPPED, decision.reason, conflict=decision.conflict)


def _keep(current: Row, row: MappedRow, decision: Decision) -> Decision:
    if not _is_theirs(current):
        current.position = row.position
    return _skipped(decision)


def _is_theirs(current: Row) -> bool:
    return current.position < (1,)


def _stays(table: TargetTable, row: MappedRow, current: Row, action: Action) -> bool:
    """Whether the row is left as it is."""
    if action in (Action.TARGET_WINS, Action.SKIP, Action.INSERT_OR_SKIP):
        return True
    if action in (Action.NEWEST, Action.UPDATE_IF_NEWER, Action.OLDEST):
        there, incoming = _versions(table, row, current)
        if there is None:
            return False
        if incoming is None:
            return True
        if action is Action.NEWEST:
            return bool(incoming < there)
        return bool(incoming <= there if action is Action.UPDATE_IF_NEWER else incoming >= there)
    return False


def _versions(table: TargetTable, row: MappedRow, current: Row) -> tuple[Value, Value]:
    """What says which is newer, of the row and of the change, in comparable form."""
    rules = table.rules
    assert rules is not None
    if rules.detect is Detect.COMMIT_TIME:
        return current.time_us, _time(row)
    assert rules.version is not None
    key = order_of(table.columns[rules.version].type.kind)
    image = row.values if row.op is RowOp.UPSERT else row.before
    there, incoming = current.values[rules.version], None if image is None else image[rules.version]
    return None if there is None else key(there), None if incoming is None else key(incoming)


def _time(row: MappedRow) -> int | None:
    return None if row.snapshot else row.time_us


def _differs(table: TargetTable, row: MappedRow, current: Row) -> bool:
    """Whether somebody changed the row since the change before this one."""
    rules = table.rules
    assert rules is not None
    if rules.detect is Detect.POSITION:
        return False
    if rules.detect is Detect.COMMIT_TIME:
        there, incoming = current.time_us, _time(row)
        return there is not None and incoming is not None and there > incoming
    if rules.detect is Detect.VERSION:
        if row.op is RowOp.DELETE and row.before is None:
            return False
        there, incoming = _versions(table, row, current)
        return there is not None and (incoming is None or there > incoming)
    if row.before is None:
        return False
    return any(
        row.before[index] is not UNAVAILABLE
        and not same(table.columns[index].type.kind, row.before[index], current.values[index])
        for index in rules.compared
    )


def _written(table: TargetTable, row: MappedRow, values: Values, there: Values, *, as_it_is: bool) -> Values:
    """The row after the change."""
    rules = table.rules
    assert rules is not None
    new = list(values)
    for index in rules.compared:
        unchanged = row.before is not None and row.before[index] is UNAVAILABLE
        if rules.detect is Detect.CHANGED_COLUMNS and unchanged:
            new[index] = UNAVAILABLE
    result = [old if value is UNAVAILABLE else value for old, value in zip(there, new, strict=True)]
    for unit in () if as_it_is else rules.units:
        if not _takes(table, rules, unit, new, there):
            for index in unit.columns:
                result[index] = there[index]
    return tuple(result)


def _takes(table: TargetTable, rules: Rules, unit: Unit, new: list[Value], there: Values) -> bool:
    """Whether columns that belong together get what the change says."""
    given = [new[index] for index in unit.columns if new[index] is not UNAVAILABLE]
    held = [there[index] for index in unit.columns]
    if unit.combine is Combine.TARGET_WINS:
        return False
    if unit.combine is Combine.KEEP_IF_NULL:
        return given.count(None) < len(given)
    if unit.combine is Combine.FILL_NULLS:
        return held.count(None) == len(held)
    if unit.combine in (Combine.MAX, Combine.MIN):
        if given in ([], [None]):
            return False
        if held == [None]:
            return True
        key = order_of(table.columns[unit.columns[0]].type.kind)
        return bool(key(given[0]) > key(held[0]) if unit.combine is Combine.MAX else key(given[0]) < key(held[0]))
    assert unit.version is not None
    before, after = there[unit.version], new[unit.version]
    if before is None or after is None:
        return before is None
    key = order_of(table.columns[unit.version].type.kind)
    return bool(key(after) >= key(before) if unit.combine is Combine.NEWEST else key(after) < key(before))
