"""Every target's write path equals the oracle: named cases in every cut, then random tapes."""

from __future__ import annotations

import itertools
from contextlib import closing

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cdc.model import ColumnType, DeletePolicy, Kind, MappedRow, TargetColumn, TargetTable
from cdc.target.base import Owner
from tests import tapes
from tests.fix_targets import Bench, differs
from tests.tapes import REFUSED_TEXT, build, expected, named_cases, play, rows_strategy

CUTS = st.lists(st.integers(1, 20), max_size=4)
_SHARED = (HealthCheck.function_scoped_fixture,)
_numbers = itertools.count(1)


@pytest.mark.parametrize("policy", list(DeletePolicy))
@pytest.mark.parametrize("name", named_cases())
def test_named_cases(bench: Bench, name: str, policy: DeletePolicy) -> None:
    tape = named_cases()[name]
    for cuts in ([], list(range(1, len(tape)))):
        bench.check(tape, cuts, policy, blocks=False)
        bench.check(tape, cuts, policy, blocks=True)


@settings(max_examples=120, deadline=None, suppress_health_check=_SHARED)
@given(
    specification=rows_strategy(),
    cuts=CUTS,
    policy=st.sampled_from([DeletePolicy.DELETE, DeletePolicy.IGNORE]),
    blocks=st.booleans(),
)
def test_random_tapes(
    bench: Bench, specification: list[tuple[object, ...]], cuts: list[int], policy: DeletePolicy, blocks: bool
) -> None:
    bench.check(build(specification), cuts, policy, blocks=blocks)


@settings(max_examples=120, deadline=None, suppress_health_check=_SHARED)
@given(specification=rows_strategy(partials=False, moves=False), cuts=CUTS, policy=st.sampled_from(list(DeletePolicy)))
def test_random_tapes_of_plain_rows(
    bench: Bench, specification: list[tuple[object, ...]], cuts: list[int], policy: DeletePolicy
) -> None:
    """What the hot path carries in blocks."""
    bench.check(build(specification), cuts, policy)


@settings(max_examples=60, deadline=None, suppress_health_check=_SHARED)
@given(specification=rows_strategy(moves=False), cuts=CUTS)
def test_random_tapes_with_soft_deletes(bench: Bench, specification: list[tuple[object, ...]], cuts: list[int]) -> None:
    bench.check(build(specification), cuts, DeletePolicy.SOFT)


@settings(max_examples=40, deadline=None, suppress_health_check=_SHARED)
@given(specification=rows_strategy(moves=False, refused=True))
def test_refused_rows_park_their_key(bench: Bench, specification: list[tuple[object, ...]]) -> None:
    tape = build(specification)
    bench.check(tape, list(range(1, len(tape))), DeletePolicy.DELETE)


def test_one_bad_row_in_a_large_batch_parks_alone(bench: Bench) -> None:
    tape = tapes.Tape()
    rows = [tape.full(key, "ok" if key not in (7, 300) else REFUSED_TEXT, "x", (1, key)) for key in range(500)]
    bench.check(rows, [], DeletePolicy.DELETE)


def test_a_key_that_no_column_holds_parks_alone(bench: Bench) -> None:
    differs(bench, "values")
    tape, table = tapes.Tape(), bench.table()
    beyond = 1 << 63
    rows = [tape.full(key, "a", "x", (1, key % 1000)) for key in (*range(50), beyond, *range(50, 100))]
    rows += [tape.full(7, REFUSED_TEXT, "stale and refused", (1, 0)), tape.delete(beyond, (2, 0))]
    target, owner = bench.target(), Owner(table.name, "target")
    target.open(owner)
    target.prepare(table)
    bench.refuse(table)
    target.close()
    with closing(target):
        applier = play(target, table, rows, [101], owner)
        assert applier.held == {(table.mapping, f"[{beyond}]"): "value_out_of_range"}
        assert target.standing().records == 2
    assert len(bench.visible(table)) == 100


def test_a_truncate_comes_before_any_row(bench: Bench) -> None:
    """A worker that has seen no row yet knows its table by name only; rows of earlier workers go all the same."""
    tape, known = tapes.Tape(), bench.table()
    unknown = msgspec.structs.replace(known, columns=(), key=())
    played(bench, known, [tape.full(key, "a", "x", (1, key)) for key in range(3)], "rows")
    played(bench, unknown, [tape.truncate((5, 0))], "truncate")
    assert bench.visible(known) == {}
    played(bench, known, [tape.full(1, "late", "x", (4, 0)), tape.full(2, "new", "x", (6, 0))], "later")
    assert bench.visible(known) == {(2,): (2, "new", "x")}


def test_a_sweep_removes_what_a_snapshot_did_not_meet(bench: Bench) -> None:
    """With tombstones: an older change stays away, a newer one brings its row back. Kept keys stay."""
    for policy in (DeletePolicy.DELETE, DeletePolicy.SOFT):
        tape, table = tapes.Tape(), bench.table(policy)
        rows = [tape.full(key, "a", "x", (1, key)) for key in range(5)] + [tape.full(9, "met", "x", (20, 0))]
        played(bench, table, rows, "before")
        position = rows[-1].position
        target = bench.target()
        target.open(Owner(table.name, "sweep"))
        target.prepare(table)
        with closing(target), target.begin() as transaction:
            report = transaction.sweep(table, position, [(3,)])
        assert report.rows == 4
        assert len(report.examples) == 4
        again = [tape.full(0, "older", "x", (5, 0)), tape.full(1, "newer", "x", (30, 0))]
        played(bench, table, again, "after")
        found = {key[0]: row[1:] for key, row in bench.visible(table).items()}
        if policy is DeletePolicy.DELETE:
            assert found == {1: ("newer", "x"), 3: ("a", "x"), 9: ("met", "x")}
        else:
            assert {key: row[-1] for key, row in found.items()} == {0: True, 1: False, 2: True, 3: False, 4: True, 9: 0}


def test_a_column_comes_and_goes(bench: Bench) -> None:
    """A new schema version adds a column: the table gets it, older rows have none; a column that is no longer sent
    keeps what it held."""
    tape, narrow = tapes.Tape(), bench.table()
    email = TargetColumn("email", ColumnType(Kind.TEXT, "text"))
    wide = msgspec.structs.replace(narrow, columns=(*narrow.columns, email))
    played(bench, narrow, [tape.full(1, "a", "x", (1, 0)), tape.full(2, "b", "y", (1, 1))], "one")
    played(bench, wide, [with_values(tape.full(2, "b", "y", (2, 0)), 2, "b", "y", "b@example.org")], "two")
    found = {row[0]: row for row in bench.rows(wide, ("id", "name", "email"))}
    assert found[2] == (2, "b", "b@example.org")
    if "tables of somebody else" not in bench.differences:
        assert found[1] == (1, "a", None)
        played(bench, narrow, [tape.full(2, "c", "y", (3, 0))], "three")
        found = {row[0]: row for row in bench.rows(wide, ("id", "name", "email"))}
        assert found[2] == (2, "c", "b@example.org")


TEXTS = {
    "empty": "",
    "blanks": "  a  ",
    "backslashes": "\\N \\t \\\\",
    "lines": "a\tb\nc\rd\r\n",
    "quotes": "'; DROP TABLE x; -- \" ` %s ? {} $1",
    "beyond the basic plane": "𝔘𝔫𝔦 👩‍👩‍👧 e\u0301 \u202eabc\u202c \ufeff\uffff",
    "looks like a number": "1.10",
    "looks like a date": "0000-00-00",
    "large": "x" * 5_000_000 + "é",
    "NUL in a text": "a\x00b",
}


@pytest.mark.parametrize("name", TEXTS)
def test_texts_arrive_as_they_are(bench: Bench, name: str) -> None:
    differs(bench, name)
    tape, table, text = tapes.Tape(), bench.table(), TEXTS[name]
    rows = [
        tape.full(1, text, None, (1, 1)),
        tape.full(2, "moves", text, (1, 2)),
        tape.delete(2, (2, 1), moved_to=3),
        tape.partial(3, "moved", (2, 1), moved_from=2),
        tape.full(4, "kept", text, (1, 3)),
        tape.partial(4, text, (3, 1)),
    ]
    played(bench, table, rows, "texts", cuts=[1, 2, 3, 4, 5])
    assert bench.visible(table) == expected(table, rows).visible()


def test_two_rows_swap_a_unique_value(bench: Bench) -> None:
    """As a source without deferred constraints does it, over a third value: all in one batch, and row by row."""
    differs(bench, "unique columns")
    for cuts in ([], [1, 2, 3, 4], [2]):
        tape, table = tapes.Tape(), bench.table()
        played(bench, table, [], "prepared")
        bench.run(f"CREATE UNIQUE INDEX unique_{table.name} ON {{table}} (notes)", table=table)
        rows = [
            tape.full(1, "a", "one", (1, 1)),
            tape.full(2, "b", "two", (1, 2)),
            tape.full(1, "a", "between", (2, 1)),
            tape.full(2, "b", "one", (2, 2)),
            tape.full(1, "a", "two", (2, 3)),
        ]
        played(bench, table, rows, "swap", cuts)
        assert bench.visible(table) == {(1,): (1, "a", "two"), (2,): (2, "b", "one")}


def test_a_unique_value_passes_to_an_earlier_key(bench: Bench) -> None:
    differs(bench, "unique columns")
    tape, table = tapes.Tape(), bench.table()
    played(bench, table, [], "prepared")
    bench.run(f"CREATE UNIQUE INDEX unique_{table.name} ON {{table}} (notes)", table=table)
    rows = [tape.full(5, "a", "one", (1, 1)), tape.full(5, "a", "two", (2, 1)), tape.full(1, "b", "one", (2, 2))]
    played(bench, table, rows, "pass", [1])
    assert bench.visible(table) == {(5,): (5, "a", "two"), (1,): (1, "b", "one")}


def test_a_tree_in_one_table_comes_in_any_order(bench: Bench) -> None:
    """A child is inserted after its parent, whose key is the greater one."""
    differs(bench, "foreign keys")
    tape, tree = tapes.Tape(), bench.table()
    bench.run("CREATE TABLE {tree} (id bigint PRIMARY KEY, name text, notes text)", tree=tree)
    columns = (*tree.columns, TargetColumn("parent", ColumnType(Kind.INTEGER, "int8")))
    tree = msgspec.structs.replace(tree, columns=columns)
    bench.run("ALTER TABLE {tree} ADD COLUMN parent bigint REFERENCES {tree} (id)", tree=tree)
    rows = [
        with_values(tape.full(9, "root", "x", (1, 1)), 9, "root", "x", None),
        with_values(tape.full(1, "child", "x", (1, 2)), 1, "child", "x", 9),
        with_values(tape.full(5, "lost", "x", (1, 3)), 5, "lost", "x", 77),
    ]
    played(bench, tree, rows, "tree")
    assert bench.visible(tree) == {(9,): (9, "root", "x", None), (1,): (1, "child", "x", 9)}


def test_a_child_before_its_parent_waits_parked(bench: Bench) -> None:
    differs(bench, "foreign keys")
    tape, parent, child = tapes.Tape(), bench.table(), bench.table()
    played(bench, parent, [], "prepared")
    bench.run(
        "CREATE TABLE {child} (id bigint PRIMARY KEY REFERENCES {parent} (id), name text, notes text)",
        child=child,
        parent=parent,
    )
    owner = Owner(child.name, "child")
    target = bench.target()
    with closing(target):
        applier = play(target, child, [tape.full(1, "a", "x", (1, 1)), tape.full(2, "b", "x", (1, 2))], [], owner)
        assert set(applier.held.values()) == {"foreign_key_missing"}
    assert bench.visible(child) == {}
    played(bench, parent, [tape.full(2, "parent", "x", (1, 1))], "parent")
    late = [tape.full(2, "b", "again", (2, 2)), tape.full(3, "c", "x", (2, 3))]
    played(bench, child, late, "others")
    assert bench.visible(child) == {(2,): (2, "b", "again")}


def with_values(row: MappedRow, *values: object) -> MappedRow:
    return msgspec.structs.replace(row, values=values)


def played(bench: Bench, table: TargetTable, rows: list[MappedRow], owner: str, cuts: list[int] | None = None) -> None:
    """Play rows on a connection of its own, as an owner of its own."""
    target = bench.target()
    with closing(target):
        play(target, table, rows, cuts or [], Owner(f"{table.name} {owner}", "target"))
