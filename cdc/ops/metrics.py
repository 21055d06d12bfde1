"""The families of `cdc metrics`: what `cdc status` knows, for Prometheus. Base units; labels are names from mappings,
topics and connectors, short stable words and worker names: never a secret, a key, a row value or the text of an error.

A value that is not known (its target or Kafka is away) is left out, and `cdc_scrape_error` says who did not answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import get_args

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from cdc.control.connector_states import ConnectorState
from cdc.control.status import PipelineStatus, State, Status, TopicStatus, WorkerStatus
from cdc.model import Outcome

PARTITIONS_AT_MOST = 2_000
"""Of one pipeline: beyond it a topic is one series, its `partition` empty, so that sums and maxima stay right."""

WORKER_STATES = ("starting", "running", "waiting", "stopped", "failed")
CONNECTOR_STATES = ("RUNNING", "PAUSED", "STOPPED", "FAILED", "UNASSIGNED", "RESTARTING")
_QUANTILES = {"p50": "0.5", "p99": "0.99"}
_PIPELINE = ["pipeline", "target"]
_PARTITION = [*_PIPELINE, "topic", "partition"]
_MAPPING = [*_PIPELINE, "mapping"]
_WORKER = [*_PIPELINE, "worker"]


@dataclass(frozen=True)
class Seen:
    """What a look found. `status`: the newest there is, `age_s` old (None: nothing was found yet). `error`: why this
    look brought nothing new, '' when it did."""

    status: Status | None
    age_s: float
    seconds: float
    error: str = ""


class StatusCollector(Collector):
    """Looks when it is scraped."""

    def __init__(self, look: Callable[[], Seen]) -> None:
        self._look = look

    def collect(self) -> Iterable[Metric]:
        return families(self._look())

    def describe(self) -> Iterable[Metric]:
        """So that registering does not look."""
        return ()


def families(seen: Seen) -> Iterator[Metric]:
    """Every family, with as many series as are known."""
    yield from _scrape(seen)
    status = seen.status or Status((), (), ())
    for make in (_lags, _counts, _pipelines, _workers):
        yield from make(status.pipelines)
    yield from _connectors(status.sources)


def _scrape(seen: Seen) -> Iterator[Metric]:
    error = GaugeMetricFamily(
        "cdc_scrape_error",
        "1 while this part does not answer; asked: look, kafka, connect, target.",
        labels=["asked", "name"],
    )
    error.add_metric(["look", ""], bool(seen.error))
    if seen.status is not None:
        error.add_metric(["kafka", ""], not seen.status.kafka_answers)
        error.add_metric(["connect", ""], not seen.status.connect_answers)
        away = {each.target: False for each in seen.status.pipelines}
        away |= {each.target: True for each in seen.status.pipelines if each.unreachable}
        for target, is_away in away.items():
            error.add_metric(["target", target], is_away)
    yield error
    yield GaugeMetricFamily("cdc_scrape_duration_seconds", "How long the last look took.", value=seen.seconds)
    age = GaugeMetricFamily("cdc_scrape_age_seconds", "How old the values are: more than 0 when a look takes too long.")
    if seen.status is not None:
        age.add_metric([], seen.age_s)
    yield age


def _lags(pipelines: Sequence[PipelineStatus]) -> Iterator[Metric]:
    records = GaugeMetricFamily(
        "cdc_consumer_lag_records", "Records of the topic that are not applied yet.", labels=_PARTITION
    )
    seconds = GaugeMetricFamily(
        "cdc_consumer_lag_seconds", "How long the first record that waits has been in the topic.", labels=_PARTITION
    )
    left = GaugeMetricFamily(
        "cdc_retention_left_seconds",
        "When the topic's retention may take the first record that waits.",
        labels=_PARTITION,
    )
    for pipeline in pipelines:
        whole = sum(len(topic.partitions) for topic in pipeline.topics) > PARTITIONS_AT_MOST
        for topic in pipeline.topics:
            for partition, lag, lag_s, left_s in _whole(topic) if whole else _parts(topic):
                labels = [*_names(pipeline), topic.topic, partition]
                for family, value in ((records, lag), (seconds, lag_s), (left, left_s)):
                    if value is not None:
                        family.add_metric(labels, value)
    yield from (records, seconds, left)


_Lag = tuple[str, float | None, float | None, float | None]


def _parts(topic: TopicStatus) -> Iterator[_Lag]:
    for each in topic.partitions:
        yield str(each.partition), each.lag, each.lag_s, each.loss_in_s


def _whole(topic: TopicStatus) -> Iterator[_Lag]:
    left = [each.loss_in_s for each in topic.partitions if each.loss_in_s is not None]
    yield "", topic.lag, topic.lag_s, min(left, default=None)


def _counts(pipelines: Sequence[PipelineStatus]) -> Iterator[Metric]:
    events = CounterMetricFamily(
        "cdc_events",
        "Records by what became of them, once for each mapping (parked ones: cdc_parked_records).",
        labels=[*_MAPPING, "outcome", "reason"],
    )
    parked = GaugeMetricFamily(
        "cdc_parked_records", "Records that are set aside now, by mapping and reason.", labels=[*_MAPPING, "reason"]
    )
    snapshots = GaugeMetricFamily(
        "cdc_open_snapshots", "Repeated snapshots of a mapping's table that wait to be swept.", labels=_MAPPING
    )
    for pipeline in pipelines:
        for each in pipeline.counted:
            if each.outcome == Outcome.PARKED:
                parked.add_metric([*_names(pipeline), each.mapping, each.reason], each.number)
            else:
                events.add_metric([*_names(pipeline), each.mapping, each.outcome, each.reason], each.number)
        for mapping in [] if pipeline.unreachable else sorted({each for t in pipeline.topics for each in t.mappings}):
            number = sum(each.mapping == mapping for each in pipeline.snapshots)
            snapshots.add_metric([*_names(pipeline), mapping], number)
    yield from (events, parked, snapshots)


def _pipelines(pipelines: Sequence[PipelineStatus]) -> Iterator[Metric]:
    state = GaugeMetricFamily(
        "cdc_pipeline_state", "1 for the state that the pipeline is in.", labels=[*_PIPELINE, "state"]
    )
    problems = GaugeMetricFamily(
        "cdc_pipeline_problems", "How many problems `cdc status` names for the pipeline.", labels=_PIPELINE
    )
    for pipeline in pipelines:
        _one_hot(state, _names(pipeline), get_args(State), pipeline.state)
        problems.add_metric(_names(pipeline), len(pipeline.problems))
    yield from (state, problems)


def _workers(pipelines: Sequence[PipelineStatus]) -> Iterator[Metric]:
    """Those that report, and of a pipeline without one the last that did: not every worker that ever was."""
    made = {
        "up": GaugeMetricFamily("cdc_worker_up", "1 while the worker reports that it works.", labels=_WORKER),
        "state": GaugeMetricFamily(
            "cdc_worker_state", "1 for the state of the worker's last report.", labels=[*_WORKER, "state"]
        ),
        "age": GaugeMetricFamily("cdc_worker_report_age_seconds", "How old its last report is.", labels=_WORKER),
        "partitions": GaugeMetricFamily("cdc_worker_partitions", "How many partitions it holds.", labels=_WORKER),
        "rows": GaugeMetricFamily(
            "cdc_worker_rows_per_second", "Rows written a second, over the last minute.", labels=_WORKER
        ),
        "latency": GaugeMetricFamily(
            "cdc_source_to_target_latency_seconds",
            "From the commit at the source to the commit in the target, over the last minute.",
            labels=[*_WORKER, "quantile"],
        ),
        "stage": GaugeMetricFamily(
            "cdc_worker_stage_ratio",
            "The share of its time that the worker's reading thread spent in each stage.",
            labels=[*_WORKER, "stage"],
        ),
    }
    for pipeline in pipelines:
        for worker in pipeline.workers:
            _worker(made, [*_names(pipeline), worker.worker], worker)
    yield from made.values()


def _worker(made: dict[str, GaugeMetricFamily], labels: list[str], worker: WorkerStatus) -> None:
    made["up"].add_metric(labels, worker.fresh)
    made["age"].add_metric(labels, worker.age_s)
    _one_hot(made["state"], labels, WORKER_STATES, worker.state)
    if not worker.fresh:
        return  # its last figures are of another time
    made["partitions"].add_metric(labels, worker.partitions)
    made["rows"].add_metric(labels, worker.rows_per_second)
    for name, quantile in _QUANTILES.items():
        if name in worker.latency_ms:
            made["latency"].add_metric([*labels, quantile], worker.latency_ms[name] / 1000)
    for stage, share in sorted(worker.stages.items()):
        made["stage"].add_metric([*labels, stage.replace(" ", "_")], share)


def _connectors(sources: Sequence[ConnectorState]) -> Iterator[Metric]:
    state = GaugeMetricFamily(
        "cdc_connector_state",
        "1 for the state of the source's connector: FAILED when a task failed.",
        labels=["source", "state"],
    )
    tasks = GaugeMetricFamily(
        "cdc_connector_tasks", "How many tasks of the source's connector are in a state.", labels=["source", "state"]
    )
    for source in sources:
        _one_hot(state, [source.source], (*CONNECTOR_STATES, "absent", "unknown"), source.state)
        for each in () if source.state == "unknown" else CONNECTOR_STATES:
            tasks.add_metric([source.source, each], source.tasks.count(each))
    yield from (state, tasks)


def _one_hot(family: GaugeMetricFamily, labels: list[str], states: Iterable[str], now: str) -> None:
    for state in states:
        family.add_metric([*labels, state], state == now)


def _names(pipeline: PipelineStatus) -> list[str]:
    return [pipeline.name.partition(":")[0], pipeline.target]
