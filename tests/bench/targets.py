"""Target databases of the bench, one a run; when a run is complete, and how fast it was, by the rows' commit times."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

import psycopg
from psycopg import sql

from tests.bench.usage import OWN

_POLL_S = 0.05


class Incomplete(Exception):
    """A run did not end before its deadline, or ended in a failure; the text says what is missing."""


@dataclass(frozen=True)
class Rate:
    """`rows`: rows that the first commit did not bring; `seconds`: from the first commit to the last one.
    `from_start_s`: from the contender's start to the last commit; `first_s`: to the first one."""

    rows: int
    seconds: float
    first_s: float
    from_start_s: float
    commits: int

    @property
    def rows_per_second(self) -> float:
        return self.rows / max(self.seconds, 1e-6)


class Databases:
    """Makes and drops databases on one server. `dsn_of(name)`: how to reach one."""

    def __init__(self, dsn_of: Callable[[str], str]) -> None:
        self.dsn_of = dsn_of
        self._made: list[str] = []

    @contextmanager
    def admin(self, database: str = "postgres") -> Iterator[psycopg.Connection]:
        with psycopg.connect(self.dsn_of(database), autocommit=True, application_name=OWN) as connection:
            yield connection

    def create(self, name: str, template: str = "template1") -> str:
        with self.admin() as admin:
            self._drop(admin, name)
            if template != "template1":
                admin.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (template,)
                )
            admin.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
            )
            admin.execute("CHECKPOINT")
        self._made.append(name)
        return name

    def drop(self, name: str) -> None:
        with self.admin() as admin:
            self._drop(admin, name)

    def drop_all(self) -> None:
        for name in dict.fromkeys(self._made):
            self.drop(name)

    def _drop(self, admin: psycopg.Connection, name: str) -> None:
        slots = "FROM pg_replication_slots WHERE database = %s"
        admin.execute(f"SELECT pg_terminate_backend(active_pid, 5000) {slots} AND active", [name])
        admin.execute(f"SELECT pg_drop_replication_slot(slot_name) {slots}", [name])
        admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


Markers = Mapping[str, Sequence[int]]
"""Table (in schema public) → ids of the rows that are the last of each partition: when they are there, all is."""


def forget(connection: psycopg.Connection, markers: Markers) -> None:
    """Remove the marker rows, so that a run onto existing rows can be seen to end; then settle the tables."""
    for table, ids in markers.items():
        connection.execute(
            sql.SQL("DELETE FROM {} WHERE id = ANY(%s)").format(sql.Identifier("public", table)), (list(ids),)
        )
    connection.execute("CHECKPOINT")


def wait_for(
    connection: psycopg.Connection, markers: Markers, deadline_s: float, alive: Callable[[], str | None]
) -> None:
    """Until every marker row is there. `alive` says why it never will be, or None."""
    deadline = time.monotonic() + deadline_s
    waiting = {table: list(ids) for table, ids in markers.items()}
    checked = 0.0
    while waiting:
        table = next(iter(waiting))
        query = sql.SQL("SELECT count(*) FROM {} WHERE id = ANY(%s)").format(sql.Identifier("public", table))
        try:
            (found,) = connection.execute(query, (waiting[table],)).fetchone() or (0,)
        except psycopg.errors.UndefinedTable:
            found = 0
        if found == len(waiting[table]):
            del waiting[table]
            continue
        now = time.monotonic()
        if now > deadline:
            raise Incomplete(f"after {deadline_s:.0f} s {table} has {found} of {len(waiting[table])} last rows")
        if now - checked > 1.0:
            checked = now
            problem = alive()
            if problem:
                raise Incomplete(problem)
        time.sleep(_POLL_S)


def rate(connection: psycopg.Connection, tables: Sequence[str], began: datetime, changes: int | None = None) -> Rate:
    """From the commit times of the rows written since `began`. `changes`: how many changes those rows stand for, when
    several changes meet in one row (then the first commit's share is unknown and all are counted)."""
    commits: dict[datetime, int] = {}
    for table in tables:
        query = sql.SQL(
            "SELECT at, sum(n)::bigint FROM (SELECT pg_xact_commit_timestamp(xmin) AS at, count(*) AS n FROM"
            " (SELECT xmin FROM {}) r GROUP BY xmin) c WHERE at > %s GROUP BY at"
        ).format(sql.Identifier("public", table))
        for at, number in connection.execute(query, (began,)).fetchall():
            commits[at] = commits.get(at, 0) + number
    if not commits:
        raise Incomplete("no row was written")
    first, last = min(commits), max(commits)
    rows = sum(commits.values()) - commits[first] if changes is None else changes
    return Rate(
        rows,
        (last - first).total_seconds(),
        (first - began).total_seconds(),
        (last - began).total_seconds(),
        len(commits),
    )
