"""Fixtures on the local stack: one stack a run, its parts started by the first test that needs them.

    stack             all parts                -> cdc.stack.Stack
    postgres          only PostgreSQL          -> cdc.stack.Server
    mariadb           only MariaDB             -> cdc.stack.Server
    database          a fresh PostgreSQL database, dropped after the test  -> Database
    module_database   the same, shared by the tests of one file            -> Database
    mariadb_database  a fresh MariaDB database, dropped after the test     -> Database

CDC_TEST_STACK=<home> uses a stack that runs already and leaves it running; without it the run makes its own in the
temporary folder and removes it at the end. What a run that was killed left behind, the next run removes.
"""

from __future__ import annotations

import os
import signal
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pymysql
import pytest
from psycopg import sql

from cdc.references import Secret
from cdc.stack import Server, Stack
from cdc.stack.process import birth

_PREFIX = "cdc-test-"


@dataclass(frozen=True)
class Database:
    """One database of a server, for one test."""

    server: Server
    name: str

    @property
    def dsn(self) -> str:
        """For psycopg."""
        return self.server.url("postgresql", self.name)

    @property
    def settings(self) -> dict[str, Any]:
        """For the models of `cdc.entries`: where it is, and as whom."""
        at = self.server
        return {
            "host": at.host,
            "port": at.port,
            "user": at.user,
            "password": Secret.of(at.password),
            "database": self.name,
        }

    @property
    def arguments(self) -> dict[str, object]:
        """For `pymysql.connect(**arguments)`."""
        at = self.server
        return {"host": at.host, "port": at.port, "user": at.user, "password": at.password, "database": self.name}


@pytest.fixture(scope="session")
def stack_of_run() -> Iterator[Stack]:
    """The run's stack with nothing started: take `stack`, `postgres` or `mariadb` instead."""
    given = os.environ.get("CDC_TEST_STACK")
    if given:
        yield Stack(Path(given))
        return
    _remove_what_killed_runs_left()
    own = Stack(Path(tempfile.gettempdir()) / f"{_PREFIX}{os.getpid()}")
    before = signal.signal(signal.SIGTERM, _interrupt)  # so that a cancelled run cleans up as after a Ctrl-C
    try:
        yield own
    finally:
        own.reset(execute=True)
        signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="session")
def stack(stack_of_run: Stack) -> Stack:
    """All parts, answering. A test that breaks a part starts it again (`stack.up()`)."""
    stack_of_run.up(fast=_fast())
    return stack_of_run


@pytest.fixture(scope="session")
def postgres(stack_of_run: Stack) -> Server:
    """PostgreSQL, answering; the administrator's account."""
    return stack_of_run.up(["postgres"], fast=_fast()).postgres


@pytest.fixture(scope="session")
def mariadb(stack_of_run: Stack) -> Server:
    """MariaDB, answering; the administrator's account."""
    return stack_of_run.up(["mariadb"], fast=_fast()).mariadb


@pytest.fixture
def database(postgres: Server) -> Iterator[Database]:
    """An empty PostgreSQL database. Slots and sessions on it end with it."""
    with new_postgres_database(postgres) as made:
        yield made


@pytest.fixture(scope="module")
def module_database(postgres: Server) -> Iterator[Database]:
    """An empty PostgreSQL database that the tests of one file share."""
    with new_postgres_database(postgres) as made:
        yield made


@pytest.fixture
def mariadb_database(mariadb: Server) -> Iterator[Database]:
    """An empty MariaDB database."""
    with new_mariadb_database(mariadb) as made:
        yield made


@contextmanager
def new_postgres_database(server: Server) -> Iterator[Database]:
    """An empty database, dropped at the end with its slots and sessions: for tests that need several."""
    name = _unique_name()
    quoted = sql.Identifier(name)
    at = server.url("postgresql", "postgres")
    with psycopg.connect(at, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(quoted))
    try:
        yield Database(server, name)
    finally:
        slots = "FROM pg_replication_slots WHERE database = %s"
        with psycopg.connect(at, autocommit=True) as admin:  # another one: the test may have killed the server
            admin.execute(f"SELECT pg_terminate_backend(active_pid, 5000) {slots} AND active", [name])
            admin.execute(f"SELECT pg_drop_replication_slot(slot_name) {slots}", [name])
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(quoted))


@contextmanager
def new_mariadb_database(server: Server) -> Iterator[Database]:
    """An empty database, dropped at the end: for tests that need several."""
    made = Database(server, _unique_name())
    at = {**made.arguments, "database": None}
    _run_mariadb(at, f"CREATE DATABASE {made.name}")
    try:
        yield made
    finally:
        _run_mariadb(at, f"DROP DATABASE {made.name}")


def _run_mariadb(at: dict[str, object], statement: str) -> None:
    """On a connection of its own: a test may kill the server."""
    with pymysql.connect(**at, autocommit=True) as admin, admin.cursor() as cursor:
        cursor.execute(statement)


def _unique_name() -> str:
    return f"t_{uuid.uuid4().hex[:12]}"


def _fast() -> bool | None:
    return None if os.environ.get("CDC_TEST_STACK") else True  # somebody else's stack keeps its own choice


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _remove_what_killed_runs_left() -> None:
    for home in Path(tempfile.gettempdir()).glob(f"{_PREFIX}[0-9]*"):
        pid = home.name.removeprefix(_PREFIX)
        if pid.isdigit() and birth(int(pid)) is None and home.stat().st_uid == os.geteuid():
            Stack(home).reset(execute=True)
