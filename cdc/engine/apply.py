"""Apply a batch to a target: fold, write in rounds, set bad rows aside, move the watermarks; one transaction.

The first attempt writes without savepoints. Only when the target refuses something is the transaction rolled back and
played again with savepoints, halving until the bad rows are alone; those are parked, the rest is committed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import msgspec

from cdc.blocks import RowBlock, Writes, folded
from cdc.decisions import Conflicts, met
from cdc.engine.failpoints import Failpoint, nothing
from cdc.engine.fold import Fold
from cdc.engine.oracle import HEALING, may_pass, needs_what_is_there
from cdc.engine.order import Held, Waiting, parents_first
from cdc.engine.ruled import dated_ahead, now_us, outside, refused
from cdc.engine.truncates import parked_truncate, refused_truncate
from cdc.engine.unfold import committed_order, halves, unfolded
from cdc.errors import Poison
from cdc.model import (
    APPLIED,
    STALE,
    Conflict,
    Decision,
    MappedRow,
    Outcome,
    RowOp,
    TargetTable,
    TopicPartition,
    TruncatePolicy,
    Write,
)
from cdc.target.base import (
    MIXED_REASON,
    ON_PURPOSE,
    WAITING,
    Advance,
    Parked,
    RepeatedSnapshot,
    Tally,
    Target,
    Transaction,
    hold_of,
)
from cdc.target.related import FOREIGN_KEY_REFERENCED

_PUT_OFF = FOREIGN_KEY_REFERENCED.reason
_SUPERSEDED = Decision(Outcome.SUPERSEDED)


@dataclass
class TableBatch:
    """The rows of one target table, in topic order, all of one plan; among them what the mapping could not map.

    `writes`: all of them folded to one round, where they are plain enough.
    """

    table: TargetTable
    found: list[RowBlock | MappedRow | Parked] = field(default_factory=list)
    writes: Writes | None = None

    @property
    def rows(self) -> list[MappedRow | Parked]:
        """The rows one by one."""
        single: list[MappedRow | Parked] = []
        for each in self.found:
            if isinstance(each, RowBlock):
                single.extend(each)
            else:
                single.append(each)
        return single

    def fold(self) -> None:
        """Find out whether the rows are plain: blocks only, that fold to one round."""
        blocks = [each for each in self.found if isinstance(each, RowBlock)]
        self.writes = folded(self.table, blocks) if len(blocks) == len(self.found) else None


@dataclass
class Batch:
    """What one commit applies. `skipped` and `parked` were decided before the target was asked."""

    tables: list[TableBatch] = field(default_factory=list)
    moves: list[Advance] = field(default_factory=list)
    skipped: list[Tally] = field(default_factory=list)
    parked: list[Parked] = field(default_factory=list)
    repeated_snapshots: list[RepeatedSnapshot] = field(default_factory=list)


@dataclass
class Applied:
    """What a commit did: decisions by (outcome, reason), keys parked by it, held keys that may heal now, and of those
    that wait for another row their first row. `came`: rows that parked keys brought in."""

    tallies: Counter[tuple[str, TopicPartition, str, str]] = field(default_factory=Counter)
    parked: dict[Held, str] = field(default_factory=dict)
    may_heal: set[Held] = field(default_factory=set)
    waiting: dict[Held, tuple[TargetTable, MappedRow]] = field(default_factory=dict)
    came: list[tuple[TargetTable, MappedRow]] = field(default_factory=list)

    def number(self, outcome: Outcome) -> int:
        return sum(number for (_, _, name, _), number in self.tallies.items() if name == outcome)


class Applier:
    """Applies batches to one target and knows which keys are held.

    `held`: (mapping, hold) → reason of the first parked record; the engine fills it when partitions are taken.
    `waiting`: when those of them that wait for other rows are tried again.
    """

    def __init__(
        self,
        target: Target,
        failpoint: Failpoint = nothing,
        waiting: Waiting | None = None,
        sealed: Callable[[Parked], Parked] = lambda parked: parked,
    ) -> None:
        """`sealed`: a parked record as it is stored."""
        self.target = target
        self.sealed = sealed
        self.failpoint = failpoint
        self.held: dict[Held, str] = {}
        self.waiting = waiting or Waiting(target.related)

    def apply(self, batch: Batch) -> Applied:
        """One durable step. Raises `Fenced`, `Transient` or `Terminal`; then nothing of the batch is stored."""
        try:
            done = self._attempt(batch, careful=False)
        except Poison:
            self.target.forget()  # somebody may have changed the table since: it need not be the row's fault
            for table in batch.tables:
                self.target.prepare(table.table)
            done = self._attempt(batch, careful=True)
        self.held.update(done.parked)
        self.waiting.note(done.waiting)
        for table in batch.tables:
            done.may_heal |= self.waiting.came(table.table, table.found if table.writes is None else table.writes)
        return done

    def _attempt(self, batch: Batch, careful: bool) -> Applied:
        with self.target.begin(batch.moves) as transaction:
            work = Work(transaction, self.held, careful)
            for skipped in batch.skipped:
                work.done.tallies[skipped.mapping, skipped.partition, skipped.outcome, skipped.reason] += skipped.number
            for parked in batch.parked:
                work.park_record(parked)
            for table in self._in_order(batch.tables):
                work.table(table)
            work.finish()
            for found in batch.repeated_snapshots:
                transaction.repeated_snapshot(found)
            self.failpoint("rows_written")
            if work.set_aside:
                transaction.park(list(map(self.sealed, work.set_aside)))
                self.failpoint("parked")
            transaction.count(work.tallies())
            if work.conflicts.counts:
                transaction.note(work.conflicts)
            transaction.advance(batch.moves)
            self.failpoint("watermark_set")
            self.failpoint("pre_commit")
        self.failpoint("post_commit")
        return work.done

    def _in_order(self, tables: list[TableBatch]) -> list[TableBatch]:
        """Parents first; but of tables that begin with a truncate the children, before all others."""
        if len(tables) < 2:
            return tables
        first = parents_first([table.table for table in tables], self.target.related)
        places = {table: place for place, table in enumerate(first)}
        ordered = sorted(tables, key=lambda table: places[table.table])
        truncated = [table for table in reversed(ordered) if _begins_with_truncate(table)]
        return [*truncated, *(table for table in ordered if not _begins_with_truncate(table))]


def _begins_with_truncate(batch: TableBatch) -> bool:
    first = batch.found[0] if batch.found else None
    return isinstance(first, MappedRow) and first.op is RowOp.TRUNCATE


class Work:
    """The bookkeeping of one transaction: what was written, what is set aside, what it means for held keys."""

    def __init__(self, transaction: Transaction, held: dict[Held, str], careful: bool) -> None:
        self.transaction = transaction
        self.held = held
        self.careful = careful
        self.done = Applied()
        self.set_aside: list[Parked] = []
        self.conflicts = Conflicts()
        self._tables: list[TargetTable] = []  # as they were written
        self._put_off: dict[Held, tuple[TargetTable, Write, Decision]] = {}  # deletes of rows that others refer to

    def table(self, batch: TableBatch) -> None:
        """Write one table's rows, cut at truncates (rare; the engine starts a batch with each) and before a record that
        was set aside while rows of its key stand in front of it: those do not wait for it."""
        self._tables.append(batch.table)
        if batch.writes is not None and not self.careful and not self._meets_held(batch.table, batch.writes):
            self._plain(batch.table, batch.writes)
            return
        rows = batch.rows
        parked = any(isinstance(row, Parked) for row in rows)
        between: list[MappedRow | Parked] = []
        in_front: set[str] = set()  # keys of the rows in `between`, where it matters
        for row in rows:
            if row.hold in in_front if isinstance(row, Parked) else row.op is RowOp.TRUNCATE:
                self._rows(batch.table, between)
                between, in_front = [], set()
            if isinstance(row, Parked) or row.op is not RowOp.TRUNCATE:
                between.append(row)
                if parked and isinstance(row, MappedRow):
                    in_front.add(hold_of(row.key))
            else:
                self._truncate(batch.table, row)
        self._rows(batch.table, between)

    def finish(self) -> None:
        """All tables are written. Deletes that were put off are tried again, children first, as long as some of them go
        through; what rows still refer to then is parked."""
        while self._put_off:
            again, self._put_off = self._put_off, {}
            for table in reversed(self._tables):
                writes = [write for of, write, _ in again.values() if of == table]
                if writes:
                    self.round(table, writes)
            if len(self._put_off) == len(again):
                break
        for held in list(self._put_off):
            self._no_longer_put_off(held)

    def _no_longer_put_off(self, held: Held) -> None:
        if held in self._put_off:
            table, write, decision = self._put_off.pop(held)
            self.park(table, write.row, decision.reason, decision.detail)

    def _meets_held(self, table: TargetTable, writes: Writes) -> bool:
        """Whether some key of these writes is held. Most batches need no look at their rows."""
        holds = {hold for mapping, hold in (*self.held, *self.done.parked) if mapping == table.mapping}
        return bool(holds) and any(hold_of(key) in holds for key in writes.keys)

    def _plain(self, table: TargetTable, writes: Writes) -> None:
        """One round of full images and deletes. Of those that met a conflict or are stale only the first few become
        rows again; they are counted by where they stand in their blocks."""
        decisions = self.transaction.write(table, writes)
        if any(decision.outcome is Outcome.PARKED for decision in decisions.values()):
            self._settle(table, writes, decisions, {})
            return
        applied, superseded = writes.last, writes.superseded
        alike: dict[tuple[int, TopicPartition], list[int]] = {}  # many writes may have one decision
        for index, decision in decisions.items():
            alike.setdefault((id(decision), writes.partition(index)), []).append(index)
            if decision.outcome is not Outcome.APPLIED:  # nor are those applied that it took the place of
                before = writes.superseded_by(index)
                superseded.subtract(before)
                for place in before:
                    self._told(table, writes, place, decision, [index])
        for (_, place), indexes in alike.items():
            applied[place] -= len(indexes)
            self._told(table, writes, place, decisions[indexes[0]], indexes)
        for counted, outcome in ((applied, Outcome.APPLIED), (superseded, Outcome.SUPERSEDED)):
            for partition, number in counted.items():
                if number:
                    self.done.tallies[table.mapping, partition, outcome, ""] += number

    def _told(
        self, table: TargetTable, writes: Writes, place: TopicPartition, decision: Decision, indexes: Sequence[int]
    ) -> None:
        """Count one decision on several writes whose records stand in one partition."""
        self.done.tallies[table.mapping, place, decision.outcome, decision.reason] += len(indexes)
        conflict = met(decision)
        if conflict is not None:
            rows = (partial(_kept, writes, index) for index in indexes)
            self.conflicts.add(table, place, conflict, rows, len(indexes))

    def _truncate(self, table: TargetTable, row: MappedRow) -> None:
        if table.on_truncate is TruncatePolicy.REFUSE:
            raise refused_truncate(table, row)
        if table.on_truncate is TruncatePolicy.PARK:
            self.park_record(parked_truncate(table, row))
        else:
            self.decided(table, row, self.transaction.truncate(table, row.position, row.time_us))
            self.done.may_heal |= healing({**self.done.parked, **self.held}, table.mapping)

    def _rows(self, table: TargetTable, rows: list[MappedRow | Parked]) -> None:
        fold = Fold(table)
        any_held, add = self._any_held(), fold.add
        for row in rows:
            if isinstance(row, Parked):
                self.park_record(row)
                any_held = True
            elif not any_held or not self.hold_back(table, row):
                add(row)
        for stale in fold.stale:
            self.decided(table, stale, STALE)
        for ignored in fold.ignored:
            self.decided(table, ignored, Decision(Outcome.SKIPPED, "ignored_delete"))
        for writes in fold.rounds():
            self.round(table, writes)

    def round(self, table: TargetTable, writes: Sequence[Write]) -> None:
        """Write one round, then settle what could not simply be applied."""
        if self._any_held():
            writes = [write for write in writes if not self._hold_back_chain(table, write)]
        if not writes:
            return
        decisions, poisoned = self.write(table, writes)
        if not decisions and not poisoned:
            self._all_applied(table, writes)
        else:
            self._settle(table, writes, decisions, poisoned)

    def _settle(
        self,
        table: TargetTable,
        writes: Sequence[Write],
        decisions: Mapping[int, Decision],
        poisoned: Mapping[int, Poison],
    ) -> None:
        unfold: list[Write] = []
        in_order: list[Write] = []
        for index, write in enumerate(writes):
            decision = decisions.get(index)
            if index in poisoned:
                if poisoned[index].reason in WAITING and (write.chain or len(writes) > 1):
                    in_order.append(write)
                elif write.chain:
                    unfold.append(write)
                else:
                    self._set_aside(
                        table, write, Decision(Outcome.PARKED, poisoned[index].reason, poisoned[index].what)
                    )
            elif decision is None:
                self._all_applied(table, [write])
            elif decision.reason == MIXED_REASON or (decision.outcome is Outcome.PARKED and write.chain):
                unfold.append(write)
            elif decision.outcome is Outcome.PARKED:
                self._set_aside(table, write, decision)
            else:
                *before, last = write.rows
                for row in before:
                    self.decided(table, row, _SUPERSEDED if decision.outcome is Outcome.APPLIED else decision)
                self.decided(table, last, decision)
        for again in unfolded(unfold):
            self.round(table, again)
        for row in committed_order(in_order):
            self.round(table, [Write(row, row.position)])

    def _set_aside(self, table: TargetTable, write: Write, decision: Decision) -> None:
        """Park a row that the target does not take, put it off, or do with it what the table's rules say."""
        by_rule = refused(table, write.row, decision.reason)
        if by_rule is not None:
            self.decided(table, write.row, by_rule)
        elif decision.reason == _PUT_OFF:
            self._put_off[table.mapping, hold_of(write.row.key)] = (table, write, decision)
        else:
            self.park(table, write.row, decision.reason, decision.detail, decision.conflict)

    def write(self, table: TargetTable, writes: Sequence[Write]) -> tuple[dict[int, Decision], dict[int, Poison]]:
        """`Transaction.write`, isolating bad rows when careful: decisions and poison by index."""
        ahead = dated_ahead(table, writes, now_us())
        if ahead:
            rest = [index for index in range(len(writes)) if index not in ahead]
            found, bad = self.write(table, [writes[index] for index in rest]) if rest else ({}, {})
            ahead.update({rest[index]: decision for index, decision in found.items()})
            return ahead, {rest[index]: poison for index, poison in bad.items()}
        if not self.careful:
            return outside(writes, self.transaction.write(table, writes)), {}
        # A server checks constraints before the guard: a stale row must not be parked for being refused.
        stale = self._stale(table, writes, list(range(len(writes))))
        decisions = dict.fromkeys(stale, STALE)
        poisoned: dict[int, Poison] = {}
        stack = [[index for index in range(len(writes)) if index not in stale]]
        while stack:
            indexes = stack.pop()
            if not indexes:
                continue
            try:
                with self.transaction.savepoint():
                    found = self.transaction.write(table, [writes[index] for index in indexes])
            except Poison as poison:
                if len(indexes) == 1:
                    poisoned[indexes[0]] = poison
                else:
                    stack += halves(indexes, poison)
            else:
                decisions.update({indexes[index]: decision for index, decision in found.items()})
        return outside(writes, decisions), poisoned

    def _stale(self, table: TargetTable, writes: Sequence[Write], indexes: list[int]) -> set[int]:
        """`Transaction.stale` of these; a key that the target cannot even hold is none of it."""
        if not indexes:
            return set()
        try:
            with self.transaction.savepoint():
                found = self.transaction.stale(table, [writes[index] for index in indexes])
        except Poison as poison:
            if len(indexes) == 1:
                return set()
            return set().union(*(self._stale(table, writes, half) for half in halves(indexes, poison)))
        return {indexes[index] for index in found}

    def hold_back(self, table: TargetTable, row: MappedRow) -> bool:
        """Park a row behind a parked one of its key, if there is one."""
        held = (table.mapping, hold_of(row.key))
        self._no_longer_put_off(held)
        reason = self.done.parked.get(held) or self.held.get(held)
        if reason is None:
            return False
        self.park(table, row, "held", "")
        if (reason in HEALING and may_pass(row)) or (table.supersede and not needs_what_is_there(row)):
            self.done.may_heal.add(held)
        return True

    def _hold_back_chain(self, table: TargetTable, write: Write) -> bool:
        held = (table.mapping, hold_of(write.row.key))
        self._no_longer_put_off(held)
        if held not in self.done.parked:
            return False
        for row in write.rows:
            self.hold_back(table, row)
        return True

    def _any_held(self) -> bool:
        return bool(self.held) or bool(self.done.parked) or bool(self._put_off)

    def park(
        self, table: TargetTable, row: MappedRow, reason: str, error: str, conflict: Conflict | None = None
    ) -> None:
        self.meet(table, row, Decision(Outcome.PARKED, reason, conflict=conflict))
        held = (table.mapping, hold_of(row.key))
        self.park_record(Parked(*held, row.record, row.position, reason, error))
        if reason in WAITING and self.done.parked.get(held) == reason:
            self.done.waiting[held] = (table, row)

    def park_record(self, parked: Parked) -> None:
        """Set a record aside; a key already held keeps its first reason."""
        held = (parked.mapping, parked.hold)
        if parked.hold and (held in self.held or held in self.done.parked):
            if parked.reason not in ON_PURPOSE:
                parked = msgspec.structs.replace(parked, reason="held")
        elif parked.hold:
            self.done.parked[held] = parked.reason
        self.set_aside.append(parked)
        partition = TopicPartition(parked.record.topic, parked.record.partition)
        self.done.tallies[parked.mapping, partition, Outcome.PARKED, parked.reason] += 1

    def _all_applied(self, table: TargetTable, writes: Sequence[Write]) -> None:
        """Count a round's writes: the last row of each chain is applied, those before it are superseded."""
        applied: Counter[tuple[str, int]] = Counter()
        for write in writes:
            for row in write.chain[:-1]:
                self.decided(table, row, _SUPERSEDED)
            row = write.chain[-1] if write.chain else write.row
            if row.moved_to is not None:
                self.decided(table, row, APPLIED)
            else:
                record = row.record
                applied[record.topic, record.partition] += 1
        for (topic, partition), number in applied.items():
            self.done.tallies[table.mapping, TopicPartition(topic, partition), Outcome.APPLIED, ""] += number

    def decided(self, table: TargetTable, row: MappedRow, decision: Decision) -> None:
        partition = TopicPartition(row.record.topic, row.record.partition)
        self.done.tallies[table.mapping, partition, decision.outcome, decision.reason] += 1
        if decision.reason:
            self.meet(table, row, decision)
        if row.moved_to is not None:
            waiting = (table.mapping, hold_of(row.moved_to))
            if waiting in self.held or waiting in self.done.parked:
                self.done.may_heal.add(waiting)

    def meet(self, table: TargetTable, row: MappedRow, decision: Decision) -> None:
        """Note the conflict that a decision speaks of."""
        conflict = met(decision)
        if conflict is not None:
            partition = TopicPartition(row.record.topic, row.record.partition)
            self.conflicts.add(table, partition, conflict, iter([lambda: (row, hold_of(row.key))]))

    def tallies(self) -> list[Tally]:
        return [
            Tally(mapping, partition, outcome, reason, number)
            for (mapping, partition, outcome, reason), number in self.done.tallies.items()
        ]


def _kept(writes: Writes, index: int) -> tuple[MappedRow, str]:
    row = writes[index].row
    return row, hold_of(row.key)


def healing(held: Mapping[Held, str], mapping: str) -> set[Held]:
    """The held keys of a mapping that wait for something missing: after a truncate they may be stale."""
    return {key for key, reason in held.items() if key[0] == mapping and reason in HEALING}
