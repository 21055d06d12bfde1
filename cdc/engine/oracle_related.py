"""The oracle of several tables whose rows depend on one another: what must come out where there are foreign keys and
secondary unique keys. One `Oracle` a table says everything else.

* missing      a row whose parent is not there waits (`foreign_key_missing`). NULL in a column of it refers to nobody.
* referenced   a row that others refer to does not go; its delete waits (`foreign_key_referenced`). Nor does it change
               what they refer to it by.
* unique       a row that would take a value that another row holds waits (`unique_violation`); NULL is no value.
* healing      whatever waits is tried again after every change of any table: each key by itself, in the order it was
               parked; then the first ones of all queues at once, so that rows which wait for one another (two that
               swap a value, two tables in a circle) come in together. At once means: all of them but those that
               would still break something then.
* at the end   so the order in which changes of different keys and tables arrive decides nothing: what a consistent
               source sent is there when all of it has come, and nothing waits any more.

Rows of one key keep their order: changes of a waiting key are held behind it, as behind any parked one.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from cdc.engine.oracle import Key, Oracle, Queue
from cdc.model import Decision, MappedRow, Value
from cdc.target.base import WAITING


@dataclass(frozen=True)
class Reference:
    """Columns of a row hold what columns of a row of `parent` (its mapping) hold."""

    columns: tuple[str, ...]
    parent: str
    referenced: tuple[str, ...]


@dataclass(frozen=True)
class Constraints:
    """Of one table. `unique`: beside the key."""

    references: tuple[Reference, ...] = ()
    unique: tuple[tuple[str, ...], ...] = ()


@dataclass
class RelatedOracle:
    """Oracles by mapping, with the constraints that tie their rows together. In a trial nothing is `judging`: changes
    are made first and judged afterwards."""

    tables: Mapping[str, Oracle]
    constraints: Mapping[str, Constraints]
    judging: bool = True

    def __post_init__(self) -> None:
        for name, oracle in self.tables.items():
            oracle.blocked = partial(self.blocked, name)

    def play(self, tape: Iterable[tuple[str, MappedRow]]) -> None:
        for name, row in tape:
            self.apply(name, row)

    def apply(self, name: str, row: MappedRow) -> Decision:
        """Take one change of one table. The decision is the first word on it."""
        decision = self.tables[name].apply(row)
        self._heal()
        return decision

    def parked(self) -> dict[tuple[str, Key], str]:
        """Every key that waits, with the reason of its first change."""
        return {
            (name, key): queue.reason for name, oracle in self.tables.items() for key, queue in oracle.parked.items()
        }

    def blocked(self, name: str, key: Key, values: tuple[Value, ...] | None) -> str:
        """Why other rows stand in the way of a row with these values (None: of its going away), or ''."""
        if not self.judging:
            return ""
        if values is not None and self._without_parent(name, values):
            return "foreign_key_missing"
        if self._left_behind(name, key, values):
            return "foreign_key_referenced"
        if values is not None and self._taken(name, key, values):
            return "unique_violation"
        return ""

    def _without_parent(self, name: str, values: tuple[Value, ...]) -> bool:
        for reference in self.constraints[name].references:
            wanted = self._of(name, values, reference.columns)
            itself = reference.parent == name and self._of(name, values, reference.referenced) == wanted
            if None not in wanted and not itself and not self._holders(reference.parent, reference.referenced, wanted):
                return True
        return False

    def _left_behind(self, name: str, key: Key, values: tuple[Value, ...] | None) -> bool:
        """Whether other rows refer to what this row holds now and would not hold any more."""
        row = self.tables[name].rows.get(key)
        for child, reference in self._references_to(name) if row is not None else ():
            assert row is not None
            held = self._of(name, row.values, reference.referenced)
            kept = values is not None and self._of(name, values, reference.referenced) == held
            children = self._holders(child, reference.columns, held) - ({key} if child == name else set())
            if not kept and children:
                return True
        return False

    def _taken(self, name: str, key: Key, values: tuple[Value, ...]) -> bool:
        wanted = [(columns, self._of(name, values, columns)) for columns in self.constraints[name].unique]
        return any(self._holders(name, columns, each) - {key} for columns, each in wanted)

    def _references_to(self, parent: str) -> Iterator[tuple[str, Reference]]:
        for child, constraints in self.constraints.items():
            for reference in constraints.references:
                if reference.parent == parent:
                    yield child, reference

    def _holders(self, name: str, columns: tuple[str, ...], wanted: tuple[Value, ...]) -> set[Key]:
        """Keys of the rows that hold these values; nobody holds NULL."""
        if None in wanted:
            return set()
        return {key for key, row in self.tables[name].rows.items() if self._of(name, row.values, columns) == wanted}

    def _of(self, name: str, values: tuple[Value, ...], columns: tuple[str, ...]) -> tuple[Value, ...]:
        names = [column.name for column in self.tables[name].table.columns]
        return tuple(values[names.index(column)] for column in columns)

    def _heal(self) -> None:
        moved = True
        while moved:
            moved = any(oracle._heal() for oracle in self.tables.values()) or self._together()

    def _together(self) -> bool:
        """Change all that waits at once, and keep what then breaks nothing; whether that is anything."""
        chosen = [place for place, reason in self.parked().items() if reason in WAITING]
        while chosen:
            trial = copy.deepcopy(self)
            trial.judging = False
            rows = [trial._take_first(*place) for place in chosen]
            trial.judging = True
            good = [
                place for place, row in zip(chosen, rows, strict=True) if not trial._broke(place[0], row, since=self)
            ]
            if good == chosen:
                self.tables = trial.tables
                self.__post_init__()
                return True
            chosen = good
        return False

    def _take_first(self, name: str, key: Key) -> MappedRow:
        """Make the first change that waits for this key; the others go on waiting behind it."""
        oracle = self.tables[name]
        queue = oracle.parked.pop(key)
        first, *behind = queue.rows
        oracle._decide(first)
        if behind:
            oracle.parked[key] = Queue(queue.reason, behind)
        return first

    def _broke(self, name: str, row: MappedRow, since: RelatedOracle) -> bool:
        """Whether this change, made since then, left something broken."""
        now, before = self.tables[name].rows.get(row.key), since.tables[name].rows.get(row.key)
        if now is not None and (self._without_parent(name, now.values) or self._taken(name, row.key, now.values)):
            return True
        for child, reference in self._references_to(name) if before is not None else ():
            assert before is not None
            held = self._of(name, before.values, reference.referenced)
            if self._holders(child, reference.columns, held) and not self._holders(name, reference.referenced, held):
                return True
        return False
