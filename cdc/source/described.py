"""A table of a source's catalog as the `TableSchema` that the stream gives for it.

The column types come from the source room's own resolver, fed with a description of the column as Debezium would write
it; so a type means the same here and there.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from typing import NamedTuple

from cdc.db import postgres
from cdc.db.catalog import CatalogColumn, CatalogTable
from cdc.entries import SourceKind
from cdc.model import Column, ColumnType, TableSchema
from cdc.source import types_mariadb, types_postgres
from cdc.source.values import Field

_versions = itertools.count(-1, -1)  # the decoder's own are positive
_MODIFIERS = re.compile(r"\((\d+)(?:,\s*(-?\d+))?\)")
_FRACTION = "6"  # digits of a PostgreSQL time type that names none
_TIMED = ("time", "timestamp", "timestamptz", "interval")
_PARAMETER = "__debezium.source.column."
_SEMANTIC_OF = {native: semantic for semantic, native in reversed(types_postgres.BY_SEMANTIC.items())}
_CONNECT_OF = {native: connect for connect, native in types_postgres.BY_CONNECT.items()}


class Undescribed(NamedTuple):
    """A type that the source room has no entry for: its own name (of an array: its elements'), and the type that has
    one and that it arrives as. `declared`: what a domain is made of, as a definition would write it."""

    native: str
    arrives_as: str
    declared: str


def table_schema(
    source: str, kind: SourceKind, table: CatalogTable, undescribed: Mapping[str, Undescribed] | None = None
) -> TableSchema:
    """The schema of `table`, a table of the source (topic prefix) `source`.

    `undescribed`: PostgreSQL's own types by column, see `undescribed_types`. Raises `Terminal` for a column that the
    source room cannot describe.
    """
    own = undescribed or {}

    def type_of(column: CatalogColumn) -> ColumnType:
        if kind == "postgresql":
            return types_postgres.resolve(_postgres_field(column, own.get(column.name))).type
        return types_mariadb.resolve(_mariadb_field(column)).type

    columns = tuple(Column(each.name, type_of(each), each.nullable, each.name in table.key) for each in table.columns)
    return TableSchema(source, kind, table.namespace, table.name, columns, next(_versions))


_TYPES = """
SELECT a.attname, lower(coalesce(e.typname, t.typname)), coalesce(e.typtype, t.typtype)::text,
       lower(b.typname), format_type(t.typbasetype, t.typtypmod)
FROM pg_attribute a
JOIN pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_type e ON e.oid = t.typelem AND t.typcategory = 'A'
LEFT JOIN pg_type b ON b.oid = t.typbasetype AND t.typtype = 'd'
WHERE a.attrelid = to_regclass(%s) AND a.attnum > 0 AND NOT a.attisdropped
"""


def undescribed_types(connection: postgres.Connection, table: CatalogTable) -> dict[str, Undescribed]:
    """The columns of domains, enums, composites and unknown types. A domain arrives as what it is made of, an enum and
    an array of enums as text, all others (an array of domains too) as the bytes of their text."""
    rows = connection.execute(_TYPES, (postgres.quote(table.namespace, table.name),)).fetchall()
    return {
        column: Undescribed(native, "text" if kind == "e" else base or "bytea", declared if base else "")
        for column, native, kind, base, declared in rows
        if native not in types_postgres.BY_NAME
    }


def _postgres_field(column: CatalogColumn, own: Undescribed | None) -> Field:
    array = column.native.startswith("_")
    name = column.native.removeprefix("_") if own is None else own.native
    connect, semantic = _arrival(name if own is None else own.arrives_as)
    parameters = _parameters(
        column.native if own is None else "_" * array + name, own.declared if own else column.declared
    )
    if array:
        item = Field(column.name, connect, semantic, True, {})
        return Field(column.name, "array", "", column.nullable, parameters, item)
    return Field(column.name, connect, semantic, column.nullable, parameters)


def _arrival(native: str) -> tuple[str, str]:
    """Connect's type and the semantic type that a described type arrives as."""
    entry = types_postgres.BY_NAME.get(native)
    connect = _CONNECT_OF.get(native) or (entry.connect[0] if entry is not None and entry.connect else "string")
    return connect, _SEMANTIC_OF.get(native, "")


def _mariadb_field(column: CatalogColumn) -> Field:
    semantic = {"enum": "io.debezium.data.Enum", "set": "io.debezium.data.EnumSet"}.get(column.native, "")
    entry = types_mariadb.BY_NAME.get(column.native)
    connect = entry.connect[0] if entry is not None and entry.connect else ""
    declared = "" if semantic else column.declared
    return Field(column.name, connect, semantic, column.nullable, _parameters(column.native, declared))


def _parameters(native: str, declared: str) -> dict[str, str]:
    """The type's name and modifiers, as `column.propagate.source.type` gives them."""
    match = _MODIFIERS.search(declared)
    found = {f"{_PARAMETER}type": native}
    if match:
        found[f"{_PARAMETER}length"] = match[1]
        if match[2] is not None:
            found[f"{_PARAMETER}scale"] = match[2]
    if native in _TIMED:
        # PostgreSQL's digits of a second are a scale; MariaDB's, whose resolver reads no scale here, a length.
        found[f"{_PARAMETER}scale"] = match[1] if match else _FRACTION
    return found
