"""kill -9 of a worker at every named point of the commit path: nothing is lost, doubled or half there.

Ten pipelines read the same topics into targets of their own, each with its own way to die; they die, are looked at
(I5: the target holds exactly what its watermarks say) and are started again side by side.
"""

from __future__ import annotations

import signal

import pytest

from cdc.engine.failpoints import POINTS
from tests.faults import checks
from tests.faults.pipeline import KILLED, Pipeline
from tests.faults.source import REFUSED, Source, Writer
from tests.fix_pipeline import Maker
from tests.waiting import eventually

pytestmark = pytest.mark.stack
BATCHES = [point for point in POINTS if point not in ("assigned", "revoked", "parked")]


def at(point: str, times: int) -> str:
    return f"{point}:{times}:kill"


def all_die(pipelines: list[Pipeline]) -> None:
    """Every first (or only) worker was killed by its failpoint; the rows are those of the watermarks."""
    for pipeline in pipelines:
        assert pipeline.workers[0].ends() == KILLED, pipeline.logs()
    for pipeline in pipelines:
        pipeline.gone()
        if pipeline.state_exists():
            checks.atomic(pipeline)


def all_heal(source: Source, pipelines: list[Pipeline]) -> None:
    """Started again, they catch up; everything is there once. What was parked is parked, and only that."""
    for pipeline in pipelines:
        pipeline.start()
    for pipeline in pipelines:
        ends = pipeline.catches_up()
        checks.whole(source, pipeline, at_least=900)
        assert pipeline.watermarks() == {place: end for place, end in ends.items() if end}
        pipeline.stop()


def test_killed_while_catching_up(source: Source, pipelines: Maker) -> None:
    """The third batch (of twenty or more) is the last one of the first worker."""
    source.run(f"INSERT INTO items VALUES (990001, '{REFUSED}', 1, NULL, 0) ON CONFLICT DO NOTHING")
    source.captured()
    dying = {point: pipelines() for point in BATCHES}
    for point, pipeline in dying.items():
        pipeline.start(at(point, 3))
    all_die(list(dying.values()))
    # Committed batches stay: the ones before the point, and after COMMIT also the one that was under way.
    # Reading is ahead of writing: a worker may read its third batch before its first one is in.
    nothing = {point for point, pipeline in dying.items() if sum(pipeline.watermarks().values()) == 0}
    assert nothing <= {"polled", "decoded", "mapped"}
    all_heal(source, list(dying.values()))


def test_killed_while_a_record_is_set_aside(source: Source, pipelines: Maker) -> None:
    """A refused row: the batch is played again with care, and its worker dies with the parked record unsaved."""
    source.run(f"INSERT INTO items VALUES (990001, '{REFUSED}', 1, NULL, 0) ON CONFLICT DO NOTHING")
    source.captured()
    pipeline = pipelines()
    pipeline.start(at("parked", 1))
    all_die([pipeline])
    assert pipeline.parked() == []
    all_heal(source, [pipeline])
    assert ("items", (990001,), "check_violation") in pipeline.parked()


def test_killed_in_a_rebalance(source: Source, pipelines: Maker) -> None:
    """A worker dies when it gets its partitions; another when it loses some to a second worker."""
    first, second = pipelines(), pipelines()
    first.start(at("assigned", 1))
    second.start(at("revoked", 1))
    second.moved(1)
    second.start()
    all_die([first])
    assert second.workers[0].ends() == KILLED, second.logs()
    first.start()
    for pipeline in (first, second):
        pipeline.catches_up()
        checks.whole(source, pipeline, at_least=900)


def test_killed_while_streaming(source: Source, pipelines: Maker) -> None:
    """With somebody writing: every point again, the refused rows among the changes."""
    points = {point: pipelines(rows=5000) for point in ("parked", *BATCHES)}
    with Writer(source, seed=7, refused=True) as writer:
        for point, pipeline in points.items():
            pipeline.start(at(point, 1 if point == "parked" else 8))
        writer.wrote(200)
        all_die(list(points.values()))
        for pipeline in points.values():
            pipeline.start()
        writer.wrote(100)
    source.captured()
    for pipeline in points.values():
        pipeline.catches_up()
        checks.whole(source, pipeline, at_least=1500)
        pipeline.stop()


def test_what_was_parked_is_applied_when_the_target_takes_it(source: Source, pipelines: Maker) -> None:
    """The constraint goes, a retry is asked for, and target and source are equal to the last row."""
    source.run(f"INSERT INTO items VALUES (990001, '{REFUSED}', 1, NULL, 0) ON CONFLICT DO NOTHING")
    source.captured()
    pipeline = pipelines()
    pipeline.start()
    pipeline.catches_up()
    assert pipeline.parked()
    pipeline.run(
        "ALTER TABLE hub.items DROP CONSTRAINT items_name_check", "UPDATE cdc.parked SET retry_requested_at = now()"
    )
    eventually(lambda: not pipeline.parked(), 20, lambda: f"nothing is parked any more: {pipeline.parked()}")
    assert checks.equal(source, pipeline) > 900
    checks.counted(pipeline)


def test_killed_again_and_again(source: Source, pipelines: Maker) -> None:
    """Two workers share the partitions, one of them is killed at no particular moment, over and over."""
    pipeline = pipelines()
    with Writer(source, seed=11) as writer:
        steady = pipeline.start()
        for _ in range(3):
            victim = pipeline.start()
            writer.wrote(60)
            victim.signal(signal.SIGKILL)
            assert victim.ends() == KILLED
    source.captured()
    pipeline.catches_up()
    assert steady.code is None, pipeline.logs()
    checks.whole(source, pipeline, at_least=1200)
