"""Parked keys by rule, on every target: superseding, records set aside on request, truncates that wait for a person."""

from __future__ import annotations

from contextlib import closing

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cdc.errors import Terminal
from cdc.model import DeletePolicy, MappedRow, TruncatePolicy
from cdc.target.base import Owner, hold_of
from tests import tapes
from tests.fix_targets import Bench
from tests.tapes import REFUSED_TEXT, build, expected, play, rows_strategy

_SHARED = (HealthCheck.function_scoped_fixture,)
ASIDE = st.frozensets(st.integers(0, 13), max_size=4)


_STEPS = st.lists(
    st.tuples(
        st.sampled_from(["full", "full", "partial", "delete"]),
        st.integers(1, 2),
        st.sampled_from(["a", "b", REFUSED_TEXT]),
        st.sampled_from([0, 0, 0, 3]),
    ),
    min_size=3,
    max_size=14,
)


def _dense(steps: list[tuple[str, int, str, int]]) -> list[tuple[object, ...]]:
    """Mostly in the source's order, on two keys, a third of it refused: what waits is met again and again."""
    made: list[tuple[object, ...]] = []
    for number, (kind, key, name, late) in enumerate(steps, start=4):
        words: tuple[object, ...] = () if kind == "delete" else (name,) if kind == "partial" else (name, "x")
        made.append((kind, key, *words, (number - late, 0)))
    return made


TAPES = st.one_of(_STEPS.map(_dense), rows_strategy(refused=True))
PLAIN_TAPES = st.one_of(_STEPS.map(_dense), rows_strategy(moves=False, refused=True))


def one_by_one(tape: list[MappedRow]) -> list[int]:
    """Batches of one: in a larger one a key's newest state stands for all of them before anything is refused."""
    return list(range(1, len(tape)))


@settings(max_examples=60, deadline=None, suppress_health_check=_SHARED)
@given(specification=TAPES, blocks=st.booleans(), asked=st.booleans())
def test_whole_images_supersede_what_was_refused(
    bench: Bench, specification: list[tuple[object, ...]], blocks: bool, asked: bool
) -> None:
    tape = build(specification)
    bench.check(tape, one_by_one(tape), supersede=True, blocks=blocks, asked=asked)


@settings(max_examples=60, deadline=None, suppress_health_check=_SHARED)
@given(
    changes=st.lists(st.tuples(st.integers(1, 3), st.sampled_from(["a", REFUSED_TEXT, None])), max_size=14),
    cuts=st.lists(st.integers(1, 14), max_size=4),
    policy=st.sampled_from(list(DeletePolicy)),
)
def test_whole_images_supersede_in_batches_of_any_size(
    bench: Bench, changes: list[tuple[int, str | None]], cuts: list[int], policy: DeletePolicy
) -> None:
    """None: a delete. In the source's order, as topics carry them, folding says the same."""
    tape = tapes.Tape()
    rows = [
        tape.delete(key, (at, 0)) if name is None else tape.full(key, name, "x", (at, 0))
        for at, (key, name) in enumerate(changes, start=1)
    ]
    bench.check(rows, cuts if policy is not DeletePolicy.IGNORE else one_by_one(rows), policy, supersede=True)


@settings(max_examples=80, deadline=None, suppress_health_check=_SHARED)
@given(
    specification=TAPES,
    aside=ASIDE,
    supersede=st.booleans(),
    asked=st.booleans(),
    blocks=st.booleans(),
)
def test_records_set_aside_on_request(
    bench: Bench,
    specification: list[tuple[object, ...]],
    aside: frozenset[int],
    supersede: bool,
    asked: bool,
    blocks: bool,
) -> None:
    tape = build(specification)
    bench.check(tape, one_by_one(tape), blocks=blocks, aside=aside, asked=asked, supersede=supersede)


@settings(max_examples=50, deadline=None, suppress_health_check=_SHARED)
@given(
    specification=PLAIN_TAPES,
    aside=ASIDE,
    policy=st.sampled_from(list(DeletePolicy)),
    asked=st.booleans(),
)
def test_parked_truncates_wait_alone(
    bench: Bench, specification: list[tuple[object, ...]], aside: frozenset[int], policy: DeletePolicy, asked: bool
) -> None:
    tape = build(specification)
    bench.check(tape, one_by_one(tape), policy, aside=aside, asked=asked, on_truncate=TruncatePolicy.PARK)


def test_a_parked_truncate_removes_what_is_from_before_it(bench: Bench) -> None:
    """The table's rows go on meanwhile; the retry keeps those that are newer, and older ones stay away from then on."""
    for policy in DeletePolicy:
        tape = tapes.Tape()
        rows = [
            tape.full(1, "before", "x", (1, 1)),
            tape.full(2, "before", "x", (1, 2)),
            tape.truncate((2, 0)),
            tape.full(2, "after", "y", (3, 0)),
            tape.full(3, "late", "z", (1, 9)),
        ]
        bench.check(rows, [], policy, on_truncate=TruncatePolicy.PARK)
        bench.check(rows, [], policy, on_truncate=TruncatePolicy.PARK, asked=True)


def test_a_refused_truncate_stops_until_it_is_set_aside(bench: Bench) -> None:
    tape, table = tapes.Tape(), bench.table(on_truncate=TruncatePolicy.REFUSE)
    rows = [
        tape.full(1, "a", "x", (1, 1)),
        tape.full(2, "b", "x", (1, 2)),
        tape.truncate((2, 0)),
        tape.full(3, "c", "x", (3, 0)),
    ]
    owner, target = Owner(table.name, "target"), bench.target()
    with closing(target):
        with pytest.raises(Terminal, match="refuses that") as refused:
            play(target, table, rows, [], owner)
        assert (refused.value.where, "cdc park" in (refused.value.hint or "")) == (rows[2].record.where, True)
        (mark,) = target.watermarks()
        assert mark.next == 2, "what came before the truncate is applied"
    assert bench.visible(table) == expected(table, rows[:2]).visible()
    target = bench.target()
    with closing(target):
        play(target, table, rows[2:], [], owner, aside={2})
    assert set(bench.visible(table)) == {(1,), (2,), (3,)}


def test_only_its_own_retry_releases_what_was_set_aside(bench: Bench) -> None:
    """A key that heals, and a retry of something else, leave it where it is."""
    tape, table = tapes.Tape(), bench.table()
    rows = [
        tape.partial(1, "waits for its row", (2, 0)),
        tape.full(1, "set aside", "x", (3, 0)),
        tape.full(1, "behind", "x", (4, 0)),
    ]
    rows.append(tape.full(1, "older: what the first one waits for", "x", (1, 0)))
    owner, target = Owner(table.name, "target"), bench.target()
    with closing(target):
        applier = play(target, table, rows, one_by_one(rows), owner, aside={1})
        reasons = [each.reason for each in target.queue(table.mapping, [hold_of((1,))])]
        assert reasons == ["update_missing", "on_request", "held", "held"]
        bench.ask(owner)
        tapes.retry_asked(target, table, rows, applier)
        assert target.standing().records == 0
    assert bench.visible(table) == {(1,): (1, "behind", "x")}
