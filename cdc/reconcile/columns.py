"""How a column is read by SQL, and how what was read becomes the canonical value that the decoder gives for it.

Two tables, one per kind of source: by the type's own name first, then by the kind of its values. `sql` is a template
over `{c}`, the quoted column; `parse` makes the canonical value of what the driver hands over (never NULL).
PostgreSQL's values are read through COPY, as the text of the type's output function; MariaDB's as PyMySQL's values.

tests/conformance/test_compare.py reads every type both ways, by SQL and through Debezium, and compares the two.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from cdc.model import NEG_INFINITY, POS_INFINITY, UNAVAILABLE, ColumnType, Kind, Value
from cdc.source import values

POSTGRES_SESSION = (
    "SET TimeZone = 'UTC'; SET DateStyle = 'ISO, YMD'; SET IntervalStyle = 'postgres'; SET bytea_output = 'hex';"
    " SET extra_float_digits = 1; SET client_encoding = 'UTF8'"
)
"""What the texts below are written under: the session of a source's and of a target's connection."""


@dataclass(frozen=True)
class Reader:
    """`parse` None: what was read is canonical as it is. It raises `Inexact` for what no canonical value holds."""

    sql: str = "{c}"
    parse: Callable[[Any], Value] | None = None


def reader(column: ColumnType, source: str, *, nullable: bool = True) -> Reader:
    """How to read a column of this type. `nullable` matters where MariaDB's zero dates become something else."""
    if source == "mariadb":
        return _mariadb(column, nullable)
    if column.kind is Kind.ARRAY:
        return _array(column)
    return _postgres(column)


def canonical(parse: Callable[[Any], Value]) -> Callable[[Any], Value]:
    """`parse` for values of any kind: NULL stays, and what is inexact is UNAVAILABLE: it cannot be compared."""

    def convert(value: Any) -> Value:
        if value is None:
            return None
        try:
            return parse(value)
        except values.Inexact:
            return UNAVAILABLE

    return convert


# --- PostgreSQL: from COPY's text ----------------------------------------------------------------------------------


def _boolean(text: str) -> bool:
    return text == "t"


def _bytes(text: str) -> bytes:
    """A bytea's hex; the bytes of their text for composites and whatever else nobody described."""
    return bytes.fromhex(text[2:]) if text.startswith("\\x") else text.encode()


_INFINITIES = {"infinity": POS_INFINITY, "-infinity": NEG_INFINITY}


def _number_or_infinity(text: str) -> int:
    found = _INFINITIES.get(text)
    return int(text) if found is None else found


def _timestamp(text: str) -> int:
    micros = _number_or_infinity(text)
    if values.LATEST_MICROS <= micros < POS_INFINITY:
        raise values.Inexact("a timestamp beyond what Debezium sends")
    return micros


def _instant(date: str, time: str, digits: int) -> str:
    """An instant as Debezium writes it: with as many digits of a second as the column has."""
    whole, _, fraction = time.partition(".")
    return f"{date}T{whole}.{fraction:0<{digits}}Z" if digits else f"{date}T{whole}Z"


def _timestamptz(digits: int) -> Callable[[str], str]:
    """From '2024-02-29 12:34:56.5+00'; years before 1 and beyond 9999 become what ISO 8601 counts them as."""
    ordinary = len("2024-02-29 12:34:56.+00") + digits

    def convert(text: str) -> str:
        if len(text) == ordinary and text[4] == "-" and text[-3] == "+":
            return f"{text[:10]}T{text[11:-3]}Z"
        if text in _INFINITIES:
            return text
        before_christ = text.endswith(" BC")
        date, time = text.removesuffix(" BC").removesuffix("+00").split(" ")
        year, _, rest = date.partition("-")
        number = 1 - int(year) if before_christ else int(year)
        sign = "+" if number > 9999 else "-" if number < 0 else ""
        return _instant(f"{sign}{abs(number):04}-{rest}", time, digits)

    return convert


def _hstore(text: str) -> str:
    return msgspec.json.encode(msgspec.json.decode(text)).decode()


_FINITE = "CASE WHEN isfinite({{c}}) THEN ({0})::text ELSE {{c}}::text END"
_MICROS = "trunc(extract(epoch FROM {c}) * 1000000)"  # numeric: the last years do not fit 64 bits
_INTERVAL = (
    "CASE WHEN isfinite({c}) THEN 'P' || extract(year FROM {c}) || 'Y' || extract(month FROM {c}) || 'M'"
    " || extract(day FROM {c}) || 'DT' || extract(hour FROM {c}) || 'H' || extract(minute FROM {c}) || 'M'"
    " || trim_scale(extract(second FROM {c})) || 'S' ELSE {c}::text END"
)


def _postgres(column: ColumnType) -> Reader:
    if column.kind is Kind.TIMESTAMPTZ:
        return Reader(parse=_timestamptz(_DIGITS if column.scale is None else column.scale))
    return _POSTGRES_TYPES.get(column.native) or _POSTGRES_KINDS[column.kind]


_DIGITS = 6  # of a second, in a type that names no number

_POSTGRES_TYPES: dict[str, Reader] = {
    "money": Reader("{c}::numeric"),
    "hstore": Reader("{c}::json", _hstore),
}

_POSTGRES_KINDS: dict[Kind, Reader] = {
    Kind.BOOLEAN: Reader(parse=_boolean),
    Kind.INTEGER: Reader(parse=int),
    Kind.DECIMAL: Reader(),
    Kind.FLOAT32: Reader(parse=values.float32),
    Kind.FLOAT64: Reader(parse=float),
    Kind.TEXT: Reader(),
    Kind.BYTES: Reader(parse=_bytes),
    Kind.BITS: Reader(),
    Kind.DATE: Reader(_FINITE.format("{c} - date '1970-01-01'"), _number_or_infinity),
    Kind.TIME: Reader(_MICROS, int),
    Kind.TIMESTAMP: Reader(_FINITE.format(_MICROS), _timestamp),
    Kind.INTERVAL: Reader(_INTERVAL),
    Kind.UUID: Reader(),
    Kind.JSON: Reader(),
    Kind.LITERAL: Reader(),
}

_ITEM = re.compile(r'"((?:[^"\\]|\\.)*)"|([^,{}"]+)', re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_NESTED = "an array of several dimensions, or whose first element is not number 1"


def _array(column: ColumnType) -> Reader:
    """Where elements are not read as they are, each is taken through its own template."""
    element = column.element
    item = Reader() if element is None else _postgres(element)
    parse = item.parse

    def convert(text: str) -> list[Value]:
        items = array_items(text)
        return items if parse is None else [None if each is None else parse(each) for each in items]

    if item.sql == "{c}":
        return Reader(parse=convert)
    each = item.sql.format(c="u.x")
    elements = f"ARRAY(SELECT {each} FROM unnest({{c}}) WITH ORDINALITY AS u (x, i) ORDER BY i)"  # noqa: S608  constants
    return Reader(
        "CASE WHEN {c} IS NULL THEN NULL WHEN array_ndims({c}) > 1 OR array_lower({c}, 1) <> 1 THEN '[' ELSE "
        f"({elements})::text END",
        convert,
    )


def array_items(text: str) -> list[Any]:
    """The elements of a one-dimensional array's text. Raises `Inexact` for any other, which Debezium cannot send."""
    if text[0] == "[" or text[1] == "{":
        raise values.Inexact(_NESTED)
    items: list[Any] = []
    for match in _ITEM.finditer(text, 1):
        quoted, plain = match.groups()
        if quoted is not None:
            items.append(_ESCAPED.sub(r"\1", quoted))
        else:
            items.append(None if plain == "NULL" else plain)
    return items


# --- MariaDB: from PyMySQL's values --------------------------------------------------------------------------------


def _bits(length: int) -> Callable[[bytes], str]:
    return lambda value: format(int.from_bytes(value, "big"), f"0{length}b")


_TIME = re.compile(r"(-?)(\d+):(\d\d):(\d\d)(?:\.(\d{1,6}))?")


def _mariadb_time(text: str) -> int:
    match = _TIME.fullmatch(text)
    assert match is not None
    sign, hours, minutes, seconds, fraction = match.groups()
    micros = ((int(hours) * 60 + int(minutes)) * 60 + int(seconds)) * 1_000_000 + int((fraction or "").ljust(6, "0"))
    return -micros if sign else micros


def _mariadb_timestamp(digits: int) -> Callable[[str], str]:
    """As the stream has it; snapshot reads leave zeros at the end out. The two are the same instant."""

    def convert(text: str) -> str:
        date, time = text.split(" ")
        return _instant(date, time, digits)

    return convert


def _geometry(value: bytes) -> bytes:
    """MariaDB's own form is the SRID in four bytes, then the WKB."""
    srid = int.from_bytes(value[:4], "little")
    return values.geometry(values.Geometry(value[4:], srid or None))


# Debezium sends zero and partial dates as NULL, or as the first of 1970 for columns that are NOT NULL.
_ZERO = "YEAR({c}) = 0 OR MONTH({c}) = 0 OR DAY({c}) = 0"
_OR_ZERO = f"CASE WHEN {{c}} IS NULL THEN NULL WHEN {_ZERO} THEN {{zero}} ELSE {{value}} END"

_CHAR = "CAST({c} AS CHAR)"

_MARIADB_TYPES: dict[str, Reader] = {
    **dict.fromkeys(
        (
            *("geometry", "point", "linestring", "polygon", "multipoint"),
            *("multilinestring", "multipolygon", "geometrycollection"),
        ),
        Reader(parse=_geometry),
    ),
    "year": Reader("{c} + 0", int),
}

_MARIADB_KINDS: dict[Kind, Reader] = {
    Kind.BOOLEAN: Reader(parse=bool),
    Kind.INTEGER: Reader(),
    Kind.DECIMAL: Reader(_CHAR),
    Kind.FLOAT32: Reader("CAST({c} AS DOUBLE)", values.float32),
    Kind.FLOAT64: Reader("CAST({c} AS DOUBLE)"),
    Kind.TEXT: Reader(),
    Kind.BYTES: Reader(),
    Kind.TIME: Reader(_CHAR, _mariadb_time),
    Kind.UUID: Reader(_CHAR),
    Kind.JSON: Reader(),
}


def _mariadb(column: ColumnType, nullable: bool) -> Reader:
    if column.kind is Kind.BITS:
        return Reader(parse=_bits(column.length or 1))
    if column.kind is Kind.TIMESTAMPTZ:
        zero = "NULL" if nullable else "'1970-01-01 00:00:00'"
        return Reader(_OR_ZERO.format(c="{c}", zero=zero, value=_CHAR), _mariadb_timestamp(column.scale or 0))
    if column.kind in _MARIADB_DATES:
        zero = "NULL" if nullable else "0"
        return Reader(_OR_ZERO.format(c="{c}", zero=zero, value=_MARIADB_DATES[column.kind]), int)
    return _MARIADB_TYPES.get(column.native) or _MARIADB_KINDS[column.kind]


_MARIADB_DATES = {
    Kind.DATE: "TO_DAYS({c}) - 719528",
    Kind.TIMESTAMP: "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', {c})",
}
