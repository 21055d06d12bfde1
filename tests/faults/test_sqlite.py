"""kill -9 of workers that deliver into a SQLite file, and workers that share its one write lock."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from cdc.mapping.load import load
from cdc.reconcile.compare import compare
from tests.faults import checks
from tests.faults.pipeline import KILLED, unique
from tests.faults.source import REFUSED, Source, Writer
from tests.faults.sqlite import SqlitePipeline, new_sqlite_pipeline
from tests.faults.test_kill import BATCHES, all_die, all_heal, at

pytestmark = pytest.mark.stack


@pytest.fixture
def pipelines(source: Source) -> Iterator[Callable[..., SqlitePipeline]]:
    with ExitStack() as open_ones:

        def make(**options: Any) -> SqlitePipeline:
            return open_ones.enter_context(new_sqlite_pipeline(source, unique("q"), **options))

        yield make


def compared(pipeline: SqlitePipeline) -> None:
    """`cdc compare` says the same as the tests' own SQL."""
    found = compare(pipeline.settings, [load(pipeline.mapping_file)])
    assert found.verdict in ("equal", "parked"), found.to_dict()
    assert found.rows > 0


def test_killed_while_catching_up(source: Source, pipelines: Callable[..., SqlitePipeline]) -> None:
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
    compared(dying["pre_commit"])


def test_killed_again_and_again(source: Source, pipelines: Callable[..., SqlitePipeline]) -> None:
    """Two workers share the partitions and the file; one of them is killed at no particular moment, over and over."""
    pipeline = pipelines()
    with Writer(source, seed=23) as writer:
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
