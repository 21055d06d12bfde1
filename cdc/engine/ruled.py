"""What the engine itself decides, whatever the target: clocks, refused rows, and what a filter may have left out."""

from __future__ import annotations

import time
from collections.abc import Sequence

from cdc.engine.oracle import FILTERED
from cdc.model import Action, Conflict, ConflictType, Decision, Detect, MappedRow, Outcome, TargetTable, Write
from cdc.rules import action_of, stopped

CLOCK_SKEW = "clock_skew"
_REFUSED = {
    "unique_violation": ConflictType.SECOND_UNIQUE_VIOLATION,
    ConflictType.MULTIPLE_UNIQUE_CONFLICTS: ConflictType.MULTIPLE_UNIQUE_CONFLICTS,
    ConflictType.FOREIGN_KEY_MISSING: ConflictType.FOREIGN_KEY_MISSING,
    ConflictType.VALUE_OUT_OF_RANGE: ConflictType.VALUE_OUT_OF_RANGE,
}
"""Reasons for which a target refuses a row, as types of conflict."""


def now_us() -> int:
    return time.time_ns() // 1000


def dated_ahead(table: TargetTable, writes: Sequence[Write], now: int) -> dict[int, Decision]:
    """The writes that are parked because a change of theirs is dated in the future, beyond what clocks may differ:
    where commit times decide, it would win over all others for as long."""
    rules = table.rules
    if rules is None or rules.detect is not Detect.COMMIT_TIME:
        return {}
    latest = now + rules.max_skew_us
    detail = f"committed more than {rules.max_skew_us // 1_000_000} s ahead of this machine's clock"
    return {
        index: Decision(Outcome.PARKED, CLOCK_SKEW, detail)
        for index, write in enumerate(writes)
        if any(not row.snapshot and (row.time_us or 0) > latest for row in write.rows)
    }


def outside(writes: Sequence[Write], decisions: dict[int, Decision]) -> dict[int, Decision]:
    """The decisions on a round; a change that is only for a row that is there has nothing to say without one."""
    for index, decision in decisions.items():
        if decision.reason == "update_missing" and writes[index].row.filtered:
            decisions[index] = FILTERED
    return decisions


def refused(table: TargetTable, row: MappedRow, reason: str) -> Decision | None:
    """What a rule says about a row that the target refused: skip it. None: it is parked. Raises `Terminal` where the
    rule is to stop."""
    type_ = _REFUSED.get(reason)
    if table.rules is None or type_ is None:
        return None
    action = action_of(table.rules, type_)
    if action is Action.ERROR:
        raise stopped(table, row, type_)
    if action is not Action.SKIP:
        return None
    return Decision(Outcome.SKIPPED, f"{type_}:{action}", conflict=Conflict(type_, action))
