"""The target goes away, forgets to answer, is locked, refuses: the pipeline waits, goes on, or says what is wrong."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from tests.faults import checks
from tests.faults.pipeline import NEEDS_A_PERSON, TEMPORARY, Pipeline, write_connections
from tests.faults.proxy import proxy_to
from tests.faults.source import REFUSED, Source, Writer
from tests.fix_pipeline import Maker
from tests.waiting import eventually

pytestmark = pytest.mark.stack
_CDC = "from cdc.cli.main import main; main()"
_APPLIERS = "FROM pg_stat_activity WHERE datname = %s AND application_name = 'cdc-applier'"


@contextmanager
def supervised(pipeline: Pipeline, workers: int = 1) -> Iterator[subprocess.Popen[bytes]]:
    """`cdc run`, as a person starts it; stopped in order at the end."""
    log = pipeline.folder / f"{pipeline.name}.run.log"
    where = ["--mappings", str(pipeline.folder / pipeline.name), "--connections", str(pipeline.connections_file)]
    folder = pipeline.folder / pipeline.name
    folder.mkdir()
    (folder / f"{pipeline.name}.yaml").write_text(pipeline.mapping_file.read_text(encoding="utf-8"), encoding="utf-8")
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", _CDC, "run", pipeline.name, "--workers", str(workers), *where],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
        assert process.poll() is None, log.read_text(encoding="utf-8")[-3000:]
    finally:
        process.terminate()
        try:
            process.wait(60)
        finally:
            process.kill()
    assert process.returncode == 0, log.read_text(encoding="utf-8")[-3000:]


def test_sessions_end_in_mid_stream(source: Source, pipelines: Maker) -> None:
    """All sessions of the workers are ended, again and again (an administrator, a restart, a failover)."""
    pipeline = pipelines(rows=500)
    with supervised(pipeline, workers=2), Writer(source, seed=21) as writer:
        for _ in range(4):
            what = "a worker is connected"
            eventually(lambda: pipeline.rows(f"SELECT {_APPLIERS}", pipeline.database.name), 60, what)
            writer.wrote(25)
            pipeline.rows(f"SELECT pg_terminate_backend(pid) {_APPLIERS}", pipeline.database.name)
        writer.wrote(25)
        ended = writer.committed
        source.captured()
        eventually(lambda: pipeline.watermarks(), 60, "the pipeline runs")
    assert ended >= 125
    source.captured()
    pipeline.start()
    pipeline.catches_up()
    checks.whole(source, pipeline, at_least=900)


def test_commit_without_an_answer(source: Source, pipelines: Maker) -> None:
    """COMMIT arrives and its answer does not: what is in is not written again, and what it parked stays parked.

    Every batch that parks a refused row loses its answer; then come later changes of those keys.
    """
    at = source.stack.endpoints.postgres
    keys = range(980_001, 980_011)
    source.run(*(f"INSERT INTO items VALUES ({key}, '{REFUSED}', 0, NULL, 0)" for key in keys))
    source.captured()
    with proxy_to(at.host, at.port) as proxy:
        pipeline = pipelines(port=proxy.port, rows=150)
        proxy.lose_replies = True
        worker = pipeline.start()
        pipeline.catches_up()
        assert proxy.lost >= 1
        assert worker.said("retry")
        # Read before the refused rows are parked, a later change would take their place in the batch.
        eventually(lambda: {(key,) for key in keys} <= {key for _, key, _ in pipeline.parked()}, 30, "all are parked")
        source.run(*(f"UPDATE items SET name = 'late', rev = 1 WHERE id = {key}" for key in keys))
        source.captured()
        pipeline.catches_up()
        assert worker.code is None, pipeline.logs()
        for key in keys:
            reasons = [reason for table, each, reason in pipeline.parked() if (table, each) == ("items", (key,))]
            assert reasons == ["check_violation", "held"]
        checks.whole(source, pipeline, at_least=900)


def test_a_table_is_locked(source: Source, pipelines: Maker) -> None:
    """Somebody holds a lock for longer than the lock timeout (a migration): the batch is tried again."""
    pipeline = pipelines()
    with psycopg.connect(pipeline.database.dsn) as other:
        other.execute("LOCK TABLE hub.items IN ACCESS EXCLUSIVE MODE")
        worker = pipeline.start()
        eventually(lambda: worker.said("retry"), 40, lambda: f"a retry:\n{worker.tail()}")
        other.rollback()
    pipeline.catches_up()
    assert worker.code is None, pipeline.logs()
    checks.whole(source, pipeline, at_least=900)


def test_the_target_is_down_at_the_start(source: Source, pipelines: Maker) -> None:
    """Without a supervisor the worker gives up for now; with one the pipeline runs as soon as the target is there."""
    at = source.stack.endpoints.postgres
    with proxy_to(at.host, at.port) as proxy:
        pipeline = pipelines(port=proxy.port)
        proxy.refusing = True
        worker = pipeline.start()
        assert worker.ends() == TEMPORARY, pipeline.logs()
        (line,) = worker.said("gives up for now")
        assert str(proxy.port) in line["where"]
        with supervised(pipeline):
            threading.Event().wait(0)  # let it start; whatever it meets first, it must get over it
            proxy.refusing = False
            pipeline.workers.clear()
            eventually(lambda: sum(pipeline.watermarks().values()) > 900, 60, "records are applied")
    pipeline.start()
    write_connections(pipeline)


def test_a_wrong_password_needs_a_person(source: Source, pipelines: Maker) -> None:
    pipeline = pipelines()
    secrets = pipeline.folder / "wrong.properties"
    secrets.write_text("postgres.password=no\n", encoding="utf-8")
    write_connections(pipeline, password=f"${{file:{secrets}:postgres.password}}")
    worker = pipeline.start()
    assert worker.ends() == NEEDS_A_PERSON
    (line,) = worker.said("needs a person")
    assert "password authentication failed" in line["error"]
    assert "connections.yaml" in line["hint"]
    assert "Traceback" not in worker.tail()


def test_a_table_that_the_mapping_does_not_fit_needs_a_person(source: Source, pipelines: Maker) -> None:
    """Without its key's unique index nothing could be written once only."""
    pipeline = pipelines()
    pipeline.run("ALTER TABLE hub.items DROP CONSTRAINT items_pkey")
    worker = pipeline.start()
    assert worker.ends() == NEEDS_A_PERSON, pipeline.logs()
    (line,) = worker.said("needs a person")
    assert "no unique index over its key (id)" in line["error"]
    assert line["where"] == "hub.items"
    assert "CREATE UNIQUE INDEX" in line["hint"]
