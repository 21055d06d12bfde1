"""Target types and COPY text, without a server (the conformance tests check both against one)."""

from __future__ import annotations

import pytest

from cdc.errors import Poison
from cdc.model import NEG_INFINITY, POS_INFINITY, UNAVAILABLE, ColumnType, Kind, TargetColumn, Value
from cdc.target.postgres_lines import copy_line_builder
from cdc.target.postgres_types import calendar_date, encoder, parse, sql_type


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (ColumnType(Kind.INTEGER, "bigint unsigned"), "numeric(20,0)"),
        (ColumnType(Kind.INTEGER, "int unsigned"), "bigint"),
        (ColumnType(Kind.INTEGER, "tinyint"), "smallint"),
        (ColumnType(Kind.DECIMAL, "numeric", 10, 2), "numeric(10,2)"),
        (ColumnType(Kind.DECIMAL, "numeric"), "numeric"),
        (ColumnType(Kind.TEXT, "bpchar", 5), "char(5)"),
        (ColumnType(Kind.TEXT, "varchar", 5), "varchar(5)"),
        (ColumnType(Kind.TEXT, "enum"), "text"),
        (ColumnType(Kind.TEXT, "longtext"), "text"),
        (ColumnType(Kind.BITS, "bit", 9), "bit(9)"),
        (ColumnType(Kind.TIME, "time", None, 6), "time"),
        (ColumnType(Kind.TIME, "time", 838, 0), "interval"),
        (ColumnType(Kind.TIMESTAMP, "datetime", None, 3), "timestamp(3)"),
        (ColumnType(Kind.JSON, "json"), "json"),
        (ColumnType(Kind.JSON, "jsonb"), "jsonb"),
        (ColumnType(Kind.LITERAL, "inet"), "inet"),
        (ColumnType(Kind.LITERAL, "lquery"), "text"),
        (ColumnType(Kind.ARRAY, "_int4", element=ColumnType(Kind.INTEGER, "int4")), "integer[]"),
    ],
)
def test_default_types(column: ColumnType, expected: str) -> None:
    assert sql_type(column) == expected


@pytest.mark.parametrize(
    ("text", "name", "length", "array"),
    [
        ("varchar(20)", "varchar", 20, False),
        ("Character Varying (20)", "varchar", 20, False),
        ("numeric(10,2)", "numeric", 10, False),
        ("text[]", "text", None, True),
        ("varchar(5)[]", "varchar", 5, True),
        ("timestamp(3) with time zone", "timestamptz", 3, False),
        ("timestamp without time zone", "timestamp", None, False),
        ("double precision", "double precision", None, False),
        ("pg_catalog.int4", "integer", None, False),
    ],
)
def test_type_texts(text: str, name: str, length: int | None, array: bool) -> None:
    found = parse(text)
    assert (found.name, found.length, found.array) == (name, length, array)


def field(kind: Kind, native: str, target: str, value: Value, **more: object) -> str:
    encode = encoder(ColumnType(kind, native, **more), target)  # type: ignore[arg-type]
    return str(value) if encode is None else encode(value)


@pytest.mark.parametrize(
    ("kind", "native", "target", "value", "expected"),
    [
        (Kind.INTEGER, "int4", "integer", 5, "5"),
        (Kind.INTEGER, "tinyint", "boolean", 1, "1"),
        (Kind.BOOLEAN, "bool", "integer", True, "1"),
        (Kind.BOOLEAN, "bool", "text", True, "true"),
        (Kind.TEXT, "text", "text", "a\tb\nc\rd\\e", "a\\tb\\nc\\rd\\\\e"),
        (Kind.BYTES, "bytea", "bytea", b"\x00\xff", "\\\\x00ff"),
        (Kind.BYTES, "composite", "text", b"(1,a)", "(1,a)"),
        (Kind.BITS, "bit", "bit(3)", "101", "101"),
        (Kind.BITS, "bit", "integer", "101", "5"),
        (Kind.DATE, "date", "date", 0, "J2440588"),
        (Kind.DATE, "date", "date", POS_INFINITY, "infinity"),
        (Kind.DATE, "date", "text", -719163, "0001-12-31 BC"),
        (Kind.TIME, "time", "time", 86400000000, "24:00:00"),
        (Kind.TIME, "time", "interval", -1, "-1 microseconds"),
        (Kind.TIMESTAMP, "timestamp", "timestamp", 1, "1970-01-01 00:00:00.000001"),
        (Kind.TIMESTAMP, "timestamp", "timestamp", NEG_INFINITY, "-infinity"),
        (Kind.TIMESTAMP, "timestamp", "timestamptz", 0, "1970-01-01 00:00:00Z"),
        (Kind.TIMESTAMP, "timestamp", "timestamptz", POS_INFINITY, "infinity"),
        (Kind.TIMESTAMPTZ, "timestamptz", "timestamptz", "2024-01-01T00:00:00Z", "2024-01-01T00:00:00Z"),
        (Kind.TIMESTAMPTZ, "timestamptz", "timestamptz", "0000-06-01T00:00:00Z", "0001-06-01T00:00:00Z BC"),
        (Kind.TIMESTAMPTZ, "timestamptz", "timestamptz", "-0043-06-01T00:00:00Z", "0044-06-01T00:00:00Z BC"),
        (Kind.TIMESTAMPTZ, "timestamptz", "timestamptz", "+10000-01-01T00:00:00Z", "10000-01-01T00:00:00Z"),
        (Kind.TIMESTAMPTZ, "timestamptz", "timestamptz", "-infinity", "-infinity"),
        (Kind.JSON, "json", "jsonb", '{"a":"\\n"}', '{"a":"\\\\n"}'),
        (Kind.JSON, "hstore", "hstore", '{"a":"1","b":null}', '"a"=>"1","b"=>NULL'),
    ],
)
def test_fields(kind: Kind, native: str, target: str, value: Value, expected: str) -> None:
    assert field(kind, native, target, value) == expected


def test_arrays() -> None:
    column = ColumnType(Kind.ARRAY, "_text", element=ColumnType(Kind.TEXT, "text"))
    encode = encoder(column, "text[]")
    assert encode is not None
    assert encode(["a", None, 'q"t', "b\\s", "NULL"]) == '{"a",NULL,"q\\\\"t","b\\\\\\\\s","NULL"}'
    as_json = encoder(column, "jsonb")
    assert as_json is not None
    assert as_json(["a", None]) == '["a",null]'


@pytest.mark.parametrize(
    ("kind", "native", "target", "value"),
    [
        (Kind.TEXT, "text", "text", "a\x00b"),
        (Kind.INTEGER, "int8", "integer", 1 << 31),
        (Kind.INTEGER, "bigint unsigned", "bigint", 1 << 63),
        (Kind.INTEGER, "tinyint", "boolean", 2),
        (Kind.TEXT, "text", "varchar(3)", "abcd"),
        (Kind.TIME, "time", "time", -1),
        (Kind.TIME, "time", "time", 86400000001),
        (Kind.BYTES, "bytea", "text", b"\xff"),
    ],
)
def test_what_a_column_cannot_hold(kind: Kind, native: str, target: str, value: Value) -> None:
    with pytest.raises(Poison) as caught:
        field(kind, native, target, value)
    assert caught.value.reason == "value_out_of_range"


def test_calendar_dates_of_any_year() -> None:
    assert calendar_date(0) == "1970-01-01"
    assert calendar_date(-719162) == "0001-01-01"
    assert calendar_date(-719163) == "0001-12-31 BC"
    assert calendar_date(-2440588) == "4714-11-24 BC"
    assert calendar_date(2932897) == "10000-01-01"
    assert calendar_date(2145042905) == "5874897-12-31"


COLUMNS = [
    TargetColumn("id", ColumnType(Kind.INTEGER, "int4")),
    TargetColumn("name", ColumnType(Kind.TEXT, "text")),
    TargetColumn("data", ColumnType(Kind.BYTES, "bytea")),
    TargetColumn("day", ColumnType(Kind.DATE, "date")),
]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ((1, "a", b"\x01", 0), "1\ta\t\\\\x01\tJ2440588"),
        ((1, None, None, None), "1\t\\N\t\\N\t\\N"),
        ((1, UNAVAILABLE, UNAVAILABLE, 0), "1\t\\N\t\\N\tJ2440588"),
        ((1, "a\tb", b"", 0), "1\ta\\tb\t\\\\x\tJ2440588"),
        ((1, "\\N", None, None), "1\t\\\\N\t\\N\t\\N"),
        ((1, "line\nend", None, 0), "1\tline\\nend\t\\N\tJ2440588"),
    ],
)
def test_lines(row: tuple[Value, ...], expected: str) -> None:
    assert copy_line_builder(COLUMNS)(row) == expected


def test_a_line_of_one_column() -> None:
    assert copy_line_builder(COLUMNS[1:2])(("a\\b",)) == "a\\\\b"


def test_a_bad_value_names_its_column_and_not_itself() -> None:
    with pytest.raises(Poison, match="column name") as caught:
        copy_line_builder(COLUMNS)((1, "secret\x00", None, None))
    assert "secret" not in str(caught.value)
