"""This applier as a contender: `cdc run`, as a person starts it."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from tests.bench.clock import Clock, Measured, Run
from tests.bench.workloads import Workload
from tests.bench.world import Source, World

_CDC = "from cdc.cli.main import main; main()"
_BATCH = 5000


def applier(client: str, workers: int = 1) -> Run:
    """A run with this client and so many worker processes."""

    def run(world: World, source: Source, workload: Workload, target: str) -> Measured:
        with running_applier(world, source, target, client, workers, workload.columns) as (process, pipeline):
            clock = Clock(world, process.pid, source.records)
            with psycopg.connect(world.dsn(target), autocommit=True) as connection:
                return clock.follow(lambda: _applied(connection, pipeline), lambda: process.poll() is None)

    return run


@contextmanager
def running_applier(
    world: World, source: Source, target: str, client: str, workers: int = 1, columns: str = ""
) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """The process of `cdc run` and the pipeline's name."""
    name = f"b{uuid.uuid4().hex[:8]}"
    folder = world.folder / name
    folder.mkdir()
    tables = "".join(f"  - from: public.{table}\n    to: hub.{table}{columns}\n" for table in source.tables)
    head = f"pipeline: {name}\nsource: {source.name}\ntarget: hub\nclient: {client}\nbatch: {{rows: {_BATCH}}}\n"
    (folder / f"{name}.yaml").write_text(f"{head}tables:\n{tables}", encoding="utf-8")
    where = ["--mappings", str(folder), "--connections", str(world.connections(source, target))]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", _CDC, "run", name, "--workers", str(workers), *where],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process, name
    except AssertionError as error:
        raise AssertionError(f"{error}\n{(folder / 'log').read_text(errors='replace')[-2000:]}") from error
    finally:
        process.terminate()
        process.wait(60)


def _applied(connection: psycopg.Connection[Any], pipeline: str) -> int:
    """By the watermarks: they commit with the rows."""
    query = "SELECT coalesce(sum(next), 0)::bigint FROM cdc.watermark WHERE pipeline = %s"
    try:
        row = connection.execute(query, [pipeline]).fetchone()
    except psycopg.errors.UndefinedTable:
        return 0
    return int(row[0]) if row else 0
