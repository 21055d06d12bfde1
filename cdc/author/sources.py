"""The source tables of a test: from types as a person writes them, or from the values, to the `TableSchema` that the
stream would give (`cdc.source.described` makes it, so that a type means the same here and there)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from cdc.db.catalog import CatalogColumn, CatalogTable
from cdc.entries import SourceKind
from cdc.model import ColumnType, Kind, TableSchema
from cdc.source import types_mariadb, types_postgres
from cdc.source.described import table_schema

_NATIVE = {
    "smallint": "int2",
    "integer": "int4",
    "int": "int4",
    "bigint": "int8",
    "serial": "int4",
    "bigserial": "int8",
    "decimal": "numeric",
    "dec": "numeric",
    "real": "float4",
    "double precision": "float8",
    "boolean": "bool",
    "character varying": "varchar",
    "character": "bpchar",
    "char": "bpchar",
    "bit varying": "varbit",
    "timestamp without time zone": "timestamp",
    "timestamp with time zone": "timestamptz",
    "time without time zone": "time",
    "time with time zone": "timetz",
}
"""PostgreSQL's own names of the types that SQL calls otherwise."""

_TYPE = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_ ]*)\s*(\([^)]*\))?\s*([A-Za-z ]*?)\s*((?:\[\s*\])*)\s*")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[-+]\d\d(:?\d\d)?)?")
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


class UnknownType(ValueError):
    """No such type is known. `known`: those that are."""

    def __init__(self, text: str, known: Sequence[str]) -> None:
        super().__init__(f"'{text}' is no type of this source")
        self.known = known


def schema_of(
    source: str,
    kind: SourceKind,
    name: tuple[str, str],
    columns: Mapping[str, str],
    key: Sequence[str],
    required: Iterable[str] = (),
) -> TableSchema:
    """`columns`: types as a definition writes them ('varchar(20)', 'text[]', 'bigint unsigned'). Raises `UnknownType`
    for the text of one that the source room does not describe."""
    found = tuple(
        CatalogColumn(column, native_of(text, kind), text.strip().lower(), column not in {*key, *required})
        for column, text in columns.items()
    )
    return table_schema(source, kind, CatalogTable(*name, found, tuple(key)))


def native_of(text: str, kind: SourceKind) -> str:
    """The type's own name, as catalogs have it."""
    match = _TYPE.fullmatch(text.lower())
    known = types_postgres.BY_NAME if kind == "postgresql" else types_mariadb.BY_NAME
    if match is not None:
        first, _, more, brackets = match.groups()
        word = " ".join(part for part in (*first.split(), *more.split()) if part)
        name = _NATIVE.get(word, word) if kind == "postgresql" else word
        native = f"_{name}" if brackets else name
        if native in known or (brackets and name in known):
            return native
    raise UnknownType(text, sorted({*known, *(_NATIVE if kind == "postgresql" else ())}))


def text_of(type_: ColumnType) -> str:
    """The way back: a type as a definition would write it, for tests that are recorded."""
    if type_.kind is Kind.ARRAY:
        return f"{text_of(type_.element)}[]" if type_.element is not None else "text[]"
    if type_.kind is Kind.DECIMAL and type_.length:
        return f"{type_.native}({type_.length},{type_.scale or 0})"
    digits = type_.length if type_.kind in (Kind.TEXT, Kind.BITS) else None
    if type_.kind in (Kind.TIME, Kind.TIMESTAMP, Kind.TIMESTAMPTZ) and type_.scale not in (None, 6):
        digits = type_.scale
    return f"{type_.native}({digits})" if digits is not None else type_.native


def guessed(values: Iterable[Any], kind: SourceKind) -> str:
    """The type that all these values of a column could have; text where they have nothing in common."""
    postgres = kind == "postgresql"
    found = {_guess(value, postgres) for value in values if value is not None}
    if found == {"bigint", "numeric"}:
        return "numeric"
    return found.pop() if len(found) == 1 else "text" if postgres else "longtext"


def _guess(value: Any, postgres: bool) -> str:
    if isinstance(value, bool):
        return "boolean" if postgres else "bigint"
    if isinstance(value, int):
        return "bigint"
    if isinstance(value, Decimal):
        return "numeric" if postgres else "decimal(65,30)"
    if isinstance(value, dict):
        return "jsonb" if postgres else "json"
    if isinstance(value, list):
        if not postgres or any(isinstance(each, dict | list) for each in value):
            return "jsonb" if postgres else "json"
        return f"{guessed(value, 'postgresql')}[]"
    return _guess_text(value, postgres)


def _guess_text(value: str, postgres: bool) -> str:
    if _DATE.fullmatch(value):
        return "date"
    moment = _TIMESTAMP.fullmatch(value)
    if moment:
        zoned = moment[3] is not None
        return ("timestamptz" if zoned else "timestamp") if postgres else ("timestamp(6)" if zoned else "datetime(6)")
    if _UUID.fullmatch(value):
        return "uuid"
    return "text" if postgres else "longtext"
