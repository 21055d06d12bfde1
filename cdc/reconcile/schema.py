"""A table of a source's catalog as the `TableSchema` that the stream gives for it.

The column types come from the source room's own resolver, fed with a description of the column as Debezium would write
it; so a type means the same here and there.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping

from cdc.db import postgres
from cdc.db.catalog import CatalogColumn, CatalogTable
from cdc.model import Column, TableSchema
from cdc.settings import SourceKind
from cdc.source import types_mariadb, types_postgres
from cdc.source.types import SourceType
from cdc.source.values import Field

_versions = itertools.count(-1, -1)  # the decoder's own are positive
_MODIFIERS = re.compile(r"\((\d+)(?:,\s*(-?\d+))?\)")
_DEFAULT_FRACTION = 6  # digits of a PostgreSQL time type that names none
_PARAMETER = "__debezium.source.column."


def table_schema(
    source: str, kind: SourceKind, table: CatalogTable, natives: Mapping[str, str] | None = None
) -> TableSchema:
    """The schema of `table`, a table of the source (topic prefix) `source`.

    `natives`: what PostgreSQL's undescribed types arrive as, by column; see `postgres_natives`. Raises `Terminal` for a
    column that the source room cannot describe.
    """
    columns = tuple(
        Column(
            each.name,
            types_postgres.resolve(_postgres_field(each, natives or {})).type
            if kind == "postgresql"
            else types_mariadb.resolve(_mariadb_field(each)).type,
            each.nullable,
            each.name in table.key,
        )
        for each in table.columns
    )
    return TableSchema(source, kind, table.namespace, table.name, columns, next(_versions))


_UNDESCRIBED = """
SELECT a.attname, CASE WHEN coalesce(e.typtype, t.typtype) = 'd' THEN lower(b.typname)
                       WHEN coalesce(e.typtype, t.typtype) = 'e' THEN 'text' ELSE '' END
FROM pg_attribute a
JOIN pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_type e ON e.oid = t.typelem AND t.typcategory = 'A'
LEFT JOIN pg_type b ON b.oid = coalesce(e.typbasetype, t.typbasetype)
WHERE a.attrelid = to_regclass(%s) AND a.attnum > 0 AND NOT a.attisdropped
"""


def postgres_natives(connection: postgres.Connection, table: CatalogTable) -> dict[str, str]:
    """By column: the described type that a domain or an enum (or an array of one) is sent as; '' for all others."""
    name = postgres.quote(table.namespace, table.name)
    return dict(connection.execute(_UNDESCRIBED, (name,)).fetchall())


def _postgres_field(column: CatalogColumn, natives: Mapping[str, str]) -> Field:
    native = column.native
    known = types_postgres.BY_NAME.get(native)
    parameters = _parameters(native, column.declared, _DEFAULT_FRACTION)
    if native.startswith("_"):
        item = types_postgres.BY_NAME.get(native[1:]) or types_postgres.BY_NAME.get(natives.get(column.name, ""))
        element = Field(column.name, _connect(item, "string"), "", True, {})
        return Field(column.name, "array", "", column.nullable, parameters, element)
    # A type that nobody described: an enum is text, a composite and others are the bytes of their text.
    base = known or types_postgres.BY_NAME.get(natives.get(column.name, ""))
    return Field(column.name, _connect(base, "bytes"), "", column.nullable, parameters)


def _connect(entry: SourceType | None, otherwise: str) -> str:
    """What Connect calls the form that a type arrives in."""
    if entry is None:
        return otherwise
    if entry.connect:
        return entry.connect[0]
    return _CONNECT.get(entry.natives[0], "string")


_CONNECT = {"int2": "int32", "bool": "boolean", "float4": "float", "float8": "double"}


def _mariadb_field(column: CatalogColumn) -> Field:
    semantic = {"enum": "io.debezium.data.Enum", "set": "io.debezium.data.EnumSet"}.get(column.native, "")
    entry = types_mariadb.BY_NAME.get(column.native)
    parameters = _parameters(column.native, column.declared if not semantic else "", None)
    return Field(column.name, entry.connect[0] if entry and entry.connect else "", semantic, column.nullable, parameters)


def _parameters(native: str, declared: str, fraction: int | None) -> dict[str, str]:
    """The type's name and modifiers, as `column.propagate.source.type` gives them."""
    found = {f"{_PARAMETER}type": native}
    match = _MODIFIERS.search(declared)
    timed = fraction is not None and native in ("time", "timestamp", "timestamptz", "interval")
    if timed:
        found[f"{_PARAMETER}scale"] = match[1] if match else str(fraction)
    elif match:
        found[f"{_PARAMETER}length"] = match[1]
        if match[2] is not None:
            found[f"{_PARAMETER}scale"] = match[2]
    return found
