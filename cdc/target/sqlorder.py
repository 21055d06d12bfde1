"""Rows that depend on one another in a database of sqlstate.py: what of a round waits (see also postgres_order.py).

Rows without a parent, and deletes of rows that others refer to, are found by one statement a foreign key. Unique values
are looked at only when an upsert met a violation: rows that give up a value which another one of the round takes have
it set to NULL first. Everything else is left to the engine, which isolates rows one by one: unique values that may not
be NULL, unique indexes with a condition or over expressions, texts that compare by a collation of their own, and in
MariaDB, which checks foreign keys row by row, trees of one table that come with the child first.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from cdc.model import Decision, Write
from cdc.target.base import ForeignKey, Related
from cdc.target.related import (
    FOREIGN_KEY_REFERENCED,
    Edge,
    arrival,
    blocked,
    unique_edges,
    value_taken,
    without_parent,
)
from cdc.target.sqlstate import Database


@dataclass(frozen=True)
class Missing:
    """Of one foreign key. `rows` answers `_n` and what is referred to; `inside`, of a key to the table itself, `_n` and
    what the rows of the round can be referred to by."""

    key: ForeignKey
    rows: str
    inside: str


@dataclass(frozen=True)
class UniqueKey:
    """As in postgres_order.py. `wanted` answers `_n` and the value. `give_up` lacks the numbers of the writes."""

    columns: tuple[str, ...]
    held: str
    leaving: str
    wanted: str
    give_up: str


@dataclass(frozen=True)
class Links:
    """Foreign and unique keys of one table, with the statements that ask about a round; '' where nothing is asked."""

    related: Related
    missing: tuple[Missing, ...] = ()
    referenced: str = ""
    unique: tuple[UniqueKey, ...] = ()
    take_out: str = ""  # lacks the numbers of the writes


class Dependants:
    """What of one round waits for other rows; it leaves the staging table, and the decision on it is noted."""

    def __init__(
        self, database: Database, links: Links, writes: Sequence[Write], decisions: dict[int, Decision]
    ) -> None:
        self._database = database
        self._links = links
        self._writes = writes
        self._decisions = decisions
        self.taken_out = 0

    def take_out_referenced(self) -> None:
        """Before rows are deleted: those that others refer to."""
        if self._links.referenced:
            rows = self._database.rows(self._links.referenced)
            self._take_out({number for (number,) in rows}, FOREIGN_KEY_REFERENCED)

    def take_out_orphans(self) -> None:
        """Before rows are written: those whose parents are neither there nor in the round."""
        edges, lacking = list[Edge](), list[tuple[Missing, set[int]]]()
        for missing in self._links.missing:
            rows = self._database.rows(missing.rows)
            inside = self._by_value(missing.inside) if rows and missing.inside else {}
            edges += [(number, inside.get(tuple(wanted))) for number, *wanted in rows]
            lacking.append((missing, {row[0] for row in rows}))
        waiting = blocked(edges)
        for missing, numbers in lacking:
            self._take_out(numbers & waiting, without_parent(missing.key))

    def free_unique_values(self) -> None:
        """After rows could not be written for a unique value: take out those that cannot have theirs, and free the
        values that pass from row to row."""
        rank, edges, passed = arrival(self._writes), list[Edge](), list[list[Edge]]()
        for key in self._links.unique:
            held = [(number, tuple(name)) for number, *name in self._database.rows(key.held)]
            doubles: dict[tuple[Any, ...], list[int]] = defaultdict(list)
            for number, *value in self._database.rows(key.wanted):
                doubles[tuple(value)].append(number)
            same = [numbers for numbers in doubles.values() if len(numbers) > 1]
            passed.append(unique_edges(held, self._by_value(key.leaving) if held else {}, same, rank))
            edges += passed[-1]
        waiting = blocked(edges)
        for key, found in zip(self._links.unique, passed, strict=True):
            givers = {giver for _, giver in found if giver is not None and giver not in waiting}
            if givers:
                self._database.run(key.give_up + _numbers(givers))
        for key, found in zip(self._links.unique, passed, strict=True):
            self._take_out({number for number, _ in found} & waiting, value_taken(key.columns))

    def _by_value(self, query: str) -> dict[tuple[Any, ...], int]:
        return {tuple(value): number for number, *value in self._database.rows(query)}

    def _take_out(self, numbers: set[int], decision: Decision) -> None:
        numbers = numbers - self._decisions.keys()
        if numbers:
            self._database.run(self._links.take_out + _numbers(numbers))
            self._decisions.update(dict.fromkeys(numbers, decision))
            self.taken_out += len(numbers)


def _numbers(numbers: Iterable[int]) -> str:
    return f"({', '.join(map(str, sorted(numbers)))})"
