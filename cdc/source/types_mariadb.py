"""MariaDB's types as Debezium sends them (JsonConverter, the settings of our connector configurations).

Checked type by type, snapshot and streamed, by tests/conformance/test_types_mariadb.py.
"""

from __future__ import annotations

from cdc.errors import Terminal
from cdc.model import ColumnType, Kind
from cdc.source import values
from cdc.source.types import Resolved, SourceType, wire_of
from cdc.source.values import Field, Wire

INT = Wire(int)
TEXT = Wire(str)
DECIMAL = Wire(str, values.decimal, "'E' not in {v}")
BYTES = Wire(bytes)
FLOAT64 = Wire(float | str, values.float64, "{v}.__class__ is float")
FLOAT32 = Wire(float | str, values.float32, read_convert=values.mariadb_float_read)
ENUM = Wire(str, values.unescaped, "'\\\\' not in {v}", read_convert=values.verbatim, read_passes="True")
DATE = Wire(int, read_convert=values.date_read, read_passes=f"{{v}} >= {values.READ_DAY}")
DATETIME = Wire(int, read_convert=values.timestamp_read, read_passes=f"{{v}} >= {values.READ_MICROS}")
GEOMETRY = Wire(values.Geometry, values.geometry)

HOURS = 838
"""`ColumnType.length` of a TIME column: it is a duration of up to so many hours, not a time of day."""
TIME_SETTING = "time.precision.mode=microseconds"
_ZERO_DATES = "zero and partial dates (0000-00-00, 2020-00-10) arrive as null, or as 1970-01-01 when NOT NULL"


def _bigint_unsigned(field: Field) -> Wire:
    if field.connect == "bytes":
        return Wire(bytes, values.unsigned_bytes)
    return Wire(int, values.unsigned_long, "{v} >= 0")


def _bit(field: Field) -> Wire:
    if field.connect == "boolean":
        return Wire(bool, values.bit)
    return Wire(bytes, values.bits(field.number("length") or 1))


_INTEGERS = ("tinyint", "smallint", "mediumint", "int", "integer", "bigint")
_SMALL_UNSIGNED = tuple(f"{name} unsigned" for name in _INTEGERS if name != "bigint")

TYPES: tuple[SourceType, ...] = (
    SourceType((*_INTEGERS, *_SMALL_UNSIGNED, "boolean", "bool"), Kind.INTEGER, INT),
    SourceType(
        ("bigint unsigned",),
        Kind.INTEGER,
        _bigint_unsigned,
        ("bytes", "int64"),
        "bigint.unsigned.handling.mode=precise",
    ),
    SourceType(
        ("decimal", "numeric", "fixed", "dec", "decimal unsigned", "numeric unsigned"),
        Kind.DECIMAL,
        DECIMAL,
        ("string",),
        "decimal.handling.mode=string",
    ),
    SourceType(
        ("float", "float unsigned"),
        Kind.FLOAT32,
        FLOAT32,
        ("float", "double"),
        condition="snapshot reads are cut to six significant digits (MODIFY the column to DOUBLE to keep them)",
        check="CAST(CAST({column} AS CHAR) AS FLOAT) <> {column}",
        parks="snapshot reads that show six significant digits: they may have had more",
    ),
    SourceType(("double", "double precision", "real", "double unsigned"), Kind.FLOAT64, FLOAT64),
    SourceType(("bit",), Kind.BITS, _bit, ("boolean", "bytes"), "binary.handling.mode=bytes"),
    SourceType(
        ("char", "varchar", "nchar", "nvarchar", "tinytext", "text", "mediumtext", "longtext"),
        Kind.TEXT,
        TEXT,
        ("string",),
    ),
    SourceType(("json",), Kind.JSON, TEXT, ("string",)),
    SourceType(("uuid",), Kind.UUID, TEXT, ("string",)),
    SourceType(
        ("binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob"),
        Kind.BYTES,
        BYTES,
        ("bytes",),
        "binary.handling.mode=bytes",
    ),
    SourceType(("enum", "set"), Kind.TEXT, ENUM, ("string",)),
    SourceType(
        ("date",),
        Kind.DATE,
        DATE,
        ("int32",),
        TIME_SETTING,
        condition=_ZERO_DATES,
        check="YEAR({column}) = 0 OR MONTH({column}) = 0 OR DAY({column}) = 0",
        parks="snapshot reads before 1582-10-25",
    ),
    SourceType(("time",), Kind.TIME, INT, ("int64",), TIME_SETTING),
    SourceType(
        ("datetime",),
        Kind.TIMESTAMP,
        DATETIME,
        ("int64",),
        TIME_SETTING,
        condition=_ZERO_DATES,
        check="YEAR({column}) = 0 OR MONTH({column}) = 0 OR DAY({column}) = 0",
        parks="snapshot reads before 1582-10-25",
    ),
    SourceType(
        ("timestamp",),
        Kind.TIMESTAMPTZ,
        TEXT,
        ("string",),
        condition="the zero timestamp arrives as null or as 1970-01-01T00:00:00Z",
        check="{column} = 0",
    ),
    SourceType(
        ("year",),
        Kind.INTEGER,
        INT,
        ("int32",),
        condition="year 0000 arrives as 1900 or 2000, or stops the snapshot",
        check="{column} = 0",
    ),
    SourceType(
        (
            *("geometry", "point", "linestring", "polygon", "multipoint"),
            *("multilinestring", "multipolygon", "geometrycollection"),
        ),
        Kind.BYTES,
        GEOMETRY,
        ("struct",),
    ),
    SourceType(
        ("inet4", "inet6"),
        Kind.LITERAL,
        refused="Debezium's parser does not know the type and the connector's task stops",
        fix="capture the table without it: move the column to another table, or store it as varchar",
    ),
)

BY_NAME = {name: entry for entry in TYPES for name in entry.natives}
BY_SEMANTIC = {
    "io.debezium.time.Date": "date",
    "io.debezium.time.MicroTime": "time",
    "io.debezium.time.MicroTimestamp": "datetime",
    "io.debezium.time.ZonedTimestamp": "timestamp",
    "io.debezium.time.Year": "year",
    "io.debezium.data.Uuid": "uuid",
    "io.debezium.data.Json": "json",
    "io.debezium.data.Bits": "bit",
    "io.debezium.data.Enum": "enum",
    "io.debezium.data.EnumSet": "set",
    "io.debezium.data.geometry.Point": "point",
    "io.debezium.data.geometry.Geometry": "geometry",
}
BY_CONNECT = {
    "int16": "smallint",
    "int32": "int",
    "int64": "bigint",
    "float": "float",
    "double": "double",
    "boolean": "bit",
    "string": "longtext",
    "bytes": "longblob",
}


def resolve(field: Field) -> Resolved:
    """The type and form of a column; by its semantic type when the connector does not propagate the source's name."""
    native = field.native.removesuffix(" zerofill")
    entry = BY_NAME.get(native)
    if entry is None:
        base = BY_SEMANTIC.get(field.semantic) or ("" if field.semantic else BY_CONNECT.get(field.connect, ""))
        if not base:
            raise Terminal(
                f"column {field.name} arrives as {field.semantic or field.connect}, which is not an exact form",
                hint=f"set {TIME_SETTING} and decimal.handling.mode=string in the connector's configuration",
            )
        entry = BY_NAME[base]
        native = native or base
    length, scale = _modifiers(entry.kind, field)
    return Resolved(ColumnType(entry.kind, native, length, scale), wire_of(entry, field))


def _modifiers(kind: Kind, field: Field) -> tuple[int | None, int | None]:
    length, scale = field.number("length"), field.number("scale")
    if kind is Kind.DECIMAL:
        return (length, scale or 0) if length else (None, None)
    if kind in (Kind.TEXT, Kind.BYTES, Kind.BITS) and not field.semantic.endswith(("Enum", "EnumSet")):
        return length, None
    if kind is Kind.TIME:
        return HOURS, length or 0
    if kind in (Kind.TIMESTAMP, Kind.TIMESTAMPTZ):
        return None, length or 0
    return None, None
