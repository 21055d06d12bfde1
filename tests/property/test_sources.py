"""Several sources, one row: whatever the interleaving, the replay or the cut into batches, the same row comes out."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from cdc.model import MappedRow, Value
from cdc.target.memory import MemoryTarget, Storage
from tests.sources import COLUMNS, Player, expected, interleaved, mapping_of, tapes

ORDERS = st.lists(st.integers(0, 2), min_size=24, max_size=24)
CUTS = st.lists(st.integers(1, 23), max_size=5)


def visible(storage: Storage) -> dict[tuple[Value, ...], tuple[Value, ...]]:
    """The target's rows, columns in the order of the oracle; the target's are in the order they were met."""
    return {key: row.values for key, row in storage.tables[mapping_of("customers")].rows.items()}


def played(tape: Sequence[tuple[str, MappedRow]], cuts: Sequence[int], blocks: bool = True) -> MemoryTarget:
    target = MemoryTarget()
    Player(target, blocks=blocks).play(tape, cuts)
    return target


@settings(max_examples=400, deadline=None)
@given(tapes(), ORDERS, ORDERS, CUTS, CUTS)
def test_any_interleaving_ends_the_same(
    tape: dict[str, list[MappedRow]], one: list[int], other: list[int], cuts: list[int], more: list[int]
) -> None:
    first, second = interleaved(tape, one), interleaved(tape, other)
    oracle = expected(first).visible()
    assert expected(second).visible() == oracle
    assert visible(played(first, cuts).storage) == oracle
    assert visible(played(second, more, blocks=False).storage) == oracle


@settings(max_examples=150, deadline=None)
@given(tapes(), ORDERS, CUTS, st.integers(0, 20))
def test_a_replay_changes_nothing(
    tape: dict[str, list[MappedRow]], order: list[int], cuts: list[int], start: int
) -> None:
    changes = interleaved(tape, order)
    target = MemoryTarget()
    player = Player(target)
    player.play(changes, cuts)
    before = visible(target.storage)
    player.play(changes[start:], cuts)
    assert visible(target.storage) == before == expected(changes).visible()
    assert len(COLUMNS) == len(next(iter(before.values()), COLUMNS))
