"""cdc/control/caught_up.py on played parts: order of the stages, deadlines, who is behind."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cdc.control.caught_up import CaughtUp, Progress, distance, reached, wait_caught_up
from cdc.control.connect import Connect
from cdc.db.catalog import LogPosition
from cdc.db.source import SourceDatabase
from cdc.errors import Terminal, Transient
from cdc.model import TopicPartition

PART = TopicPartition("crm.public.customers", 0)
IDLE = TopicPartition("crm.public.customers", 1)


class World:
    """A source at lsn 1000 whose capture and pipeline move on while the clock does."""

    def __init__(self, *, capture: Sequence[int | None], pipeline: Sequence[int]) -> None:
        self.capture, self.pipeline = list(capture), list(pipeline)
        self.now, self.marks, self.steps = 0.0, 0, []
        self.problem: str | None = None
        self.state = "RUNNING"
        self.settings = SimpleNamespace(kind="postgresql", name="crm", where="source crm")
        self.url = "http://connect"

    # The source.
    def current_position(self) -> LogPosition:
        return LogPosition(1000, 1000)

    def mark(self, signal_table: str | None) -> None:
        assert signal_table == "public.signal"
        self.marks += 1

    # Kafka Connect.
    def config(self, name: str) -> dict[str, str]:
        return {"signal.data.collection": "public.signal"}

    def status(self, name: str) -> Any:
        return SimpleNamespace(problem=self.problem, connector=SimpleNamespace(state=self.state))

    def offsets(self, name: str) -> list[Any]:
        at = self.capture.pop(0) if len(self.capture) > 1 else self.capture[0]
        return [] if at is None else [SimpleNamespace(offset={"lsn_proc": at})]

    # Kafka and the target.
    def ends(self) -> dict[TopicPartition, int]:
        assert len(self.capture) == 1, "the ends were asked before the capture had passed the position"
        return {PART: 10, IDLE: 0}

    def watermarks(self) -> dict[TopicPartition, int]:
        return {PART: self.pipeline.pop(0) if len(self.pipeline) > 1 else self.pipeline[0]}

    def wait(self, deadline_s: float = 60.0) -> CaughtUp:
        def sleep(seconds: float) -> None:
            self.now += seconds

        def report(progress: Progress) -> None:
            self.steps.append((progress.stage, progress.behind))

        return wait_caught_up(
            cast("SourceDatabase", self),
            cast("Connect", self),
            "crm",
            ends=self.ends,
            watermarks=self.watermarks,
            deadline_s=deadline_s,
            report=report,
            clock=lambda: self.now,
            sleep=sleep,
        )


def test_the_stages_in_order() -> None:
    world = World(capture=[None, 900, 1000], pipeline=[3, 9, 10])
    done = world.wait()
    assert done.position == LogPosition(1000, 1000)
    assert done.ends == {PART: 10, IDLE: 0}
    assert world.steps == [("connector", None), ("connector", 100), ("pipeline", 7), ("pipeline", 1)]
    assert world.marks == 1


def test_an_idle_source_is_marked_again_and_again() -> None:
    world = World(capture=[900] * 50 + [1000], pipeline=[10])
    world.wait()
    assert world.marks == 3


def test_the_connector_is_behind() -> None:
    world = World(capture=[900, 900], pipeline=[10])
    with pytest.raises(Transient, match="connector crm is behind its source after 3 s: at 900, the source was at 1000"):
        world.wait(3.0)


def test_the_pipeline_is_behind() -> None:
    world = World(capture=[1000], pipeline=[4])
    with pytest.raises(Transient, match=r"6 records in 1 partitions, most in crm\.public\.customers:0 \(6\)"):
        world.wait(3.0)


def test_a_failed_task_ends_the_waiting_at_once() -> None:
    world = World(capture=[900], pipeline=[10])
    world.problem = "task 0 of crm has failed: no slot"
    with pytest.raises(Terminal, match="no slot"):
        world.wait()
    assert world.now == 0


def test_a_paused_connector_ends_the_waiting_at_once() -> None:
    world = World(capture=[900], pipeline=[10])
    world.state = "PAUSED"
    with pytest.raises(Terminal, match="is PAUSED"):
        world.wait()


def test_what_an_offset_says() -> None:
    assert reached("postgresql", {"lsn_proc": 7, "lsn_commit": 5, "lsn": 7}) == LogPosition(7, 7)
    assert reached("postgresql", {"lsn": 5, "txId": 1}) == LogPosition(5, 5)
    assert reached("postgresql", {"lsn": 5, "snapshot": "INITIAL", "snapshot_completed": False}) is None
    assert reached("postgresql", {}) is None
    assert reached("mariadb", {"file": "binlog.000012", "pos": 4, "event": 2}) == LogPosition(12, 4)
    assert reached("mariadb", {"file": "binlog.000012", "pos": 4, "snapshot": True}) is None


def test_distance() -> None:
    assert distance(None, LogPosition(5, 5)) is None
    assert distance(LogPosition(3, 3), LogPosition(5, 5)) == 2
    assert distance(LogPosition(1, 900), LogPosition(1, 1000)) == 100
    assert distance(LogPosition(1, 900), LogPosition(2, 50)) == 50
    assert distance(LogPosition(9, 9), LogPosition(5, 5)) == 0
