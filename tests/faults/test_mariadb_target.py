"""kill -9 of workers that deliver into MariaDB, sessions that are ended, workers that freeze."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any

import pymysql
import pytest

from cdc.mapping.load import load
from cdc.reconcile.compare import compare
from tests.faults import checks
from tests.faults.mariadb_target import MariaDbPipeline, new_mariadb_pipeline
from tests.faults.pipeline import KILLED, unique
from tests.faults.source import REFUSED, Source, Writer
from tests.faults.test_kill import BATCHES, all_die, all_heal, at
from tests.faults.test_target import supervised
from tests.waiting import eventually

pytestmark = pytest.mark.stack
Make = Callable[..., MariaDbPipeline]


@pytest.fixture
def pipelines(source: Source) -> Iterator[Make]:
    with ExitStack() as open_ones:

        def make(**options: Any) -> MariaDbPipeline:
            return open_ones.enter_context(new_mariadb_pipeline(source, unique("m"), **options))

        yield make


def compared(pipeline: MariaDbPipeline) -> None:
    """`cdc compare` says the same as the tests' own SQL."""
    found = compare(pipeline.settings, [load(pipeline.mapping_file)])
    assert found.verdict in ("equal", "parked"), found.to_dict()
    assert found.rows > 0


def test_killed_while_catching_up(source: Source, pipelines: Make) -> None:
    source.run(f"INSERT INTO items VALUES (990001, '{REFUSED}', 1, NULL, 0) ON CONFLICT DO NOTHING")
    source.captured()
    dying = {point: pipelines() for point in BATCHES}
    for point, pipeline in dying.items():
        pipeline.start(at(point, 3))
    all_die(list(dying.values()))
    # Reading is ahead of writing: a worker may read its third batch before its first one is in.
    nothing = {point for point, pipeline in dying.items() if sum(pipeline.watermarks().values()) == 0}
    assert nothing <= {"polled", "decoded", "mapped"}
    all_heal(source, list(dying.values()))
    assert ("items", (990001,), "check_violation") in dying["pre_commit"].parked()
    compared(dying["pre_commit"])


def test_killed_while_a_record_is_set_aside(source: Source, pipelines: Make) -> None:
    source.run(f"INSERT INTO items VALUES (990001, '{REFUSED}', 1, NULL, 0) ON CONFLICT DO NOTHING")
    source.captured()
    pipeline = pipelines()
    pipeline.start(at("parked", 1))
    all_die([pipeline])
    assert pipeline.parked() == []
    all_heal(source, [pipeline])
    assert ("items", (990001,), "check_violation") in pipeline.parked()


def test_killed_again_and_again(source: Source, pipelines: Make) -> None:
    """Two workers share the partitions; one of them is killed at no particular moment, over and over."""
    pipeline = pipelines()
    with Writer(source, seed=29) as writer:
        steady = pipeline.start()
        for _ in range(3):
            victim = pipeline.start()
            writer.wrote(60)
            victim.signal(signal.SIGKILL)
            assert victim.ends() == KILLED
    source.captured()
    pipeline.catches_up()
    assert steady.code is None, pipeline.logs()
    checks.whole(source, pipeline, at_least=1000)
    compared(pipeline)


def test_sessions_end_in_mid_stream(source: Source, pipelines: Make) -> None:
    """All sessions of the workers are ended, again and again (an administrator, a restart, a failover)."""
    pipeline = pipelines(rows=500)
    sessions = "SELECT id FROM information_schema.processlist WHERE user = %s"
    with supervised(pipeline, workers=2), Writer(source, seed=31) as writer:
        for _ in range(3):
            eventually(lambda: pipeline.rows(sessions, pipeline.user), 60, "a worker is connected")
            writer.wrote(25)
            for (number,) in pipeline.rows(sessions, pipeline.user):
                with suppress(pymysql.Error):  # it may have gone by itself
                    pipeline.run(f"KILL {number}")
        writer.wrote(25)
        source.captured()
        eventually(pipeline.watermarks, 60, "the pipeline runs")
    source.captured()
    pipeline.start()
    pipeline.catches_up()
    checks.whole(source, pipeline, at_least=900)


def test_frozen_in_a_commit(source: Source, pipelines: Make) -> None:
    """A worker stops with its rows written and its locks held: another one takes over, and the thawed one is fenced."""
    pipeline = pipelines()
    frozen = pipeline.start("watermark_set:3:stop")
    eventually(lambda: frozen.frozen, 60, lambda: f"the worker stands still{pipeline.logs()}")
    pipeline.start()
    pipeline.catches_up()
    frozen.signal(signal.SIGCONT)
    checks.whole(source, pipeline, at_least=900)
