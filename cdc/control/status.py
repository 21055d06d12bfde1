"""How the pipelines are: what runs, what is behind and by how much, what was set aside, what the connectors say.

Asks the targets, Kafka and Kafka Connect, each on its own: what does not answer in time is named in `unreachable`, the
rest is shown. Takes no partitions and changes nothing.
"""

from __future__ import annotations

import math
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, Literal, TypeVar

from cdc.control.connector_states import ConnectorState, connector_states
from cdc.control.operate import FRESH_S, opened, partitions_of, topics, topics_of
from cdc.control.parked import too_much
from cdc.engine.build import kafka_connection
from cdc.errors import CdcError
from cdc.mapping.model import Pipeline, TableMapping
from cdc.model import Outcome, TopicPartition
from cdc.settings import Settings
from cdc.source.times import times_of
from cdc.target.base import Tally
from cdc.target.operator import OpenSnapshot, ParkedEntry, PartitionState, WorkerState

WAITING_ANSWERS_WITHIN_S = 3.0
TARGETS_ANSWER_WITHIN_S = 8.0
"""All of what a look asks. A server that is frozen keeps a connection open and says nothing, for as long as it is."""
ASKED_AT_ONCE = 8
"""Connections to one target: each pipeline is asked about over a connection of its own."""
NEAR = 1 / 3
"""Of a topic's retention: when less is left to the oldest waiting record, it is told as a problem."""

State = Literal["running", "stopped", "failed", "never run", "unknown"]
T = TypeVar("T")


@dataclass(frozen=True)
class PartitionStatus:
    """`watermark`: the next offset to apply, None when nothing was applied; `start`, `end`: the topic's, None when
    Kafka did not say. `lag`: records, None when watermark or end could not be asked for; `lag_s`: how long the first
    record that waits has been in the topic, None when not known. `loss_in_s`: when the topic's retention may take it;
    `loss_is_near`: less than a third of the retention is left."""

    partition: int
    watermark: int | None
    start: int | None
    end: int | None
    lag: int | None
    lag_s: float | None
    problem: str = ""
    loss_in_s: float | None = None
    loss_is_near: bool = False


@dataclass(frozen=True)
class TopicStatus:
    """One topic with the mappings that read it. Counts are of records and mappings since the pipeline's beginning."""

    topic: str
    source: str
    mappings: tuple[str, ...]
    partitions: tuple[PartitionStatus, ...]
    applied: int
    skipped: dict[str, int]
    parked: dict[str, int]
    problem: str = ""

    @property
    def lag(self) -> int | None:
        """Records behind, None when any partition's is not known."""
        lags = [each.lag for each in self.partitions]
        return None if not lags or None in lags else sum(lag for lag in lags if lag is not None)

    @property
    def lag_s(self) -> float | None:
        """The latest partition's seconds; None when a lagging one's are not known."""
        seconds = [each.lag_s for each in self.partitions if each.lag != 0]
        if not self.partitions or None in seconds:
            return None
        return max((each for each in seconds if each is not None), default=0.0)

    @property
    def problems(self) -> tuple[str, ...]:
        own = (self.problem,) if self.problem else ()
        return own + tuple(each.problem for each in self.partitions if each.problem)


@dataclass(frozen=True)
class WorkerStatus:
    """A worker's last words. `age_s`: how old they are; not `fresh`: it is gone or hangs."""

    worker: str
    state: str
    error: str
    age_s: float
    fresh: bool
    rows_per_second: float
    latency_ms: dict[str, float]
    stages: dict[str, float]
    partitions: int


@dataclass(frozen=True)
class SnapshotStatus:
    """A repeated snapshot that waits to be swept, and the command that does it."""

    mapping: str
    found_at: str
    command: str


@dataclass(frozen=True)
class Counted:
    """How many records of one mapping ended how: since the pipeline's beginning, or for 'parked' those there now."""

    mapping: str
    outcome: str
    reason: str
    number: int


@dataclass(frozen=True)
class PipelineStatus:
    """One pipeline. `error`: why it is failed, or what its last worker left unsaid. `too_much`: the limit that what is
    parked is over, so that no worker goes on."""

    name: str
    target: str
    state: State
    error: str
    rows_per_second: float
    workers: tuple[WorkerStatus, ...]
    topics: tuple[TopicStatus, ...]
    snapshots: tuple[SnapshotStatus, ...]
    unreachable: tuple[str, ...] = ()
    counted: tuple[Counted, ...] = ()
    too_much: str = ""

    @property
    def lag(self) -> int | None:
        lags = [topic.lag for topic in self.topics]
        return None if None in lags else sum(lag for lag in lags if lag is not None)

    @property
    def parked(self) -> int:
        return sum(sum(topic.parked.values()) for topic in self.topics)

    @property
    def problems(self) -> tuple[str, ...]:
        """What makes it unhealthy, each in one line."""
        found = [f"not reached: {each}" for each in self.unreachable]
        if self.state == "failed":
            found.append(self.error)
        elif self.state == "running" and self.error:
            found.append(f"its target does not take what comes, it is tried again: {self.error}")
        elif self.state in ("stopped", "never run") and self.lag != 0:
            behind = "its lag is not known" if self.lag is None else f"{self.lag} records wait"
            found.append(f"{self.state}, {behind}: cdc run {self.name}" + (f" ({self.error})" if self.error else ""))
        if self.too_much and self.state != "failed":
            found.append(f"{self.too_much}: cdc parked list")
        return (*found, *(f"{topic.topic}: {problem}" for topic in self.topics for problem in topic.problems))


@dataclass(frozen=True)
class Status:
    pipelines: tuple[PipelineStatus, ...]
    sources: tuple[ConnectorState, ...]
    unreachable: tuple[str, ...]
    kafka_answers: bool = True
    connect_answers: bool = True

    @property
    def healthy(self) -> bool:
        """Everything answered, nothing failed, nothing that stands still is behind."""
        parts = [each.problems for each in self.pipelines] + [each.problem for each in self.sources]
        return not self.unreachable and not any(parts)

    def to_dict(self) -> dict[str, Any]:
        """JSON data, sums included."""
        found = asdict(self) | {"healthy": self.healthy}
        for shown, pipeline in zip(found["pipelines"], self.pipelines, strict=True):
            shown |= {"lag": pipeline.lag, "parked": pipeline.parked, "problems": list(pipeline.problems)}
            for topic_shown, topic in zip(shown["topics"], pipeline.topics, strict=True):
                topic_shown |= {"lag": topic.lag, "lag_s": topic.lag_s}
        return found


def status(
    settings: Settings, pipelines: Sequence[Pipeline], now_us: Callable[[], int] = lambda: time.time_ns() // 1000
) -> Status:
    """The pipelines and their sources now. Raises only `Usage`, for settings that are missing."""
    names = sorted({table.source_name for pipeline in pipelines for table in pipeline.tables})
    unreachable: list[str] = []
    offsets = Offsets()
    connectors = _begun(lambda: connector_states(settings, names))
    stored = all_stored(settings, pipelines)  # before Kafka: a watermark only ever follows an end
    for client in sorted({pipeline.client for pipeline in pipelines}):
        same = [pipeline for pipeline in pipelines if pipeline.client == client]
        try:
            offsets.ask(settings, same)
        except CdcError as error:
            unreachable.append(f"Kafka: {error.what}" + (f" (at {error.where})" if error.where else ""))
    sources, problem = connectors.result()
    kafka_answers = not unreachable
    unreachable += [problem] if problem else []
    found = tuple(
        _pipeline(settings, pipeline, *each, offsets, now_us())
        for pipeline, each in zip(pipelines, stored, strict=True)
    )
    return Status(found, sources, tuple(unreachable), kafka_answers, connect_answers=not problem)


def standing(settings: Settings, pipelines: Sequence[Pipeline]) -> list[str]:
    """Why a target may differ from its sources without being wrong: what stands still, is behind, or did not answer."""
    now = status(settings, pipelines)
    lines = [f"not reached: {each}" for each in now.unreachable]
    lines += [f"source {each.source}: {each.problem}" for each in now.sources if each.problem]
    for pipeline in now.pipelines:
        if pipeline.state != "running":
            lines.append(f"pipeline {pipeline.name} is {pipeline.state}: changes since then are not in the target")
        if pipeline.lag:
            lines.append(f"pipeline {pipeline.name} is {pipeline.lag:,} records behind")
        if pipeline.parked:
            lines.append(f"pipeline {pipeline.name} has {pipeline.parked:,} records parked: cdc parked list")
    return lines


@dataclass
class Offsets:
    """What Kafka says of the topics; `asked` names those it was asked about."""

    starts: dict[TopicPartition, int] = field(default_factory=dict)
    ends: dict[TopicPartition, int] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)
    retention_s: dict[str, float] = field(default_factory=dict)
    asked: set[str] = field(default_factory=set)

    def ask(self, settings: Settings, pipelines: Sequence[Pipeline]) -> None:
        names = sorted({topic for pipeline in pipelines for topic in topics_of(pipeline)})
        with topics(settings, pipelines[0]) as consumer:
            partitions = partitions_of(consumer, names)
            self.ids |= consumer.topic_ids(names)
            there = {each.topic for each in partitions}
            self.retention_s |= consumer.retention_s(there) if there else {}
            self.starts |= consumer.starts(partitions)
            self.ends |= consumer.ends(partitions)
        self.asked |= set(names)

    def waiting_since(self, settings: Settings, marks: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        """When the first record that waits at each of these watermarks came, ms since 1970; known ones only."""
        behind = {
            each: max(self.starts[each], at)
            for each, at in marks.items()
            if at < self.ends.get(each, 0) and each in self.starts
        }
        try:
            return times_of(kafka_connection(settings.kafka), behind, WAITING_ANSWERS_WITHIN_S)
        except CdcError:
            return {}  # it was there a moment ago; the lag in records is known


@dataclass
class _Stored:
    """What a target says of one pipeline."""

    partitions: list[PartitionState] = field(default_factory=list)
    workers: list[WorkerState] = field(default_factory=list)
    tallies: list[Tally] = field(default_factory=list)
    parked: list[ParkedEntry] = field(default_factory=list)
    snapshots: list[OpenSnapshot] = field(default_factory=list)


def _begun(work: Callable[[], T]) -> Future[T]:
    """`work` in a thread that keeps nobody: the process ends without it, as no executor's would."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def all_stored(settings: Settings, pipelines: Sequence[Pipeline]) -> list[tuple[_Stored, str]]:
    """Each as `_stored` has it. All are asked at the same time, so that those who are away are waited for together."""
    turns: dict[str, threading.Semaphore] = defaultdict(lambda: threading.Semaphore(ASKED_AT_ONCE))

    def look(pipeline: Pipeline, turn: threading.Semaphore) -> tuple[_Stored, str]:
        with turn:
            return _stored(settings, pipeline)

    deadline = time.monotonic() + TARGETS_ANSWER_WITHIN_S
    looks = [_begun(partial(look, pipeline, turns[pipeline.target])) for pipeline in pipelines]
    found = []
    for pipeline, each in zip(pipelines, looks, strict=True):
        try:
            found.append(each.result(max(0.0, deadline - time.monotonic())))
        except TimeoutError:
            found.append((_Stored(), f"target {pipeline.target}: no answer in {TARGETS_ANSWER_WITHIN_S:g} s"))
    return found


def _stored(settings: Settings, pipeline: Pipeline) -> tuple[_Stored, str]:
    """What its target says, or why it does not answer."""
    try:
        with opened(settings, pipeline) as operator:
            stored = _Stored(
                operator.partitions(),
                operator.workers(),
                operator.tallies(),
                operator.parked(),
                operator.open_snapshots(),
            )
    except CdcError as error:
        return _Stored(), f"target {pipeline.target}: {error.what}" + (f" (at {error.where})" if error.where else "")
    return stored, ""


def _pipeline(
    settings: Settings, pipeline: Pipeline, stored: _Stored, unreachable: str, offsets: Offsets, now_us: int
) -> PipelineStatus:
    workers = tuple(_worker(each) for each in stored.workers)
    state, problem = state_of(workers)
    names = topics_of(pipeline)
    marks = {each: start for each, start in offsets.starts.items() if each.topic in names}
    marks |= {each.partition: each.next for each in stored.partitions if each.next is not None}
    since = {} if unreachable else offsets.waiting_since(settings, marks)
    return PipelineStatus(
        name=pipeline.label,
        target=pipeline.target,
        state="unknown" if unreachable else state,
        error=problem,
        rows_per_second=round(sum(each.rows_per_second for each in workers if each.fresh), 1),
        workers=tuple(each for each in workers if each.fresh) or workers[:1],
        topics=tuple(
            _topic(topic, tables, None if unreachable else stored, offsets, since, now_us)
            for topic, tables in names.items()
        ),
        snapshots=tuple(_snapshot(pipeline, each) for each in stored.snapshots),
        unreachable=(unreachable,) if unreachable else (),
        counted=counted(stored.tallies, stored.parked),
        too_much=too_much(pipeline, stored.parked, now_us),
    )


def counted(tallies: Iterable[Tally], parked: Iterable[ParkedEntry]) -> tuple[Counted, ...]:
    """By mapping, outcome and reason, over all partitions; what is parked is counted as it is, not as it was."""
    sums: dict[tuple[str, str, str], int] = {}
    for tally in tallies:
        if tally.outcome != Outcome.PARKED:
            kind = tally.mapping, tally.outcome, tally.reason
            sums[kind] = sums.get(kind, 0) + tally.number
    for entry in parked:
        kind = entry.mapping, Outcome.PARKED.value, entry.reason
        sums[kind] = sums.get(kind, 0) + 1
    return tuple(Counted(*kind, number) for kind, number in sorted(sums.items()))


def state_of(workers: Sequence[WorkerStatus]) -> tuple[State, str]:
    """The pipeline's state from its workers' last words (newest first), and what there is to say about it."""
    if not workers:
        return "never run", ""
    alive = [each for each in workers if each.fresh and each.state not in ("stopped", "failed")]
    if alive:
        return "running", next((each.error for each in alive if each.state == "waiting"), "")
    last = workers[0]
    if last.state == "failed":
        return "failed", last.error
    if last.state == "stopped":
        return "stopped", ""
    return "stopped", f"worker {last.worker} has been silent for {last.age_s:.0f} s: it was killed or hangs"


def _worker(found: WorkerState) -> WorkerStatus:
    report = found.report
    return WorkerStatus(
        report.worker,
        report.state,
        report.error,
        round(found.age_s, 1),
        found.age_s <= FRESH_S and report.state not in ("stopped", "failed"),
        report.rows_per_second,
        report.latency_ms,
        report.stages,
        len(report.partitions),
    )


def _topic(
    topic: str,
    tables: Sequence[TableMapping],
    asked: _Stored | None,
    offsets: Offsets,
    since: Mapping[TopicPartition, int],
    now_us: int,
) -> TopicStatus:
    """`asked` is None when the target did not answer; `since`: when the first waiting records came, ms."""
    stored = asked or _Stored()
    marks = {each.partition: each for each in stored.partitions if each.partition.topic == topic}
    known = {each for each in offsets.ends if each.topic == topic}
    missing = topic in offsets.asked and not known
    return TopicStatus(
        topic,
        tables[0].source_name,
        tuple(table.id for table in tables),
        tuple(
            partition_status(each, marks.get(each), offsets, since.get(each), now_us, known=asked is not None)
            for each in sorted(known | marks.keys())
        ),
        applied=_sum(stored.tallies, topic, Outcome.APPLIED) + _sum(stored.tallies, topic, Outcome.SUPERSEDED),
        skipped=_by_reason(
            (tally.reason, tally.number)
            for tally in stored.tallies
            if tally.partition.topic == topic and tally.outcome == Outcome.SKIPPED
        ),
        parked=_by_reason((entry.reason, 1) for entry in stored.parked if entry.partition.topic == topic),
        problem="the topic does not exist (yet): is the table captured?" if missing else "",
    )


def partition_status(
    partition: TopicPartition,
    mark: PartitionState | None,
    offsets: Offsets,
    since_ms: int | None,
    now_us: int,
    *,
    known: bool = True,
) -> PartitionStatus:
    """One partition's numbers; what was never applied lags by all that the topic holds. Not `known`: the target, which
    has the watermark, did not answer."""
    watermark = mark.next if mark is not None else None
    start, end = offsets.starts.get(partition), offsets.ends.get(partition)
    topic_id = offsets.ids.get(partition.topic)
    if start is None or end is None or not known:
        return PartitionStatus(partition.partition, watermark, start, end, None, None)
    at = start if watermark is None else watermark
    lag = max(0, end - at)
    seconds = 0.0 if lag == 0 else None
    if lag and since_ms is not None:
        seconds = round(max(0.0, now_us / 1e6 - since_ms / 1e3), 1)
    retention = offsets.retention_s.get(partition.topic, math.inf)
    left = None if seconds is None or lag == 0 or math.isinf(retention) else max(0.0, retention - seconds)
    near = left is not None and left < retention * NEAR
    problem = f"partition {partition.partition}: retention takes what waits in {duration(left or 0.0)}" if near else ""
    if watermark is not None and mark is not None and topic_id is not None and mark.topic_id != topic_id:
        problem = f"partition {partition.partition}: the topic was created again, the watermark is of the old one"
    elif at < start:
        problem = f"partition {partition.partition}: offsets {at} to {start - 1} are gone, retention passed them"
    elif at > end:
        problem = f"partition {partition.partition}: the watermark {at} lies behind the topic's end {end}"
    return PartitionStatus(partition.partition, watermark, start, end, lag, seconds, problem, left, near)


def duration(seconds: float) -> str:
    """'2 d 3 h', '3 h 20 min', '45 s'."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = int(seconds // 60)
    days, hours = minutes // 1440, minutes // 60 % 24
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min"


def _sum(tallies: Iterable[Tally], topic: str, outcome: Outcome) -> int:
    return sum(tally.number for tally in tallies if tally.partition.topic == topic and tally.outcome == outcome)


def _by_reason(counted: Iterable[tuple[str, int]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for reason, number in counted:
        found[reason] = found.get(reason, 0) + number
    return dict(sorted(found.items()))


def _snapshot(pipeline: Pipeline, found: OpenSnapshot) -> SnapshotStatus:
    table = found.mapping.partition("/")[2]
    command = f"cdc sweep {pipeline.label} {table} --execute --reason …"
    return SnapshotStatus(found.mapping, found.found_at.isoformat(timespec="seconds"), command)
