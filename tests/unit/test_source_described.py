"""cdc/reconcile: a catalog's table as the stream describes it; which rows of the source belong to a target key."""

from __future__ import annotations

import pytest

from cdc.db.catalog import CatalogColumn, CatalogTable
from cdc.errors import Terminal
from cdc.mapping.compile import compile_table
from cdc.mapping.load import loads
from cdc.model import Column, ColumnType, Kind, TableSchema
from cdc.reconcile.comparison import source_key_of
from cdc.source.described import Undescribed, table_schema


def table(*columns: tuple[str, str, str], key: tuple[str, ...] = ("a",)) -> CatalogTable:
    return CatalogTable(
        "n", "t", tuple(CatalogColumn(name, native, declared, True) for name, native, declared in columns), key
    )


@pytest.mark.parametrize(
    ("native", "declared", "type_"),
    [
        ("numeric", "numeric(12,2)", ColumnType(Kind.DECIMAL, "numeric", 12, 2)),
        ("numeric", "numeric", ColumnType(Kind.DECIMAL, "numeric")),
        ("varchar", "character varying(20)", ColumnType(Kind.TEXT, "varchar", 20)),
        ("bpchar", "character(3)", ColumnType(Kind.TEXT, "bpchar", 3)),
        ("bit", "bit(12)", ColumnType(Kind.BITS, "bit", 12)),
        ("timestamp", "timestamp(3) without time zone", ColumnType(Kind.TIMESTAMP, "timestamp", None, 3)),
        ("timestamptz", "timestamp with time zone", ColumnType(Kind.TIMESTAMPTZ, "timestamptz", None, 6)),
        ("interval", "interval", ColumnType(Kind.INTERVAL, "interval", None, 6)),
        ("bool", "boolean", ColumnType(Kind.BOOLEAN, "bool")),
        ("_int4", "integer[]", ColumnType(Kind.ARRAY, "_int4", element=ColumnType(Kind.INTEGER, "int4"))),
        ("varbit", "bit varying", ColumnType(Kind.BITS, "varbit")),
    ],
)
def test_postgres_types(native: str, declared: str, type_: ColumnType) -> None:
    schema = table_schema("s", "postgresql", table(("a", native, declared)))
    assert schema.columns == (Column("a", type_, True, True),)


def test_postgres_types_of_the_users_own() -> None:
    catalog = table(
        ("a", "mood", "mood"), ("b", "numeric", "money_amount"), ("c", "_mood", "mood[]"), ("d", "pair", "pair")
    )
    own = {
        "a": Undescribed("mood", "text", ""),
        "b": Undescribed("money_amount", "numeric", "numeric(10,2)"),
        "c": Undescribed("mood", "text", ""),
        "d": Undescribed("pair", "bytea", ""),
    }
    types = [column.type for column in table_schema("s", "postgresql", catalog, own).columns]
    assert types == [
        ColumnType(Kind.TEXT, "mood"),
        ColumnType(Kind.TEXT, "money_amount", 10),  # which is how Debezium sends it
        ColumnType(Kind.ARRAY, "_mood", element=ColumnType(Kind.TEXT, "mood")),
        ColumnType(Kind.BYTES, "pair"),
    ]


@pytest.mark.parametrize(
    ("native", "declared", "type_"),
    [
        ("bigint unsigned", "bigint(20) unsigned", ColumnType(Kind.INTEGER, "bigint unsigned")),
        ("decimal", "decimal(10,2)", ColumnType(Kind.DECIMAL, "decimal", 10, 2)),
        ("enum", "enum('a(1)','b')", ColumnType(Kind.TEXT, "enum")),
        ("varchar", "varchar(20)", ColumnType(Kind.TEXT, "varchar", 20)),
        ("datetime", "datetime(6)", ColumnType(Kind.TIMESTAMP, "datetime", None, 6)),
        ("timestamp", "timestamp", ColumnType(Kind.TIMESTAMPTZ, "timestamp", None, 0)),
        ("time", "time(3)", ColumnType(Kind.TIME, "time", 838, 3)),
        ("bit", "bit(12)", ColumnType(Kind.BITS, "bit", 12)),
        ("longtext", "longtext", ColumnType(Kind.TEXT, "longtext")),
    ],
)
def test_mariadb_types(native: str, declared: str, type_: ColumnType) -> None:
    schema = table_schema("s", "mariadb", table(("a", native, declared)))
    assert schema.columns == (Column("a", type_, True, True),)


def test_a_type_that_nobody_knows() -> None:
    with pytest.raises(Terminal, match="column a"):
        table_schema("s", "mariadb", table(("a", "xmltype", "xmltype")))


# --- keys ------------------------------------------------------------------------------------------------------------

SCHEMA = TableSchema(
    "s",
    "postgresql",
    "public",
    "t",
    (
        Column("a", ColumnType(Kind.INTEGER, "int4"), False, True),
        Column("b", ColumnType(Kind.TEXT, "text"), False, True),
        Column("f", ColumnType(Kind.FLOAT64, "float8"), False, False),
    ),
    1,
)


@pytest.mark.parametrize(
    ("mapping", "places"),
    [
        ("", (0, 1)),
        (", key: [b, a]", (1, 0)),
        (", columns: {'*': {rename: {a: number}}}", (0, 1)),
        (", key: [x, y], columns: {x: b, y: a, z: f}", (1, 0)),
        (", key: [f, b, a]", (2, 1)),
        (", key: [a]", None),  # several source rows in one
        (", key: [k, a], columns: {'*': {}, k: {sql: lower(b)}}", None),
        (", columns: {'*': {}, a: {copy: a, type: text}}", None),  # written another way
    ],
)
def test_which_parts_of_a_target_key_are_the_sources(mapping: str, places: tuple[int, ...] | None) -> None:
    pipeline = loads(f"pipeline: p\nsource: s\ntarget: t\ntables:\n  - {{from: public.t, to: public.t{mapping}}}\n")
    plan = compile_table(pipeline.tables[0], SCHEMA)
    assert source_key_of(pipeline.tables[0], plan) == places
