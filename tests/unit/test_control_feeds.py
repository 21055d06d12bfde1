"""What a mapping reads and writes is known and captured: found from the files alone, at its place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cdc.control.feeds import unknown_names
from cdc.control.fitness import is_captured
from cdc.mapping.load import loads
from cdc.settings import load

CONNECTIONS = """
sources:
  crm: {kind: postgresql, host: "${stack:nowhere}", port: 5432, database: crm, user: u}
targets:
  hub: {kind: postgresql, host: h, port: 5432, database: hub, user: u}
"""
CAPTURED = {"database.dbname": "crm", "table.include.list": "public\\.customers, public.tickets"}


@pytest.fixture
def connections(tmp_path: Path) -> Path:
    (tmp_path / "crm.json").write_text(json.dumps(CAPTURED))
    (tmp_path / "connections.yaml").write_text(CONNECTIONS)
    return tmp_path / "connections.yaml"


def found(connections: Path, text: str) -> list[tuple[str, int, str | None]]:
    return [
        (each.code, each.span.line, each.help) for each in unknown_names(load(connections), [loads(text, "m.yaml")])
    ]


def test_what_is_known_and_captured_is_fine(connections: Path) -> None:
    text = "pipeline: p\nsource: crm\ntarget: hub\ntables:\n  - {from: public.customers, to: hub.customers}\n"
    assert found(connections, text) == []


def test_a_misspelt_table_source_and_target_are_found_at_their_place(connections: Path) -> None:
    text = (
        "pipeline: p\nsource: crm\ntarget: hup\ntables:\n  - {from: public.custmers, to: hub.customers}\n"
        "  - {from: public.tickets, to: hub.tickets, source: cmr}\n"
    )
    assert found(connections, text) == [
        ("unknown_target", 3, "did you mean 'hub'?"),
        ("not_captured", 5, "did you mean 'public.customers'?"),
        ("unknown_source", 6, "did you mean 'crm'?"),
    ]


@pytest.mark.parametrize(
    ("config", "captured"),
    [
        ({}, True),
        ({"table.include.list": "public.people"}, True),
        ({"table.include.list": "public\\.pe.*"}, True),
        ({"table.include.list": "people"}, False),
        ({"table.exclude.list": "public.people"}, False),
        ({"schema.include.list": "sales"}, False),
        ({"database.include.list": "public"}, True),
        ({"database.include.list": "other"}, False),
        ({"database.dbname": "x", "database.include.list": "other"}, True),
        ({"signal.data.collection": "public.people"}, False),
    ],
)
def test_is_captured(config: dict[str, str], captured: bool) -> None:
    assert is_captured("public.people", config) is captured


def test_rules_for_a_target_that_knows_none_are_found(connections: Path) -> None:
    connections.write_text(CONNECTIONS + "  file: {kind: sqlite, path: x.db}\n")
    text = (
        "pipeline: p\nsource: crm\ntargets: [hub, file]\nrules:\n  hub.customers: {resolve: keep_if_null}\n"
        "tables:\n  - {from: public.customers, to: hub.customers}\n"
    )
    advice = "leave the rules of hub.customers out, or write it to a target that does"
    assert found(connections, text) == [("target-without-rules", 5, advice)]
