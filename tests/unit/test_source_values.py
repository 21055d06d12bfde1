"""Conversions of single values, and what the tables of types say."""

from __future__ import annotations

import pytest

from cdc.model import NEG_INFINITY, POS_INFINITY, ColumnType, Kind
from cdc.source import types_mariadb, types_postgres, values
from cdc.source.refusals import condition, documentation, refusal


@pytest.mark.parametrize(
    ("arrived", "expected"),
    [
        ("1.10", "1.10"),
        ("NAN", "NaN"),
        ("POSITIVE_INFINITY", "Infinity"),
        ("NEGATIVE_INFINITY", "-Infinity"),
        ("1E-5", "0.00001"),
        ("-1.25E-3", "-0.00125"),
        ("1.5E3", "1500"),
        ("1.2345E2", "123.45"),
    ],
)
def test_decimals(arrived: str, expected: str) -> None:
    assert values.decimal(arrived) == expected


def test_bits_are_little_endian_with_zero_bytes_trimmed() -> None:
    convert = values.bits(12)
    assert [convert(value) for value in (b"", b"\x01", b"\x01\x08")] == ["0" * 12, "000000000001", "100000000001"]


def test_infinities_of_dates_and_timestamps() -> None:
    assert [values.date(day) for day in (-2147472692, -2147472691, 0)] == [POS_INFINITY, NEG_INFINITY, 0]
    assert values.timestamp_read(-9223372036832400000) == NEG_INFINITY
    with pytest.raises(values.Inexact):
        values.timestamp(-9222426057709551616)  # what PostgreSQL's last years overflow to


def test_money_in_snapshots_goes_through_a_double() -> None:
    assert [values.money_read(text) for text in ("1.5", "12", "-0.01")] == ["1.50", "12.00", "-0.01"]
    with pytest.raises(values.Inexact):
        values.money_read("-9.223372036854776E16")


def test_arrays_that_look_two_dimensional() -> None:
    elements = values.array_of(None)
    assert elements([]) == []
    assert elements([1, None]) == [1, None]
    for looks in ([None, None], ["[Ljava.lang.String;@45fc691d"]):
        with pytest.raises(values.Inexact):
            elements(looks)


def test_geometry_keeps_its_srid() -> None:
    wkb = bytes.fromhex("0101000000000000000000F03F0000000000000040")
    assert values.geometry(values.Geometry(wkb)) == wkb
    assert values.geometry(values.Geometry(wkb, 4326)).hex().startswith("0101000020e6100000")


def test_unsigned_big_integers() -> None:
    assert values.unsigned_bytes(bytes.fromhex("00ffffffffffffffff")) == (1 << 64) - 1
    assert values.unsigned_long(-1) == (1 << 64) - 1


def test_placeholder_of_uuid_arrays_is_javas() -> None:
    expected = ["b68a35a7-17ad-35b3-af2a-ae46edb4545a"]
    assert values.uuid_array_unavailable("__debezium_unavailable_value") == expected


def test_mariadb_enums_in_the_stream_are_escaped() -> None:
    assert values.unescaped(r"b\,c") == "b,c"
    assert values.unescaped(r"d\\e") == r"d\e"


@pytest.mark.parametrize("native", ["varbit", "timetz", "_time", "_bit", "_interval", "_xml", "_money"])
def test_what_is_never_exact_is_refused_with_a_fix(native: str) -> None:
    found = refusal(ColumnType(Kind.TEXT, native), "postgresql")
    assert found is not None
    assert found.reason
    assert found.fix


def test_what_needs_full_identity() -> None:
    for column in (
        ColumnType(Kind.ARRAY, "_int2"),
        ColumnType(Kind.ARRAY, "_my_enum"),
        ColumnType(Kind.BITS, "bit", 500),
    ):
        assert refusal(column, "postgresql") is None
        assert refusal(column, "postgresql", full_identity=False) is not None
    for column in (ColumnType(Kind.BITS, "bit", 8), ColumnType(Kind.TEXT, "text"), ColumnType(Kind.ARRAY, "_text")):
        assert refusal(column, "postgresql", full_identity=False) is None


def test_conditions_come_with_a_check() -> None:
    found = condition(ColumnType(Kind.INTERVAL, "interval"), "postgresql")
    assert found is not None
    assert "isfinite(x)" in found.check.format(column="x")
    for entry in (*types_postgres.TYPES, *types_mariadb.TYPES):
        assert bool(entry.condition) <= bool(entry.check)
        entry.check.format(column="x")


def test_the_documentation_has_every_type() -> None:
    for kind, known in (("postgresql", types_postgres.BY_NAME), ("mariadb", types_mariadb.BY_NAME)):
        rows = list(documentation(kind))  # type: ignore[arg-type]
        assert {name for row in rows for name in row.names} == set(known)
        assert all(bool(row.reason) == (row.verdict != "exact") for row in rows)
        assert all(row.advice for row in rows if row.verdict != "exact" and not row.reason.startswith("parked"))
