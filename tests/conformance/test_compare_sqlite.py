"""cdc compare with a target that is compared from outside: the same words for the same differences.

The source is a PostgreSQL written by SQL; the target's file is written by SQL too. Time is a counter. (Every type of
both sources: test_compare_types.py.)
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest

from cdc.engine.targets import open_target
from cdc.errors import Terminal, Usage
from cdc.mapping.load import loads
from cdc.model import Position, RawRecord
from cdc.reconcile.compare import compare
from cdc.reconcile.comparison import Options
from cdc.reconcile.report import TableReport, What
from cdc.settings import load
from cdc.target.base import Owner, Parked
from tests.fix_stack import Database

pytestmark = pytest.mark.database
SETTLE_S = 10.0
CREATE = "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT, w TEXT)"


@dataclass
class World:
    source: psycopg.Connection[Any]
    copy: sqlite3.Connection
    folder: Path
    mapping: str = "{from: public.t, to: main.t}"
    now: float = 0.0
    when_sleeping: Callable[[], object] = field(default=lambda: None)

    def compare(self, **options: Any) -> TableReport:
        report = compare(
            load(self.folder / "connections.yaml"),
            [loads(f"pipeline: p\nsource: s\ntarget: copy\ntables:\n  - {self.mapping}\n")],
            options=Options(**{"settle_s": SETTLE_S, "values": True, **options}),
            clock=lambda: self.now,
            sleep=self.sleep,
        )
        (found,) = report.tables
        return found

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.when_sleeping()

    def both(self, *rows: tuple[object, ...]) -> None:
        self.at_source(*rows)
        self.at_copy(*rows)

    def at_source(self, *rows: tuple[object, ...]) -> None:
        for row in rows:
            self.source.execute("INSERT INTO t VALUES (%s, %s, %s)", row)

    def at_copy(self, *rows: tuple[object, ...]) -> None:
        self.copy.executemany("INSERT INTO t VALUES (?, ?, ?)", rows)


@pytest.fixture
def world(database: Database, tmp_path: Path) -> Iterator[World]:
    at = database.server
    (tmp_path / "secrets").write_text(f"source={at.password}\n")
    (tmp_path / "connections.yaml").write_text(
        f"sources:\n  s: {{kind: postgresql, host: {at.host}, port: {at.port}, user: {at.user},"
        f' database: {database.name}, password: "${{file:secrets:source}}"}}\n'
        "targets:\n  copy: {kind: sqlite, path: copy.db}\n"
    )
    copy = sqlite3.connect(tmp_path / "copy.db", isolation_level=None)
    with psycopg.connect(database.dsn, autocommit=True) as source:
        source.execute(CREATE)
        copy.execute(f"{CREATE} STRICT")
        yield World(source, copy, tmp_path)
    copy.close()


def test_equal(world: World) -> None:
    world.both(*((number, "a", None) for number in range(12_000)), (-1, "", "é𝔘"))
    found = world.compare()
    assert found.equal
    assert (found.source_rows, found.target_rows, world.now) == (12_001, 12_001, 0)


def test_missing_surplus_different(world: World) -> None:
    world.both((2, "b", "x"))
    world.at_source((1, "a", "x"), (3, "c", "x"), (5, None, "x"))
    world.at_copy((3, "!", "x"), (4, "d", "x"), (5, "", "x"))
    found = world.compare()
    assert (found.missing, found.surplus, found.different) == (1, 1, 2)
    assert found.columns == (("v", 2),)
    by_key = {each.key: each for each in found.examples}
    assert [by_key[key,].what for key in ("1", "4", "3")] == [What.MISSING, What.SURPLUS, What.DIFFERENT]
    assert [(cell.column, cell.expected, cell.actual) for cell in by_key["3",].cells] == [("v", "c", "!")]
    assert [(cell.expected, cell.actual) for cell in by_key["5",].cells] == [(None, "")]
    assert world.now >= SETTLE_S


def test_a_filter_and_values_of_the_change(world: World) -> None:
    """Rows outside of `where` are surplus; a column that tells of the change cannot be told from the row."""
    columns = "{'*': {}, w: {sql: meta.operation}}"
    world.mapping = f"{{from: public.t, to: main.t, where: \"v = 'a' or id > 5\", columns: {columns}}}"
    world.at_source((1, "a", None), (2, "b", None), (3, None, None), (4, None, None), (6, None, None))
    world.at_copy((1, "a", "update"), (6, None, "create"))
    found = world.compare()
    assert found.equal
    assert (found.source_rows, found.target_rows, found.unchecked) == (5, 2, 2)
    world.at_copy((3, None, "update"))
    found = world.compare()
    assert (found.missing, found.surplus, found.different) == (0, 1, 0)


def test_a_filter_over_the_changes_cannot_be_compared(world: World) -> None:
    world.mapping = "{from: public.t, to: main.t, where: \"meta.operation <> 'read'\"}"
    with pytest.raises(Usage, match="a filter over the changes"):
        world.compare()


def test_what_was_on_its_way_is_no_difference(world: World) -> None:
    world.at_source((1, "a", "x"), (2, "b", "x"))
    world.at_copy((2, "older", "x"), (3, "deleted", "x"))

    def arrives() -> None:
        world.when_sleeping = lambda: None
        world.at_copy((1, "a", "x"))
        world.copy.execute("UPDATE t SET v = 'b' WHERE id = 2")
        world.copy.execute("DELETE FROM t WHERE id = 3")

    world.when_sleeping = arrives
    found = world.compare()
    assert found.equal
    assert found.in_flight == 3


def test_a_row_that_keeps_changing_is_not_judged(world: World) -> None:
    world.at_source((1, "a", "x"))
    world.when_sleeping = lambda: world.source.execute("UPDATE t SET v = v || '.'")
    found = world.compare(settle_s=1.0)
    assert (found.unsettled, found.differences, found.verdict) == (1, 0, "unsettled")


def test_parked_keys_are_excused(world: World) -> None:
    world.at_source((1, "a", "x"), (2, "b", "x"))
    target = open_target(load(world.folder / "connections.yaml").target("copy"))
    target.open(Owner("p", "copy"))
    with target.begin() as transaction:
        record = RawRecord("topic", 0, 1, None, None)
        transaction.park([Parked("p/main.t", "[1]", record, Position(1, 1, 1), "refused")])
        transaction.park([Parked("p/main.t", "", record, Position(1, 1, 1), "unreadable_record")])
    target.close()
    found = world.compare()
    assert (found.missing, found.excused, found.parked, found.parked_without_key) == (1, 1, 1, 1)


def test_a_boolean_is_what_the_file_says(world: World) -> None:
    world.source.execute("ALTER TABLE t ADD COLUMN flag boolean")
    world.copy.execute("ALTER TABLE t ADD COLUMN flag INTEGER")
    world.source.execute("INSERT INTO t VALUES (1, 'a', 'x', true), (2, 'a', 'x', false), (3, 'a', 'x', true)")
    world.copy.execute("INSERT INTO t VALUES (1, 'a', 'x', 1), (2, 'a', 'x', 0), (3, 'a', 'x', 0)")
    found = world.compare()
    assert (found.different, found.columns) == (1, (("flag", 1),))


def test_soft_deleted_rows_are_not_there(world: World) -> None:
    world.mapping = "{from: public.t, to: main.t, on_delete: soft, soft_delete_column: gone}"
    world.copy.execute("ALTER TABLE t ADD COLUMN gone INTEGER NOT NULL DEFAULT 0")
    world.at_source((1, "a", "x"))
    world.copy.execute("INSERT INTO t VALUES (1, 'a', 'x', 0), (2, 'b', 'x', 1)")
    found = world.compare()
    assert found.equal
    assert (found.target_rows, found.soft_deleted) == (1, 1)


def test_rows_may_be_kept(world: World) -> None:
    world.mapping = "{from: public.t, to: main.t, on_delete: ignore}"
    world.both((1, "a", "x"))
    world.at_copy((2, "b", "x"))
    found = world.compare()
    assert found.equal
    assert found.kept == 1


def test_a_table_that_is_not_there(world: World) -> None:
    world.mapping = "{from: public.t, to: main.other}"
    with pytest.raises(Terminal, match="no table other"):
        world.compare()
