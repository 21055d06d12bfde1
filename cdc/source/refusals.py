"""What cannot be carried exactly, asked before anything runs (by the mapping compiler, the doctor, the docs page)."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from cdc.model import ColumnType
from cdc.source import types_mariadb, types_postgres
from cdc.source.positions import SourceKind
from cdc.source.types import SourceType

_LEAVE_OUT = "leave the column out of the mapping"


class Refusal(msgspec.Struct, frozen=True):
    """Why a column cannot be carried exactly, and what to change: a statement, or a mapping, in words."""

    reason: str
    fix: str


class Condition(msgspec.Struct, frozen=True):
    """A column is exact unless it holds certain values; `check` is a predicate over `{column}` that finds them."""

    reason: str
    check: str


def refusal(column: ColumnType, source: SourceKind, *, full_identity: bool = True) -> Refusal | None:
    """Why `column` must not be mapped, or None. `full_identity`: PostgreSQL's table has REPLICA IDENTITY FULL."""
    entry = find(column, source)
    if entry is None:
        return None
    if entry.refused:
        return Refusal(entry.refused, entry.fix or _LEAVE_OUT)
    if entry.full and not full_identity and (column.length or 1) > entry.full_above:
        return Refusal(entry.full, f"ALTER TABLE … REPLICA IDENTITY FULL, or {_LEAVE_OUT}")
    return None


def condition(column: ColumnType, source: SourceKind) -> Condition | None:
    """Values of `column` that would not arrive exactly and cannot be recognised, or None."""
    entry = find(column, source)
    return Condition(entry.condition, entry.check) if entry is not None and entry.condition else None


def find(column: ColumnType, source: SourceKind) -> SourceType | None:
    """The entry of a column's type; None for types nobody described (domains, enums: they arrive as their base)."""
    if source == "postgresql":
        return types_postgres.entry(column.native, column)
    return types_mariadb.BY_NAME.get(column.native)


class TypeRow(msgspec.Struct, frozen=True):
    """One line of the page of types. `verdict`: exact, exact with a condition, or refused; `reason` and `advice` are
    empty for what is simply exact."""

    names: tuple[str, ...]
    kind: str
    verdict: str
    reason: str
    advice: str


def documentation(source: SourceKind) -> Iterator[TypeRow]:
    """Every type of a kind of source, for the generated page."""
    for entry in types_postgres.TYPES if source == "postgresql" else types_mariadb.TYPES:
        reasons = (entry.refused, entry.full, entry.condition, entry.parks and f"parked: {entry.parks}")
        reason = "; ".join(part for part in reasons if part)
        verdict = "refused" if entry.refused else "exact with a condition" if reason else "exact"
        yield TypeRow(entry.natives, entry.kind.value, verdict, reason, "; ".join(_advice(entry)))


def _advice(entry: SourceType) -> Iterator[str]:
    if entry.refused:
        yield entry.fix or _LEAVE_OUT
        return
    if entry.setting:
        yield f"set `{entry.setting}`".replace(" and ", "` and `") if "=" in entry.setting else entry.setting
    if entry.full:
        longer = f" when longer than {entry.full_above}" if entry.full_above else ""
        yield f"`REPLICA IDENTITY FULL`{longer}"
    if entry.condition:
        yield f"look for `WHERE {entry.check.format(column='col')}`"
