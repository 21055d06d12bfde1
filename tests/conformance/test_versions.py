"""Deployed versions of mappings: every target keeps them by the same rules, and fences who works by an older one."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import closing

import msgspec
import pytest

from cdc.errors import Fenced
from cdc.model import TopicPartition
from cdc.target.base import Advance, Owner, Target
from cdc.target.operator import Move, Operator
from cdc.target.versions import Deployed, in_force, version_at
from tests.fix_targets import Bench, differs

P0, P1 = TopicPartition("crm.public.people", 0), TopicPartition("crm.public.people", 1)
_numbers = itertools.count(1)


@pytest.fixture
def owner() -> Owner:
    return Owner(f"versioned {next(_numbers)}", "hub")


@pytest.fixture
def operator(bench: Bench, owner: Owner) -> Iterator[Operator]:
    differs(bench, "operator")
    operator = bench.operator()
    operator.open(owner)
    with closing(operator):
        yield operator


@pytest.fixture
def target(bench: Bench, owner: Owner) -> Iterator[Target]:
    target = bench.target()
    target.open(owner)
    with closing(target):
        yield target


def version(number: int, **more: object) -> Deployed:
    return msgspec.structs.replace(Deployed(number, f"pipeline: p{number}\n", "p.yaml", "me@here", "why"), **more)


def advance(target: Target, *moves: Advance) -> None:
    with target.begin() as transaction:
        transaction.advance(moves)


def test_the_newest_version_is_told_to_workers(operator: Operator, target: Target) -> None:
    assert (target.deployed(), operator.versions(), operator.switches()) == (None, [], [])
    assert operator.deploy(version(1))
    assert operator.deploy(version(2, restores=1, reason="it was better"))
    for wrong in (version(2), version(4), version(1)):
        assert not operator.deploy(wrong)
    newest, first = operator.versions()
    assert newest.at is not None
    assert first.at is not None
    assert newest.at >= first.at
    assert msgspec.structs.replace(newest, at=None) == version(2, restores=1, reason="it was better")
    assert target.deployed() == newest


def test_what_an_older_version_made_is_not_committed(operator: Operator, target: Target) -> None:
    target.take({P0: "id", P1: "id"})
    advance(target, Advance(P0, 1, None, 5, "state"))
    assert operator.deploy(version(1))
    with pytest.raises(Fenced):
        advance(target, Advance(P0, 1, 5, 6))
    with pytest.raises(Fenced):
        advance(target, Advance(P1, 1, None, 6))
    assert [(each.partition, each.number, each.next, each.tracker) for each in operator.switches()] == [
        (P0, 1, 5, "state"),
        (P1, 1, None, ""),
    ]
    target.take({P0: "id", P1: "id"})
    advance(target, Advance(P0, 3, 5, 9))
    assert operator.deploy(version(2))
    assert {(each.partition, each.number): each.next for each in operator.switches()} == {
        (P0, 1): 5,
        (P0, 2): 9,
        (P1, 1): None,
        (P1, 2): None,
    }


def test_a_rewind_is_read_again_by_the_version_that_is_deployed(operator: Operator, target: Target) -> None:
    target.take({P0: "id", P1: "id"})
    for number, at in ((1, 5), (2, 9)):
        fence = target.take({P0: "id"})[0].fence
        advance(target, Advance(P0, fence, target.watermarks()[0].next, at, "state"))
        assert operator.deploy(version(number))
    beginnings = lambda: [(each.number, each.next) for each in operator.switches() if each.partition == P0]  # noqa: E731
    operator.rewind(lambda stored: [Move(P0, "id", 20)])
    assert beginnings() == [(1, 5), (2, 9)], "forward nothing is read again"
    operator.rewind(lambda stored: [Move(P0, "id", 7), Move(P1, "id", 3)])
    assert beginnings() == [(1, 5), (2, 7)]
    versions = in_force(operator.switches(), 2)[P0]
    assert [version_at(versions, offset) for offset in (0, 4, 5, 6, 7, 100)] == [0, 0, 1, 1, 2, 2]
    operator.rewind(lambda stored: [Move(P0, "id", 2)])
    versions = in_force(operator.switches(), 2)[P0]
    assert [version_at(versions, offset) for offset in (0, 1, 2, 6, 100)] == [0, 0, 2, 2, 2]
    operator.rewind(lambda stored: [Move(P0, "id", None)])
    assert {version_at(in_force(operator.switches(), 2)[P0], offset) for offset in (0, 6, 100)} == {2}
