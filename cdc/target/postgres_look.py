"""One row of a PostgreSQL target, looked at for a person: whether it is there, and what its guard compares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg import sql

from cdc.model import Position
from cdc.target.operator import StoredPosition
from cdc.target.postgres_statements import POSITION, identifier, tombstone_name, with_parameters

_KEY = (
    "SELECT a.attname FROM pg_index i CROSS JOIN unnest(i.indkey) WITH ORDINALITY AS k(number, place)"
    " JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number"
    " WHERE i.indrelid = to_regclass(%s) AND i.indisprimary ORDER BY k.place"
)


def look(connection: psycopg.Connection[Any], namespace: str, name: str, key: Sequence[str]) -> StoredPosition | None:
    """See `Operator.stored`. Errors are psycopg's."""
    table = identifier(namespace, name)
    columns = [row[0] for row in connection.execute(_KEY, (table.as_string(connection),)).fetchall()]
    if len(columns) != len(key):
        return None if not columns else StoredPosition(tuple(columns))
    found = _position(connection, table, POSITION, columns, key)
    buried = None
    known = "SELECT id, floor FROM cdc.target_table WHERE namespace = %s AND name = %s"
    number, floor = connection.execute(known, (namespace, name)).fetchone() or (None, None)
    if number is not None:
        buried = _position(connection, identifier("cdc", tombstone_name(number)), "_position", columns, key)
    return StoredPosition(
        tuple(columns),
        found is not None,
        found[0] if found else None,
        buried[0] if buried else None,
        Position.unpack(bytes(floor)) if floor else None,
    )


def _position(
    connection: psycopg.Connection[Any], table: sql.Composable, column: str, columns: Sequence[str], key: Sequence[str]
) -> tuple[Position | None] | None:
    """The stored position in a tuple; None: no such row."""
    same = sql.SQL(" AND ").join(identifier(each) + sql.SQL(" = %s") for each in columns)
    query = sql.SQL("SELECT {} FROM {} WHERE ").format(identifier(column), table) + same
    row = connection.execute(with_parameters(query), list(key)).fetchone()
    if row is None:
        return None
    return (None if row[0] is None else Position.unpack(bytes(row[0])),)
