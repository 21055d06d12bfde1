"""The broker, or a MariaDB source, killed and started again while somebody writes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cdc.stack import Stack
from tests.faults import checks, topics
from tests.faults.mariadb import captured_mariadb
from tests.faults.pipeline import TEMPORARY, Pipeline, new_pipeline, unique
from tests.faults.source import Source, Writer, captured_source
from tests.fix_stack import new_postgres_database
from tests.waiting import eventually

pytestmark = pytest.mark.stack
AGAIN_S = 150.0


@pytest.fixture
def small_source(breakable_stack: Stack, tmp_path: Path) -> Iterator[Source]:
    with (
        new_postgres_database(breakable_stack.endpoints.postgres) as database,
        captured_source(breakable_stack, database, unique("k"), tmp_path, items=200) as made,
    ):
        made.captured()
        try:
            yield made
        finally:
            breakable_stack.up(fast=True)


def catches_up(pipeline: Pipeline) -> None:
    """As under a supervisor: a worker that gives up for now is started again."""
    ends = topics.ends(pipeline.stack, pipeline.topics)

    def there() -> bool:
        if pipeline.workers[-1].code == TEMPORARY:
            pipeline.start()
        pipeline.refuse_dead()
        at = pipeline.watermarks()
        return all(at.get(place, 0) >= end for place, end in ends.items())

    eventually(there, AGAIN_S, lambda: f"everything is applied{pipeline.logs()}")


def test_broker_killed_while_somebody_writes(small_source: Source) -> None:
    """Connect and the worker lose their connections and their group; what was not acknowledged is sent again."""
    with new_pipeline(small_source, unique("p")) as pipeline:
        pipeline.start()
        pipeline.catches_up()
        with Writer(small_source, seed=9) as writer:
            writer.wrote(100)
            before = sum(pipeline.watermarks().values())
            small_source.stack.kill("kafka")
            writer.wrote(50)
            small_source.stack.up(fast=True)
            writer.wrote(50)
        small_source.captured(AGAIN_S)
        catches_up(pipeline)
        checks.whole(small_source, pipeline, at_least=before + 100)


def test_mariadb_killed_while_somebody_writes(breakable_stack: Stack, tmp_path: Path) -> None:
    """Binlog positions: inserts, updates, a changed key and deletes around a crash of the source."""
    with captured_mariadb(breakable_stack, unique("m"), tmp_path) as source:
        source.run(*(f"INSERT INTO items VALUES ({n}, 'item', {n}.25, repeat('x', 3000), 0)" for n in range(100)))
        source.captured(AGAIN_S)
        with new_pipeline(source, unique("p"), tables=("items",)) as pipeline:
            pipeline.start()
            catches_up(pipeline)
            source.run("UPDATE items SET rev = rev + 1 WHERE id < 50", "DELETE FROM items WHERE id BETWEEN 10 AND 14")
            breakable_stack.kill("mariadb")
            breakable_stack.up(fast=True)
            source.run(
                "UPDATE items SET rev = rev + 1, name = 'after'",
                "UPDATE items SET id = id + 1000 WHERE id > 90",
                "DELETE FROM items WHERE id BETWEEN 20 AND 24",
                "INSERT INTO items VALUES (10, 'again', NULL, NULL, 7)",
            )
            source.captured(AGAIN_S)
            catches_up(pipeline)
            here = checks.texts(pipeline.database.dsn, "hub", "items")
            assert {key[0]: row for key, row in here.items()} == source.texts()
            assert len(here) == 91
            assert checks.counted(pipeline) > 250
            checks.never_fell(pipeline)
