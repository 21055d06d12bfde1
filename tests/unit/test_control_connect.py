"""cdc/control/connect.py against a small server that plays Kafka Connect."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import create_server
from typing import Any

import pytest

from cdc.control.connect import Connect, ConnectorStatus, Offset
from cdc.entries import Account, ConnectSettings
from cdc.errors import Terminal, Transient
from cdc.references import Secret

Answer = tuple[int, Any]


class Worker:
    """Answers requests from a script: (method, path) -> answers, the last one repeated."""

    def __init__(self) -> None:
        self.script: dict[tuple[str, str], list[Answer]] = {}
        self.asked: list[tuple[str, str]] = []
        self.authorization: str | None = None
        worker = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                worker.authorization = self.headers.get("Authorization")
                asked = (self.command, self.path)
                worker.asked.append(asked)
                answers = worker.script.get(asked, [(404, {"message": f"no {self.path}"})])
                status, body = answers.pop(0) if len(answers) > 1 else answers[0]
                content = b"" if body is None else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = answer

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture
def worker() -> Iterator[Worker]:
    made = Worker()
    thread = threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.now = 0.0
        self.on_sleep: Callable[[], None] = lambda: None

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.on_sleep()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def connect(worker: Worker, clock: Clock) -> Iterator[Connect]:
    with Connect(ConnectSettings(url=worker.url), clock=clock, sleep=clock.sleep) as made:
        yield made


def state(connector: str, *tasks: str, trace: str = "") -> dict[str, Any]:
    parts = [{"id": n, "state": task, "worker_id": "w:1", "trace": trace} for n, task in enumerate(tasks)]
    return {"name": "crm", "type": "source", "connector": {"state": connector, "worker_id": "w:1"}, "tasks": parts}


STATUS = ("GET", "/connectors/crm/status")
OFFSETS = ("GET", "/connectors/crm/offsets")


def test_a_rebalance_is_waited_out(worker: Worker, connect: Connect) -> None:
    put = ("PUT", "/connectors/crm/config")
    worker.script[put] = [(409, {"message": "rebalance in progress"}), (500, {"message": "starting"}), (201, {})]
    connect.put_config("crm", {"a": "b"})
    assert worker.asked == [put] * 3


def test_a_worker_that_is_away_is_waited_for(worker: Worker, clock: Clock) -> None:
    with closing(create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    settings = ConnectSettings(url=f"http://127.0.0.1:{port}")
    with Connect(settings, clock=clock, sleep=clock.sleep, retry_for_s=0.5) as connect, pytest.raises(Transient) as e:
        connect.info()
    assert "does not answer" in e.value.what
    assert e.value.where == f"GET http://127.0.0.1:{port}/"
    assert clock.now > 0


def test_a_worker_that_comes_back(worker: Worker, connect: Connect) -> None:
    info = {"version": "4.1.1", "commit": "x", "kafka_cluster_id": "y"}
    worker.script["GET", "/"] = [(503, None), (200, info)]
    assert connect.info().version == "4.1.1"


def test_a_500_that_stays_is_not_asked_for_ever(worker: Worker, connect: Connect, clock: Clock) -> None:
    put = ("PUT", "/connectors/crm/config")
    worker.script[put] = [(500, {"message": "Could not read properties from file /gone"})]
    with pytest.raises(Terminal, match="Could not read properties"):
        connect.put_config("crm", {})
    assert 10 <= clock.now < 15


def test_what_the_worker_refuses_is_not_asked_again(worker: Worker, connect: Connect) -> None:
    put = ("PUT", "/connectors/crm/config")
    worker.script[put] = [(400, {"message": "Connector configuration is invalid"})]
    with pytest.raises(Terminal, match="configuration is invalid"):
        connect.put_config("crm", {})
    assert worker.asked == [put]


def test_an_unknown_connector(connect: Connect) -> None:
    with pytest.raises(Terminal, match="404"):
        connect.status("gone")
    connect.delete("gone")


def test_names_are_escaped(worker: Worker, connect: Connect) -> None:
    worker.script["GET", "/connectors/a%20b%2Fc/config"] = [(200, {"x": "1"})]
    assert connect.config("a b/c") == {"x": "1"}


def test_a_failed_task_of_a_running_connector_is_a_failure(worker: Worker, connect: Connect) -> None:
    trace = 'x.y.Exception: outer\nCaused by: a.b.PSQLException: FATAL: database "crm" does not exist\n\tat z'
    worker.script[STATUS] = [(200, state("RUNNING", "FAILED", trace=trace))]
    status = connect.status("crm")
    assert status.state == "FAILED"
    assert not status.running
    assert status.problem == 'task 0 of crm has failed: database "crm" does not exist'


def test_a_connector_without_tasks_does_not_run(worker: Worker, connect: Connect) -> None:
    worker.script[STATUS] = [(200, state("RUNNING"))]
    assert not connect.status("crm").running


def test_waiting_for_running(worker: Worker, connect: Connect) -> None:
    worker.script[STATUS] = [
        (404, {"message": "No status found"}),
        (200, state("RUNNING")),
        (200, state("RUNNING", "FAILED", trace="stale")),
        (200, state("RUNNING", "RUNNING")),
    ]
    assert connect.wait_running("crm").running


def test_running_must_last(worker: Worker, connect: Connect, clock: Clock) -> None:
    worker.script[STATUS] = [
        (200, state("RUNNING", "RUNNING")),
        (200, state("RUNNING", "FAILED", trace="a.b.Exception: wrong slot")),
    ]
    with pytest.raises(Terminal, match="wrong slot"):
        connect.wait_running("crm", settle_s=3.0)


def test_waiting_ends(worker: Worker, connect: Connect, clock: Clock) -> None:
    worker.script[STATUS] = [(200, state("UNASSIGNED"))]
    with pytest.raises(Transient, match="not running after 5 s: UNASSIGNED"):
        connect.wait_running("crm", deadline_s=5)
    assert 5 < clock.now < 6


def test_offsets_of_partitions_that_do_not_exist_are_refused(worker: Worker, connect: Connect) -> None:
    known = {"partition": {"server": "crm"}, "offset": {"lsn": 1}}
    worker.script[OFFSETS] = [(200, {"offsets": [known]})]
    with pytest.raises(Terminal, match="no partition"):
        connect.patch_offsets("crm", [Offset({"srv": "crm"}, {"lsn": 0})])
    assert worker.asked == [OFFSETS]
    worker.script["PATCH", "/connectors/crm/offsets"] = [(200, {"message": "altered"})]
    assert connect.patch_offsets("crm", [Offset({"server": "crm"}, None)]) == "altered"


def test_basic_authentication(worker: Worker) -> None:
    worker.script["GET", "/connectors"] = [(200, ["crm"])]
    settings = ConnectSettings(url=worker.url, account=Account(user="me", password=Secret.of("s3cret")))
    with Connect(settings) as connect:
        assert connect.names() == ["crm"]
    assert worker.authorization == "Basic bWU6czNjcmV0"


def test_all_statuses_at_once(worker: Worker, connect: Connect) -> None:
    listed = {"crm": {"status": state("RUNNING", "RUNNING")}}
    worker.script["GET", "/connectors?expand=status"] = [(200, listed)]
    (status,) = connect.statuses().values()
    assert isinstance(status, ConnectorStatus)
    assert status.running
