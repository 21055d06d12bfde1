"""The batched SQL path on a real PostgreSQL equals the oracle: named cases in every cut, then random tapes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import msgspec
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cdc.model import DeletePolicy, MappedRow, Position, TargetTable
from cdc.target.base import Owner, hold_of
from cdc.target.postgres import PostgresTarget
from tests import tapes
from tests.fix_stack import Database
from tests.tapes import REFUSED_TEXT, build, expected, named_cases, play, rows_strategy

pytestmark = pytest.mark.database
CUTS = st.lists(st.integers(1, 20), max_size=4)
_numbers = itertools.count(1)


class Bench:
    """One database in which every tape gets a table and an owner of its own."""

    def __init__(self, database: Database) -> None:
        self.dsn = database.dsn
        self.reader = psycopg.connect(self.dsn, autocommit=True)
        self.target = PostgresTarget(lambda: psycopg.connect(self.dsn, autocommit=True))

    def check(self, tape: list[MappedRow], cuts: list[int], policy: DeletePolicy, *, blocks: bool = True) -> None:
        number = next(_numbers)
        table = tapes.table(f"customers_{number}", policy)
        self._refuse(table)
        oracle = expected(table, tape)
        try:
            applier = play(self.target, table, tape, cuts, Owner(f"tape {number}", "target"), blocks=blocks)
            stored = self.target.parked([tapes.PARTITION])
        finally:
            self.target.close()
        columns = "id, name, notes" + (", is_deleted" if policy is DeletePolicy.SOFT else "")
        rows = self.reader.execute(f"SELECT {columns}, _cdc_position FROM hub.customers_{number}").fetchall()
        assert {(row[0],): tuple(row[:-1]) for row in rows} == oracle.visible()
        assert {(row[0],): Position.unpack(row[-1]) for row in rows} == {
            key: row.position for key, row in oracle.rows.items()
        }
        assert set(applier.held) == {(table.mapping, hold_of(key)) for key in oracle.parked}
        assert set(stored) == set(applier.held)
        tallied = self.reader.execute(
            "SELECT sum(number), min(number) FROM cdc.tally WHERE pipeline = %s", (f"tape {number}",)
        ).fetchone()
        assert tallied is not None
        assert (tallied[0] or 0) == len(tape)
        assert (tallied[1] or 0) >= 0
        self.reader.execute(f"DROP TABLE hub.customers_{number}")

    def _refuse(self, table: TargetTable) -> None:
        """The table as the engine creates it, with a constraint that some tapes violate."""
        self.target.open(Owner("setup", "target"))
        self.target.prepare(table)
        self.target.close()
        self.reader.execute(f"ALTER TABLE hub.{table.name} ADD CHECK (name <> '{REFUSED_TEXT}')")


@pytest.fixture(scope="module")
def bench(module_database: Database) -> Iterator[Bench]:
    bench = Bench(module_database)
    yield bench
    bench.reader.close()


@pytest.mark.parametrize("policy", list(DeletePolicy))
@pytest.mark.parametrize("name", named_cases())
def test_named_cases(bench: Bench, name: str, policy: DeletePolicy) -> None:
    tape = named_cases()[name]
    for cuts in ([], list(range(1, len(tape)))):
        bench.check(tape, cuts, policy, blocks=False)
        bench.check(tape, cuts, policy, blocks=True)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
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


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(specification=rows_strategy(partials=False, moves=False), cuts=CUTS, policy=st.sampled_from(list(DeletePolicy)))
def test_random_tapes_of_plain_rows(
    bench: Bench, specification: list[tuple[object, ...]], cuts: list[int], policy: DeletePolicy
) -> None:
    """What the hot path carries in blocks."""
    bench.check(build(specification), cuts, policy)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(specification=rows_strategy(moves=False), cuts=CUTS)
def test_random_tapes_with_soft_deletes(bench: Bench, specification: list[tuple[object, ...]], cuts: list[int]) -> None:
    bench.check(build(specification), cuts, DeletePolicy.SOFT)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(specification=rows_strategy(moves=False, refused=True))
def test_refused_rows_park_their_key(bench: Bench, specification: list[tuple[object, ...]]) -> None:
    tape = build(specification)
    bench.check(tape, list(range(1, len(tape))), DeletePolicy.DELETE)


def test_one_bad_row_in_a_large_batch_parks_alone(bench: Bench) -> None:
    tape = tapes.Tape()
    rows = [tape.full(key, "ok" if key not in (7, 300) else REFUSED_TEXT, "x", (1, key)) for key in range(500)]
    bench.check(rows, [], DeletePolicy.DELETE)


def test_an_empty_table_is_loaded_directly_until_a_row_comes_again(bench: Bench) -> None:
    """The way of a snapshot; a redelivery inside it must find the guarded way again, with nothing lost or doubled."""
    tape = tapes.Tape()
    first = [tape.full(key, "read", "x", (100, 0), snapshot=True) for key in range(1000)]
    again = [*tape.again(first[990:]), tape.full(5, "changed", "x", (100, 7)), tape.full(2000, "new", "x", (101, 1))]
    names = []
    for rows in (first, [*first, *again]):
        table = tapes.table(f"customers_{next(_numbers)}")
        names.append(table.name)
        try:
            play(bench.target, table, rows, [300, 1000], Owner(table.name, "target"))
            assert bench.target.prepared(table).loading == (rows is first)
        finally:
            bench.target.close()
    read = dict.fromkeys(range(1000), "read")
    for name, wanted in zip(names, (read, {**read, 5: "changed", 2000: "new"}), strict=True):
        found = bench.reader.execute(f"SELECT id, name FROM hub.{name}").fetchall()
        assert len(found) == len(wanted)
        assert dict(found) == wanted
        bench.reader.execute(f"DROP TABLE hub.{name}")


def test_a_truncate_comes_before_any_row(bench: Bench) -> None:
    """A worker that has seen no row yet knows its table by name only; rows of earlier workers go all the same."""
    tape = tapes.Tape()
    known = tapes.table(f"customers_{next(_numbers)}")
    unknown = msgspec.structs.replace(known, columns=(), key=())
    try:
        play(bench.target, known, [tape.full(key, "a", "x", (1, key)) for key in range(3)], [], Owner("rows", "target"))
        bench.target.close()
        play(bench.target, unknown, [tape.truncate((5, 0))], [], Owner("truncate", "target"))
        bench.target.close()
        assert bench.reader.execute(f"SELECT id FROM hub.{known.name}").fetchall() == []
        late = [tape.full(1, "late", "x", (4, 0)), tape.full(2, "new", "x", (6, 0))]
        play(bench.target, known, late, [], Owner("later", "target"))
    finally:
        bench.target.close()
    assert bench.reader.execute(f"SELECT id, name FROM hub.{known.name}").fetchall() == [(2, "new")]
    bench.reader.execute(f"DROP TABLE hub.{known.name}")
