"""Every MariaDB type, through the real stack: source table → Debezium → Kafka → Decoder → COPY → PostgreSQL table.

Both servers write their value as text in the same form (the case says how), and the texts must be equal.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
import pymysql
import pytest

from cdc.model import ChangeEvent, ColumnType, Kind, Op, RawRecord, TargetColumn
from cdc.source.envelope import Decoder, PoisonRecord
from cdc.source.refusals import condition, refusal
from cdc.stack import Stack
from cdc.target.postgres_lines import copy_line_builder
from cdc.target.postgres_types import sql_type
from tests.conformance.types_capture import MARIADB, Capture, capture
from tests.conformance.types_mariadb_cases import CASES, Case
from tests.fix_stack import Database, new_mariadb_database, new_postgres_database

pytestmark = pytest.mark.stack
INTEGER = ColumnType(Kind.INTEGER, "int")


@contextmanager
def captured(stack: Stack, database: Database, **settings: str) -> Iterator[Capture]:
    """A connector over all tables of `database`."""
    name = f"c_{uuid.uuid4().hex[:12]}"
    server = database.server
    config = {
        **MARIADB,
        "database.hostname": server.host,
        "database.port": str(server.port),
        "database.user": server.user,
        "database.password": server.password,
        "database.server.id": str(uuid.uuid4().int % 1_000_000_000 + 1000),
        "database.include.list": database.name,
        "schema.history.internal.kafka.bootstrap.servers": stack.endpoints.kafka,
        "schema.history.internal.kafka.topic": f"{name}.history",
        **settings,
    }
    with capture(stack.endpoints.connect_url, stack.endpoints.kafka, name, config) as running:
        yield running


@contextmanager
def connected(database: Database) -> Iterator[Any]:
    """A cursor whose session reads and writes UTC, utf8mb4 and every date."""
    arguments: dict[str, Any] = {**database.arguments, "autocommit": True, "charset": "utf8mb4"}
    with pymysql.connect(**arguments) as connection, connection.cursor() as cursor:
        cursor.execute("SET time_zone = '+00:00', sql_mode = ''")
        yield cursor


@dataclass
class Arrivals:
    source: Database
    target: Database
    rows: dict[tuple[str, str, str], ChangeEvent | PoisonRecord]


@pytest.fixture(scope="module")
def arrivals(stack: Stack) -> Iterator[Arrivals]:
    """One table a case, each value once before the snapshot and once after, all through one connector."""
    with (
        new_mariadb_database(stack.endpoints.mariadb) as source,
        new_postgres_database(stack.endpoints.postgres) as target,
        connected(source) as cursor,
    ):
        cursor.execute(f"ALTER DATABASE {source.name} CHARACTER SET utf8mb4")
        for number, case in enumerate(CASES):
            null = " NULL" if case.type.startswith("timestamp") else ""
            cursor.execute(f"CREATE TABLE t{number} (id integer PRIMARY KEY, v {case.type}{null})")
            _insert(cursor, number, case, 0)
        with captured(stack, source) as running:
            for number in range(len(CASES)):
                running.records(f"{source.name}.t{number}", 1)
            for number, case in enumerate(CASES):
                _insert(cursor, number, case, 1000)
            rows: dict[tuple[str, str, str], ChangeEvent | PoisonRecord] = {}
            for number, case in enumerate(CASES):
                records = running.records(f"{source.name}.t{number}", 2 * (len(case.values) + 1))
                rows |= _decoded(case, records)
            yield Arrivals(source, target, rows)


def _insert(cursor: Any, number: int, case: Case, start: int) -> None:
    for index, value in enumerate((*case.values, "NULL")):
        cursor.execute(f"INSERT INTO t{number} VALUES ({start + index}, {value})")


def _decoded(case: Case, records: list[RawRecord]) -> dict[tuple[str, str, str], ChangeEvent | PoisonRecord]:
    decoder = Decoder(standalone=True)
    found: dict[tuple[str, str, str], ChangeEvent | PoisonRecord] = {}
    texts = (*case.values, "NULL")
    for record in records:
        try:
            event = decoder.decode(record)
            assert isinstance(event, ChangeEvent)
            result: ChangeEvent | PoisonRecord = event
            key = (event.after or (None,))[0]
        except PoisonRecord as error:
            result = error
            key = (error.key or (None,))[0]
        found[case.type, texts[key % 1000], "streamed" if key >= 1000 else "read"] = result
    return found


def cases() -> list[object]:
    return [pytest.param(case, way, id=f"{case.type}-{way}") for case in CASES for way in ("read", "streamed")]


@pytest.mark.parametrize(("case", "way"), cases())
def test_every_value_arrives_exactly(arrivals: Arrivals, case: Case, way: str) -> None:
    start = 1000 if way == "streamed" else 0
    rows, wrong = [], []
    column = None
    for index, text in enumerate((*case.values, "NULL")):
        result = arrivals.rows[case.type, text, way]
        if isinstance(result, PoisonRecord):
            assert result.reason == "value_not_exact"
            if not (way == "read" and text in case.reads):
                wrong.append(f"{text}: parked ({result.what})")
            continue
        assert result.after is not None
        if way == "read" and text in case.reads:
            wrong.append(f"{text}: should be parked, arrived as {result.after[1]!r:.80}")
        column = result.schema.columns[1].type
        rows.append((start + index, result.after[1]))
    assert column is not None
    assert refusal(column, "mariadb") is None
    mine = _source_texts(arrivals.source, case)
    theirs = _target_texts(arrivals.target, case, column, rows)
    for key, text in theirs.items():
        same = float(mine[key]) == float(text) if case.number and text is not None else mine[key] == text
        if not same:
            wrong.append(f"{mine[key]!r:.80} became {text!r:.80}")
    assert len(theirs) == len(rows)
    assert not wrong, f"{case.type} ({way}, as {column.kind}, {sql_type(column)}): " + "; ".join(wrong)


def _source_texts(database: Database, case: Case) -> dict[int, Any]:
    with connected(database) as cursor:
        cursor.execute(f"SELECT id, {case.source} FROM t{CASES.index(case)}")
        return {key: text.decode() if isinstance(text, bytes) else text for key, text in cursor.fetchall()}


def _target_texts(
    database: Database, case: Case, column: ColumnType, rows: list[tuple[int, object]]
) -> dict[int, str | None]:
    build = copy_line_builder([TargetColumn("id", INTEGER), TargetColumn("v", column)])
    with psycopg.connect(database.dsn) as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE TEMPORARY TABLE target (id integer, v {sql_type(column)})")
        with cursor.copy("COPY target FROM STDIN") as copy:
            for row in rows:
                copy.write(build(row) + "\n")
        cursor.execute(f"SELECT id, {case.target} FROM target")
        return dict(cursor.fetchall())


def test_updates_deletes_and_key_changes(stack: Stack, mariadb_database: Database) -> None:
    with connected(mariadb_database) as cursor:
        cursor.execute("CREATE TABLE t (id integer, v varchar(20), PRIMARY KEY (id))")
        cursor.execute("INSERT INTO t VALUES (1, 'a'), (2, 'b')")
        with captured(stack, mariadb_database) as running:
            table = f"{mariadb_database.name}.t"
            running.records(table, 2)
            cursor.execute("UPDATE t SET v = CONCAT(v, '!')")
            cursor.execute("UPDATE t SET id = 3 WHERE id = 1")
            cursor.execute("DELETE FROM t WHERE id = 2")
            cursor.execute("TRUNCATE TABLE t")
            records = running.records(table, 10)
    decoder = Decoder(standalone=True)
    decoded = [decoder.decode(record) for record in records]
    events = [each for each in decoded if isinstance(each, ChangeEvent)]
    assert [each.op for each in events] == [
        *(Op.READ, Op.READ, Op.UPDATE, Op.UPDATE, Op.DELETE, Op.CREATE, Op.DELETE, Op.TRUNCATE)
    ]
    assert [each.position for each in events] == sorted(each.position for each in events)
    assert len({each.position for each in events[2:4]}) == 2, (
        "binlog_legacy_event_pos=ON gives rows their own positions"
    )
    assert (events[4].moved_to, events[5].moved_from) == ((3,), (1,))
    assert (events[2].before, events[2].after) == ((1, "a"), (1, "a!"))
    assert not decoder.notices()


def test_values_the_doctor_must_find_beforehand(stack: Stack, mariadb_database: Database) -> None:
    """Zero dates and cut floats arrive as ordinary values: only the check in the database can tell."""
    columns = {"date NOT NULL": "'0000-00-00'", "datetime NOT NULL": "0", "float": "52.520008", "year": "0"}
    with connected(mariadb_database) as cursor:
        defined = ", ".join(f"c{number} {sql}" for number, sql in enumerate(columns))
        cursor.execute(f"CREATE TABLE t (id integer PRIMARY KEY, {defined})")
        cursor.execute(f"INSERT INTO t VALUES (1, {', '.join(list(columns.values())[:3])}, 2024)")
        with captured(stack, mariadb_database) as running:
            event = Decoder(standalone=True).decode(running.records(f"{mariadb_database.name}.t", 1)[0])
        assert isinstance(event, ChangeEvent)
        assert event.after is not None
        assert event.after[1] == 0
        for number, column in enumerate(event.schema.columns[1:4]):
            found = condition(column.type, "mariadb")
            assert found is not None
            cursor.execute(f"SELECT count(*) FROM t WHERE {found.check.format(column=f'c{number}')}")
            assert cursor.fetchone()[0] == 1, column
