"""Pipelines with several targets, and requests of REST targets, as authors write them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cdc.control.feeds import unknown_names
from cdc.control.run import find_pipelines, one_pipeline, worker_specs
from cdc.engine.build import parts
from cdc.errors import Usage
from cdc.mapping.compile import compile_table
from cdc.mapping.diagnostics import MappingError
from cdc.mapping.load import load, loads
from cdc.model import Column, ColumnType, Kind, TableSchema
from cdc.settings import load as load_settings

BOTH = """
pipeline: both
source: crm
targets: [hub, partner]
tables:
  - from: public.customers
    to: hub.customers
    targets: [hub]
  - from: public.customers
    to: partner.customers
    targets: [partner]
    columns: {id: id, name: full_name}
    rest:
      upsert: {method: PUT, url: "/customers/{id}"}
      delete: {method: DELETE, url: "/customers/{id}"}
  - from: public.contacts
    to: hub.contacts
    rest:
      upsert: {method: PUT, url: "/contacts/{id}", body: {value: "{value}"}}
      delete: {method: DELETE, url: "/contacts/{id}"}
"""


def codes(text: str) -> list[str]:
    with pytest.raises(MappingError) as caught:
        loads(text)
    return [f"{found.code}:{found.span.line}" for found in caught.value.diagnostics]


def test_each_target_has_its_part() -> None:
    both = loads(BOTH)
    assert both.targets == ("hub", "partner")
    hub, partner = (both.part(target) for target in both.targets)
    assert [str(table.to) for table in hub.tables] == ["hub.customers", "hub.contacts"]
    assert [str(table.to) for table in partner.tables] == ["partner.customers", "hub.contacts"]
    assert (hub.label, partner.label, partner.name) == ("both:hub", "both:partner", "both")
    assert partner.part("partner").label == "both:partner"
    assert partner.tables[0].span("rest").line == BOTH.splitlines().index("    rest:") + 2


def test_a_pipeline_with_one_target_is_its_own_part() -> None:
    one = loads("pipeline: p\nsource: crm\ntarget: hub\ntables: [{from: public.a, to: hub.a}]")
    assert (one.targets, one.part("hub").tables, one.part("hub").label) == (("hub",), one.tables, "p")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (BOTH.replace("targets: [hub, partner]", ""), ["pipeline-target:2"]),
        (BOTH.replace("targets: [hub, partner]", "targets: [hub]\ntarget: hub"), ["pipeline-target:2"]),
        (BOTH.replace("    targets: [partner]", "    targets: [partners]"), ["unknown-target:11"]),
        (
            BOTH.replace("targets: [hub, partner]", "targets: [hub, partner, other]", 1).replace(
                "to: hub.contacts", "to: hub.contacts\n    targets: [hub]"
            ),
            ["bad-value:4"],
        ),
        (BOTH.replace("to: partner.customers", "to: hub.contacts"), ["written-twice:17"]),
        (BOTH.replace("targets: [hub, partner]", "targets: [hub, partner, hub]"), ["bad-value:4"]),
        (BOTH.replace('url: "/customers/{id}"}', 'url: "/customers/{"}', 1), ["bad-template:14"]),
        (BOTH.replace('      delete: {method: DELETE, url: "/contacts/{id}"}\n', ""), ["missing-key:18"]),
        (BOTH.replace('url: "/customers/{id}"}', 'url: "customers/{id}"}', 1), ["string-pattern-mismatch:14"]),
        (
            BOTH.replace('upsert: {method: PUT, url: "/customers', 'create: {method: PUT, url: "/customers'),
            ["rest-requests:14"],
        ),
        (BOTH.replace("to: partner.customers", "to: partner.customers\n    on_delete: soft"), ["bad-value:11"]),
    ],
)
def test_what_is_wrong_is_found_where_it_stands(text: str, found: list[str]) -> None:
    assert codes(text) == found


SCHEMA = TableSchema(
    "crm",
    "postgresql",
    "public",
    "customers",
    (
        Column("id", ColumnType(Kind.INTEGER, "int8"), key=True),
        Column("full_name", ColumnType(Kind.TEXT, "text")),
    ),
    1,
)


def test_templates_meet_the_columns_when_they_are_known() -> None:
    partner = loads(BOTH).part("partner").tables[0]
    assert compile_table(partner, SCHEMA).target.key == ("id",)
    wrong = loads(BOTH.replace("/customers/{id}", "/customers/{name}", 1)).part("partner").tables[0]
    with pytest.raises(MappingError) as caught:
        compile_table(wrong, SCHEMA)
    (found,) = caught.value.diagnostics
    assert found.message == "'name' is none of the key columns that may stand here"
    assert (found.span.line, found.span.column) == (14, 46)
    with pytest.raises(MappingError, match="none of the columns"):
        loads(BOTH.replace('url: "/customers/{id}"}', 'url: "/customers/{id}", body: {a: "{nam}"}}', 1))


CONNECTIONS = """
kafka: {bootstrap: "localhost:1"}
sources: {crm: {kind: postgresql, host: h, port: 1, database: d, user: u}}
targets:
  hub: {kind: postgresql, host: h, port: 1, database: d, user: u}
  partner: {kind: rest, url: "https://partner.example/api"}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "both.yaml").write_text(BOTH, encoding="utf-8")
    (tmp_path / "connect-configs").mkdir()
    (tmp_path / "connect-configs" / "connections.yaml").write_text(CONNECTIONS, encoding="utf-8")
    connector = '{"table.include.list": "public.customers,public.contacts"}'
    (tmp_path / "connect-configs" / "crm.json").write_text(connector, encoding="utf-8")
    return tmp_path


def test_commands_find_the_parts(folder: Path) -> None:
    assert [each.label for each in find_pipelines(folder, [])] == ["both:hub", "both:partner"]
    assert [each.label for each in find_pipelines(folder, ["both"], "partner")] == ["both:partner"]
    assert one_pipeline(folder, "both:partner").target == "partner"
    with pytest.raises(Usage, match="several targets"):
        one_pipeline(folder, "both")
    with pytest.raises(Usage, match="nothing goes to a target mart"):
        find_pipelines(folder, [], "mart")


def test_every_part_gets_its_workers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cdc.control.run.pipeline_placeholder", lambda settings, pipeline: "?")
    file = folder / "connect-configs" / "connections.yaml"
    specs = worker_specs(load_settings(file), find_pipelines(folder, []), 2, file)
    assert [spec.target for spec in specs] == ["hub", "hub", "partner", "partner"]
    rest = parts(replace(specs[2], pipeline=""))  # no database says what is deployed
    assert (rest.target.capabilities.transactions, rest.target.capabilities.max_rows) == (False, 200)
    assert (rest.pipeline.label, rest.control.capabilities.transactions) == ("both:partner", True)


def test_lint_knows_which_targets_are_rest(folder: Path) -> None:
    settings = load_settings(folder / "connect-configs" / "connections.yaml")
    assert (settings.rest_targets, settings.state("partner").name) == (("partner",), "hub")
    with pytest.raises(Usage, match="no database that could be read"):
        settings.target("partner")
    assert unknown_names(settings, [load(folder / "both.yaml")]) == []
    bare = loads(BOTH.replace("    targets: [hub]\n", "", 1))
    (found,) = unknown_names(settings, [bare])
    assert "say by which requests" in found.message
    assert found.span.line == 7
