"""PostgreSQL's types as Debezium sends them (JsonConverter, the settings of our connector configurations).

Checked type by type, snapshot and streamed, by tests/conformance/test_types_postgres.py.
"""

from __future__ import annotations

from typing import Any

from cdc.errors import Terminal
from cdc.model import ColumnType, Kind
from cdc.source import values
from cdc.source.types import REFUSED, Resolved, SourceType, wire_of
from cdc.source.values import Field, Wire

INT = Wire(int)
TEXT = Wire(str, unavailable=values.same)
FIXED_TEXT = Wire(str)  # of fixed size in PostgreSQL, so never stored out of line and never unavailable
HSTORE = Wire(str, unavailable=values.hstore_unavailable)
BYTES = Wire(bytes, unavailable=values.encoded)
UNKNOWN = Wire(bytes, values.text_of_bytes, unavailable=values.encoded)
DECIMAL = Wire(str, values.decimal, "{v}[-1] <= '9'", unavailable=values.same)
FLOAT64 = Wire(float | str, values.float64, "{v}.__class__ is float")
FLOAT32 = Wire(float | str, values.float32)
MONEY = Wire(str, read_convert=values.money_read)
DATE = Wire(
    int,
    values.date,
    f"{values.EARLIEST_DAY} <= {{v}} <= {values.LATEST_DAY}",
    read_convert=values.date_read,
    read_passes=f"{values.READ_DAY} <= {{v}} <= {values.LATEST_DAY}",
)
TIMESTAMP = Wire(
    int,
    values.timestamp,
    f"{values.EARLIEST_MICROS} <= {{v}} < {values.LATEST_MICROS}",
    read_convert=values.timestamp_read,
    read_passes=f"{values.READ_MICROS} <= {{v}} < {values.LATEST_MICROS}",
)
TIMESTAMPTZ = Wire(str, read_convert=values.timestamptz_read, read_passes="{v} >= '1582-10-25'")
POINT = Wire(values.Point, values.point)

OLD_READS = "snapshot reads before 1582-10-25"
TIME_SETTING = "time.precision.mode=microseconds"


LONG_BITS = 144
"""A longer bit(n) is larger than a pointer out of line, so PostgreSQL may move it there."""


def _bit(field: Field) -> Wire:
    if field.connect == "boolean":
        return Wire(bool, values.bit)
    length = field.number("length") or 1
    return Wire(bytes, values.bits(length), ambiguous=length > LONG_BITS)


_AS_NULL = "an unchanged large value stops the connector's task, or arrives as null"

TYPES: tuple[SourceType, ...] = (
    SourceType(("int2", "smallint", "smallserial", "int4", "serial", "int8", "bigserial", "oid"), Kind.INTEGER, INT),
    SourceType(("numeric",), Kind.DECIMAL, DECIMAL, ("string",), "decimal.handling.mode=string"),
    SourceType(("float4",), Kind.FLOAT32, FLOAT32),
    SourceType(("float8",), Kind.FLOAT64, FLOAT64),
    SourceType(
        ("money",),
        Kind.DECIMAL,
        MONEY,
        ("string",),
        "decimal.handling.mode=string",
        parks="snapshot reads with more than 13 digits before the point",
    ),
    SourceType(("bool",), Kind.BOOLEAN, Wire(bool)),
    SourceType(("bpchar", "char", "varchar", "text", "citext", "xml", "ltree"), Kind.TEXT, TEXT),
    SourceType(("name",), Kind.TEXT, FIXED_TEXT),
    SourceType(("uuid",), Kind.UUID, FIXED_TEXT),
    SourceType(("json", "jsonb"), Kind.JSON, TEXT),
    SourceType(("hstore",), Kind.JSON, HSTORE, ("string",), "hstore.handling.mode=json"),
    SourceType(("bytea",), Kind.BYTES, BYTES, ("bytes",), "binary.handling.mode=bytes"),
    SourceType(
        ("bit",),
        Kind.BITS,
        _bit,
        ("boolean", "bytes"),
        "binary.handling.mode=bytes",
        full=_AS_NULL,
        full_above=LONG_BITS,
    ),
    SourceType(
        ("varbit",),
        Kind.BITS,
        refused="the number of bits is not sent, so leading zeros are lost",
        fix="leave the column out, or capture a generated column `(col::text)`",
    ),
    SourceType(
        ("date",),
        Kind.DATE,
        DATE,
        ("int32", "int64"),
        TIME_SETTING,
        condition="snapshot reads of years before 1582 BC arrive as years after Christ",
        check="isfinite({column}) AND {column} < '1582-10-25 BC'",
        parks=OLD_READS,
    ),
    SourceType(("time",), Kind.TIME, INT, ("int64",), TIME_SETTING),
    SourceType(
        ("timetz",),
        Kind.TIME,
        refused="the zone is not sent, and 24:00 arrives as 00:00",
        fix="leave the column out, or capture a generated column `(col::text)`",
    ),
    SourceType(
        ("timestamp",),
        Kind.TIMESTAMP,
        TIMESTAMP,
        ("int64",),
        TIME_SETTING,
        parks=f"{OLD_READS}, and the years after 294246",
    ),
    SourceType(("timestamptz",), Kind.TIMESTAMPTZ, TIMESTAMPTZ, ("string",), parks=OLD_READS),
    SourceType(
        ("interval",),
        Kind.INTERVAL,
        FIXED_TEXT,
        ("string",),
        "interval.handling.mode=string",
        condition="infinity and -infinity arrive as a zero interval; 2^31 hours or more stop the connector's task",
        check="NOT isfinite({column}) OR abs(extract(epoch FROM {column})) >= 3600.0 * 2147483647",
    ),
    SourceType(("macaddr", "macaddr8"), Kind.LITERAL, FIXED_TEXT),
    SourceType(("inet", "cidr", "tsvector"), Kind.LITERAL, TEXT),
    SourceType(("int4range", "int8range", "numrange", "tsrange", "tstzrange", "daterange"), Kind.LITERAL, TEXT),
    SourceType(("point",), Kind.LITERAL, POINT, ("struct",)),
    SourceType(
        (
            *("line", "lseg", "box", "path", "polygon", "circle"),
            *("int4multirange", "int8multirange", "nummultirange"),
            *("tsmultirange", "tstzmultirange", "datemultirange"),
            *("pg_lsn", "xid", "xid8", "tsquery", "jsonpath", "lquery", "regclass"),
        ),
        Kind.LITERAL,
        UNKNOWN,
        ("bytes",),
        "include.unknown.datatypes=true and binary.handling.mode=bytes",
    ),
)

_TWO_DIMENSIONS = "two-dimensional arrays lose their values, and lower bounds other than 1 are lost"
_DIMENSION_CHECK = "array_ndims({column}) > 1 OR array_lower({column}, 1) <> 1"
_NULL_ELEMENT = "an array with a NULL element arrives as null"
_NULL_CHECK = f"{_DIMENSION_CHECK} OR array_position({{column}}, NULL) IS NOT NULL"
_ARRAY_PARKS = "arrays of only NULLs (a two-dimensional array looks the same)"


def _array(
    names: tuple[str, ...],
    *,
    full: str = "",
    refused: str = "",
    condition: str = "",
    check: str = _DIMENSION_CHECK,
) -> SourceType:
    return SourceType(
        tuple(f"_{name}" for name in names),
        Kind.ARRAY,
        _array_wire,
        ("array",),
        "the settings for its element type",
        refused=refused,
        full=full,
        fix="leave the column out, or capture a generated column `(array_to_json(col)::text)`" if refused else "",
        condition="" if refused else "; ".join(part for part in (_TWO_DIMENSIONS, condition) if part),
        check=check,
        parks="" if refused else _ARRAY_PARKS,
    )


def _array_wire(field: Field) -> Wire:
    """The form of an array: its elements' form, and what an unavailable one looks like for that element."""
    item = element(field)
    name = item.type.native
    convert, read = item.wire.convert, item.wire.for_reads()[0]
    unavailable = {
        "text": values.text_array_unavailable,
        "varchar": values.text_array_unavailable,
        "bpchar": values.text_array_unavailable,
        "json": values.text_array_unavailable,
        "jsonb": values.text_array_unavailable,
        "int4": values.number_array_unavailable,
        "int8": values.number_array_unavailable,
        "date": values.number_array_unavailable,
        "uuid": values.uuid_array_unavailable,
        "bytea": values.bytes_array_unavailable,
    }.get(name)
    annotation: Any = item.wire.annotation
    return Wire(
        list[annotation | None],
        values.array_of(convert),
        read_convert=values.array_of(read),
        unavailable=unavailable,
        ambiguous=unavailable is None,
    )


ARRAYS: tuple[SourceType, ...] = (
    _array(("int4", "int8", "text", "varchar", "bpchar", "json", "jsonb", "uuid", "bytea")),
    _array(
        ("date",),
        condition="years before Christ lose their era",
        check=f"{_DIMENSION_CHECK} OR '0001-01-01' > ANY ({{column}})",
    ),
    _array(
        ("int2", "float4", "float8", "bool", "timestamp", "oid", "inet", "cidr", "macaddr", "macaddr8", "citext"),
        full=_AS_NULL,
    ),
    _array(
        ("int4range", "int8range", "numrange", "tsrange", "tstzrange", "daterange", "hstore"),
        full=_AS_NULL,
    ),
    _array(
        ("numeric",),
        full=_AS_NULL,
        condition="an array that holds NaN or an infinity arrives as null",
        check=f"{_DIMENSION_CHECK} OR 'NaN' = ANY ({{column}}) OR 'Infinity' = ANY ({{column}})"
        " OR '-Infinity' = ANY ({column})",
    ),
    _array(
        ("timestamptz",),
        full=_AS_NULL,
        condition="years before Christ lose their era",
        check=f"{_DIMENSION_CHECK} OR '0001-01-01' > ANY ({{column}})",
    ),
    _array(("ltree",), full=_AS_NULL, condition=_NULL_ELEMENT, check=_NULL_CHECK),
    _array(("time", "timetz"), refused="its elements are cut to milliseconds, and 24:00 arrives as 00:00"),
    _array(("bit",), refused="arrives as null"),
    _array(("interval", "xml", "point", "money", "varbit", "name"), refused="the column is not sent at all"),
)
OTHER_ARRAY = _array(("enum/domain/composite",), full=_AS_NULL, condition=_NULL_ELEMENT, check=_NULL_CHECK)

TYPES += (*ARRAYS, OTHER_ARRAY)

BY_NAME = {name: entry for entry in TYPES for name in entry.natives}
BY_SEMANTIC = {
    "io.debezium.time.Date": "date",
    "io.debezium.time.MicroTime": "time",
    "io.debezium.time.MicroTimestamp": "timestamp",
    "io.debezium.time.ZonedTimestamp": "timestamptz",
    "io.debezium.time.ZonedTime": "timetz",
    "io.debezium.time.Interval": "interval",
    "io.debezium.data.Uuid": "uuid",
    "io.debezium.data.Json": "json",
    "io.debezium.data.Xml": "xml",
    "io.debezium.data.Bits": "bit",
    "io.debezium.data.Ltree": "ltree",
    "io.debezium.data.Enum": "text",
    "io.debezium.data.geometry.Point": "point",
}
BY_CONNECT = {
    "int16": "int2",
    "int32": "int4",
    "int64": "int8",
    "float": "float4",
    "double": "float8",
    "boolean": "bool",
    "string": "text",
    "bytes": "bytea",
}
INEXACT_SEMANTICS = ("io.debezium.time.", "io.debezium.data.VariableScaleDecimal", "org.apache.kafka.connect.data.")
"""Semantic types that only other settings produce: milliseconds, nanoseconds, Connect's own times and decimals."""

UNLIMITED = 2147483647  # the length of types without one


def entry(native: str, column: ColumnType | None = None) -> SourceType | None:
    """The entry of a type by its name; arrays of types that nobody described share one."""
    found = BY_NAME.get(native)
    if found is None and (native.startswith("_") or (column is not None and column.kind is Kind.ARRAY)):
        return OTHER_ARRAY
    return found


def resolve(field: Field) -> Resolved:
    """The type and form of a column. A type that nobody described (a domain, an enum, a composite) is carried as what
    it arrives as: composites as the bytes of their text, since a domain over bytea cannot be told from them."""
    native = field.native
    found = entry(native)
    if found is None:
        base = _base(field)
        found, native = BY_NAME[base], native or base
    wire = wire_of(found, field)
    if found.kind is Kind.ARRAY:
        item = element(field).type if wire is not REFUSED else None
        return Resolved(ColumnType(Kind.ARRAY, field.native or f"_{item.native if item else ''}", element=item), wire)
    length, scale = _modifiers(found.kind, field)
    return Resolved(ColumnType(found.kind, native, length, scale), wire)


def element(field: Field) -> Resolved:
    """Type and form of an array's elements. The schema names only the array's type: '_int4' has elements 'int4'."""
    assert field.element is not None
    item = field.element
    name = field.native.removeprefix("_")
    base = name if name in BY_NAME else _base(item)
    known = BY_NAME[base]
    if known.refused:
        raise Terminal(f"column {field.name}: elements of type {name} cannot be carried exactly")
    return Resolved(ColumnType(known.kind, name or base), wire_of(known, item))


def _base(field: Field) -> str:
    """The described type that a column without a described name arrives as."""
    if field.connect == "array":
        return OTHER_ARRAY.natives[0]
    by_semantic = BY_SEMANTIC.get(field.semantic)
    if by_semantic is not None:
        return by_semantic
    if field.semantic.startswith(INEXACT_SEMANTICS) or field.connect not in BY_CONNECT:
        raise Terminal(
            f"column {field.name} arrives as {field.semantic or field.connect}, which is not an exact form",
            hint=f"set {TIME_SETTING} and decimal.handling.mode=string in the connector's configuration",
        )
    return BY_CONNECT[field.connect]


def _modifiers(kind: Kind, field: Field) -> tuple[int | None, int | None]:
    """Length and scale as `ColumnType` has them: PostgreSQL's driver reports display widths for most types."""
    length, scale = field.number("length"), field.number("scale")
    if kind is Kind.DECIMAL:
        # an unlimited numeric has length 0 in the snapshot and 131089 in the stream
        limited = field.native == "numeric" and length is not None and 0 < length <= 1000
        return (length, scale or 0) if limited else (None, None)
    if kind in (Kind.TEXT, Kind.BITS):
        return (length if length and length < UNLIMITED else None), None
    if kind in (Kind.TIME, Kind.TIMESTAMP, Kind.TIMESTAMPTZ, Kind.INTERVAL):
        return None, scale
    return None, None
