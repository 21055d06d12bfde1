"""cdc/control/registration.py: from a JSON file to a configuration; nothing is added, mistakes have a place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cdc.control.registration import Change, Registration, check_source, read_config
from cdc.errors import Usage
from cdc.settings import Settings, load

CONNECTIONS = """
kafka:
  bootstrap: broker:9092
sources:
  crm:
    kind: postgresql
    host: db
    port: 5433
    database: crm
    user: capture
    password: ${env:PASSWORD}
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    path = tmp_path / "connections.yaml"
    path.write_text(CONNECTIONS, encoding="utf-8")
    return load(path, {"CDC_STACK_HOME": "/home/stack"})


def config_of(settings: Settings, text: str) -> dict[str, str]:
    source = settings.source("crm")
    source.connector.write_text(text, encoding="utf-8")
    return read_config(settings, source)


def test_ours_are_filled_in_and_the_worker_s_are_kept(settings: Settings) -> None:
    text = """{
        "database.hostname": "${source:host}", "database.port": "${source:port}",
        "database.password": "${file:${stack:secrets}:p}", "database.user": "${env:DB_USER}",
        "bootstrap": "${kafka:bootstrap}", "a.number": 5, "a.truth": true
    }"""
    assert config_of(settings, text) == {
        "database.hostname": "db",
        "database.port": "5433",
        "database.password": "${file:/home/stack/secrets.properties:p}",
        "database.user": "${env:DB_USER}",
        "bootstrap": "broker:9092",
        "a.number": "5",
        "a.truth": "true",
    }


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ('{\n  "a": "1",\n  "a": "2"\n}', 2, "written twice"),
        ('{\n  "a": "1"\n  "b": "2"\n}', 3, "no JSON"),
        ('{\n  "a": "${source:hots}"\n}', 2, "no ${source:hots}"),
        ('{\n  "name": "crm",\n  "config": {"a": "b"}\n}', 3, "must be a text"),
        ('{\n\n  "connector.class": "io.debezium.connector.mariadb.MariaDbConnector"\n}', 3, "crm is postgresql"),
    ],
)
def test_mistakes_have_a_place(settings: Settings, text: str, line: int, said: str) -> None:
    with pytest.raises(Usage) as caught:
        config_of(settings, text)
    assert said in caught.value.what
    assert caught.value.where is not None
    assert caught.value.where.startswith(f"{settings.source('crm').connector}:{line}")


def test_findings_point_into_the_file(settings: Settings) -> None:
    given = json.loads(Path("connect-configs/crm.json").read_text(encoding="utf-8"))
    given["decimal.handling.mode"] = "precise"
    del given["header.converter"]
    config_of(settings, json.dumps(given, indent=2))
    _, findings = check_source(settings, settings.source("crm"))
    path = settings.source("crm").connector
    line = list(given).index("decimal.handling.mode") + 2
    assert {each.code: each.where for each in findings} == {
        "setting:decimal.handling.mode": f"{path}:{line}",
        "setting:header.converter": str(path),
    }


def test_changes() -> None:
    registration = Registration("crm", {"a": "1", "b": "2"}, {"name": "crm", "a": "1", "b": "3", "c": "4"}, ())
    assert registration.changes == (Change("b", "3", "2"), Change("c", "4", None))
    assert not registration.refused
