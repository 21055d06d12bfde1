"""`cdc mapping test`: what is played, what is found, and how it is shown."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from cdc.author.cases import MODELINE, SCHEMA_FILE, find_cases, load_cases, schema_text
from cdc.author.testing import Result, run_files
from cdc.cli.mapping import app
from cdc.errors import Usage
from cdc.mapping.load import load_all
from tests.authored import OURS_AND_THEIRS

FOLDER = Path(__file__).parents[2] / "mappings"
PIPELINE = """
pipeline: p
source: crm
target: hub
rules:
  hub.ruled: {on: {insert_exists: target_wins, update_missing: skip}}
tables:
  - {from: public.people, to: hub.people, columns: {"*": {}, half: {sql: 10 / share}}}
  - {from: public.people, to: hub.names, columns: {id: id, name: name}, on_delete: ignore}
  - {from: public.ruled, to: hub.ruled}
  - {from: public.strict, to: hub.strict, on_truncate: refuse}
"""


def run(*words: str) -> int:
    result: Any = app(["test", *words], result_action="return_value")
    return int(result or 0)


def played(tmp_path: Path, text: str) -> list[Result]:
    (tmp_path / "p.yaml").write_text(PIPELINE, encoding="utf-8")
    (tmp_path / "tests").mkdir(exist_ok=True)
    path = tmp_path / "tests" / "p.yaml"
    path.write_text("pipeline: ../p.yaml\n" + text, encoding="utf-8")
    return run_files([path], lambda source: "postgresql")


def codes(result: Result) -> list[tuple[str, int]]:
    return [(found.code, found.span.line) for found in result.findings]


def test_the_shipped_mappings_pass_and_every_table_of_them_is_tested(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(str(FOLDER)) == 0
    assert " 0 failed" in capsys.readouterr().out
    for pipeline in load_all(FOLDER):
        cases = load_cases(FOLDER / "tests" / Path(pipeline.file).name)
        tested = {name for case in cases.tests for name in case.rows}
        assert {str(table.to) for table in pipeline.tables} <= tested, pipeline.name


def test_tests_name_their_schema_and_it_is_up_to_date() -> None:
    for path in (FOLDER / "tests").glob("*.yaml"):
        assert path.read_text().splitlines()[0] == MODELINE, path.name
    assert (FOLDER / SCHEMA_FILE).read_text() == schema_text(), "run: cdc mapping schema --write"


def test_the_example_in_the_readme_passes(tmp_path: Path) -> None:
    readme = (FOLDER.parent / "README.md").read_text(encoding="utf-8")
    (text,) = [block for block in re.findall(r"```yaml\n(.*?)```", readme, re.DOTALL) if "\ntests:\n" in block]
    path = tmp_path / "readme.yaml"
    path.write_text(text.replace("../crm.yaml", str(FOLDER / "crm.yaml")), encoding="utf-8")
    (result,) = run_files([path], lambda source: "postgresql")
    assert result.findings == []


def test_a_pipeline_file_finds_its_tests(tmp_path: Path) -> None:
    assert find_cases([FOLDER / "crm.yaml"]) == [FOLDER / "tests" / "crm.yaml"]
    with pytest.raises(Usage, match="no tests here"):
        find_cases([tmp_path])


def test_an_expression_that_fails_on_one_row_parks_that_row(tmp_path: Path) -> None:
    (good,) = played(
        tmp_path,
        """
tests:
  - name: halves
    events:
      - {table: public.people, op: create, after: {id: 1, name: a, share: 5}, decision: applied}
      - table: public.people
        op: create
        after: {id: 2, name: b, share: 0}
        decision: {hub.people: "parked:expression_failed", hub.names: applied}
      - {table: public.people, op: update, after: {id: 2, name: c, share: 2}, decision: {hub.people: "parked:held"}}
      - {table: public.people, op: delete, key: {id: 1}, decision: {hub.names: "skipped:ignored_delete"}}
    rows:
      hub.people: []
      hub.names: [{id: 1, name: a}, {id: 2, name: c}]
    parked: {hub.people: [expression_failed, held]}
""",
    )
    assert (good.findings, good.rows) == ([], [])
    assert "division by zero" in next(each.detail for each in good.decided[1] if each.detail)


def test_what_is_parked_or_stops_must_be_expected(tmp_path: Path) -> None:
    parked, stopped, stops = played(
        tmp_path,
        """
tests:
  - name: parked
    events:
      - {table: public.people, op: create, after: {id: 2, name: b, share: 0}}
  - name: stopped
    events:
      - {table: public.strict, op: truncate}
      - {table: public.strict, op: create, after: {id: 2}}
  - name: stops
    events:
      - {table: public.strict, op: truncate, decision: stopped}
""",
    )
    assert codes(parked) == [("parked", 6)]
    assert parked.findings[0].help == "if that is right: decision: parked:expression_failed"
    assert codes(stopped) == [("parked", 9), ("not-reached", 10)]
    assert stops.passed
    assert stops.stopped


def test_rules_know_what_others_wrote(tmp_path: Path) -> None:
    (result,) = played(tmp_path, OURS_AND_THEIRS)
    assert result.findings == []


def test_rows_that_differ(tmp_path: Path) -> None:
    (result,) = played(
        tmp_path,
        """
tests:
  - name: three ways
    events:
      - {table: public.ruled, op: create, after: {id: 1, name: a}}
      - {table: public.ruled, op: create, after: {id: 2, name: b}}
    rows:
      hub.ruled:
        - {id: 1, name: x}
        - {id: 3}
""",
    )
    assert [(row.kind, row.key) for row in result.rows] == [
        ("different", "id=1"),
        ("missing", "id=3"),
        ("surplus", "id=2"),
    ]
    assert codes(result) == [("different-row", 10), ("missing-row", 11), ("surplus-row", 10)]
    assert result.findings[0].message == "hub.ruled, row id=1: name is a, not x"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("{tabel: a, op: create}", "unknown key 'tabel'"),
        ("{table: public.ruld, op: truncate}", "maps no table public.ruld"),
        ("{table: public.ruled, op: insert, after: {id: 1}}", "'insert' is not one of"),
        ("{table: public.ruled, op: create}", "'after:' is missing"),
        ("{table: public.ruled, op: delete}", "'before:' or 'key:' is missing"),
        ("{table: public.ruled, op: truncate, after: {id: 1}}", "a truncate has no 'after'"),
        ("{table: public.ruled, op: create, after: {nr: 1}}", "which columns are the key"),
        ("{table: public.ruled, op: create, after: {id: 1}, unavailable: [x, nme]}", "no column nme"),
        ("{table: public.ruled, op: create, after: {id: 1}, time: soon}", "a moment is written"),
        (
            "{table: public.ruled, op: create, after: {id: 1, name: a}, decision: {hub.rule: applied}}",
            "no target table",
        ),
        ("{table: public.people, op: create, after: {id: 1}}", "has no column 'share'"),
    ],
)
def test_a_test_that_cannot_be_played(tmp_path: Path, text: str, found: str) -> None:
    (result,) = played(tmp_path, f"tests:\n  - name: x\n    events:\n      - {text}\n")
    assert result.broken or not result.passed
    assert any(found in each.message for each in result.findings), result.findings


def test_values_must_fit_their_types(tmp_path: Path) -> None:
    (result,) = played(
        tmp_path,
        """
sources:
  public.ruled: {columns: {id: bigint, day: date, flag: boolean, data: bytea, doc: jsonb, tags: "text[]"}}
tests:
  - name: x
    events:
      - table: public.ruled
        op: create
        after: {id: one, day: 2026-02-30, flag: maybe, data: abc, doc: "{", tags: a}
""",
    )
    assert [(found.code, found.span.line) for found in result.findings] == [("bad-value", 10)] * 6
    (result,) = played(tmp_path, "sources: {public.ruled: {columns: {id: bigit}}}\ntests: [{name: x, events: []}]\n")
    assert [found.code for found in result.findings] == ["too-short"]
    (result,) = played(
        tmp_path,
        "sources: {public.ruled: {columns: {id: bigit}}}\n"
        "tests: [{name: x, events: [{table: public.ruled, op: truncate}]}]\n",
    )
    assert (result.findings[0].code, result.findings[0].help) == ("unknown-type", "did you mean 'bigint'?")


def test_types_follow_from_the_values(tmp_path: Path) -> None:
    (result,) = played(
        tmp_path,
        """
tests:
  - name: guessed
    events:
      - table: public.ruled
        op: create
        after:
          id: 1
          n: 1.10
          at: 2026-11-25T10:00:00+02:00
          local: 2026-11-25 10:00
          day: 2026-11-25
          doc: {a: [1, 2.50]}
          tags: [x, y]
          ref: 0e37df36-f698-11e6-8dd4-cb9ced3df976
    rows:
      hub.ruled:
        - id: 1
          n: 1.1
          at: 2026-11-25T08:00:00Z
          local: "2026-11-25 10:00:00"
          day: 2026-11-25
          doc: {a: [1, 2.5]}
          tags: [x, y]
          ref: 0E37DF36-F698-11E6-8DD4-CB9CED3DF976
""",
    )
    assert result.findings == []


def test_how_it_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    played(
        tmp_path,
        "tests:\n  - name: one\n    events:\n"
        "      - {table: public.ruled, op: create, after: {id: 1, name: a}, decision: skipped}\n"
        "    rows: {hub.ruled: [{id: 1, name: b}]}\n",
    )
    path = str(tmp_path / "tests" / "p.yaml")
    assert run(path) == 1
    out = capsys.readouterr().out
    assert "FAILED  one" in out
    assert "hub.ruled: was decided: applied, not skipped" in out
    assert "different   name     b          a" in out
    assert run(path, "-o", "json") == 1
    (plain,) = json.loads(capsys.readouterr().out)
    assert (plain["passed"], plain["decided"]) == (False, [{"hub.ruled": ["applied"]}])
    assert plain["rows"][0]["columns"] == [{"column": "name", "expected": "b", "actual": "a"}]
    assert run(path, "-o", "github") == 1
    assert capsys.readouterr().out.splitlines()[0].startswith(f"::error file={path},line=5,")
    with pytest.raises(Usage, match="no test's name"):
        run(path, "-k", "two")


def test_a_pipeline_that_does_not_load_is_a_finding(tmp_path: Path) -> None:
    played(tmp_path, "tests: []")
    (tmp_path / "p.yaml").write_text("pipeline: p\n", encoding="utf-8")
    (tmp_path / "tests" / "p.yaml").write_text(
        "pipeline: ../p.yaml\ntests: [{name: x, events: [{table: a.b, op: truncate}]}]", encoding="utf-8"
    )
    (result,) = run_files([tmp_path / "tests" / "p.yaml"], lambda source: "postgresql")
    assert result.broken
    assert {found.file.name for found in result.findings} == {str(tmp_path / "p.yaml")}
