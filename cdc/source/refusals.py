"""What cannot be carried exactly, asked before anything runs (by the mapping compiler, the doctor, the docs page)."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from cdc.model import ColumnType
from cdc.source import types_mariadb, types_postgres
from cdc.source.positions import SourceKind
from cdc.source.types import SourceType


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
        return Refusal(entry.refused, entry.fix or "leave the column out of the mapping")
    if entry.full and not full_identity and (column.length or 1) > entry.full_above:
        return Refusal(entry.full, "ALTER TABLE … REPLICA IDENTITY FULL, or leave the column out of the mapping")
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


def documentation(source: SourceKind) -> Iterator[tuple[str, str, str, str]]:
    """Rows for the generated page: names, canonical kind, verdict, details."""
    for entry in types_postgres.TYPES if source == "postgresql" else types_mariadb.TYPES:
        verdict = "refused" if entry.refused else "exact, REPLICA IDENTITY FULL only" if entry.full else "exact"
        if entry.condition and not entry.refused:
            verdict += ", except what the doctor checks"
        details = (entry.refused, entry.fix, entry.full, entry.condition, entry.parks and f"parked: {entry.parks}")
        yield ", ".join(entry.natives), entry.kind.value, verdict, "; ".join(part for part in details if part)
