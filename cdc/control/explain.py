"""Why is this value here: what each source said about a target row, and which rule chose which word.

For tables with `sources` in their rules; read from what the target keeps beside the row, without locks, by the rules of
the mapping file as it is now.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from cdc.conflict.contributions import Contribution, Document, decode
from cdc.conflict.resolve import Resolver, Shape
from cdc.control.conflicts import position_text
from cdc.control.operate import opened
from cdc.engine.merged import compiled, known_shapes, merged_columns
from cdc.errors import Usage
from cdc.mapping.model import Pipeline, TableMapping
from cdc.mapping.rules import DetailedRule, TableRules
from cdc.mapping.rules import Resolver as RuleText
from cdc.model import ColumnType, Kind, Position, TargetColumn, Value
from cdc.settings import Settings
from cdc.target.base import hold_of


@dataclass(frozen=True)
class Said:
    """One source row's word. `position` as the source's log counts; `at`: when it last changed, by the source's clock
    (None: a snapshot read it); `values` None: it was deleted there."""

    source: str
    source_key: str
    position: str
    at: datetime | None
    values: dict[str, Value] | None


@dataclass(frozen=True)
class ColumnOrigin:
    """One column of the row. `source` None: several made it, or none has it. `changed_at`: when its source changed this
    value. `others`: what the other sources say, where it differs."""

    column: str
    value: Value
    source: str | None
    source_key: str
    rule: str
    changed_at: datetime | None
    others: dict[str, Value]


@dataclass(frozen=True)
class Explanation:
    """`there`: whether the rules say that it exists. `written_at`: when it was last worked out. `stale_rules`: that
    was by other rules than the file's."""

    table: str
    key: str
    there: bool
    written_at: datetime | None
    stale_rules: bool
    columns: list[ColumnOrigin]
    said: list[Said]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def has_sources(pipelines: Sequence[Pipeline], table: str) -> bool:
    """Whether several sources make the rows of this target table."""
    return any(each.contributor is not None for one in pipelines for each in one.tables if str(each.to) == table)


def explain(settings: Settings, pipelines: Sequence[Pipeline], table: str, key: str) -> Explanation:
    """`key`: the key columns' values in their order, separated by commas. Raises `Usage` for a table that no rules with
    `sources` are for, for a key that does not fit, and for a row of which nothing is known."""
    pipeline, mapping, rules = _find(pipelines, table)
    with opened(settings, pipeline) as operator:
        shapes = known_shapes(operator.shapes(mapping.target_id))
        if not shapes:
            raise Usage(f"no source has said anything about {table} yet", hint="does the pipeline run? cdc status")
        names = next(iter(shapes.values())).key
        columns = merged_columns(mapping.target_id, shapes, rules, names)
        wanted = hold_of(_key(key, names, columns))
        kept = operator.contributions(mapping.target_id, wanted)
    if not kept:
        raise Usage(f"nothing is known of a row of {table} with the key {key}", hint="did its records come? cdc status")
    document = decode(kept)
    resolver = Resolver(compiled(rules, shapes), columns, names, shapes)
    return Explanation(
        table=table,
        key=key,
        there=resolver.resolve(resolver.words(document)) is not None,
        written_at=_moment(document.version or None),
        stale_rules=document.rules != resolver.rules.fingerprint,
        columns=_columns(resolver, document, rules, names),
        said=[_said(shapes, source, each, said) for source, rows in document.by.items() for each, said in rows.items()],
    )


def _find(pipelines: Sequence[Pipeline], table: str) -> tuple[Pipeline, TableMapping, TableRules]:
    known = [
        (pipeline.part(target), mapping, mapping.rules)
        for pipeline in pipelines
        for target in pipeline.targets
        for mapping in pipeline.part(target).tables
        if mapping.contributor is not None and mapping.rules is not None
    ]
    for pipeline, mapping, rules in known:
        if str(mapping.to) == table:
            return pipeline, mapping, rules
    names = ", ".join(sorted({str(mapping.to) for _, mapping, _ in known})) or "none"
    raise Usage(f"no rules with several sources are for {table}", hint=f"tables that have some: {names}")


def _key(text: str, names: Sequence[str], columns: Sequence[TargetColumn]) -> tuple[Value, ...]:
    """A key as a person writes it, in canonical values."""
    parts = text.split(",") if len(names) > 1 else [text]
    types = {column.name: column.type for column in columns}
    if len(parts) != len(names):
        raise Usage(f"the key is {', '.join(names)}: {len(parts)} values are given", hint="separate them by commas")
    return tuple(_value(part.strip(), types[name], name) for part, name in zip(parts, names, strict=True))


def _value(text: str, type_: ColumnType, name: str) -> Value:
    try:
        if type_.kind in {Kind.INTEGER, Kind.DATE, Kind.TIME, Kind.TIMESTAMP}:
            return int(text)
        return text == "true" if type_.kind is Kind.BOOLEAN else text
    except ValueError:
        raise Usage(f"'{text}' is no value of the key column {name} ({type_.kind})") from None


def _columns(resolver: Resolver, document: Document, rules: TableRules, key: Sequence[str]) -> list[ColumnOrigin]:
    words = resolver.words(document)
    resolved = resolver.resolve(words)
    if resolved is None:
        return []
    found = []
    for index, (column, value, chosen) in enumerate(
        zip(resolver.columns, resolved.values, resolved.chosen, strict=True)
    ):
        says = {(word.contributor, word.source_key): word for word in words if resolver.says(word, index)}
        origin = None if chosen is None else says.get(chosen)
        is_key = column.name in key
        others = {
            source if source_key == "[]" else f"{source} {source_key}": word.values[index]
            for (source, source_key), word in says.items()
            if word.values[index] != value
        }
        found.append(
            ColumnOrigin(
                column=column.name,
                value=value,
                source=None if chosen is None or is_key else chosen[0],
                source_key="" if chosen is None or is_key or chosen[1] == "[]" else chosen[1],
                rule="key" if is_key else _rule_of(column.name, rules),
                changed_at=None if origin is None or is_key else _moment(resolver.time(origin, index)),
                others=others,
            )
        )
    return found


def _rule_of(column: str, rules: TableRules) -> str:
    for name, group in rules.groups.items():
        if column in group.columns:
            return f"{_rule(group.resolve)} (group {name})"
    return _rule(rules.columns.get(column, rules.resolve or "newest"))


def _rule(rule: RuleText) -> str:
    if not isinstance(rule, DetailedRule):
        return rule
    ((name, said),) = rule.model_dump(exclude_unset=True).items()
    return f"{name}: {said if isinstance(said, str) else ', '.join(said)}"


def _said(shapes: dict[int, Shape], source: str, source_key: str, said: Contribution) -> Said:
    values = None
    if said.values is not None:
        names = [column.name for column in shapes[said.shape].columns]
        values = dict(zip(names, said.values, strict=True))
    position = position_text(Position.unpack(said.position))
    return Said(source, source_key, position, _moment(said.time), values)


def _moment(time_us: int | None) -> datetime | None:
    return None if time_us is None else datetime.fromtimestamp(time_us / 1_000_000, UTC)
