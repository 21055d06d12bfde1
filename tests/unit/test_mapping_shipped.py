"""The files that ship: the demo's mappings, the editor's schema, the command that checks them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cdc.cli.mapping import app
from cdc.mapping import schema_json
from cdc.mapping.compile import compile_table
from cdc.mapping.diagnostics import MappingError
from cdc.mapping.functions import ALLOWED
from cdc.mapping.load import load_all
from cdc.mapping.model import Pipeline
from cdc.model import Column, ColumnType, Contributes, Kind, TableSchema

FOLDER = Path(__file__).parents[2] / "mappings"
_CUSTOMERS = {
    "id": ColumnType(Kind.INTEGER, "int8"),
    "customer_no": ColumnType(Kind.TEXT, "text"),
    "full_name": ColumnType(Kind.TEXT, "text"),
    "email": ColumnType(Kind.TEXT, "text"),
    "phone": ColumnType(Kind.TEXT, "text"),
    "segment": ColumnType(Kind.TEXT, "text"),
    "birth_date": ColumnType(Kind.DATE, "date"),
    "preferences": ColumnType(Kind.JSON, "jsonb"),
    "notes": ColumnType(Kind.TEXT, "text"),
    "credit_limit": ColumnType(Kind.DECIMAL, "numeric", 12, 2),
    "street": ColumnType(Kind.TEXT, "text"),
    "postcode": ColumnType(Kind.TEXT, "text"),
    "city": ColumnType(Kind.TEXT, "text"),
    "interests": ColumnType(Kind.ARRAY, "_text", element=ColumnType(Kind.TEXT, "text")),
    "created_at": ColumnType(Kind.TIMESTAMPTZ, "timestamptz"),
    "updated_at": ColumnType(Kind.TIMESTAMPTZ, "timestamptz"),
}


def run(*words: str) -> int:
    result: Any = app(list(words), result_action="return_value")
    return int(result or 0)


def test_the_demo_mappings_load() -> None:
    assert [(pipeline.name, len(pipeline.tables)) for pipeline in load_all(FOLDER)] == [
        *(("billing", 4), ("crm", 5), ("golden", 3), ("partner", 2), ("reporting", 4), ("takeaway", 4)),
    ]


def test_the_customers_of_the_demo_compile() -> None:
    (crm,) = [pipeline for pipeline in load_all(FOLDER) if pipeline.name == "crm"]
    columns = tuple(Column(name, type_, key=name == "id") for name, type_ in _CUSTOMERS.items())
    plan = compile_table(crm.tables[0], TableSchema("crm", "postgresql", "public", "customers", columns, 1))
    assert [column.name for column in plan.target.columns][2:6] == ["name", "email", "phone", "customer_segment"]
    assert plan.warnings == ()


def test_the_golden_customer_is_found_by_its_number() -> None:
    (golden,) = [pipeline for pipeline in load_all(FOLDER) if pipeline.name == "golden"]
    columns = tuple(Column(name, type_, key=name == "id") for name, type_ in _CUSTOMERS.items())
    schema = TableSchema("crm", "postgresql", "public", "customers", columns, 1)
    plan = compile_table(golden.tables[0], schema, full_before=True)
    assert plan.target.key == ("customer_no", "@id")
    assert plan.target.contributes == Contributes("golden/hub.golden_customers", "crm", 1)
    assert [found.code for found in plan.warnings] == []
    with pytest.raises(MappingError, match="REPLICA IDENTITY FULL"):
        compile_table(golden.tables[0], schema, full_before=False)


def test_every_shipped_mapping_names_its_schema() -> None:
    for path in FOLDER.glob("*.yaml"):
        assert path.read_text().splitlines()[0] == schema_json.MODELINE, path.name


def test_the_schema_file_is_up_to_date() -> None:
    assert (FOLDER / schema_json.FILE_NAME).read_text() == schema_json.text(), "run: cdc mapping schema --write"


def test_the_schema_is_draft_7() -> None:
    text = schema_json.text()
    assert json.loads(text)["$schema"] == "http://json-schema.org/draft-07/schema#"
    for newer in ("$defs", "prefixItems", "unevaluatedProperties", "dependentRequired"):
        assert f'"{newer}"' not in text


def test_the_schema_knows_every_key() -> None:
    made = schema_json.schema()
    assert set(made["properties"]) == {field.alias or name for name, field in Pipeline.model_fields.items()}
    for name, part in made["definitions"].items():
        assert part.get("description") or name == "DeletePolicy", name


def test_lint_of_good_files(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("lint", str(FOLDER)) == 0
    assert "6 files checked" in capsys.readouterr().out
    assert run("lint", str(FOLDER / "crm.yaml"), "-o", "json") == 0
    assert json.loads(capsys.readouterr().out) == []


def test_lint_of_a_bad_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("pipeline: x\nsource: s\ntarget: t\ntables:\n  - {from: a.b, to: c.d, colums: '*'}\n")
    assert run("lint", str(bad)) == 1
    assert "did you mean 'columns'?" in capsys.readouterr().out
    assert run("lint", str(bad), "-o", "concise") == 1
    assert capsys.readouterr().out.startswith(f"{bad}:5:26: error[unknown-key]")
    assert run("lint", str(bad), "-o", "json") == 1
    assert json.loads(capsys.readouterr().out)[0]["line"] == 5


def test_schema_and_functions_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("schema") == 0
    assert json.loads(capsys.readouterr().out) == schema_json.schema()
    assert run("functions") == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in ALLOWED)
