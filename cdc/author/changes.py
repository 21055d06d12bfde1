"""What changes between two versions of a pipeline's mappings, and what each change means for rows that are there.

Pure: both sides are compared as they mean it for the source tables as they are now, column by column. What a change
means is decided by where it stands in the file. A key of the language that this module does not know is taken for one
that decides what rows hold, so a new one is never called harmless by mistake.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeAlias

import msgspec

from cdc.mapping.model import EVERYTHING, ColumnSpec, Pipeline, TableMapping
from cdc.mapping.plan import Plan
from cdc.model import ColumnType

Effect = Literal["breaking", "re-load", "forward-only", "restart"]
"""`breaking`: who reads the target, or writes it, must know of it. `re-load`: rows that are there become right only
when they are loaded again. `forward-only`: only new changes get it; rows that are there are right as they are.
`restart`: workers that run do not see it until they are started again. None of them: nothing needs to be known."""

Plans = Mapping[str, Plan | None]
"""A side's compiled mappings by id; None where the source table's columns could not be asked for."""

_STALE = "rows that are there keep what they have until they change or are loaded again"
_OTHER_KEY = "rows are found by another key: the table needs a unique index over it; parked records stay under theirs"


class Change(msgspec.Struct, frozen=True):
    """One change. `sign`: + ~ -. `table`: the target table, '' for the pipeline; `column`: of it, '' for all of it.
    `what`: the key of the language, or 'table', 'column'. `before`, `after`: as the file says it, where it does."""

    sign: Literal["+", "~", "-"]
    table: str
    column: str
    what: str
    before: str = ""
    after: str = ""
    effects: tuple[Effect, ...] = ()
    note: str = ""


Meaning: TypeAlias = tuple[tuple[Effect, ...], str]

_OF_ROWS: Meaning = (("re-load",), _STALE)
_OF_TABLE: Mapping[str, Meaning] = {
    "from": (("breaking", "re-load"), "positions of the two sources cannot be compared: empty the table first"),
    "source": (("breaking", "re-load"), "positions of the two sources cannot be compared: empty the table first"),
    "as": (("breaking", "re-load"), "what was said under the other name stays until it is loaded again"),
    "key": (("breaking", "re-load"), _OTHER_KEY),
    "on_delete": (("forward-only",), "deletes from now on"),
    "soft_delete_column": (("breaking", "forward-only"), "marks in the other column stay as they are"),
    "on_truncate": (("forward-only",), "truncates from now on"),
    "where": (("re-load",), "rows that do not belong any more stay until they change, or a re-load and `cdc sweep`"),
    "rest": (("forward-only",), "requests from now on"),
    "rules": (("forward-only",), "conflicts from now on"),
}
_SEVERAL_SOURCES: Meaning = (
    ("forward-only",),
    "rows are worked out anew when a source changes them: `cdc conflicts reapply`",
)
_OF_PIPELINE: Mapping[str, Meaning] = {
    "client": (("restart",), ""),
    "description": ((), ""),
    "parked": (("forward-only",), "what is parked stays parked; limits hold from now on"),
}
_ELSEWHERE = frozenset({"pipeline", "target", "targets", "source", "tables", "rules"})
"""Keys of a pipeline that say who it is, or that its tables tell."""


def compare(
    old: Pipeline | None, new: Pipeline, before: Plans, after: Plans, known_topics: frozenset[str]
) -> tuple[Change, ...]:
    """Everything that is different. `old` None: nothing was ever deployed. `known_topics`: those with watermarks."""
    changes = list(_of_pipeline(old, new)) if old is not None else []
    earlier = {} if old is None else {table.id: table for table in old.tables}
    later = {table.id: table for table in new.tables}
    for name, table in later.items():
        if name not in earlier:
            changes += _added(table, after.get(name), first=old is None, known_topics=known_topics)
        else:
            changes += _table(earlier[name], table, before.get(name), after.get(name))
    for name, table in earlier.items():
        if name not in later:
            note = "its rows stay as they are and get no more changes; its watermarks and what is parked stay too"
            changes.append(Change("-", str(table.to), "", "table", effects=("breaking",), note=note))
    return tuple(changes)


def reloads(changes: tuple[Change, ...]) -> frozenset[str]:
    """The target tables with a change that needs a re-load."""
    return frozenset(change.table for change in changes if "re-load" in change.effects)


def _of_pipeline(old: Pipeline, new: Pipeline) -> Iterator[Change]:
    before, after = (_dumped(each) for each in (old, new))
    for name in sorted({*before, *after} - _ELSEWHERE):
        if before.get(name) != after.get(name):
            effects, note = _OF_PIPELINE.get(name, (("forward-only",), ""))
            yield Change("~", "", "", name, _text(before.get(name)), _text(after.get(name)), effects, note)


def _added(table: TableMapping, plan: Plan | None, *, first: bool, known_topics: frozenset[str]) -> Iterator[Change]:
    topic = f"{table.source_name}.{table.from_.namespace}.{table.from_.name}"
    effects: tuple[Effect, ...] = ()
    note = "" if first else "its topic is read from the beginning"
    if not first and topic in known_topics:
        effects = ("re-load",)
        note = "its topic is read already: without a re-load it gets only what comes from now on"
    source = f"{table.source_name}: {table.from_}"
    yield Change("+", str(table.to), "", "table", after=source, effects=effects, note=note)
    for name, spec in columns_of(table, plan).items():
        yield Change("+", str(table.to), name, "column", after=_text(spec))


def _table(old: TableMapping, new: TableMapping, before: Plan | None, after: Plan | None) -> Iterator[Change]:
    known = before is not None and after is not None
    yield from _columns(str(new.to), columns_of(old, before, known), columns_of(new, after, known), before, after)
    was, now = _keys(old), _keys(new)
    if before is not None and after is not None:  # the key that follows from the columns counts, written or not
        was["key"], now["key"] = list(before.target.key), list(after.target.key)
    for name in sorted({*was, *now}):
        if was.get(name) == now.get(name):
            continue
        effects, note = _OF_TABLE.get(name, _OF_ROWS)
        if name == "rules" and (new.contributor or old.contributor):
            effects, note = _SEVERAL_SOURCES
        yield Change("~", str(new.to), "", name, _text(was.get(name)), _text(now.get(name)), effects, note)


def _columns(
    table: str, was: dict[str, Any], now: dict[str, Any], before: Plan | None, after: Plan | None
) -> Iterator[Change]:
    for name, spec in now.items():
        if name not in was:
            note = "rows that are there have NULL in it until they change or are loaded again"
            yield Change("+", table, name, "column", after=_text(spec), effects=("re-load",), note=note)
        elif changed := _changed(spec, was[name], _type(before, name), _type(after, name)):
            what, effects, note = changed
            yield Change("~", table, name, what, _text(was[name]), _text(spec), effects, note)
    for name, spec in was.items():
        if name not in now:
            note = "it stays in the target with the values it has, and is not written any more"
            yield Change("-", table, name, "column", before=_text(spec), effects=("breaking",), note=note)


def _changed(
    now: dict[str, Any], was: dict[str, Any], before: ColumnType | str | None, after: ColumnType | str | None
) -> tuple[str, tuple[Effect, ...], str] | None:
    """What changed of a column (the key that says it), its effects, and a note."""
    keys = sorted(name for name in {*now, *was} if now.get(name) != was.get(name))
    if not keys:
        return None
    effects: tuple[Effect, ...] = ()
    notes = []
    if "type" in keys or before != after:
        effects += ("breaking",)
        notes.append("the table's owner changes the column's type")
    if keys != ["type"]:
        effects += ("re-load",)
        notes.append(_STALE)
    what = next((name for name in keys if name != "type"), "type")
    return what, effects, "; ".join(notes)


def columns_of(table: TableMapping, plan: Plan | None, known: bool = True) -> dict[str, dict[str, Any]]:
    """What each target column holds, by the keys of the language. Without a plan '*' stands for what it takes."""
    named = {name: _spec(spec) for name, spec in table.columns.named.items()}
    if plan is None or not known:
        star = table.columns.everything
        return named if star is None else {EVERYTHING: star.model_dump(mode="json", by_alias=True), **named}
    own = [column.name for column in plan.target.columns if not column.name.startswith("@")]
    return {name: named[name] if name in named else {"copy": plan.origin(name)} for name in own}


def _spec(spec: ColumnSpec) -> dict[str, Any]:
    return spec.model_dump(mode="json", by_alias=True, exclude_unset=True)


def _keys(table: TableMapping) -> dict[str, Any]:
    """Everything that is said of the table as a whole, defaults included."""
    found = table.model_dump(mode="json", by_alias=True, exclude={"columns", "to", "targets"})
    found["source"] = table.source_name
    found["rules"] = None if table.rules is None else table.rules.model_dump(mode="json", by_alias=True)
    return found


def _dumped(pipeline: Pipeline) -> dict[str, Any]:
    return pipeline.model_dump(mode="json", by_alias=True)


def _type(plan: Plan | None, name: str) -> ColumnType | str | None:
    """The type that the target's column is given: as the author writes it, or as the source's column has it."""
    columns = () if plan is None else plan.target.columns
    return next((column.sql_type or column.type for column in columns if column.name == name), None)


def _text(value: Any) -> str:
    """As a person would write it in the file."""
    if value is None:
        return ""
    if isinstance(value, dict) and list(value) == ["copy"]:
        return str(value["copy"])
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
