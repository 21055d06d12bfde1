"""`cdc metrics`: looks with a deadline, what ready means, and the HTTP answers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import httpx
import pytest

from cdc.control.connector_states import ConnectorState
from cdc.control.status import Status
from cdc.errors import Transient, Usage
from cdc.ops.endpoint import Watch, make_server, not_ready
from cdc.ops.metrics import Seen
from tests.unit.ops_states import HEALTHY, PIPELINE, STATUS
from tests.waiting import eventually


@contextmanager
def served(look: Callable[[], Seen]) -> Iterator[httpx.Client]:
    server = make_server(look, "127.0.0.1", 0)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{server.server_port}") as client:
            yield client
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_the_answers() -> None:
    with served(lambda: Seen(HEALTHY, 0.0, 0.1)) as client:
        found = client.get("/metrics")
        assert found.status_code == 200
        assert found.headers["content-type"].startswith("text/plain")
        assert 'cdc_worker_up{pipeline="crm",target="hub",worker="host:1"} 1.0' in found.text
        openmetrics = client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
        assert openmetrics.text.endswith("# EOF\n")
        assert (client.get("/healthz").status_code, client.get("/healthz").text) == (200, "ok\n")
        assert (client.get("/readyz").status_code, client.get("/readyz").text) == (200, "ok\n")
        assert client.get("/").status_code == 404


def test_a_failed_task_is_not_ready_and_says_why() -> None:
    with served(lambda: Seen(STATUS, 0.0, 0.1)) as client:
        found = client.get("/readyz")
        assert found.status_code == 503
        assert found.text.startswith("source crm: task 1")
        assert client.get("/healthz").status_code == 200


def _source(state: str, problem: str) -> Status:
    return replace(HEALTHY, sources=(ConnectorState("crm", state, (), problem),))


def _pipeline(**changes: object) -> Status:
    return replace(HEALTHY, pipelines=(replace(PIPELINE, **changes),))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seen", "reasons"),
    [
        (Seen(HEALTHY, 0, 0), []),
        (Seen(_source("PAUSED", "connector crm is PAUSED"), 0, 0), []),  # on purpose
        (Seen(_source("absent", "not registered"), 0, 0), ["source crm: not registered"]),
        (Seen(_pipeline(state="stopped"), 0, 0), []),  # on purpose too; its lag has an alert
        (Seen(_pipeline(state="failed", error="compacted"), 0, 0), ["pipeline crm: failed, compacted"]),
        (Seen(_pipeline(state="stopped", error="silent"), 0, 0), ["pipeline crm: stopped, silent"]),
        (Seen(_pipeline(error="disk full"), 0, 0), ["pipeline crm: running, disk full"]),
        (Seen(_pipeline(unreachable=("target hub: x",)), 0, 0), ["pipeline crm: not reached: target hub: x"]),
        (Seen(replace(HEALTHY, unreachable=("Kafka: x",)), 0, 0), ["not reached: Kafka: x"]),
        (Seen(HEALTHY, 9, 8, "too slow"), ["too slow"]),
        (Seen(None, 9, 8, "too slow"), ["too slow"]),
    ],
)
def test_ready(seen: Seen, reasons: list[str]) -> None:
    assert not_ready(seen) == reasons


def test_a_look_that_takes_too_long_is_waited_for_by_the_next_asker() -> None:
    go, looks = threading.Event(), []

    def look() -> Status:
        looks.append(1)
        assert go.wait(20)
        return HEALTHY

    watch = Watch(look, answers_within_s=0.05)
    first = watch()
    assert (first.status, first.error) == (None, "the state was not there within 0.05 s")
    assert watch().error
    assert looks == [1]  # the second asked nobody again
    go.set()
    found = eventually(lambda: seen if not (seen := watch()).error else None, 10, "an answer")
    assert (found.status, found.age_s) == (HEALTHY, 0.0)
    go.clear()
    late = watch()
    assert late.status == HEALTHY  # what is known
    assert late.error
    assert late.age_s > 0
    go.set()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (Transient("the broker is away", where="kafka:1"), "the broker is away (at kafka:1)"),
        (KeyError("x"), "KeyError"),
    ],
)
def test_a_look_that_fails_leaves_what_is_known(error: Exception, said: str) -> None:
    answers: list[Status | Exception] = [HEALTHY, error]

    def look() -> Status:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    watch = Watch(look)
    assert watch().error == ""
    found = watch()
    assert found.status == HEALTHY
    assert found.error.startswith(said)


def test_a_taken_port_is_said() -> None:
    with served(lambda: Seen(HEALTHY, 0, 0)) as client, pytest.raises(Usage, match="cannot listen on"):
        make_server(lambda: Seen(HEALTHY, 0, 0), "127.0.0.1", client.base_url.port or 0)
