"""cdc compare on real databases: what is equal, what differs, what is excused, what settles.

Source and target are written by SQL here, not by the pipeline. Time is a counter and sleeping is where things happen.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pymysql
import pytest

from cdc.cli.compare import compare as cli_compare
from cdc.errors import Terminal, Transient, Usage
from cdc.reconcile import source_rows
from cdc.reconcile.comparison import Options
from cdc.reconcile.report import CompareReport, Difference, TableReport, What
from cdc.stack import Server
from cdc.target.postgres_state import migrate
from tests.conformance.compare_world import SETTLE_S, World, park
from tests.fix_stack import Database, new_postgres_database

pytestmark = pytest.mark.database


@pytest.fixture(scope="module")
def target_database(postgres: Server) -> Iterator[Database]:
    with new_postgres_database(postgres) as made:
        yield made


@pytest.fixture
def world(module_database: Database, target_database: Database, tmp_path: Path) -> Iterator[World]:
    with (
        psycopg.connect(module_database.dsn, autocommit=True) as source,
        psycopg.connect(target_database.dsn, autocommit=True) as hub,
    ):
        for each in (source, hub):
            each.execute("DROP SCHEMA IF EXISTS public, cdc CASCADE")
            each.execute("CREATE SCHEMA public")
        yield World("postgresql", module_database, target_database, tmp_path, hub, source.execute)


@pytest.fixture
def maria(mariadb_database: Database, database: Database, tmp_path: Path) -> Iterator[World]:
    with (
        pymysql.connect(**mariadb_database.arguments, autocommit=True, charset="utf8mb4") as source,  # type: ignore[call-overload]
        source.cursor() as cursor,
        psycopg.connect(database.dsn, autocommit=True) as hub,
    ):
        mapping = f"{{from: {mariadb_database.name}.t, to: public.t}}"
        yield World("mariadb", mariadb_database, database, tmp_path, hub, cursor.execute, mapping)


def counts(found: TableReport) -> tuple[int, int, int]:
    return found.missing, found.surplus, found.different


# --- rows ------------------------------------------------------------------------------------------------------------


def test_equal(world: World) -> None:
    world.both("CREATE TABLE t (id integer PRIMARY KEY, v text)")
    world.both("INSERT INTO t VALUES (1, 'a'), (2, NULL), (3, '')")
    found = world.compare()
    assert found.equal
    assert (found.source_rows, found.target_rows) == (3, 3)
    assert world.now == 0, "nothing to wait for"


def test_missing_surplus_different(world: World) -> None:
    world.both("CREATE TABLE t (id integer PRIMARY KEY, v text, w text)")
    world.at_source("INSERT INTO t VALUES (1, 'a', 'x'), (2, 'b', 'x'), (3, 'c', 'x')")
    world.hub.execute("INSERT INTO t VALUES (2, 'b', 'x'), (3, '!', 'x'), (4, 'd', 'x')")
    found = world.compare()
    assert counts(found) == (1, 1, 1)
    assert found.columns == (("v", 1),)
    by_what = {each.what: each for each in found.examples}
    assert by_what[What.MISSING].key == ("1",)
    assert by_what[What.SURPLUS].key == ("4",)
    assert by_what[What.DIFFERENT].columns == ("v",)
    assert [(cell.expected, cell.actual) for cell in by_what[What.DIFFERENT].cells] == [("c", "!")]
    assert world.now >= SETTLE_S, "a difference is only confirmed when it stayed"


def test_values_are_not_shown_unless_asked_for(world: World) -> None:
    world.both("CREATE TABLE t (id integer PRIMARY KEY, v text)")
    world.at_source("INSERT INTO t VALUES (1, 'private')")
    world.hub.execute("INSERT INTO t VALUES (1, 'secret')")
    report = world.compare_all(options=Options(settle_s=0))
    assert "private" not in json.dumps(report.to_dict())
    assert "secret" not in json.dumps(report.to_dict())


def test_examples_are_limited_and_counts_are_not(world: World) -> None:
    world.both("CREATE TABLE t (id integer PRIMARY KEY)")
    world.at_source("INSERT INTO t SELECT generate_series(1, 2500)")
    (found,) = world.compare_all(options=Options(settle_s=0, examples=3)).tables
    assert (found.missing, len(found.examples)) == (2500, 3)


DIFFERENT = [
    ("text", "''", "NULL"),
    ("text", "'a'", "'A'"),
    ("text", r"E'back\\slash'", "'backslash'"),
    ("numeric", "1.10", "1.1"),
    ("numeric", "'NaN'", "0"),
    ("numeric", "123456789012345678901234567890.1", "123456789012345678901234567890.2"),
    ("integer", "1", "2"),
    ("bigint", "9007199254740993", "9007199254740992"),
    ("boolean", "true", "NULL"),
    ("real", "0", "'-0'"),
    ("double precision", "0.1", "0.1::real"),
    ("date", "'infinity'", "'2024-01-01'"),
    ("date", "'0044-03-15 BC'", "'0044-03-15'"),
    ("time", "'24:00'", "'00:00'"),
    ("timestamp", "'2024-01-01 00:00:00.000001'", "'2024-01-01'"),
    ("timestamptz", "'2024-01-01 00:00Z'", "'2024-01-01 00:00+01'"),
    ("interval", "'1 month'", "'30 days'"),
    ("uuid", "'b68a35a7-17ad-35b3-af2a-ae46edb4545a'", "'b68a35a7-17ad-35b3-af2a-ae46edb4545b'"),
    ("bytea", r"'\x00ff'", r"'\x00fe'"),
    ("bytea", "''", "NULL"),
    ("bit(4)", "B'0001'", "B'0010'"),
    ("json", """'{"a": 1}'""", """'{"a":1}'"""),
    ("jsonb", """'{"a": 1}'""", """'{"a": 1.0}'"""),
    ("jsonb", "'null'", "NULL"),
    ("text[]", "'{a,NULL}'", "'{a,\"NULL\"}'"),
    ("integer[]", "'{}'", "NULL"),
    ("inet", "'192.168.0.1/24'", "'192.168.0.1/25'"),
    ("int4range", "'empty'", "'[1,2)'"),
    ("char(5)", "'a'", "'b'"),
]


@pytest.mark.parametrize(("type_", "at_source", "at_target"), DIFFERENT)
def test_a_changed_value_of_each_type(world: World, type_: str, at_source: str, at_target: str) -> None:
    world.both(f"CREATE TABLE t (id integer PRIMARY KEY, v {type_})")
    world.both(f"INSERT INTO t VALUES (1, {at_source}), (2, {at_target})")
    assert world.compare().equal
    world.hub.execute(f"UPDATE t SET v = {at_target} WHERE id = 1")
    found = world.compare()
    assert counts(found) == (0, 0, 1)
    assert found.columns == (("v", 1),)


KEYS = [
    ("a integer, b text", ("1, 'x'", "1, 'y'", "2, 'x'"), "a = 1 AND b = 'y'"),
    ("b text, a integer", (r"E'it''s, \"q\" \\ {%s}', 1", "'', 1", r"E'tab\t', 1"), "b = ''"),
    ("a uuid, b date", ("'b68a35a7-17ad-35b3-af2a-ae46edb4545a', 'infinity'",), "true"),
    ("a timestamptz, b bytea", (r"'2024-01-01 00:00:00.5Z', '\x00ff'",), "true"),
    ("a numeric(30,2), b bigint", ("123456789012345678901234567.50, -9223372036854775808",), "true"),
    ("a boolean, b inet", ("true, '10.0.0.1/8'", "false, '10.0.0.1/8'"), "a"),
    ("a double precision, b text", ("0.1, 'by a full read'", "1, ''"), "b = ''"),
]


@pytest.mark.parametrize(("columns", "rows", "one"), KEYS)
def test_a_key_of_several_columns(world: World, columns: str, rows: tuple[str, ...], one: str) -> None:
    world.both(f"CREATE TABLE t ({columns}, v text, PRIMARY KEY (b, a))")
    for row in rows:
        world.both(f"INSERT INTO t VALUES ({row}, 'v')")
    assert world.compare().equal
    world.hub.execute(f"UPDATE t SET v = '!' WHERE {one}")
    assert counts(world.compare()) == (0, 0, 1)
    world.hub.execute(f"DELETE FROM t WHERE {one}")
    assert counts(world.compare()) == (1, 0, 0)
    world.at_source(f"DELETE FROM t WHERE {one}")
    assert world.compare().equal


def test_names_that_need_quotes(world: World) -> None:
    world.both('CREATE TABLE t ("Key %s" integer PRIMARY KEY, "a ""b"" 100%" text)')
    world.both("INSERT INTO t VALUES (1, 'x'), (2, 'y')")
    world.hub.execute("""UPDATE t SET "a ""b"" 100%" = '!' WHERE "Key %s" = 2""")
    assert world.compare().columns == (('a "b" 100%', 1),)


def test_a_surplus_key_that_the_source_cannot_hold(world: World) -> None:
    world.at_source("CREATE TABLE t (id integer PRIMARY KEY)")
    world.hub.execute("CREATE TABLE t (id bigint PRIMARY KEY)")
    world.hub.execute("INSERT INTO t VALUES (1), (3000000000)")
    world.at_source("INSERT INTO t VALUES (2)")
    assert counts(world.compare()) == (1, 2, 0)


# --- through the mapping ---------------------------------------------------------------------------------------------


def test_renamed_computed_and_constant_columns(world: World) -> None:
    world.mapping = (
        "{from: public.t, to: public.u, columns: {'*': {rename: {id: number}}, low: {sql: lower(v)},"
        " origin: {value: crm}}}"
    )
    world.at_source("CREATE TABLE t (id integer PRIMARY KEY, v text)")
    world.hub.execute("CREATE TABLE u (number integer PRIMARY KEY, v text, low text, origin text, other text)")
    world.at_source("INSERT INTO t VALUES (1, 'A'), (2, 'B')")
    world.hub.execute("INSERT INTO u VALUES (1, 'A', 'a', 'crm', 'of somebody else'), (2, 'B', 'B', 'crm', NULL)")
    found = world.compare()
    assert counts(found) == (0, 0, 1)
    assert found.columns == (("low", 1),)


def test_a_key_that_the_source_cannot_be_asked_by(world: World) -> None:
    world.mapping = "{from: public.t, to: public.u, key: [k], columns: {k: {sql: upper(id)}, v: v}}"
    world.at_source("CREATE TABLE t (id text PRIMARY KEY, v text)")
    world.hub.execute("CREATE TABLE u (k text PRIMARY KEY, v text)")
    world.at_source("INSERT INTO t VALUES ('a', '1'), ('b', '2'), ('c', '3')")
    world.hub.execute("INSERT INTO u VALUES ('A', '1'), ('B', '!'), ('D', '4')")
    assert counts(world.compare()) == (1, 1, 1)


def test_several_source_rows_that_meet_in_one(world: World) -> None:
    world.mapping = "{from: public.t, to: public.u, key: [a], columns: {a: a, v: v}}"
    world.at_source("CREATE TABLE t (a integer, b integer, v text, PRIMARY KEY (a, b))")
    world.hub.execute("CREATE TABLE u (a integer PRIMARY KEY, v text)")
    world.at_source("INSERT INTO t VALUES (1, 1, 'x'), (1, 2, 'y'), (2, 1, 'z')")
    world.hub.execute("INSERT INTO u VALUES (1, 'y'), (2, 'z')")
    assert world.compare().equal
    world.hub.execute("UPDATE u SET v = 'neither'")
    assert counts(world.compare()) == (0, 0, 2)


def test_soft_deletes(world: World) -> None:
    world.mapping = "{from: public.t, to: public.t, on_delete: soft}"
    world.at_source("CREATE TABLE t (id integer PRIMARY KEY)")
    world.hub.execute("CREATE TABLE t (id integer PRIMARY KEY, is_deleted boolean NOT NULL DEFAULT false)")
    world.at_source("INSERT INTO t VALUES (1), (2)")
    world.hub.execute("INSERT INTO t VALUES (1, false), (2, true), (3, true), (4, false)")
    found = world.compare()
    assert counts(found) == (1, 1, 0)
    assert (found.target_rows, found.soft_deleted) == (2, 2)
    by_what = {each.what: each for each in found.examples}
    assert by_what[What.MISSING].key == ("2",)
    assert by_what[What.MISSING].reason == "marked as deleted at the target"
    assert by_what[What.SURPLUS].key == ("4",)


def test_rows_that_an_ignored_delete_leaves(world: World) -> None:
    world.mapping = "{from: public.t, to: public.t, on_delete: ignore}"
    world.both("CREATE TABLE t (id integer PRIMARY KEY, v text)")
    world.at_source("INSERT INTO t VALUES (1, 'a'), (2, 'b')")
    world.hub.execute("INSERT INTO t VALUES (1, 'a'), (2, '!'), (3, 'c')")
    found = world.compare()
    assert counts(found) == (0, 0, 1)
    assert found.kept == 1


# --- refused and parked ----------------------------------------------------------------------------------------------


def test_parked_keys_are_excused_and_shown(world: World) -> None:
    migrate(world.hub)
    world.both("CREATE TABLE t (id integer PRIMARY KEY, v text)")
    world.at_source("INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c')")
    world.hub.execute("INSERT INTO t VALUES (1, 'a'), (2, '!')")
    for hold in ("[2]", "[2]", "[9]"):
        park(world, hold)
    found = world.compare()
    assert counts(found) == (1, 0, 0)
    assert (found.parked, found.excused) == (2, 1)
    assert {each.key: each.excused for each in found.examples} == {("3",): False, ("2",): True}
    park(world, "[3]")
    found = world.compare()
    assert (found.verdict, found.equal, found.excused) == ("parked", False, 2)


def test_rows_that_the_mapping_refuses(world: World) -> None:
    migrate(world.hub)
    world.mapping = "{from: public.t, to: public.t, columns: {id: id, v: {sql: 10 / d}}}"
    world.at_source("CREATE TABLE t (id integer PRIMARY KEY, d integer)")
    world.hub.execute("CREATE TABLE t (id integer PRIMARY KEY, v integer)")
    world.at_source("INSERT INTO t VALUES (1, 5), (2, 0)")
    world.hub.execute("INSERT INTO t VALUES (1, 2), (2, 1)")
    found = world.compare()
    assert (found.unmapped, *counts(found)) == (1, 0, 0, 0)
    assert "division by zero" in found.examples[0].reason
    park(world, "[2]")
    assert world.compare().verdict == "parked"


def test_values_that_the_targets_columns_refuse(world: World) -> None:
    world.at_source("CREATE TABLE t (id integer PRIMARY KEY, v text, n bigint)")
    world.hub.execute("CREATE TABLE t (id integer PRIMARY KEY, v varchar(3), n integer)")
    world.at_source("INSERT INTO t VALUES (1, 'abc', 1), (2, 'abcd', 1), (3, 'abc', 3000000000), (4, 'abc', 1)")
    world.hub.execute("INSERT INTO t VALUES (1, 'abc', 1), (4, 'abc', 1)")
    found = world.compare()
    assert (found.unmapped, *counts(found)) == (2, 0, 0, 0)
    assert {each.key for each in found.examples} == {("2",), ("3",)}
    assert sorted(each.reason.partition(":")[0] for each in found.examples) == ["column n", "column v"]


def test_values_that_cannot_be_canonical_are_counted_and_the_rest_compared(world: World) -> None:
    world.both("CREATE TABLE t (id integer PRIMARY KEY, v integer[], w text)")
    world.at_source("INSERT INTO t VALUES (1, '{{1,2},{3,4}}', 'a'), (2, '{{1,2},{3,4}}', 'b')")
    world.hub.execute("INSERT INTO t VALUES (1, NULL, 'a'), (2, NULL, '!')")
    found = world.compare()
    assert (found.unchecked, *counts(found)) == (2, 0, 0, 1)
    assert found.columns == (("w", 1),)


# --- settling --------------------------------------------------------------------------------------------------------


def test_changes_on_their_way_are_no_differences(world: World) -> None:
    world.both("CREATE TABLE t (id integer PRIMARY KEY, v text)")
    world.at_source("INSERT INTO t VALUES (1, 'new'), (2, 'b')")
    world.hub.execute("INSERT INTO t VALUES (1, 'old'), (3, 'c')")

    def arrive() -> None:
        world.hub.execute("UPDATE t SET v = 'new' WHERE id = 1")
        world.hub.execute("DELETE FROM t WHERE id = 3")
        world.hub.execute("INSERT INTO t VALUES (2, 'b') ON CONFLICT DO NOTHING")

    world.when_sleeping = arrive
    found = world.compare()
    assert found.equal
    assert found.in_flight == 3
    assert world.now < SETTLE_S


def test_a_row_that_lags_behind_its_ever_changing_source_is_settled(world: World) -> None:
    world.both("CREATE TABLE t (id integer PRIMARY KEY, v integer)")
    world.at_source("INSERT INTO t VALUES (1, 10)")
    world.hub.execute("INSERT INTO t VALUES (1, 1)")

    def goes_on() -> None:
        world.hub.execute("UPDATE t SET v = 10 WHERE id = 1")  # what the source held when the comparison began
        world.at_source("UPDATE t SET v = v + 1 WHERE id = 1")

    world.when_sleeping = goes_on
    assert world.compare().equal


def test_a_source_row_that_never_stands_still_is_not_judged(world: World) -> None:
    world.both("CREATE TABLE t (id integer PRIMARY KEY, v integer)")
    world.at_source("INSERT INTO t VALUES (1, 10), (2, 20)")
    world.hub.execute("INSERT INTO t VALUES (1, 1), (2, 2)")
    world.when_sleeping = lambda: world.at_source("UPDATE t SET v = v + 1 WHERE id = 1")
    found = world.compare()
    assert (found.unsettled, *counts(found)) == (1, 0, 0, 1)
    assert not found.equal
    assert {each.key: each.settled for each in found.examples} == {("1",): False, ("2",): True}


def test_a_key_that_was_parked_meanwhile_is_excused(world: World) -> None:
    migrate(world.hub)
    world.both("CREATE TABLE t (id integer PRIMARY KEY)")
    world.at_source("INSERT INTO t VALUES (1)")
    world.when_sleeping = lambda: park(world, "[1]")
    found = world.compare()
    assert (found.verdict, found.excused) == ("parked", 1)


# --- MariaDB ---------------------------------------------------------------------------------------------------------


def test_mariadb(maria: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_rows, "PAGE", 2)
    maria.at_source(
        "CREATE TABLE t (a bigint unsigned, b varchar(20), c enum('x','y,z'), d datetime(6), e decimal(20,3),"
        " f json, g time(3), PRIMARY KEY (b, a))"
    )
    maria.hub.execute(
        "CREATE TABLE t (a numeric(20,0), b varchar(20), c text, d timestamp, e numeric(20,3), f text, g interval,"
        " PRIMARY KEY (a, b))"
    )
    rows = [
        (18446744073709551615, "k", "y,z", "2024-02-29 12:34:56.123456", "1.100", '{"a":  1}', "12:00:00.5"),
        (18446744073709551615, "l%s'", "x", "9999-12-31 23:59:59.999999", "-0.001", None, "-838:59:59"),
        (0, "k", "x", None, "12345678901234567.123", "[]", None),
        (1, "", None, "1000-01-01", None, "''", "00:00:00"),
        (2, "", None, "1000-01-01", None, "'", "00:00:00"),
    ]
    rows = [tuple("{}" if value in ("''", "'") else value for value in row) for row in rows]
    for row in rows:
        values = ", ".join(
            "NULL" if value is None else str(value) if isinstance(value, int) else _text(value) for value in row
        )
        maria.both(f"INSERT INTO t VALUES ({values})")
    found = maria.compare()
    assert found.equal, found.examples
    assert found.source_rows == 5
    maria.hub.execute("UPDATE t SET d = d + interval '1 microsecond' WHERE b = 'k' AND a > 0")
    maria.hub.execute("DELETE FROM t WHERE b LIKE 'l%'")
    maria.hub.execute("INSERT INTO t (a, b) VALUES (18446744073709551614, 'k')")
    maria.at_source("UPDATE t SET e = e + 0.001 WHERE a = 0")
    found = maria.compare()
    assert counts(found) == (1, 1, 2)
    assert found.columns == (("d", 1), ("e", 1))


def test_mariadbs_zero_dates_are_what_debezium_makes_of_them(maria: World) -> None:
    maria.at_source("SET sql_mode = ''")
    maria.at_source(
        "CREATE TABLE t (id integer PRIMARY KEY, a date, b date NOT NULL, c datetime, d datetime(3) NOT NULL,"
        " e timestamp NULL)"
    )
    maria.hub.execute(
        "CREATE TABLE t (id integer PRIMARY KEY, a date, b date, c timestamp, d timestamp, e timestamptz)"
    )
    maria.at_source("INSERT INTO t VALUES (1, '0000-00-00', '0000-00-00', '2020-00-10', '2020-00-10', '0000-00-00')")
    maria.hub.execute("INSERT INTO t VALUES (1, NULL, '1970-01-01', NULL, '1970-01-01', NULL)")
    assert maria.compare().equal


def _text(value: object) -> str:
    return "'" + str(value).replace("'", "''") + "'"


# --- asking ----------------------------------------------------------------------------------------------------------


def test_unknown_and_missing_tables(world: World) -> None:
    with pytest.raises(Usage, match="no mapping reads or writes"):
        world.compare_all(tables=("public.nix",))
    with pytest.raises(Terminal, match="there is no table"):
        world.compare()
    world.at_source("CREATE TABLE t (id integer PRIMARY KEY, v text)")
    with pytest.raises(Terminal, match="cannot be compared") as caught:
        world.compare()
    assert "cdc run" in str(caught.value)


def test_a_user_who_may_not_read(world: World, maria: World) -> None:
    for each, grant, drop in (
        (world, "CREATE ROLE nobody_{0} LOGIN PASSWORD 'x'", "DROP ROLE nobody_{0}"),
        (maria, "CREATE USER nobody_{0} IDENTIFIED BY 'x'", "DROP USER nobody_{0}"),
    ):
        name = each.source.name[-8:]
        each.at_source("CREATE TABLE t (id integer PRIMARY KEY, v text)")
        each.hub.execute("DROP TABLE IF EXISTS t")
        each.hub.execute("CREATE TABLE t (id integer PRIMARY KEY, v text)")
        each.at_source(grant.format(name))
        each.reader = (f"nobody_{name}", "x")
        try:
            if each is maria:  # it must see the table to be denied its rows
                each.at_source(f"GRANT INSERT ON {each.source.name}.t TO nobody_{name}")
            with pytest.raises(Terminal) as caught:
                each.compare()
            assert "grant SELECT" in str(caught.value)
        finally:
            each.at_source(drop.format(name))


def test_only_some_tables(world: World) -> None:
    world.mapping = "{from: public.t, to: public.t}\n  - {from: public.u, to: public.v}"
    world.both("CREATE TABLE t (id integer PRIMARY KEY)")
    world.at_source("CREATE TABLE u (id integer PRIMARY KEY)")
    world.hub.execute("CREATE TABLE v (id integer PRIMARY KEY)")
    for name, mapping in (("public.t", "p/public.t"), ("public.u", "p/public.v"), ("public.v", "p/public.v")):
        assert [each.mapping for each in world.compare_all(tables=(name,)).tables] == [mapping]
    assert len(world.compare_all().tables) == 2


def test_a_server_that_does_not_answer(world: World) -> None:
    world.both("CREATE TABLE t (id integer PRIMARY KEY)")
    world.at_source("INSERT INTO t VALUES (1)")

    def cut() -> None:
        with psycopg.connect(world.target.dsn, autocommit=True) as admin:
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'cdc compare'"
                " AND datname = current_database()"
            )

    world.when_sleeping = cut
    with pytest.raises(Transient) as caught:
        world.compare()
    assert caught.value.where is not None


def test_the_command(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.both("CREATE TABLE t (id integer PRIMARY KEY, v text)")
    world.both("INSERT INTO t VALUES (1, 'a')")
    connections, mappings = world.write_files()
    assert cli_compare(mappings=mappings, connections=connections, output="json", settle=0) == 0
    assert json.loads(capsys.readouterr().out)["equal"] is True
    world.hub.execute("UPDATE t SET v = '[b]'")
    assert cli_compare("p", mappings=mappings, connections=connections, settle=0) == 1
    assert "different: 1 in v" in capsys.readouterr().out
    assert cli_compare("p", mappings=mappings, connections=connections, settle=0, values=True) == 1
    assert 'expected "a", is "[b]"' in capsys.readouterr().out


def test_reports_are_plain_data() -> None:
    example = Difference(What.DIFFERENT, ("1",), ("v",))
    table = TableReport("p/t", "p", "s", "t", "hub", "t", different=1, examples=(example,))
    assert json.loads(json.dumps(CompareReport((table,)).to_dict()))["tables"][0]["verdict"] == "differs"
