"""The oracle of a history: what must come out where a table keeps one row a change (`TargetTable.history`).

The table is a function of the *set* of changes that were taken in: neither their order nor a repetition matters.
Nothing is worked out as changes come; everything is, from all of them, when somebody looks:

* change       a row, found by the row's key, the position and the operation. One that comes again replaces itself.
* order        of the changes of a key: their positions; at one position the delete (a key that changes) comes first.
* partial      what a change does not bring is what the newest change before it brought, deletes passed over.
* waits        a partial change is parked (`partial_image`) until a change that tells the whole row stands before it; it
               is tried again whenever another change comes.
* gone         a delete's row holds the key and nothing else; so do those of truncates and sweeps.
* truncate     for each key that has a row at its position: an operation 't' at that position, at the truncate's time.
* sweep        for each key that has a row, from before the snapshot, and is not among the kept ones: an operation 's'
               at the snapshot's position, dated as the snapshot's rows. Found out once, then a change as any other.
* valid_to     of a change, the time of the next one; of one after which the row is gone, its own time.
* is_current   the last change of a key, if the row is there after it.
* parked       a change that the target refuses waits alone: others of its key are other rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from cdc.model import (
    APPLIED,
    GONE,
    HISTORY_COLUMNS,
    HISTORY_KEYS,
    UNAVAILABLE,
    Decision,
    MappedRow,
    Outcome,
    Position,
    RowOp,
    TargetTable,
    TruncatePolicy,
    Value,
)

WAITS = Decision(Outcome.PARKED, "partial_image")
REFUSED = Decision(Outcome.PARKED, "refused")

Key = tuple[Value, ...]
Values = tuple[Value, ...]


class Change(NamedTuple):
    """One row of a history, as it was brought: `values` without what tells about the change."""

    key: Key
    position: bytes
    op: str
    values: Values
    at: Value

    @property
    def order(self) -> tuple[bytes, bool]:
        return self.position, self.op not in GONE


class Shown(NamedTuple):
    """A change as a reader of a table of versions sees it."""

    values: Values
    valid_to: Value
    current: bool


@dataclass
class HistoryOracle:
    """State of one history. `accepts(values)`: whether the target would take a row."""

    table: TargetTable
    accepts: Callable[[Values], bool] = lambda values: True
    time: Callable[[MappedRow], Value] = lambda row: row.time_us
    changes: dict[Key, Change] = field(default_factory=dict)  # by the whole key
    truncates: dict[bytes, Value] = field(default_factory=dict)  # times by position
    parked: dict[Key, MappedRow] = field(default_factory=dict)

    def play(self, tape: Iterable[MappedRow]) -> None:
        for row in tape:
            self.apply(row)

    def apply(self, row: MappedRow) -> Decision:
        if row.op is RowOp.TRUNCATE:
            assert self.table.on_truncate is TruncatePolicy.APPLY, "the others are the engine's"
            self.truncates[row.position.pack()] = self.time(row)
            return APPLIED
        decision = self._take(row)
        if decision is not APPLIED:
            self.parked[row.key] = row
        self._heal()
        return decision

    def retry(self) -> None:
        """A person's retry of everything that is parked."""
        for key, row in list(self.parked.items()):
            if self._take(row) is APPLIED:
                del self.parked[key]
        self._heal()

    def sweep(self, snapshot: Position, keep: Iterable[Key]) -> list[Key]:
        packed, kept = snapshot.pack(), {key[: self.width] for key in keep}
        at = max((each.at for each in self.changes.values() if each.position <= packed), default=None)
        gone = []
        for key, changes in self._by_key().items():
            last = changes[-1]
            if last.position < packed and last.op not in GONE and key not in kept:
                gone.append(key)
                self.changes[*key, packed, "s"] = Change(key, packed, "s", self._key_only(key), at)
        return gone

    def visible(self) -> dict[Key, Shown]:
        """What a reader sees, by whole key: the table's columns, `valid_to`, `is_current`."""
        found: dict[Key, Shown] = {}
        for key, changes in self._by_key().items():
            for number, each in enumerate(changes):
                gone, after = each.op in GONE, changes[number + 1 :]
                values = (*self._filled(changes[:number], each), each.op, each.at, each.position)
                valid_to = each.at if gone else after[0].at if after else None
                found[*key, each.position, each.op] = Shown(values, valid_to, not after and not gone)
        return found

    @property
    def width(self) -> int:
        return len(self.table.key) - HISTORY_KEYS

    def _take(self, row: MappedRow) -> Decision:
        assert row.values is not None
        *key, position, op = row.key
        values, (_, at, _) = row.values[:-HISTORY_COLUMNS], row.values[-HISTORY_COLUMNS:]
        change = Change(tuple(key), position, op, values, at)
        if UNAVAILABLE in values and row.key not in self.changes and not self._stands(change):
            return WAITS
        if not self.accepts(values):
            return REFUSED
        self.changes[row.key] = change
        return APPLIED

    def _stands(self, change: Change) -> bool:
        """Whether the row is known as a whole before a partial change of it."""
        before = [each for each in self._by_key().get(change.key, []) if each.position < change.position]
        return any(each.op not in GONE and UNAVAILABLE not in each.values for each in before)

    def _heal(self) -> None:
        waiting = True
        while waiting:
            waiting = False
            for key, row in list(self.parked.items()):
                if UNAVAILABLE in (row.values or ()) and self._take(row) is APPLIED:
                    del self.parked[key]
                    waiting = True

    def _by_key(self) -> dict[Key, list[Change]]:
        """All changes in order, with those that truncates make."""
        found = dict[Key, list[Change]]()
        for each in sorted(self.changes.values(), key=lambda each: each.order):
            found.setdefault(each.key, []).append(each)
        for key, changes in found.items():
            for position, at in sorted(self.truncates.items()):
                before = [each for each in changes if each.position < position]
                if before and before[-1].op not in GONE:
                    changes.insert(len(before), Change(key, position, "t", self._key_only(key), at))
        return found

    def _filled(self, before: Sequence[Change], change: Change) -> Values:
        values = list(change.values)
        for index, value in enumerate(values):
            if value is UNAVAILABLE:
                brought = [each.values[index] for each in before if each.op not in GONE]
                values[index] = next((each for each in reversed(brought) if each is not UNAVAILABLE), None)
        return tuple(values)

    def _key_only(self, key: Key) -> Values:
        values: list[Value] = [None] * (len(self.table.columns) - HISTORY_COLUMNS)
        for index, value in zip(self.table.key_indexes[: self.width], key, strict=True):
            values[index] = value
        return tuple(values)
