"""A target is left at every point of a commit, by an error or by a lost connection: what is there is what the watermark
says, and going on from there ends as the oracle says."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing, suppress
from itertools import pairwise

import msgspec
import pytest

from cdc.engine.apply import Applier, Batch, TableBatch
from cdc.errors import CdcError, Fenced, Transient
from cdc.model import DeletePolicy, MappedRow, TargetTable
from cdc.target.base import Advance, Owner, Target
from tests import tapes
from tests.fix_targets import Bench, differs
from tests.tapes import PARTITION, expected

AFTER = "post_commit"
POINTS = ("rows_written", "watermark_set", "pre_commit", AFTER)
BATCHES = 3


def rows() -> list[MappedRow]:
    """Every kind of change, in three batches of four: no parked ones, which another test has."""
    tape = tapes.Tape()
    return [
        *(tape.full(1, "a", "long", (1, 0)), tape.full(2, "b", "y", (1, 1))),
        *(tape.full(3, "c", "z", (1, 2)), tape.partial(1, "a2", (1, 3))),
        *(tape.delete(2, (2, 0)), tape.delete(1, (2, 1), moved_to=4)),
        *(tape.partial(4, "moved", (2, 1), moved_from=1), tape.full(5, "d", "x", (2, 2))),
        *(tape.full(2, "again", "y", (3, 0)), tape.partial(3, "c2", (3, 1))),
        *(tape.delete(5, (3, 2)), tape.full(6, "e", "x", (3, 3))),
    ]


def go_on(
    target: Target, table: TargetTable, owner: Owner, tape: list[MappedRow], failpoint: Callable[[str], None]
) -> None:
    """As a worker does: take the partition, and go on from the watermark."""
    target.open(owner)
    target.prepare(table)
    (mark,) = target.take({PARTITION: "id"})
    applier = Applier(target, failpoint)
    done = mark.next
    for start, end in pairwise([*range(done or 0, len(tape), len(tape) // BATCHES), len(tape)]):
        batch = Batch([TableBatch(table, [*tape[start:end]])], [Advance(PARTITION, mark.fence, done, end, "")])
        applier.apply(batch)
        done = end


@pytest.mark.parametrize("how", ["error", "lost connection"])
@pytest.mark.parametrize("number", range(1, BATCHES + 1))
@pytest.mark.parametrize("point", POINTS)
def test_left_at_any_point(bench: Bench, point: str, number: int, how: str) -> None:
    differs(bench, how)
    tape, table = rows(), bench.table()
    owner, target, seen = Owner(table.name, "target"), bench.target(), 0

    def failpoint(reached: str) -> None:
        nonlocal seen
        seen += reached == point
        if reached == point and seen == number:
            if how == "error":
                raise ZeroDivisionError
            bench.cut(target)

    with suppress(ZeroDivisionError, CdcError):
        go_on(target, table, owner, tape, failpoint)
    with suppress(CdcError):
        target.close()
    assert seen >= number
    second = bench.target()
    second.open(owner)
    with closing(second):
        (mark,) = second.watermarks()
    applied = mark.next or 0
    if how == "error":
        assert applied == (number if point == AFTER else number - 1) * len(tape) // BATCHES
    if applied:
        assert bench.visible(table) == expected(table, tape[:applied]).visible()
    with closing(second):
        go_on(second, table, owner, tape, lambda reached: None)
    assert bench.visible(table) == expected(table, tape).visible()
    assert bench.tallied(owner).total() == len(tape)


def test_a_worker_that_was_fenced_commits_nothing(bench: Bench) -> None:
    """Another one takes the partition while it writes. Where a transaction keeps others away, it waits for its end."""
    tape, table = rows(), bench.table()
    owner, first, second = Owner(table.name, "target"), bench.target(), bench.target()
    first.open(owner)
    first.prepare(table)
    second.open(owner)
    (mark,) = first.take({PARTITION: "id"})
    with closing(first), closing(second):
        second.take({PARTITION: "id"})
        with pytest.raises(Fenced):
            Applier(first).apply(Batch([TableBatch(table, tape[:4])], [Advance(PARTITION, mark.fence, None, 4, "")]))
        assert bench.visible(table) == {}
        assert [mark.next for mark in second.watermarks()] == [None]
        second.close()
        go_on(second, table, owner, tape, lambda reached: None)
    assert bench.visible(table) == expected(table, tape).visible()


def test_workers_write_one_table_side_by_side(bench: Bench) -> None:
    """Four of them, each with a partition and keys of its own, among them keys of one another's that are older."""
    differs(bench, "lost connection")  # threads share what is in memory
    table = bench.table()
    first = bench.target()
    first.open(Owner(table.name, "setup"))
    first.prepare(table)
    first.close()
    errors: list[BaseException] = []

    def work(worker: int) -> None:
        tape = tapes.Tape()
        mine = [tape.full(worker * 1000 + key, f"worker {worker}", "x", (5, key)) for key in range(300)]
        mine += [tape.full(((worker + 1) % 4) * 1000 + key, "older", "x", (4, key)) for key in range(200)]
        mine += [tape.delete(worker * 1000 + key, (6, key)) for key in range(200, 300)]
        target = bench.target()
        try:
            with closing(target):
                tapes.play(
                    target, table, mine, [50, 100, 150, 200, 300, 400, 500], Owner(table.name, f"target {worker}")
                )
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # A deadlock is the target's way to say that somebody must try again; here nobody does.
    assert not [error for error in errors if not isinstance(error, Transient)]
    if not errors:
        assert bench.visible(table) == {
            (worker * 1000 + key,): (worker * 1000 + key, f"worker {worker}", "x")
            for worker in range(4)
            for key in range(200)
        }


def test_a_change_of_policy_keeps_what_is_there(bench: Bench) -> None:
    """A pipeline that becomes soft: the column comes, rows that were there are not deleted."""
    differs(bench, "tables of somebody else")
    tape, hard = tapes.Tape(), bench.table()
    soft = msgspec.structs.replace(hard, on_delete=DeletePolicy.SOFT, soft_delete="is_deleted")
    owner = Owner(hard.name, "target")
    target = bench.target()
    with closing(target):
        tapes.play(target, hard, [tape.full(1, "a", "x", (1, 0)), tape.full(2, "b", "y", (1, 1))], [], owner)
        target.close()
        tapes.play(target, soft, [tape.delete(1, (2, 0))], [], owner)
    assert bench.visible(soft) == {(1,): (1, "a", "x", True), (2,): (2, "b", "y", False)}


def test_a_worker_that_stands_still_is_cut_off(bench: Bench) -> None:
    """It keeps no locks: the next one takes its partition meanwhile, and it hears of it as of any lost connection."""
    differs(bench, "frozen worker")
    owner, frozen, other = Owner(bench.table().name, "target"), bench.target(idle_s=1), bench.target()
    with closing(frozen), closing(other):
        frozen.open(owner)
        other.open(owner)
        (mark,) = frozen.take({PARTITION: "id"})
        taken = []

        def stand_still() -> None:
            with frozen.begin() as transaction:
                transaction.advance([Advance(PARTITION, mark.fence, None, 5, "")])
                taken.extend(other.take({PARTITION: "id"}))  # waits for the row that the first one holds

        with pytest.raises(Transient):
            stand_still()
        assert [(each.next, each.fence) for each in taken] == [(None, mark.fence + 1)]
        frozen.close()
        frozen.open(owner)
        assert frozen.watermarks() == taken
