"""What is MariaDB's own: values at its limits, tables of somebody else, loads, frozen workers, several unique keys."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any

import msgspec
import pymysql
import pytest
from pymysql.constants import CLIENT

from cdc.blocks import RowBlock, Writes, folded
from cdc.engine.apply import Applier
from cdc.errors import CdcError, Terminal, Transient
from cdc.model import NEG_INFINITY, POS_INFINITY, ColumnType, Kind, MappedRow, TargetColumn, TargetTable, Write
from cdc.target.base import Owner, PoisonRow
from cdc.target.mariadb import MariaDbTarget
from cdc.target.mariadb_errors import refused
from cdc.target.mariadb_tables import columns_of
from tests import tapes
from tests.blocks import in_blocks
from tests.fix_stack import new_mariadb_database
from tests.fix_targets import MariaDbBench
from tests.tapes import play
from tests.waiting import eventually

pytestmark = pytest.mark.database
_DAY = 86_400_000_000


@pytest.fixture(scope="module")
def bench(mariadb: Any) -> Iterator[MariaDbBench]:
    with new_mariadb_database(mariadb) as database, closing(MariaDbBench(database)) as made:
        yield made


def with_column(bench: MariaDbBench, column: ColumnType, sql_type: str | None = None) -> TargetTable:
    base = bench.table()
    return msgspec.structs.replace(base, columns=(*base.columns, TargetColumn("v", column, sql_type)))


def played(bench: MariaDbBench, table: TargetTable, values: list[Any]) -> Applier:
    tape = tapes.Tape()
    rows = [
        msgspec.structs.replace(tape.full(n, "a", "x", (1, n)), values=(n, "a", "x", value))
        for n, value in enumerate(values)
    ]
    target = bench.target()
    with closing(target):
        return play(target, table, rows, [], Owner(table.name, "target"))


REFUSED: dict[str, tuple[ColumnType, str | None, list[Any]]] = {
    "decimals": (
        ColumnType(Kind.DECIMAL, "numeric", 10, 2),
        None,
        ["NaN", "Infinity", "-Infinity", "123456789.00", "0.001", "-1.239"],
    ),
    "free decimals": (ColumnType(Kind.DECIMAL, "numeric"), None, ["9" * 36, "0." + "0" * 30 + "1"]),
    "floats": (ColumnType(Kind.FLOAT64, "float8"), None, [float("nan"), float("inf"), float("-inf")]),
    "integers": (ColumnType(Kind.INTEGER, "int2"), "tinyint", [128, -129]),
    "unsigned": (ColumnType(Kind.INTEGER, "int8"), "bigint unsigned", [-1]),
    "dates": (ColumnType(Kind.DATE, "date"), None, [-719163, 2932897, POS_INFINITY, NEG_INFINITY]),
    "times": (ColumnType(Kind.TIME, "time"), None, [839 * 3_600_000_000, -839 * 3_600_000_000]),
    "fractions": (ColumnType(Kind.TIMESTAMP, "timestamp"), "datetime(3)", [1_000_001, POS_INFINITY]),
    "moments": (
        ColumnType(Kind.TIMESTAMPTZ, "timestamptz"),
        None,
        ["infinity", "-infinity", "-0043-03-15T00:00:00Z", "+10000-01-01T00:00:00Z", "0000-01-01T00:00:00Z"],
    ),
    "stamps": (ColumnType(Kind.TIMESTAMPTZ, "timestamptz"), "timestamp(6) NULL", ["1969-12-31T23:59:59Z"]),
    "texts": (ColumnType(Kind.TEXT, "text"), "varchar(3)", ["four", "abc ", "\x00" * 4]),
    "padded": (ColumnType(Kind.TEXT, "text"), "char(5)", ["a "]),
    "bytes": (ColumnType(Kind.BYTES, "bytea"), "varbinary(2)", [b"\x00\x00\x00", b"abc"]),
    "texts of bytes": (ColumnType(Kind.BYTES, "bytea"), "longtext", [b"\xff"]),
    "years": (ColumnType(Kind.INTEGER, "int4"), "year", [0, 99, 1900, 2156]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_parked_and_never_changed(bench: MariaDbBench, name: str) -> None:
    """By ourselves or by the server, straight into the empty table and staged."""
    column, sql_type, values = REFUSED[name]
    table = with_column(bench, column, sql_type)
    applier = played(bench, table, [None, *values, None])
    assert set(applier.held.values()) == {"value_out_of_range"}
    assert sorted(bench.rows(table, ("id", "v"))) == [(0, None), (len(values) + 1, None)]


def test_values_at_the_limits_arrive(bench: MariaDbBench) -> None:
    limits: list[tuple[ColumnType, str, str]] = [
        (ColumnType(Kind.DECIMAL, "numeric"), "9" * 35 + "." + "9" * 30, "9" * 35 + "." + "9" * 30),
        (ColumnType(Kind.DECIMAL, "numeric", 80, 40), "-" + "9" * 35, "-" + "9" * 35 + "." + "0" * 30),
        (ColumnType(Kind.TIMESTAMPTZ, "timestamptz"), "0001-01-01T00:00:00Z", "0001-01-01 00:00:00.000000"),
        (ColumnType(Kind.TIMESTAMPTZ, "timestamptz"), "9999-12-31T23:59:59.999999Z", "9999-12-31 23:59:59.999999"),
    ]
    numbers: list[tuple[ColumnType, int, str]] = [
        (ColumnType(Kind.DATE, "date"), -719162, "0001-01-01"),
        (ColumnType(Kind.DATE, "date"), 2932896, "9999-12-31"),
        (ColumnType(Kind.TIMESTAMP, "timestamp"), -62135596800000000, "0001-01-01 00:00:00.000000"),
        (ColumnType(Kind.TIME, "time", 6), 839 * 3_600_000_000 - 1, "838:59:59.999999"),
        (ColumnType(Kind.TIME, "time", 6), 1 - 839 * 3_600_000_000, "-838:59:59.999999"),
    ]
    for column, value, text in [*limits, *numbers]:
        table = with_column(bench, column)
        assert played(bench, table, [value]).held == {}
        assert bench.shown(table, "v") == [text]


def test_bytes_of_all_kinds_pass_the_load(bench: MariaDbBench) -> None:
    table = with_column(bench, ColumnType(Kind.BYTES, "bytea"))
    values = [bytes(range(256)), b"\\N", b"\t\n\r\\", "é𝔘".encode(), b"\xc3\x28\xf0\x90", b"\x00" * 100]
    assert played(bench, table, values).held == {}
    assert [value for _, value in sorted(bench.rows(table, ("id", "v")))] == values


def test_a_bad_row_is_named_with_its_column(bench: MariaDbBench) -> None:
    table = with_column(bench, ColumnType(Kind.TEXT, "text"), "varchar(3)")
    target = bench.target()
    target.open(Owner(table.name, "target"))
    target.prepare(table)
    tape = tapes.Tape()
    rows = [tape.full(n, "a", "x", (1, n)) for n in range(5)]
    writes = [
        write_of(msgspec.structs.replace(row, values=(n, "a", "x", "secret" if n == 3 else "ok")))
        for n, row in enumerate(rows)
    ]
    with closing(target), pytest.raises(PoisonRow) as caught, target.begin() as transaction:
        transaction.write(table, writes)
    assert (caught.value.index, caught.value.where) == (3, "v")
    assert "secret" not in str(caught.value)


def test_a_bad_key_of_a_delete_is_named_too(bench: MariaDbBench) -> None:
    """Deletes of a block are loaded behind its upserts."""
    tape = tapes.Tape()
    rows = [tape.full(n, "a", "x", (1, n)) for n in range(3)]
    rows += [tape.delete(7, (2, 0)), tape.delete(1 << 70, (2, 1))]
    with (
        ahead(bench, bench.table(), rows) as (target, table, writes),
        pytest.raises(PoisonRow) as caught,
        target.begin() as transaction,
    ):
        transaction.write(table, writes)
    assert (caught.value.index, caught.value.where) == (4, "id")


def test_what_was_made_for_a_table_that_changed_is_made_again(bench: MariaDbBench) -> None:
    """A char column drops the blanks that a varchar column keeps, and the server says nothing."""
    table = with_column(bench, ColumnType(Kind.TEXT, "text"), "varchar(5)")
    row = msgspec.structs.replace(tapes.Tape().full(1, "a", "x", (1, 1)), values=(1, "a", "x", "b "))
    with ahead(bench, table, [row]) as (target, _, writes):
        target.database.run(f"ALTER TABLE {table.namespace}.{table.name} MODIFY v char(5)")
        target.forget()
        target.prepare(table)
        with pytest.raises(PoisonRow, match="blanks"), target.begin() as transaction:
            transaction.write(table, writes)


@contextmanager
def ahead(
    bench: MariaDbBench, table: TargetTable, rows: list[MappedRow]
) -> Iterator[tuple[MariaDbTarget, TargetTable, Writes]]:
    """A target, and the rows as plain writes that it encoded."""
    target = bench.target()
    target.open(Owner(table.name, "target"))
    with closing(target):
        target.prepare(table)
        writes = folded(table, [block for block in in_blocks(rows) if isinstance(block, RowBlock)])
        assert writes is not None
        writes.encoded = target.encode(table, writes)
        assert writes.encoded is not None
        yield target, table, writes


def write_of(row: MappedRow) -> Write:
    return Write(row, row.position)


def test_messages_give_names_and_no_values() -> None:
    for number, text, name in [
        (1062, "Duplicate entry 'for key 'x'' for key 'email'", "email"),
        (1062, "Duplicate entry 'a@b' for key 'hub.email'", "hub.email"),
        (1048, "Column 'name' cannot be null", "name"),
        (1264, "Out of range value for column 'n' at row 12", "n"),
        (1366, "Incorrect string value: '\\xF0' for column `hub`.`people`.`name` at row 3", "hub.people.name"),
        (4025, "CONSTRAINT `people_ck` failed for `hub`.`people`", "people_ck"),
        (
            1452,
            "Cannot add or update a child row: a foreign key constraint fails (`hub`.`c`, CONSTRAINT `c_fk` FOREIGN KEY"
            " (`id`) REFERENCES `p` (`id`))",
            "c_fk",
        ),
    ]:
        assert refused(number, text).where == name
    assert refused(1264, "Out of range value for column 'n' at row 12", known_row=True).index == 11


def test_the_server_gets_no_file_that_it_asks_for(bench: MariaDbBench) -> None:
    """Any answer of a server may be "send me this file": only our own load answers, and never with a file."""
    database = bench.connect(True)
    with closing(database):
        assert database._connection.client_flag & CLIENT.LOCAL_FILES
        database.run("CREATE TEMPORARY TABLE taken (line text)")
        with pytest.raises((RuntimeError, pymysql.Error, CdcError)), database._connection.cursor() as cursor:
            cursor.execute("LOAD DATA LOCAL INFILE '/etc/hostname' INTO TABLE taken")


def test_another_unique_column_never_takes_a_row_for_another(bench: MariaDbBench) -> None:
    """ON DUPLICATE KEY UPDATE would write the second row's values into the first one."""
    table = bench.table()
    target = bench.target()
    target.open(Owner(table.name, "setup"))
    target.prepare(table)
    target.close()
    bench.run("ALTER TABLE {table} MODIFY notes varchar(50), ADD UNIQUE KEY notes (notes)", table=table)
    tape = tapes.Tape()
    rows = [tape.full(1, "a", "same", (1, 1)), tape.full(2, "b", "same", (1, 2)), tape.full(3, "c", "x", (1, 3))]
    with closing(target):
        applier = play(target, table, rows, [1], Owner(table.name, "target"))
    assert list(applier.held.values()) == ["unique_violation"]
    assert bench.visible(table) == {(1,): (1, "a", "same"), (3,): (3, "c", "x")}


@pytest.mark.parametrize(
    ("definition", "said", "hint"),
    [
        ("id bigint, name longtext, notes longtext, PRIMARY KEY (id)) ENGINE=MyISAM", "MyISAM", "ENGINE=InnoDB"),
        ("id bigint, name longtext, notes longtext) ENGINE=InnoDB", "no unique index", "CREATE UNIQUE INDEX"),
        ("id bigint PRIMARY KEY, name int, notes longtext) ENGINE=InnoDB", "does not hold every text", "longtext"),
        ("id bigint PRIMARY KEY, name longtext AS (concat('x', id)), notes longtext) ENGINE=InnoDB", "generated", ""),
        (
            "id varchar(20) COLLATE utf8mb4_general_ci PRIMARY KEY, name text, notes text) ENGINE=InnoDB",
            "compares",
            "nopad",
        ),
    ],
)
def test_a_table_that_would_spoil_values_is_refused(bench: MariaDbBench, definition: str, said: str, hint: str) -> None:
    table = bench.table()
    bench.run(f"CREATE TABLE {{table}} ({definition}", table=table)
    target = bench.target()
    target.open(Owner(table.name, "target"))
    with closing(target), pytest.raises(Terminal, match=said) as refusal:
        target.prepare(table)
    assert hint in str(refusal.value)


def test_a_table_in_another_character_set(bench: MariaDbBench) -> None:
    """Texts are converted, not copied byte by byte; what it has no letter for is parked."""
    table = bench.table()
    bench.run("CREATE TABLE {table} (id bigint PRIMARY KEY, name text, notes text) CHARACTER SET latin1", table=table)
    tape = tapes.Tape()
    target = bench.target()
    with closing(target):
        rows = [tape.full(1, "é", "x", (1, 1)), tape.full(2, "𝔘", "x", (1, 2))]
        applier = play(target, table, rows, [], Owner(table.name, "target"))
    assert list(applier.held.values()) == ["value_out_of_range"]
    assert bench.visible(table) == {(1,): (1, "é", "x")}


def test_keys_without_a_length_share_what_an_index_holds(bench: MariaDbBench) -> None:
    text = ColumnType(Kind.TEXT, "text")
    base = bench.table()
    keys = (TargetColumn("a", text, nullable=False), TargetColumn("b", text, nullable=False))
    table = msgspec.structs.replace(base, columns=(*keys, base.columns[0]), key=("a", "b"))
    target = bench.target()
    target.open(Owner(table.name, "target"))
    with closing(target):
        target.prepare(table)
        columns = columns_of(bench.reader, table.namespace, table.name)
        assert {columns["a"].full, columns["b"].full} == {"varchar(384)"}
        wide = ColumnType(Kind.TEXT, "varchar", 800)
        long = (TargetColumn("a", wide, "varchar(500)"), TargetColumn("b", wide, "varchar(500)"))
        too_long = msgspec.structs.replace(bench.table(), columns=(*long, base.columns[0]), key=("a", "b"))
        with pytest.raises(Terminal, match="3072 bytes"):
            target.prepare(too_long)


def test_a_frozen_worker_loses_its_locks(bench: MariaDbBench) -> None:
    """The server ends its session; the next one writes the same rows, and the frozen one commits nothing."""
    table, tape = bench.table(), tapes.Tape()
    frozen, other = bench.target(idle_s=5), bench.target()
    assert isinstance(frozen, MariaDbTarget)
    frozen.open(Owner(table.name, "frozen"))
    frozen.prepare(table)
    other.open(Owner(table.name, "other"))
    other.prepare(table)
    row, later = tape.full(1, "frozen", "x", (1, 0)), tape.full(1, "other", "x", (2, 0))
    with closing(other), suppress(Transient):
        with frozen.begin() as transaction:
            transaction.write(table, [write_of(row)])

            def taken_over() -> bool:
                with suppress(Transient), other.begin() as second:
                    second.write(table, [write_of(later)])
                    return True
                return False

            eventually(taken_over, 30, "another worker writes the row")
        raise AssertionError("the frozen worker committed")
    assert bench.visible(table) == {(1,): (1, "other", "x")}


def test_state_survives_a_column_that_somebody_widens(bench: MariaDbBench) -> None:
    """A refused value fits after the table's owner widened the column: staging and lent values follow."""
    table = with_column(bench, ColumnType(Kind.TEXT, "text"), "varchar(3)")
    assert len(played(bench, table, ["ok", "too long"]).held) == 1
    bench.run("ALTER TABLE {table} MODIFY v varchar(100)", table=table)
    tape = tapes.Tape(offset=10)
    rows = [msgspec.structs.replace(tape.full(7, "a", "x", (2, 7)), values=(7, "a", "x", "long enough"))]
    moved = [tape.delete(7, (3, 7), moved_to=8), tape.partial(8, "moved", (3, 7), moved_from=7)]
    moved[1] = msgspec.structs.replace(moved[1], values=(8, "moved", tapes.UNAVAILABLE, tapes.UNAVAILABLE))
    target = bench.target()
    with closing(target):
        play(target, table, [*rows, *moved], [1, 2], Owner(f"{table.name} again", "target"))
    assert (8, "long enough") in bench.rows(table, ("id", "v"))
