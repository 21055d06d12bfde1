"""This applier as a contender: `cdc run`, as a person starts it."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg

from tests.bench.clock import Clock, Measured, Run
from tests.bench.delay import delayed
from tests.bench.workloads import Workload
from tests.bench.world import Source, World

_CDC = "from cdc.cli.main import main; main()"


def applier(client: str, workers: int = 1) -> Run:
    """A run with this client and so many worker processes."""

    def run(world: World, source: Source, workload: Workload, target: str) -> Measured:
        with running_applier(world, source, target, client, workers, workload) as (process, pipeline):
            clock = Clock(world, process.pid, source.records)
            with psycopg.connect(world.dsn(target), autocommit=True) as connection:
                return clock.follow(lambda: applied(connection, pipeline), lambda: process.poll() is None)

    return run


@contextmanager
def running_applier(
    world: World,
    source: Source,
    target: str,
    client: str = "librdkafka",
    workers: int = 1,
    workload: Workload | None = None,
) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """The process of `cdc run` and the pipeline's name. `workload`: of its columns, batch and distance."""
    name = f"b{uuid.uuid4().hex[:8]}"
    folder = world.folder / name
    folder.mkdir()
    columns, batch, delay_ms = (workload.columns, workload.batch_rows, workload.delay_ms) if workload else ("", 5000, 0)
    tables = "".join(f"  - from: public.{table}\n    to: hub.{table}{columns}\n" for table in source.tables)
    head = f"pipeline: {name}\nsource: {source.name}\ntarget: hub\nclient: {client}\nbatch: {{rows: {batch}}}\n"
    (folder / f"{name}.yaml").write_text(f"{head}tables:\n{tables}", encoding="utf-8")
    near = world.stack.endpoints.postgres
    with ExitStack() as open_ones:
        port = open_ones.enter_context(delayed(near.host, near.port, delay_ms / 1000)) if delay_ms else near.port
        where = ["--mappings", str(folder), "--connections", str(world.connections(source, target, port))]
        words = ["run", name, "--workers", str(workers), *where]
        yield open_ones.enter_context(_cdc(words, folder / "log")), name


@contextmanager
def _cdc(words: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The command while it runs; what fails meanwhile is told with the end of its log."""
    with log.open("wb") as out:
        command = [sys.executable, "-c", _CDC, *words]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)
    try:
        yield process
    except AssertionError as error:
        raise AssertionError(f"{error}\n{log.read_text(errors='replace')[-2000:]}") from error
    finally:
        process.terminate()
        process.wait(60)


def applied(connection: psycopg.Connection[Any], pipeline: str) -> int:
    """By the watermarks: they commit with the rows."""
    query = "SELECT coalesce(sum(next), 0)::bigint FROM cdc.watermark WHERE pipeline = %s"
    try:
        row = connection.execute(query, [pipeline]).fetchone()
    except psycopg.errors.UndefinedTable:
        return 0
    return int(row[0]) if row else 0
