"""Columns that a PostgreSQL target has in another type than what arrives: exact, or parked; and compared as written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from cdc.model import ColumnType, Kind, TargetColumn
from cdc.target.base import Owner
from cdc.target.postgres import PostgresTarget
from tests import tapes
from tests.conformance.compare_world import World
from tests.conformance.found import held, make, wider, with_values
from tests.fix_stack import Database
from tests.fix_targets import PostgresBench
from tests.tapes import play

pytestmark = pytest.mark.database

TEXT = ColumnType(Kind.TEXT, "text")
NUMERIC = ColumnType(Kind.DECIMAL, "numeric", 12, 4)
TIMESTAMP = ColumnType(Kind.TIMESTAMP, "timestamp")


@pytest.fixture(scope="module", name="bench")
def postgres_bench(module_database: Database) -> Iterator[PostgresBench]:
    bench = PostgresBench(module_database.dsn)
    bench.reader.execute("CREATE SCHEMA hub")
    yield bench
    bench.close()


NARROWER: dict[str, tuple[ColumnType, dict[Any, str | None]]] = {
    "numeric(6,2)": (NUMERIC, {"1.2300": "1.23", "1.2345": None, "12345.0000": None, "NaN": "NaN"}),
    "numeric(6)": (ColumnType(Kind.DECIMAL, "numeric"), {"12": "12", "12.0": "12", "12.5": None}),
    "integer": (NUMERIC, {"1.5": None}),
    "double precision": (NUMERIC, {"0.1000": "0.1", "12345678901234567.8": None, "Infinity": "Infinity"}),
    "real": (ColumnType(Kind.FLOAT64, "float8"), {0.5: "0.5", 0.1: None, 1e300: None}),
    "numeric(4,2)": (ColumnType(Kind.FLOAT64, "float8"), {0.25: "0.25", 1e-07: None}),
    "smallint": (ColumnType(Kind.INTEGER, "int4"), {7: "7", 70000: None}),
    "varchar(3)": (TEXT, {"abc": "abc", "abcd": None}),
    "name": (TEXT, {"abc": "abc", "x" * 64: None}),
    "timestamp(0)": (TIMESTAMP, {1_000_000: "1970-01-01 00:00:01", 1: None}),
    "date": (TIMESTAMP, {86_400_000_000: "1970-01-02", 1_000_000: None}),
    "timestamptz(3)": (
        ColumnType(Kind.TIMESTAMPTZ, "timestamptz"),
        {"2026-11-23T09:58:02.120Z": "2026-11-23 09:58:02.12+00", "2026-11-23T09:58:02.000001Z": None},
    ),
    "time(0)": (ColumnType(Kind.TIME, "time"), {1_000_000: "00:00:01", 1: None}),
    "interval(0)": (ColumnType(Kind.INTERVAL, "interval"), {"P0Y0M1DT0H0M1S": "1 day 00:00:01", "PT0.5S": None}),
    "numeric(3,1)[]": (ColumnType(Kind.ARRAY, "_numeric", element=NUMERIC), {("1.50",): "{1.5}", ("1.55",): None}),
    "text": (ColumnType(Kind.DATE, "date"), {0: "1970-01-01"}),
    "jsonb": (ColumnType(Kind.ARRAY, "_text", element=TEXT), {("a",): '["a"]'}),
}


@pytest.mark.parametrize("type_", NARROWER)
@pytest.mark.parametrize("domain", [False, True])
def test_a_column_of_another_type_holds_a_value_exactly_or_parks_it(
    bench: PostgresBench, type_: str, domain: bool
) -> None:
    column, values = NARROWER[type_]
    tape, table = tapes.Tape(), wider(bench.table(), TargetColumn("v", column))
    make(bench, table, f"CREATE DOMAIN {{t}}_domain AS {type_}")
    used = "{t}_domain" if domain else type_
    make(bench, table, f"CREATE TABLE {{t}} (id bigint PRIMARY KEY, name text, notes text, v {used})")
    rows = []
    for number, value in enumerate(values):
        canonical = list(value) if isinstance(value, tuple) else value
        rows.append(with_values(tape.full(number, "a", "x", (1, number)), number, "a", "x", canonical))
    kept = {number: shown for number, shown in enumerate(values.values()) if shown is not None}
    parks = {f"[{number}]": "value_out_of_range" for number in range(len(values)) if number not in kept}
    assert held(bench, table, rows) == parks
    shown = bench.reader.execute(f"SELECT id, v::text FROM hub.{table.name}").fetchall()
    assert dict(shown) == kept


def test_a_type_that_changes_between_batches_changes_the_text(bench: PostgresBench) -> None:
    """What was encoded for the old type is not sent to the new one."""
    tape, table = tapes.Tape(), wider(bench.table(), TargetColumn("v", ColumnType(Kind.DATE, "date")))
    rows = [with_values(tape.full(key, "a", "x", (1, key)), key, "a", "x", key) for key in (1, 2)]
    target = PostgresTarget(bench.connect)
    with closing(target):
        play(target, table, rows[:1], [], Owner(table.name, "target"))
        writes = tapes.in_blocks(rows[1:])
        batch = tapes.TableBatch(table, writes)
        batch.fold()
        assert batch.writes is not None
        batch.writes.encoded = target.encode(table, batch.writes)
        make(bench, table, "ALTER TABLE {t} ALTER v TYPE text")
        target.forget()
        target.prepare(table)
        with target.begin() as transaction:
            assert transaction.write(table, batch.writes) == {}
    assert bench.shown(table, "v") == ["1970-01-02", "1970-01-03"]


def test_a_comparison_expects_what_is_written(
    bench: PostgresBench, module_database: Database, database: Database, tmp_path: Path
) -> None:
    with psycopg.connect(database.dsn, autocommit=True) as source:
        mapping = "{from: public.t, to: public.t}"
        world = World("postgresql", database, module_database, tmp_path, bench.reader, source.execute, mapping)
        world.at_source("CREATE TABLE t (id bigint PRIMARY KEY, a date, b timestamp, c numeric(12,4))")
        world.at_source("INSERT INTO t VALUES (1, '2026-11-23', '2026-11-23 09:58:02', 1.5), (2, NULL, NULL, 1.2345)")
        world.hub.execute("CREATE DOMAIN short AS numeric(6,2) NOT NULL")
        world.hub.execute("CREATE TABLE t (id bigint PRIMARY KEY, a text, b varchar(30), c short)")
        world.hub.execute("INSERT INTO t VALUES (1, '2026-11-23', '2026-11-23 09:58:02', 1.50), (2, NULL, NULL, 1.23)")
        found = world.compare()
    assert (found.unmapped, found.missing, found.surplus, found.different) == (1, 0, 0, 0)
    assert [(each.key, each.reason.partition(":")[0]) for each in found.examples] == [(("2",), "column c")]
