"""What cdc compare makes of parked rows and of mappings that never ran, on real databases."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from cdc.cli.compare import compare as cli_compare
from cdc.target.postgres_state import migrate
from tests.conformance.compare_world import World, park
from tests.fix_stack import Database

pytestmark = pytest.mark.database


@pytest.fixture
def world(module_database: Database, database: Database, tmp_path: Path) -> Iterator[World]:
    with (
        psycopg.connect(module_database.dsn, autocommit=True) as source,
        psycopg.connect(database.dsn, autocommit=True) as hub,
    ):
        source.execute("DROP SCHEMA public CASCADE")
        source.execute("CREATE SCHEMA public")
        yield World("postgresql", module_database, database, tmp_path, hub, source.execute)


def test_the_command_says_what_is_parked_and_what_never_ran(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    migrate(world.hub)
    world.mapping = "{from: public.t, to: public.t}\n  - {from: public.t, to: public.other}"
    world.both("CREATE TABLE t (id integer PRIMARY KEY)")
    connections, mappings = world.write_files()
    world.at_source("INSERT INTO t VALUES (1), (2)")
    for hold in ("[1]", "[2]"):
        park(world, hold)
    assert cli_compare(mappings=mappings, connections=connections, table=("public.t",), settle=0) == 1
    assert "never run" in capsys.readouterr().out
    world.hub.execute("CREATE TABLE other (id integer PRIMARY KEY)")
    world.hub.execute("INSERT INTO other VALUES (1), (2)")
    assert cli_compare(mappings=mappings, connections=connections, settle=0) == 1
    assert "not equal, 2 rows differ but are parked" in " ".join(capsys.readouterr().out.split())
    assert cli_compare(mappings=mappings, connections=connections, output="json", settle=0) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["equal"], found["verdict"], found["excused"]) == (False, "parked", 2)
    assert [each["verdict"] for each in found["tables"]] == ["parked", "equal"]


def test_a_mapping_that_never_ran_does_not_hide_the_others(world: World) -> None:
    world.mapping = "{from: public.t, to: public.none}\n  - {from: public.t, to: public.t}"
    world.both("CREATE TABLE t (id integer PRIMARY KEY)")
    world.both("INSERT INTO t VALUES (1)")
    report = world.compare_all()
    assert [each.verdict for each in report.tables] == ["never run", "equal"]
    assert (report.equal, report.verdict) == (False, "never run")
