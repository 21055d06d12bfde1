"""The operator's commands on the real stack: status, rewind, parked, sweep, epoch and the audit trail they leave.

Each pipeline has a target of its own; workers are processes, as under `cdc run`.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from cdc.cli.audit import audit
from cdc.cli.epoch import new as new_epoch
from cdc.cli.epoch import show as show_epochs
from cdc.cli.parked import discard, list_, retry, show
from cdc.cli.rewind import rewind
from cdc.cli.status import status
from cdc.cli.sweep import sweep
from cdc.control.sweep import sweep_due
from cdc.errors import Terminal, Transient, Usage
from cdc.mapping.load import load
from cdc.model import Position
from cdc.stack import Stack
from tests.faults import checks, topics
from tests.faults.pipeline import Pipeline, unique
from tests.faults.source import REFUSED, Source, captured_source
from tests.fix_pipeline import Maker
from tests.fix_stack import new_postgres_database
from tests.stack.operator import Operator, running, touch
from tests.waiting import eventually

pytestmark = pytest.mark.stack


@pytest.fixture
def pipeline(pipelines: Maker) -> Pipeline:
    return pipelines()


@pytest.fixture
def cdc(pipeline: Pipeline, capsys: pytest.CaptureFixture[str]) -> Operator:
    return Operator(pipeline, capsys)


# -- status


def test_status_of_a_pipelines_life(source: Source, pipeline: Pipeline, cdc: Operator) -> None:
    code, found = cdc(status)
    (only,) = found["pipelines"]
    assert (code, only["state"], found["healthy"]) == (1, "never run", False)
    assert only["lag"] == sum(topics.ends(source.stack, pipeline.topics).values()) > 0
    assert pipeline.rows("SELECT to_regnamespace('cdc')") == [(None,)]  # looking made nothing
    with running(pipeline):
        eventually(lambda: cdc(status)[1]["pipelines"][0]["lag"] == 0, 10, "status shows no lag")
        fences = pipeline.fences()
        code, found = cdc(status)
        (only,) = found["pipelines"]
        assert (code, only["state"], only["problems"]) == (0, "running", [])
        assert [topic["lag_s"] for topic in only["topics"]] == [0.0, 0.0]
        assert sum(topic["applied"] for topic in only["topics"]) == sum(pipeline.watermarks().values())
        assert pipeline.fences() == fences
        (state,) = found["sources"]
        assert (state["state"], state["tasks"]) == ("RUNNING", ["RUNNING"])
        touch(source)
        pipeline.catches_up()  # rows of a snapshot have no time of their own
    code, found = cdc(status)
    assert (code, found["pipelines"][0]["state"]) == (0, "stopped")
    touch(source)
    code, found = cdc(status)
    (only,) = found["pipelines"]
    assert (code, only["lag"] > 0) == (1, True)
    assert [topic["lag_s"] > 0 for topic in only["topics"] if topic["lag"]] == [True]
    text = cdc.shown(status, partitions=True)
    assert "records wait: cdc run" in text


def test_status_of_a_pipeline_that_failed(source: Source, pipeline: Pipeline, cdc: Operator) -> None:
    with running(pipeline):
        pass
    pipeline.run("UPDATE cdc.watermark SET topic_id = 'another'")
    assert pipeline.start().ends() == 1
    code, found = cdc(status)
    (only,) = found["pipelines"]
    assert (code, only["state"]) == (1, "failed")
    assert "created again" in only["error"]


# kafka-python leaves the sockets of brokers that do not answer to the garbage collector
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("entry", "told", "still"),
    [
        ("kafka:\n  bootstrap: 127.0.0.1:1", "Kafka: Kafka does not answer", "sources"),
        ("connect:\n  url: http://127.0.0.1:1", "Kafka Connect: Kafka Connect does not answer", "lag"),
        ("    port: 1", "target hub:", "sources"),
    ],
)
def test_status_shows_what_it_can(pipeline: Pipeline, cdc: Operator, entry: str, told: str, still: str) -> None:
    with running(pipeline):
        pass
    at = pipeline.stack.endpoints
    lines = {
        "kafka": f"kafka:\n  bootstrap: {at.kafka}",
        "connect": f"connect:\n  url: {at.connect_url}",
    }
    text = pipeline.connections_file.read_text(encoding="utf-8")
    head, hub, target = text.partition("  hub:")
    broken = pipeline.folder / f"{pipeline.name}.broken.yaml"
    word = entry.split(":")[0].strip()
    if word == "port":
        target = target.replace(f"    port: {at.postgres.port}", entry)
    else:
        head = head.replace(lines[word], entry)
    broken.write_text(head + hub + target, encoding="utf-8")
    code, found = cdc(status, connections=broken)
    assert code == 1
    assert told in str(found["unreachable"]) + str(found["pipelines"][0]["unreachable"])
    if still == "sources":
        assert found["sources"][0]["state"] == "RUNNING"
    else:
        assert found["pipelines"][0]["lag"] == 0
    gc.collect()


def test_status_of_what_is_not_there(cdc: Operator) -> None:
    with pytest.raises(Usage, match="no pipeline nobody"):
        cdc(status, "nobody")
    with pytest.raises(Usage, match="--watch shows a table"):
        cdc(status, watch=True)


# -- rewind


def test_rewind_while_a_worker_runs_and_back_again(
    source: Source, pipeline: Pipeline, cdc: Operator, tmp_path: Path
) -> None:
    with running(pipeline):
        before, fences = pipeline.watermarks(), pipeline.fences()
        code, plan = cdc(rewind, pipeline.name, to_earliest=True)
        assert (code, plan["executed"], plan["replayed"]) == (0, False, sum(before.values()))
        assert (pipeline.watermarks(), pipeline.fences()) == (before, fences)
        applied = checks.outcomes(pipeline)

        code, done = cdc(
            rewind, pipeline.name, to_earliest=True, execute=True, reason="drill", undo_folder=tmp_path / "undo"
        )
        assert (code, done["executed"]) == (0, True)
        touch(source)  # the worker's next commit meets the fences
        touch(source, "lines")
        pipeline.catches_up()
        eventually(
            lambda: sum(checks.outcomes(pipeline).values()) >= sum(applied.values()) + sum(before.values()),
            30,
            lambda: f"everything applied again: {checks.outcomes(pipeline)} after {applied}",
        )
        assert pipeline.workers[0].said("fenced")
        checks.equal(source, pipeline, but=checks.parked_keys(pipeline))
        checks.never_fell(pipeline)
    lines = [line.split(",")[:3] for line in Path(done["undo"]).read_text(encoding="utf-8").splitlines()]
    assert {(topic, int(partition)): int(offset) for topic, partition, offset in lines} == before

    code, _ = cdc(rewind, pipeline.name, from_file=Path(done["undo"]), execute=True, reason="undo the drill")
    assert (code, pipeline.watermarks()) == (0, before)
    assert all(pipeline.fences()[place] > fences[place] for place in before)
    (undo, first) = cdc.audits(f"rewind {pipeline.name}")
    assert (first["reason"], first["outcome"], undo["reason"]) == ("drill", "done", "undo the drill")
    assert {(step["topic"], step["partition"]): step["before"] for step in first["after"]["steps"]} == before
    with running(pipeline):
        checks.equal(source, pipeline, but=checks.parked_keys(pipeline))


def test_rewind_by_time_and_by_partition(source: Source, pipeline: Pipeline, cdc: Operator, tmp_path: Path) -> None:
    with running(pipeline):
        pass
    at, topic = pipeline.watermarks(), source.topic("items")
    options = {"execute": True, "reason": "test", "undo_folder": tmp_path}
    code, done = cdc(rewind, pipeline.name, shift_by=-3, topic=(f"{topic}:1",), **options)
    assert (code, done["replayed"]) == (0, 3)
    assert pipeline.watermarks() == {**at, (topic, 1): at[topic, 1] - 3}
    code, done = cdc(rewind, pipeline.name, to_datetime="2020-01-01T00:00:00", **options)
    assert (code, done["at"]) == (0, "2020-01-01T00:00:00.000+00:00")
    assert set(pipeline.watermarks().values()) == {0}
    code, done = cdc(rewind, pipeline.name, to_datetime="2100-01-01T00:00:00+01:00", **options)
    assert (code, pipeline.watermarks(), done["left_out"]) == (
        0,
        topics.ends(source.stack, pipeline.topics),
        sum(at.values()),
    )
    assert {step["note"] for step in done["steps"]} == {"no record at or after that time: the topic's end"}
    code, done = cdc(rewind, pipeline.name, to_latest=True, **options)
    assert (code, done["executed"], done["undo"]) == (0, False, "")  # nothing to move is nothing done


def test_rewind_refuses_what_is_not_there(source: Source, pipeline: Pipeline, cdc: Operator) -> None:
    with running(pipeline):
        pass
    at, fences, topic = pipeline.watermarks(), pipeline.fences(), source.topic("items")
    code, plan = cdc(rewind, pipeline.name, to_offset=10_000_000, execute=True, reason="a slip")
    assert (code, plan["refused"], plan["executed"]) == (1, True, False)
    assert "lies behind the topic's end" in plan["steps"][0]["refused"]
    for words, told in (
        ({}, "no place"),
        ({"to_latest": True, "shift_by": 1}, "several places"),
        ({"to_latest": True, "topic": ("other.public.items",)}, "reads no topic other.public.items"),
        ({"to_latest": True, "topic": (f"{topic}:7",)}, "has no partition 7"),
        ({"to_latest": True, "execute": True}, "--execute needs --reason"),
    ):
        with pytest.raises(Usage, match=told):
            cdc(rewind, pipeline.name, **words)
    assert (pipeline.watermarks(), pipeline.fences(), cdc.audits("rewind")) == (at, fences, [])


def test_rewind_before_the_first_run(pipeline: Pipeline, cdc: Operator) -> None:
    code, plan = cdc(rewind, pipeline.name, to_earliest=True)
    assert (code, [step["moves"] for step in plan["steps"]]) == (0, [False] * 4)
    assert cdc(rewind, pipeline.name, to_latest=True)[0] == 1


# -- parked


BAD_KEY = 880_001


@pytest.fixture(scope="module")
def refusing(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Source]:
    """A source with one row that targets refuse, changed once more: that change waits behind it."""
    with (
        new_postgres_database(stack.endpoints.postgres) as database,
        captured_source(stack, database, unique("r"), tmp_path_factory.mktemp("refusing"), items=20) as made,
    ):
        made.run(
            f"INSERT INTO items VALUES ({BAD_KEY}, '{REFUSED}', 1, NULL, 0)",
            f"UPDATE items SET rev = 1 WHERE id = {BAD_KEY}",
        )
        made.captured()
        yield made


@pytest.fixture
def parking(refusing: Source, pipelines: Maker) -> Pipeline:
    """A pipeline on it: two of its records will be parked."""
    return pipelines(refusing)


@pytest.fixture
def cdc_parking(parking: Pipeline, capsys: pytest.CaptureFixture[str]) -> Operator:
    return Operator(parking, capsys)


def allow(pipeline: Pipeline) -> None:
    """Mend the target: its table takes the refused name now."""
    pipeline.run("ALTER TABLE hub.items DROP CONSTRAINT items_name_check")


def test_parked_records_are_shown_without_their_values(parking: Pipeline, cdc_parking: Operator) -> None:
    pipeline, cdc = parking, cdc_parking
    assert cdc(list_)[1] == []
    with running(pipeline):
        pass
    first, second = cdc(list_)[1]
    assert (first["reason"], first["head"], first["behind"]) == ("check_violation", True, [second["id"]])
    assert (second["reason"], second["head"], second["behind"]) == ("held", False, [])
    assert {(group["reason"], group["number"]) for group in cdc(list_, by="reason")[1]} == {
        ("check_violation", 1),
        ("held", 1),
    }
    everything = str(cdc(show, first["id"])[1]) + str(first) + cdc.shown(list_) + cdc.shown(show, first["id"])
    assert REFUSED not in everything
    assert str(BAD_KEY) not in everything
    detail = cdc(show, first["id"], values=True)[1]
    assert REFUSED in detail["value"]
    assert (detail["target_key"], str(BAD_KEY) in detail["key"]) == (f"[{BAD_KEY}]", True)
    with pytest.raises(Usage, match="no parked record 999"):
        cdc(show, 999)


def test_parked_records_are_retried_by_their_owner(parking: Pipeline, cdc_parking: Operator) -> None:
    pipeline, cdc = parking, cdc_parking
    with running(pipeline):
        first, _ = (each["id"] for each in cdc(list_)[1])
        code, plan = cdc(retry, where="reason=check_violation")
        assert (code, plan["executed"], [each["id"] for each in plan["records"]]) == (0, False, [first])
        code, done = cdc(retry, first, execute=True, reason="does it work now?")
        assert (code, done["records"][0]["state"], done["records"][0]["reason"]) == (1, "parked", "check_violation")
        allow(pipeline)
        code, done = cdc(retry, where="mapping=hub.items", execute=True, reason="the check is gone")
        assert (code, done["numbers"]) == (0, {"settled": 2})
        assert pipeline.rows("SELECT name, rev FROM hub.items WHERE id = %s", BAD_KEY) == [(REFUSED, 1)]
        assert cdc(list_)[1] == []
    checks.counted(pipeline)
    assert [each["reason"] for each in cdc.audits("parked retry")] == ["the check is gone", "does it work now?"]


def test_a_retry_that_nobody_can_do_now_waits(parking: Pipeline, cdc_parking: Operator) -> None:
    pipeline, cdc = parking, cdc_parking
    with running(pipeline):
        pass
    allow(pipeline)
    first, second = (each["id"] for each in cdc(list_)[1])
    code, done = cdc(retry, first, second, execute=True, reason="nobody is there")
    assert (code, done["numbers"]) == (1, {"waiting": 2})
    with running(pipeline):
        eventually(lambda: cdc(list_)[1] == [], 20, "the worker that started did it")


def test_discarded_records_let_those_behind_them_through(
    fresh: Source, pipelines: Maker, capsys: pytest.CaptureFixture[str]
) -> None:
    source, pipeline = fresh, pipelines(fresh)
    cdc = Operator(pipeline, capsys)
    key = 880_002
    with running(pipeline):
        for change in (
            f"INSERT INTO items VALUES ({key}, '{REFUSED}', 1, NULL, 0)",
            f"UPDATE items SET name = 'mended' WHERE id = {key}",
        ):
            source.run(change)
            source.captured()
            pipeline.catches_up()
        first, _ = cdc(list_)[1]
        code, plan = cdc(discard, first["id"])
        assert (code, plan["executed"], len(cdc(list_)[1])) == (0, False, 2)
        code, done = cdc(discard, first["id"], execute=True, reason="a test row")
        assert (code, done["numbers"]) == (0, {"discarded": 1})
        assert pipeline.rows("SELECT name FROM hub.items WHERE id = %s", key) == [("mended",)]
        assert cdc(list_)[1] == []
        assert checks.outcomes(pipeline)["skipped", "discarded"] == 1
        # The last record of a key goes: the running worker must not hold back what comes next.
        source.run(f"UPDATE items SET name = '{REFUSED}' WHERE id = {key}")
        source.captured()
        pipeline.catches_up()
        (last,) = cdc(list_)[1]
        cdc(discard, last["id"], execute=True, reason="again")
        source.run(f"UPDATE items SET name = 'good' WHERE id = {key}")
        source.captured()
        pipeline.catches_up()
        assert pipeline.rows("SELECT name FROM hub.items WHERE id = %s", key) == [("good",)]
        assert cdc(list_)[1] == []
        source.run(f"DELETE FROM items WHERE id = {key}")
        source.captured()
        pipeline.catches_up()
    checks.counted(pipeline)
    checks.equal(source, pipeline, but=checks.parked_keys(pipeline))
    with pytest.raises(Usage, match="which records"):
        cdc(discard, execute=True, reason="x")
    with pytest.raises(Usage, match="--execute needs --reason"):
        cdc(discard, 1, execute=True)
    assert len(cdc.audits("parked discard")) == 2


# -- sweep


def forget(source: Source, *meanwhile: str) -> None:
    """The connector loses its offsets and its slot; what happens meanwhile is never captured."""
    with source.connect() as connect:
        connect.stop(source.name)
        connect.wait_stopped(source.name)
        connect.delete_offsets(source.name)
        with psycopg.connect(source.stack.endpoints.postgres_dsn(), autocommit=True) as admin:
            query = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = %s"
            admin.execute(query, [source.name])
        source.run(*meanwhile)
        connect.resume(source.name)
        connect.wait_running(source.name)
    source.captured()


def test_sweep_after_a_repeated_snapshot(fresh: Source, pipelines: Maker, capsys: pytest.CaptureFixture[str]) -> None:
    source, pipeline = fresh, pipelines(fresh)
    cdc = Operator(pipeline, capsys)
    items = (pipeline.name, "hub.items")
    with running(pipeline):
        assert cdc(sweep, *items)[1]["snapshots"] == []
    refused = f"UPDATE items SET name = '{REFUSED}' WHERE id = 30"
    forget(source, "DELETE FROM lines WHERE item_id < 11", "DELETE FROM items WHERE id < 11", refused)
    with running(pipeline):
        found = cdc(status)[1]["pipelines"][0]["snapshots"]
        assert {each["mapping"] for each in found} == {f"{pipeline.name}/hub.items", f"{pipeline.name}/hub.lines"}
        assert f"cdc sweep {pipeline.name} hub.items" in str(found)
        rows = pipeline.rows("SELECT count(*) FROM hub.items")
        code, plan = cdc(sweep, *items)
        assert (code, plan["rows"], plan["executed"], plan["kept_keys"]) == (0, 10, False, 1)
        assert plan["examples"] == ["1", "2", "3", "4", "5"]
        assert pipeline.rows("SELECT count(*) FROM hub.items") == rows
    pipeline.run("UPDATE cdc.watermark SET next = next - 1 WHERE next > 0")
    with pytest.raises(Transient, match="records of the snapshot"):
        cdc(sweep, *items, deadline=0.5)
    with running(pipeline):
        with pytest.raises(Usage, match="--execute needs --reason"):
            cdc(sweep, *items, execute=True)
        with pytest.raises(Usage, match="no table hub"):
            cdc(sweep, pipeline.name, "hub.nothing")
        code, done = cdc(sweep, pipeline.name, "public.items", execute=True, reason="slot was lost")
        assert (code, done["rows"], done["executed"]) == (0, 10, True)
        assert cdc(sweep, *items)[1]["snapshots"] == []
        assert pipeline.rows("SELECT name FROM hub.items WHERE id = 30") == [("item 30",)]  # its key is parked
        # Changes from before the snapshot that come again find the tombstones.
        cdc(rewind, pipeline.name, to_earliest=True, execute=True, reason="test", undo_folder=pipeline.folder)
        touch(source)
        pipeline.catches_up()
    swept_by_itself(source, pipeline)
    checks.equal(source, pipeline, but=checks.parked_keys(pipeline))
    (record,) = cdc.audits("sweep")
    assert (record["before"]["rows"], record["after"]["rows"], record["outcome"]) == (10, 10, "done")


def swept_by_itself(source: Source, pipeline: Pipeline) -> None:
    """The other table's snapshot is still open: `snapshot.repeat: sweep` settles it without anybody."""
    mapping = load(pipeline.mapping_file)
    assert sweep_due(pipeline.settings, mapping) == []  # it asks
    pipeline.run("DELETE FROM cdc.repeated_snapshot WHERE swept_at IS NOT NULL")
    text = pipeline.mapping_file.read_text(encoding="utf-8")
    pipeline.mapping_file.write_text(text.replace("tables:", "snapshot: {repeat: sweep}\ntables:"), encoding="utf-8")
    mapping = load(pipeline.mapping_file)
    (done,) = eventually(lambda: sweep_due(pipeline.settings, mapping), 30, "the sweep is due")
    assert (done.mapping, done.rows, done.executed) == (f"{pipeline.name}/hub.lines", 20, True)
    assert sweep_due(pipeline.settings, mapping) == []


# -- epochs


def test_a_new_epoch(source: Source, pipeline: Pipeline, cdc: Operator) -> None:
    code, (shown,) = cdc(show_epochs)
    assert (code, shown["number"], shown["problem"]) == (0, 0, "")
    assert cdc(new_epoch, source.name)[1]["numbers"] == {}
    with running(pipeline), pytest.raises(Terminal, match="is running"):
        cdc(new_epoch, source.name, execute=True, reason="too early")
    code, (shown,) = cdc(show_epochs)
    assert (code, shown["number"], shown["problem"], shown["running"]) == (0, 1, "", False)
    assert shown["stored"] == shown["now"]

    pipeline.run("UPDATE cdc.source_epoch SET identity = 'postgresql:1/1'")
    assert pipeline.start().ends() == 1
    assert pipeline.workers[-1].said("another incarnation")
    assert cdc(show_epochs)[0] == 1
    code, plan = cdc(new_epoch, source.name)
    assert (code, plan["numbers"], plan["doubts"], plan["executed"]) == (0, {pipeline.name: 2}, [], False)
    code, done = cdc(new_epoch, source.name, execute=True, reason="restored from the backup of Sunday")
    assert (code, done["executed"]) == (0, True)
    with running(pipeline):
        touch(source)
        pipeline.catches_up()
        positions = {Position.unpack(each).epoch for (each,) in pipeline.rows("SELECT _cdc_position FROM hub.items")}
        assert positions == {2}
        checks.equal(source, pipeline, but=checks.parked_keys(pipeline))
    code, plan = cdc(new_epoch, source.name)
    assert (code, len(plan["doubts"])) == (0, 1)  # it is the same incarnation: think again
    with pytest.raises(Usage, match="no pipeline reads a source nobody"):
        cdc(new_epoch, "nobody")
    (record,) = cdc.audits(f"source new-epoch {source.name}")
    assert record["reason"] == "restored from the backup of Sunday"


# -- audit


def test_an_action_that_fails_is_recorded_as_failed(pipeline: Pipeline, cdc: Operator, tmp_path: Path) -> None:
    with running(pipeline):
        pass
    file = tmp_path / "not a folder"
    file.touch()
    with pytest.raises(Terminal, match="undo"):
        cdc(rewind, pipeline.name, to_earliest=True, execute=True, reason="no undo, no rewind", undo_folder=file)
    (record,) = cdc.audits("rewind")
    assert (record["outcome"], record["after"]) == ("failed", None)
    assert min(pipeline.watermarks().values()) > 0
    with pytest.raises(Usage, match="at least one"):
        audit(limit=0, connections=cdc.connections)
