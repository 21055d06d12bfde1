"""The families of `cdc metrics`, from states made by hand; dashboard and alerts name only what is there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from importlib.resources import files

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from cdc.control.connector_states import ConnectorState
from cdc.control.status import (
    Counted,
    PartitionStatus,
    PipelineStatus,
    Status,
    counted,
)
from cdc.model import Outcome, TopicPartition
from cdc.ops import metrics
from cdc.ops.endpoint import text
from cdc.ops.metrics import Seen
from cdc.target.base import Tally
from tests.unit.ops_states import PIPELINE, SECRET, STATUS, parked_entry

_NAME = re.compile(r"\bcdc_[a-z_]+")
_LABELS = re.compile(r"(cdc_[a-z_]+)\{([^}]*)\}")


def series(status: Status | None = STATUS, **seen: object) -> dict[str, float]:
    """'name{label="value",…}' → value, labels in the family's order."""
    found = text(lambda: replace(Seen(status, 0.0, 0.25), **seen))  # type: ignore[arg-type]
    lines = [line.rpartition(" ") for line in found.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ('cdc_consumer_lag_records{partition="1",pipeline="crm",target="hub",topic="crm.public.t"}', 40),
        ('cdc_consumer_lag_seconds{partition="1",pipeline="crm",target="hub",topic="crm.public.t"}', 2.5),
        ('cdc_retention_left_seconds{partition="1",pipeline="crm",target="hub",topic="crm.public.t"}', 600),
        ('cdc_events_total{mapping="crm/hub.t",outcome="applied",pipeline="crm",reason="",target="hub"}', 70),
        ('cdc_events_total{mapping="crm/hub.t",outcome="skipped",pipeline="crm",reason="stale",target="hub"}', 3),
        ('cdc_parked_records{mapping="crm/hub.t",pipeline="crm",reason="held",target="hub"}', 2),
        ('cdc_open_snapshots{mapping="crm/hub.t",pipeline="crm",target="hub"}', 1),
        ('cdc_pipeline_state{pipeline="crm",state="running",target="hub"}', 1),
        ('cdc_pipeline_state{pipeline="crm",state="failed",target="hub"}', 0),
        ('cdc_worker_up{pipeline="crm",target="hub",worker="host:1"}', 1),
        ('cdc_worker_state{pipeline="crm",state="running",target="hub",worker="host:1"}', 1),
        ('cdc_worker_rows_per_second{pipeline="crm",target="hub",worker="host:1"}', 5),
        ('cdc_source_to_target_latency_seconds{pipeline="crm",quantile="0.99",target="hub",worker="host:1"}', 0.031),
        ('cdc_worker_stage_ratio{pipeline="crm",stage="waiting_for_broker",target="hub",worker="host:1"}', 0.75),
        ('cdc_connector_state{source="crm",state="FAILED"}', 1),
        ('cdc_connector_tasks{source="crm",state="FAILED"}', 1),
        ('cdc_connector_tasks{source="crm",state="RUNNING"}', 1),
        ('cdc_scrape_error{asked="target",name="hub"}', 0),
        ("cdc_scrape_duration_seconds", 0.25),
    ],
)
def test_a_series(name: str, value: float) -> None:
    found = {tuple(sorted(re.split(r"[{},]", each))): number for each, number in series().items()}
    assert found[tuple(sorted(re.split(r"[{},]", name)))] == value


def test_what_is_not_known_is_left_out_and_said() -> None:
    away = PipelineStatus("crm", "hub", "unknown", "", 0.0, (), PIPELINE.topics, (), ("target hub: no answer",))
    unknown = replace(away.topics[0], partitions=(PartitionStatus(0, None, None, None, None, None),))
    connector = ConnectorState("crm", "unknown", (), "")
    status = Status((replace(away, topics=(unknown,)),), (connector,), ("Kafka: no answer",), False, False)
    found = series(status)
    assert {name for name, value in found.items() if name.startswith("cdc_scrape_error") and value == 1} == {
        'cdc_scrape_error{asked="kafka",name=""}',
        'cdc_scrape_error{asked="connect",name=""}',
        'cdc_scrape_error{asked="target",name="hub"}',
    }
    known = {name.partition("{")[0] for name in found if not name.startswith("cdc_scrape")}
    assert known == {"cdc_pipeline_state", "cdc_pipeline_problems", "cdc_connector_state"}
    assert found['cdc_pipeline_state{pipeline="crm",state="unknown",target="hub"}'] == 1


def test_before_the_first_look_ends_there_is_an_answer() -> None:
    found = series(None, error="the state was not there within 8 s")
    assert found == {'cdc_scrape_error{asked="look",name=""}': 1.0, "cdc_scrape_duration_seconds": 0.25}


def test_a_part_of_a_pipeline_has_the_pipeline_s_name() -> None:
    found = series(replace(STATUS, pipelines=(replace(PIPELINE, name="crm:hub"),)))
    assert 'cdc_pipeline_problems{pipeline="crm",target="hub"}' in found


def test_many_partitions_are_one_series_a_topic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "PARTITIONS_AT_MOST", 1)
    found = {name: value for name, value in series().items() if "lag" in name or "retention" in name}
    labels = '{partition="",pipeline="crm",target="hub",topic="crm.public.t"}'
    assert found == {
        f"cdc_consumer_lag_records{labels}": 40,
        f"cdc_consumer_lag_seconds{labels}": 2.5,
        f"cdc_retention_left_seconds{labels}": 600,
    }


def test_a_silent_worker_s_last_figures_are_not_told() -> None:
    gone = replace(PIPELINE.workers[0], fresh=False, age_s=500.0)
    found = series(replace(STATUS, pipelines=(replace(PIPELINE, workers=(gone,)),)))
    labels = 'pipeline="crm",target="hub",worker="host:1"'
    assert found[f"cdc_worker_up{{{labels}}}"] == 0
    assert found[f"cdc_worker_report_age_seconds{{{labels}}}"] == 500
    assert not [name for name in found if "rows_per_second" in name or "latency" in name or "stage" in name]


def test_no_error_and_no_value_is_shown() -> None:
    """Texts of errors, of connectors' problems and of held keys stay out."""
    assert SECRET in f"{STATUS}"
    assert SECRET not in text(lambda: Seen(STATUS, 0.0, 0.1, SECRET))


def test_records_are_counted_over_partitions_and_parked_ones_as_they_are() -> None:
    tallies = [
        Tally("crm/hub.t", TopicPartition("t", 0), Outcome.APPLIED, "", 3),
        Tally("crm/hub.t", TopicPartition("t", 1), Outcome.APPLIED, "", 4),
        Tally("crm/hub.t", TopicPartition("t", 1), Outcome.PARKED, "held", 9),
    ]
    assert counted(tallies, [parked_entry("held"), parked_entry("held")]) == (
        Counted("crm/hub.t", "applied", "", 7),
        Counted("crm/hub.t", "parked", "held", 2),
    )


def test_the_text_is_well_formed_and_every_family_has_help() -> None:
    found = list(text_string_to_metric_families(text(lambda: Seen(STATUS, 0.0, 0.1))))
    assert len(found) > 15
    assert all(family.documentation for family in found)


def expressions() -> Iterator[str]:
    board = json.loads(files("cdc.ops").joinpath("dashboard.json").read_text(encoding="utf-8"))
    yield from (target["expr"] for panel in board["panels"] for target in panel["targets"])
    yield from (each["query"] for each in board["templating"]["list"] if each["type"] == "query")
    rules = yaml.safe_load(files("cdc.ops").joinpath("alerts.yaml").read_text(encoding="utf-8"))
    yield from (rule["expr"] for group in rules["groups"] for rule in group["rules"])


def test_the_dashboard_and_the_alerts_ask_only_for_what_there_is() -> None:
    """Names, and the labels and values that their selectors ask for."""
    there: dict[str, dict[str, set[str]]] = {}
    for family in text_string_to_metric_families(text(lambda: Seen(STATUS, 0.0, 0.1))):
        for sample in family.samples:
            values = there.setdefault(sample.name, {})
            for label, value in sample.labels.items():
                values.setdefault(label, set()).add(value)
    asked = list(expressions())
    assert len(asked) > 25
    for expression in asked:
        for name in _NAME.findall(expression):
            assert name in there, f"{name} in {expression}"
        for name, selectors in _LABELS.findall(expression):
            for label, value in re.findall(r'([a-z]+)=~?"([^"]*)"', selectors):
                assert label in there[name], f"{label} of {name} in {expression}"
                words = set() if value.startswith("$") else set(value.split("|"))
                assert words <= there[name][label], f"{value} of {name} in {expression}"


def test_every_family_is_on_the_dashboard_or_in_an_alert() -> None:
    asked = {name for expression in expressions() for name in _NAME.findall(expression)}
    there = {name.partition("{")[0] for name in series()}
    created = {name for name in there if name.endswith("_created")}
    assert there - created - asked == {"cdc_worker_partitions"}
