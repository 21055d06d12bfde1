"""Large batches whose rows depend on one another: whole rounds, never row by row. Proved by counting statements."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from cdc.target.mariadb_database import MariaDbDatabase
from cdc.target.sqlite_database import SqliteDatabase
from tests.fix_targets import Bench, PostgresBench, differs
from tests.related_tapes import BOTH, FAMILY, NEEDED, TREE, UNIQUE, Change, Script, Shape, Tables

ROWS = 2000
FEW = 250
"""Most statements that a load may take, all of its batches and what heals after them: row by row it were thousands."""


class Count:
    statements = 0


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch) -> Iterator[Count]:
    """Counts what is sent to any target; rows of one bulk statement count as one."""
    counted = Count()

    def counting(of: Any, name: str) -> None:
        real: Callable[..., Any] = getattr(of, name)

        def call(*arguments: Any, **named: Any) -> Any:
            counted.statements += 1
            return real(*arguments, **named)

        monkeypatch.setattr(of, name, call)

    for of, names in (
        (psycopg.Connection, ("execute",)),
        (psycopg.Cursor, ("executemany", "copy")),
        (SqliteDatabase, ("rows", "run", "run_many")),
        (MariaDbDatabase, ("rows", "run", "run_many", "load")),
    ):
        for name in names:
            counting(of, name)
    return counted


def people(script: Script) -> list[Change]:
    return [script.put("person", key, notes=f"value {key}") for key in range(ROWS)]


def swaps(script: Script) -> list[Change]:
    """Neighbours take one another's value."""
    return [script.put("person", key, notes=f"value {key ^ 1}") for key in range(ROWS)]


def ring(script: Script) -> list[Change]:
    """One takes the next one's value, in the order in which nothing is free."""
    return [script.put("person", key, notes=f"value {(key + 1) % ROWS}") for key in range(ROWS)]


def chains(script: Script) -> list[Change]:
    """Of ten, each takes the next one's value and the last one a new value."""
    return [
        script.put("person", key, notes=f"value {key + 1}" if key % 10 < 9 else f"new {key}") for key in range(ROWS)
    ]


def heirs(script: Script) -> list[Change]:
    """Half of the rows go, the others take their values."""
    changes = []
    for key in range(0, ROWS, 2):
        changes += [script.put("person", key, notes=f"value {key + 1}"), script.delete("person", key + 1)]
    return changes


def conflicts(script: Script) -> list[Change]:
    """Swaps, and among them new rows that want what others keep."""
    changes = []
    for key in range(0, ROWS, 4):
        changes += [
            *(script.put("person", key, notes=f"value {key + 1}"), script.put("person", key + 1, notes=f"value {key}")),
            script.put("person", ROWS + key, notes=f"value {key + 2}"),
        ]
    return changes


@pytest.mark.parametrize("shape", [UNIQUE, NEEDED], ids=["nullable", "not null"])
@pytest.mark.parametrize("load", [swaps, ring, chains, heirs, conflicts])
def test_unique_values_pass_in_whole_rounds(
    bench: Bench, count: Count, load: Callable[[Script], list[Change]], shape: Shape
) -> None:
    differs(bench, "unique columns")
    if shape is NEEDED and not isinstance(bench, PostgresBench):
        pytest.skip("only PostgreSQL takes rows out and puts them back")
    script = Script()
    before, after = people(script), load(script)
    tables = Tables(bench, shape)
    count.statements = 0
    applier = tables.play([*before, *after], [len(before)])
    assert count.statements < FEW
    wanted = {row.key[0]: row.values[2] for _, row in before if row.values}
    for _, row in after:
        wanted[row.key[0]] = row.values[2] if row.values else None
    lost = {key for key in wanted if key >= ROWS}
    visible = {key[0]: row[2] for key, row in bench.visible(tables.tables["person"]).items()}
    assert visible == {key: value for key, value in wanted.items() if value is not None and key not in lost}
    assert {hold for _, hold in applier.held} == {f"[{key}]" for key in lost}
    assert set(applier.held.values()) <= {"unique_violation"}


def test_families_come_and_go_in_whole_rounds(bench: Bench, count: Count) -> None:
    """Children before parents in one batch, then all of them deleted, parents first, while some children move."""
    differs(bench, "foreign keys")
    script = Script()
    come = [
        *(script.put("grandchild", key, key) for key in range(ROWS // 4)),
        *(script.put("child", key, key) for key in range(ROWS // 2)),
        *(script.put("parent", key) for key in range(ROWS // 2)),
    ]
    go = [
        *(script.delete("parent", key) for key in range(1, ROWS // 2)),
        *(script.delete("grandchild", key) for key in range(ROWS // 4)),
        *(script.put("child", key, 0) for key in range(100)),
        *(script.delete("child", key) for key in range(100, ROWS // 2)),
    ]
    tables = Tables(bench, FAMILY)
    count.statements = 0
    applier = tables.play([*come, *go], [len(come)])
    assert count.statements < FEW
    assert applier.held == {}
    sizes = [len(bench.visible(tables.tables[name])) for name in FAMILY.tables]
    assert sizes == [1, 100, 0]


def test_children_wait_for_parents_of_a_later_batch(bench: Bench, count: Count) -> None:
    """They are parked and come in with their parents, those without any stay: a few statements for all of them."""
    differs(bench, "foreign keys")
    script = Script()
    children = [script.put("child", key, key) for key in range(1000)]
    there = [script.put("child", 5000 + key) for key in range(1000)]
    parents = [script.put("parent", key) for key in range(0, 1000, 2)]
    tables = Tables(bench, FAMILY)
    count.statements = 0
    waited: list[int] = []
    applier = tables.play(
        [*children, *there, *parents], [len(children) + len(there)], seen=lambda each, _: waited.append(len(each.held))
    )
    assert waited == [500], "the others came in with the batch that brought their parents"
    assert count.statements < FEW
    assert set(applier.held.values()) == {"foreign_key_missing"}
    assert {hold for _, hold in applier.held} == {f"[{key}]" for key in range(1, 1000, 2)}
    assert len(bench.visible(tables.tables["child"])) == 1500


def test_a_tree_comes_in_whole_rounds(bench: Bench, count: Count) -> None:
    """Leaves first; a branch whose root is missing waits, all of it."""
    differs(bench, "foreign keys")
    differs(bench, "circles")
    script = Script()
    tree = [script.put("node", key, key // 2) for key in range(ROWS, 1, -1)]
    lost = [script.put("node", 10_000 + key, 10_001 + key) for key in range(200)]
    tables = Tables(bench, TREE)
    count.statements = 0
    applier = tables.play([*tree, *lost, script.put("node", 1)], [])
    assert count.statements < FEW
    assert len(bench.visible(tables.tables["node"])) == ROWS
    assert len(applier.held) == 200


def test_both_at_once(bench: Bench, count: Count) -> None:
    """Parents swap their values while their children change sides."""
    differs(bench, "foreign keys")
    script = Script()
    half = ROWS // 2
    before = [
        *(script.put("parent", key, None, f"p {key}") for key in range(half)),
        *(script.put("child", key, key, f"c {key}") for key in range(half)),
    ]
    after = [
        *(script.put("child", key, key ^ 1, f"c {key ^ 1}") for key in range(half)),
        *(script.put("parent", key, None, f"p {key ^ 1}") for key in range(half)),
    ]
    tables = Tables(bench, BOTH)
    count.statements = 0
    applier = tables.play([*before, *after], [len(before)])
    assert count.statements < FEW
    assert applier.held == {}
    found = {key[0]: row[2:4] for key, row in bench.visible(tables.tables["child"]).items()}
    assert found == {key: (f"c {key ^ 1}", key ^ 1) for key in range(half)}
