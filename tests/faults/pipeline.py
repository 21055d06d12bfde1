"""A pipeline of the fault tests: a target database of its own, files, worker processes, and what can be asked of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from cdc.settings import Settings, load
from cdc.stack import Stack
from tests.faults import topics
from tests.faults.source import COLUMNS, KEYS, REFUSED, Source, connections_text
from tests.faults.topics import PLACEHOLDER, Place
from tests.fix_stack import Database, new_postgres_database
from tests.waiting import PATIENCE, eventually

SESSION_S = 3.0  # how soon the group notices a dead or frozen member
KILLED = -signal.SIGKILL
NEEDS_A_PERSON, TEMPORARY = 1, 75
_TABLES = f"""
CREATE SCHEMA hub;
CREATE TABLE hub.items (
    id bigint PRIMARY KEY, name text NOT NULL CHECK (name <> '{REFUSED}'), amount numeric(12,2), big text,
    rev int NOT NULL, _cdc_position bytea);
CREATE TABLE hub.lines (
    item_id bigint, line_no int, body text, big text, _cdc_position bytea, PRIMARY KEY (item_id, line_no));
CREATE TABLE hub.falls (relation text, was bytea, became bytea);
CREATE FUNCTION hub.watch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF new._cdc_position < old._cdc_position THEN
        INSERT INTO hub.falls VALUES (tg_relname, old._cdc_position, new._cdc_position);
    END IF;
    RETURN new;
END $$;
CREATE TRIGGER watch BEFORE UPDATE ON hub.items FOR EACH ROW EXECUTE FUNCTION hub.watch();
CREATE TRIGGER watch BEFORE UPDATE ON hub.lines FOR EACH ROW EXECUTE FUNCTION hub.watch();
"""
"""The target's tables, made beforehand: with a constraint that refuses a name, and a watch on positions (I3)."""
_MINE = "pipeline = %s AND target = %s"


@dataclass
class Worker:
    """One worker process."""

    process: subprocess.Popen[bytes]
    log: Path

    def lines(self) -> list[dict[str, Any]]:
        """Its log so far; lines that are no JSON (a traceback) come as {'event': line}."""
        found = []
        for line in self.log.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                found.append({"event": line})
        return found

    def said(self, text: str) -> list[dict[str, Any]]:
        """The log lines that hold `text` in their event or error."""
        return [line for line in self.lines() if text in f"{line.get('event')} {line.get('error')}"]

    @property
    def code(self) -> int | None:
        return self.process.poll()

    @property
    def frozen(self) -> bool:
        state = Path(f"/proc/{self.process.pid}/stat")
        return state.exists() and state.read_text().rpartition(")")[2].split()[0] == "T"

    def ends(self, deadline_s: float = 100.0) -> int:
        """Wait for its end; the exit code."""
        try:
            return self.process.wait(deadline_s * PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still runs after {deadline_s * PATIENCE:.0f} s; it ends:\n{self.tail()}") from None

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def stop(self) -> int:
        """In order, as its supervisor would."""
        if self.code is None:
            self.signal(signal.SIGTERM)
            self.signal(signal.SIGCONT)
        return self.ends()

    def tail(self) -> str:
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])


@dataclass
class Pipeline:
    """One pipeline: items and lines (or other tables) of a source, copied as they are to schema hub."""

    source: Source
    name: str
    database: Database
    folder: Path
    tables: tuple[str, ...]
    target: str = "hub"  # of several: the one that `start`, the watermarks and the parked records are about
    workers: list[Worker] = field(default_factory=list)

    @property
    def stack(self) -> Stack:
        return self.source.stack

    @property
    def mapping_file(self) -> Path:
        return self.folder / f"{self.name}.yaml"

    @property
    def connections_file(self) -> Path:
        return self.folder / f"{self.name}.connections.yaml"

    @property
    def settings(self) -> Settings:
        return load(self.connections_file)

    @property
    def topics(self) -> list[str]:
        return [self.source.topic(table) for table in self.tables]

    @property
    def group(self) -> str:
        return f"cdc.{self.name}.{self.target}"

    # -- workers

    def start(self, failpoint: str = "", **spec: Any) -> Worker:
        """A worker; `failpoint` as in cdc/engine/failpoints.py, `spec` changes its WorkerSpec."""
        told = {
            "mapping_file": str(self.mapping_file),
            "connections_file": str(self.connections_file),
            "placeholder": PLACEHOLDER,
            "target": self.target,
            "session_timeout_s": SESSION_S,
            "environment": {"CDC_FAILPOINT": failpoint},
            **spec,
        }
        log = self.folder / f"{self.name}.{self.target}.{len(self.workers)}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.run_worker", json.dumps(told)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.workers.append(Worker(process, log))
        return self.workers[-1]

    def stop(self) -> None:
        """All workers, in order; those that were killed stay dead."""
        for worker in self.workers:
            if worker.code is None:
                worker.stop()

    def kill_all(self) -> None:
        for worker in self.workers:
            if worker.code is None:
                worker.signal(signal.SIGKILL)
            worker.ends()

    def gone(self) -> None:
        """Wait until the target has noticed that no worker is connected any more: what they sent is in or out."""
        query = "SELECT pid FROM pg_stat_activity WHERE datname = %s AND application_name LIKE 'cdc%%'"
        eventually(lambda: not self.rows(query, self.database.name), 20, f"{self.name}: no session of a worker is left")

    # -- the target

    def connection(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self.database.dsn, autocommit=True, application_name="test")

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with self.connection() as connection:
            return connection.execute(query.encode(), values).fetchall()

    def run(self, *statements: str) -> None:
        with self.connection() as connection:
            for statement in statements:
                connection.execute(statement.encode())

    @property
    def schema(self) -> str:
        """The target's schema, as the mapping writes it."""
        return "hub"

    def state_exists(self) -> bool:
        return self.rows("SELECT to_regclass('cdc.worker')") != [(None,)]

    def watermarks(self) -> dict[Place, int]:
        """The next offset to apply, of partitions of which anything was applied."""
        if not self.state_exists():
            return {}
        found = self.rows(f"SELECT topic, partition, next FROM cdc.watermark WHERE {_MINE}", self.name, self.target)
        return {(topic, partition): at for topic, partition, at in found if at is not None}

    def fences(self) -> dict[Place, int]:
        found = self.rows(f"SELECT topic, partition, fence FROM cdc.watermark WHERE {_MINE}", self.name, self.target)
        return {(topic, partition): fence for topic, partition, fence in found}

    def parked(self) -> list[tuple[str, tuple[Any, ...] | None, str]]:
        """(target table, key or None, reason) of every parked record."""
        query = f"SELECT mapping, hold, reason FROM cdc.parked WHERE {_MINE} ORDER BY id"
        found = self.rows(query, self.name, self.target)
        return [(m.rpartition(".")[2], tuple(json.loads(hold)) if hold else None, reason) for m, hold, reason in found]

    def texts(self, table: str) -> dict[tuple[Any, ...], tuple[Any, ...]]:
        """The target table's rows as text, by key."""
        return texts(self.database.dsn, "hub", table)

    def tallied(self) -> list[tuple[str, int, str, str, int]]:
        """(topic, partition, outcome, reason, number)."""
        query = f"SELECT topic, partition, outcome, reason, number FROM cdc.tally WHERE {_MINE}"
        return self.rows(query, self.name, self.target)

    def falls(self) -> list[tuple[Any, ...]]:
        """Rows whose position became smaller."""
        return self.rows("SELECT * FROM hub.falls LIMIT 5")

    def rewind(self, to: Mapping[Place, int]) -> None:
        """Set watermarks as `cdc rewind` does: `next` and a higher fence, in one statement."""
        with self.connection() as connection, connection.transaction():
            for (topic, partition), offset in to.items():
                connection.execute(
                    "UPDATE cdc.watermark SET next = %s, fence = fence + 1, tracker = ''"
                    " WHERE pipeline = %s AND topic = %s AND partition = %s",
                    (offset, self.name, topic, partition),
                )

    # -- progress

    def moved(self, records: int, deadline_s: float = 100.0) -> None:
        """Wait until at least so many records are applied in all."""

        def enough() -> bool:
            self.refuse_dead()
            return sum(self.watermarks().values()) >= records

        eventually(enough, deadline_s, lambda: f"{records} records of {self.name}; it has {self.watermarks()}")

    def reaches(self, ends: Mapping[Place, int], deadline_s: float = 100.0) -> None:
        """Wait until the watermarks are at these offsets."""

        def there() -> bool:
            self.refuse_dead()
            at = self.watermarks()
            return all(at.get(place, 0) >= end for place, end in ends.items())

        eventually(there, deadline_s, lambda: f"{self.name} at {dict(ends)}; it is at {self.watermarks()}{self.logs()}")

    def catches_up(self, deadline_s: float = 100.0) -> dict[Place, int]:
        """Wait until everything that is in the topics now is applied; the topics' ends."""
        ends = topics.ends(self.stack, self.topics)
        self.reaches(ends, deadline_s)
        return ends

    def refuse_dead(self) -> None:
        """A clear word instead of a deadline when no worker is left that could do anything."""
        if all(worker.code is not None for worker in self.workers):
            raise AssertionError(f"{self.name}: every worker has ended{self.logs()}")

    def logs(self) -> str:
        return "".join(f"\n-- {worker.log.name}, ended {worker.code}:\n{worker.tail()}" for worker in self.workers)


@contextmanager
def new_pipeline(
    source: Source,
    name: str,
    tables: tuple[str, ...] = ("items", "lines"),
    *,
    rows: int = 40,
    host: str | None = None,
    port: int | None = None,
    kafka: str | None = None,
    prepared: bool = True,
    options: Sequence[str] = ("parked: {max: 1000000}",),
) -> Iterator[Pipeline]:
    """A pipeline with an empty target, nothing running. At the end its workers are killed and the target dropped.

    `rows`: of a batch; small, so that there are many. `host`, `port`: of the target, when a proxy stands before it.
    `options`: more lines of the pipeline file, such as 'parked: {max: 5}'.
    """
    stack, folder = source.stack, source.folder
    with new_postgres_database(stack.endpoints.postgres) as database:
        role = f"apply_{database.name}"
        _make_owner(database, role, stack.endpoints.postgres.password)
        pipeline = Pipeline(source, name, database, folder, tables)
        write_mapping(pipeline, rows, options)
        write_connections(pipeline, host=host, port=port, kafka=kafka)
        if prepared:
            with pipeline.connection() as connection:
                connection.execute(f"SET ROLE {role}".encode())
                connection.execute(_TABLES.encode())
        try:
            yield pipeline
        finally:
            pipeline.kill_all()
            pipeline.gone()
            with pipeline.connection() as connection:
                connection.execute(f"REASSIGN OWNED BY {role} TO CURRENT_USER".encode())
                connection.execute(f"DROP ROLE {role}".encode())


def write_mapping(pipeline: Pipeline, rows: int, options: Sequence[str]) -> None:
    """Every table as it is."""
    source = pipeline.source
    mappings = "".join(
        f"  - {{from: {source.namespace}.{table}, to: {pipeline.schema}.{table}}}\n" for table in pipeline.tables
    )
    pipeline.mapping_file.write_text(
        f"pipeline: {pipeline.name}\nsource: {source.name}\ntarget: hub\nbatch: {{rows: {rows}}}\n"
        + "".join(f"{option}\n" for option in options)
        + f"tables:\n{mappings}",
        encoding="utf-8",
    )


def write_connections(
    pipeline: Pipeline,
    *,
    host: str | None = None,
    port: int | None = None,
    kafka: str | None = None,
    password: str | None = None,
) -> None:
    """The pipeline's connections.yaml: its source and its target, both by accounts that may do only what they must."""
    stack, source = pipeline.stack, pipeline.source
    at = stack.endpoints.postgres
    target = f"""
  hub:
    kind: postgresql
    host: {host or at.host}
    port: {port or at.port}
    database: {pipeline.database.name}
    user: apply_{pipeline.database.name}
    password: {password or f"${{file:{stack.endpoints.secrets_file}:postgres.password}}"}
"""
    pipeline.connections_file.write_text(connections_text(stack, source.entry, target, kafka), encoding="utf-8")


def _make_owner(database: Database, role: str, password: str) -> None:
    with psycopg.connect(database.dsn, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(role), sql.Literal(password)))
        admin.execute(f"ALTER DATABASE {database.name} OWNER TO {role}".encode())


def texts(dsn: str, schema: str, table: str) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    """A PostgreSQL table's rows as text, by key."""
    columns = ", ".join(f"{column}::text" for column in COLUMNS[table])
    with psycopg.connect(dsn) as connection:
        rows = connection.execute(f"SELECT {columns} FROM {schema}.{table}".encode()).fetchall()
    return by_key(table, rows)


def by_key(table: str, rows: Iterable[tuple[Any, ...]]) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    places = [COLUMNS[table].index(column) for column in KEYS[table]]
    return {tuple(row[place] for place in places): row for row in rows}


def key_of(table: str, row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row[column] for column in KEYS[table])


def unique(prefix: str, taken: Iterable[str] = ()) -> str:
    """A name that no other run uses."""
    return f"{prefix}_{os.urandom(4).hex()}"
