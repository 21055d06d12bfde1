"""Watermarks, fences and the rest of a target's state: every target keeps it by the same rules as the reference one."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import closing, suppress

import pytest

from cdc.errors import Fenced, Terminal
from cdc.model import Position, RawRecord, TopicPartition
from cdc.target.base import (
    Advance,
    Epoch,
    Owner,
    Parked,
    RepeatedSnapshot,
    Standing,
    Tally,
    Target,
    WorkerReport,
)
from cdc.target.operator import Move, Operator
from tests import tapes
from tests.fix_targets import Bench, differs
from tests.tapes import play

P0, P1 = TopicPartition("crm.public.people", 0), TopicPartition("crm.public.people", 1)
_numbers = itertools.count(1)
Open = Callable[[], Target]
"""Another connection to the same target, open."""


@pytest.fixture
def owner() -> Owner:
    """Somebody new, whose state is empty."""
    return Owner(f"people {next(_numbers)}", "hub")


@pytest.fixture
def connected(bench: Bench, owner: Owner) -> Iterator[Open]:
    opened: list[Target] = []

    def connect() -> Target:
        opened.append(bench.target())
        opened[-1].open(owner)
        return opened[-1]

    yield connect
    for target in opened:
        target.close()


@pytest.fixture
def operator(bench: Bench, owner: Owner) -> Iterator[Operator]:
    differs(bench, "operator")
    operator = bench.operator()
    operator.open(owner)
    yield operator
    operator.close()


def parked(mapping: str, offset: int, hold: str = "[9]", reason: str = "refused") -> Parked:
    record = RawRecord(P0.topic, 0, offset, None, b"{\x00\xff", (("h", b"\x00"), ("h", b"")), 17)
    return Parked(mapping, hold, record, Position(1, 2, 3), reason, "why")


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


def test_another_owner_is_somebody_else(bench: Bench, connected: Open) -> None:
    target = connected()
    target.take({P0: "id"})
    advance(target, Advance(P0, 1, None, 5))
    other = bench.target()
    other.open(Owner(f"people {next(_numbers)}", "hub"))
    with closing(other):
        assert other.watermarks() == []
        assert other.take({P0: "id"})[0].next is None


def test_nothing_of_a_transaction_that_fails_stays(connected: Open) -> None:
    target = connected()
    target.take({P0: "id"})
    with suppress(ZeroDivisionError), target.begin() as transaction:
        transaction.park([parked("people/a", 1)])
        transaction.advance([Advance(P0, 1, None, 5)])
        raise ZeroDivisionError
    assert [mark.next for mark in target.watermarks()] == [None]
    assert target.standing().records == 0
    with target.begin() as transaction:
        with suppress(ZeroDivisionError), transaction.savepoint():
            transaction.park([parked("people/a", 1)])
            raise ZeroDivisionError
        with transaction.savepoint():
            transaction.park([parked("people/a", 2)])
    assert [record.record.offset for record in target.queue("people/a", ["[9]"])] == [2]


def test_parked_records_come_back_as_they_were(connected: Open) -> None:
    target = connected()
    long = "[" + "9" * 5000 + "]"
    records = [parked("people/a", 1), parked("people/a", 2, reason="held"), parked("people/a", 3, long)]
    for _ in range(2):  # a replay changes nothing
        with target.begin() as transaction:
            transaction.park([*records, parked("people/b", 1, "")])
    assert target.standing().records == 4
    assert target.parked([P0, P1]) == {("people/a", "[9]"): "refused", ("people/a", long): "refused"}
    assert target.parked([P1]) == {}
    found = target.queue("people/a", ["[9]", long])
    assert [(each.hold, each.record, each.position, each.reason) for each in found] == [
        (each.hold, each.record, each.position, each.reason) for each in records
    ]
    first, second, third = (each.id or 0 for each in found)
    with target.begin() as transaction:
        transaction.repark([Parked("people/a", "[9]", found[0].record, found[0].position, "other", "new", first)])
        transaction.unpark([second, third])
    (left,) = target.queue("people/a", ["[9]", long])
    assert (left.id, left.reason, left.error) == (first, "other", "new")


def test_epochs_keep_their_identity(connected: Open) -> None:
    target = connected()
    for epoch in (Epoch("crm", 1, "a"), Epoch("crm", 2, "b"), Epoch("crm", 2, "c"), Epoch("billing", 1, "x")):
        target.begin_epoch(epoch)
    assert {epoch.source: epoch for epoch in target.epochs()} == {
        "billing": Epoch("billing", 1, "x"),
        "crm": Epoch("crm", 2, "b"),
    }


def test_the_operator_sees_what_workers_wrote(operator: Operator, connected: Open) -> None:
    assert operator.partitions() == operator.workers() == operator.parked() == operator.open_snapshots() == []
    target = connected()
    report = WorkerReport("host:1", "running", "", 1.5, {"p50": 2.0}, {"map": 0.5}, ["people:0"])
    target.report(WorkerReport("host:1", "starting", "", 0, {}, {}, []))
    target.report(report)
    target.take({P0: "id", P1: "id"})
    snapshot = RepeatedSnapshot("people/a", P0.topic, Position(1, 5, 0))
    with target.begin() as transaction:
        transaction.count([Tally("people/a", P0, "applied", "", 3), Tally("people/a", P1, "applied", "", 1)])
        transaction.count([Tally("people/a", P0, "applied", "", 4)])
        transaction.park([parked("people/a", 7)])
        transaction.repeated_snapshot(snapshot)
        transaction.repeated_snapshot(snapshot)
        transaction.advance([Advance(P0, 1, None, 8, "t", 123)])
    marks = [(each.partition, each.next, each.fence, each.tracker, each.time_us) for each in operator.partitions()]
    assert marks == [(P0, 8, 1, "t", 123), (P1, None, 1, "", None)]
    (worker,) = operator.workers()
    assert worker.report == report
    assert 0 <= worker.age_s < 60
    assert operator.tallies() == [Tally("people/a", P0, "applied", "", 7), Tally("people/a", P1, "applied", "", 1)]
    (entry,) = operator.parked()
    assert (entry.mapping, entry.hold, entry.partition, entry.offset, entry.reason) == (
        *("people/a", "[9]", P0, 7, "refused"),
    )
    assert operator.record(entry.id) == parked("people/a", 7).record
    assert operator.record(entry.id + 1) is None
    (found,) = operator.open_snapshots()
    assert (found.mapping, found.position, found.ends) == ("people/a", snapshot.position, None)
    operator.note_ends(found, {0: 8, 1: 0})
    assert operator.open_snapshots()[0].ends == {0: 8, 1: 0}
    with target.begin() as transaction:
        transaction.repeated_snapshot(RepeatedSnapshot("people/a", P0.topic, snapshot.position, swept=True))
    assert operator.open_snapshots() == []


def test_a_rewind_fences_the_worker(operator: Operator, connected: Open) -> None:
    target = connected()
    target.take({P0: "id", P1: "id"})
    advance(target, Advance(P0, 1, None, 8, "t", 123))
    operator.rewind(lambda states: [Move(each.partition, "new", 3, "u") for each in states if each.next == 8])
    (moved, other) = operator.partitions()
    assert (moved.next, moved.fence, moved.topic_id, moved.tracker, moved.time_us) == (3, 2, "new", "u", None)
    assert (other.next, other.fence) == (None, 1)
    with pytest.raises(Fenced):
        advance(target, Advance(P0, 1, 8, 9))
    with pytest.raises(Terminal, match="no watermark"):
        operator.rewind(lambda states: [Move(TopicPartition("other", 0), "id", 3)])


def test_discarded_records_are_counted_and_fence_their_partition(operator: Operator, connected: Open) -> None:
    target = connected()
    target.take({P0: "id", P1: "id"})
    with target.begin() as transaction:
        transaction.park([parked("people/a", 1), parked("people/a", 2, reason="held")])
        transaction.count([Tally("people/a", P0, "parked", "refused", 1), Tally("people/a", P0, "parked", "held", 1)])
    first, second = operator.parked()
    assert [entry.id for entry in operator.discard([first.id, 999])] == [first.id]
    assert [(entry.id, entry.retry_requested) for entry in operator.parked()] == [(second.id, True)]
    assert {(each.outcome, each.reason): each.number for each in operator.tallies()} == {
        ("parked", "held"): 1,
        ("skipped", "discarded"): 1,
    }
    assert [each.fence for each in operator.partitions()] == [2, 1]
    assert target.retries([P0]) == [("people/a", "[9]")]


def test_discarding_does_not_release_what_is_set_aside_on_purpose(operator: Operator, connected: Open) -> None:
    target = connected()
    with target.begin() as transaction:
        reasons = ("refused", "on_request", "held")
        transaction.park([parked("people/a", number, reason=reason) for number, reason in enumerate(reasons, start=1)])
        transaction.park([parked("people/a", 4, "", "truncate"), parked("people/a", 5, "", "unreadable_record")])
    first, *_, unreadable = operator.parked()
    operator.discard([first.id, unreadable.id])
    assert [(each.reason, each.retry_requested) for each in operator.parked()] == [
        *(("on_request", False), ("held", True), ("truncate", False))
    ]
    assert [each.asked for each in target.queue("people/a", ["[9]"])] == [False, True]


def test_a_record_is_asked_to_be_set_aside(operator: Operator, connected: Open) -> None:
    """Asked for before the partition was ever taken, asked again, taken back, done by the worker that parks it."""
    assert operator.park_requests() == []
    assert operator.request_park(P0, 7, "ann@host", "it does harm") is None
    target = connected()
    mark = target.take({P0: "id", P1: "id"})[0]
    assert target.park_requests([P0]) == {P0: {7: "ann@host: it does harm"}}
    assert target.park_requests([P1]) == {}
    assert operator.request_park(P0, 7, "bob@host", "it does") is None
    assert operator.request_park(P0, 9, "bob@host", "too") is None
    assert [(each.where, each.who, each.reason) for each in operator.park_requests()] == [
        (f"{P0.topic}:0:7", "bob@host", "it does"),
        (f"{P0.topic}:0:9", "bob@host", "too"),
    ]
    with pytest.raises(Fenced):
        advance(target, Advance(P0, mark.fence, None, 5))
    fence = target.take({P0: "id"})[0].fence
    advance(target, Advance(P0, fence, None, 7))
    assert (operator.cancel_park(P0, 9), operator.cancel_park(P0, 9), operator.cancel_park(P1, 7)) == (
        *(True, False, False),
    )
    fence = target.take({P0: "id"})[0].fence
    with suppress(ZeroDivisionError), target.begin() as transaction:
        transaction.park([parked("people/a", 7, reason="on_request")])
        raise ZeroDivisionError
    assert target.park_requests([P0]) == {P0: {7: "bob@host: it does"}}
    with target.begin() as transaction:
        transaction.park([parked("people/a", 7, reason="on_request"), parked("people/b", 7, reason="on_request")])
        transaction.advance([Advance(P0, fence, 7, 8)])
    assert (target.park_requests([P0]), operator.park_requests()) == ({}, [])


def test_what_was_applied_cannot_be_set_aside(operator: Operator, connected: Open) -> None:
    target = connected()
    fence = target.take({P0: "id"})[0].fence
    advance(target, Advance(P0, fence, None, 8))
    assert operator.request_park(P0, 7, "ann@host", "too late") == 8
    assert operator.park_requests() == []
    advance(target, Advance(P0, fence, 8, 9))  # nothing was changed: the fence holds
    assert operator.request_park(P0, 9, "ann@host", "the next one") is None
    with pytest.raises(Fenced):
        advance(target, Advance(P0, fence, 9, 10))


def test_what_is_parked_at_one_look(operator: Operator, connected: Open) -> None:
    target = connected()
    assert target.standing() == Standing(0, None, False)
    with target.begin() as transaction:
        transaction.park([parked("people/a", 1, reason="held")])
    assert (target.standing().records, target.standing().oldest_s) == (1, None)
    with target.begin() as transaction:
        transaction.park([parked("people/a", 2)])
    there = target.standing()
    assert (there.records, there.asked) == (2, False)
    assert there.oldest_s is not None
    assert 0 <= there.oldest_s < 60
    operator.request_retry([operator.parked()[0].id])
    assert target.standing().asked


def test_purge_keeps_what_a_replay_could_need(bench: Bench, operator: Operator) -> None:
    """Memories of deletes and lent values go when they are older than asked, and than the oldest parked record."""
    tape, table, target = tapes.Tape(), bench.table(), bench.target()
    owner = Owner("tapes", f"purge {next(_numbers)}")
    rows = [tape.full(1, "a", "x", (1, 0)), tape.delete(1, (2, 0), moved_to=7), tape.full(2, "b", "y", (1, 1))]
    with closing(target):
        target.open(owner)
        with target.begin() as transaction:
            transaction.park([parked(table.mapping, 7)])
        target.close()
        play(target, table, rows, [], owner)
        assert target.purge(3600) == 0
        assert target.purge(-3600) == 0  # the parked record is older than that
        (record,) = target.queue(table.mapping, ["[9]"])
        with target.begin() as transaction:
            transaction.unpark([record.id or 0])
        assert target.purge(3600) == 0
        assert target.purge(-3600) == 2  # the deleted row, and what it lent
        assert target.purge(-3600) == 0
        target.close()
        play(target, table, [tape.full(1, "older", "x", (1, 5))], [], owner)
    assert (1,) in bench.visible(table)  # nobody remembers its delete


def test_a_request_to_retry_lives_until_the_retry_commits(operator: Operator, connected: Open) -> None:
    target = connected()
    with target.begin() as transaction:
        transaction.park([parked("people/hub.people", 7)])
    operator.request_retry([entry.id for entry in operator.parked()])
    asked = [("people/hub.people", "[9]")]
    (record,) = target.queue(*asked[0][:1], [asked[0][1]])
    assert record.id is not None
    assert target.retries([P0]) == asked
    with suppress(ZeroDivisionError), target.begin() as transaction:
        transaction.retried([record.id])
        raise ZeroDivisionError
    assert target.retries([P0]) == asked
    with target.begin() as transaction:
        transaction.retried([record.id])
    assert target.retries([P0]) == []
