"""SQLite as a target: how each kind of value is stored, and the functions that make the stored form.

SQLite has five storage classes, and a column's declared type decides what it does to a value on the way in (its
affinity): NUMERIC makes a float of '1.10', REAL loses the sign of -0.0, all make NULL of a NaN. So tables that we make
are STRICT and every kind has a form that survives:

    kind                        declared    stored
    BOOLEAN                     INTEGER     0 or 1
    INTEGER                     INTEGER     itself; of an unsigned 64-bit column: TEXT, its digits
    DECIMAL                     TEXT        its digits as they came: '1.10', 'NaN'; compare with CAST(… AS REAL)
    FLOAT32, FLOAT64            ANY         REAL, infinities too; NaN is the text 'NaN', which sorts behind all numbers
    TEXT, JSON, UUID, LITERAL   TEXT        itself; an hstore as JSON in the order of its keys, a point without '.0'
    BYTES                       BLOB        itself
    BITS                        TEXT        '0101'
    DATE                        TEXT        '2026-11-23', also '0044-03-15 BC', 'infinity'
    TIME                        TEXT        '09:58:02.000001'; MariaDB's durations '-838:59:59'
    TIMESTAMP                   TEXT        '2026-11-23 09:58:02.000001'
    TIMESTAMPTZ                 TEXT        '2026-11-23T09:58:02.000001Z', without zeros at the fraction's end
    INTERVAL                    TEXT        ISO 8601
    ARRAY                       TEXT        JSON: numbers and booleans as such, everything else as its text

SQLite's own date functions read the dates and times of its years, 0000 to 9999. In a table that is there already a
column's declared type decides; a kind that it would spoil is refused when the table is prepared.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from datetime import date, datetime, timedelta
from math import isnan
from typing import Any

from cdc.errors import Poison, Terminal
from cdc.model import ColumnType, Kind, Value
from cdc.target.postgres_types import date_as_text, time_literal, timestamp_as_text

Encode = Callable[[Value], Any]
_EXACT_FLOAT = 1 << 53
_NEVER_NUMERIC = frozenset((Kind.DATE, Kind.TIME, Kind.TIMESTAMP, Kind.TIMESTAMPTZ, Kind.INTERVAL, Kind.UUID))
"""Kinds whose text never looks like a number, so that NUMERIC leaves it alone."""

_NAMES = {
    "INTEGER": frozenset(
        [
            "int",
            "integer",
            "smallint",
            "bigint",
            "tinyint",
            "mediumint",
            "int2",
            "int4",
            "int8",
            "serial",
            "bigserial",
            "boolean",
            "bool",
        ]
    ),
    "TEXT": frozenset(
        ("text", "varchar", "char", "character", "character varying", "clob", "name", "citext", "string")
    ),
    "ANY": frozenset(("real", "float", "float4", "float8", "double", "double precision", "any")),
    "BLOB": frozenset(("blob", "bytea", "binary", "varbinary")),
}


def declared_type(column: ColumnType, wanted: str | None = None) -> str:
    """The type of a column that we make: as the author says it, where that is a word for one of SQLite's storage
    classes in any dialect (varchar(20) is TEXT), else the default for what arrives (numeric(10,2) says nothing)."""
    name = (wanted or "").lower().partition("(")[0].strip()
    found = next((declared for declared, names in _NAMES.items() if name in names), None)
    if found is not None and _encoder(column, found) is not None:
        return found
    if column.kind is Kind.INTEGER:
        return "TEXT" if column.native == "bigint unsigned" else "INTEGER"
    return _DEFAULTS.get(column.kind, "TEXT")


_DEFAULTS = {Kind.BOOLEAN: "INTEGER", Kind.BYTES: "BLOB", Kind.FLOAT32: "ANY", Kind.FLOAT64: "ANY"}


def storage_of(declared: str, strict: bool) -> str:
    """What a column of an existing table does to values: INTEGER, TEXT, BLOB, REAL, NUMERIC, or ANY: nothing."""
    upper = declared.upper()
    if strict:
        return "INTEGER" if upper == "INT" else upper
    if "INT" in upper:
        return "INTEGER"
    if any(word in upper for word in ("CHAR", "CLOB", "TEXT")):
        return "TEXT"
    if not upper or "BLOB" in upper:
        return "ANY"
    return "REAL" if any(word in upper for word in ("REAL", "FLOA", "DOUB")) else "NUMERIC"


def encoder(name: str, column: ColumnType, storage: str, where: str) -> Encode | None:
    """The function that makes the stored form of a canonical value (not None); None: the value itself.

    It raises `Poison` for a value that the column cannot hold. Raises `Terminal` when the column would spoil values.
    """
    found = _encoder(column, storage)
    if found is None:
        raise Terminal(
            f"column {name} stores {storage}, which does not hold every {column.kind.value} exactly",
            where=where,
            hint=f"declare it {declared_type(column)}",
        )
    return None if found is _itself else found


def encode_row(encoders: Sequence[Encode | None]) -> Callable[[Sequence[Value]], list[Any]]:
    """All columns' encoders as one function of a row."""
    pairs = [(index, encode) for index, encode in enumerate(encoders) if encode is not None]

    def row(values: Sequence[Value]) -> list[Any]:
        encoded = list(values)
        for index, encode in pairs:
            if encoded[index] is not None:
                encoded[index] = encode(encoded[index])
        return encoded

    return row


def _encoder(column: ColumnType, storage: str) -> Encode | None:
    kind = column.kind
    if storage == "TEXT":
        return as_text(column)
    if storage == "ANY":
        return _natural(column)
    if storage in ("INTEGER", "NUMERIC") and kind in (Kind.BOOLEAN, Kind.INTEGER):
        return _natural(column)
    if storage == "INTEGER" and kind is Kind.DECIMAL:
        return _whole
    if storage == "REAL":
        return {Kind.FLOAT32: _real, Kind.FLOAT64: _real, Kind.INTEGER: _small}.get(kind)
    if storage == "NUMERIC" and kind in _NEVER_NUMERIC:
        return as_text(column)
    return _itself if storage == "BLOB" and kind is Kind.BYTES else None


def _natural(column: ColumnType) -> Encode:
    """The form in a column that converts nothing."""
    if column.kind is Kind.BOOLEAN:
        return int
    if column.kind is Kind.INTEGER:
        return _itself  # beyond 64 bits the driver refuses it
    if column.kind in (Kind.FLOAT32, Kind.FLOAT64):
        return lambda value: "NaN" if isnan(value) else value
    return _itself if column.kind is Kind.BYTES else as_text(column)


def as_text(column: ColumnType) -> Encode:
    """The function that makes a text of a canonical value: the same for snapshots and streams."""
    if column.kind is Kind.ARRAY:
        return _array(column)
    if column.native == "hstore":
        return _sorted_pairs
    if column.native in _GEOMETRIC:
        return _without_needless_zeros
    return _TEXTS.get(column.kind, _itself)


def _itself(value: Value) -> Value:
    return value


def _whole(value: str) -> int:
    whole, _, fraction = value.partition(".")
    if not whole.lstrip("-").isdigit() or fraction.strip("0"):
        raise _out_of_range("a number that is no integer, for an INTEGER column")
    return int(whole)


def _real(value: float) -> float:
    if isnan(value):
        raise _out_of_range("NaN, which a REAL column cannot hold")
    return value


def _small(value: int) -> float:
    if abs(value) > _EXACT_FLOAT:
        raise _out_of_range("an integer that a REAL column does not hold exactly")
    return float(value)


def _float_text(value: float) -> str:
    return {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}.get(text := repr(value), text)


def _bytes_text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise _out_of_range("bytes that are no UTF-8 text, for a TEXT column") from error


_EPOCH = datetime(1970, 1, 1)
_EPOCH_ORDINAL = _EPOCH.toordinal()


def _date(value: int) -> str:
    try:
        return date.fromordinal(value + _EPOCH_ORDINAL).isoformat()
    except (ValueError, OverflowError):  # years that Python does not have, infinities
        return date_as_text(value)


def _timestamp(value: int) -> str:
    try:
        return str(_EPOCH + timedelta(0, 0, value))
    except OverflowError:
        return timestamp_as_text(value)


def _utc(value: str) -> str:
    """Snapshots and streams differ in the zeros at the end of a fraction."""
    return value[:-1].rstrip("0").rstrip(".") + "Z" if "." in value else value


_GEOMETRIC = frozenset(("point", "line", "lseg", "box", "path", "polygon", "circle"))
_NEEDLESS_ZERO = re.compile(r"\.0\b")


def _without_needless_zeros(value: str) -> str:
    """A snapshot says 1.0 where the stream says 1."""
    return _NEEDLESS_ZERO.sub("", value)


def _sorted_pairs(value: str) -> str:
    """The pairs of an hstore, which come in any order."""
    return json.dumps(json.loads(value), ensure_ascii=False, separators=(",", ":"), sort_keys=True)


_TEXTS: dict[Kind, Encode] = {
    Kind.BOOLEAN: lambda value: "true" if value else "false",
    Kind.INTEGER: str,
    Kind.FLOAT32: _float_text,
    Kind.FLOAT64: _float_text,
    Kind.BYTES: _bytes_text,
    Kind.DATE: _date,
    Kind.TIME: time_literal,
    Kind.TIMESTAMP: _timestamp,
    Kind.TIMESTAMPTZ: _utc,
}


def _array(column: ColumnType) -> Encode:
    element = column.element
    item: Encode = _itself
    if element is not None and element.kind is Kind.BYTES:
        item = lambda value: "\\x" + value.hex()  # noqa: E731
    elif element is not None and element.kind not in (Kind.BOOLEAN, Kind.INTEGER):
        item = _finite_number if element.kind in (Kind.FLOAT32, Kind.FLOAT64) else as_text(element)

    def convert(value: list[Any]) -> str:
        items = [None if each is None else item(each) for each in value]
        return json.dumps(items, ensure_ascii=False, separators=(",", ":"))

    return convert


def _finite_number(value: float) -> float | str:
    text = _float_text(value)
    return text if text[-1] in "Ny" else value


def _out_of_range(what: str) -> Poison:
    return Poison(what, reason="value_out_of_range")
