"""The types of expressions: what a source's column is in SQL, how its canonical values are read and written back, and
which casts exist.

Inside expressions a numeric is a `Decimal`, and a timestamptz counts microseconds; all other values keep their
canonical form. Columns of other types are
*opaque*: they may be tested for NULL and passed through (COALESCE, CASE), no more.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from functools import partial
from typing import Any, Final, NamedTuple

from cdc.mapping import jsons, numeric, temporal
from cdc.model import NEG_INFINITY, POS_INFINITY, Column, ColumnType, Kind

Convert = Callable[[Any], Any]


class Type(NamedTuple):
    """A type of the expression language. Types are equal when their names are; `column` is what a target is told."""

    name: str
    column: ColumnType
    advice: str | None = None  # for opaque types: what to write instead

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Type) and other.name == self.name

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self.name)

    @property
    def opaque(self) -> bool:
        return self.name not in _BY_NAME


BOOLEAN: Final = Type("boolean", ColumnType(Kind.BOOLEAN, "bool"))
SMALLINT: Final = Type("smallint", ColumnType(Kind.INTEGER, "int2"))
INTEGER: Final = Type("integer", ColumnType(Kind.INTEGER, "int4"))
BIGINT: Final = Type("bigint", ColumnType(Kind.INTEGER, "int8"))
NUMERIC: Final = Type("numeric", ColumnType(Kind.DECIMAL, "numeric"))
TEXT: Final = Type("text", ColumnType(Kind.TEXT, "text"))
DATE: Final = Type("date", ColumnType(Kind.DATE, "date"))
TIMESTAMP: Final = Type("timestamp", ColumnType(Kind.TIMESTAMP, "timestamp"))
TIMESTAMPTZ: Final = Type("timestamptz", ColumnType(Kind.TIMESTAMPTZ, "timestamptz"))
UUID: Final = Type("uuid", ColumnType(Kind.UUID, "uuid"))
JSON: Final = Type("json", ColumnType(Kind.JSON, "json"))
JSONB: Final = Type("jsonb", ColumnType(Kind.JSON, "jsonb"))
BYTEA: Final = Type("bytea", ColumnType(Kind.BYTES, "bytea"))
UNKNOWN: Final = Type("unknown", ColumnType(Kind.TEXT, "text"))
"""A quoted text or NULL before its surroundings say what it is; text when they do not."""

_BY_NAME: Final = {
    each.name: each
    for each in (
        *(BOOLEAN, SMALLINT, INTEGER, BIGINT, NUMERIC, TEXT, DATE, TIMESTAMP, TIMESTAMPTZ),
        *(UUID, JSON, JSONB, BYTEA, UNKNOWN),
    )
}
INTEGERS: Final = (SMALLINT, INTEGER, BIGINT)
LIMIT: Final = {SMALLINT: numeric.INT2, INTEGER: numeric.INT4, BIGINT: numeric.INT8}
ORDERED: Final = {*INTEGERS, NUMERIC, BOOLEAN, DATE, TIMESTAMP, TIMESTAMPTZ, UUID}
"""Types whose order does not depend on a collation."""
COMPARABLE: Final = ORDERED | {TEXT, BYTEA}

_WIDER: Final = {
    SMALLINT: (INTEGER, BIGINT, NUMERIC),
    INTEGER: (BIGINT, NUMERIC),
    BIGINT: (NUMERIC,),
    DATE: (TIMESTAMP,),
}

_SMALL = {"int2", "smallint", "smallserial", "tinyint", "tinyint unsigned", "year", "boolean", "bool"}
_MIDDLE = {"int4", "integer", "int", "serial", "mediumint", "smallint unsigned", "mediumint unsigned"}
_LARGE = {"int8", "bigint", "bigserial", "oid", "int unsigned", "integer unsigned"}
_TEXTS = {"text", "varchar", "character varying", "name"}
_MARIADB_TEXTS = {*_TEXTS, "char", "nchar", "nvarchar", "enum", "set", "tinytext", "mediumtext", "longtext"}
_PADDED = {"bpchar", "char", "character"}
_NUMERICS = {"numeric", "decimal", "dec"}


def of_column(column: Column, source: str) -> Type:
    """The type of a source column; `source` is the kind of the source ('postgresql', 'mariadb')."""
    kind, native = column.type.kind, column.type.native.lower().split("(")[0].strip()
    if kind is Kind.INTEGER:
        return _integer(native)
    if kind is Kind.TEXT:
        return _text(column, native, source)
    if kind is Kind.DECIMAL:
        return NUMERIC if native in _NUMERICS or source == "mariadb" else _opaque(column)
    if kind is Kind.JSON:  # hstore arrives as JSON too, but its -> means something else
        return {"json": JSON, "jsonb": JSONB}.get(native) or _opaque(column)
    if kind is Kind.BYTES and native == "bytea":
        return BYTEA
    return _PLAIN.get(kind) or _opaque(column)


def plain(type_: ColumnType) -> Type | None:
    """The type whose values look like those of a column, whatever it is called; None when there is none."""
    if type_.kind is Kind.INTEGER:
        return _integer(type_.native)
    return _PLAIN.get(type_.kind)


_PLAIN: Final = {
    Kind.BOOLEAN: BOOLEAN,
    Kind.DATE: DATE,
    Kind.TIMESTAMP: TIMESTAMP,
    Kind.TIMESTAMPTZ: TIMESTAMPTZ,
    Kind.UUID: UUID,
    Kind.TEXT: TEXT,
    Kind.DECIMAL: NUMERIC,
}


def _integer(native: str) -> Type:
    if native in _SMALL:
        return SMALLINT
    if native in _MIDDLE:
        return INTEGER
    return BIGINT if native in _LARGE else NUMERIC  # an unsigned 64-bit fits in no integer type


def _text(column: Column, native: str, source: str) -> Type:
    if native in (_MARIADB_TEXTS if source == "mariadb" else _TEXTS):
        return TEXT
    padded = "char(n) pads with blanks that only some functions see" if native in _PADDED else None
    why = padded or f"{native} is not text to PostgreSQL"
    return _opaque(column, f"{why}: write {column.name}::text")


def _opaque(column: Column, advice: str | None = None) -> Type:
    return Type(f"{column.type.native} ({column.type.kind})", column.type, advice)


def decoder(column: Column, type_: Type) -> Convert | None:
    """From canonical values to values inside expressions; None when they are the same."""
    if type_ == TIMESTAMPTZ:
        return temporal.instant
    if type_ != NUMERIC:
        return None
    return Decimal if column.type.kind in {Kind.DECIMAL, Kind.INTEGER} else None


def encoder(type_: Type) -> Convert | None:
    """The way back."""
    if type_ == TIMESTAMPTZ:
        return temporal.instant_iso
    return numeric.text if type_ == NUMERIC else None


def widens(from_: Type, to: Type) -> bool:
    """Does PostgreSQL convert without being asked?"""
    return from_ == to or to in _WIDER.get(from_, ())


def common(types: list[Type]) -> Type | None:
    """The type that all of these become (UNION rules); None when there is none. UNKNOWNs follow the others."""
    known = [each for each in types if each != UNKNOWN]
    if not known:
        return TEXT
    result = known[0]
    for each in known[1:]:
        if not widens(each, result):
            if not widens(result, each):
                return None
            result = each
    return result


def widening(from_: Type, to: Type) -> Convert | None:
    """The conversion behind `widens`; None when values stay as they are."""
    if from_ == to:
        return None
    if to == NUMERIC:
        return Decimal
    return temporal.to_timestamp if (from_, to) == (DATE, TIMESTAMP) else None


def compared(from_: Type, to: Type) -> Convert | None:
    """The same for a comparison, which has no range to leave: a date beyond all timestamps is later than each."""
    if (from_, to) == (DATE, TIMESTAMP):
        return lambda days: days if days in (POS_INFINITY, NEG_INFINITY) else days * temporal.DAY
    return widening(from_, to)


def output_text(type_: Type) -> Convert | None:
    """How concat() writes a value of this type as text; None when not exactly known."""
    return (lambda flag: "t" if flag else "f") if type_ == BOOLEAN else to_text(type_)


def to_text(type_: Type) -> Convert | None:
    """The cast to text; None when there is none that depends on nothing else."""
    texts: dict[Type, Convert] = {
        BOOLEAN: lambda flag: "true" if flag else "false",
        NUMERIC: numeric.text,
        DATE: temporal.date_text,
        TIMESTAMP: temporal.timestamp_text,
        **dict.fromkeys(INTEGERS, str),
        **dict.fromkeys((TEXT, UUID, JSON, JSONB), _same),
    }
    if type_.opaque and type_.column.kind is Kind.TEXT:
        return (lambda text: text.rstrip(" ")) if type_.column.native in _PADDED else _same
    return texts.get(type_)


def cast(from_: Type, to: Type) -> Convert | None:
    """The explicit cast between two types; None when it does not exist or is not exact. Raises on values that fail."""
    if from_ == to:
        return _same
    if from_ in {TEXT, UNKNOWN}:
        return reader(to)
    if to == TEXT:
        return to_text(from_)
    if to in INTEGERS:
        if from_ in INTEGERS:
            return partial(_into_range, LIMIT[to])
        if from_ == NUMERIC:
            return partial(_rounded_into, LIMIT[to])
    pairs: dict[tuple[Type, Type], Convert] = {
        (BOOLEAN, INTEGER): int,
        (INTEGER, BOOLEAN): bool,
        (DATE, TIMESTAMP): temporal.to_timestamp,
        (TIMESTAMP, DATE): temporal.to_date,
        (JSON, JSONB): jsons.normal,
        **{(integer, NUMERIC): Decimal for integer in INTEGERS},
    }
    return pairs.get((from_, to))


def reader(to: Type) -> Convert | None:
    """The input function of a type: what text becomes. Raises `ValueError` or `ArithmeticError` on text it refuses."""
    readers: dict[Type, Convert] = {
        TEXT: _same,
        BOOLEAN: boolean_from_text,
        NUMERIC: numeric.from_text,
        DATE: temporal.date_from_text,
        TIMESTAMP: temporal.timestamp_from_text,
        TIMESTAMPTZ: temporal.instant_from_text,
        UUID: uuid_from_text,
        JSONB: jsons.normal,
        **{integer: partial(_read_integer, LIMIT[integer]) for integer in INTEGERS},
    }
    return readers.get(to)


def boolean_from_text(value: str) -> bool:
    """Unambiguous beginnings of true, false, yes, no, on, off; 1 and 0."""
    word = value.strip(" \t\n\r\v\f").lower()
    if word and word.isascii():
        for full, minimum, meaning in _BOOLEANS:
            if len(word) >= minimum and full.startswith(word):
                return meaning
    raise ValueError("not a boolean")


_BOOLEANS = (
    ("true", 1, True),
    ("false", 1, False),
    ("yes", 1, True),
    ("no", 1, False),
    ("on", 2, True),
    ("off", 2, False),
    ("1", 1, True),
    ("0", 1, False),
)


def uuid_from_text(value: str) -> str:
    """The usual form only; PostgreSQL's other spellings raise `ValueError`."""
    parts = value.split("-")
    if [len(part) for part in parts] != [8, 4, 4, 4, 12] or not set(value) <= set("0123456789abcdefABCDEF-"):
        raise ValueError("not a UUID")
    return value.lower()


def _same(value: Any) -> Any:
    return value


def _into_range(limit: int, value: int) -> int:
    return numeric.in_range(value, limit)


def _rounded_into(limit: int, value: Decimal) -> int:
    return numeric.to_integer(value, limit)


def _read_integer(limit: int, value: str) -> int:
    return numeric.integer_from_text(value, limit)
