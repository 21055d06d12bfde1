"""Status: states, lags and problems from what targets, Kafka and Connect say."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cdc.control.connect import ConnectorStatus, Part
from cdc.control.connector_states import connector_state
from cdc.control.status import (
    Offsets,
    PartitionStatus,
    PipelineStatus,
    State,
    TopicStatus,
    WorkerStatus,
    all_stored,
    partition_status,
    state_of,
)
from cdc.mapping.load import loads
from cdc.model import TopicPartition
from cdc.settings import load
from cdc.target.operator import PartitionState

PLACE = TopicPartition("crm.public.customers", 1)
NOW_US = 1_000_000_000


def mark(next_: int | None, topic_id: str = "id") -> PartitionState:
    return PartitionState(PLACE, topic_id, next_, 3, "", NOW_US)


def worker(state: str, age_s: float = 1.0, error: str = "") -> WorkerStatus:
    return WorkerStatus("host:1", state, error, age_s, age_s < 10 and state in ("running", "waiting"), 5.0, {}, {}, 4)


@pytest.mark.parametrize(
    ("stored", "start", "end", "since_s", "lag", "lag_s", "problem"),
    [
        (mark(90), 0, 100, 2.5, 10, 2.5, ""),
        (mark(100), 0, 100, None, 0, 0.0, ""),
        (mark(None), 20, 100, 7.0, 80, 7.0, ""),  # nothing applied: all that the topic holds
        (None, 20, 100, None, 80, None, ""),  # the record did not come in time
        (None, 100, 100, None, 0, 0.0, ""),
        (mark(90), None, None, None, None, None, ""),  # Kafka did not answer
        (mark(10), 20, 100, 2.5, 90, 2.5, "offsets 10 to 19 are gone"),
        (mark(101), 0, 100, None, 0, 0.0, "behind the topic's end 100"),
        (mark(90, topic_id="old"), 0, 100, 2.5, 10, 2.5, "created again"),
        (mark(90), 0, 100, -5.0, 10, 0.0, ""),  # Kafka's clock is ahead of ours
    ],
)
def test_a_partition(
    stored: PartitionState | None,
    start: int | None,
    end: int | None,
    since_s: float | None,
    lag: int | None,
    lag_s: float,
    problem: str,
) -> None:
    offsets = Offsets(ids={PLACE.topic: "id"})
    if start is not None and end is not None:
        offsets.starts[PLACE], offsets.ends[PLACE] = start, end
    since_ms = None if since_s is None else NOW_US // 1000 - int(since_s * 1000)
    found = partition_status(PLACE, stored, offsets, since_ms, NOW_US)
    assert (found.lag, found.lag_s) == (lag, lag_s)
    assert problem in found.problem
    assert bool(found.problem) == bool(problem)


def test_without_its_target_a_partition_s_lag_is_not_known() -> None:
    offsets = Offsets({PLACE: 0}, {PLACE: 100})
    found = partition_status(PLACE, None, offsets, None, NOW_US, known=False)
    assert (found.watermark, found.end, found.lag, found.lag_s) == (None, 100, None, None)


def test_without_any_partition_the_lag_is_not_known() -> None:
    found = TopicStatus("crm.public.customers", "crm", ("crm/hub.customers",), (), 0, {}, {})
    assert (found.lag, found.lag_s) == (None, None)


@pytest.mark.parametrize(
    ("workers", "state", "problem"),
    [
        ([], "never run", ""),
        ([worker("running")], "running", ""),
        ([worker("stopped"), worker("running", 3)], "running", ""),  # one of two was stopped
        ([worker("running"), worker("waiting", error="no answer")], "running", "no answer"),
        (
            [worker("failed", error="the topic is compacted"), worker("running", 900)],
            "failed",
            "the topic is compacted",
        ),
        ([worker("stopped", 500)], "stopped", ""),
        ([worker("running", 500)], "stopped", "worker host:1 has been silent for 500 s: it was killed or hangs"),
    ],
)
def test_a_pipelines_state(workers: list[WorkerStatus], state: str, problem: str) -> None:
    assert state_of(workers) == (state, problem)


def pipeline(state: State, *lags: int | None, unreachable: tuple[str, ...] = ()) -> PipelineStatus:
    partitions = tuple(PartitionStatus(number, 5, 0, 5, lag, None) for number, lag in enumerate(lags))
    topic = TopicStatus("t", "crm", ("crm/hub.t",), partitions, 0, {}, {"held": 2, "check_violation": 1})
    return PipelineStatus("crm", "hub", state, "" if state == "running" else "why", 0.0, (), (topic,), (), unreachable)


@pytest.mark.parametrize(
    ("found", "healthy"),
    [
        (pipeline("running", 0, 5), True),  # a lag alone is no illness while somebody works
        (pipeline("stopped", 0, 0), True),
        (pipeline("stopped", 0, 5), False),
        (pipeline("stopped", 0, None), False),
        (pipeline("never run", 0), True),
        (pipeline("never run", 1), False),
        (pipeline("failed", 0), False),
        (pipeline("unknown", 0, unreachable=("target hub: no",)), False),
    ],
)
def test_what_makes_a_pipeline_unhealthy(found: PipelineStatus, healthy: bool) -> None:
    assert (found.problems == ()) == healthy
    assert found.parked == 3


def test_an_unknown_lag_is_not_zero() -> None:
    assert pipeline("running", 3, None).lag is None
    assert pipeline("running", 3, 4).lag == 7
    assert pipeline("running").topics[0].lag is None  # no partition is known


def test_a_failed_task_shows_with_its_meaning_though_the_connector_runs() -> None:
    trace = "org.apache.kafka.connect.errors.ConnectException: x\nCaused by: org.postgresql.util.PSQLException: no slot"
    found = ConnectorStatus("crm", Part("RUNNING"), [Part("FAILED", trace=trace)])
    state = connector_state("crm", found)
    assert (state.state, state.tasks) == ("FAILED", ("FAILED",))
    assert "task 0" in state.problem
    assert "no slot" in state.problem


def test_connectors_that_capture_nothing_are_problems() -> None:
    assert "not registered" in connector_state("crm", None).problem
    assert "no task" in connector_state("crm", ConnectorStatus("crm", Part("RUNNING"), [])).problem
    assert "PAUSED" in connector_state("crm", ConnectorStatus("crm", Part("PAUSED"), [Part("PAUSED")])).problem
    assert connector_state("crm", ConnectorStatus("crm", Part("RUNNING"), [Part("RUNNING")])).problem == ""


@pytest.fixture
def frozen() -> Iterator[int]:
    """The port of a server that lets everybody in and never says anything, as one under `kill -STOP` does."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield int(listening.getsockname()[1])


def test_a_target_that_is_frozen_keeps_nobody(tmp_path: Path, frozen: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cdc.control.status.TARGETS_ANSWER_WITHIN_S", 0.5)
    entry = "host: 127.0.0.1, database: d, user: u, connect_timeout_s: 300"
    file = tmp_path / "connections.yaml"
    file.write_text(f"""
targets:
  copy: {{kind: sqlite, path: copy.db}}
  maria: {{kind: mariadb, port: {frozen}, {entry}}}
  pg: {{kind: postgresql, port: {frozen}, {entry}}}
""")
    mapping = "pipeline: {0}\nsource: crm\ntarget: {0}\ntables: [{{from: public.people, to: main.people}}]"
    pipelines = [loads(mapping.format(name)) for name in ("maria", "copy", "pg")]
    before, began = set(threading.enumerate()), time.monotonic()
    maria, copy, pg = all_stored(load(file), pipelines)
    assert time.monotonic() - began < 3  # of 300
    assert (maria[1], pg[1]) == ("target maria: no answer in 0.5 s", "target pg: no answer in 0.5 s")
    assert copy[1] == ""
    waiting = set(threading.enumerate()) - before
    assert len(waiting) == 2
    assert all(each.daemon for each in waiting)  # the process can end
