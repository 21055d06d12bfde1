"""cdc/control/required.py: settings that spoil values are found, with the line that mends them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cdc.control.findings import errors
from cdc.control.required import (
    DEBEZIUM_PLACEHOLDER,
    UNAVAILABLE_PLACEHOLDER,
    check_connector,
    placeholder_of,
    required_settings,
)
from cdc.entries import SourceKind

SHIPPED = sorted(path for path in Path("connect-configs").glob("*.json"))


def shipped(name: str) -> dict[str, str]:
    config: dict[str, str] = json.loads(Path("connect-configs", name).read_text(encoding="utf-8"))
    return config


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_the_shipped_configurations_have_no_finding(path: Path) -> None:
    assert check_connector(json.loads(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(("name", "kind"), [("crm.json", "postgresql"), ("billing.json", "mariadb")])
def test_every_required_setting_is_missed(name: str, kind: SourceKind) -> None:
    """Taking out any checked setting is found, unless Kafka Connect's or Debezium's own default is the right value."""
    config = shipped(name)
    for key, rule in required_settings(kind).items():
        without = {other: value for other, value in config.items() if other != key}
        found = [each for each in check_connector(without) if each.code == f"setting:{key}"]
        fine = rule.default is not None and rule.default in rule.values
        assert bool(found) != fine, key


@pytest.mark.parametrize(
    ("name", "key", "value", "fix"),
    [
        ("crm.json", "value.converter.replace.null.with.default", "true", '": "false",'),
        ("crm.json", "decimal.handling.mode", "precise", '"decimal.handling.mode": "string",'),
        ("crm.json", "skipped.operations", "t", '"skipped.operations": "none",'),
        ("crm.json", "transforms", "unwrap", 'remove "transforms"'),
        ("crm.json", "errors.tolerance", "all", '"errors.tolerance": "none",'),
        ("crm.json", "heartbeat.interval.ms", "0", '"heartbeat.interval.ms": "1000",'),
        ("crm.json", "slot.drop.on.stop", "true", '"slot.drop.on.stop": "false",'),
        ("crm.json", "topic.creation.default.cleanup.policy", "compact", '": "delete",'),
        ("billing.json", "enable.time.adjuster", "true", '"enable.time.adjuster": "false",'),
    ],
)
def test_a_wrong_value_is_an_error_with_the_line_to_write(name: str, key: str, value: str, fix: str) -> None:
    (found,) = check_connector({**shipped(name), key: value})
    assert found.severity == "error"
    assert found.code == f"setting:{key}"
    assert value in found.what
    assert fix in found.fix


def test_a_password_is_never_shown() -> None:
    (found,) = check_connector({**shipped("crm.json"), "database.password": "hunter2"})
    assert found.code == "bare-secret"
    assert "hunter2" not in str(found)


def test_unsigned_bigints_may_arrive_either_way() -> None:
    assert check_connector({**shipped("billing.json"), "bigint.unsigned.handling.mode": "long"}) == []


def test_errors_come_before_warnings() -> None:
    found = check_connector({"connector.class": "io.debezium.connector.postgresql.PostgresConnector"})
    words = [each.severity for each in found]
    assert words == sorted(words)
    assert 0 < len(errors(found)) < len(found)


def test_an_unknown_connector() -> None:
    (found,) = check_connector({"connector.class": "org.example.Connector"})
    assert found.code == "connector-class"


def test_the_placeholder_is_the_connector_s() -> None:
    assert placeholder_of(shipped("crm.json")) == UNAVAILABLE_PLACEHOLDER
    assert placeholder_of({}) == DEBEZIUM_PLACEHOLDER
