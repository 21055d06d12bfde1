"""Unchanged large values of PostgreSQL: UNAVAILABLE or refused under REPLICA IDENTITY DEFAULT, sent under FULL."""

from __future__ import annotations

import json
from collections.abc import Mapping

import psycopg
import pytest

from cdc.model import UNAVAILABLE, ChangeEvent, ColumnType, Op, RawRecord
from cdc.source.envelope import Decoder, PoisonRecord
from cdc.source.refusals import refusal
from cdc.stack import Stack
from tests.conformance.test_types_postgres import captured
from tests.conformance.types_capture import TaskFailed
from tests.conformance.types_large_values import NULLED, TOLD
from tests.conformance.types_postgres_cases import EXTENSIONS, TYPES
from tests.fix_stack import Database

pytestmark = pytest.mark.stack


def make_table(database: Database, name: str, columns: Mapping[str, str], identity: str = "DEFAULT") -> None:
    """`columns`: large values by type. They are stored out of line, uncompressed."""
    with psycopg.connect(database.dsn, autocommit=True) as connection:
        defined = ", ".join(f"c{number} {sql}" for number, sql in enumerate(columns))
        connection.execute(f"CREATE TABLE {name} (id integer PRIMARY KEY, n integer, {defined})")
        for number in range(len(columns)):
            connection.execute(f"ALTER TABLE {name} ALTER c{number} SET STORAGE EXTERNAL")
        connection.execute(f"ALTER TABLE {name} REPLICA IDENTITY {identity}")
        connection.execute(f"INSERT INTO {name} SELECT 1, 0, {', '.join(columns.values())}")


def make_types(database: Database) -> None:
    with psycopg.connect(database.dsn, autocommit=True) as connection:
        for extension in EXTENSIONS:
            connection.execute(f"CREATE EXTENSION {extension}")
        for statement in TYPES:
            connection.execute(statement)


def change(database: Database, sql: str) -> None:
    with psycopg.connect(database.dsn, autocommit=True) as connection:
        connection.execute(sql)


def event(decoder: Decoder, record: RawRecord) -> ChangeEvent:
    found = decoder.decode(record)
    assert isinstance(found, ChangeEvent)
    return found


def test_placeholders_of_every_type(stack: Stack, database: Database) -> None:
    make_types(database)
    make_table(database, "t", TOLD)
    with captured(stack, database) as running:
        running.records("public.t", 1)
        change(database, "UPDATE t SET n = 1")
        change(database, "UPDATE t SET id = 2")
        records = running.records("public.t", 5)
        decoder = Decoder(standalone=True)
        read, updated, deleted, _, moved = [decoder.decode(record) for record in records]
    assert isinstance(read, ChangeEvent)
    assert isinstance(updated, ChangeEvent)
    assert isinstance(deleted, ChangeEvent)
    assert isinstance(moved, ChangeEvent)
    assert read.after is not None
    assert UNAVAILABLE not in read.after
    for change_ in (updated, moved):
        assert change_.after is not None
        missing = {sql: value for sql, value in zip(TOLD, change_.after[2:], strict=True) if value is not UNAVAILABLE}
        assert not missing
        assert change_.after[1] == 1
    assert (deleted.op, deleted.moved_to, moved.moved_from) == (Op.DELETE, (2,), (1,))
    assert deleted.before == (1, *[UNAVAILABLE] * (len(TOLD) + 1)), "an identity of only the key says nothing of others"
    for column in read.schema.columns:
        assert refusal(column.type, "postgresql", full_identity=False) is None


def test_full_identity_sends_everything(stack: Stack, database: Database) -> None:
    make_types(database)
    every = TOLD | NULLED
    make_table(database, "t", every, "FULL")
    with captured(stack, database) as running:
        running.records("public.t", 1)
        change(database, "UPDATE t SET n = 1")
        records = running.records("public.t", 2)
    decoder = Decoder(standalone=True)
    read, updated = (event(decoder, record) for record in records)
    assert read.after is not None
    assert updated.after is not None
    differing = [s for s, a, b in zip(every, read.after[2:], updated.after[2:], strict=True) if a != b or a is None]
    assert not differing
    assert updated.before is not None
    assert updated.before[2:] == updated.after[2:]


def test_types_without_a_placeholder_are_refused_under_default_identity(stack: Stack, database: Database) -> None:
    make_types(database)
    make_table(database, "t", NULLED)
    with captured(stack, database, **{"event.converting.failure.handling.mode": "warn"}) as running:
        running.records("public.t", 1)
        change(database, "UPDATE t SET n = 1")
        records = running.records("public.t", 2)
    payload = json.loads(records[1].value or b"")["payload"]["after"]
    assert all(payload[f"c{number}"] is None for number in range(len(NULLED)))
    decoder = Decoder(standalone=True)
    read = event(decoder, records[0])
    refused = [refusal(column.type, "postgresql", full_identity=False) for column in read.schema.columns[2:]]
    assert all(found is not None and "REPLICA IDENTITY FULL" in found.fix for found in refused)
    with pytest.raises(PoisonRecord) as caught:
        decoder.decode(records[1])
    assert caught.value.reason == "value_not_exact"
    assert (caught.value.key, caught.value.position is not None) == ((1,), True)


def test_a_failed_conversion_stops_the_task(stack: Stack, database: Database) -> None:
    make_table(database, "t", {"smallint[]": NULLED["smallint[]"]})
    with captured(stack, database) as running:
        running.records("public.t", 1)
        change(database, "UPDATE t SET n = 1")
        with pytest.raises(TaskFailed):
            running.records("public.t", 2)


NEVER = {
    "varbit": ("B'00101'", "bits"),
    "timetz": ("'12:00+05:30'", "zone"),
    "time[]": ("'{12:00:00.000001}'", "milliseconds"),
    "bit(3)[]": ("ARRAY[B'101']", "null"),
}
NOT_SENT = ("interval[]", "xml[]", "point[]", "money[]", "varbit[]", "name[]")


def test_types_that_are_never_exact_are_refused_and_harm_nothing_else(stack: Stack, database: Database) -> None:
    columns = [*NEVER, *NOT_SENT]
    defined = ", ".join(f"c{number} {sql}" for number, sql in enumerate(columns))
    change(database, f"CREATE TABLE t (id integer PRIMARY KEY, {defined}, last text)")
    values = ", ".join(value for value, _ in NEVER.values())
    names = ", ".join(f"c{number}" for number in range(len(NEVER)))
    insert = f"INSERT INTO t (id, {names}, last) SELECT %s, {values}, 'last'"
    change(database, insert % 1)
    with captured(stack, database, **{"event.converting.failure.handling.mode": "warn"}) as running:
        running.records("public.t", 1)
        change(database, insert % 2)
        records = running.records("public.t", 2)
    decoder = Decoder(standalone=True)
    for record in records:
        found = event(decoder, record)
        assert found.after is not None
        assert [column.name for column in found.schema.columns] == ["id", "c0", "c1", "c2", "c3", "last"]
        assert found.after[1:] == (*[UNAVAILABLE] * len(NEVER), "last")
        for column, (_, word) in zip(found.schema.columns[1:], NEVER.values(), strict=False):
            refused = refusal(column.type, "postgresql")
            assert refused is not None
            assert word in refused.reason
    for sql in NOT_SENT:
        native = ColumnType(found.schema.columns[0].type.kind, f"_{sql.removesuffix('[]')}")
        assert refusal(native, "postgresql") is not None
