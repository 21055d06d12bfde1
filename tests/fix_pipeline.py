"""Fixtures of the fault tests: a captured source, pipelines on it, and a stack that may be broken.

    source           a PostgreSQL source with its connector running, one a file (what earlier tests wrote must be
                     read by every later pipeline); nobody writes to it by itself                             -> Source
    fresh            another source, for one test                                                             -> Source
    pipelines        makes pipelines on it with targets of their own: `pipelines()`                           -> Maker
    breakable_stack  a stack whose parts a test may kill: the run's own, or an extra one when the run's is
                     somebody else's (CDC_TEST_STACK)                                                         -> Stack

Everything has a name of its own and is removed at the end.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from cdc.stack import Stack
from tests.faults.pipeline import Pipeline, new_pipeline, unique
from tests.faults.source import Source, captured_source
from tests.fix_stack import new_postgres_database

Maker: TypeAlias = Callable[..., Pipeline]
SEEDED_ITEMS = 300


@pytest.fixture(scope="module")
def source(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Source]:
    """A source with 300 items and 600 lines, captured."""
    folder = tmp_path_factory.mktemp("source")
    with (
        new_postgres_database(stack.endpoints.postgres) as database,
        captured_source(stack, database, unique("f"), folder, items=SEEDED_ITEMS) as made,
    ):
        made.captured()
        yield made


@pytest.fixture
def fresh(stack: Stack, tmp_path: Path) -> Iterator[Source]:
    """A source of the test's own, with 60 items."""
    with (
        new_postgres_database(stack.endpoints.postgres) as database,
        captured_source(stack, database, unique("s"), tmp_path, items=60) as made,
    ):
        made.captured()
        yield made


@pytest.fixture
def pipelines(source: Source) -> Iterator[Maker]:
    """`pipelines(**options)`: another pipeline on the source (see `new_pipeline`)."""
    with ExitStack() as open_ones:

        def make(of: Source | None = None, **options: Any) -> Pipeline:
            return open_ones.enter_context(new_pipeline(of or source, unique("p"), **options))

        yield make


@pytest.fixture(scope="session")
def breakable_stack(stack_of_run: Stack) -> Iterator[Stack]:
    """A stack of the run's own, all parts up. A test that kills a part starts it again (`up`)."""
    if not os.environ.get("CDC_TEST_STACK"):
        stack_of_run.up(fast=True)
        yield stack_of_run
        return
    own = Stack(Path(tempfile.gettempdir()) / f"cdc-test-{os.getpid()}")
    try:
        own.up(fast=True)
        yield own
    finally:
        own.reset(execute=True)
