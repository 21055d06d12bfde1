"""The oracle for target rows that several sources make: one plain `Oracle` a source, and the rules said naively.

Every source's rows live under the guard like rows of a table of their own; the target row is worked out anew, from all
that the sources hold at this moment, whenever somebody looks. Nothing is kept of how it came to be: so whatever the
order in which the sources' changes came, the same contributions make the same row.

* A value's time is when the source changed *it*: a change that leaves it as it was, or a snapshot's read, does not make
  it newer. A value that only a snapshot has shown is older than every streamed one.
* Ties go to the source that stands first in `sources`, then to the smaller source key.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import msgspec

from cdc.engine.oracle import Key, Oracle
from cdc.mapping.rules import DetailedRule, Resolver, TableRules
from cdc.model import Decision, MappedRow, Outcome, TargetTable, Value

_NEVER = -(10**18)


@dataclass
class Timed(Oracle):
    """An oracle of one source's rows that also knows when each value changed."""

    times: dict[Key, list[int]] = field(default_factory=dict)

    def _decide(self, row: MappedRow) -> Decision:
        before = self.rows.get(row.key)
        decision = super()._decide(row)
        if decision.outcome is Outcome.APPLIED and row.values is not None:
            self._date(row, None if before is None else before.values)
        return decision

    def _date(self, row: MappedRow, before: tuple[Value, ...] | None) -> None:
        now = self.rows[row.key].values
        time = None if row.snapshot else row.time_us
        if before is None:
            self.times[row.key] = [_NEVER if time is None else time] * len(now)
        elif time is not None:
            for index, (old, new) in enumerate(zip(before, now, strict=True)):
                if old != new:
                    self.times[row.key][index] = time


@dataclass
class Said:
    """What one source row says about a target row: column → (value, time)."""

    source: str
    source_key: str
    columns: dict[str, tuple[Value, int]]


@dataclass
class Sources:
    """`tables`: by the sources' names, what their mappings write; `columns`: of the target table, in order."""

    rules: TableRules
    columns: Sequence[str]
    tables: dict[str, TargetTable]

    def __post_init__(self) -> None:
        self.oracles = {name: Timed(table) for name, table in self.tables.items()}

    def apply(self, source: str, row: MappedRow) -> Decision:
        return self.oracles[source].apply(row)

    def visible(self) -> dict[Key, tuple[Value, ...]]:
        """Target key → values of `columns`; rows of which the rules say that they are there."""
        made = {}
        for key in {key[: self._width(name)] for name, oracle in self.oracles.items() for key in oracle.rows}:
            said = self._ranked(key)
            if self._exists({each.source for each in said}):
                made[key] = self._row(said)
        return made

    def _width(self, source: str) -> int:
        way = self.tables[source].contributes
        assert way is not None
        return way.width

    def _ranked(self, key: Key) -> list[Said]:
        return sorted(self._said(key), key=lambda said: (self._rank(said.source), said.source_key))

    def _said(self, key: Key) -> Iterator[Said]:
        for name, oracle in self.oracles.items():
            width = self._width(name)
            for full, row in oracle.rows.items():
                if full[:width] == key:
                    columns = [column.name for column in self.tables[name].columns]
                    dated = zip(row.values, oracle.times[full], strict=True)
                    source_key = msgspec.json.encode(full[width:]).decode()
                    yield Said(name, source_key, dict(zip(columns, dated, strict=True)))

    def _rank(self, source: str) -> int:
        return (self.rules.sources or ()).index(source)

    def _exists(self, there: set[str]) -> bool:
        wanted = self.rules.exists
        if wanted == "all":
            return there == set(self.rules.sources or ())
        return bool(there if wanted == "any" else there & set(wanted))

    def _row(self, said: list[Said]) -> tuple[Value, ...]:
        row = {name: self._value(name, said) for name in self.columns}
        for group in self.rules.groups.values():
            chosen = _choose(group.resolve, group.columns[0], said)
            for name in group.columns:
                row[name] = chosen.columns[name][0] if chosen and name in chosen.columns else None
        return tuple(row[name] for name in self.columns)

    def _value(self, name: str, said: list[Said]) -> Value:
        rule = self.rules.columns.get(name, self.rules.resolve or "newest")
        has = [each for each in said if name in each.columns]
        values = [value for value in (each.columns[name][0] for each in has) if value is not None]
        if rule in ("max", "min", "delta", "union", "merge"):
            return _computed(str(rule), name, values, has) if values else None
        if isinstance(rule, DetailedRule) and rule.sql is not None:
            raise NotImplementedError("the tests say by hand what an expression gives")
        chosen = _choose(rule, name, has)
        return None if chosen is None else chosen.columns[name][0]


def _choose(rule: Resolver, name: str, said: list[Said]) -> Said | None:
    """The source row whose value stands. `said` is in the order of rank."""
    has = [each for each in said if name in each.columns]
    with_value = [each for each in has if each.columns[name][0] is not None]
    if isinstance(rule, DetailedRule):
        if rule.newest or rule.oldest:
            return _by_version(has, rule.newest or rule.oldest or "", bool(rule.newest))
        wanted = rule.priority or rule.fill_nulls or ()
        for source in wanted:
            of_source = [each for each in (has if rule.priority else with_value) if each.source == source]
            if of_source:
                return _newest(of_source, name)
        return None
    if rule == "oldest":
        return min(has, key=lambda each: each.columns[name][1], default=None)
    if rule == "keep_if_null":
        return _newest(with_value, name)
    if rule == "fill_nulls":
        first = with_value[:1]
        return _newest([each for each in with_value if first and each.source == first[0].source], name)
    return _newest(has, name)


def _newest(said: list[Said], name: str) -> Said | None:
    """The first of those with the newest time: `max` keeps the first of equals."""
    return max(said, key=lambda each: each.columns[name][1], default=None)


def _by_version(said: list[Said], version: str, newest: bool) -> Said | None:
    has = [each for each in said if each.columns.get(version, (None, 0))[0] is not None]
    if not has:
        return said[0] if said else None

    def measure(each: Said) -> Any:
        return each.columns[version][0]

    return max(has, key=measure) if newest else min(has, key=measure)


def _computed(rule: str, name: str, values: list[Value], has: list[Said]) -> Value:
    if rule in ("max", "min"):
        return max(values) if rule == "max" else min(values)
    if rule == "delta":
        return str(sum(map(Decimal, values))) if isinstance(values[0], str) else sum(values)
    if rule == "union":
        return list(dict.fromkeys(element for value in values for element in value))
    whole: dict[str, Any] = {}
    by_rank = list(reversed(has))  # of equal times the better rank comes later: its keys stay
    in_time = sorted(by_rank, key=lambda each: each.columns[name][1])
    for value in (each.columns[name][0] for each in in_time):
        if value is not None:
            _deepen(whole, msgspec.json.decode(value))
    return msgspec.json.encode(whole).decode()


def _deepen(under: dict[str, Any], over: dict[str, Any]) -> None:
    for key, value in over.items():
        if isinstance(value, dict) and isinstance(under.get(key), dict):
            _deepen(under[key], value)
        else:
            under[key] = value
