"""What happens before the topics: Connect, the broker and the source killed. What was committed still arrives."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cdc.control.sweep import sweep_due
from cdc.mapping.load import load as load_mapping
from cdc.settings import load
from cdc.stack import Stack
from tests.faults import checks, topics
from tests.faults.pipeline import TEMPORARY, new_pipeline, unique
from tests.faults.source import Source, Writer, captured_source, unregistered_source
from tests.fix_stack import new_postgres_database
from tests.waiting import eventually

pytestmark = pytest.mark.stack
AGAIN_S = 150.0
"""Until a killed part is up again, Connect has rebalanced and a connector has got its slot back."""


@contextmanager
def running(stack: Stack) -> Iterator[None]:
    """Whatever the block kills is started again."""
    try:
        yield
    finally:
        stack.up(fast=True)


@pytest.fixture
def small_source(breakable_stack: Stack, tmp_path: Path) -> Iterator[Source]:
    with (
        new_postgres_database(breakable_stack.endpoints.postgres) as database,
        captured_source(breakable_stack, database, unique("k"), tmp_path, items=200) as made,
        running(breakable_stack),
    ):
        made.captured()
        yield made


def restart(stack: Stack, part: str) -> None:
    stack.kill(part)
    stack.up(fast=True)


def test_connect_killed_before_it_kept_any_offset(breakable_stack: Stack, tmp_path: Path) -> None:
    """Case e6: the snapshot comes again; rows deleted meanwhile are in neither, and only a sweep removes them."""
    with (
        running(breakable_stack),
        new_postgres_database(breakable_stack.endpoints.postgres) as database,
    ):
        source = unregistered_source(breakable_stack, database, unique("k"), tmp_path)
        source.seed(30_000)
        source.register()
        with new_pipeline(source, unique("p"), rows=1000, options=("snapshot: {repeat: sweep}",)) as pipeline:
            eventually(lambda: sum(topics.ends(breakable_stack, pipeline.topics).values()) > 500, 60, "a snapshot runs")
            breakable_stack.kill("connect")
            assert sum(topics.ends(breakable_stack, pipeline.topics).values()) < 90_000, "killed too late"
            pipeline.start()
            pipeline.catches_up()
            known = {key for (key,) in pipeline.rows("SELECT id FROM hub.items")}
            assert known, "the first snapshot brought rows"
            source.run(f"DELETE FROM items WHERE id IN ({', '.join(map(str, sorted(known)[:50]))})")
            breakable_stack.up(fast=True)
            source.captured(AGAIN_S)
            pipeline.catches_up()
            left = {key for (key,) in pipeline.rows("SELECT id FROM hub.items")}
            assert set(sorted(known)[:50]) <= left, "no delete event was sent for them"
            assert pipeline.rows("SELECT 1 FROM cdc.repeated_snapshot WHERE swept_at IS NULL"), "it was noticed"
            settings = load(pipeline.connections_file)
            found = load_mapping(pipeline.mapping_file)
            eventually(lambda: sweep_due(settings, found), 60, "the sweep is due")
            checks.equal(source, pipeline)
            assert not pipeline.rows("SELECT 1 FROM cdc.repeated_snapshot WHERE swept_at IS NULL")
            pipeline.stop()


def test_connect_killed_while_somebody_writes(small_source: Source) -> None:
    """Case e5: events come again with new offsets; nothing is doubled, nothing goes back."""
    with new_pipeline(small_source, unique("p")) as pipeline:
        pipeline.start()
        pipeline.catches_up()
        with Writer(small_source, seed=5) as writer:
            writer.wrote(150)
            restart(small_source.stack, "connect")
            writer.wrote(100)
        small_source.captured(AGAIN_S)
        pipeline.catches_up()
        checks.whole(small_source, pipeline, at_least=600)


def test_source_and_target_server_killed_while_somebody_writes(small_source: Source) -> None:
    """One server holds both here: sessions, slots and transactions of everybody end at once. A worker that gives up
    for now (75) is started again, as its supervisor would."""
    with new_pipeline(small_source, unique("p")) as pipeline:
        pipeline.start()
        pipeline.catches_up()
        with Writer(small_source, seed=7) as writer:
            writer.wrote(100)
            restart(small_source.stack, "postgres")
            writer.wrote(100)
        small_source.captured(AGAIN_S)
        ends = topics.ends(small_source.stack, pipeline.topics)

        def there() -> bool:
            if pipeline.workers[-1].code == TEMPORARY:
                pipeline.start()
            at = pipeline.watermarks()
            return all(at.get(place, 0) >= end for place, end in ends.items())

        eventually(there, AGAIN_S, lambda: f"everything is applied{pipeline.logs()}")
        checks.whole(small_source, pipeline, at_least=600)


def test_another_server_under_the_same_name_stops_the_pipeline(small_source: Source) -> None:
    """A source that calls itself something else is a new epoch: nothing is applied until somebody decides."""
    with new_pipeline(small_source, unique("p")) as pipeline:
        pipeline.start()
        pipeline.catches_up()
        pipeline.stop()
        pipeline.run("UPDATE cdc.source_epoch SET identity = 'postgresql:1/1'")
        before = pipeline.watermarks()
        small_source.run("UPDATE items SET rev = rev + 1 WHERE id < 20")
        small_source.captured()
        worker = pipeline.start()
        assert worker.ends() == 1
        assert "another incarnation" in json.dumps(worker.lines())
        assert pipeline.watermarks() == before
