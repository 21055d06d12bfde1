"""Rows that depend on one another, on every target: foreign keys and unique values end as the oracle says."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fix_targets import Bench, differs
from tests.related_tapes import BOTH, CIRCLE, UNDECIDED, Change, Script, Shape, Tables, named_cases, renumbered

_SHARED = (HealthCheck.function_scoped_fixture,)


def suits(bench: Bench, shape: Shape, name: str = "") -> None:
    if shape.references:
        differs(bench, "foreign keys")
    if shape.unique:
        differs(bench, "unique columns")
    if shape == CIRCLE or name == "two rows of a tree refer to one another":
        differs(bench, "circles")


@pytest.mark.parametrize("name", named_cases())
def test_named_cases(bench: Bench, name: str) -> None:
    shape, tape = named_cases()[name]
    suits(bench, shape, name)
    for cuts in ([], list(range(1, len(tape))), [len(tape) // 2]):
        Tables(bench, shape).check(renumbered(tape), cuts)


@pytest.mark.parametrize("name", sorted(named_cases().keys() - {UNDECIDED}))
def test_arriving_in_other_orders(bench: Bench, name: str) -> None:
    """Each key's changes keep their order; everything else is shuffled."""
    shape, tape = named_cases()[name]
    suits(bench, shape, name)
    for seed in range(3):
        chance = random.Random(seed)
        Tables(bench, shape).check(shuffled(tape, chance), sorted(chance.sample(range(1, len(tape)), 1)))


def shuffled(tape: list[Change], chance: random.Random) -> list[Change]:
    queues: dict[tuple[str, object], list[Change]] = {}
    for table, row in tape:
        queues.setdefault((table, row.key), []).append((table, row))
    order = [key for key, queue in queues.items() for _ in queue]
    chance.shuffle(order)
    return renumbered(queues[key].pop(0) for key in order)


class Source:
    """A consistent source of parents and children, both with a unique value; it writes down what it commits."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.script = Script()
        self.tape: list[Change] = []
        self.parents: dict[int, str | None] = {}
        self.children: dict[int, tuple[int | None, str | None]] = {}

    def work(self, transactions: int) -> None:
        for _ in range(transactions):
            self.chance.choice(
                (self.new_parent, self.new_child, self.move_child, self.swap, self.ring, self.leave, self.end_parent)
            )()

    def put_parent(self, key: int, notes: str | None) -> None:
        self.parents[key] = notes
        self.tape.append(self.script.put("parent", key, None, notes))

    def put_child(self, key: int, parent: int | None, notes: str | None) -> None:
        self.children[key] = (parent, notes)
        self.tape.append(self.script.put("child", key, parent, notes))

    def free(self, taken: set[str | None]) -> str | None:
        return self.chance.choice([None, *sorted(set("abcdef") - taken)])

    def some_parent(self) -> int | None:
        return self.chance.choice([None, *self.parents])

    def new_parent(self) -> None:
        self.put_parent(self.chance.randint(1, 4), self.free(set(self.parents.values())))

    def new_child(self) -> None:
        taken = {notes for _, notes in self.children.values()}
        self.put_child(self.chance.randint(1, 5), self.some_parent(), self.free(taken))

    def move_child(self) -> None:
        for key in self.some(self.children, 1):
            self.put_child(key, self.some_parent(), self.children[key][1])

    def swap(self) -> None:
        if len(two := self.some(self.parents, 2)) == 2:
            one, other = self.parents[two[0]], self.parents[two[1]]
            self.put_parent(two[0], other)
            self.put_parent(two[1], one)

    def ring(self) -> None:
        keys = self.some(self.children, 3)
        notes = [self.children[key][1] for key in keys]
        for key, value in zip(keys, notes[1:] + notes[:1], strict=True):
            self.put_child(key, self.children[key][0], value)

    def leave(self) -> None:
        for key in self.some(self.children, 1):
            del self.children[key]
            self.tape.append(self.script.delete("child", key))

    def end_parent(self) -> None:
        """With a successor for its children, which takes over its value."""
        for key in self.some(self.parents, 1):
            notes, successor = self.parents.pop(key), self.some_parent()
            for child, (parent, value) in list(self.children.items()):
                if parent == key:
                    self.put_child(child, successor, value)
            self.tape.append(self.script.delete("parent", key))
            if successor is not None:
                self.put_parent(successor, notes)

    def some(self, rows: dict[int, object], number: int) -> list[int]:
        return self.chance.sample(sorted(rows), min(number, len(rows)))


@settings(max_examples=25, deadline=None, suppress_health_check=_SHARED)
@given(seed=st.integers(0, 1 << 30), transactions=st.integers(1, 14), cuts=st.lists(st.integers(1, 40), max_size=6))
def test_any_interleaving_ends_as_the_source(bench: Bench, seed: int, transactions: int, cuts: list[int]) -> None:
    """Whatever order the changes of different keys arrive in: at the end nothing waits, the rows are the source's."""
    suits(bench, BOTH)
    source = Source(random.Random(seed))
    source.work(transactions)
    tables = Tables(bench, BOTH)
    applier = tables.check(shuffled(source.tape, source.chance), cuts)
    assert applier.held == {}
    assert {key[0]: row[2] for key, row in bench.visible(tables.tables["parent"]).items()} == source.parents
    assert {key[0]: (row[3], row[2]) for key, row in bench.visible(tables.tables["child"]).items()} == source.children
