"""The batch path (fold, rounds, healing) on the memory target equals the oracle, however the tape is cut."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc.model import DeletePolicy, MappedRow
from cdc.target.base import hold_of
from cdc.target.memory import MemoryTarget, Storage
from tests.tapes import REFUSED_TEXT, build, expected, named_cases, play, rows_strategy, table

CUTS = st.lists(st.integers(1, 20), max_size=6)


def check(tape: list[MappedRow], cuts: list[int], policy: DeletePolicy, *, blocks: bool = True) -> None:
    storage = Storage()
    target = MemoryTarget(storage, accepts=lambda _, values: values[1] != REFUSED_TEXT)
    the_table = table(on_delete=policy)
    oracle = expected(the_table, tape)
    applier = play(target, the_table, tape, cuts, blocks=blocks)
    stored = storage.tables[the_table.mapping]
    got = {
        key: (*row.values, row.deleted) if policy is DeletePolicy.SOFT else row.values
        for key, row in stored.rows.items()
    }
    assert got == oracle.visible()
    assert {key: row.position for key, row in stored.rows.items()} == {
        key: row.position for key, row in oracle.rows.items()
    }
    assert set(applier.held) == {(the_table.mapping, hold_of(key)) for key in oracle.parked}
    assert stored.floor == oracle.floor
    # I2: every record is accounted for exactly once.
    assert sum(storage.tallies.values()) == len(tape)
    assert all(number >= 0 for number in storage.tallies.values())


@pytest.mark.parametrize("policy", list(DeletePolicy))
@pytest.mark.parametrize("name", named_cases())
def test_named_cases_in_every_cut(name: str, policy: DeletePolicy) -> None:
    tape = named_cases()[name]
    check(tape, [], policy)
    check(tape, [], policy, blocks=False)
    check(tape, list(range(1, len(tape))), policy)
    check(tape, list(range(1, len(tape))), policy, blocks=False)
    for cut in range(1, len(tape)):
        check(tape, [cut], policy)


@settings(max_examples=2000, deadline=None)
@given(rows_strategy(), CUTS, st.sampled_from([DeletePolicy.DELETE, DeletePolicy.IGNORE]), st.booleans())
def test_random_tapes(
    specification: list[tuple[object, ...]], cuts: list[int], policy: DeletePolicy, blocks: bool
) -> None:
    check(build(specification), cuts, policy, blocks=blocks)


@settings(max_examples=1500, deadline=None)
@given(rows_strategy(partials=False, moves=False), CUTS, st.sampled_from(list(DeletePolicy)))
def test_random_tapes_of_plain_rows(
    specification: list[tuple[object, ...]], cuts: list[int], policy: DeletePolicy
) -> None:
    """What the hot path carries in blocks."""
    check(build(specification), cuts, policy)


@settings(max_examples=1000, deadline=None)
@given(rows_strategy(moves=False), CUTS)
def test_random_tapes_with_soft_deletes(specification: list[tuple[object, ...]], cuts: list[int]) -> None:
    """Without key changes: a row deleted while its key change still waited keeps the values it had before."""
    check(build(specification), cuts, DeletePolicy.SOFT)


@settings(max_examples=1000, deadline=None)
@given(rows_strategy(moves=False, refused=True))
def test_refused_rows_park_their_key(specification: list[tuple[object, ...]]) -> None:
    """One record a batch: in a larger one a refused row may be superseded before the target ever sees it."""
    tape = build(specification)
    check(tape, list(range(1, len(tape))), DeletePolicy.DELETE)
