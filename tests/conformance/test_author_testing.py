"""The shipped tests of mappings come to the same on every target, in a scratch place of which nothing is left."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from cdc.author.cases import find_cases
from cdc.author.explain import explain_table
from cdc.author.grounds import DatabaseGround
from cdc.author.scaffold import read_tables, scaffold
from cdc.author.testing import Result, run_files
from cdc.db import mariadb as mariadb_server
from cdc.entries import (
    MariaDbTargetSettings,
    PostgresTargetSettings,
    SourceSettings,
    SqliteTargetSettings,
    TargetSettings,
)
from cdc.errors import Usage
from cdc.mapping.load import loads
from tests.authored import OURS_AND_THEIRS
from tests.fix_stack import Database

TESTS = find_cases([Path(__file__).parents[2] / "mappings"])
RULED = """
pipeline: p
source: crm
target: hub
rules: {hub.ruled: {on: {insert_exists: target_wins, update_missing: skip}}}
tables: [{from: public.ruled, to: hub.ruled}]
"""
RULED_TEST = (
    "pipeline: ../p.yaml"
    + OURS_AND_THEIRS
    + """\
  - name: three ways to differ
    events:
      - {table: public.ruled, op: create, after: {id: 1, name: a}}
      - {table: public.ruled, op: create, after: {id: 2, name: b}}
    rows: {hub.ruled: [{id: 1, name: x}, {id: 3}]}
"""
)


def played(settings: TargetSettings, paths: list[Path]) -> list[Result]:
    return run_files(paths, lambda source: "postgresql", lambda script: DatabaseGround(script, settings))


def wrong(results: list[Result]) -> list[str]:
    return [f"{each.name}: {found.message}" for each in results for found in each.findings]


def ruled(folder: Path) -> list[Path]:
    (folder / "tests").mkdir()
    (folder / "p.yaml").write_text(RULED, encoding="utf-8")
    (folder / "tests" / "p.yaml").write_text(RULED_TEST, encoding="utf-8")
    return [folder / "tests" / "p.yaml"]


@pytest.mark.database
def test_postgresql(database: Database, tmp_path: Path) -> None:
    settings = PostgresTargetSettings(
        name="t",
        kind="postgresql",
        **database.settings,
    )
    assert wrong(played(settings, [path for path in TESTS if path.stem in ("crm", "golden")])) == []
    count = (
        "SELECT (SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'cdc%'),"
        " (SELECT count(*) FROM pg_namespace WHERE nspname = 'hub')"
    )
    with psycopg.connect(database.dsn, autocommit=True) as connection:
        assert connection.execute(count).fetchone() == (0, 0)
        # Beside state of others: only what was played goes.
        connection.execute("CREATE SCHEMA cdc")
        good, bad = played(settings, ruled(tmp_path))
        assert good.findings == []
        assert [(row.kind, row.key) for row in bad.rows] == [
            ("different", "id=1"),
            ("missing", "id=3"),
            ("surplus", "id=2"),
        ]
        tables = connection.execute(
            "SELECT relname::text FROM pg_class WHERE relnamespace = 'cdc'::regnamespace AND relkind = 'r'"
        ).fetchall()
        left = {name for (name,) in tables if connection.execute(f"SELECT 1 FROM cdc.{name}").fetchone()}
        assert left == {"state_version"}
        assert not [name for (name,) in tables if name.startswith("tombstone")]


@pytest.mark.database
def test_a_first_mapping_from_the_live_catalog(database: Database) -> None:
    source = SourceSettings(
        name="crm",
        kind="postgresql",
        **database.settings,
        connector=Path("crm.json"),
    )
    with psycopg.connect(database.dsn, autocommit=True) as connection:
        connection.execute("CREATE TYPE mood AS ENUM ('good')")
        connection.execute("CREATE TABLE people (id bigint PRIMARY KEY, how mood, name varchar(20) NOT NULL)")
        connection.execute("COMMENT ON COLUMN people.name IS 'as they say it'")
    with pytest.raises(Usage, match="no table") as raised:
        read_tables(source, ["public.peple"])
    assert raised.value.hint == "did you mean 'public.people'?"
    text = scaffold("crm", "postgresql", read_tables(source, ["public.people"]), "hub", ["hub.people"], "p")
    assert "      name: name # character varying(20), not null: as they say it" in text
    assert "      how: how # mood" in text
    explained = explain_table(loads(text).tables[0], read_tables(source, ["public.people"])[0], "postgresql")
    assert [each.types["postgresql"] for each in explained.columns] == ["bigint", "text", "varchar(20)"]


@pytest.mark.database
def test_mariadb(mariadb_database: Database) -> None:
    settings = MariaDbTargetSettings(
        name="t",
        kind="mariadb",
        **mariadb_database.settings,
    )
    assert wrong(played(settings, [path for path in TESTS if path.stem == "billing"])) == []
    with mariadb_server.connect(settings) as connection, connection.cursor() as cursor:
        cursor.execute("SHOW DATABASES LIKE 'cdc\\_test\\_%'")
        assert cursor.fetchall() == ()


def test_sqlite(tmp_path: Path) -> None:
    settings = SqliteTargetSettings(name="t", kind="sqlite", path=tmp_path / "target.db")
    assert wrong(played(settings, TESTS)) == []
    assert list(tmp_path.iterdir()) == []
