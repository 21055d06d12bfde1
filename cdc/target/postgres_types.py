"""PostgreSQL as a target: the default column type for every source type, and canonical values as COPY's text.

Two levels. A *literal* is what the input function of the column's type reads. A *field* is a literal with COPY's
escapes (backslash, tab, line ends). Most literals hold nothing to escape, and most values are their own literal.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

import msgspec

from cdc.errors import Poison
from cdc.model import NEG_INFINITY, POS_INFINITY, ColumnType, Kind, Value
from cdc.target.postgres_exact import narrower

Text = Callable[[Value], str]

# --- the target's type for a source's ------------------------------------------------------------------------------

_INTEGERS = {
    **dict.fromkeys(("int2", "smallint", "smallserial", "tinyint", "tinyint unsigned", "year"), "smallint"),
    **dict.fromkeys(("int4", "serial", "int", "integer", "mediumint", "boolean", "bool"), "integer"),
    **dict.fromkeys(("smallint unsigned", "mediumint unsigned"), "integer"),
    "bigint unsigned": "numeric(20,0)",
}
_RANGES = {"smallint": 1 << 15, "integer": 1 << 31, "bigint": 1 << 63}
_BUILT_IN = frozenset(
    (
        *("inet", "cidr", "macaddr", "macaddr8", "point", "line", "lseg", "box", "path", "polygon", "circle"),
        *("int4range", "int8range", "numrange", "tsrange", "tstzrange", "daterange"),
        *("int4multirange", "int8multirange", "nummultirange", "tsmultirange", "tstzmultirange", "datemultirange"),
        *("tsvector", "tsquery", "jsonpath", "pg_lsn", "xid", "xid8"),
    )
)
"""Literal types every PostgreSQL has. Others (regclass, lquery: names of objects, an extension) become text."""


def sql_type(column: ColumnType) -> str:
    """The type of a target column that holds every value of `column` exactly."""
    kind, native = column.kind, column.native
    if kind is Kind.INTEGER:
        return _INTEGERS.get(native, "bigint")
    if kind is Kind.DECIMAL:
        return f"numeric({column.length},{column.scale or 0})" if column.length else "numeric"
    if kind is Kind.TEXT:
        return _text_type(column)
    if kind is Kind.BITS:
        return f"bit({column.length or 1})"
    if kind is Kind.TIME:
        # MariaDB's TIME is a duration of up to 838 hours, either way: only an interval holds it.
        return "interval" if column.length is not None else _with_fraction("time", column.scale)
    if kind is Kind.TIMESTAMP:
        return _with_fraction("timestamp", column.scale)
    if kind is Kind.TIMESTAMPTZ:
        return _with_fraction("timestamptz", column.scale)
    if kind is Kind.JSON:
        # jsonb drops duplicate keys, order and spaces: only what was jsonb (or a flat hstore) may become jsonb
        return "jsonb" if native in ("jsonb", "hstore") else "json"
    if kind is Kind.LITERAL:
        return native if native in _BUILT_IN else "text"
    if kind is Kind.ARRAY:
        return f"{sql_type(column.element)}[]" if column.element is not None else "text[]"
    return _PLAIN[kind]


_PLAIN = {
    Kind.BOOLEAN: "boolean",
    Kind.FLOAT32: "real",
    Kind.FLOAT64: "double precision",
    Kind.BYTES: "bytea",
    Kind.DATE: "date",
    Kind.INTERVAL: "interval",
    Kind.UUID: "uuid",
}


def _text_type(column: ColumnType) -> str:
    if column.native == "bpchar":
        return f"char({column.length})" if column.length else "bpchar"
    if column.native in ("varchar", "char", "nchar", "nvarchar") and column.length:
        return f"varchar({column.length})"
    return column.native if column.native in ("xml", "name") else "text"


def _with_fraction(name: str, digits: int | None) -> str:
    return name if digits is None or digits >= 6 else f"{name}({digits})"


# --- literals ------------------------------------------------------------------------------------------------------

_SQL_TYPE = re.compile(
    r"""\s*(?:pg_catalog\.)?([a-z_0-9 ."]+?)\s*   # the name
    (?:\(\s*(\d+)\s*(?:,\s*(-?\d+)\s*)?\))?\s*   # length or precision, scale
    (\[\s*\d*\s*\])*\s*$                        # array""",
    re.VERBOSE,
)
_SYNONYMS = {
    "int2": "smallint",
    "int4": "integer",
    "int": "integer",
    "int8": "bigint",
    "bool": "boolean",
    "character varying": "varchar",
    "character": "char",
    "bpchar": "char",
    "decimal": "numeric",
    "float8": "double precision",
    "float4": "real",
    "bit varying": "varbit",
    "timestamp without time zone": "timestamp",
    "timestamp with time zone": "timestamptz",
    "time without time zone": "time",
}
_TEXTUAL = frozenset(("text", "varchar", "char", "citext", "name", "xml", "json", "jsonb"))


class SqlType(msgspec.Struct, frozen=True):
    """A column's type text, taken apart: 'varchar(20)[]' is varchar, 20, an array; 'numeric(9,2)' has a scale."""

    name: str
    length: int | None = None
    array: bool = False
    scale: int | None = None


def parse(text: str) -> SqlType:
    """`text` taken apart; types with more words than we know are their lower-case text."""
    lower = text.lower()
    moved = re.sub(r"(timestamp|time)\s*\((\d)\)\s*(with(?:out)? time zone)", r"\1 \3(\2)", lower)
    match = _SQL_TYPE.match(moved)
    if match is None:
        return SqlType(lower.strip())
    name = match[1].strip()
    length, scale = (int(digits) if digits else None for digits in match.group(2, 3))
    return SqlType(_SYNONYMS.get(name, name), length, match[4] is not None, scale)


def encoder(column: ColumnType, target: str) -> Text | None:
    """The function that makes COPY's text field of a canonical value for a column of type `target`.

    None: `str(value)` is the field. The caller writes NULL (and UNAVAILABLE) as \\N. The function raises `Poison` with
    reason 'value_out_of_range' for a value that the column cannot hold.
    """
    literal = literal_of(column, parse(target))
    if not _risky(column):
        return literal
    if literal is None:
        return lambda value: escape(str(value))
    return lambda value: escape(literal(value))


def _risky(column: ColumnType) -> bool:
    """Whether literals may hold what COPY escapes."""
    return column.kind in (Kind.TEXT, Kind.JSON, Kind.LITERAL, Kind.BYTES, Kind.ARRAY)


_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
_SPECIAL = re.compile(r"[\\\t\n\r\x00]").search


def escape(literal: str) -> str:
    """A literal as a field of COPY's text format. Raises `Poison` for NUL, which no PostgreSQL text can hold."""
    if _SPECIAL(literal) is None:
        return literal
    if "\x00" in literal:
        raise _out_of_range("PostgreSQL's text cannot hold the character NUL")
    return literal.translate(_ESCAPES)


def _out_of_range(what: str) -> Poison:
    return Poison(what, reason="value_out_of_range")


def literal_of(column: ColumnType, target: SqlType) -> Text | None:
    """The function from a canonical value to what the target type reads; None when that is `str(value)`."""
    if target.array or column.kind is Kind.ARRAY:
        return _array_literal(column, target)
    make = _MAKERS.get(column.kind)
    literal, fits = make(column, target) if make is not None else None, narrower(column, target)
    if fits is None:
        return literal

    def checked(value: Value) -> str:
        if not fits(value):
            raise _out_of_range(f"a value that {target.name} would round or cut: make the column wider, or round it")
        return str(value) if literal is None else literal(value)

    return checked


def _integer(column: ColumnType, target: SqlType) -> Text | None:
    limit = _RANGES.get(target.name)
    if target.name == "boolean":
        return _zero_or_one
    if limit is None or _RANGES.get(sql_type(column), limit + 1) <= limit:
        return None

    def convert(value: int) -> str:
        if -limit <= value < limit:
            return str(value)
        raise _out_of_range(f"a number beyond the range of {target.name}")

    return convert


def _zero_or_one(value: int) -> str:
    if value in (0, 1):
        return str(value)
    raise _out_of_range("a number other than 0 and 1 for a boolean column")


def _boolean(column: ColumnType, target: SqlType) -> Text | None:
    if target.name == "boolean":
        return None
    if target.name in _TEXTUAL:
        return lambda value: "true" if value else "false"
    return lambda value: "1" if value else "0"


def _text(column: ColumnType, target: SqlType) -> Text | None:
    limit = target.length if target.name in ("varchar", "char") else None
    if limit is None or (column.length is not None and column.length <= limit):
        return None

    def convert(value: str) -> str:
        if len(value) > limit and len(value.rstrip(" ")) > limit:
            raise _out_of_range(f"a text longer than {target.name}({limit})")
        return value

    return convert


def _bytes(column: ColumnType, target: SqlType) -> Text | None:
    if target.name in _TEXTUAL:
        return bytes_as_text
    return lambda value: "\\x" + value.hex()


def bytes_as_text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise _out_of_range("bytes that are no UTF-8 text, for a text column") from error


def _bits(column: ColumnType, target: SqlType) -> Text | None:
    if target.name in ("smallint", "integer", "bigint", "numeric"):
        return lambda value: str(int(value, 2))
    return None


_EPOCH = datetime(1970, 1, 1)
_EPOCH_JULIAN = 2440588  # PostgreSQL reads 'J2440588': every date of its range, before Christ too, as one number
_DAY = 86_400_000_000
_PYTHON_DAYS = range(-719162, 2932897)  # 0001-01-01 to 9999-12-31
_PYTHON_MICROS = range(_PYTHON_DAYS.start * _DAY, _PYTHON_DAYS.stop * _DAY)
_INFINITIES = {POS_INFINITY: "infinity", NEG_INFINITY: "-infinity"}


def date_literal(value: int) -> str:
    infinite = _INFINITIES.get(value)
    return infinite if infinite is not None else f"J{value + _EPOCH_JULIAN}"


def timestamp_literal(value: int) -> str:
    seconds, micros = divmod(value, 1_000_000)
    try:
        return f"{_second(seconds)}.{micros:06}" if micros else _second(seconds)
    except OverflowError:
        infinite = _INFINITIES.get(value)
        if infinite is not None:
            return infinite
        days, micros = divmod(value, _DAY)
        return f"J{days + _EPOCH_JULIAN} {time_literal(micros)}"


@lru_cache(maxsize=8192)  # changes of one transaction, and of one moment, share theirs: 0.25 µs instead of 0.65
def _second(seconds: int) -> str:
    return str(_EPOCH + timedelta(0, seconds))


def time_literal(value: int) -> str:
    """'HH:MM:SS.ffffff'; hours may be 24 (and more or negative for MariaDB, which `time` columns do not take)."""
    sign = "-" if value < 0 else ""
    seconds, micros = divmod(abs(value), 1_000_000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    fraction = f".{micros:06}" if micros else ""
    return f"{sign}{hours:02}:{minutes:02}:{seconds:02}{fraction}"


def _date(column: ColumnType, target: SqlType) -> Text | None:
    return date_as_text if target.name in _TEXTUAL else date_literal


def date_as_text(value: int) -> str:
    """ISO 8601 as PostgreSQL writes it, with ' BC' for years before 1."""
    return _INFINITIES.get(value) or calendar_date(value)


def calendar_date(days: int) -> str:
    """A day number as 'YYYY-MM-DD' (proleptic Gregorian, any year; ' BC' where needed)."""
    if days in _PYTHON_DAYS:
        return (_EPOCH + timedelta(days)).date().isoformat()
    eras, rest = divmod(days - _PYTHON_DAYS.start, 146097)  # 400 years of the calendar
    within = (_EPOCH + timedelta(_PYTHON_DAYS.start + rest)).date()
    year = within.year + 400 * eras
    suffix = "" if year > 0 else " BC"
    return f"{year if year > 0 else 1 - year:04}-{within:%m-%d}{suffix}"


def _time(column: ColumnType, target: SqlType) -> Text | None:
    if target.name == "interval":
        return lambda value: f"{value} microseconds"
    if target.name in _TEXTUAL:
        return time_literal

    def convert(value: int) -> str:
        if 0 <= value <= _DAY:
            return time_literal(value)
        raise _out_of_range("a duration that is no time of day")

    return convert


def _timestamp(column: ColumnType, target: SqlType) -> Text | None:
    if target.name in _TEXTUAL:
        return timestamp_as_text
    if target.name == "timestamptz":
        return lambda value: f"{timestamp_literal(value)}Z" if abs(value) < POS_INFINITY else timestamp_literal(value)
    return timestamp_literal


def timestamp_as_text(value: int) -> str:
    infinite = _INFINITIES.get(value)
    if infinite is not None:
        return infinite
    days, micros = divmod(value, _DAY)
    date, _, era = calendar_date(days).partition(" ")
    return f"{date} {time_literal(micros)}" + (f" {era}" if era else "")


def _timestamptz(column: ColumnType, target: SqlType) -> Text | None:
    return None if target.name in _TEXTUAL else timestamptz_literal


def timestamptz_literal(value: str) -> str:
    """Debezium's text; years that PostgreSQL writes otherwise (0000 is 1 BC, -0001 is 2 BC, +10000) rewritten."""
    if value[0] not in "0+-" or value == "-infinity":
        return value
    year, _, rest = value[1:].partition("-") if value[0] in "+-" else value.partition("-")
    number = -int(year) if value[0] == "-" else int(year)
    return f"{number:04}-{rest}" if number > 0 else f"{1 - number:04}-{rest} BC"


def _json(column: ColumnType, target: SqlType) -> Text | None:
    return _hstore_literal if target.name.endswith("hstore") else None


def _hstore_literal(value: str) -> str:
    pairs = msgspec.json.decode(value, type=dict[str, str | None])
    return ",".join(f"{_quoted(name)}=>{'NULL' if text is None else _quoted(text)}" for name, text in pairs.items())


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _array_literal(column: ColumnType, target: SqlType) -> Text:
    element = column.element
    if element is None or not target.array:
        return lambda value: msgspec.json.encode(value).decode()
    inner = literal_of(element, msgspec.structs.replace(target, array=False))

    def convert(value: list[Any]) -> str:
        items = ["NULL" if item is None else _quoted(inner(item) if inner else str(item)) for item in value]
        return "{" + ",".join(items) + "}"

    return convert


_MAKERS: dict[Kind, Callable[[ColumnType, SqlType], Text | None]] = {
    Kind.INTEGER: _integer,
    Kind.BOOLEAN: _boolean,
    Kind.TEXT: _text,
    Kind.BYTES: _bytes,
    Kind.BITS: _bits,
    Kind.DATE: _date,
    Kind.TIME: _time,
    Kind.TIMESTAMP: _timestamp,
    Kind.TIMESTAMPTZ: _timestamptz,
    Kind.JSON: _json,
}
