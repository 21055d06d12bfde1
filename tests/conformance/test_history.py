"""Histories equal their oracle on every target: named tapes, random ones in any order, replays, truncates, sweeps."""

from __future__ import annotations

import itertools
import random
from contextlib import closing

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from cdc.model import History, MappedRow, TargetTable
from cdc.target.base import Owner
from tests import tapes
from tests.fix_targets import Bench
from tests.history import APPEND, VERSIONS, as_changes, changes_table, check, expected, shown, wanted
from tests.tapes import build, named_cases, play, rows_strategy

_numbers = itertools.count(1)
_SHARED = (HealthCheck.function_scoped_fixture,)
KINDS = pytest.mark.parametrize("history", [APPEND, VERSIONS], ids=["append", "versions"])


@KINDS
@pytest.mark.parametrize("name", named_cases())
def test_named_cases(bench: Bench, name: str, history: History) -> None:
    tape = as_changes(named_cases()[name])
    for cuts in ([], list(range(1, len(tape)))):
        check(bench, changes_table(bench, history), tape, cuts)


@settings(max_examples=40, deadline=None, suppress_health_check=_SHARED)
@given(
    specification=rows_strategy(moves=False, refused=True),
    cuts=st.lists(st.integers(1, 20), max_size=4),
    history=st.sampled_from([APPEND, VERSIONS]),
    seed=st.integers(0, 99),
)
def test_any_order_and_any_repetition_end_the_same(
    bench: Bench, specification: list[tuple[object, ...]], cuts: list[int], history: History, seed: int
) -> None:
    """As they come, shuffled with repetitions, and shuffled again over what is there."""
    rows = build(specification)
    once = {(row.key, row.position, row.values is None): row for row in rows}  # others are ties that mean one change
    tape, table = as_changes(once.values()), changes_table(bench, history)
    check(bench, table, _numbered(tape), cuts)
    in_order, chance = shown(bench, table), random.Random(seed)
    shuffled = chance.sample(tape, len(tape)) + chance.sample(tape, len(tape) // 2)
    chance.shuffle(shuffled)
    other = changes_table(bench, history)
    check(bench, other, _numbered(shuffled), cuts)
    assert shown(bench, other) == in_order == wanted(expected(table, tape))
    replay(bench, table, _numbered(shuffled))
    assert shown(bench, table) == in_order


@KINDS
def test_a_sweep_is_a_change(bench: Bench, history: History) -> None:
    tape, table = tapes.Tape(), changes_table(bench, history)
    rows = [tape.full(key, "a", "x", (1, key)) for key in range(5)]
    rows += [tape.delete(4, (2, 0)), tape.full(9, "met", "x", (20, 0), snapshot=True)]
    oracle = expected(table, as_changes(rows))
    replay(bench, table, as_changes(rows))
    target = bench.target()
    target.open(Owner(table.name, "sweep"))
    target.prepare(table)
    keep = [(3, b"", "u")]
    with closing(target), target.begin() as transaction:
        report = transaction.sweep(table, rows[-1].position, keep)
    assert report.rows == len(report.examples) == len(oracle.sweep(rows[-1].position, keep)) == 3
    assert shown(bench, table) == wanted(oracle)
    again = as_changes([tape.full(0, "back", "x", (30, 0)), *tape.again(rows)])
    replay(bench, table, again)
    oracle.play(again)
    assert shown(bench, table) == wanted(oracle)


@KINDS
def test_a_truncate_comes_before_any_row(bench: Bench, history: History) -> None:
    """A worker that has seen no row yet knows its table by name only; rows from before are ended when they come."""
    tape, table = tapes.Tape(), changes_table(bench, history)
    unknown = replace(table, columns=(), key=())
    rows = as_changes([tape.full(1, "a", "x", (1, 0)), tape.full(2, "b", "x", (1, 1))])
    late = as_changes([tape.full(3, "late", "x", (4, 0)), tape.full(1, "new", "x", (6, 0)), tape.truncate((9, 0))])
    (truncate,) = as_changes([tape.truncate((5, 0))])
    replay(bench, unknown, [truncate])
    replay(bench, table, rows)
    replay(bench, unknown, [truncate])
    replay(bench, table, late)
    assert shown(bench, table) == wanted(expected(table, [*rows, truncate, *late]))


@KINDS
def test_a_truncated_row_changes_again_and_again(bench: Bench, history: History) -> None:
    """Changes that come after what a truncate ended leave its dates as they are, however far behind it they begin."""
    tape, table = tapes.Tape(), changes_table(bench, history)
    rows = [
        tape.full(1, "a", "x", (1, 0)),
        tape.truncate((2, 0)),
        tape.full(1, "b", "x", (3, 0)),
        tape.delete(1, (4, 0)),
    ]
    check(bench, table, as_changes(rows), [1, 2, 3])


def replay(bench: Bench, table: TargetTable, rows: list[MappedRow]) -> None:
    """Play rows on a connection of its own, as an owner of its own."""
    target = bench.target()
    with closing(target):
        play(target, table, rows, [], Owner(f"{table.name} {next(_numbers)}", "target"))


def _numbered(rows: list[MappedRow]) -> list[MappedRow]:
    """The rows at offsets in their order."""
    return [replace(row, record=replace(row.record, offset=offset)) for offset, row in enumerate(rows)]
