"""What a mapping would mean for a table, asked of every target that makes tables: what is told is what is then done."""

from __future__ import annotations

from contextlib import closing

import msgspec

from cdc.model import ColumnType, Kind, TargetColumn, TargetTable
from cdc.target.base import Owner
from tests import tapes
from tests.fix_targets import Bench, differs

MORE = TargetColumn("more", ColumnType(Kind.INTEGER, "int8"))


def prepared(bench: Bench, table: TargetTable) -> None:
    target = bench.target()
    target.open(Owner(table.name, "target"))
    with closing(target):
        target.prepare(table)


def test_the_statements_are_those_that_prepare_the_table(bench: Bench) -> None:
    differs(bench, "tables of somebody else")
    table = bench.table()
    outlook = bench.outlook(table, count=True)
    assert (outlook.there, outlook.rows, outlook.refused) == (False, None, "")
    assert "CREATE TABLE" in outlook.statements[-1]
    prepared(bench, table)
    outlook = bench.outlook(table, count=True)
    assert (outlook.there, outlook.rows, outlook.statements, outlook.refused) == (True, 0, (), "")
    assert {"id", "name", "notes"} <= outlook.columns.keys()

    wider = msgspec.structs.replace(table, columns=(*table.columns, MORE))
    outlook = bench.outlook(wider)
    (statement,) = outlook.statements
    assert ("ADD COLUMN" in statement, "more" in statement, outlook.refused) == (True, True, "")
    assert "more" not in outlook.columns
    assert "more" not in bench.outlook(table).columns, "looking adds nothing"
    bench.run(statement.replace("{", "{{").replace("}", "}}"))
    assert bench.outlook(wider).statements == ()
    prepared(bench, wider)
    assert outlook.retyping["more"]


def test_a_key_that_no_index_holds_is_refused_with_what_helps(bench: Bench) -> None:
    differs(bench, "tables of somebody else")
    table = bench.table()
    prepared(bench, table)
    outlook = bench.outlook(msgspec.structs.replace(table, key=("name",)))
    assert "unique index" in outlook.refused or "compares as" in outlook.refused, outlook.refused


def test_rows_stand_beside_those_that_are_there(bench: Bench) -> None:
    differs(bench, "tables of somebody else")
    table = bench.table()
    t = tapes.Tape()
    tape = [t.full(1, "a", None, (1, 1)), t.full(2, "it's\t50%", "x", (1, 2))]
    prepared(bench, table)
    with closing(bench.target()) as target:
        tapes.play(target, table, tape, (), Owner(table.name, "target"))
    with closing(bench.beside(table)) as beside:
        same, other, new = beside.pairs([(1, "a", None), (2, "it's", "x"), (3, "c", None)])
        assert same.there == same.wanted
        assert other.there is not None
        assert [was != now for was, now in zip(other.there, other.wanted, strict=True)] == [False, True, False]
        assert other.there[1] == "it's\t50%"
        assert new.there is None
