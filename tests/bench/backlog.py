"""How long a contender takes from its start until a backlog is gone, while more keeps coming."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

import psycopg
from kafka import KafkaConsumer

from cdc.control.connect import Connect
from tests.bench.applier import applied, running_applier
from tests.bench.sink import DEFAULTS, committed, running_sink
from tests.bench.workloads import backlog
from tests.bench.world import Source, World

PER_S = 500
_LEFT = 2 * PER_S
"""Records behind the end that count as caught up: the sink's group tells where it stands only every second."""
_DEADLINE_S = 600.0
_NEW = "INSERT INTO customers (id, name, notes) VALUES (%s, 'new', 'while the backlog drains')"


@dataclass(frozen=True)
class Drained:
    """`applied`: records, those of the backlog and those that came meanwhile. `seconds`: from the process's start."""

    backlog: int
    applied: int
    meanwhile_per_s: float
    seconds: float


class Backlog:
    """A source with `changes` changes in its topic, which nobody has read, and its connector running."""

    def __init__(self, world: World, changes: int) -> None:
        workload = backlog(changes)
        self.world, self.source = world, Source(world, workload.source, workload.tables)
        self.source.fill(workload.fill, workload.changes)
        self._next = 10**9

    def __enter__(self) -> Backlog:
        return self

    def __exit__(self, *failure: object) -> None:
        self.source.stop()
        self.world.drop(self.source)

    def applier(self) -> Drained:
        with (
            self.world.target() as target,
            running_applier(self.world, self.source, target) as (process, pipeline),
            psycopg.connect(self.world.dsn(target), autocommit=True) as there,
        ):
            return self._drained(
                lambda: applied(there, pipeline), lambda: None if process.poll() is None else "the process ended"
            )

    def sink(self) -> Drained:
        with (
            self.world.target() as target,
            running_sink(self.world, self.source, target, DEFAULTS) as (connector, _),
            closing(self.world.admin()) as admin,
            Connect(self.source.settings.connect) as connect,
        ):
            return self._drained(lambda: committed(admin, connector), lambda: connect.status(connector).problem)

    def _drained(self, done: Callable[[], int], trouble: Callable[[], str | None]) -> Drained:
        began, first, there = time.monotonic(), self._next, self.source.records
        with closing(KafkaConsumer(bootstrap_servers=self.world.stack.endpoints.kafka)) as consumer, self._writing():
            while trouble() is None and time.monotonic() - began < _DEADLINE_S:
                now_done, end = done(), sum(self.source.ends_now(consumer).values())
                seconds = time.monotonic() - began
                if end - now_done <= _LEFT:
                    self.source.look()
                    return Drained(there, now_done, (self._next - first) / seconds, seconds)
                time.sleep(0.2)
        after = f"the backlog is not gone after {time.monotonic() - began:.0f} s: {done()} applied"
        raise AssertionError(f"{after}; {trouble() or 'it still works'}")

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """`PER_S` rows a second into the source, each its own transaction."""
        enough = threading.Event()

        def write() -> None:
            with psycopg.connect(self.source.dsn, autocommit=True) as connection:
                began, first = time.monotonic(), self._next
                while not enough.wait(max(0.0, began + (self._next - first) / PER_S - time.monotonic())):
                    connection.execute(_NEW, [self._next])
                    self._next += 1

        thread = threading.Thread(target=write)
        thread.start()
        try:
            yield
        finally:
            enough.set()
            thread.join()
