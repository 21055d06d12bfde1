"""The oracle: what must come out. A plain, slow, pure model of one target table, one change at a time.

Every write path (batched, partial, retried, rewound, bulk) is compared with this on the same tape of mapped rows, on
the memory target and on real databases. Nothing here folds, batches or optimises; if a rule is unclear, it is this file
that says what is right:

* guard        a change applies when its position is >= the newest of: the row's, its tombstone's, the table's floor.
               Equal positions apply in arrival order.
* full image   replaces the row.
* partial      keeps the columns it lacks. On a missing row it is parked (`update_missing`) until a change that brings
               the row arrives; it never inserts NULLs.
* delete       removes the row (or marks it: soft) and leaves a tombstone.
* filter       what is outside of a mapping's filter comes as a delete, or not at all; a partial image that does not
               tell on which side its row is (`filtered`) changes a row that is there, and is nothing without one.
* key change   delete(K1, moved_to K2) keeps K1's last values until create(K2, moved_from K1) at the same place takes
               from them what it lacks; without them the create is parked (`moved_values_missing`).
* undelete     a create or update after a soft delete brings the row back and clears its mark.
* truncate     removes (soft: marks) every row positioned before it and raises the table's floor. By policy it stops the
               pipeline instead, or is parked by itself: the table's rows go on, and a retry applies it where it stands.
* parked       later changes of a parked key are held behind it. A key parked only because something is missing heals
               when it comes: its queue is decided again in the order it arrived, and
               what still waits after each change that went through.
* rules        of a table that has some: oracle_rules.py says what they make of a change that is not stale.
* supersede    by rule, the same goes for keys parked for any other reason: a later whole image (or delete) of the key
               is applied, and what waits from before it is needless. What builds on the row as it is still waits.
* aside        a record that a person asked to set aside is parked, whatever it says, and only a retry of its own
               applies it.
* other rows   what foreign keys and unique keys make of several tables is told in oracle_related.py, by `blocked`.
* sweep        after a repeated snapshot, rows positioned before it are gone at the source: they go here too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from cdc.engine import oracle_rules
from cdc.errors import Terminal
from cdc.model import (
    APPLIED,
    STALE,
    UNAVAILABLE,
    Decision,
    DeletePolicy,
    MappedRow,
    Outcome,
    Position,
    RowOp,
    TargetTable,
    TruncatePolicy,
    Value,
)
from cdc.target.base import ON_REQUEST, TRUNCATE, WAITING

FILTERED = Decision(Outcome.SKIPPED, "filtered")
IGNORED_DELETE = Decision(Outcome.SKIPPED, "ignored_delete")
UPDATE_MISSING = Decision(Outcome.PARKED, "update_missing")
MOVED_VALUES_MISSING = Decision(Outcome.PARKED, "moved_values_missing")
HELD = Decision(Outcome.PARKED, "held")
REFUSED = Decision(Outcome.PARKED, "refused")
SET_ASIDE = Decision(Outcome.PARKED, ON_REQUEST)
PARKED_TRUNCATE = Decision(Outcome.PARKED, TRUNCATE)

HEALING = WAITING | {"update_missing", "moved_values_missing", "partial_image"}
"""Reasons that end by themselves when the missing change arrives; every other one waits for a person.
`partial_image` is said only by targets that keep no values: a whole image of the row is what it waits for."""

Key = tuple[Value, ...]
BEGINNING = Position(0, 0, 0, 0)


@dataclass
class Row:
    """`position`: `BEGINNING` for a row that somebody else made. `time_us`: when its change was committed."""

    values: tuple[Value, ...]
    position: Position
    deleted: bool = False  # only under the soft policy
    time_us: int | None = None


@dataclass
class Queue:
    """A parked key: the changes set aside, and why the first of them could not be applied."""

    reason: str
    rows: list[MappedRow]


@dataclass
class Oracle:
    """State of one target table. `accepts(values)` says whether the target would take a row (constraints, types);
    `aside`: offsets of records that a person asked to set aside; `blocked(key, values)`: why other rows stand in the
    way of a row (None: of its going away), or ''."""

    table: TargetTable
    accepts: Callable[[tuple[Value, ...]], bool] = lambda values: True
    aside: set[int] = field(default_factory=set)
    blocked: Callable[[Key, tuple[Value, ...] | None], str] = lambda key, values: ""
    rows: dict[Key, Row] = field(default_factory=dict)
    tombstones: dict[Key, Position] = field(default_factory=dict)
    moved: dict[tuple[Key, Key, Position], tuple[Value, ...]] = field(default_factory=dict)
    parked: dict[Key, Queue] = field(default_factory=dict)
    truncates: list[MappedRow] = field(default_factory=list)  # parked ones
    floor: Position = BEGINNING

    def play(self, tape: Iterable[MappedRow]) -> list[Decision]:
        return [self.apply(row) for row in tape]

    def apply(self, row: MappedRow) -> Decision:
        """Take one change. The decision is the first word on it: a parked one may be applied later, by healing.
        Raises `Terminal` for a truncate that the policy refuses."""
        if row.op is RowOp.TRUNCATE:
            decision = self._met_truncate(row)
        elif row.key in self.parked:
            self.parked[row.key].rows.append(row)
            decision = SET_ASIDE if row.record.offset in self.aside else HELD
            if self.table.supersede and not needs_what_is_there(row):
                self._retry(row.key)
        else:
            decision = self._decide(row)
            if decision.outcome is Outcome.PARKED:
                self.parked[row.key] = Queue(decision.reason, [row])
        self._heal()
        return decision

    def sweep(self, snapshot: Position) -> list[Key]:
        """Remove the rows that a repeated snapshot at `snapshot` did not meet; parked keys stay."""
        gone = [key for key, row in self.rows.items() if row.position < snapshot and key not in self.parked]
        for key in gone:
            self._remove(key, snapshot)
        return gone

    def visible(self) -> dict[Key, tuple[Value, ...]]:
        """What a reader of the target sees: key → values, then the soft-delete mark where the table has one."""
        if self.table.on_delete is DeletePolicy.SOFT:
            return {key: (*row.values, row.deleted) for key, row in self.rows.items()}
        return {key: row.values for key, row in self.rows.items()}

    def _newest(self, key: Key) -> Position:
        row = self.rows.get(key)
        return max(row.position if row else BEGINNING, self.tombstones.get(key, BEGINNING), self.floor)

    def _decide(self, row: MappedRow) -> Decision:
        if row.record.offset in self.aside:
            return SET_ASIDE
        if row.position < self._newest(row.key):
            return STALE
        if self.table.rules is not None:
            return oracle_rules.decide(self, row)
        if row.op is RowOp.DELETE:
            return self._delete(row)
        return self._upsert(row)

    def _delete(self, row: MappedRow) -> Decision:
        current = self.rows.get(row.key)
        if row.moved_to is not None and current is not None:
            self.moved[row.key, row.moved_to, row.position.place] = current.values
        if self.table.on_delete is DeletePolicy.IGNORE:
            return IGNORED_DELETE
        if self.table.on_delete is DeletePolicy.DELETE and (reason := self.blocked(row.key, None)):
            return Decision(Outcome.PARKED, reason)
        self._remove(row.key, row.position)
        return APPLIED

    def _remove(self, key: Key, position: Position) -> None:
        row = self.rows.get(key)
        if self.table.on_delete is DeletePolicy.SOFT and row is not None:
            row.deleted, row.position = True, position
        else:
            self.rows.pop(key, None)
            self.tombstones[key] = position

    def _upsert(self, row: MappedRow) -> Decision:
        assert row.values is not None
        values, current = row.values, self.rows.get(row.key)
        if row.partial:
            redelivered = current is not None and current.position == row.position
            if row.moved_from is not None and not redelivered:
                lent = self.moved.get((row.moved_from, row.key, row.position.place))
                if lent is None:
                    return MOVED_VALUES_MISSING
                values = _overlay(lent, values, self.table, row.key)
            elif current is None:
                return FILTERED if row.filtered else UPDATE_MISSING
            else:
                values = _overlay(current.values, values, self.table, row.key)
        if not self.accepts(values):
            return REFUSED
        if reason := self.blocked(row.key, values):
            return Decision(Outcome.PARKED, reason)
        if row.moved_from is not None:
            self.moved.pop((row.moved_from, row.key, row.position.place), None)
        self.put(row.key, values, row.position)
        return APPLIED

    def put(self, key: Key, values: tuple[Value, ...], position: Position, time_us: int | None = None) -> None:
        self.rows[key] = Row(values, position, False, time_us)
        self.tombstones.pop(key, None)

    def _met_truncate(self, row: MappedRow) -> Decision:
        aside = row.record.offset in self.aside
        if aside or self.table.on_truncate is TruncatePolicy.PARK:
            self.truncates.append(row)
            return SET_ASIDE if aside else PARKED_TRUNCATE
        if self.table.on_truncate is TruncatePolicy.REFUSE:
            raise Terminal("a truncate", where=row.record.where)
        return self._truncate(row.position)

    def retry_truncates(self) -> None:
        """A person's retry of all parked truncates."""
        self.aside -= {row.record.offset for row in self.truncates}
        for row in self.truncates:
            self._truncate(row.position)
        self.truncates.clear()
        self._heal()

    def _truncate(self, position: Position) -> Decision:
        if position < self.floor:
            return STALE
        self.floor = position
        for key in [key for key, row in self.rows.items() if row.position < position]:
            if self.table.on_delete is DeletePolicy.SOFT:
                self.rows[key].deleted, self.rows[key].position = True, position
            elif self.table.on_delete is DeletePolicy.DELETE:
                del self.rows[key]
        return APPLIED

    def _heal(self) -> bool:
        """Run queues that wait for something missing until nothing moves any more; whether anything did."""
        moved, ever = True, False
        while moved:
            moved = False
            for key in [key for key, queue in self.parked.items() if queue.reason in HEALING]:
                moved |= self._retry(key)
            ever |= moved
        return ever

    def retry(self, key: Key) -> None:
        """A person's retry of all records of a key: also when it does not heal by itself."""
        self.aside -= {row.record.offset for row in self.parked[key].rows}
        self._retry(key)
        self._heal()

    def _retry(self, key: Key) -> bool:
        """Decide a key's queue anew in the order it arrived; True when it got shorter."""
        queue = self.parked.pop(key)
        waiting: list[MappedRow] = []
        for number, row in enumerate(queue.rows):
            if must_wait(row, waiting):
                waiting.append(row)
                continue
            decision = self._decide(row)
            if decision.outcome is not Outcome.PARKED:
                if supersedes(row, decision):
                    waiting = [other for other in waiting if other.position > row.position]
                waiting = self._again(waiting)
                if waiting and not self.table.supersede and self._decide(waiting[0]).reason not in HEALING:
                    waiting += queue.rows[number + 1 :]  # it waits for a person now, and they behind it
                    break
            elif decision.reason in HEALING or self.table.supersede:
                waiting.append(row)
            else:
                waiting += queue.rows[number:]
                break
        waiting = self._again(waiting)
        if waiting:
            self.parked[key] = Queue(self._decide(waiting[0]).reason, waiting)
        return len(waiting) < len(queue.rows)

    def _again(self, waiting: list[MappedRow]) -> list[MappedRow]:
        """Decide what waited, in the order it arrived, up to the first that still cannot be applied."""
        while waiting and self._decide(waiting[0]).outcome is not Outcome.PARKED:
            waiting = waiting[1:]
        return waiting


def needs_what_is_there(row: MappedRow) -> bool:
    """Whether a change builds on the row as it is, so that it may not pass a change of its key that waits."""
    return row.partial or row.moved_to is not None


def may_pass(row: MappedRow) -> bool:
    """Whether a change may go before newer ones of its key that wait, which may be waiting for it: a whole row, or half
    of a key change."""
    return not row.partial or row.moved_from is not None


def must_wait(row: MappedRow, waiting: Sequence[MappedRow]) -> bool:
    """Whether a change of a key stays behind those of it that wait: it builds on them, or one of them must still lend
    its values to the row's next key, which it could not after this one has taken the row's place."""
    before = [other for other in waiting if other.position <= row.position] if may_pass(row) else waiting
    return bool(before) and (needs_what_is_there(row) or any(other.moved_to is not None for other in before))


def supersedes(row: MappedRow, decision: Decision) -> bool:
    """Whether a decided change makes every earlier change of its key that still waits needless."""
    return not needs_what_is_there(row) and decision != IGNORED_DELETE


def _overlay(under: tuple[Value, ...], over: tuple[Value, ...], table: TargetTable, key: Key) -> tuple[Value, ...]:
    """`over` where it has values, `under` where it is UNAVAILABLE; key columns always from the change itself."""
    merged = [low if high is UNAVAILABLE else high for low, high in zip(under, over, strict=True)]
    for index, value in zip(table.key_indexes, key, strict=True):
        merged[index] = value
    return tuple(merged)
