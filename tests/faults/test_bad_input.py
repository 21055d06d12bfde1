"""What should not come: a bad record parks its key at most, and the others flow past it (I6)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.faults import checks
from tests.faults.forge import Forger, document, forging, row
from tests.faults.pipeline import NEEDS_A_PERSON, Pipeline, Worker
from tests.faults.source import Source
from tests.fix_pipeline import Maker
from tests.waiting import eventually

pytestmark = pytest.mark.stack


@pytest.fixture
def forger(source: Source) -> Iterator[Forger]:
    with forging(source) as made:
        yield made


def refused(pipeline: Pipeline, worker: Worker) -> dict[str, str]:
    """What the worker said when it stopped and wanted a person."""
    assert worker.ends() == NEEDS_A_PERSON, pipeline.logs()
    (line,) = worker.said("needs a person")
    assert line["hint"], "what to do next is said"
    assert "Traceback" not in worker.tail()
    return line


def test_bad_records_park_and_the_rest_flows(forger: Forger, pipelines: Maker) -> None:
    """Ten kinds of bad records in one topic; every other row arrives, every record is counted once."""
    forger.create()
    forger.put(1)
    forger.send(forger.key(2), b"{nope")
    forger.send(forger.key(3), forger.value("x", row(3)))
    forger.send(None, forger.value("c", row(4)))
    forger.send(forger.key(1), None)  # the tombstone after a delete: skipped
    forger.send(json.dumps({"id": 5}).encode(), json.dumps({"op": "c", "after": row(5)}).encode())
    forger.send(forger.key(6), forger.value("c", row(6, rev="many")))
    forger.put(7, amount="12345678901.00")  # the target's numeric(12,2) cannot hold it
    forger.put(8, amount=None)  # a constraint of the target's own
    forger.send(forger.key(9), forger.value("d", None, None))
    forger.send(forger.key(10), forger.value("c", row(10), sequence="[oops]", lsn=None))
    for number in range(11, 211):
        forger.put(number)
    forger.put(7, "u", rev=1)  # several batches later: good by themselves, but held behind the parked ones
    forger.put(8, "u", rev=1)
    pipeline = pipelines(of=forger.source, tables=("items",), rows=50)
    pipeline.run("ALTER TABLE hub.items ALTER amount SET NOT NULL")
    worker = pipeline.start()
    pipeline.catches_up()
    arrived = {key for (key,) in pipeline.rows("SELECT id FROM hub.items")}
    assert arrived == {1, *range(11, 211)}
    parked = pipeline.parked()
    assert [(key, reason) for _, key, reason in parked if key in ((7,), (8,))] == [
        ((7,), "value_out_of_range"),
        ((8,), "not_null_violation"),
        ((7,), "held"),
        ((8,), "held"),
    ]
    others = Counter(reason for _, key, reason in parked if key not in ((7,), (8,)))
    assert others == {
        "unreadable_record": 3,
        "unknown_op": 1,
        "missing_key": 1,
        "schemaless": 1,
        "value_not_exact": 1,
    }
    assert checks.outcomes(pipeline)["skipped", "tombstone"] == 1
    assert checks.counted(pipeline) == 213
    assert worker.code is None

    pipeline.run(
        "ALTER TABLE hub.items ALTER amount DROP NOT NULL, ALTER amount TYPE numeric(30,2)",
        "UPDATE cdc.parked SET retry_requested_at = now() WHERE hold <> ''",
    )
    eventually(lambda: {7, 8} <= {key for (key,) in pipeline.rows("SELECT id FROM hub.items")}, 20, "both are applied")
    assert pipeline.rows("SELECT id, rev FROM hub.items WHERE id IN (7, 8) ORDER BY id") == [(7, 1), (8, 1)]
    assert checks.counted(pipeline) == 213


@pytest.mark.parametrize("reason", ["unreadable_record", "schemaless", "unknown_op", "value_not_exact"])
def test_a_key_waits_behind_its_bad_record(forger: Forger, pipelines: Maker, reason: str) -> None:
    """What comes later for the key is held, in later batches too; the keys beside it and the other partition flow."""
    bad = {
        "unreadable_record": b"{nope",
        "schemaless": json.dumps({"op": "c", "after": row(2)}).encode(),
        "unknown_op": forger.value("x", row(2)),
        "value_not_exact": forger.value("d", None, None),
    }
    forger.create(2)
    forger.put(1)
    forger.send(forger.key(2), bad[reason])
    forger.put(2, "u", rev=1)
    for number in range(3, 33):
        forger.put(number, partition=number % 2)
    forger.put(2, "u", rev=2)
    pipeline = pipelines(of=forger.source, tables=("items",), rows=10)
    worker = pipeline.start()
    pipeline.catches_up()
    assert worker.code is None
    assert checks.counted(pipeline) == 34
    assert pipeline.rows("SELECT id FROM hub.items WHERE id <> 2 ORDER BY id") == [(1,), *((n,) for n in range(3, 33))]
    assert [(key, why) for _, key, why in pipeline.parked()] == [((2,), reason), ((2,), "held"), ((2,), "held")]
    assert pipeline.rows("SELECT id FROM hub.items WHERE id = 2") == []


def test_a_type_too_narrow_parks_its_key_only(forger: Forger, pipelines: Maker) -> None:
    """The mapping chooses a smaller type than the source's: what does not fit waits, with what follows it."""
    forger.create(2)
    forger.put(1)
    forger.put(2, rev=70_000)
    forger.put(3, partition=1, rev=32_767)
    pipeline = pipelines(of=forger.source, tables=("items",), prepared=False)
    text = pipeline.mapping_file.read_text(encoding="utf-8")
    columns = 'columns: {"*": {}, rev: {copy: rev, type: smallint}}'
    pipeline.mapping_file.write_text(text.replace("to: hub.items}", f"to: hub.items, {columns}}}"), encoding="utf-8")
    worker = pipeline.start()
    pipeline.catches_up()
    forger.put(2, "u", rev=1)  # in a batch of its own: in the same one only the newest state would be written
    forger.put(4)
    pipeline.catches_up()
    assert worker.code is None
    assert pipeline.rows("SELECT pg_typeof(rev)::text, id FROM hub.items ORDER BY id") == [
        ("smallint", 1),
        ("smallint", 3),
        ("smallint", 4),
    ]
    assert pipeline.parked() == [("items", (2,), "value_out_of_range"), ("items", (2,), "held")]
    assert checks.counted(pipeline) == 5


def test_more_parked_than_allowed_stops_the_pipeline(forger: Forger, pipelines: Maker) -> None:
    """A mapping or target that refuses everything must not fill the store."""
    forger.create()
    for number in range(40):
        forger.put(number, name="refused")
    pipeline = pipelines(of=forger.source, tables=("items",), rows=10, options=("parked: {max: 15}",))
    line = refused(pipeline, pipeline.start())
    assert "records are parked, more than the 15" in line["error"]
    assert "cdc parked" in line["hint"]
    assert len(pipeline.parked()) <= 15 + 2 * 10, "one batch is in flight while the count is looked at"
    checks.counted(pipeline)


def test_records_of_another_table_need_a_person(forger: Forger, pipelines: Maker) -> None:
    """Tables routed into one topic: applying the one's rows to the other would be wrong."""
    forger.create()
    forger.put(1)
    stranger = forger.value("c", row(2), table="others").replace(b"public.items.Envelope", b"public.others.Envelope")
    forger.send(forger.key(2), stranger)
    pipeline = pipelines(of=forger.source, tables=("items",))
    line = refused(pipeline, pipeline.start())
    assert f"{forger.source.name}.public.others" in line["error"]
    assert pipeline.rows("SELECT id FROM hub.items WHERE id = 2") == []


def test_flattened_records_need_a_person(forger: Forger, pipelines: Maker) -> None:
    """ExtractNewRecordState in the connector: no operation, no position."""
    forger.create()
    after = next(field for field in forger.value_schema["fields"] if field["field"] == "after")
    forger.send(forger.key(1), document({**after, "name": f"{forger.topic}.Value"}, row(1)))
    pipeline = pipelines(of=forger.source, tables=("items",))
    line = refused(pipeline, pipeline.start())
    assert "ExtractNewRecordState" in line["hint"]


def test_columns_come_and_go(source: Source, pipelines: Maker) -> None:
    """Several versions of a table in one topic, the change made while the pipeline runs."""
    source.run("INSERT INTO shapes SELECT n, n, 'b' || n FROM generate_series(1, 20) n")
    pipeline = pipelines(tables=("shapes",))
    worker = pipeline.start()
    source.captured()
    pipeline.catches_up()
    source.run(
        "ALTER TABLE shapes ADD COLUMN c text DEFAULT 'new'",
        "UPDATE shapes SET a = a + 100 WHERE id <= 5",
        "INSERT INTO shapes SELECT n, n, 'b' || n, 'c' || n FROM generate_series(21, 30) n",
        "ALTER TABLE shapes DROP COLUMN b",
        "INSERT INTO shapes SELECT n, n, 'c' || n FROM generate_series(31, 40) n",
        "UPDATE shapes SET c = 'changed' WHERE id IN (1, 25)",
        "DELETE FROM shapes WHERE id = 7",
    )
    source.captured()
    pipeline.catches_up()
    assert worker.code is None, pipeline.logs()
    assert pipeline.parked() == []
    with source.connection() as connection:
        wanted = connection.execute("SELECT id, a FROM shapes ORDER BY id").fetchall()
        written = connection.execute("SELECT id, c FROM shapes WHERE id <= 5 OR id > 20 ORDER BY id").fetchall()
    assert pipeline.rows("SELECT id, a FROM hub.shapes ORDER BY id") == wanted
    # Rows that nobody wrote since the column came have no value in the target: ADD COLUMN … DEFAULT sends no events.
    assert pipeline.rows("SELECT id, c FROM hub.shapes WHERE id <= 5 OR id > 20 ORDER BY id") == written
    # What the source has dropped stays, as it was last.
    assert pipeline.rows("SELECT id, b FROM hub.shapes WHERE id IN (2, 22, 31) ORDER BY id") == [
        (2, "b2"),
        (22, "b22"),
        (31, None),
    ]
    again = pipelines(tables=("shapes",))
    again.start()
    again.catches_up()
    columns = "id, a, b, c"
    assert again.rows(f"SELECT {columns} FROM hub.shapes ORDER BY id") == pipeline.rows(
        f"SELECT {columns} FROM hub.shapes ORDER BY id"
    )
    checks.counted(again)
