"""Who is measured: this applier, Debezium's JDBC sink, a hand-written limit, and reading alone.

Each has `run(world, filled, tables, database, ...) -> Result`: it reads the filled topics from their beginning into
`database` (a fresh one, or one that holds the rows already) and is stopped when the last rows are there.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Literal, Protocol

import psycopg

from cdc.engine.build import WorkerSpec
from cdc.engine.supervisor import work
from tests.bench.targets import Incomplete, forget, rate, wait_for
from tests.bench.usage import OWN, Usage
from tests.bench.world import SOURCE, Filled, World

Client = Literal["kafka-python", "librdkafka"]
_DEADLINE_S = 900.0
_SPAWN = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class Result:
    """One run. Times in seconds; `first_s` from its start to the first durable row."""

    contender: str
    workload: str
    rows: int
    seconds: float
    rows_per_second: float
    first_s: float = 0.0
    from_start_s: float = 0.0
    commits: int = 0
    applier_cpu_s: float = 0.0
    database_cpu_s: float = 0.0
    peak_mb: float = 0.0
    load: float = field(default_factory=lambda: os.getloadavg()[0])

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class Contender(Protocol):
    name: str

    def running(self, world: World, filled: Filled, database: str, usage: Usage) -> Any:
        """A context in which it applies `filled` to `database`; yields `alive`: why it has ended, or None."""


class Ours:
    """This applier: real worker processes, as the supervisor starts them."""

    def __init__(self, client: Client, workers: int = 1, batch_rows: int | None = None) -> None:
        self.client = client
        self.workers = workers
        self.batch_rows = batch_rows
        self.name = f"cdc, {client}" + (f", {workers} workers" if workers > 1 else "")

    @contextmanager
    def running(self, world: World, filled: Filled, database: str, usage: Usage) -> Iterator[Callable[[], str | None]]:
        spec = self.spec(world, filled, database)
        processes = [_SPAWN.Process(target=work, args=(spec, os.getpid())) for _ in range(self.workers)]
        for process in processes:
            process.start()
            assert process.pid is not None
            usage.watch(process.pid)
        try:
            yield lambda: _ended(processes)
        finally:
            usage.look()
            _stop(processes)

    def spec(self, world: World, filled: Filled, database: str) -> WorkerSpec:
        folder = Path(world.folder) / f"{database}-{time.time_ns()}"
        folder.mkdir()
        at = world.stack.endpoints.postgres
        place = f"host: {at.host}\n    port: {at.port}\n    user: {at.user}\n    password: ${{stack:postgres.password}}"
        (folder / "connections.yaml").write_text(
            f"kafka:\n  bootstrap: {world.kafka}\n"
            f"sources:\n  {filled.prefix}:\n    kind: postgresql\n    database: {SOURCE}\n    {place}\n"
            f"targets:\n  hub:\n    kind: postgresql\n    database: {database}\n    {place}\n"
        )
        batch = f"batch: {{rows: {self.batch_rows}}}\n" if self.batch_rows else ""
        tables = "".join(f"  - from: public.{table}\n    to: public.{table}\n" for table in filled.records)
        # the name is the consumer group: a new one reads from the beginning
        mapping = folder / f"run{time.time_ns()}.yaml"
        mapping.write_text(
            f"pipeline: {mapping.stem}\nsource: {filled.prefix}\ntarget: hub\nclient: {self.client}\n{batch}"
            f"tables:\n{tables}"
        )
        return WorkerSpec(
            mapping,
            folder / "connections.yaml",
            world.placeholder,
            log_level=os.environ.get("CDC_BENCH_LOG", "warning"),
            environment={"CDC_STACK_HOME": str(world.stack.home.path)},
        )


def _ended(processes: list[BaseProcess]) -> str | None:
    codes = [process.exitcode for process in processes if process.exitcode is not None]
    return f"a worker ended with {codes}" if codes else None


def _stop(processes: list[BaseProcess]) -> None:
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(30)
        if process.exitcode is None:
            process.kill()
            process.join()


class JdbcSink:
    """Debezium's JDBC sink in the stack's Connect worker (a JVM that is warm after the first run)."""

    def __init__(self, name: str, *, settings: dict[str, str] | None = None, url: str = "") -> None:
        self.name = name
        self.settings = settings or {}
        self.url = url

    @contextmanager
    def running(self, world: World, filled: Filled, database: str, usage: Usage) -> Iterator[Callable[[], str | None]]:
        usage.watch(world.pid("connect"), from_its_birth=False)
        name = f"sink-{time.time_ns()}"
        world.connect.put_config(name, self.config(world, filled, database))
        try:
            yield lambda: self._problem(world, name)
        finally:
            usage.look()
            world.connect.delete(name)
            _wait_gone(world, name)

    def _problem(self, world: World, name: str) -> str | None:
        status = world.connect.statuses().get(name)
        return None if status is None else status.problem

    def config(self, world: World, filled: Filled, database: str) -> dict[str, str]:
        at = world.stack.endpoints.postgres
        return {
            "connector.class": "io.debezium.connector.jdbc.JdbcSinkConnector",
            "tasks.max": "1",
            "topics.regex": filled.prefix.replace(".", "\\.") + "\\.public\\..*",
            "connection.url": f"jdbc:postgresql://{at.host}:{at.port}/{database}{self.url}",
            "connection.username": at.user,
            "connection.password": f"${{file:{world.stack.endpoints.secrets_file}:postgres.password}}",
            "insert.mode": "upsert",
            "delete.enabled": "true",
            "primary.key.mode": "record_key",
            "schema.evolution": "basic",
            "collection.name.format": "${source.table}",
            "key.converter": "org.apache.kafka.connect.json.JsonConverter",
            "key.converter.schemas.enable": "true",
            "value.converter": "org.apache.kafka.connect.json.JsonConverter",
            "value.converter.schemas.enable": "true",
            "consumer.override.auto.offset.reset": "earliest",
        } | self.settings


def _wait_gone(world: World, name: str) -> None:
    deadline = time.monotonic() + 60
    while name in world.connect.statuses():
        if time.monotonic() > deadline:
            raise Incomplete(f"connector {name} does not go away")
        time.sleep(0.2)


JDBC_DEFAULT = JdbcSink("JDBC sink, defaults")
JDBC_TUNED = JdbcSink(
    "JDBC sink, tuned",
    settings={
        "batch.size": "5000",
        "consumer.override.max.poll.records": "5000",
        "use.reduction.buffer": "true",
    },
    url="?reWriteBatchedInserts=true",
)


def run(
    world: World,
    contender: Ours | JdbcSink,
    workload: str,
    filled: Filled,
    database: str,
    *,
    stream: bool = False,
    deadline_s: float = _DEADLINE_S,
) -> Result:
    """Measure one pass over the filled topics into `database`."""
    tables = list(filled.records)
    with (
        psycopg.connect(world.databases.dsn_of(database), autocommit=True, application_name=OWN) as target,
        Usage(world.databases.dsn_of("postgres"), database) as usage,
    ):
        began = datetime.now(UTC)
        with contender.running(world, filled, database, usage) as alive:
            wait_for(target, filled.markers, deadline_s, alive)
        used = usage.used
        found = rate(target, tables, began, filled.total if stream else None)
    return Result(
        contender.name,
        workload,
        filled.total,
        round(found.seconds, 3),
        round(found.rows_per_second, 1),
        round(found.first_s, 3),
        round(found.from_start_s, 3),
        found.commits,
        round(used.applier_s, 2),
        round(used.database_s, 2),
        round(used.peak_mb, 1),
    )


def prepare_existing(world: World, filled: Filled, database: str) -> None:
    """Make a database that a run has filled ready for a second pass."""
    with psycopg.connect(world.databases.dsn_of(database), autocommit=True, application_name=OWN) as target:
        forget(target, filled.markers)


# -- the limit: ready rows, no Kafka, no decoding


def limit(world: World, workload: str, filled: Filled, database: str, *, existing: bool, batch: int = 5000) -> Result:
    """COPY of ready text into a staging table and one guarded upsert a batch, on one connection, in its own process."""
    (table,) = filled.records
    with Usage(world.databases.dsn_of("postgres"), database) as usage:
        theirs, ours = _SPAWN.Pipe()
        dsns = world.databases.dsn_of(SOURCE), world.databases.dsn_of(database)
        process = _SPAWN.Process(target=_limit, args=(theirs, *dsns, table, batch, existing))
        process.start()
        assert process.pid is not None
        usage.watch(process.pid)
        try:
            if not ours.poll(_DEADLINE_S):
                raise Incomplete("the limit did not end")
            rows, seconds, cpu = ours.recv()
        finally:
            usage.look()
            process.join(10)
            process.terminate()
        used = usage.used
    return Result(
        "limit: COPY + guarded upsert",
        workload,
        rows,
        round(seconds, 3),
        round(rows / seconds, 1),
        applier_cpu_s=round(cpu, 2),
        database_cpu_s=round(used.database_s, 2),
        peak_mb=round(used.peak_mb, 1),
    )


def _limit(answer: Any, source_dsn: str, target_dsn: str, table: str, batch: int, existing: bool) -> None:
    position = "\\\\x" + "00" * 21 + "01"
    chunks: list[bytes] = []
    with psycopg.connect(source_dsn) as source, source.cursor() as cursor:
        names = [
            row[0]
            for row in source.execute(
                "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 ORDER BY attnum",
                (f"public.{table}",),
            )
        ]
        lines: list[bytes] = []
        with cursor.copy(f"COPY (SELECT *, '{position[1:]}' FROM public.{table} ORDER BY id) TO STDOUT") as copy:
            for line in copy:
                lines.append(bytes(line))
                if len(lines) == batch:
                    chunks.append(b"".join(lines))
                    lines = []
        chunks.append(b"".join(lines))
        rows = source.execute(f"SELECT count(*) FROM public.{table}").fetchone()[0]  # type: ignore[index]
        types = source.execute(
            "SELECT string_agg(format('%%I %%s', attname, format_type(atttypid, atttypmod)), ', ' ORDER BY attnum)"
            " FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0",
            (f"public.{table}",),
        ).fetchone()[0]  # type: ignore[index]
    columns = ", ".join(names)
    with psycopg.connect(target_dsn, application_name="limit") as target:
        target.execute("SET jit = off")
        if not existing:
            target.execute(f"CREATE TABLE public.{table} ({types}, _position bytea, PRIMARY KEY (id))")
        target.execute(
            f"CREATE TEMP TABLE stage ON COMMIT DELETE ROWS AS SELECT * FROM public.{table} WITH NO DATA"
        )
        target.commit()
        assignments = ", ".join(f"{name} = excluded.{name}" for name in [*names[1:], "_position"])
        upsert = (
            f"INSERT INTO public.{table} AS t ({columns}, _position) SELECT {columns}, _position FROM stage"
            f" ON CONFLICT (id) DO UPDATE SET {assignments} WHERE t._position <= excluded._position"
        )
        began, cpu = time.perf_counter(), time.process_time()
        for chunk in chunks:
            with target.cursor() as cursor, cursor.copy("COPY stage FROM STDIN") as copy:
                copy.write(chunk)
            target.execute(upsert)
            target.commit()
        answer.send((rows, time.perf_counter() - began, time.process_time() - cpu))


# -- reading alone


def reading(world: World, workload: str, filled: Filled, client: Client, *, decode: bool = False) -> Result:
    """Every record through our adapter of the client library, and no further; or decoded into change events too."""
    theirs, ours = _SPAWN.Pipe()
    process = _SPAWN.Process(
        target=_read, args=(theirs, world.kafka, filled.topics, filled.total, client, world.placeholder, decode)
    )
    process.start()
    try:
        if not ours.poll(_DEADLINE_S):
            raise Incomplete("reading did not end")
        records, seconds, cpu, memory = ours.recv()
    finally:
        process.join(10)
        process.terminate()
    return Result(
        f"reading{' and decoding' if decode else ''} alone, {client}",
        workload,
        records,
        round(seconds, 3),
        round(records / seconds, 1),
        applier_cpu_s=round(cpu, 2),
        peak_mb=round(memory, 1),
    )


def _read(
    answer: Any, bootstrap: str, topics: list[str], total: int, client: Client, placeholder: str, decode: bool
) -> None:
    from cdc.source.consumer import KafkaConnection, open_consumer
    from cdc.source.envelope import Decoder
    from tests.bench.usage import peak_mb

    consumer = open_consumer(client, KafkaConnection(bootstrap))
    consumer.subscribe(topics, f"read-{time.time_ns()}")
    decoder = Decoder(placeholder=placeholder, standalone=True).decode
    records, began, cpu = 0, 0.0, 0.0
    while records < total:
        for partition in consumer.changes().assigned:
            consumer.seek(partition, 0)
        found = consumer.poll(5000, 32 << 20, 0.2)
        if found and not began:
            began, cpu = time.perf_counter(), time.process_time()
        if decode:
            for record in found:
                decoder(record)
        records += len(found)
    seconds = time.perf_counter() - began
    answer.send((records, seconds, time.process_time() - cpu, peak_mb(os.getpid()) or 0.0))
    consumer.close()
