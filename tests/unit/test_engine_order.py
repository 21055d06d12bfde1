"""Which table is written first, which rows of a round must wait, and when what waits is tried again."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import msgspec
import pytest

from cdc.engine.order import FIRST_S, KEYS_AT_ONCE, LONGEST_S, Waiting, in_circles, parents_first
from cdc.errors import Terminal
from cdc.model import TargetTable
from cdc.target.base import ForeignKey, Related
from cdc.target.related import blocked, unique_edges
from tests import tapes
from tests.simulator import World as Simulated


def family(**parents: str) -> tuple[dict[str, TargetTable], dict[TargetTable, Related]]:
    """Tables by name, each with the names of its parents: `child="parent other"`."""
    tables = {name: tapes.table(name) for name in parents}
    related = {
        table: Related(name, tuple(ForeignKey(("notes",), parent, ("id",)) for parent in parents[name].split()))
        for name, table in tables.items()
    }
    return tables, related


def names(tables: list[TargetTable]) -> list[str]:
    return [table.name for table in tables]


def test_parents_are_written_first() -> None:
    tables, related = family(grandchild="child", other="", child="parent", parent="", tree="tree parent")
    assert names(parents_first(list(tables.values()), related.__getitem__)) == [
        *("other", "parent"),
        *("child", "tree"),
        "grandchild",
    ]


def test_tables_without_foreign_keys_stay_as_they_came() -> None:
    tables, related = family(b="", a="", c="")
    assert names(parents_first(list(tables.values()), related.__getitem__)) == ["b", "a", "c"]


def test_a_circle_has_some_order() -> None:
    tables, related = family(c="b", a="b", b="a")
    assert names(parents_first(list(tables.values()), related.__getitem__)) == ["c", "a", "b"]
    assert names(in_circles(list(tables.values()), related.__getitem__)) == ["a", "b"]


def test_a_parent_that_is_not_in_the_batch_is_not_waited_for() -> None:
    tables, related = family(child="parent")
    assert names(parents_first(list(tables.values()), related.__getitem__)) == ["child"]
    assert in_circles(list(tables.values()), related.__getitem__) == []


def test_rows_wait_with_those_that_they_need() -> None:
    assert blocked([(1, None), (2, 1), (3, 2), (4, 5), (5, 4), (6, 7)]) == {1, 2, 3}


def test_a_value_belongs_to_who_has_it_then_to_who_came_first() -> None:
    held, leaving = [(1, ("a",)), (2, ("b",))], {("a",): 3}
    doubles = [[4, 1], [6, 5]]
    edges = unique_edges(held, leaving, doubles, rank=lambda row: row)
    assert sorted(edges, key=str) == sorted([(1, 3), (2, None), (1, None), (6, None)], key=str)


@dataclass
class World:
    """Waiting keys under a clock. A child's `notes` refer to its parent."""

    now: float = 0.0
    wait_s: float = 1000.0
    held: dict[tuple[str, str], str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.tables, self.related = family(parent="", child="parent")
        self.waiting = Waiting(self.related.__getitem__, lambda: self.now, self.wait_s)
        self.tape = tapes.Tape()

    def park(self, key: int, parent: str | None, reason: str = "foreign_key_missing") -> tuple[str, str]:
        held = (self.tables["child"].mapping, f"[{key}]")
        self.held[held] = reason
        if parent is not None:
            self.waiting.note({held: (self.tables["child"], self.tape.full(key, "a", parent, (1, 1)))})
        return held

    def due_times(self, until: float) -> list[float]:
        found = []
        while self.now < until:
            self.now += 0.5
            if self.waiting.due(self.held):
                found.append(self.now)
        return found


def parent_row(world: World, key: object) -> list[object]:
    return [msgspec.structs.replace(world.tape.full(1, "p", None, (1, 1)), key=(key,), values=(key, "p", None))]


def test_a_key_is_woken_by_its_parent_only() -> None:
    world = World()
    one, other = world.park(1, "7"), world.park(2, "8")
    parent, came = world.tables["parent"], world.waiting.came
    assert came(parent, parent_row(world, "9")) == set()
    assert came(world.tables["child"], parent_row(world, "7")) == set()
    assert came(parent, parent_row(world, "7")) == {one}
    assert came(parent, parent_row(world, "7")) == set(), "until it is noted again"
    assert came(parent, parent_row(world, "8")) == {other}


def test_a_key_is_tried_again_at_growing_intervals_and_not_for_ever() -> None:
    world = World()
    world.park(1, None)
    found = world.due_times(until=2000.0)
    gaps = [later - earlier for earlier, later in pairwise(found)]
    assert found[0] <= 2 * FIRST_S
    assert gaps == sorted(gaps)
    assert max(gaps) <= LONGEST_S
    assert found[-1] <= world.wait_s + LONGEST_S
    assert len(found) < 40


def test_a_person_is_waited_for_by_nobody() -> None:
    world = World()
    world.park(1, None, reason="check_violation")
    assert world.due_times(until=100.0) == []


def test_keys_that_wait_for_one_another_meet() -> None:
    """Whenever they were parked, some retry takes both."""
    world = World(now=100.0)
    world.park(1, None)
    world.due_times(until=130.0)
    world.park(2, None)
    together = 0
    while world.now < 1000.0:
        world.now += 0.5
        together += len(world.waiting.due(world.held)) == 2
    assert together >= 5


def test_a_retry_between_two_batches_has_a_bound() -> None:
    world = World()
    for key in range(KEYS_AT_ONCE + 500):
        world.park(key, None)
    world.waiting.due(world.held)
    world.now += 2 * FIRST_S
    assert len(world.waiting.due(world.held)) == KEYS_AT_ONCE
    world.now += FIRST_S
    assert world.waiting.due(world.held), "the others have their turn next"


def test_too_many_waiting_rows_stop_the_pipeline() -> None:
    simulated = Simulated()
    simulated.start("one")
    worker, _, _ = simulated.workers["one"]
    most = worker.pipeline.parked.max_waiting
    worker._writer.held = {("simulated/hub.people", f"[{key}]"): "foreign_key_missing" for key in range(most)}
    worker._check_waiting()
    worker._writer.held["simulated/hub.people", "[-1]"] = "unique_violation"
    with pytest.raises(Terminal, match="wait for other rows"):
        worker._check_waiting()
