"""`cdc metrics` on the real stack: scraped while a pipeline runs, while things fail, and after they were mended."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.faults.pipeline import KILLED, Pipeline, write_connections
from tests.fix_pipeline import Maker
from tests.stack.operator import touch
from tests.waiting import PATIENCE, eventually

pytestmark = pytest.mark.stack

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]
_NAME = re.compile(r"\bcdc_[a-z_]+")
METRICS = [sys.executable, "-c", "from cdc.cli.main import main; main()", "metrics"]


@contextmanager
def served(pipeline: Pipeline, folder: Path) -> Iterator[httpx.Client]:
    """The command as people start it, for this pipeline alone."""
    process = subprocess.Popen(command(pipeline, folder, "--port", "0"), stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip().removesuffix("/metrics")
        assert url.startswith("http://127.0.0.1:")
        with httpx.Client(base_url=url, timeout=20) as client:
            yield client
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(20 * PATIENCE) == 0
        process.stdout.close()


def command(pipeline: Pipeline, folder: Path, *words: str) -> list[str]:
    shutil.copy(pipeline.mapping_file, folder)
    return [*METRICS, *words, "--mappings", str(folder), "--connections", str(pipeline.connections_file)]


def scraped(text: str) -> Series:
    found = text_string_to_metric_families(text)
    return {(each.name, frozenset(each.labels.items())): each.value for family in found for each in family.samples}


def values(found: Series, name: str, /, **labels: str) -> list[float]:
    return [value for (each, has), value in found.items() if each == name and labels.items() <= has]


def ready(client: httpx.Client, code: int, *said: str) -> None:
    """Wait until /readyz answers so, and says these words."""

    def as_wanted() -> bool:
        answer = client.get("/readyz")
        return answer.status_code == code and all(word in answer.text for word in said)

    eventually(as_wanted, 60, lambda: f"{code} {said}; it says {client.get('/readyz').text}")


def until(client: httpx.Client, holds: Callable[[Series], bool], what: str) -> Series:
    def look() -> Series:
        found = scraped(client.get("/metrics").text)
        return found if holds(found) else {}

    return eventually(look, 60, what)


def test_a_pipeline_is_watched(pipelines: Maker, tmp_path: Path) -> None:
    pipeline = pipelines()
    with served(pipeline, tmp_path) as client:
        assert client.get("/healthz").status_code == 200
        worker = pipeline.start()
        pipeline.catches_up()
        running(client, pipeline, worker.process.pid)
        ready(client, 200)

        worker.signal(signal.SIGKILL)
        assert worker.ends() == KILLED
        ready(client, 503, f"pipeline {pipeline.name}: stopped", "it was killed or hangs")
        found = scraped(client.get("/metrics").text)
        assert values(found, "cdc_worker_up", pipeline=pipeline.name) == [0]

        touch(pipeline.source)
        until(client, lambda found: sum(values(found, "cdc_consumer_lag_records")) > 0, "changes wait")
        again = pipeline.start()
        ready(client, 200)

        broken_task(client, pipeline)
        assert again.stop() == 0
        assert client.get("/healthz").status_code == 200


def running(client: httpx.Client, pipeline: Pipeline, pid: int) -> None:
    """All that is known of a worker that has caught up; and every name that the files use is served."""
    touch(pipeline.source)
    pipeline.catches_up()
    latency = "cdc_source_to_target_latency_seconds"
    found = until(client, lambda found: bool(values(found, latency, quantile="0.99")), "the worker tells its latency")
    assert values(found, latency, quantile="0.99")[0] > 0
    assert values(found, "cdc_worker_stage_ratio", stage="waiting_for_broker")
    up = [dict(has)["worker"] for (name, has), value in found.items() if name == "cdc_worker_up" and value == 1]
    assert [worker.rpartition(":")[2] for worker in up] == [str(pid)]
    assert sum(values(found, "cdc_events_total")) == sum(pipeline.watermarks().values()) > 0
    lags = values(found, "cdc_consumer_lag_records", pipeline=pipeline.name, target="hub")
    assert len(lags) == len(pipeline.watermarks())
    assert set(lags) == {0}
    assert values(found, "cdc_pipeline_state", state="running") == [1]
    assert values(found, "cdc_connector_state", source=pipeline.source.name, state="RUNNING") == [1]
    assert set(values(found, "cdc_scrape_error")) == {0}
    text = client.get("/metrics").text
    families = set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))
    for file in ("dashboard", "alerts"):
        printed = subprocess.run([*METRICS, file], capture_output=True, text=True, check=True, timeout=60)
        assert set() < set(_NAME.findall(printed.stdout)) <= families, file
    assert pipeline.stack.endpoints.postgres.password not in text


def broken_task(client: httpx.Client, pipeline: Pipeline) -> None:
    """The connector says RUNNING, its task has failed; mended, it is ready again."""
    name = pipeline.source.name
    with pipeline.source.connect() as connect:
        config = connect.config(name)
        connect.put_config(name, {**config, "publication.autocreate.mode": "disabled", "publication.name": "nope"})
        try:
            ready(client, 503, f"source {name}: task 0 of {name} has failed")
            found = scraped(client.get("/metrics").text)
            assert values(found, "cdc_connector_state", source=name, state="FAILED") == [1]
            assert values(found, "cdc_connector_tasks", source=name, state="FAILED") == [1]
        finally:
            connect.put_config(name, config)
    ready(client, 200)


def test_what_is_away_is_said_and_the_rest_is_known(pipelines: Maker, tmp_path: Path) -> None:
    pipeline = pipelines()
    worker = pipeline.start()
    pipeline.catches_up()
    assert worker.stop() == 0
    once = command(pipeline, tmp_path, "--once")

    def printed(**away: object) -> Series:
        write_connections(pipeline, **away)  # type: ignore[arg-type]
        done = subprocess.run(once, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return scraped(done.stdout)

    found = printed(port=1)
    assert values(found, "cdc_scrape_error", asked="target", name="hub") == [1]
    assert values(found, "cdc_scrape_error", asked="kafka") == [0]
    assert values(found, "cdc_connector_state", state="RUNNING") == [1]
    assert not values(found, "cdc_events_total")
    found = printed(kafka="127.0.0.1:1")
    assert values(found, "cdc_scrape_error", asked="kafka") == [1]
    assert values(found, "cdc_scrape_error", asked="target", name="hub") == [0]
    assert sum(values(found, "cdc_events_total")) > 0
    assert not values(found, "cdc_consumer_lag_records")
