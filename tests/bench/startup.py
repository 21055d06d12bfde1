"""Seconds from the start of a process, or of a connector, until its first row is visible in the target.

The sink's Connect worker runs already: its start is not in its figure.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import psycopg

from tests.bench.applier import running_applier
from tests.bench.contenders import APPLIER, KAFKA_PYTHON, SINK
from tests.bench.sink import DEFAULTS, running_sink
from tests.bench.world import Source, World

_DEADLINE_S = 60.0
_Running = Callable[[World, Source, str], AbstractContextManager[Any]]
STARTED: dict[str, tuple[_Running, str]] = {
    APPLIER: (partial(running_applier, client="librdkafka"), "hub."),
    KAFKA_PYTHON: (partial(running_applier, client="kafka-python"), "hub."),
    SINK: (partial(running_sink, settings=DEFAULTS), ""),
}
"""Contender → what starts it, and the schema of its tables."""


def startup(world: World, source: Source, contender: str) -> float:
    running, schema = STARTED[contender]
    with world.target() as target, psycopg.connect(world.dsn(target), autocommit=True) as there:
        began = time.monotonic()
        with running(world, source, target):
            while time.monotonic() - began < _DEADLINE_S:
                if _any(there, f"{schema}{next(iter(source.tables))}"):
                    return time.monotonic() - began
                time.sleep(0.01)
    raise AssertionError(f"no row after {_DEADLINE_S:.0f} s")


def _any(connection: psycopg.Connection[Any], table: str) -> bool:
    try:
        return connection.execute(f"SELECT 1 FROM {table} LIMIT 1".encode()).fetchone() is not None
    except psycopg.errors.UndefinedTable:
        return False
