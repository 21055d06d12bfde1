"""Rows that depend on one another: which table is written first, and which held keys wait for other rows.

Within a batch parents are written before their children. A delete whose row others still refer to is put off to the end
of the batch, when the children's tables are written (`apply.Work.finish`). What other rows still stand in the way of
then waits parked, for a reason of `WAITING`, and is tried again

* at once when the row that it refers to comes (its values are known to the worker that parked it),
* at growing intervals, whoever writes what it waits for, until it has waited for long: from then on only when that row
  comes to the same worker, or a person asks.

Such a retry writes all keys whose turn it is in one transaction and as one round a table: they are staged and looked up
together, never one by one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from cdc.blocks import RowBlock, Writes
from cdc.engine.oracle import HEALING
from cdc.model import MappedRow, TargetTable, Value
from cdc.target.base import Parked, Related

Held = tuple[str, str]  # (mapping, hold)
Wanted = tuple[str, tuple[str, ...]]  # a parent's name, and the columns by which its rows are referred to

FIRST_S, LONGEST_S = 1.0, 60.0
"""Between two retries of a key: at first, doubled with every one, and at most."""
KEYS_AT_ONCE = 2000
"""Most keys whose turn comes at one time: the retry stands between two batches."""
WAIT_S = 86_400.0


def parents_first(tables: Sequence[TargetTable], related: Callable[[TargetTable], Related]) -> list[TargetTable]:
    """The tables in an order in which parents stand before children; what no foreign key says, a circle among them,
    stays as it was."""
    found = {table: related(table) for table in tables}
    names = {found[table].name for table in tables}
    left, ordered = list(tables), list[TargetTable]()
    if not any(each.foreign_keys for each in found.values()):
        return left
    while left:
        waiting = names - {found[table].name for table in ordered}
        free = [table for table in left if not (_parents(found[table]) & waiting)] or left[:1]
        ordered += free
        left = [table for table in left if table not in free]
    return ordered


def in_circles(tables: Sequence[TargetTable], related: Callable[[TargetTable], Related]) -> list[TargetTable]:
    """Those of the tables that refer to one another in a circle, or stand between two circles."""
    found, left = {table: related(table) for table in tables}, list(tables)
    while True:
        names = {found[table].name for table in left}
        referred = {parent for table in left for parent in _parents(found[table])}
        kept = [table for table in left if _parents(found[table]) & names and found[table].name in referred]
        if kept == left:
            return left
        left = kept


def _parents(related: Related) -> set[str]:
    return {key.parent for key in related.foreign_keys} - {related.name}


@dataclass
class _Turn:
    """When a held key is tried again."""

    since: float
    due: float
    pause: float


class Waiting:
    """The held keys that end by themselves, and when each is tried again. For one thread at a time.

    `wait_s`: how long a key is tried again by the clock, from when this worker first saw it.
    """

    def __init__(
        self,
        related: Callable[[TargetTable], Related],
        clock: Callable[[], float] = time.monotonic,
        wait_s: float = WAIT_S,
    ) -> None:
        self._related = related
        self._clock = clock
        self._wait_s = wait_s
        self._turns: dict[Held, _Turn] = {}
        self._wanted: dict[Wanted, dict[tuple[Value, ...], set[Held]]] = {}

    def note(self, waiting: dict[Held, tuple[TargetTable, MappedRow]]) -> None:
        """These keys wait for rows that these first rows of theirs refer to."""
        for held, (table, row) in waiting.items():
            for wanted, values in self._references(table, row):
                self._wanted.setdefault(wanted, {}).setdefault(values, set()).add(held)

    def came(self, table: TargetTable, rows: Sequence[RowBlock | MappedRow | Parked] | Writes) -> set[Held]:
        """Rows of a table were written: the keys that waited for one of them."""
        found: set[Held] = set()
        if not self._wanted:
            return found
        name, names = self._related(table).name, [column.name for column in table.columns]
        for (parent, columns), by_values in list(self._wanted.items()):
            if parent != name or not set(columns) <= set(names):
                continue
            indexes = [names.index(column) for column in columns]
            for values in _values(rows):
                found |= by_values.pop(tuple([values[index] for index in indexes]), set())
            if not by_values:
                del self._wanted[parent, columns]
        return found

    def due(self, held: dict[Held, str]) -> set[Held]:
        """The keys of `held` whose turn it is; each gets its next one. Those whose turn is near go along, so that rows
        which wait for one another meet."""
        if not held:
            self._turns.clear()
            self._wanted.clear()
            return set()
        now = self._clock()
        healing = [key for key, reason in held.items() if reason in HEALING]
        self._turns = {key: self._turns.get(key) or _Turn(now, now + FIRST_S, FIRST_S) for key in healing}
        waiting = {key: turn for key, turn in self._turns.items() if now - turn.since <= self._wait_s}
        found: set[Held] = set()
        if not any(turn.due <= now for turn in waiting.values()):
            return found
        for key, turn in sorted(waiting.items(), key=lambda pair: pair[1].due)[:KEYS_AT_ONCE]:
            if turn.due - now <= turn.pause / 2:
                turn.pause = min(2 * turn.pause, LONGEST_S)
                turn.due = now + turn.pause
                found.add(key)
        return found

    def _references(self, table: TargetTable, row: MappedRow) -> Iterable[tuple[Wanted, tuple[Value, ...]]]:
        names = [column.name for column in table.columns]
        for key in self._related(table).foreign_keys:
            values = tuple(row.values[names.index(column)] for column in key.columns) if row.values else ()
            if None not in values:
                yield (key.parent, key.referenced), values


def _values(rows: Sequence[RowBlock | MappedRow | Parked] | Writes) -> Iterable[tuple[Value, ...]]:
    """What the upserts among them say."""
    if isinstance(rows, Writes):
        yield from rows.values
        return
    for each in rows:
        if isinstance(each, RowBlock):
            yield from (values for values in each.values if values is not None)
        elif isinstance(each, MappedRow) and each.values is not None:
            yield each.values
