"""History that was lost before it was read: loaded again, live, and swept; and what a load does beside changes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient, TopicPartition

from cdc.cli.load import load_table as load
from cdc.cli.rewind import rewind
from cdc.cli.sweep import sweep
from cdc.control.sweep import sweep_due
from cdc.errors import Terminal, Transient, Usage
from cdc.mapping.load import load as load_mapping
from cdc.stack import Stack
from tests.faults import checks, topics
from tests.faults.mariadb import MariadbSource, captured_mariadb
from tests.faults.pipeline import Pipeline, unique
from tests.faults.source import Source, Writer, captured_source
from tests.faults.test_bad_input import refused
from tests.fix_pipeline import Maker
from tests.fix_stack import new_postgres_database
from tests.stack.operator import Operator, running
from tests.waiting import eventually

pytestmark = pytest.mark.stack

PORTIONS = {"incremental__snapshot__chunk__size": "4"}
"""Rows that Debezium reads at a time: few, so that a load takes long."""
EXECUTE = {"execute": True, "reason": "test"}


@pytest.fixture
def postgresql(stack: Stack, tmp_path: Path) -> Iterator[Source]:
    with (
        new_postgres_database(stack.endpoints.postgres) as database,
        captured_source(stack, database, unique("l"), tmp_path, items=200, **PORTIONS) as made,
    ):
        made.captured()
        yield made


@pytest.fixture
def mariadb(stack: Stack, tmp_path: Path) -> Iterator[Source]:
    with captured_mariadb(stack, unique("l"), tmp_path, **PORTIONS) as made:
        made.run("INSERT INTO items SELECT seq, concat('item ', seq), seq, NULL, 0 FROM seq_1_to_200")
        made.captured()
        yield made


def lose(source: Source, topic: str) -> dict[tuple[str, int], int]:
    """Retention takes all that the topic holds; where its partitions ended."""
    ends = topics.ends(source.stack, [topic])
    admin = KafkaAdminClient(bootstrap_servers=source.stack.endpoints.kafka)
    try:
        admin.delete_records({TopicPartition(*place): end for place, end in ends.items()})
    finally:
        admin.close()
    return ends


def same(source: Source, pipeline: Pipeline) -> None:
    if isinstance(source, MariadbSource):
        here = checks.texts(pipeline.database.dsn, "hub", "items")
        assert {key[0]: row for key, row in here.items()} == source.texts()
    else:
        checks.equal(source, pipeline)


def swept(cdc: Operator, pipeline: Pipeline, table: str, **options: Any) -> tuple[int, Any]:
    """The sweep, once the load is over."""

    def answer() -> tuple[int, Any] | None:
        try:
            return cdc(sweep, pipeline.name, table, deadline=5, **options)
        except Transient:
            return None

    found = eventually(answer, 60, "the load is over")
    assert found is not None
    return found


def signal(source: Source, kind: str, **data: Any) -> None:
    """Another word to the connector, as somebody might send it."""
    source.run(f"INSERT INTO debezium_signal VALUES ('{unique('x')}', '{kind}', '{json.dumps(data)}')")


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
def test_history_that_retention_took_is_repaired(
    kind: str, request: pytest.FixtureRequest, pipelines: Maker, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    source: Source = request.getfixturevalue(kind)
    pipeline = pipelines(of=source, tables=("items",))
    cdc, table = Operator(pipeline, capsys), f"{source.namespace}.items"
    with running(pipeline):
        pass
    source.run(
        "DELETE FROM items WHERE id <= 20",
        "UPDATE items SET rev = 5 WHERE id BETWEEN 30 AND 40",
        "INSERT INTO items VALUES (1001, 'new', 1, NULL, 0)",
        "UPDATE items SET id = 1002 WHERE id = 50",
    )
    source.captured()
    lose(source, source.topic("items"))
    line = refused(pipeline, pipeline.start())
    assert "are gone" in line["error"]
    assert "cdc source load" in line["hint"]
    cdc(rewind, pipeline.name, to_earliest=True, undo_folder=tmp_path, **EXECUTE)

    code, plan = cdc(load, source.name, table)
    assert (code, plan["executed"], plan["mappings"]) == (0, False, [f"{pipeline.name}/hub.items"])
    with running(pipeline):
        code, done = cdc(load, source.name, table, **EXECUTE)
        assert (code, done["executed"]) == (0, True)
        ((position,),) = pipeline.rows("SELECT position FROM cdc.repeated_snapshot")
        code, plan = swept(cdc, pipeline, "hub.items")
        assert (code, plan["rows"], plan["executed"]) == (0, 21, False)
        ahead = pipeline.rows("SELECT count(*) FROM hub.items WHERE _cdc_position > %s", position)
        assert ahead == [(181,)], "every row that the source has was read after the place of the request"
        code, done = cdc(sweep, pipeline.name, "hub.items", **EXECUTE)
        assert (code, done["rows"]) == (0, 21)
        same(source, pipeline)
    checks.never_fell(pipeline)
    (record,) = cdc.audits(f"source load {source.name}")
    assert (record["outcome"], record["after"]["executed"]) == ("done", True)


def test_a_load_beside_changes(postgresql: Source, pipelines: Maker, capsys: pytest.CaptureFixture[str]) -> None:
    """Portions are read between changes of the same rows; no row goes back, and nothing is swept that is there."""
    source, pipeline = postgresql, pipelines(of=postgresql)
    cdc = Operator(pipeline, capsys)
    with running(pipeline):
        with Writer(source, seed=3) as writer:
            writer.wrote(50)
            cdc(load, source.name, "public.items", **EXECUTE)
            writer.wrote(200)
        code, done = swept(cdc, pipeline, "hub.items", **EXECUTE)
        assert (code, done["rows"], len(done["snapshots"])) == (0, 0, 1)
        source.captured()
        pipeline.catches_up()
        reads = [
            seen
            for seen in topics.records(source.stack, topics.ends(source.stack, [source.topic("items")]))
            if seen.payload and seen.payload["source"]["snapshot"] == "incremental"
        ]
        assert len(reads) > 100, "the load brought rows"
        checks.whole(source, pipeline, at_least=800)


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
def test_a_sweep_waits_until_the_load_is_over(
    kind: str, request: pytest.FixtureRequest, pipelines: Maker, capsys: pytest.CaptureFixture[str]
) -> None:
    source: Source = request.getfixturevalue(kind)
    table = f"{source.namespace}.items"
    series = {"postgresql": "generate_series(1001, 5000) n", "mariadb": "(SELECT seq AS n FROM seq_1001_to_5000) s"}
    source.run(f"INSERT INTO items SELECT n, 'more', 1, NULL, 0 FROM {series[kind]}")
    source.captured()
    pipeline = pipelines(of=source, tables=("items",), rows=1000, options=("snapshot: {repeat: sweep}",))
    cdc, mapping = Operator(pipeline, capsys), load_mapping(pipeline.mapping_file)
    with running(pipeline), ExitStack() as paused:
        cdc(load, source.name, table, **EXECUTE)
        signal(source, "pause-snapshot", type="incremental")
        paused.callback(signal, source, "resume-snapshot", type="incremental")
        source.captured()
        with pytest.raises(Terminal, match="is loading a table already"):
            cdc(load, source.name, table)
        with pytest.raises(Transient, match="is still loading"):
            cdc(sweep, pipeline.name, "hub.items", deadline=3)
        assert sweep_due(pipeline.settings, mapping) == []
        with source.connect() as connect:  # a task that starts again goes on where it was
            connect.restart(source.name)
            connect.wait_running(source.name)
        paused.close()
        (done,) = eventually(lambda: sweep_due(pipeline.settings, mapping), 60, "the sweep is due")
        assert (done.rows, done.executed) == (0, True)
        same(source, pipeline)


def test_a_load_of_a_table_that_is_empty_now(
    postgresql: Source, pipelines: Maker, capsys: pytest.CaptureFixture[str]
) -> None:
    """No row comes to show that the load ran; none is needed."""
    source, pipeline = postgresql, pipelines(of=postgresql, tables=("items",))
    cdc = Operator(pipeline, capsys)
    with running(pipeline):
        pass
    source.run("DELETE FROM items")
    source.captured()
    lose(source, source.topic("items"))
    with pytest.raises(Usage, match="--execute needs --reason"):
        cdc(load, source.name, "public.items", execute=True)
    cdc(rewind, pipeline.name, to_latest=True, undo_folder=pipeline.folder, **EXECUTE)
    cdc(load, source.name, "public.items", **EXECUTE)
    # The columns of a table are known by its records: one must be there.
    source.run("INSERT INTO items VALUES (7, 'seven', 7, NULL, 0)")
    source.captured()
    with running(pipeline):
        code, done = swept(cdc, pipeline, "hub.items", **EXECUTE)
        assert (code, done["rows"]) == (0, 199)
        same(source, pipeline)


def test_a_load_that_the_connector_does_not_begin_is_not_swept(
    postgresql: Source, pipelines: Maker, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sweep without a load would take every row. Here the signal never reaches the connector."""
    source, pipeline = postgresql, pipelines(of=postgresql, tables=("items",))
    cdc = Operator(pipeline, capsys)
    with running(pipeline):
        pass
    source.run(
        "CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        "CREATE TRIGGER swallow BEFORE INSERT ON debezium_signal FOR EACH ROW EXECUTE FUNCTION swallow()",
    )
    monkeypatch.setattr("cdc.control.load.BEGINS_WITHIN_S", 5.0)
    with pytest.raises(Transient, match="has not begun to load"):
        cdc(load, source.name, "public.items", **EXECUTE)
    assert pipeline.rows("SELECT * FROM cdc.repeated_snapshot") == []
    (record,) = cdc.audits("source load")
    assert record["outcome"] == "failed"
