"""cdc/reconcile/columns.py: the texts and values of SQL as canonical values."""

from __future__ import annotations

import math

import pytest

from cdc.model import NEG_INFINITY, POS_INFINITY, UNAVAILABLE, ColumnType, Kind
from cdc.reconcile.columns import array_items, canonical, reader
from cdc.source import types_mariadb, types_postgres
from cdc.source.values import Inexact


def parsed(type_: ColumnType, text: object, source: str = "postgresql") -> object:
    made = reader(type_, source)
    return text if made.parse is None else made.parse(text)


def of(kind: Kind, native: str = "", **more: int) -> ColumnType:
    return ColumnType(kind, native, **more)


@pytest.mark.parametrize(
    ("type_", "text", "value"),
    [
        (of(Kind.INTEGER), "-9223372036854775808", -(1 << 63)),
        (of(Kind.BOOLEAN), "t", True),
        (of(Kind.BOOLEAN), "f", False),
        (of(Kind.DECIMAL), "1.10", "1.10"),
        (of(Kind.FLOAT64), "-Infinity", -math.inf),
        (of(Kind.FLOAT32), "1.1", 1.100000023841858),
        (of(Kind.BYTES, "bytea"), "\\x00ff", b"\x00\xff"),
        (of(Kind.BYTES, "bytea"), "\\x", b""),
        (of(Kind.BYTES, "composite"), '(1,"a b")', b'(1,"a b")'),
        (of(Kind.DATE), "infinity", POS_INFINITY),
        (of(Kind.DATE), "-2440588", -2440588),
        (of(Kind.TIMESTAMP), "-infinity", NEG_INFINITY),
        (of(Kind.TIME), "86400000000", 86_400_000_000),
        (of(Kind.TIMESTAMPTZ), "2024-02-29 12:34:56.123456+00", "2024-02-29T12:34:56.123456Z"),
        (of(Kind.TIMESTAMPTZ), "2024-02-29 12:34:56+00", "2024-02-29T12:34:56.000000Z"),
        (of(Kind.TIMESTAMPTZ, scale=0), "2024-02-29 12:34:56+00", "2024-02-29T12:34:56Z"),
        (of(Kind.TIMESTAMPTZ, scale=3), "0044-03-15 01:02:03.5+00 BC", "-0043-03-15T01:02:03.500Z"),
        (of(Kind.TIMESTAMPTZ, scale=0), "0001-06-01 00:00:00+00 BC", "0000-06-01T00:00:00Z"),
        (of(Kind.TIMESTAMPTZ, scale=0), "10000-01-01 00:00:00+00", "+10000-01-01T00:00:00Z"),
        (of(Kind.TIMESTAMPTZ), "-infinity", "-infinity"),
        (of(Kind.JSON, "hstore"), '{"a": "1", "b": null}', '{"a":"1","b":null}'),
    ],
)
def test_postgres_texts(type_: ColumnType, text: str, value: object) -> None:
    found = parsed(type_, text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("{}", []),
        ("{1,NULL,-2}", ["1", None, "-2"]),
        (r'{"NULL","","a,b","q\"t","back\\slash","{x}"," "}', ["NULL", "", "a,b", 'q"t', "back\\slash", "{x}", " "]),
        ('{"two\nlines"}', ["two\nlines"]),
    ],
)
def test_array_texts(text: str, items: list[str | None]) -> None:
    assert array_items(text) == items


@pytest.mark.parametrize("text", ["{{1,2},{3,4}}", "[2:3]={1,2}", "["])
def test_other_arrays_are_inexact(text: str) -> None:
    with pytest.raises(Inexact):
        array_items(text)


def test_inexact_values_cannot_be_compared() -> None:
    integers = ColumnType(Kind.ARRAY, "_int4", element=of(Kind.INTEGER, "int4"))
    parse = reader(integers, "postgresql").parse
    assert parse is not None
    convert = canonical(parse)
    assert convert("{1,NULL}") == [1, None]
    assert convert("{{1}}") is UNAVAILABLE
    assert convert(None) is None
    late = reader(of(Kind.TIMESTAMP), "postgresql").parse
    assert late is not None
    assert canonical(late)("9224318016000000000") is UNAVAILABLE


@pytest.mark.parametrize(
    ("type_", "given", "value"),
    [
        (of(Kind.TIME, "time", length=838), "-838:59:59.999999", -3_020_399_999_999),
        (of(Kind.TIME, "time", length=838), "00:00:00.5", 500_000),
        (of(Kind.BITS, "bit", length=12), b"\x08\x01", "100000000001"),
        (of(Kind.TIMESTAMPTZ, "timestamp", scale=0), "2024-02-29 12:34:56", "2024-02-29T12:34:56Z"),
        (of(Kind.TIMESTAMPTZ, "timestamp", scale=3), "2024-02-29 12:34:56.100", "2024-02-29T12:34:56.100Z"),
        (of(Kind.BYTES, "point"), bytes(4) + b"\x01\x01\x00\x00\x00wkb", b"\x01\x01\x00\x00\x00wkb"),
        (of(Kind.BYTES, "point"), b"\xe6\x10\0\0\x01\x01\0\0\0wkb", b"\x01\x01\0\0\x20\xe6\x10\0\0wkb"),
        (of(Kind.BYTES, "blob"), b"\x00", b"\x00"),
    ],
)
def test_mariadb_values(type_: ColumnType, given: object, value: object) -> None:
    assert parsed(type_, given, "mariadb") == value


def test_every_described_type_has_a_reader() -> None:
    """A type that the decoder learns must be learned here as well."""
    for source, types in (("postgresql", types_postgres.TYPES), ("mariadb", types_mariadb.TYPES)):
        for entry in types:
            for native in entry.natives if not entry.refused else ():
                element = ColumnType(Kind.TEXT, "text") if entry.kind is Kind.ARRAY else None
                assert "{c}" in reader(ColumnType(entry.kind, native, element=element), source).sql, native
