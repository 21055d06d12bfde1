"""PostgreSQL's way into an empty table."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from cdc.target.base import Owner
from cdc.target.postgres import PostgresTarget
from tests import tapes
from tests.fix_stack import Database
from tests.fix_targets import PostgresBench
from tests.tapes import play

pytestmark = pytest.mark.database


@pytest.fixture(name="bench")
def postgres_bench(database: Database) -> Iterator[PostgresBench]:
    bench = PostgresBench(database.dsn)
    yield bench
    bench.close()


def test_an_empty_table_is_loaded_directly_until_a_row_comes_again(bench: PostgresBench) -> None:
    """The way of a snapshot; a redelivery inside it must find the guarded way again, with nothing lost or doubled."""
    tape = tapes.Tape()
    first = [tape.full(key, "read", "x", (100, 0), snapshot=True) for key in range(1000)]
    again = [*tape.again(first[990:]), tape.full(5, "changed", "x", (100, 7)), tape.full(2000, "new", "x", (101, 1))]
    read = dict.fromkeys(range(1000), "read")
    for rows, wanted in ((first, read), ([*first, *again], {**read, 5: "changed", 2000: "new"})):
        table, target = bench.table(), PostgresTarget(bench.connect)
        with closing(target):
            play(target, table, rows, [300, 1000], Owner(table.name, "target"))
            assert target.prepared(table).loading == (rows is first)
        found = bench.rows(table, ("id", "name"))
        assert len(found) == len(wanted)
        assert dict(found) == wanted
