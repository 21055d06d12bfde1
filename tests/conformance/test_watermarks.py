"""Watermarks and fences: every target keeps them by the same rules as the reference one."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest

from cdc.errors import Fenced
from cdc.model import TopicPartition
from cdc.target.base import Advance, Owner, Target
from cdc.target.memory import MemoryTarget, Storage
from cdc.target.postgres import PostgresTarget

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
