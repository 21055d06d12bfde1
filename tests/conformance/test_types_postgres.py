"""Every PostgreSQL type, through the real stack: source table → Debezium → Kafka → Decoder → COPY → target table.

The target lies in the source's database, so that the server itself compares: the text of each value that arrived with
the text of the value that was written.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
import pytest

from cdc.model import ChangeEvent, ColumnType, Kind, RawRecord, TargetColumn
from cdc.source.envelope import Decoder, PoisonRecord, Skip
from cdc.source.refusals import refusal
from cdc.stack import Stack
from cdc.target.postgres_lines import copy_line_builder
from cdc.target.postgres_types import sql_type
from tests.conformance.types_capture import POSTGRES, Capture, capture
from tests.conformance.types_postgres_cases import CASES, EXTENSIONS, TYPES, Case
from tests.fix_stack import Database, new_postgres_database

pytestmark = pytest.mark.stack
INTEGER = ColumnType(Kind.INTEGER, "int4")


@contextmanager
def captured(stack: Stack, database: Database, **settings: str) -> Iterator[Capture]:
    """A connector over all tables of `database`."""
    name = f"c_{uuid.uuid4().hex[:12]}"
    server = database.server
    config = {
        **POSTGRES,
        "database.hostname": server.host,
        "database.port": str(server.port),
        "database.user": server.user,
        "database.password": server.password,
        "database.dbname": database.name,
        "slot.name": name,
        "publication.name": name,
        "slot.drop.on.stop": "true",
        **settings,
    }
    with capture(stack.endpoints.connect_url, stack.endpoints.kafka, name, config) as running:
        yield running


@dataclass
class Arrivals:
    """What came of every row of every case: the decoded value or the poison, snapshot and streamed."""

    database: Database
    rows: dict[tuple[str, str, str], ChangeEvent | PoisonRecord]

    def rows_of(self, case: Case) -> list[ChangeEvent | PoisonRecord]:
        return [row for (sql, _, _), row in self.rows.items() if sql == case.type]


@pytest.fixture(scope="module")
def arrivals(stack: Stack) -> Iterator[Arrivals]:
    """One table a case, each value once before the snapshot and once after, all through one connector."""
    with (
        new_postgres_database(stack.endpoints.postgres) as database,
        psycopg.connect(database.dsn, autocommit=True) as connection,
    ):
        for extension in EXTENSIONS:
            connection.execute(f"CREATE EXTENSION {extension}")
        for statement in TYPES:
            connection.execute(statement)
        connection.execute("CREATE TABLE ready (id integer PRIMARY KEY)")
        connection.execute("INSERT INTO ready VALUES (1)")
        for number, case in enumerate(CASES):
            connection.execute(f"CREATE TABLE t{number} (id integer PRIMARY KEY, v {case.type})")
            _insert(connection, number, case, 0)
        with captured(stack, database) as running:
            running.records("public.ready", 1)
            for number in range(len(CASES)):
                running.records(f"public.t{number}", 1)
            for number, case in enumerate(CASES):
                _insert(connection, number, case, 1000)
            rows: dict[tuple[str, str, str], ChangeEvent | PoisonRecord] = {}
            for number, case in enumerate(CASES):
                records = running.records(f"public.t{number}", 2 * (len(case.values) + 1))
                rows |= _decoded(case, records)
            yield Arrivals(database, rows)


def _insert(connection: psycopg.Connection[object], number: int, case: Case, start: int) -> None:
    for index, value in enumerate((*case.values, "NULL")):
        connection.execute(f"INSERT INTO t{number} VALUES ({start + index}, {value})")


def _decoded(case: Case, records: list[RawRecord]) -> dict[tuple[str, str, str], ChangeEvent | PoisonRecord]:
    decoder = Decoder(standalone=True)
    found: dict[tuple[str, str, str], ChangeEvent | PoisonRecord] = {}
    texts = (*case.values, "NULL")
    for record in records:
        try:
            event = decoder.decode(record)
            assert not isinstance(event, Skip)
            result: ChangeEvent | PoisonRecord = event
            assert event.after is not None
            key = event.after[0]
        except PoisonRecord as error:
            result = error
            key = (error.key or (None,))[0]
        found[case.type, texts[key % 1000], "streamed" if key >= 1000 else "read"] = result
    return found


def cases() -> list[object]:
    return [pytest.param(case, way, id=f"{case.type}-{way}") for case in CASES for way in ("read", "streamed")]


@pytest.mark.parametrize(("case", "way"), cases())
def test_every_value_arrives_exactly(arrivals: Arrivals, case: Case, way: str) -> None:
    number = CASES.index(case)
    parked = case.parks + (case.reads if way == "read" else ())
    start = 1000 if way == "streamed" else 0
    rows, wrong = [], []
    column = None
    for index, text in enumerate((*case.values, "NULL")):
        result = arrivals.rows[case.type, text, way]
        if isinstance(result, PoisonRecord):
            if text not in parked:
                wrong.append(f"{text}: parked ({result.what})")
            assert result.reason == "value_not_exact"
            continue
        if text in parked:
            wrong.append(f"{text}: should be parked, arrived as {result.after[1]!r:.80}")  # type: ignore[index]
            continue
        assert result.after is not None
        column = result.schema.columns[1].type
        rows.append((start + index, result.after[1]))
    assert column is not None
    types = {one.schema.columns[1] for one in arrivals.rows_of(case) if isinstance(one, ChangeEvent)}
    assert len(types) == 1, "snapshot and stream must agree on the column's type"
    assert refusal(column, "postgresql") is None
    target = case.target or sql_type(column)
    build = copy_line_builder([TargetColumn("id", INTEGER), TargetColumn("v", column, target)])
    with psycopg.connect(arrivals.database.dsn) as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE TEMPORARY TABLE target (id integer, v {target})")
        with cursor.copy("COPY target FROM STDIN") as copy:
            for row in rows:
                copy.write(build(row) + "\n")
        differing = cursor.execute(
            f"SELECT s.v, t.v::text FROM (SELECT id, {case.text} AS v FROM t{number}) s JOIN target t USING (id)"
            " WHERE s.v IS DISTINCT FROM t.v::text"
        ).fetchall()
        for mine, theirs in differing:
            wrong.append(f"{mine!r:.80} became {theirs!r:.80}")
        count = cursor.execute("SELECT count(*) FROM target").fetchone()
        assert count == (len(rows),)
    assert not wrong, f"{case.type} ({way}, as {column.kind}, {sql_type(column)}): " + "; ".join(wrong)
