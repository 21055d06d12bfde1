"""Logs: what every line of a process says."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator

import pytest
import structlog

from cdc.engine.logs import configure_logs


@pytest.fixture(autouse=True)
def _logs_as_they_were() -> Iterator[None]:
    before = structlog.get_config()
    yield
    configure_logs()
    structlog.configure(**before)


def test_every_line_of_every_thread_says_whose_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(pipeline="crm", target="hub")
    log = structlog.get_logger("test")
    log.info("here")
    thread = threading.Thread(target=lambda: log.info("there", target="its own"))
    thread.start()
    thread.join()
    configure_logs(pipeline="billing")
    log.info("later")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["event"], line["pipeline"], line.get("target")) for line in lines] == [
        ("here", "crm", "hub"),
        ("there", "crm", "its own"),
        ("later", "billing", None),
    ]
