"""The rows of a MariaDB table, read back for a comparison (see rows.py).

Numbers come as the driver reads them, times as the server writes them; `encode` makes the same of canonical values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from struct import Struct
from typing import Any

from cdc.db.mariadb import quote
from cdc.model import UNAVAILABLE, TargetTable, Value
from cdc.target.lines import Text
from cdc.target.mariadb_database import MariaDbDatabase
from cdc.target.mariadb_tables import stored_columns
from cdc.target.mariadb_types import BLOBS, WHOLE, Stored, encode_line
from cdc.target.rows import Cell, Cells
from cdc.target.sqlrows import PAGE, SqlRows
from cdc.target.sqlstate import Row

_FLOAT = Struct("f")
_TIMES = ("date", "datetime", "timestamp", "time")


class MariaDbRows(SqlRows):
    """A `TargetRows`. Raises `Terminal` when the table or a column of it is not there."""

    database: MariaDbDatabase

    def __init__(self, database: MariaDbDatabase, table: TargetTable) -> None:
        columns, literals = stored_columns(database, table)
        self._encoders = [_encoder(stored, literal) for stored, literal in zip(columns, literals, strict=True)]
        self._read = [_plain if stored.type == "decimal" else None for stored in columns]
        shown, name = ", ".join(map(_shown, columns)), quote(table.namespace, table.name)
        super().__init__(database, table, columns=shown, name=name, quote=quote)
        if database.is_mariadb:
            database.run("SET SESSION max_statement_time = 0")  # a whole table takes as long as it takes

    def encode(self, values: Sequence[Value]) -> Cells:
        return tuple(
            None if value is None or value is UNAVAILABLE else encode(value)
            for encode, value in zip(self._encoders, values, strict=True)
        )

    def all(self) -> Iterator[list[Cells]]:
        return map(self.cells, self.database.stream(self.alive, PAGE))

    def cells(self, rows: list[Row]) -> list[Cells]:
        if not any(self._read):
            return rows
        return [
            tuple(
                cell if read is None or cell is None else read(cell) for cell, read in zip(row, self._read, strict=True)
            )
            for row in rows
        ]


def _plain(value: Any) -> str:
    return format(value, "f")


def _shown(stored: Stored) -> str:
    name = quote(stored.name)
    if stored.type == "float":
        return f"{name} * 1e0"  # the server writes six digits of a float, and all of a double; -0 stays -0
    return f"CAST({name} AS char)" if stored.type in _TIMES else name


def _encoder(stored: Stored, literal: Text | None) -> Callable[[Value], Cell]:
    """The cell that a stored value is read as."""
    text: Callable[[Value], str] = str if literal is None else literal
    if stored.type in (*WHOLE, "year"):
        return lambda value: int(text(value))
    if stored.type == "decimal":
        return lambda value: _decimal(text(value), stored.scale or 0)
    if stored.type == "float":
        return lambda value: float(_FLOAT.unpack(_FLOAT.pack(float(text(value))))[0])
    if stored.type == "double":
        return lambda value: float(text(value))
    if stored.type in BLOBS or stored.type == "bit":
        return lambda value: encode_line(text(value))
    if stored.type in _TIMES and stored.fraction:
        return lambda value: _padded(text(value), stored.fraction or 0)
    return text


def _decimal(text: str, scale: int) -> str:
    """A decimal as its column shows it: '-0' is 0, and zeros fill the scale."""
    whole, _, fraction = text.partition(".")
    sign, digits = ("-", whole[1:]) if whole.startswith("-") else ("", whole)
    fraction = f"{fraction:0<{scale}}"
    sign = sign if (digits + fraction).strip("0") else ""
    shown = digits.lstrip("0") or "0"
    return f"{sign}{shown}.{fraction}" if scale else f"{sign}{shown}"


def _padded(text: str, digits: int) -> str:
    """A time with as many digits behind its second as its column has."""
    whole, _, fraction = text.partition(".")
    return f"{whole}.{fraction[:digits]:0<{digits}}"
