"""Conflicts on the real stack: somebody else writes to the target too; what was decided is told, and what would be."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from cdc.cli.conflicts import list_, show, simulate
from cdc.cli.explain import explain
from cdc.errors import Usage
from tests.faults.pipeline import Pipeline
from tests.faults.source import Source
from tests.fix_pipeline import Maker
from tests.stack.operator import Operator, running

pytestmark = pytest.mark.stack

RULES = """
rules:
  hub.shapes:
    on: {insert_exists: target_wins, update_origin_differs: merge, update_missing: update_or_insert}
    columns: {b: keep_if_null}
"""
OTHERS = RULES.replace("update_missing: update_or_insert", "update_missing: skip").replace("merge", "source_wins")


@pytest.fixture
def pipeline(pipelines: Maker) -> Pipeline:
    return pipelines(tables=("shapes",), options=("parked: {max: 1000000}", RULES))


@pytest.fixture
def cdc(pipeline: Pipeline, capsys: pytest.CaptureFixture[str]) -> Operator:
    return Operator(pipeline, capsys)


def test_conflicts_are_told_and_tried_by_other_rules(source: Source, pipeline: Pipeline, cdc: Operator) -> None:
    source.run("INSERT INTO shapes VALUES (1, 1, 'one'), (2, 2, 'two'), (3, 3, 'three')")
    source.captured()
    assert cdc(list_) == (0, [])
    with running(pipeline):
        pipeline.run("INSERT INTO hub.shapes (id, a, b) VALUES (9, 90, 'theirs')")
        since = datetime.now(UTC).isoformat()
        source.run("INSERT INTO shapes VALUES (9, 9, NULL)")
        source.captured()
        pipeline.catches_up()
        source.run("UPDATE shapes SET a = 10 WHERE id = 9")
        source.run("UPDATE shapes SET a = 20 WHERE id = 2")
        source.captured()
        pipeline.catches_up()
    assert pipeline.rows("SELECT id, a, b FROM hub.shapes WHERE id IN (2, 9) ORDER BY id") == [
        (2, 20, "two"),
        (9, 10, "theirs"),
    ]
    _, found = cdc(list_)
    assert [(each["type"], each["action"]) for each in found] == [
        ("insert_exists", "target_wins"),
        ("update_origin_differs", "merge"),
    ]
    _, groups = cdc(list_, by="rule", table="hub.shapes", since=since)
    assert {(each["rule"], each["number"]) for each in groups} == {
        ("insert_exists:target_wins", 1),
        ("update_origin_differs:merge", 1),
    }
    _, hidden = cdc(show, found[1]["id"])
    assert (hidden["key"], hidden["before"]) == (None, None)
    _, told = cdc(show, found[1]["id"], values=True)
    assert told["key"] == "[9]"
    assert [told[side] for side in ("before", "incoming", "resulting")] == [
        {"a": "90", "b": "theirs"},
        {"a": "10", "b": None},
        {"a": "10", "b": "theirs"},
    ]
    assert "theirs" in cdc.shown(show, found[1]["id"], values=True)
    assert found[0]["where"] in cdc.shown(list_)
    _, (row,) = cdc(explain, "hub.shapes", "9")
    assert row["state"] == "the row is there"
    assert row["position"].startswith("epoch 1, ")
    assert {each["type"] for each in row["conflicts"]} == {"insert_exists", "update_origin_differs"}
    assert "conflict" in cdc.shown(explain, "hub.shapes", "9")
    assert cdc(explain, "hub.shapes", "77")[1][0]["state"] == "there is no such row"
    with pytest.raises(Usage):
        cdc(explain, "hub.shapes", "no number")

    before = pipeline.watermarks()
    changed = pipeline.folder / "others.yaml"
    changed.write_text(pipeline.mapping_file.read_text(encoding="utf-8").replace(RULES, OTHERS), encoding="utf-8")
    _, tried = cdc(simulate, rules=changed, since=since, values=True)
    (difference,) = tried["differences"]
    assert (difference["old"], difference["new"]) == ("update_missing:update_or_insert", "update_missing:skip")
    assert difference["number"] == 1
    assert difference["examples"][0]["key"] == "[2]"
    (rows,) = tried["rows"]
    assert (rows["number"], rows["examples"][0]["key"], rows["examples"][0]["new"]) == (1, "[2]", None)
    assert rows["examples"][0]["old"]["a"] == "20"
    assert tried["records"] == 3
    assert "nothing was written" in cdc.shown(simulate, rules=changed, since=since)
    assert pipeline.watermarks() == before
    _, alike = cdc(simulate, rules=pipeline.mapping_file, since=since)
    assert (alike["differences"], alike["rows"]) == ([], [])
