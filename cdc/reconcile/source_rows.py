"""The rows of a source table as canonical values, streamed: all of them, or those of some keys.

PostgreSQL streams one COPY. MariaDB is read page by page along its primary key, so that neither side holds more than a
page and no transaction stays open; what moves between pages meanwhile differs at first and is looked at again.
"""

# ruff: noqa: S608  composed of quoted identifiers and constants only

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from itertools import islice
from typing import Any, Protocol

from cdc.db import mariadb, postgres
from cdc.db.catalog import CatalogTable
from cdc.entries import SourceSettings
from cdc.errors import CdcError, Terminal, Transient
from cdc.model import UNAVAILABLE, Kind, TableSchema, Value
from cdc.reconcile.columns import POSTGRES_SESSION, Reader, canonical, reader
from cdc.source.described import table_schema, undescribed_types
from cdc.source.refusals import refusal

PAGE = 5000
"""Rows that are handed over, and for MariaDB read, at a time."""

Image = tuple[Value, ...]
Key = tuple[str, ...]
Connection = postgres.Connection | mariadb.Connection


class SourceRows(Protocol):
    """One source table. Reads only. A lost connection is `Transient`, a missing privilege `Terminal`."""

    schema: TableSchema

    def all(self) -> Iterator[list[Image]]:
        """Every row, in the order of `schema.columns`, in lists of at most `PAGE`. Columns that can't be carried
        exactly, and values that no canonical value holds, are UNAVAILABLE."""

    def of_keys(self, keys: Sequence[Key]) -> Iterator[list[Image]] | None:
        """The rows of these source keys (texts, in the order of `schema.key`), and perhaps some more: a source may find
        more texts equal than we do. None when a key is no value of the source's types."""


KEY_KINDS = {
    "postgresql": frozenset(Kind) - {Kind.FLOAT32, Kind.FLOAT64, Kind.JSON, Kind.ARRAY, Kind.INTERVAL},
    "mariadb": frozenset((Kind.INTEGER, Kind.DECIMAL, Kind.TEXT, Kind.UUID, Kind.DATE)),
}
"""Kinds of key columns whose target text, in a column of the default type, finds the row at the source."""


@contextmanager
def open_source(settings: SourceSettings) -> Iterator[Callable[[str, str], SourceRows]]:
    """A function that gives the rows of a table by namespace and name; it raises `Terminal` when there is none."""
    where = settings.where
    if settings.kind == "postgresql":
        with postgres.connect(settings, application_name="cdc compare") as pg, reading(pg, where):
            pg.execute(POSTGRES_SESSION.encode())
            pg.execute("SET default_transaction_read_only = on")
            yield lambda *name: _PostgresRows(pg, settings, _table(postgres.catalog, pg, where, *name))
        return
    with mariadb.connect(settings) as maria, reading(maria, where):
        yield lambda *name: _MariadbRows(maria, settings, _table(mariadb.catalog, maria, where, *name))


def _table(catalog: Any, connection: Any, where: str, namespace: str, name: str) -> CatalogTable:
    with reading(connection, where):
        found: tuple[CatalogTable, ...] = catalog(connection, (namespace,), (name,))
    if not found or not found[0].columns:
        hint = "check 'from:' of the mapping; does this user have the right to see it?"
        raise Terminal(f"there is no table {namespace}.{name}", where=where, hint=hint)
    return found[0]


_DENIED = (1044, 1142, 1143)
"""MariaDB's numbers for a missing privilege on a database, table or column, which its driver calls operational."""


@contextmanager
def reading(connection: Connection, where: str) -> Iterator[None]:
    """Errors of the driver as ours."""
    try:
        yield
    except CdcError:
        raise
    except (postgres.LOST, *mariadb.LOST) as error:
        if error.args and error.args[0] in _DENIED:
            raise Terminal(_text(error), where=where, hint=_GRANT) from error
        raise Transient(_text(error), where=where, hint="is the server up and reachable from here?") from error
    except connection.ProgrammingError as error:
        denied = getattr(error, "sqlstate", None) == "42501"
        raise Terminal(_text(error), where=where, hint=_GRANT if denied else None) from error


_GRANT = "grant SELECT on the table to this user"


def _text(error: Exception) -> str:
    return str(error.args[-1] if error.args else error).strip().partition("\n")[0] or type(error).__name__


class _Readers:
    """The select list of a table and the functions that make canonical values of what it gives."""

    def __init__(self, schema: TableSchema, quote: Callable[[str], str]) -> None:
        chosen: list[tuple[int, Reader]] = []
        for index, column in enumerate(schema.columns):
            if refusal(column.type, schema.kind) is None:
                chosen.append((index, reader(column.type, schema.kind, nullable=column.nullable)))
        self.sql = ", ".join(each.sql.replace("{c}", quote(schema.columns[index].name)) for index, each in chosen)
        self.number = len(chosen)
        self._width = len(schema.columns)
        self._places = [index for index, _ in chosen]
        self._parsers = [(place, canonical(each.parse)) for place, (_, each) in enumerate(chosen) if each.parse]

    def images(self, rows: Sequence[Sequence[Any]]) -> list[Image]:
        """`rows` of the select list as images of the schema."""
        if not rows:
            return []
        columns: list[Any] = list(zip(*rows, strict=True))
        for place, parse in self._parsers:
            columns[place] = list(map(parse, columns[place]))
        if self.number < self._width:
            full: list[Any] = [[UNAVAILABLE] * len(rows)] * self._width
            for place, index in enumerate(self._places):
                full[index] = columns[place]
            columns = full
        return list(zip(*columns, strict=True))


class _PostgresRows:
    def __init__(self, connection: postgres.Connection, settings: SourceSettings, table: CatalogTable) -> None:
        self._connection = connection
        self._where = settings.where
        with reading(connection, self._where):
            own = undescribed_types(connection, table)
        self.schema = table_schema(settings.name, "postgresql", table, own)
        self._table = postgres.quote(table.namespace, table.name)
        self._readers = _Readers(self.schema, postgres.quote)
        self._key_types = [column.declared for column in table.columns if column.name in table.key]

    def all(self) -> Iterator[list[Image]]:
        return self._copy(f"COPY (SELECT {self._readers.sql} FROM {self._table}) TO STDOUT", None)

    def of_keys(self, keys: Sequence[Key]) -> Iterator[list[Image]] | None:
        names = ", ".join(map(postgres.quote, self.schema.key))
        places = [f"k{index}" for index in range(len(self._key_types))]
        casts = ", ".join(f"{place}::{type_}" for place, type_ in zip(places, self._key_types, strict=True))
        arrays = ", ".join("%s::text[]" for _ in places)
        select = f"SELECT {self._readers.sql} FROM {self._table} WHERE ({names}) IN (SELECT {casts} FROM unnest("
        statement = f"COPY ({select.replace('%', '%%')}{arrays}) AS u ({', '.join(places)}))) TO STDOUT"
        try:
            return iter(list(self._copy(statement, tuple(list(column) for column in zip(*keys, strict=True)))))
        except self._connection.DataError:
            return None

    def _copy(self, statement: str, parameters: tuple[Any, ...] | None) -> Iterator[list[Image]]:
        with (
            reading(self._connection, self._where),
            self._connection.cursor() as cursor,
            cursor.copy(statement.encode(), parameters) as copy,
        ):
            copy.set_types(["text"] * self._readers.number)
            rows = copy.rows()
            while page := list(islice(rows, PAGE)):
                yield self._readers.images(page)


class _MariadbRows:
    def __init__(self, connection: mariadb.Connection, settings: SourceSettings, table: CatalogTable) -> None:
        self._connection = connection
        self._where = settings.where
        self.schema = table_schema(settings.name, "mariadb", table)
        self._readers = _Readers(self.schema, mariadb.quote)
        self._order = [mariadb.quote(name) for name in table.key]  # as the index has them
        sql = ", ".join([self._readers.sql, *self._order])
        self._select = f"SELECT {sql} FROM {mariadb.quote(table.namespace, table.name)}".replace("%", "%%")
        self._numbers = [column.type.kind for column in self.schema.columns if column.key]

    def all(self) -> Iterator[list[Image]]:
        last: tuple[Any, ...] | None = None
        order = ", ".join(self._order).replace("%", "%%")
        while True:
            where, after = self._after(last) if last is not None else ("", ())
            # Without a key there is nothing to turn the page by: the driver holds the whole table then.
            paging = f" ORDER BY {order} LIMIT {PAGE}" if order else ""
            rows = self._rows(f"{self._select}{where}{paging}", after)
            yield self._images(rows)
            if len(rows) < PAGE or not order:
                return
            last = rows[-1][self._readers.number :]

    def of_keys(self, keys: Sequence[Key]) -> Iterator[list[Image]] | None:
        names = ", ".join(mariadb.quote(name) for name in self.schema.key).replace("%", "%%")
        places = ", ".join(f"({', '.join('%s' for _ in self.schema.key)})" for _ in keys)
        values = [_typed(kind, text) for key in keys for kind, text in zip(self._numbers, key, strict=True)]
        return iter([self._images(self._rows(f"{self._select} WHERE ({names}) IN ({places})", tuple(values)))])

    def _after(self, last: tuple[Any, ...]) -> tuple[str, tuple[Any, ...]]:
        """Rows behind `last` in the key's order; the first condition lets the index begin at the right place."""
        names = [name.replace("%", "%%") for name in self._order]
        steps: list[str] = []
        values: list[Any] = [last[0]]
        for place in range(len(names)):
            steps.append(" AND ".join([*(f"{name} = %s" for name in names[:place]), f"{names[place]} > %s"]))
            values += last[: place + 1]
        return f" WHERE {names[0]} >= %s AND ({' OR '.join(f'({step})' for step in steps)})", tuple(values)

    def _images(self, rows: Sequence[tuple[Any, ...]]) -> list[Image]:
        number = self._readers.number
        return self._readers.images([row[:number] for row in rows])

    def _rows(self, statement: str, values: tuple[Any, ...]) -> Sequence[tuple[Any, ...]]:
        with reading(self._connection, self._where), self._connection.cursor() as cursor:
            cursor.execute(statement, values)
            found: Sequence[tuple[Any, ...]] = cursor.fetchall()
            return found


def _typed(kind: Kind, text: str) -> object:
    """A key's text as what MariaDB compares exactly: it would compare a number with a text as floats."""
    if kind is Kind.INTEGER:
        return int(text)
    return Decimal(text) if kind is Kind.DECIMAL else text
