"""Conflicts are counted and kept with the values that they were between, the same on every target."""

from __future__ import annotations

import itertools
from contextlib import closing
from typing import cast

import pytest

from cdc.decisions import KEPT, Counted, KeptConflict
from cdc.model import UNAVAILABLE, Action, Combine, Conflict, ConflictType, Detect, MappedRow, Rules, Seen, Unit
from cdc.target.base import Owner
from cdc.target.contributions import ContributingTarget
from cdc.target.operator import ConflictFilter
from tests import rules
from tests.fix_targets import Bench, MemoryBench
from tests.rules import NOTES, NUMBER, VERSION, Change, Foreign, Step, play, rows_of
from tests.sources import PARTITIONS, Player, SourceTape
from tests.tapes import PARTITION

UNITS = (Unit(Combine.KEEP_IF_NULL, (NOTES,)), Unit(Combine.MAX, (NUMBER,)))
_numbers = itertools.count(1)


def kept(bench: Bench, pipeline: str, wanted: ConflictFilter | None = None) -> list[KeptConflict]:
    """In the order in which they were met."""
    if isinstance(bench, MemoryBench):
        return [each for each in bench.storage.conflicts if each.mapping.endswith(pipeline) or pipeline in each.mapping]
    with closing(bench.operator()) as operator:
        operator.open(Owner(pipeline, "target"))
        return [entry.kept for entry in reversed(operator.conflicts(wanted or ConflictFilter()))]


def counts(bench: Bench, pipeline: str) -> dict[Counted, int]:
    if isinstance(bench, MemoryBench):
        return {each: number for each, number in bench.storage.conflict_counts.items() if pipeline in each.mapping}
    with closing(bench.operator()) as operator:
        operator.open(Owner(pipeline, "target"))
        return {each.counted: each.number for each in operator.conflict_counts(ConflictFilter())}


@pytest.fixture
def ruled(bench: Bench) -> Bench:
    with closing(bench.target()) as target:
        if not target.capabilities.rules:
            pytest.skip("decides no conflicts")
    return MemoryBench() if isinstance(bench, MemoryBench) else bench


THEIRS = ("t", "t", 5, 5)
COMING = ("s", None, 3, 9)
_EDITED = ("t", "t", 5, 20)
_SCENES: dict[str, tuple[list[Step], ConflictType, Seen]] = {
    "merged": (
        [Foreign("theirs", 1, THEIRS), Change("u", 1, COMING, 20)],
        ConflictType.UPDATE_ORIGIN_DIFFERS,
        Seen(
            {"name": "t", "notes": "t", "number": "5", "version": "5"},
            {"name": "s", "notes": None, "number": "3", "version": "9"},
            {"name": "s", "notes": "t", "number": "5", "version": "9"},
        ),
    ),
    "partial": (
        [Foreign("theirs", 1, THEIRS), Change("u", 1, ("s", UNAVAILABLE, 9, 9), 20)],
        ConflictType.UPDATE_ORIGIN_DIFFERS,
        Seen(
            {"name": "t", "number": "5", "version": "5"},
            {"name": "s", "number": "9", "version": "9"},
            {"name": "s", "number": "9", "version": "9"},
        ),
    ),
    "left as it is": (
        [Change("c", 1, ("a", "n", 1, 1), 10), Foreign("edited", 1, _EDITED), Change("u", 1, COMING, 20)],
        ConflictType.UPDATE_DIFFERING,
        Seen(
            {"name": "t", "notes": "t", "number": "5", "version": "20"},
            {"name": "s", "notes": None, "number": "3", "version": "9"},
            {"name": "t", "notes": "t", "number": "5", "version": "20"},
        ),
    ),
    "inserted": (
        [Change("u", 1, COMING, 20)],
        ConflictType.UPDATE_MISSING,
        Seen(
            None,
            {"id": "1", "name": "s", "notes": None, "number": "3", "version": "9"},
            {"id": "1", "name": "s", "notes": None, "number": "3", "version": "9"},
        ),
    ),
    "deleted": (
        [Foreign("theirs", 1, THEIRS), Change("d", 1, None, 20)],
        ConflictType.DELETE_RECENTLY_UPDATED,
        Seen({"id": "1", "name": "t", "notes": "t", "number": "5", "version": "5"}, None, None),
    ),
    "parked": (
        [Foreign("theirs", 1, THEIRS), Change("c", 1, COMING, 20)],
        ConflictType.INSERT_EXISTS,
        Seen(
            {"name": "t", "notes": "t", "number": "5", "version": "5"},
            {"name": "s", "notes": None, "number": "3", "version": "9"},
            {"name": "t", "notes": "t", "number": "5", "version": "5"},
        ),
    ),
}
_ACTIONS = {
    ConflictType.UPDATE_ORIGIN_DIFFERS: Action.MERGE,
    ConflictType.UPDATE_DIFFERING: Action.NEWEST,
    ConflictType.UPDATE_MISSING: Action.UPDATE_OR_INSERT,
    ConflictType.DELETE_RECENTLY_UPDATED: Action.SOURCE_WINS,
    ConflictType.INSERT_EXISTS: Action.PARK,
}


@pytest.mark.parametrize("scene", _SCENES)
@pytest.mark.parametrize("blocks", [False, True], ids=["rows", "blocks"])
def test_the_values_of_a_conflict(ruled: Bench, scene: str, blocks: bool) -> None:
    steps, type_, seen = _SCENES[scene]
    given = Rules(Detect.VERSION, VERSION, units=UNITS, on=tuple(_ACTIONS.items()))
    table = rules.table(f"told_{next(_numbers)}", given)
    play(ruled, table, rows_of(given, steps), single=True, blocks=blocks)
    (found,) = kept(ruled, table.name)
    last = next(row for row in reversed(rows_of(given, steps)) if isinstance(row, MappedRow))
    assert found == KeptConflict(
        table.mapping,
        "[1]",
        Conflict(type_, _ACTIONS[type_], found.conflict.columns, seen),
        last.position,
        PARTITION,
        last.record.offset,
    )
    assert counts(ruled, table.name) == {Counted(table.mapping, PARTITION, type_, _ACTIONS[type_]): 1}


@pytest.mark.parametrize("blocks", [False, True], ids=["rows", "blocks"])
def test_a_flood_is_counted_and_the_first_are_kept(ruled: Bench, blocks: bool) -> None:
    given = Rules(Detect.VERSION, VERSION, units=UNITS)
    table = rules.table(f"told_{next(_numbers)}", given)
    steps: list[Step] = [Foreign("theirs", key, THEIRS) for key in range(KEPT + 10)]
    steps += [Change("u", key, COMING, 20) for key in range(KEPT + 10)]
    steps += [Change("u", 0, COMING, 10)]
    play(ruled, table, rows_of(given, steps), single=False, blocks=blocks)
    assert len(kept(ruled, table.name)) == KEPT
    assert {(each.type, each.action): number for each, number in counts(ruled, table.name).items()} == {
        (ConflictType.UPDATE_ORIGIN_DIFFERS, Action.MERGE): KEPT + 10,
        (ConflictType.STALE, Action.SKIP): 1,
    }


@pytest.mark.parametrize("blocks", [False, True], ids=["rows", "blocks"])
def test_a_source_whose_word_does_not_stand(bench: Bench, blocks: bool) -> None:
    if not bench.target().capabilities.contributions:
        pytest.skip("it keeps no contributions")
    customers = f"told_{next(_numbers)}"
    player = Player(cast(ContributingTarget, bench.target()), customers, blocks=blocks)
    crm = SourceTape("crm").add("full", 1, {"name": "a", "score": 5}).rows
    portal = SourceTape("portal", clock=10).add("full", 1, {"name": "older"}).rows
    with closing(player.target):
        player.play([("crm", crm[0])])
        player.play([("portal", portal[0])])
    (found,) = kept(bench, customers)
    assert found.mapping == f"golden/hub.{customers}@portal"
    assert found.partition == PARTITIONS["portal"]
    conflict = found.conflict
    assert (conflict.type, conflict.action) == (ConflictType.UPDATE_ORIGIN_DIFFERS, Action.MERGE)
    assert "name" in conflict.columns
    assert conflict.seen is not None
    sides = (conflict.seen.before, conflict.seen.incoming, conflict.seen.resulting)
    assert [side and side["name"] for side in sides] == ["a", "older", "a"]
    assert list(counts(bench, customers).values()) == [1]


def test_old_ones_are_forgotten(bench: Bench) -> None:
    if isinstance(bench, MemoryBench) or not bench.target().capabilities.contributions:
        pytest.skip("forgets nothing, or keeps no contributions")
    customers = f"told_{next(_numbers)}"
    player = Player(cast(ContributingTarget, bench.target()), customers)
    crm = SourceTape("crm").add("full", 1, {"name": "a"}).rows
    portal = SourceTape("portal", clock=10).add("full", 1, {"name": "older"}).rows
    with closing(player.target):
        player.play([("crm", crm[0]), ("portal", portal[0])])
        assert player.target.purge_conflicts(3600) == 0
        assert len(kept(bench, customers, ConflictFilter(hold="[1]", type="update_origin_differs"))) == 1
        assert kept(bench, customers, ConflictFilter(hold="[2]")) == []
        assert kept(bench, customers, ConflictFilter(mappings=("nobody",))) == []
        player.target.purge_conflicts(-7200)
        assert kept(bench, customers) == []
        assert counts(bench, customers) == {}
