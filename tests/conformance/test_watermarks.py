"""Watermarks and fences: every target keeps them by the same rules as the reference one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import psycopg
import pytest

from cdc.errors import Fenced
from cdc.model import ColumnType, Kind, Position, RawRecord, TargetColumn, TargetTable, TopicPartition
from cdc.target.base import Advance, Owner, Parked, Target
from cdc.target.memory import MemoryTarget, Storage
from cdc.target.postgres import PostgresTarget
from tests.fix_stack import Database

P0, P1 = TopicPartition("crm.public.people", 0), TopicPartition("crm.public.people", 1)
OWNER = Owner("people", "hub")
Open = Callable[[], Target]
"""Another connection to the same target, open."""


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.database)])
def connected(request: pytest.FixtureRequest) -> Open:
    if request.param == "memory":
        storage = Storage()

        def memory() -> Target:
            target = MemoryTarget(storage)
            target.open(OWNER)
            return target

        return memory
    dsn = request.getfixturevalue("database").dsn

    def postgres() -> Target:
        target = PostgresTarget(lambda: psycopg.connect(dsn, autocommit=True))
        request.addfinalizer(lambda: target.close())
        target.open(OWNER)
        return target

    return postgres


def advance(target: Target, *moves: Advance) -> None:
    with target.begin() as transaction:
        transaction.advance(moves)


def test_taking_raises_the_fence_and_keeps_the_rest(connected: Open) -> None:
    first, second = connected(), connected()
    (mark,) = first.take({P0: "id"})
    assert (mark.partition, mark.topic_id, mark.next, mark.fence, mark.tracker) == (P0, "id", None, 1, "")
    advance(first, Advance(P0, 1, None, 5, "state"))
    (mark,) = second.take({P0: "id"})
    assert (mark.next, mark.fence, mark.tracker) == (5, 2, "state")
    with pytest.raises(Fenced):
        advance(first, Advance(P0, 1, 5, 6))
    assert [mark.next for mark in second.watermarks()] == [5]


def test_one_partition_that_is_not_as_expected_stops_them_all(connected: Open) -> None:
    target = connected()
    target.take({P0: "id", P1: "id"})
    with pytest.raises(Fenced):
        advance(target, Advance(P0, 1, None, 5), Advance(P1, 1, 3, 5))
    assert {mark.next for mark in target.watermarks()} == {None}


def test_a_tracker_that_is_not_given_stays(connected: Open) -> None:
    target = connected()
    target.take({P0: "id"})
    advance(target, Advance(P0, 1, None, 5, "state"))
    advance(target, Advance(P0, 1, 5, 5))
    assert [(mark.next, mark.tracker) for mark in target.watermarks()] == [(5, "state")]


def test_registered_partitions_are_known_and_nobodys(connected: Open) -> None:
    target = connected()
    target.take({P0: "id"})
    target.register({P0: "other", P1: "id"})
    assert sorted((mark.partition, mark.topic_id, mark.fence) for mark in target.watermarks()) == [
        (P0, "id", 1),
        (P1, "id", 0),
    ]


def test_a_partition_belongs_to_the_topic_that_was_first_read(connected: Open) -> None:
    target = connected()
    target.take({P0: "first", P1: "first"})
    advance(target, Advance(P1, 1, None, 5))
    marks = {mark.partition: mark.topic_id for mark in target.take({P0: "second", P1: "second"})}
    assert marks == {P0: "second", P1: "first"}


@pytest.mark.database
def test_purge_keeps_what_a_replay_could_need(database: Database) -> None:
    """Memories of deletes go when they are older than asked, and older than the oldest parked record."""
    target = PostgresTarget(lambda: psycopg.connect(database.dsn, autocommit=True))
    target.open(OWNER)
    column = TargetColumn("id", ColumnType(Kind.INTEGER, "int8"), nullable=False)
    table = TargetTable("people/hub.people", "hub", "people", (column,), ("id",))
    target.prepare(table)
    with psycopg.connect(database.dsn, autocommit=True) as connection:
        (name,) = connection.execute("SELECT 'cdc.tombstone_' || id FROM cdc.target_table").fetchone() or ("",)
        ages = [(1, 10), (2, 50), (3, 90)]
        for key, days in ages:
            connection.execute(f"INSERT INTO {name} VALUES (%s, '', now() - make_interval(days => %s))", (key, days))
        connection.execute(
            "INSERT INTO cdc.moved VALUES ('people/hub.people', '[1]', '[2]', '', '[]', now() - interval '90 days'),"
            " ('others/hub.people', '[1]', '[2]', '', '[]', now() - interval '90 days')"
        )
        with target.begin() as transaction:
            record = RawRecord(P0.topic, 0, 7, None, b"{")
            transaction.park([Parked("people/hub.people", "[9]", record, Position(0, 0, 0), "unreadable_record")])
        connection.execute("UPDATE cdc.parked SET parked_at = now() - interval '70 days'")
        assert target.purge(30 * 86_400) == 2  # the oldest delete, and this pipeline's lent value
        connection.execute("DELETE FROM cdc.parked")
        assert target.purge(30 * 86_400) == 1
        assert connection.execute(f"SELECT id FROM {name}").fetchall() == [(1,)]
        assert connection.execute("SELECT mapping FROM cdc.moved").fetchall() == [("others/hub.people",)]
    target.close()


@pytest.mark.database
def test_a_request_to_retry_lives_until_the_retry_commits(database: Database) -> None:
    target = PostgresTarget(lambda: psycopg.connect(database.dsn, autocommit=True))
    target.open(OWNER)
    with target.begin() as transaction:
        record = RawRecord(P0.topic, 0, 7, None, b"{")
        transaction.park([Parked("people/hub.people", "[9]", record, Position(0, 0, 0), "unreadable_record")])
    with psycopg.connect(database.dsn, autocommit=True) as connection:
        connection.execute("UPDATE cdc.parked SET retry_requested_at = now()")
    asked = [("people/hub.people", "[9]")]
    (parked,) = target.queue(*asked[0][:1], [asked[0][1]])
    assert parked.id is not None
    assert target.retries([P0]) == asked
    with suppress(ZeroDivisionError), target.begin() as transaction:
        transaction.retried([parked.id])
        raise ZeroDivisionError
    assert target.retries([P0]) == asked
    with target.begin() as transaction:
        transaction.retried([parked.id])
    assert target.retries([P0]) == []
    target.close()
