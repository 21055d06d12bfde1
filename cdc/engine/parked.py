"""Retry parked keys: from the original records, through the current mapping and the guard.

Each key's queue is a small coroutine that hands out one row at a time and is told the decision. All keys advance side
by side, their rows written as one round, so that a retry of 100,000 keys stays batched. Within a key: what waits for
something missing lets later changes pass (one of them may be what it waits for) and is decided again after each change
that went through; what was refused keeps everything behind it held, unless the table's rule lets whole images supersede
it. What was set aside on purpose stays as it is until its own retry is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

import msgspec

from cdc.engine.apply import Applied, Work, healing
from cdc.engine.oracle import HEALING, may_pass, must_wait, needs_what_is_there, supersedes
from cdc.engine.order import Held, Waiting, in_circles, parents_first
from cdc.errors import Poison
from cdc.model import APPLIED, STALE, Decision, MappedRow, Outcome, RowOp, TargetTable, TopicPartition, Write
from cdc.target.base import ON_PURPOSE, WAITING, Advance, Parked, Target, Transaction, hold_of

KEYS_A_TRANSACTION = 500
"""Bound on one retry transaction: keys, not records; their whole queues are played together."""

Remap = Callable[[Parked], tuple[TargetTable, MappedRow | Decision]]
"""The current mapping's word on a parked record: its row for the parked key, or a decision (now filtered…).
Raises `Poison` when it still cannot be mapped."""

Guard = Callable[[Iterable[TopicPartition]], list[Advance]]
"""The compare of these partitions' fences and `next`, which a retry must pass without moving them."""


@dataclass(eq=False)
class _Item:
    """One parked record in play. `decision` is the last word on it. `kept`: it is not decided, it stays as it is."""

    parked: Parked
    table: TargetTable | None = None
    row: MappedRow | None = None
    decision: Decision | None = None
    error: str = ""
    kept: bool = False

    def keep(self) -> None:
        self.kept, self.decision = True, Decision(Outcome.PARKED, self.parked.reason)

    @property
    def parked_again(self) -> bool:
        return self.decision is not None and self.decision.outcome is Outcome.PARKED

    @property
    def waits_for_a_parent(self) -> bool:
        return self.decision is not None and self.decision.reason == "foreign_key_missing"

    @property
    def waits(self) -> bool:
        return self.decision is not None and self.decision.reason in HEALING


class _LeftBehindError(Exception):
    """Some of the rows that were written together must not be there."""


_Steps = Generator[_Item, None, list[_Item]]


def retry(
    target: Target, keys: Iterable[Held], remap: Remap, guard: Guard, held: dict[Held, str], waiting: Waiting
) -> Applied:
    """Retry the queues of `keys`, and of those they heal; update `held` and `waiting` after each commit.

    Returns what was applied. Raises `Fenced`, `Transient`, `Terminal` like a batch does.
    """
    total = Applied()
    wanted = sorted(set(keys))
    while wanted:
        chunk, wanted = wanted[:KEYS_A_TRANSACTION], wanted[KEYS_A_TRANSACTION:]
        done = _retry_chunk(target, chunk, remap, guard, held)
        total.tallies.update(done.tallies)
        waiting.note(done.waiting)
        for table, row in done.came:
            done.may_heal |= waiting.came(table, [row])
        wanted += sorted(done.may_heal - set(wanted))
    return total


def _retry_chunk(target: Target, keys: Sequence[Held], remap: Remap, guard: Guard, held: dict[Held, str]) -> Applied:
    by_mapping: dict[str, list[str]] = {}
    for mapping, hold in keys:
        by_mapping.setdefault(mapping, []).append(hold)
    records = [record for mapping, holds in by_mapping.items() for record in target.queue(mapping, holds)]
    done, left = Applied(), list[Parked]()
    if records:
        items = [_mapped(record, remap) for record in sorted(records, key=lambda record: record.id or 0)]
        for table in {item.table.mapping: item.table for item in items if item.table is not None}.values():
            target.prepare(table)
        moves = guard({TopicPartition(p.record.topic, p.record.partition) for p in records})
        with target.begin(moves) as transaction:
            play = _Play(target, transaction, items, held)
            transaction.retried([record.id for record in records if record.id is not None])
            left = play.run()
            transaction.unpark([item.parked.id for item in play.gone if item.parked.id is not None])
            transaction.repark([parked for parked in left if parked not in records])
            transaction.count(play.work.tallies())
            if play.work.conflicts.counts:
                transaction.note(play.work.conflicts)
            transaction.advance(moves)
        done = play.work.done
    for key in keys:
        held.pop(key, None)
    for parked in left:
        if parked.hold:
            held.setdefault((parked.mapping, parked.hold), parked.reason)
    return done


def _supersede(items: Sequence[_Item]) -> bool:
    """The rule for a key; records of it that cannot be mapped do not say."""
    return any(item.table is not None and item.table.supersede for item in items)


def _keep(items: Sequence[_Item]) -> None:
    """Keep what was set aside on purpose and is not asked for itself. Where a key comes up only because something may
    supersede what waits, keep what was refused, too: every change is tried once, not again with each later one."""
    tried = _supersede(items) and not any(item.parked.asked for item in items)
    for item in items:
        reason = item.parked.reason
        refused = reason != "held" and reason not in HEALING
        if (reason in ON_PURPOSE and not item.parked.asked) or (tried and refused):
            item.keep()


def _must_wait(item: _Item, waiting: Sequence[_Item]) -> bool:
    """`must_wait`, where some of those that wait could not be mapped: they lend nothing."""
    if item.row is None:
        return False
    if needs_what_is_there(item.row):
        passes = may_pass(item.row)
        return any(not passes or other.parked.position <= item.row.position for other in waiting)
    return must_wait(item.row, [other.row for other in waiting if other.row is not None])


def _mapped(parked: Parked, remap: Remap) -> _Item:
    try:
        table, mapped = remap(parked)
    except Poison as poison:
        return _Item(parked, decision=Decision(Outcome.PARKED, poison.reason), error=poison.what)
    except Exception:
        if parked.reason not in ON_PURPOSE or parked.asked:
            raise
        return _Item(parked)  # it may have been set aside because no worker survives it
    if isinstance(mapped, Decision):
        return _Item(parked, table, decision=mapped)
    return _Item(parked, table, mapped)


class _Play:
    """One transaction's retry."""

    def __init__(self, target: Target, transaction: Transaction, items: list[_Item], held: dict[Held, str]) -> None:
        self.target = target
        self.work = Work(transaction, {}, careful=True)
        self.held = held
        self.queues: dict[Held, list[_Item]] = {}
        self.gone: list[_Item] = []
        for item in items:  # nothing waits behind what has no key
            hold = item.parked.hold or f"#{item.parked.id}"
            self.queues.setdefault((item.parked.mapping, hold), []).append(item)
        for queue in self.queues.values():
            _keep(queue)

    def run(self) -> list[Parked]:
        """Play all queues to their end; what stays parked, with its reason and error as they are now."""
        running = [self._key(items) for items in self.queues.values()]
        left: list[list[_Item]] = []
        while running:
            asked, still = [], []
            for steps in running:
                try:
                    asked.append(next(steps))
                    still.append(steps)
                except StopIteration as stopped:
                    left.append(stopped.value)
            self._decide(asked)
            running = still
        return [parked for items in left for parked in self._stay(items)]

    def _key(self, items: list[_Item]) -> _Steps:
        """Play one key's queue; returns what is left of it."""
        waiting: list[_Item] = []
        supersede = _supersede(items)
        for number, item in enumerate(items):
            if _must_wait(item, waiting):
                waiting.append(item)
                continue
            yield item
            if item.waits or (item.parked_again and supersede):
                waiting.append(item)
            elif item.parked_again:
                return waiting + items[number:]
            else:
                self._leave(item, item.decision)
                waiting = yield from self._again(self._superseded_by(item, waiting))
                if waiting and not supersede and not waiting[0].waits:
                    return waiting + items[number + 1 :]  # it waits for a person now, and they behind it
        return (yield from self._again(waiting))

    def _again(self, waiting: list[_Item]) -> _Steps:
        """Decide what waited, in the order it arrived, up to the first that still cannot be applied."""
        while waiting:
            yield waiting[0]
            if waiting[0].parked_again:
                break
            self._leave(waiting[0], waiting[0].decision)
            waiting = waiting[1:]
        return waiting

    def _superseded_by(self, item: _Item, waiting: list[_Item]) -> list[_Item]:
        if item.row is None or item.decision is None or not supersedes(item.row, item.decision):
            return waiting
        for other in waiting:
            if other.parked.position <= item.row.position:
                self._leave(other, Decision(Outcome.SUPERSEDED))
        return [other for other in waiting if other.parked.position > item.row.position]

    def _decide(self, items: Sequence[_Item]) -> None:
        by_table: dict[TargetTable, list[_Item]] = {}
        self._outdate([item for item in items if item.kept and item.parked.reason not in ON_PURPOSE])
        for item in items:
            if item.row is None or item.table is None or item.kept or item.decision == STALE:
                continue
            if item.row.op is RowOp.TRUNCATE:
                item.decision = self.work.transaction.truncate(item.table, item.row.position, item.row.time_us)
                self.work.done.may_heal |= healing(self.held, item.table.mapping)
            else:
                by_table.setdefault(item.table, []).append(item)
        ordered = parents_first(list(by_table), self.target.related)
        for table in ordered:
            self._write(by_table[table])
        circle = in_circles(ordered, self.target.related)
        self._write_together([each for table in circle for each in by_table[table] if each.waits_for_a_parent])

    def _outdate(self, items: Sequence[_Item]) -> None:
        """What was refused is not tried again, but a truncate or a newer row since may have made it needless."""
        by_table: dict[TargetTable, list[tuple[_Item, Write]]] = {}
        for item in items:
            if item.table is not None and item.row is not None and item.row.op is not RowOp.TRUNCATE:
                by_table.setdefault(item.table, []).append((item, Write(item.row, item.row.position)))
        for table, pairs in by_table.items():
            for number in self.work.transaction.stale(table, [write for _, write in pairs]):
                pairs[number][0].kept, pairs[number][0].decision = False, STALE

    def _write_together(self, items: list[_Item]) -> None:
        """Rows of tables that refer to one another in a circle: all are written before anybody looks for parents, then
        all but those that still have none, until that leaves nobody behind."""
        while len({item.table for item in items}) > 1:
            before = [(item.decision, item.error) for item in items]
            try:
                with self.work.transaction.savepoint():
                    with self.work.transaction.deferred():
                        self._write_by_table(items)
                    self._write_by_table(items)
                    if any(item.parked_again for item in items):
                        raise _LeftBehindError
                return
            except _LeftBehindError:
                good = [item for item in items if not item.parked_again]
                for item, (decision, error) in zip(items, before, strict=True):
                    item.decision, item.error = decision, error
                items = good

    def _write_by_table(self, items: Sequence[_Item]) -> None:
        """`items` stand in the order of their tables."""
        for _, same in groupby(items, lambda item: item.table):
            self._write(list(same))

    def _write(self, items: list[_Item]) -> None:
        table = items[0].table
        assert table is not None
        writes = [Write(item.row, item.row.position) for item in items if item.row is not None]
        decisions, poisoned = self.work.write(table, writes)
        for index, item in enumerate(items):
            if index in poisoned:
                item.decision = Decision(Outcome.PARKED, poisoned[index].reason)
                item.error = poisoned[index].what
            else:
                item.decision = decisions.get(index, APPLIED)
                item.error = item.decision.detail

    def _leave(self, item: _Item, decision: Decision | None) -> None:
        """The record is parked no more: move it in the counts to what it became, and see whom it may heal."""
        assert decision is not None
        self.gone.append(item)
        self._recount(item.parked, Decision(Outcome.PARKED, item.parked.reason), decision)
        if item.row is not None and item.table is not None:
            self.work.meet(item.table, item.row, decision)
            if decision.outcome is Outcome.APPLIED:
                self.work.done.came.append((item.table, item.row))
        if item.row is not None and item.row.moved_to is not None:
            waiting = (item.parked.mapping, hold_of(item.row.moved_to))
            if waiting in self.held:
                self.work.done.may_heal.add(waiting)

    def _stay(self, items: list[_Item]) -> Iterable[Parked]:
        supersede = _supersede(items)
        for number, item in enumerate(items):
            if item.kept:
                yield item.parked
                continue
            own = item.decision is not None and (number == 0 or supersede)
            reason = item.decision.reason if own and item.decision else "held"
            if own and reason in WAITING and item.row is not None and item.table is not None:
                self.work.done.waiting[item.parked.mapping, item.parked.hold] = (item.table, item.row)
            self._recount(item.parked, Decision(Outcome.PARKED, item.parked.reason), Decision(Outcome.PARKED, reason))
            yield msgspec.structs.replace(item.parked, reason=reason, error=item.error if own else "")

    def _recount(self, parked: Parked, before: Decision, now: Decision) -> None:
        partition = TopicPartition(parked.record.topic, parked.record.partition)
        tallies = self.work.done.tallies
        tallies[parked.mapping, partition, before.outcome, before.reason] -= 1
        tallies[parked.mapping, partition, now.outcome, now.reason] += 1
