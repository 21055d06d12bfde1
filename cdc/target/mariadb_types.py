"""MariaDB and MySQL as a target: the column type for every kind of value, and canonical values as LOAD DATA's text.

    kind          column made                        stored                       parked (value_out_of_range)
    BOOLEAN       tinyint(1)                         0 or 1
    INTEGER       smallint, int, bigint,             itself                       what the column's range lacks
                  bigint unsigned, …
    DECIMAL       decimal(p,s), to decimal(65,30)    itself ('1.10' may come      what p and s do not hold; NaN and
                                                     back as '1.1000…')           infinities. Nothing is rounded
    FLOAT32/64    float, double                      itself, -0.0 too             NaN, infinities
    TEXT          varchar(n) to 255, else longtext   itself, NUL included         longer than a key column
    BYTES         varbinary(n) to 255, else longblob itself                       longer than a key column
    BITS          bit(n) to 64, else longtext        itself
    DATE          date                               itself                       years beyond 1 to 9999, infinities
    TIMESTAMP     datetime(6)                        itself                       the same
    TIMESTAMPTZ   datetime(6)                        the moment in UTC            the same
    TIME          time(6)                            24:00, ±838:59:59.999999
    UUID          varchar(36)                        canonical lower case
    JSON          longtext                           the text as it came
    INTERVAL, LITERAL, ARRAY   longtext              text; arrays as JSON

Texts are utf8mb4 and compare by their characters' codes without padding, so that 'a', 'A' and 'a ' are three keys. A
key has 3,072 bytes, 768 characters: text key columns without a length share what is there.

Years before 1000 are beyond what the manuals promise; they are stored and come back exactly (tested on MariaDB 11.4).
Not `timestamp`: it ends in 2038. Not `json`: MySQL's rewrites numbers and order. Not `char(n)`: it drops blanks.
In a table that is there its columns' own types decide; a column that would spoil a kind stops the pipeline when the
table is prepared, a value that does not fit is parked.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, datetime, timedelta
from math import isfinite

import msgspec

from cdc.errors import Poison, Terminal
from cdc.model import ColumnType, Kind, TargetColumn, Value
from cdc.target.lines import Text
from cdc.target.postgres_types import time_literal
from cdc.target.sqlite_types import as_text

KEY_BYTES = 3072
"""The longest key of an InnoDB table."""
_CHARACTER = 4  # bytes of a utf8mb4 character, at most
_SHORT = 255

# --- the type of a column that we make -----------------------------------------------------------------------------

_INTEGERS = {
    **dict.fromkeys(("int2", "smallint", "smallserial", "year"), "smallint"),
    **dict.fromkeys(("int4", "serial", "int", "integer", "boolean", "bool"), "int"),
    **{f"{name}{sign}": f"{name}{sign}" for name in ("tinyint", "mediumint") for sign in ("", " unsigned")},
    **{f"{name} unsigned": f"{name} unsigned" for name in ("smallint", "int", "bigint")},
    "integer unsigned": "int unsigned",
}
_AUTHORS = {
    "text": "longtext",  # ours ends at 64 KiB
    "citext": "longtext",
    "json": "longtext",
    "jsonb": "longtext",
    "xml": "longtext",
    "interval": "varchar(100)",
    "inet": "varchar(100)",
    "cidr": "varchar(100)",
    "uuid": "varchar(36)",
    "bytea": "longblob",
    "numeric": "decimal(65,30)",
    "decimal": "decimal(65,30)",
    "boolean": "tinyint(1)",
    "bool": "tinyint(1)",
    "real": "float",
    "timestamp": "datetime(6)",
    "timestamptz": "datetime(6)",
    "timestamp with time zone": "datetime(6)",
    "timestamp without time zone": "datetime(6)",
    "time": "time(6)",
}
"""Types that an author may write in PostgreSQL's words, or that mean less here than there. Others stand as they are."""


def declared_type(column: TargetColumn, key_bytes: int | None) -> str:
    """The type of a column that we make: the author's, else one that holds every value of its source's type.
    `key_bytes`: what a key column without a length may take; None for others."""
    if column.sql_type:
        return _AUTHORS.get(column.sql_type.strip().lower(), column.sql_type)
    made = _default(column.type)
    if key_bytes is not None and made == "longtext":
        return f"varchar({key_bytes // _CHARACTER})"
    return f"varbinary({key_bytes})" if key_bytes is not None and made == "longblob" else made


def _default(column: ColumnType) -> str:
    kind, length = column.kind, column.length
    if kind is Kind.INTEGER:
        return _INTEGERS.get(column.native, "bigint")
    if kind is Kind.DECIMAL:
        return _decimal_type(length, column.scale or 0)
    if kind is Kind.TEXT and length and length <= _SHORT:
        return f"varchar({length})"
    if kind is Kind.BYTES and length and length <= _SHORT:
        return f"varbinary({length})"
    if kind is Kind.BITS and (length or 1) <= 64:
        return f"bit({length or 1})"
    return _DEFAULTS.get(kind, "longtext")


_DEFAULTS = {
    Kind.BOOLEAN: "tinyint(1)",
    Kind.FLOAT32: "float",
    Kind.FLOAT64: "double",
    Kind.BYTES: "longblob",
    Kind.DATE: "date",
    Kind.TIME: "time(6)",
    Kind.TIMESTAMP: "datetime(6)",
    Kind.TIMESTAMPTZ: "datetime(6)",
    Kind.UUID: "varchar(36)",
}


def _decimal_type(precision: int | None, scale: int) -> str:
    if not precision:
        return "decimal(65,30)"
    whole, fraction = max(precision - scale, 0), min(max(scale, 0), 30)
    return f"decimal({min(max(whole + fraction, 1), 65)},{fraction})"


# --- the columns as they are ---------------------------------------------------------------------------------------


class Stored(msgspec.Struct, frozen=True):
    """A column of a table that is there. `type` is its name alone ('bigint'), `full` with everything ('bigint(20)
    unsigned'). `length`: characters or bytes; `digits`/`scale` of numbers; `fraction`: digits of a second."""

    name: str
    type: str
    full: str
    length: int | None
    digits: int | None
    scale: int | None
    fraction: int | None
    charset: str | None
    collation: str | None
    nullable: bool
    generated: bool


_TEXTS = frozenset(("varchar", "char", "tinytext", "text", "mediumtext", "longtext"))
BLOBS = frozenset(("varbinary", "binary", "tinyblob", "blob", "mediumblob", "longblob"))
WHOLE = frozenset(("tinyint", "smallint", "mediumint", "int", "bigint"))


def literal(column: TargetColumn, stored: Stored, where: str) -> Text | None:
    """The function from a canonical value (not None) to what the column reads; None: `str(value)`.

    It raises `Poison` for a value that the column cannot hold and the server would change without a word. Raises
    `Terminal` when the column would spoil values.
    """
    kind = column.type.kind
    if stored.type in _TEXTS or (stored.type == "json" and kind in (Kind.JSON, Kind.ARRAY)):
        return _as_text(column.type, stored)
    if kind is Kind.UUID and stored.type == "uuid":
        return None
    make = _MAKERS.get(kind)
    try:
        return make(column.type, stored) if make else _spoils()
    except ValueError:
        raise Terminal(
            f"column {column.name} is {stored.full}, which does not hold every {kind.value} exactly",
            where=where,
            hint=f"make it {_default(column.type)}, or leave the column out",
        ) from None


def _spoils() -> Text:
    raise ValueError


def _as_text(column: ColumnType, stored: Stored) -> Text | None:
    made = None if column.kind is Kind.TEXT else as_text(column)
    if stored.type != "char":
        return made

    def unpadded(value: Value) -> str:
        text = str(value) if made is None else made(value)
        if text.endswith(" "):
            raise _out_of_range("a text that ends in blanks, which a char column drops")
        return text

    return unpadded


def _integer(column: ColumnType, stored: Stored) -> Text | None:
    if stored.type == "year":
        return _year
    if stored.type == "decimal" and not stored.scale:
        return None
    return None if stored.type in WHOLE else _spoils()


def _year(value: int) -> str:
    if 1901 <= value <= 2155:
        return str(value)
    raise _out_of_range("a number that is no year from 1901 to 2155")  # 0 to 99 mean other years


def _boolean(column: ColumnType, stored: Stored) -> Text | None:
    if stored.type in WHOLE or stored.type == "decimal":
        return lambda value: "1" if value else "0"
    return (lambda value: "\x01" if value else "\x00") if stored.full == "bit(1)" else _spoils()


def _decimal(column: ColumnType, stored: Stored) -> Text | None:
    if stored.type not in WHOLE and stored.type != "decimal":
        return _spoils()
    scale = stored.scale or 0
    most = (stored.digits or 0) - scale

    def convert(value: str) -> str:
        whole, _, fraction = value.partition(".")
        digits = whole.lstrip("-").lstrip("0")
        if digits and not digits.isdigit():
            raise _out_of_range("a number that is not finite")
        if len(digits) > most:
            raise _out_of_range(f"a number with more than {most} digits before the point")
        if len(fraction) > scale and fraction.rstrip("0")[scale:]:
            raise _out_of_range(f"a number with more than {scale} digits behind the point")
        return value if len(fraction) <= scale else f"{whole}.{fraction[:scale]}" if scale else whole

    return convert


def _float(column: ColumnType, stored: Stored) -> Text | None:
    if stored.type != "double" and (stored.type != "float" or column.kind is not Kind.FLOAT32):
        return _spoils()

    def convert(value: float) -> str:
        if isfinite(value):
            return repr(value)
        raise _out_of_range("a number that is not finite")

    return convert


def _bytes(column: ColumnType, stored: Stored) -> Text | None:
    if stored.type not in BLOBS:
        return _spoils()
    if stored.type != "binary":
        return raw
    length = stored.length

    def padded(value: bytes) -> str:
        if len(value) != length:
            raise _out_of_range(f"bytes that are not {length}, which a binary column fills up")
        return raw(value)

    return padded


def raw(value: bytes) -> str:
    """Bytes as a text that `encode_line` turns into these bytes again."""
    return value.decode("utf-8", "surrogateescape")


def _bits(column: ColumnType, stored: Stored) -> Text | None:
    bits = column.length or 1
    if stored.full != f"bit({bits})":
        return _spoils()
    return lambda value: raw(int(value, 2).to_bytes((bits + 7) // 8, "big"))


_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
_MIDNIGHT = datetime(1970, 1, 1)
_LONGEST = 839 * 3_600_000_000  # µs of a time column


def _date(column: ColumnType, stored: Stored) -> Text | None:
    return _day if stored.type == "date" else _spoils()


def _day(value: int) -> str:
    try:
        return date.fromordinal(value + _EPOCH_ORDINAL).isoformat()
    except (ValueError, OverflowError):
        raise _out_of_range("a date outside the years 1 to 9999") from None


def _time(column: ColumnType, stored: Stored) -> Text | None:
    if stored.type != "time":
        return _spoils()
    unit = 10 ** (6 - (stored.fraction or 0))

    def convert(value: int) -> str:
        if -_LONGEST < value < _LONGEST and value % unit == 0:
            return time_literal(value)
        raise _out_of_range("a time that its column would cut")

    return convert


def _timestamp(column: ColumnType, stored: Stored) -> Text | None:
    if stored.type not in ("datetime", "timestamp"):
        return _spoils()
    unit = 10 ** (6 - (stored.fraction or 0))

    def convert(value: int) -> str:
        if value % unit:
            raise _out_of_range(f"more than {stored.fraction or 0} digits behind the second")
        try:
            return (_MIDNIGHT + timedelta(0, 0, value)).isoformat(" ")
        except OverflowError:
            raise _out_of_range("a moment outside the years 1 to 9999") from None

    return convert


def _timestamptz(column: ColumnType, stored: Stored) -> Text | None:
    if stored.type not in ("datetime", "timestamp"):
        return _spoils()
    digits = stored.fraction or 0

    def convert(value: str) -> str:
        if value[0] in "+-i" or value.startswith("0000"):
            raise _out_of_range("a moment outside the years 1 to 9999")
        text = value.removesuffix("Z").replace("T", " ")
        if len(text.partition(".")[2].rstrip("0")) > digits:
            raise _out_of_range(f"more than {digits} digits behind the second")
        return text

    return convert


_MAKERS: dict[Kind, Callable[[ColumnType, Stored], Text | None]] = {
    Kind.INTEGER: _integer,
    Kind.BOOLEAN: _boolean,
    Kind.DECIMAL: _decimal,
    Kind.FLOAT32: _float,
    Kind.FLOAT64: _float,
    Kind.BYTES: _bytes,
    Kind.BITS: _bits,
    Kind.DATE: _date,
    Kind.TIME: _time,
    Kind.TIMESTAMP: _timestamp,
    Kind.TIMESTAMPTZ: _timestamptz,
}


def _out_of_range(what: str) -> Poison:
    return Poison(what, reason="value_out_of_range")


# --- lines ---------------------------------------------------------------------------------------------------------

_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n"})
_SPECIAL = re.compile(r"[\\\t\n]").search


def escape(text: str) -> str:
    """A value as a field of LOAD DATA."""
    return text if _SPECIAL(text) is None else text.translate(_ESCAPES)


def encode_line(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
