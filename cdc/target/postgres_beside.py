"""Rows beside those of a PostgreSQL table (see beside.py). The server writes both sides as text, through the table's
own types, so that what is equal to it is equal here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg import sql

from cdc.model import UNAVAILABLE, DeletePolicy, TargetTable, Value
from cdc.target.beside import Pair
from cdc.target.postgres_errors import translated
from cdc.target.postgres_found import find
from cdc.target.postgres_statements import identifier, with_parameters
from cdc.target.postgres_tables import type_of
from cdc.target.postgres_types import literal_of, parse, sql_type
from cdc.target.rows import NoTable


class PostgresBeside:
    """A `Beside`."""

    def __init__(self, connection: psycopg.Connection[Any], table: TargetTable) -> None:
        self._connection = connection
        with translated():
            connection.execute("SET TimeZone = 'UTC'")
            connection.execute("SET DateStyle = 'ISO, YMD'")
            found = find(connection, table)
        if found is None:
            raise NoTable(f"there is no table {table.namespace}.{table.name}", where=table.mapping)
        columns = found.typed(table.columns)
        self._texts = [literal_of(each.type, parse(each.sql_type or sql_type(each.type))) for each in columns]
        self._query = with_parameters(_query(table, {each.name: type_of(each) for each in columns}))
        self._width = len(columns)

    def pairs(self, rows: Sequence[Sequence[Value]]) -> list[Pair]:
        lists: list[list[str | None]] = [[self._text(row, place) for row in rows] for place in range(self._width)]
        with translated():
            found = self._connection.execute(self._query, lists).fetchall()
        width = self._width
        return [Pair(tuple(row[:width]), tuple(row[width:-1]) if row[-1] else None) for row in found]

    def _text(self, row: Sequence[Value], place: int) -> str | None:
        value, text = row[place], self._texts[place]
        if value is None or value is UNAVAILABLE:
            return None
        return str(value) if text is None else text(value)

    def close(self) -> None:
        self._connection.close()


def _query(table: TargetTable, types: dict[str, sql.SQL]) -> sql.Composed:
    places = [identifier(f"c{number}") for number in range(len(types))]
    cast = sql.SQL("e.{}::{}")
    wanted = {name: cast.format(place, types[name]) for place, name in zip(places, types, strict=True)}
    held = [sql.SQL("t.{}::text").format(identifier(name)) for name in types]
    same = [sql.SQL("t.{} = {}").format(identifier(name), wanted[name]) for name in table.key]
    if table.on_delete is DeletePolicy.SOFT and table.soft_delete:
        same.append(sql.SQL("t.{} IS NOT TRUE").format(identifier(table.soft_delete)))
    return sql.SQL(
        "SELECT {wanted}, {held}, t.{key} IS NOT NULL FROM unnest({arrays}) WITH ORDINALITY AS e({places}, n)"
        " LEFT JOIN {table} t ON {same} ORDER BY e.n"
    ).format(
        wanted=sql.SQL(", ").join(sql.SQL("({})::text").format(each) for each in wanted.values()),
        held=sql.SQL(", ").join(held),
        key=identifier(table.key[0]),
        arrays=sql.SQL(", ").join(sql.SQL("%s::text[]") for _ in types),
        places=sql.SQL(", ").join(places),
        table=identifier(table.namespace, table.name),
        same=sql.SQL(" AND ").join(same),
    )
