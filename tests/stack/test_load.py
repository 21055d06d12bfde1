"""`cdc source load`: a table whose history was lost is read again while changes go on, and swept afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest

from cdc.cli.load import load_table
from cdc.cli.sweep import sweep
from cdc.errors import Terminal, Transient, Usage
from cdc.stack import Stack
from tests.faults import checks, topics
from tests.faults.mariadb import captured_mariadb
from tests.faults.pipeline import Pipeline, unique
from tests.faults.source import Source, captured_source
from tests.fix_pipeline import Maker
from tests.fix_stack import new_postgres_database
from tests.stack.operator import Json, Operator, running, touch
from tests.waiting import eventually

pytestmark = pytest.mark.stack


def test_a_table_whose_history_was_lost_is_loaded_again(
    stack: Stack, tmp_path: Path, pipelines: Maker, capsys: pytest.CaptureFixture[str]
) -> None:
    """Small chunks, so that the load takes a while; changes go on meanwhile."""
    with (
        new_postgres_database(stack.endpoints.postgres) as database,
        captured_source(
            stack, database, unique("s"), tmp_path, items=3000, incremental__snapshot__chunk__size="3"
        ) as source,
    ):
        source.captured()
        pipeline = pipelines(source)
        cdc = Operator(pipeline, capsys)
        items = (source.name, "public.items")
        with running(pipeline):
            pass
        source.run("DELETE FROM lines WHERE item_id < 11", "DELETE FROM items WHERE id < 11")
        source.run("UPDATE items SET rev = 7")
        source.captured()
        lost(source, pipeline)
        with running(pipeline):
            assert pipeline.rows("SELECT count(*) FROM hub.items WHERE id < 11") == [(10,)]
            for wrong in ("public.itmes", "public.debezium_signal"):
                with pytest.raises(Usage, match=wrong):
                    cdc(load_table, source.name, wrong)
            code, planned = cdc(load_table, *items)
            assert (code, planned["executed"], planned["mappings"]) == (0, False, [f"{pipeline.name}/hub.items"])
            assert cdc(load_table, *items, execute=True, reason="history lost")[1]["executed"]
            with pytest.raises(Terminal, match="is loading a table already"):
                eventually(lambda: cdc(load_table, *items) and False, 10, "the load shows in the connector's offsets")
            with pytest.raises(Transient, match="still loading"):
                cdc(sweep, pipeline.name, "hub.items", deadline=5)
            touch(source)

            def rehearsed() -> Json:
                try:
                    return cdc(sweep, pipeline.name, "hub.items", deadline=5)[1]
                except Transient:
                    return None

            assert eventually(rehearsed, 60, "the load is over")["rows"] == 10
            assert cdc(sweep, pipeline.name, "hub.items", execute=True, reason="loaded")[1]["rows"] == 10
            touch(source)
            pipeline.catches_up()
        not_loaded = {("lines", (item, line)) for item in range(1, 11) for line in (1, 2)}
        assert checks.equal(source, pipeline, but=not_loaded) > 8000
        (record,) = cdc.audits("source load")
        assert (record["outcome"], record["after"]["executed"]) == ("done", True)


def lost(source: Source, pipeline: Pipeline) -> None:
    """The watermarks jump over what is not applied: its history is lost, as after a retention that passed them."""
    for (topic, partition), end in topics.ends(source.stack, pipeline.topics).items():
        pipeline.run(f"UPDATE cdc.watermark SET next = {end} WHERE topic = '{topic}' AND partition = {partition}")


def test_the_same_from_mariadb(
    stack: Stack, tmp_path: Path, pipelines: Maker, capsys: pytest.CaptureFixture[str]
) -> None:
    with captured_mariadb(stack, unique("m"), tmp_path) as source:
        rows = ", ".join(f"({number}, 'item {number}', 1.5, NULL, 0)" for number in range(1, 201))
        source.run(f"INSERT INTO items VALUES {rows}")
        source.captured()
        pipeline = pipelines(source, tables=("items",))
        cdc = Operator(pipeline, capsys)
        with running(pipeline):
            pass
        source.run("DELETE FROM items WHERE id < 11", "UPDATE items SET rev = 7")
        source.captured()
        lost(source, pipeline)
        with running(pipeline):
            table = f"{source.database.name}.items"
            assert cdc(load_table, source.name, table, execute=True, reason="history lost")[1]["executed"]
            source.run("UPDATE items SET rev = 8 WHERE id = 50")
            swept = eventually(lambda: _swept(cdc, pipeline), 60, "the load is over")
            assert (swept["rows"], swept["executed"]) == (10, True)
            source.captured()
            pipeline.catches_up()
        found = pipeline.rows("SELECT id::text, name, amount::text, big, rev::text FROM hub.items")
        assert {row[0]: tuple(row) for row in found} == source.texts()


def _swept(cdc: Operator, pipeline: Pipeline) -> Json:
    try:
        return cdc(sweep, pipeline.name, "hub.items", deadline=5, execute=True, reason="loaded")[1]
    except Transient:
        return None
