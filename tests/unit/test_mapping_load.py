"""Pipeline files: what they say, and errors that point at the place and name the nearest right thing."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest

from cdc.errors import Usage
from cdc.mapping.diagnostics import Diagnostic, MappingError, render, to_json
from cdc.mapping.load import load, load_all, loads
from cdc.mapping.model import QualifiedName
from cdc.model import DeletePolicy, TruncatePolicy

HEAD = "pipeline: crm\nsource: crm\ntarget: hub\ntables:\n"


def _error(text: str) -> MappingError:
    with pytest.raises(MappingError) as raised:
        loads(text, "m.yaml")
    return raised.value


def _found(text: str) -> list[tuple[str, str, str | None]]:
    """Code, the text that is pointed at, help."""
    return [(found.code, pointed(found), found.help) for found in _error(text).diagnostics]


def pointed(found: Diagnostic) -> str:
    return found.file.line(found.span.line)[found.span.column - 1 : found.span.end_column - 1]


def test_a_small_file_has_sensible_defaults() -> None:
    pipeline = loads(HEAD + "  - {from: public.customers, to: hub.customers}\n", "m.yaml")
    (table,) = pipeline.tables
    assert (pipeline.name, pipeline.client, pipeline.batch.rows, pipeline.snapshot.repeat) == (
        "crm",
        "kafka-python",
        5000,
        "ask",
    )
    assert (table.from_, str(table.to)) == (QualifiedName("public", "customers"), "hub.customers")
    assert (table.id, table.source_name) == ("crm/hub.customers", "crm")
    assert table.columns.everything is not None
    assert (table.columns.named, table.on_delete, table.key) == ({}, DeletePolicy.DELETE, None)


def test_everything_that_can_be_said() -> None:
    text = """
pipeline: crm
description: customers
target: hub
client: librdkafka
batch: {rows: 100, bytes: 4096, max_wait_ms: 50}
snapshot: {repeat: sweep}
parked: {max: 7}
tables:
  - from: public."odd.name"
    to: hub.customers
    source: other
    key: [number, region]
    on_delete: soft
    soft_delete_column: gone
    on_truncate: ignore
    columns:
      "*": {except: [notes], rename: {full_name: name}}
      number: customer_no
      region: {copy: area, type: varchar(10)}
      rate: {value: 1.10}
      email: {sql: lower(email)}
"""
    pipeline = loads(text, "m.yaml")
    (table,) = pipeline.tables
    assert (pipeline.batch.bytes, pipeline.parked.max, pipeline.snapshot.repeat) == (4096, 7, "sweep")
    assert (table.from_.name, table.source_name, table.key) == ("odd.name", "other", ("number", "region"))
    star, named = table.columns.everything, table.columns.named
    assert star is not None
    assert (star.except_, star.rename) == (("notes",), {"full_name": "name"})
    assert list(named) == ["number", "region", "rate", "email"]
    assert (named["number"].copy_, named["region"].type, named["rate"].value) == (
        "customer_no",
        "varchar(10)",
        Decimal("1.10"),
    )


def test_what_can_be_said_of_parked_records() -> None:
    parked = "parked: {supersede: full_image, max_age: 2h, max_share: 0.01, share_minutes: 5, share_least: 3}\n"
    pipeline = loads(parked + HEAD + "  - {from: a.b, to: c.d, on_truncate: park}\n")
    limits = pipeline.parked
    assert (limits.max, limits.max_age, limits.max_share, limits.share_minutes) == (1000, 7200.0, Decimal("0.01"), 5)
    (table,) = pipeline.tables
    assert (table.supersede, table.on_truncate) == (True, TruncatePolicy.PARK)
    (table,) = loads(HEAD + "  - {from: a.b, to: c.d}\n").tables
    assert (table.supersede, table.on_truncate) == (False, TruncatePolicy.APPLY)
    for text, seconds in (("90", 90.0), ("90s", 90.0), ("30m", 1800.0), ("7 d", 604_800.0), ("0.5", 0.5)):
        told = loads(f"parked: {{max_age: {text}}}\n" + HEAD + "  - {from: a.b, to: c.d}\n")
        assert told.parked.max_age == seconds
    for text in ("max_age: soon", "max_age: 0", "max_age: true", "max_share: 1.5", "max_share: 0"):
        with pytest.raises(MappingError):
            loads(f"parked: {{{text}}}\n" + HEAD + "  - {from: a.b, to: c.d}\n")


def test_pipelines_are_frozen() -> None:
    pipeline = loads(HEAD + "  - {from: a.b, to: c.d}\n")
    with pytest.raises(ValueError, match="frozen"):
        pipeline.target = "x"  # type: ignore[misc]


def test_all_mistakes_are_shown_at_once() -> None:
    text = "pipelin: crm\nsource: crm\ntarget: hub\nbatch: {row: 5}\ntables:\n  - {from: a.b, too: c.d}\n"
    assert [(found.code, found.span.line) for found in _error(text).diagnostics] == [
        ("missing-key", 1),
        ("unknown-key", 1),
        ("unknown-key", 4),
        ("missing-key", 6),
        ("unknown-key", 6),
    ]


@pytest.mark.parametrize(
    "table", ["{from: a, to: c.d}", "{from: a.b}", "{from: a.b, to: c.d, columns: {x: }}", "x", ""]
)
def test_half_written_tables(table: str) -> None:
    (found,) = _error(f"{HEAD}  - {table}\n").diagnostics
    assert found.span.line == 5


def test_a_table_without_a_source() -> None:
    text = "pipeline: crm\ntarget: hub\ntables:\n  - {from: a.b, to: c.d}\n"
    assert [code for code, *_ in _found(text)] == ["no-source"]


def test_one_target_table_written_twice() -> None:
    error = _error(HEAD + "  - {from: a.b, to: c.d}\n  - {from: a.x, to: c.d}\n")
    (found,) = error.diagnostics
    assert (found.code, found.span.line, found.notes[0].span.line) == ("written-twice", 6, 5)
    assert "m.yaml:5:21" in found.message


def test_files_are_checked_against_one_another(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(HEAD + "  - {from: a.b, to: c.d}\n")
    (tmp_path / "b.yaml").write_text(HEAD + "  - {from: a.c, to: c.d}\n")
    (tmp_path / ".hidden.yaml").write_text("nonsense")
    (tmp_path / "note.txt").write_text("nonsense")
    with pytest.raises(MappingError) as raised:
        load_all(tmp_path)
    assert [(Path(found.file.name).name, found.span.line) for found in raised.value.diagnostics] == [
        ("b.yaml", 1),
        ("b.yaml", 5),
    ]
    assert [Path(found.notes[0].file.name).name for found in raised.value.diagnostics] == ["a.yaml", "a.yaml"]


def test_another_target_may_hold_a_table_of_the_same_name(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(HEAD + "  - {from: a.b, to: c.d}\n")
    (tmp_path / "b.yaml").write_text(
        HEAD.replace("pipeline: crm", "pipeline: other").replace("hub", "lake") + "  - {from: a.c, to: c.d}\n"
    )
    assert [pipeline.name for pipeline in load_all(tmp_path)] == ["crm", "other"]


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(Usage, match="No such file"):
        load(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"pipeline: \xe9")
    with pytest.raises(Usage, match="UTF-8"):
        load(tmp_path / "latin.yaml")


def test_how_findings_look() -> None:
    error = _error(HEAD + "  - from: a.b\n    to: c.d\n    on_delete: sft\n")
    assert str(error) == (
        "error[bad-value]: 'sft' is not one of delete, soft, ignore\n"
        " --> m.yaml:7:16\n"
        "7 |     on_delete: sft\n"
        "  |                ^^^ help: did you mean 'soft'?"
    )
    assert (error.where, error.hint) == ("m.yaml:7:16", "did you mean 'soft'?")
    assert render(error.diagnostics, "concise") == (
        "m.yaml:7:16: error[bad-value] 'sft' is not one of delete, soft, ignore (did you mean 'soft'?)"
    )
    assert render(error.diagnostics, "github").startswith(
        "::error file=m.yaml,line=7,col=16,endLine=7,title=bad-value::"
    )
    (plain,) = json.loads(to_json(error.diagnostics))
    assert (plain["code"], plain["line"], plain["end_column"], plain["severity"]) == ("bad-value", 7, 19, "error")
