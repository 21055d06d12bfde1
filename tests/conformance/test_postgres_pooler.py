"""PostgreSQL behind a connection pooler: in session mode as without, any other mode is noticed and refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import psycopg
import pytest

from cdc.errors import Terminal
from cdc.target import postgres_pooler
from cdc.target.base import Owner
from cdc.target.postgres import PostgresTarget
from tests import tapes
from tests.conformance.pooler import Pooler, pooler_to
from tests.fix_stack import Database
from tests.fix_targets import PostgresBench
from tests.tapes import play

pytestmark = pytest.mark.database


@pytest.fixture(name="bench")
def postgres_bench(database: Database) -> Iterator[PostgresBench]:
    bench = PostgresBench(database.dsn)
    yield bench
    bench.close()


def through(bench: PostgresBench, pooler: Pooler) -> Callable[[], psycopg.Connection[Any]]:
    return lambda: psycopg.connect(bench.dsn, host="127.0.0.1", port=pooler.port, autocommit=True)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_transaction_pooling_is_refused(bench: PostgresBench, size: int) -> None:
    with pooler_to(bench.dsn, transactions=True, size=size) as pooler:
        target = PostgresTarget(through(bench, pooler))
        with closing(target), pytest.raises(Terminal) as caught:
            target.open(Owner("pooled", "target"))
        assert "pool_mode = session" in str(caught.value.hint)
        assert caught.value.where == f"127.0.0.1:{pooler.port}/{bench.reader.info.dbname}"
    assert bench.reader.execute("SELECT to_regnamespace('cdc')").fetchone() == (None,)


@pytest.mark.parametrize("size", [1, 2])
def test_session_pooling_works(bench: PostgresBench, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when the pool has no session left for the second connection."""
    monkeypatch.setattr(postgres_pooler, "WAIT_S", 0.2)
    tape, table = tapes.named_cases()["key change there and back"], bench.table()
    with pooler_to(bench.dsn, transactions=False, size=size) as pooler:
        target = PostgresTarget(through(bench, pooler))
        with closing(target):
            play(target, table, tape, [2, 3], Owner(table.name, "target"))
        assert bench.visible(table) == tapes.expected(table, tape).visible()


def test_the_server_itself_is_told_from_a_pooler(bench: PostgresBench) -> None:
    def connect_once() -> psycopg.Connection[Any]:
        nonlocal number
        number += 1
        return bench.connect()

    number = 0
    target = PostgresTarget(connect_once)
    with closing(target):
        target.open(Owner("direct", "target"))
    assert number == 1
