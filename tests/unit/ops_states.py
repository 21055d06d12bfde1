"""States made by hand for the tests of `cdc metrics`."""

from __future__ import annotations

from datetime import UTC, datetime

from cdc.control.connector_states import ConnectorState
from cdc.control.status import (
    Counted,
    PartitionStatus,
    PipelineStatus,
    SnapshotStatus,
    Status,
    TopicStatus,
    WorkerStatus,
)
from cdc.model import TopicPartition
from cdc.target.operator import ParkedEntry

SECRET = "s3cret-row-value"  # stands for what an error or a held key may hold

WORKER = WorkerStatus(
    worker="host:1",
    state="running",
    error=SECRET,
    age_s=1.0,
    fresh=True,
    rows_per_second=5.0,
    latency_ms={"p50": 9.0, "p99": 31.0},
    stages={"waiting for broker": 0.75, "idle": 0.25},
    partitions=2,
)
TOPIC = TopicStatus(
    topic="crm.public.t",
    source="crm",
    mappings=("crm/hub.t",),
    partitions=(
        PartitionStatus(0, 5, 0, 5, 0, 0.0),
        PartitionStatus(1, 10, 0, 50, 40, 2.5, SECRET, loss_in_s=600.0, loss_is_near=True),
    ),
    applied=70,
    skipped={"stale": 3},
    parked={"held": 2},
)
PIPELINE = PipelineStatus(
    name="crm",
    target="hub",
    state="running",
    error="",
    rows_per_second=5.0,
    workers=(WORKER,),
    topics=(TOPIC,),
    snapshots=(SnapshotStatus("crm/hub.t", "2026-11-24T08:00:00+00:00", "cdc sweep crm hub.t"),),
    counted=(
        Counted("crm/hub.t", "applied", "", 70),
        Counted("crm/hub.t", "parked", "held", 2),
        Counted("crm/hub.t", "skipped", "stale", 3),
    ),
)
STATUS = Status((PIPELINE,), (ConnectorState("crm", "FAILED", ("RUNNING", "FAILED"), f"task 1: {SECRET}"),), ())
HEALTHY = Status((PIPELINE,), (ConnectorState("crm", "RUNNING", ("RUNNING",), ""),), ())


def parked_entry(reason: str) -> ParkedEntry:
    at = datetime(2026, 11, 24, tzinfo=UTC)
    return ParkedEntry(1, "crm/hub.t", SECRET, TopicPartition("t", 0), 7, reason, SECRET, at, False)
