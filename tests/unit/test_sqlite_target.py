"""SQLite's own ways: types of tables that are there, names, locks, files that cannot be used."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from cdc.errors import CdcError, Poison, Terminal, Transient
from cdc.model import ColumnType, DeletePolicy, Kind, Position, TargetColumn, TargetTable, Write
from cdc.target.base import Advance, Owner, PoisonRow
from cdc.target.sqlite import SqliteTarget
from cdc.target.sqlite_database import SqliteDatabase
from cdc.target.sqlite_types import declared_type, encoder, storage_of
from cdc.target.sqlstate import _VERSIONS
from cdc.target.sqlstate_operator import SqlOperator
from tests import tapes
from tests.tapes import PARTITION, play

OWNER = Owner("p", "t")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "target.db"


def target_at(path: Path, wait_s: float = 5.0) -> SqliteTarget:
    return SqliteTarget(lambda create: SqliteDatabase(path, create=create, wait_s=wait_s))


def execute(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def prepared(path: Path, table: TargetTable) -> None:
    target = target_at(path)
    target.open(OWNER)
    with closing(target):
        target.prepare(table)


def table_of(column: ColumnType, name: str = "t") -> TargetTable:
    columns = (TargetColumn("id", ColumnType(Kind.INTEGER, "int8"), nullable=False), TargetColumn("v", column))
    return TargetTable(f"p/main.{name}", "main", name, columns, ("id",), DeletePolicy.DELETE)


DECIMAL, TEXT = ColumnType(Kind.DECIMAL, "numeric", 10, 2), ColumnType(Kind.TEXT, "text")
FLOAT, BYTES, DATE = ColumnType(Kind.FLOAT64, "float8"), ColumnType(Kind.BYTES, "bytea"), ColumnType(Kind.DATE, "date")


@pytest.mark.parametrize(
    ("declared", "column"),
    [
        ("NUMERIC(10,2)", DECIMAL),  # would make a float of '1.10'
        ("REAL", DECIMAL),
        ("INTEGER", TEXT),
        ("NUMERIC", TEXT),  # '007' would become 7
        ("REAL", BYTES),
        ("DECIMAL", FLOAT),
        ("POINT", TEXT),  # holds INT
    ],
)
def test_a_column_that_would_spoil_values_is_refused(path: Path, declared: str, column: ColumnType) -> None:
    execute(path, f"CREATE TABLE t (id INTEGER PRIMARY KEY, v {declared})")
    with pytest.raises(Terminal, match="does not hold every") as refused:
        prepared(path, table_of(column))
    assert refused.value.hint == f"declare it {declared_type(column)}"


@pytest.mark.parametrize(
    ("declared", "column"),
    [
        ("VARCHAR(20)", DECIMAL),
        ("", DECIMAL),
        ("DATE", DATE),
        ("BLOB", TEXT),  # converts nothing
        ("DOUBLE PRECISION", FLOAT),
        ("BIGINT", ColumnType(Kind.BOOLEAN, "bool")),
    ],
)
def test_other_columns_are_taken(path: Path, declared: str, column: ColumnType) -> None:
    execute(path, f"CREATE TABLE t (id INTEGER PRIMARY KEY, v {declared})")
    prepared(path, table_of(column))


def test_authors_types_of_other_dialects_say_what_they_can() -> None:
    assert declared_type(TEXT, "varchar(20)") == "TEXT"
    assert declared_type(DECIMAL, "numeric(10,2)") == "TEXT"
    assert declared_type(ColumnType(Kind.INTEGER, "int8"), "bigint") == "INTEGER"
    assert declared_type(ColumnType(Kind.INTERVAL, "interval"), "interval") == "TEXT"
    assert declared_type(DECIMAL, "bigint") == "INTEGER"
    assert declared_type(TEXT, "bigint") == "TEXT"  # it would not hold every text
    assert storage_of("POINT", strict=False) == "INTEGER"
    assert storage_of("ANY", strict=False) == "NUMERIC"
    assert storage_of("ANY", strict=True) == "ANY"


def test_values_beyond_a_column_are_refused() -> None:
    whole = encoder("v", DECIMAL, "INTEGER", "t")
    real = encoder("v", FLOAT, "REAL", "t")
    text = encoder("v", BYTES, "TEXT", "t")
    assert whole is not None
    assert real is not None
    assert text is not None
    assert (whole("12.00"), whole("-3"), text("é".encode())) == (12, -3, "é")
    for convert, value in ((whole, "1.5"), (whole, "NaN"), (real, float("nan")), (text, b"\xff")):
        with pytest.raises(Poison) as refused:
            convert(value)
        assert refused.value.reason == "value_out_of_range"


@pytest.mark.parametrize(
    "definition",
    [
        "id INTEGER, v TEXT",
        "id INTEGER, v TEXT, UNIQUE (id, v)",
        "id TEXT COLLATE NOCASE PRIMARY KEY, v TEXT",  # 'a' and 'A' would be one row
    ],
)
def test_a_table_without_the_key_is_refused(path: Path, definition: str) -> None:
    execute(path, f"CREATE TABLE t ({definition})")
    table = TargetTable("p/main.t", "main", "t", (TargetColumn("id", TEXT), TargetColumn("v", TEXT)), ("id",))
    if "INTEGER" in definition:
        table = table_of(TEXT)
    with pytest.raises(Terminal, match="no unique index") as refused:
        prepared(path, table)
    assert refused.value.hint is not None
    execute(path, "DROP TABLE t", "CREATE TABLE t (id INTEGER, v TEXT)", refused.value.hint.removeprefix("run: "))
    prepared(path, table_of(TEXT))


def test_a_generated_column_takes_no_values(path: Path) -> None:
    execute(path, "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT AS ('x' || id))")
    with pytest.raises(Terminal, match="v is generated"):
        prepared(path, table_of(TEXT))


def test_two_tables_of_one_name(path: Path) -> None:
    one, other = tapes.table("b_c"), tapes.table("c")
    columns = {"columns": one.columns, "key": one.key, "partials": True}
    prepared(path, TargetTable("p/a.b_c", "a", "b_c", **columns))
    with pytest.raises(Terminal, match=r"both the table a_b_c"):
        prepared(path, TargetTable("p/a_b.c", "a_b", other.name, **columns))


def test_names_are_quoted(path: Path) -> None:
    column = TargetColumn('say "hi"; --', TEXT)
    key = TargetColumn("select", ColumnType(Kind.INTEGER, "int8"), nullable=False)
    table = TargetTable("p'q/main.order", "main", 'order "by"', (key, column), ("select",), partials=True)
    tape = tapes.Tape()
    rows = [tape.full(1, "a", None, (1, 1)), tape.delete(1, (2, 1), moved_to=2)]
    target = target_at(path)
    with closing(target):
        target.open(OWNER)
        target.prepare(table)
        with target.begin() as transaction:
            for row in rows:
                values = None if row.values is None else row.values[:2]
                changed = Write(msgspec.structs.replace(row, values=values), row.position)
                assert transaction.write(table, [changed]) == {}
        assert target.purge(-1) == 2


def test_a_writer_waits_for_another_and_then_says_so(path: Path) -> None:
    first, second = target_at(path), target_at(path, wait_s=0.05)
    first.open(OWNER)
    second.open(OWNER)
    with closing(first), closing(second):
        first.take({PARTITION: "id"})
        with first.begin() as transaction:
            with pytest.raises(Transient, match="SQLITE_BUSY") as busy:
                second.take({PARTITION: "id"})
            assert "somebody else is writing" in str(busy.value)
            assert [mark.fence for mark in second.watermarks()] == [1]  # reading waits for nobody
            transaction.advance([Advance(PARTITION, 1, None, 5)])
        assert [(mark.next, mark.fence) for mark in second.take({PARTITION: "id"})] == [(5, 2)]


def no_folder(path: Path) -> Path:
    return path.parent / "nowhere" / "target.db"


def no_database(path: Path) -> Path:
    path.write_bytes(b"this is the file of another program" * 100)
    return path


def a_folder(path: Path) -> Path:
    path.mkdir()
    return path


@pytest.mark.parametrize("broken", [no_folder, no_database, a_folder])
def test_a_file_that_cannot_be_used(path: Path, broken: Callable[[Path], Path]) -> None:
    with pytest.raises(Terminal) as refused:
        target_at(broken(path)).open(OWNER)
    assert refused.value.hint
    assert str(path.parent) in str(refused.value)


def test_a_newer_release_has_been_here(path: Path) -> None:
    prepared(path, table_of(TEXT))
    newest = len(_VERSIONS)
    execute(path, f"INSERT INTO cdc_state_version VALUES ({newest + 1}, 0)")
    prepared(path, table_of(TEXT))  # the next release runs side by side
    execute(path, f"INSERT INTO cdc_state_version VALUES ({newest + 2}, 0)")
    with pytest.raises(Terminal, match=f"state has version {newest + 2}"):
        prepared(path, table_of(TEXT))


def test_an_operator_makes_nothing_by_looking(path: Path) -> None:
    operator = SqlOperator(lambda create: SqliteDatabase(path, create=create))
    operator.open(OWNER)
    assert (operator.partitions(), operator.epochs(), operator.record(1)) == ([], [], None)
    assert not path.exists()
    prepared(path, table_of(TEXT))
    assert operator.partitions() == []
    operator.request_retry([1])
    operator.close()


def test_a_constraint_names_no_value(path: Path) -> None:
    execute(path, "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT NOT NULL, notes TEXT CHECK (notes <> 'secret'))")
    table, tape, target = tapes.table("t"), tapes.Tape(), target_at(path)
    execute(path, "ALTER TABLE t RENAME TO hub_t")
    with closing(target):
        reasons = play(
            target, table, [tape.full(1, None, "x", (1, 1)), tape.full(2, "a", "secret", (1, 2))], [], OWNER
        ).held
        assert sorted(reasons.values()) == ["check_violation", "not_null_violation"]
        held = target.queue(table.mapping, ["[2]"])
        assert "secret" not in held[0].error


def test_a_text_that_is_no_unicode_is_one_bad_row(path: Path) -> None:
    tape, table, target = tapes.Tape(), tapes.table("t"), target_at(path)
    with closing(target):
        applier = play(target, table, [tape.full(1, "\ud800", "x", (1, 1)), tape.full(2, "a", "x", (1, 2))], [], OWNER)
    assert applier.held == {(table.mapping, "[1]"): "value_out_of_range"}


def test_a_number_beyond_64_bits_is_one_bad_row(path: Path) -> None:
    tape, table, target = tapes.Tape(), tapes.table("t"), target_at(path)
    with closing(target):
        rows = [tape.full(1 << 63, "beyond", "x", (1, 1)), tape.full(-(1 << 63), "least", "x", (1, 2))]
        applier = play(target, table, rows, [], OWNER)
        assert target.database.rows("SELECT id FROM hub_t") == [(-(1 << 63),)]
    assert list(applier.held.values()) == ["value_out_of_range"]


def test_positions_compare_as_bytes(path: Path) -> None:
    """256 is later than 255, also where a text of the numbers would say otherwise."""
    tape, table, target = tapes.Tape(), tapes.table("t"), target_at(path)
    with closing(target):
        rows = [tape.full(1, "new", "x", (256, 1)), tape.full(1, "old", "x", (255, 9))]
        play(target, table, rows, [1], OWNER)
        ((name, packed),) = target.database.rows("SELECT name, _cdc_position FROM hub_t")
    assert (name, Position.unpack(packed)) == ("new", Position(1, 256, 1))


def test_every_error_of_sqlite_is_ours(path: Path) -> None:
    with closing(SqliteDatabase(path)) as database:
        database.run("CREATE TABLE t (id INTEGER NOT NULL)")
        for statement, kind in (("SELECT * FROM nowhere", Terminal), ("INSERT INTO t VALUES (NULL)", PoisonRow)):
            with pytest.raises(CdcError) as caught:
                database.run(statement)
            assert isinstance(caught.value, kind)
