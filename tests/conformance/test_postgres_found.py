"""PostgreSQL tables as they are found: made by somebody else, with everything that PostgreSQL's tables can have."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cdc.errors import Terminal
from cdc.model import ColumnType, DeletePolicy, Kind, MappedRow, TargetColumn, TargetTable
from cdc.target.base import Owner
from cdc.target.postgres import PostgresTarget
from tests import tapes
from tests.conformance.found import Made, errors, held, make, prepare, refused, wider, with_values
from tests.conformance.test_tapes import CUTS
from tests.fix_stack import Database
from tests.fix_targets import PostgresBench
from tests.tapes import build, named_cases, play, rows_strategy

pytestmark = pytest.mark.database

TEXT = ColumnType(Kind.TEXT, "text")
NUMERIC = ColumnType(Kind.DECIMAL, "numeric", 12, 4)
TIMESTAMP = ColumnType(Kind.TIMESTAMP, "timestamp")
_numbers = itertools.count(1)
_SHARED = (HealthCheck.function_scoped_fixture,)

TABLES = {
    "partitioned by range": (
        "CREATE TABLE {t} (id bigint PRIMARY KEY, name text, notes text) PARTITION BY RANGE (id)",
        "CREATE TABLE {t}_low PARTITION OF {t} FOR VALUES FROM (MINVALUE) TO (2)",
        "CREATE TABLE {t}_high PARTITION OF {t} FOR VALUES FROM (2) TO (MAXVALUE)",
    ),
    "partitioned by list": (
        "CREATE TABLE {t} (notes text, id bigint PRIMARY KEY, name text) PARTITION BY LIST (id)",
        "CREATE TABLE {t}_two PARTITION OF {t} FOR VALUES IN (2)",
        "CREATE TABLE {t}_rest PARTITION OF {t} DEFAULT PARTITION BY HASH (id)",
        "CREATE TABLE {t}_rest_0 PARTITION OF {t}_rest FOR VALUES WITH (MODULUS 2, REMAINDER 0)",
        "CREATE TABLE {t}_rest_1 PARTITION OF {t}_rest FOR VALUES WITH (MODULUS 2, REMAINDER 1)",
    ),
    "partitioned by hash": (
        "CREATE TABLE {t} (id bigint PRIMARY KEY, name text, notes text) PARTITION BY HASH (id)",
        "CREATE TABLE {t}_0 PARTITION OF {t} FOR VALUES WITH (MODULUS 2, REMAINDER 0)",
        "CREATE TABLE {t}_1 PARTITION OF {t} FOR VALUES WITH (MODULUS 2, REMAINDER 1)",
    ),
    "an identity key": (
        "CREATE TABLE {t} (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text, notes text,"
        " length integer GENERATED ALWAYS AS (length(notes)) STORED, number integer GENERATED ALWAYS AS IDENTITY)",
    ),
    "domains and an enum": (
        "CREATE DOMAIN {t}_key AS bigint NOT NULL",
        "CREATE DOMAIN {t}_text AS text CHECK (value <> 'refused')",
        "CREATE DOMAIN {t}_name AS {t}_text",
        "CREATE TYPE {t}_note AS ENUM ('x', 'y', 'z', 'a', 'b', 'long', 'old', 'other', 'reused', 'lent', 'old notes',"
        " 'first', 'second',"
        " 'newest notes')",
        "CREATE TABLE {t} (id {t}_key PRIMARY KEY, name {t}_name, notes {t}_note)",
    ),
}


@pytest.fixture(scope="module", name="bench")
def postgres_bench(module_database: Database) -> Iterator[PostgresBench]:
    bench = PostgresBench(module_database.dsn)
    bench.reader.execute("CREATE SCHEMA hub")
    yield bench
    bench.close()


@pytest.mark.parametrize("found", TABLES)
def test_tapes_equal_the_oracle(bench: PostgresBench, found: str) -> None:
    made = Made(bench, TABLES[found])
    for tape in named_cases().values():
        made.check(tape, [], blocks=True)
        made.check(tape, list(range(1, len(tape))), blocks=False)


@pytest.mark.parametrize("found", TABLES)
@settings(max_examples=12, deadline=None, suppress_health_check=_SHARED)
@given(specification=rows_strategy(), cuts=CUTS, policy=st.sampled_from(list(DeletePolicy)), blocks=st.booleans())
def test_random_tapes_equal_the_oracle(
    bench: PostgresBench,
    found: str,
    specification: list[tuple[object, ...]],
    cuts: list[int],
    policy: DeletePolicy,
    blocks: bool,
) -> None:
    if policy is DeletePolicy.SOFT:
        specification = [each for each in specification if each[0] != "move"]
    Made(bench, TABLES[found]).check(build(specification), cuts, policy, blocks=blocks)


def test_a_row_without_a_partition_parks_until_there_is_one(bench: PostgresBench) -> None:
    for first in ((), [1]):  # loaded into the empty table, and upserted
        tape, table = tapes.Tape(), bench.table()
        make(bench, table, "CREATE TABLE {t} (id bigint PRIMARY KEY, name text, notes text) PARTITION BY RANGE (id)")
        make(bench, table, "CREATE TABLE {t}_low PARTITION OF {t} FOR VALUES FROM (0) TO (10)")
        rows = [tape.full(key, "a", "x", (1, key)) for key in (1, 2, 11, 3)]
        assert held(bench, table, rows, first) == {"[11]": "no_partition"}
        assert errors(bench, table) == [f"no partition of hub.{table.name} takes the row"]
        assert set(bench.visible(table)) == {(1,), (2,), (3,)}
        make(bench, table, "CREATE TABLE {t}_high PARTITION OF {t} FOR VALUES FROM (10) TO (20)")
        assert held(bench, table, [tape.full(11, "b", "x", (2, 1))]) == {}


def test_a_partitioned_table_needs_its_partition_key_in_the_mappings_key(bench: PostgresBench) -> None:
    table = bench.table()
    make(
        bench,
        table,
        "CREATE TABLE {t} (id bigint, name text, notes text, PRIMARY KEY (id, name)) PARTITION BY HASH (name)",
    )
    error = refused(bench, table)
    assert "partitioned by name" in error.what
    assert "'key:'" in str(error.hint)


def test_a_composite_key_with_the_partition_key(bench: PostgresBench) -> None:
    """A row that goes to another partition is a change of key: a delete and a create."""
    tape, base = tapes.Tape(), bench.table()
    make(
        bench,
        base,
        "CREATE TABLE {t} (id bigint, name text, notes text, PRIMARY KEY (name, id)) PARTITION BY LIST (name)",
        "CREATE TABLE {t}_a PARTITION OF {t} FOR VALUES IN ('a')",
        "CREATE TABLE {t}_b PARTITION OF {t} FOR VALUES IN ('b')",
    )
    table = msgspec.structs.replace(base, key=("id", "name"))

    def row(row: MappedRow, *key: object) -> MappedRow:
        return msgspec.structs.replace(row, key=key)

    at = (2, 1)
    moved = tape.partial(1, "b", at)
    rows = [
        row(tape.full(1, "a", "x", (1, 1)), 1, "a"),
        row(tape.full(2, "b", "y", (1, 2)), 2, "b"),
        msgspec.structs.replace(row(tape.delete(1, at), 1, "a"), moved_to=(1, "b")),
        msgspec.structs.replace(row(moved, 1, "b"), moved_from=(1, "a")),
    ]
    assert held(bench, table, rows, [2]) == {}
    query = f"SELECT id, name, notes, tableoid::regclass::text FROM hub.{table.name} ORDER BY id"
    assert bench.reader.execute(query).fetchall() == [
        (1, "b", "x", f"hub.{table.name}_b"),
        (2, "b", "y", f"hub.{table.name}_b"),
    ]


COLUMNS: dict[str, tuple[str, str, str]] = {
    "generated": ("extra text GENERATED ALWAYS AS (name || '!') STORED", "is generated", "DROP EXPRESSION"),
    "identity": (
        "extra bigint GENERATED ALWAYS AS IDENTITY",
        "GENERATED ALWAYS AS IDENTITY",
        "SET GENERATED BY DEFAULT",
    ),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_columns_that_the_table_computes_are_not_written(bench: PostgresBench, name: str) -> None:
    """Refused with what to do; that done, it works."""
    column, what, fix = COLUMNS[name]
    table = wider(
        bench.table(), TargetColumn("extra", TEXT if name == "generated" else ColumnType(Kind.INTEGER, "int8"))
    )
    make(bench, table, f"CREATE TABLE {{t}} (id bigint PRIMARY KEY, name text, notes text, {column})")
    error = refused(bench, table)
    assert what in error.what
    assert fix in str(error.hint)
    run_hint(bench, error)
    value = "text" if name == "generated" else 7
    assert held(bench, table, [with_values(tapes.Tape().full(1, "a", "x", (1, 1)), 1, "a", "x", value)]) == {}
    assert bench.rows(table, ("extra",)) == [(value,)]


def run_hint(bench: PostgresBench, error: Terminal) -> None:
    """The last statement it offers."""
    bench.reader.execute(str(error.hint).rpartition("run: ")[2].partition(";")[0])


def test_an_identity_by_default_is_written(bench: PostgresBench) -> None:
    table = wider(bench.table(), TargetColumn("extra", ColumnType(Kind.INTEGER, "int8")))
    make(
        bench,
        table,
        "CREATE TABLE {t} (id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, name text, notes text,"
        " extra bigint GENERATED BY DEFAULT AS IDENTITY)",
    )
    tape = tapes.Tape()
    rows = [with_values(tape.full(5, "a", "x", (at, 1)), 5, "a", "x", at) for at in (1, 2)]
    assert held(bench, table, rows, [1]) == {}
    assert bench.rows(table, ("id", "extra")) == [(5, 2)]


NOT_NULL = {
    "without a default": ("", False),
    "with a default": ("DEFAULT 'd'", True),
    "of a domain with a default": ("DOMAIN", True),
    "that is an identity": ("IDENTITY", True),
    "that a trigger fills": ("TRIGGER", True),
}


@pytest.mark.parametrize("name", NOT_NULL)
def test_other_columns_must_not_need_a_value(bench: PostgresBench, name: str) -> None:
    how, works = NOT_NULL[name]
    table, tape = bench.table(), tapes.Tape()
    make(bench, table, "CREATE DOMAIN {t}_filled AS text DEFAULT 'd'")
    types = {"DOMAIN": "{t}_filled NOT NULL", "IDENTITY": "bigint GENERATED ALWAYS AS IDENTITY"}
    column = types.get(how, f"text NOT NULL {how if how != 'TRIGGER' else ''}")
    make(bench, table, f'CREATE TABLE {{t}} (id bigint PRIMARY KEY, name text, notes text, "Extra Col" {column})')
    if how == "TRIGGER":
        trigger(bench, table, "new.\"Extra Col\" := 't'; RETURN new;")
    if not works:
        error = refused(bench, table)
        assert "Extra Col must not be NULL" in error.what
        hint = str(error.hint)
        assert f'run: ALTER TABLE "hub"."{table.name}" ALTER "Extra Col" SET DEFAULT …;' in hint
        run_hint(bench, error)
    assert held(bench, table, [tape.full(1, "a", "x", (1, 1)), tape.full(1, "b", "x", (2, 1))], [1]) == {}
    assert len(bench.visible(table)) == 1


def trigger(bench: PostgresBench, table: TargetTable, body: str, events: str = "INSERT OR UPDATE") -> None:
    make(
        bench,
        table,
        f"CREATE FUNCTION {{t}}_f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$",
        f"CREATE TRIGGER each BEFORE {events} ON {{t}} FOR EACH ROW EXECUTE FUNCTION {{t}}_f()",
    )


def test_a_trigger_that_lets_rows_vanish_parks_them(bench: PostgresBench) -> None:
    """Neither a row nor a delete is counted as applied that the target did not keep."""
    tape, table = tapes.Tape(), bench.table()
    make(bench, table, "CREATE TABLE {t} (id bigint PRIMARY KEY, name text, notes text)")
    trigger(bench, table, "IF new.name = 'gone' THEN RETURN NULL; END IF; RETURN new;")
    rows = [tape.full(key, "gone" if key % 3 == 0 else "a", "x", (1, key)) for key in range(1, 10)]
    assert held(bench, table, rows) == dict.fromkeys(("[3]", "[6]", "[9]"), "not_kept")
    assert len(bench.visible(table)) == 6
    make(
        bench,
        table,
        "CREATE FUNCTION {t}_d() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$",
        "CREATE TRIGGER del BEFORE DELETE ON {t} FOR EACH ROW WHEN (old.id = 1) EXECUTE FUNCTION {t}_d()",
    )
    assert held(bench, table, [tape.delete(key, (2, 0)) for key in (1, 2)]) == {"[1]": "not_kept"}
    assert (2,) not in bench.visible(table)


def test_a_trigger_that_raises_parks_its_row(bench: PostgresBench) -> None:
    for raises in ("RAISE EXCEPTION 'no'", "RAISE no_data_found", "ASSERT false"):
        tape, table = tapes.Tape(), bench.table()
        make(bench, table, "CREATE TABLE {t} (id bigint PRIMARY KEY, name text, notes text)")
        trigger(bench, table, f"IF new.name = 'bad' THEN {raises}; END IF; RETURN new;")
        rows = [tape.full(1, "a", "x", (1, 1)), tape.full(2, "bad", "x", (1, 2))]
        assert held(bench, table, rows) == {"[2]": "raised_by_trigger"}


def test_domains_and_enums_park_the_row_by_name(bench: PostgresBench) -> None:
    for cuts in ((), [1]):
        tape, table = tapes.Tape(), bench.table()
        make(
            bench,
            table,
            "CREATE DOMAIN {t}_email AS varchar(20) NOT NULL CONSTRAINT has_an_at CHECK (value LIKE '%@%')",
            "CREATE TYPE {t}_mood AS ENUM ('sad', 'Happy')",
            "CREATE TABLE {t} (id bigint PRIMARY KEY, name {t}_email, notes {t}_mood)",
        )
        rows = [
            tape.full(1, "a@b", "sad", (1, 1)),
            tape.full(2, "no at", "sad", (1, 2)),
            tape.full(3, "a@b", "happy", (1, 3)),
            tape.full(4, None, "sad", (1, 4)),
            tape.full(5, "@" * 21, "sad", (1, 5)),
            tape.full(6, "c@d", "Happy", (1, 6)),
            tape.partial(6, "e@f", (2, 6)),
            tape.full(7, "c@d", None, (1, 7)),
            tape.delete(7, (2, 7)),  # its values are NULL, which the domain refuses
        ]
        assert held(bench, table, rows, cuts) == {
            "[2]": "check_violation",
            "[3]": "value_out_of_range",
            "[4]": "not_null_violation",
            "[5]": "value_out_of_range",
        }
        assert f"constraint has_an_at of domain hub.{table.name}_email" in " ".join(errors(bench, table))
        assert bench.visible(table) == {(1,): (1, "a@b", "sad"), (6,): (6, "e@f", "Happy")}


def test_names_that_need_quotes(bench: PostgresBench) -> None:
    names = ('the "id"', "50% {off}", "select; --")
    base = bench.table()
    columns = tuple(
        msgspec.structs.replace(column, name=name) for column, name in zip(base.columns, names, strict=True)
    )
    for policy in DeletePolicy:
        table = msgspec.structs.replace(
            base,
            namespace="Hub %s of %(position)s",
            name=f'a "table" {policy} é',
            columns=columns,
            key=names[:1],
            on_delete=policy,
            soft_delete="is % gone" if policy is DeletePolicy.SOFT else None,
        )
        tape = tapes.Tape()
        rows = [
            tape.full(1, "a", "x", (1, 1)),
            tape.full(2, "b", "y", (1, 2)),
            tape.full(4, "d", "z", (1, 4)),
            tape.delete(1, (2, 1), moved_to=3),
            tape.partial(3, "c", (2, 1), moved_from=1),
            tape.truncate((1, 4)),
            tape.partial(2, "e", (3, 1)),
        ]
        target, owner = bench.target(), Owner(f"quoted {policy}", "target")
        with closing(target):
            applier = play(target, table, rows, [1, 2, 3, 4], owner)
            with target.begin() as transaction:
                swept = transaction.sweep(table, rows[-1].position, [(2,)])
        assert isinstance(target, PostgresTarget)
        oracle = tapes.expected(table, rows)
        assert set(applier.held) == {(table.mapping, f"[{key[0]}]") for key in oracle.parked}
        assert swept.rows == len([row for key, row in oracle.rows.items() if key != (2,) and not row.deleted])


def test_row_security_that_hides_rows_is_refused(bench: PostgresBench) -> None:
    table, tape = bench.table(), tapes.Tape()
    make(bench, table, "CREATE TABLE {t} (id bigint PRIMARY KEY, name text, notes text, _cdc_position bytea)")
    role = f"role_{next(_numbers)}_{table.name}"
    prepare(bench, table)  # the state and its tables; a superuser sees everything
    admin = bench.reader
    try:
        admin.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
        admin.execute(f"GRANT USAGE ON SCHEMA hub, cdc TO {role}")
        admin.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA cdc, hub TO {role}")
        make(bench, table, "ALTER TABLE {t} ENABLE ROW LEVEL SECURITY")
        make(bench, table, f"CREATE POLICY a_few ON {{t}} TO {role} USING (id < 100)")

        class AsRole(PostgresBench):
            def __init__(self) -> None:
                self.dsn, self.reader = bench.dsn, bench.reader

            def connect(self) -> Any:
                made = super().connect()
                made.execute(f"SET ROLE {role}")
                return made

        error = refused(AsRole(), table)
        assert "row security hides rows" in error.what
        statement = str(error.hint).removeprefix("run: ").partition("; ")[0]
        admin.execute(statement)
        assert held(AsRole(), table, [tape.full(200, "a", "x", (1, 1)), tape.delete(200, (2, 1))], [1]) == {}
        assert bench.visible(table) == {}
    finally:
        admin.execute(f"DROP OWNED BY {role}")
        admin.execute(f"DROP ROLE {role}")


def test_what_is_no_durable_table_is_refused(bench: PostgresBench) -> None:
    view, unlogged, part = bench.table(), bench.table(), bench.table()
    make(bench, view, "CREATE VIEW {t} AS SELECT 1::bigint AS id, ''::text AS name, ''::text AS notes")
    assert "no table" in refused(bench, view).what
    make(bench, unlogged, "CREATE UNLOGGED TABLE {t} (id bigint PRIMARY KEY, name text, notes text)")
    error = refused(bench, unlogged)
    assert "unlogged" in error.what
    run_hint(bench, error)
    prepare(bench, unlogged)
    make(bench, part, "CREATE TABLE {t} (id bigint PRIMARY KEY, name text, notes text) PARTITION BY HASH (id)")
    make(bench, part, "CREATE UNLOGGED TABLE {t}_0 PARTITION OF {t} FOR VALUES WITH (MODULUS 1, REMAINDER 0)")
    assert "unlogged" in refused(bench, part).what
