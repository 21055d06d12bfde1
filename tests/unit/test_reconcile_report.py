"""What `cdc compare` says, without databases: verdicts, names, and what it left out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cdc.cli.compare import print_tables
from cdc.errors import Usage
from cdc.mapping.load import loads
from cdc.reconcile.compare import _chosen, _comparable
from cdc.reconcile.comparison import blank_report
from cdc.reconcile.report import CompareReport, NotCompared, TableReport
from cdc.settings import load

TABLE = TableReport("p/h.t", "p", "s", "public.t", "hub", "h.t")
PIPELINE = """
pipeline: mine
source: s
targets: [hub, partner]
tables:
  - from: public.t
    to: h.t
    rest:
      upsert: {method: PUT, url: "/t/{id}"}
      delete: {method: DELETE, url: "/t/{id}"}
"""


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        ({}, "equal"),
        ({"parked": 2}, "equal"),
        ({"excused": 2}, "parked"),
        ({"excused": 2, "unsettled": 1}, "unsettled"),
        ({"excused": 2, "missing": 1}, "differs"),
        ({"never_run": True}, "never run"),
    ],
)
def test_only_equal_is_equal(found: dict[str, int], verdict: str) -> None:
    table = replace(TABLE, **found)  # type: ignore[arg-type]
    report = CompareReport((TABLE, table, TABLE))
    assert (table.verdict, table.equal) == (verdict, verdict == "equal")
    assert (report.verdict, report.equal, report.to_dict()["verdict"]) == (verdict, verdict == "equal", verdict)


def test_the_summary_says_how_many_are_parked(capsys: pytest.CaptureFixture[str]) -> None:
    left_out = NotCompared("mine:partner", "is a REST API (see cdc deliveries)")
    table = replace(TABLE, label="p:hub", source_rows=2112, excused=2112)
    print_tables(CompareReport((table, replace(TABLE, never_run=True)), 1.0, (left_out,)))
    said = " ".join(capsys.readouterr().out.split())
    assert "p:hub/h.t parked 2,112 0" in said
    assert "p/h.t never run" in said
    assert "not compared: mine:partner is a REST API (see cdc deliveries)" in said
    assert "not equal, 2,112 rows differ but are parked" in said


def test_rest_parts_are_left_out_and_named(tmp_path: Path) -> None:
    file = tmp_path / "connections.yaml"
    file.write_text(
        "targets:\n  hub: {kind: sqlite, path: hub.db}\n  partner: {kind: rest, url: 'http://localhost', state: hub}\n"
    )
    settings = load(file)
    hub, partner = (loads(PIPELINE).part(target) for target in ("hub", "partner"))
    found, left_out = _comparable(settings, _chosen([hub, partner], ["h.t"]))
    assert [blank_report(*each).title for each in found] == ["mine:hub/h.t"]
    assert [each.label for each in left_out] == ["mine:partner"]
    with pytest.raises(Usage, match="REST target"):
        _comparable(settings, _chosen([partner], []))


def test_tables_that_several_sources_make_are_left_out_and_named(tmp_path: Path) -> None:
    file = tmp_path / "connections.yaml"
    file.write_text("targets:\n  hub: {kind: sqlite, path: hub.db}\n")
    pipeline = loads(
        "pipeline: mine\ntarget: hub\nrules: {h.g: {sources: [a, b]}}\ntables:\n"
        "  - {from: a.t, to: h.g, source: a}\n  - {from: b.t, to: h.g, source: b}\n"
        "  - {from: a.t, to: h.t, source: a}\n"
    )
    found, left_out = _comparable(load(file), _chosen([pipeline], []))
    assert [blank_report(*each).title for each in found] == ["mine/h.t"]
    assert [each.label for each in left_out] == ["mine/h.g"]
    with pytest.raises(Usage, match="several sources"):
        _comparable(load(file), _chosen([pipeline], ["h.g"]))
