"""Target tables of which several sources make the rows: their columns, and the resolver that makes their rows.

What a contribution's values are (its shape) is kept in the target, because each worker meets only the sources whose
partitions it has, and must still understand what another worker kept of the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

import msgspec

from cdc.blocks import Image
from cdc.conflict.resolve import Resolver, Rule, Rules, Shape
from cdc.engine.rule_expressions import compile_rule
from cdc.errors import Terminal, Transient
from cdc.mapping.rules import DetailedRule, TableRules
from cdc.mapping.rules import Resolver as RuleText
from cdc.model import UNAVAILABLE, ColumnType, Contributes, DeletePolicy, Kind, TargetColumn, TargetTable
from cdc.target.contributions import ContributingTarget

_GENERAL = {
    Kind.TEXT: ColumnType(Kind.TEXT, "text"),
    Kind.INTEGER: ColumnType(Kind.INTEGER, "int8"),
    Kind.DECIMAL: ColumnType(Kind.DECIMAL, "numeric"),
}
"""Types that hold what any source has of a kind: the table may be made before the widest source was met."""


@dataclass
class Merged:
    """One target table, as far as its sources have been met. `table`: with all columns that are known."""

    shapes: dict[int, Shape]
    table: TargetTable
    resolver: Resolver

    def shape(self, number: int) -> Shape:
        found = self.shapes.get(number)
        if found is None:
            raise met_elsewhere()
        return found

    def convert(self, values: Image, old: int, new: int) -> Image:
        """Values of one shape in the order of another; UNAVAILABLE where the first has no such column."""
        said = dict(zip((column.name for column in self.shape(old).columns), values, strict=True))
        return tuple([said.get(column.name, UNAVAILABLE) for column in self.shape(new).columns])


@dataclass(frozen=True)
class Merging:
    """One contributor's way into its target table. `shape`: the number of its values' shape, whose columns are the
    first `width` of its own: the others tell source rows apart. `key_width`: key columns that the target has too.
    `max_skew_s`: changes dated further ahead of this machine's clock are parked."""

    contributor: str
    mapping: str
    shape: int
    width: int
    key_width: int
    max_skew_s: float
    merged: Merged


def met_elsewhere() -> Transient:
    """Not mended in the open transaction that finds out: tables are prepared anew after a reconnection."""
    return Transient("another worker has met columns that this one does not know yet")


class MergedTables:
    """The merged tables of one target. `rules`: by the target table's mapping."""

    def __init__(self, target: ContributingTarget, rules: Mapping[str, TableRules]) -> None:
        self._target = target
        self._rules = rules
        self._merged: dict[str, Merged] = {}
        self._ways: dict[TargetTable, Merging] = {}

    def clear(self) -> None:
        self._merged.clear()
        self._ways.clear()

    def of(self, table: TargetTable) -> Merging:
        return self._ways[table]

    def prepare(self, table: TargetTable) -> None:
        """Make a contributor's table known; see `Target.prepare`."""
        if table in self._ways:
            return
        way = table.contributes
        assert way is not None
        columns = tuple(column for column in table.columns if not column.name.startswith("@"))
        number = 0
        if columns:
            text = msgspec.json.encode((way.contributor, columns, table.key[: way.width])).decode()
            number = self._target.shapes.number(way.mapping, text)
        merged, skew = self._met(table, way), self._rules[way.mapping].max_skew_s
        self._ways[table] = Merging(way.contributor, way.mapping, number, len(columns), way.width, skew, merged)

    def _met(self, table: TargetTable, way: Contributes) -> Merged:
        """The merged table with everything that any worker has met; what knew less of it learns it too."""
        shapes = known_shapes(self._target.shapes.all(way.mapping))
        known = self._merged.get(way.mapping)
        if known is not None and known.shapes == shapes:
            return known
        rules = self._rules[way.mapping]
        target_table = _target_table(table, way, shapes, rules)
        self._target.prepare(target_table)
        resolver = Resolver(compiled(rules, shapes), target_table.columns, target_table.key, shapes)
        if known is None:
            known = self._merged[way.mapping] = Merged(shapes, target_table, resolver)
        known.shapes, known.table, known.resolver = shapes, target_table, resolver
        return known


def compiled(rules: TableRules, shapes: Mapping[int, Shape]) -> Rules:
    """The rules as the resolver wants them."""
    sources = rules.sources or ()
    exists = {"any": sources, "all": ()}.get(rules.exists) if isinstance(rules.exists, str) else rules.exists
    text = msgspec.json.encode(rules.model_dump(mode="json"))
    return Rules(
        rank=sources,
        exists=exists or (),
        columns={name: _rule(rule, shapes) for name, rule in rules.columns.items()},
        groups=tuple((group.columns, _rule(group.resolve, shapes)) for group in rules.groups.values()),
        otherwise=_rule(rules.resolve or "newest", shapes),
        fingerprint=sha256(text).hexdigest()[:12],
    )


def _rule(rule: RuleText, shapes: Mapping[int, Shape]) -> Rule:
    if not isinstance(rule, DetailedRule):
        return Rule(rule)
    if rule.sql is not None:
        return Rule("sql", call=compile_rule(rule.sql, shapes.values()))
    if rule.priority is not None or rule.fill_nulls is not None:
        return Rule("priority" if rule.priority else "fill_nulls", sources=rule.priority or rule.fill_nulls or ())
    return Rule("newest" if rule.newest else "oldest", by=rule.newest or rule.oldest or "")


def known_shapes(texts: Mapping[int, str]) -> dict[int, Shape]:
    """Shapes by number, as a target keeps them."""
    kind = tuple[str, tuple[TargetColumn, ...], tuple[str, ...]]
    return {number: Shape(*msgspec.json.decode(text, type=kind)) for number, text in texts.items()}


def merged_columns(
    mapping: str, shapes: Mapping[int, Shape], rules: TableRules, key: Sequence[str]
) -> tuple[TargetColumn, ...]:
    """The columns of all sources that have been met, the best rank first. Raises `Terminal` where two disagree."""
    columns: dict[str, TargetColumn] = {}
    ranks = {name: rank for rank, name in enumerate(rules.sources or ())}
    for shape in sorted(shapes.values(), key=lambda shape: ranks.get(shape.contributor, len(ranks))):
        for column in shape.columns:
            first = columns.setdefault(column.name, column if column.name in key else _general(column))
            if first.type.kind is not column.type.kind:
                raise Terminal(
                    f"column '{column.name}' is {first.type.kind} by one source and {column.type.kind} by"
                    f" {shape.contributor}",
                    where=mapping,
                    hint="make them one type with an expression: {sql: …}",
                )
    return tuple(columns.values()) if key else ()


def _target_table(table: TargetTable, way: Contributes, shapes: Mapping[int, Shape], rules: TableRules) -> TargetTable:
    """The table that a contributor's rows end in. A truncate does not tell the key: then what was met before does, and
    where nothing was, there is nothing to truncate."""
    key = table.key[: way.width] or next((shape.key for shape in shapes.values()), ())
    return TargetTable(
        mapping=way.mapping,
        namespace=table.namespace,
        name=table.name,
        columns=merged_columns(way.mapping, shapes, rules, key),
        key=key,
        on_delete=DeletePolicy.DELETE if way.soft_delete is None else DeletePolicy.SOFT,
        soft_delete=way.soft_delete,
    )


def _general(column: TargetColumn) -> TargetColumn:
    wide = column.type if column.sql_type else _GENERAL.get(column.type.kind, column.type)
    return TargetColumn(column.name, wide, column.sql_type, nullable=True)
