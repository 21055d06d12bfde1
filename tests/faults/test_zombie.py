"""A frozen worker loses its partitions; when it thaws it commits nothing (I4), and nothing is lost or doubled."""

from __future__ import annotations

import signal
import time

import pytest

from tests.faults import checks, topics
from tests.faults.pipeline import Pipeline, Worker
from tests.faults.proxy import proxy_to
from tests.faults.source import Source, Writer
from tests.fix_pipeline import Maker
from tests.waiting import PATIENCE, eventually

pytestmark = pytest.mark.stack
TAKEN_OVER_S = 60.0
"""Sessions of the group (3 s here) and of the target (5 s) must end, then a lock wait of the successor (10 s)."""


def freeze(pipeline: Pipeline, point: str, times: int = 3) -> Worker:
    """A worker that stops itself at this point; returns when it has."""
    worker = pipeline.start(f"{point}:{times}:stop")
    eventually(lambda: worker.frozen or worker.code is not None, 60, f"{point} is reached")
    assert worker.frozen, pipeline.logs()
    return worker


def state(pipeline: Pipeline) -> list[object]:
    """All that a commit of a worker would change."""
    return [
        pipeline.watermarks(),
        checks.outcomes(pipeline),
        pipeline.rows("SELECT id, _cdc_position FROM hub.items ORDER BY id"),
        pipeline.rows("SELECT item_id, line_no, _cdc_position FROM hub.lines ORDER BY item_id, line_no"),
    ]


def thaw(worker: Worker) -> None:
    """Go on, and get to know that the world has changed."""
    told = len(worker.said("partitions assigned"))
    worker.signal(signal.SIGCONT)
    eventually(
        lambda: len(worker.said("partitions assigned")) > told or worker.code is not None,
        40,
        lambda: f"the thawed worker takes part again:\n{worker.tail()}",
    )


@pytest.mark.parametrize("points", [("polled", "mapped", "rows_written"), ("watermark_set", "pre_commit", "assigned")])
def test_a_successor_takes_over(source: Source, pipelines: Maker, points: tuple[str, ...]) -> None:
    """Frozen before, inside and at the end of a transaction: a second worker carries on, the first one is too late."""
    frozen: list[tuple[Pipeline, Worker]] = []
    for point in points:
        pipeline = pipelines()
        frozen.append((pipeline, freeze(pipeline, point, 1 if point == "assigned" else 3)))
    for pipeline, _ in frozen:
        pipeline.start()
    for pipeline, _ in frozen:
        pipeline.catches_up(TAKEN_OVER_S)
    for pipeline, zombie in frozen:
        before = state(pipeline)
        thaw(zombie)
        assert state(pipeline) == before, pipeline.logs()
        checks.whole(source, pipeline, at_least=900)


def test_one_of_two_freezes_while_somebody_writes(source: Source, pipelines: Maker) -> None:
    """Half of the partitions change hands in mid-stream, and back when the frozen one thaws."""
    pipeline = pipelines()
    with Writer(source, seed=3) as writer:
        pipeline.start()
        second = pipeline.start()
        writer.wrote(60)
        eventually(lambda: second.said("partitions assigned"), 30, "the second worker has partitions")
        second.signal(signal.SIGSTOP)
        writer.wrote(60)
        source.captured()
        pipeline.reaches(topics.ends(source.stack, pipeline.topics), TAKEN_OVER_S)
        thaw(second)
        writer.wrote(60)
    source.captured()
    pipeline.catches_up()
    checks.whole(source, pipeline, at_least=900)


def test_freeze_rewind_thaw(source: Source, pipelines: Maker) -> None:
    """While a worker is frozen with a mapped batch, its watermarks move on and are rewound to where it stands.

    A compare of `next` alone would let it commit; the fence does not.
    """
    pipeline = pipelines()
    zombie = freeze(pipeline, "mapped")
    stood, fences = pipeline.watermarks(), pipeline.fences()
    other = pipeline.start()
    pipeline.catches_up(TAKEN_OVER_S)
    other.stop()
    pipeline.run("TRUNCATE hub.items, hub.lines", "DELETE FROM cdc.tally")
    there = dict.fromkeys(pipeline.watermarks(), 0) | stood
    pipeline.rewind(there)
    assert all(fence > fences[place] for place, fence in pipeline.fences().items() if place in fences)
    before = state(pipeline)
    zombie.signal(signal.SIGCONT)
    # Fenced, or its session ended by the server, where a transaction stood open for too long.
    eventually(
        lambda: zombie.said("fenced") or zombie.said("25P03"), 40, lambda: f"the zombie is fenced:\n{zombie.tail()}"
    )
    zombie.signal(signal.SIGKILL)
    zombie.ends()
    assert before[0] == there
    pipeline.rewind(dict.fromkeys(there, 0))  # from the beginning: also what was applied before the freeze
    pipeline.run("DELETE FROM cdc.tally")
    pipeline.start()
    pipeline.catches_up()
    checks.whole(source, pipeline, at_least=900)


def test_frozen_in_the_middle_of_a_copy(source: Source, pipelines: Maker) -> None:
    """The server waits for data that never comes, holding locks of rows that the successor must write.

    `statement_timeout` does not end this (PostgreSQL ignores cancels while it reads COPY data).
    """
    at = source.stack.endpoints.postgres
    with proxy_to(at.host, at.port) as proxy:
        pipeline = pipelines(port=proxy.port, rows=5000)
        zombie = pipeline.start()
        pipeline.catches_up()
        halves = "moved_values_missing", "update_missing"
        eventually(
            lambda: not {reason for *_, reason in pipeline.parked()} & {*halves}, 20, "no half of a key change waits"
        )
        proxy.silence_in_copy = True
        # A key change in the same batch: its halves are rounds of their own, each with a COPY. While the worker stands
        # still, so that most of it makes one batch.
        zombie.signal(signal.SIGSTOP)
        source.run("UPDATE items SET rev = rev + 1; UPDATE items SET id = -id WHERE id < 20")
        source.captured()
        zombie.signal(signal.SIGCONT)
        eventually(lambda: proxy.silenced, 60, "a COPY has begun in a transaction that has written already")
        zombie.signal(signal.SIGSTOP)
        stuck = "SELECT pid FROM pg_stat_activity WHERE datname = %s AND state = 'active' AND wait_event = 'ClientRead'"
        assert pipeline.rows(stuck, pipeline.database.name)
        began = time.monotonic()
        pipeline.start()
        pipeline.catches_up(TAKEN_OVER_S)
        assert time.monotonic() - began < PATIENCE * TAKEN_OVER_S
        assert pipeline.rows(stuck, pipeline.database.name) == []
        thaw(zombie)
        checks.whole(source, pipeline, at_least=900)
