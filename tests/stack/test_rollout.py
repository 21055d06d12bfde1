"""A changed mapping on its way into a running pipeline: versions arrive while somebody writes and workers die; what is
refused; what `cdc run` makes of a file that differs from what is deployed."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
import structlog

from cdc.author.deployment import as_deployed
from cdc.cli.explain import explain
from cdc.cli.rollout import apply, deploy_all, history, plan, preview, rollback
from cdc.control.run import find_pipelines
from cdc.errors import Usage
from tests.faults import checks, topics
from tests.faults.pipeline import KILLED, Pipeline, key_of
from tests.faults.source import Source, Writer
from tests.fix_pipeline import Maker
from tests.stack.operator import Json, Operator, running, touch
from tests.waiting import eventually

pytestmark = pytest.mark.stack


def write(cdc: Operator, by: int, tables: tuple[str, ...], more: str = "") -> None:
    """The mapping file, in which every row says by which text it was made."""
    pipeline = cdc.pipeline
    mappings = "".join(
        f"  - from: public.{table}\n    to: hub.{table}\n"
        f'    columns: {{"*": {{}}, made_by: {{value: {by}, type: integer}}}}\n{more}'
        for table in tables
    )
    (cdc.mappings / pipeline.mapping_file.name).write_text(
        f"pipeline: {pipeline.name}\nsource: {pipeline.source.name}\ntarget: hub\nbatch: {{rows: 40}}\n"
        f"parked: {{max: 1000000}}\ntables:\n{mappings}",
        encoding="utf-8",
    )


def deploy(cdc: Operator, by: int, tables: tuple[str, ...]) -> Json:
    write(cdc, by, tables)
    code, done = cdc(apply, cdc.pipeline.name, execute=True, reason=f"text {by}")
    assert (code, done["executed"], done["refused"]) == (0, True, []), done
    cdc.pipeline.tables = tables
    return done


def arrives(pipeline: Pipeline, by: int) -> None:
    """Workers go on by the text."""
    query = "SELECT FROM hub.items WHERE made_by = %s LIMIT 1"
    eventually(lambda: pipeline.rows(query, by), 30, lambda: f"rows made by text {by}{pipeline.logs()}")


def begins(pipeline: Pipeline) -> dict[topics.Place, dict[int, int]]:
    """Where which version begins, by partition."""
    found: dict[topics.Place, dict[int, int]] = {}
    query = "SELECT topic, partition, number, coalesce(next, 0) FROM cdc.mapping_switch WHERE pipeline = %s"
    for topic, partition, number, at in pipeline.rows(query, pipeline.name):
        found.setdefault((topic, partition), {})[number] = at
    return found


Row = tuple[str, tuple[object, ...]]


def made_as_recorded(pipeline: Pipeline, texts: dict[int, int | None]) -> dict[Row, tuple[str, int]]:
    """Every row was made by the version that its newest record falls to, or, where that had to wait for another row, by
    a later one; the record and its version, by row."""
    switches = begins(pipeline)
    made: dict[Row, tuple[str, int]] = {}
    for seen in topics.records(pipeline.stack, pipeline.watermarks()):
        table = seen.place[0].rpartition(".")[2]
        if seen.payload is None or seen.key is None or table not in pipeline.tables:
            continue
        known = switches.get(seen.place, {})
        begun = [each for each, at in known.items() if at <= seen.offset]
        version = max(begun, default=min(known, default=max(texts) + 1) - 1)
        row = (table, key_of(table, seen.key))
        made.pop(row, None)
        if seen.payload["after"] is not None:
            made[row] = (f"{seen.place[0]}:{seen.place[1]}:{seen.offset}", version)
    held = {}
    for table, columns in (("items", "id"), ("lines", "item_id, line_no")):
        if table in pipeline.tables:
            for *key, by in pipeline.rows(f"SELECT {columns}, made_by FROM hub.{table}"):
                held[table, tuple(key)] = by
    assert held.keys() == made.keys()
    other = {row for row, (_, version) in made.items() if held[row] != texts[version]}
    waited = sum(line["records"] for worker in pipeline.workers for line in worker.said("parked no more"))
    assert len(other) <= waited, {row: (held[row], made[row]) for row in other}
    for row in other:
        assert held[row] in {by for version, by in texts.items() if version > made[row][1]}
    return made


def test_versions_arrive_while_somebody_writes_and_workers_die(
    fresh: Source, pipelines: Maker, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline = pipelines(fresh, tables=("items",))
    cdc = Operator(pipeline, capsys)
    with Writer(fresh, seed=41) as writer:
        steady, victim = pipeline.start(), pipeline.start()
        writer.wrote(20)
        pipeline.moved(60)
        done = deploy(cdc, 1, ("items",))
        assert [each["sql"] for each in done["statements"]] == [
            'ALTER TABLE "hub"."items" ADD COLUMN "made_by" integer'
        ]
        assert done["reloads"] == []
        writer.wrote(20)
        arrives(pipeline, 1)
        done = deploy(cdc, 2, ("items", "lines"))
        victim.signal(signal.SIGKILL)
        assert victim.ends() == KILLED
        added = next(each for each in done["changes"] if (each["table"], each["what"]) == ("hub.lines", "table"))
        assert (added["sign"], added["effects"]) == ("+", [])
        assert {each["table"] for each in done["reloads"]} == {"hub.items"}
        writer.wrote(20)
        dying = pipeline.start("adopted:1:kill")
        assert dying.ends() == KILLED
        pipeline.start()
        arrives(pipeline, 2)
        deploy(cdc, 3, ("items", "lines"))
        writer.wrote(20)
        arrives(pipeline, 3)
        code, done = cdc(rollback, pipeline.name, to=2, execute=True, reason="3 was no good")
        assert (code, done["executed"], done["restores"], done["number"]) == (0, True, 2, 4)
        writer.wrote(20)
    fresh.captured()
    pipeline.catches_up()
    assert steady.code is None, pipeline.logs()
    eventually(lambda: not pipeline.parked(), 60, lambda: f"what waited came in: {pipeline.parked()}{pipeline.logs()}")
    checks.whole(fresh, pipeline, at_least=200)
    made = made_as_recorded(pipeline, {0: None, 1: 1, 2: 2, 3: 3, 4: 2})
    assert 4 in {version for _, version in made.values()}
    one_of_each = {version: (row, place) for row, (place, version) in made.items()}
    for version, ((table, key), place) in one_of_each.items():
        (row,) = cdc(explain, f"hub.{table}", ",".join(map(str, key)))[1]
        assert version in row["versions"], (place, row)
        if version:
            assert [each["number"] for each in cdc(history, pipeline.name, at=place)[1]] == [version]
    assert [line["version"] for line in steady.said("another version")] == [1, 2, 3, 4]

    assert cdc(plan, pipeline.name)[0] == 1, "the file still says 3"
    listed = cdc(history, pipeline.name)[1]
    assert [(each["number"], each["restores"], each["reason"]) for each in listed] == [
        *((4, 2, "3 was no good"), (3, None, "text 3"), (2, None, "text 2"), (1, None, "text 1")),
    ]
    write(cdc, 2, ("items", "lines"))
    assert cdc(plan, pipeline.name)[0] == 0
    assert {each["command"].split()[1] for each in cdc.audits("mapping ")} == {"apply", "rollback"}

    # a table that is mapped no more, and comes back
    deploy(cdc, 5, ("items",))
    at = pipeline.watermarks()
    touch(fresh)
    touch(fresh, "lines")
    pipeline.catches_up()
    later = pipeline.watermarks()
    assert {place: end for place, end in later.items() if "lines" in place[0]} == {
        place: end for place, end in at.items() if "lines" in place[0]
    }
    deploy(cdc, 6, ("items", "lines"))
    pipeline.catches_up()
    checks.whole(fresh, pipeline, at_least=300)
    made_as_recorded(pipeline, {0: None, 1: 1, 2: 2, 3: 3, 4: 2, 5: 5, 6: 6})


def test_a_plan_is_refused_when_its_world_has_moved(
    fresh: Source, pipelines: Maker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline = pipelines(fresh)
    cdc = Operator(pipeline, capsys)
    tables, saved = ("items", "lines"), tmp_path / "plan.json"
    deploy(cdc, 1, tables)

    def refused(why: str) -> None:
        code, done = cdc(apply, pipeline.name, plan=saved, execute=True, reason="as planned")
        assert (code, done["executed"], [each for each in done["refused"] if why in each]) != (1, False, [])
        assert why in str(done["refused"])

    write(cdc, 2, tables)
    code, made = cdc(plan, pipeline.name, out=saved)
    assert (code, made["made_for"]["version"], len(made["changes"])) == (1, 1, 2)
    assert cdc(apply, pipeline.name, plan=saved)[1]["executed"] is False, "only a rehearsal"
    write(cdc, 3, tables)
    refused("the file was changed")
    write(cdc, 2, tables)
    pipeline.run("ALTER TABLE hub.lines ADD COLUMN somebody text")
    refused("the target's tables were changed")
    cdc(plan, pipeline.name, out=saved)
    deploy(cdc, 4, tables)
    write(cdc, 2, tables)
    refused("version 2 is deployed, the plan was made for 1")
    cdc(plan, pipeline.name, out=saved)
    code, done = cdc(apply, pipeline.name, plan=saved, execute=True, reason="as planned")
    assert (code, done["executed"], done["number"]) == (0, True, 3)
    saved.write_bytes(saved.read_bytes().replace(pipeline.name.encode(), b"another", 1))
    with pytest.raises(Usage, match="the plan is of pipeline another"):
        cdc(apply, pipeline.name, plan=saved, execute=True, reason="as planned")
    write(cdc, 5, tables, "    key: [made_by]\n")
    code, made = cdc(apply, pipeline.name, execute=True, reason="wrong key")
    assert (code, made["executed"], "no unique index" in str(made["refused"])) == (1, False, True)
    assert "CREATE UNIQUE INDEX" in cdc.shown(plan, pipeline.name)


def test_what_runs_is_what_is_deployed(
    fresh: Source, pipelines: Maker, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = pipelines(fresh)
    cdc = Operator(pipeline, capsys)
    write(cdc, 1, pipeline.tables)

    def run() -> tuple[str, list[str]]:
        """The text that `cdc run` would run, and what it says."""
        log = structlog.testing.CapturingLogger()
        monkeypatch.setattr("cdc.author.deployment._log", log)
        (found,) = as_deployed(pipeline.settings, find_pipelines(cdc.mappings, [pipeline.name]))
        return str(found.tables[0].columns.named["made_by"].value), [str(call.args[0]) for call in log.calls]

    assert run() == ("1", [])
    assert [each["reason"] for each in cdc(history, pipeline.name)[1]] == ["the first run"]
    assert run() == ("1", [])
    write(cdc, 2, pipeline.tables)
    assert run() == ("1", ["the file is not what runs: version 1 is deployed, and is run"])

    # a worker asks for it as well, whatever becomes of the file
    with running(pipeline):
        assert set(pipeline.rows("SELECT made_by FROM hub.items")) == {(1,)}
    pipeline.mapping_file.write_text("no mapping", encoding="utf-8")
    worker = pipeline.start(pipeline=pipeline.name)
    pipeline.catches_up()
    deploy(cdc, 3, pipeline.tables)
    touch(fresh)
    pipeline.catches_up()
    assert set(pipeline.rows("SELECT made_by FROM hub.items")) == {(3,)}

    # a version that no worker can run stops it, and nothing is written by the older one
    pipeline.run(
        "INSERT INTO cdc.mapping_version SELECT pipeline, target, 3, file, 'pipeline: x', who, reason, NULL, now()"
        " FROM cdc.mapping_version WHERE number = 1",
        "UPDATE cdc.watermark SET fence = fence + 1",
    )
    assert worker.ends() == 1, worker.tail()
    assert worker.said("version 3 of the mappings cannot be run"), worker.tail()
    touch(fresh)
    code, done = cdc(rollback, pipeline.name, execute=True, reason="it cannot be run")
    assert (code, done["restores"]) == (0, 2)
    again = pipeline.start(pipeline=pipeline.name)
    pipeline.catches_up()
    eventually(lambda: again.code is None, 1, "it runs")
    assert set(pipeline.rows("SELECT made_by FROM hub.items")) == {(3,)}

    # what `cdc run --deploy` does first
    write(cdc, 6, pipeline.tables)
    assert deploy_all(pipeline.settings, find_pipelines(cdc.mappings, [pipeline.name]), "at the start")
    assert run() == ("6", [])
    assert cdc.audits(f"run {pipeline.name}")[0]["reason"] == "at the start"


def test_a_preview_tells_what_would_be_otherwise_and_writes_nothing(
    fresh: Source, pipelines: Maker, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline = pipelines(fresh, tables=("items",))
    cdc = Operator(pipeline, capsys)
    deploy(cdc, 1, ("items",))
    with running(pipeline):
        touch(fresh)
        pipeline.catches_up()
    file = cdc.mappings / pipeline.mapping_file.name

    def previewed(**options: object) -> tuple[int, Json]:
        capsys.readouterr()
        code = preview(file, output="json", connections=cdc.connections, **options)  # type: ignore[arg-type]
        return code, json.loads(capsys.readouterr().out)

    code, found = previewed()
    assert (code, found["version"], found["records"]) == (0, 1, {fresh.topic("items"): 120})
    ((mapping,), (target,)) = found["running"], found["target"]
    assert (mapping["rows"], target["rows"]) == ({"same": 60}, {"same": 60})

    text = file.read_text(encoding="utf-8")
    changed = text.replace("made_by: {value: 1, type: integer}", "name: {sql: upper(name)}")
    file.write_text(changed.replace('"*": {}', '"*": {except: [rev]}'), encoding="utf-8")
    before = pipeline.watermarks(), pipeline.fences()
    code, found = previewed(last=40)
    ((mapping,), (target,)) = found["running"], found["target"]
    assert (code, sum(found["records"].values()), set(mapping["rows"])) == (1, 40, {"different"})
    assert mapping["columns"] == dict.fromkeys(("name", "rev", "made_by"), mapping["rows"]["different"])
    assert target["columns"].keys() == {"name"}
    example = target["examples"][0]
    was, would_be = example["columns"]["name"]
    assert (example["kind"], was.upper(), was != would_be) == ("different", would_be, True)
    assert preview(file, last=40, connections=cdc.connections) == 1
    shown = capsys.readouterr().out
    assert f"{was} -> {would_be}" in shown
    assert "40 events of 1 topics; nothing is written" in shown
    pipeline.run("DELETE FROM hub.items")
    assert set(previewed(last=40)[1]["target"][0]["rows"]) == {"new"}
    assert (pipeline.watermarks(), pipeline.fences()) == before

    file.write_text(text.replace('"*": {}', '"*": {}, share: {sql: rev / (rev - rev)}'), encoding="utf-8")
    code, found = previewed(last=10, table=("hub.items",))
    assert (code, set(found["running"][0]["rows"])) == (1, {"parked"})
    assert found["running"][0]["examples"][0]["reason"] == "expression_failed"
    assert found["target"][0]["rows"] == found["running"][0]["rows"]
    assert "not there yet" in found["notes"][0]
    with pytest.raises(Usage, match="no mapping writes"):
        previewed(table=("hub.other",))
