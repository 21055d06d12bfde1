"""From COMMIT at the source to visible in the target, one row a transaction, at a fixed rate."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import psycopg
from kafka import KafkaConsumer, TopicPartition

from tests.bench.applier import running_applier
from tests.bench.sink import DEFAULTS, running_sink
from tests.bench.world import Source, World
from tests.waiting import eventually

_LEFT_OUT = 0.2
"""Share of the transactions, at the beginning, that only warm everything up."""

TAKEN, PILED_UP_MS = 0.95, 1000.0
"""A rate is sustained when that share of it is taken, and the p99 from commit is not longer."""
HIGHER = (2000, 3000, 4000, 6000, 8000, 12_000)
"""Rates tried one after the other until one is not sustained."""


@dataclass(frozen=True)
class Latency:
    """Milliseconds. `asked`, `rate`: transactions a second, asked for and really taken by the source."""

    asked: int
    rate: float
    commit_ms: dict[str, float]
    topic_ms: dict[str, float]
    unseen: int = 0  # transactions not visible a minute after the last one

    @property
    def sustained(self) -> bool:
        """The source took what was asked for, and what it took did not pile up."""
        return self.rate >= TAKEN * self.asked and not self.unseen and self.commit_ms.get("p99", 0.0) <= PILED_UP_MS


class Pulse:
    """A source table `pulse` of one partition, its connector running."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.source = Source(world, "bench_pulse", {"pulse": "id bigint PRIMARY KEY, note text"}, partitions=1)
        self.source.fill(("INSERT INTO pulse VALUES (0, 'first')",), ())
        self._next = 1

    def __enter__(self) -> Pulse:
        return self

    def __exit__(self, *failure: object) -> None:
        self.source.stop()
        self.world.drop(self.source)

    def applier(self, rate: int, seconds: float) -> Latency:
        return self._measure(
            "hub.pulse", lambda target: running_applier(self.world, self.source, target), rate, seconds
        )

    def sink(self, rate: int, seconds: float) -> Latency:
        return self._measure(
            "pulse", lambda target: running_sink(self.world, self.source, target, DEFAULTS), rate, seconds
        )

    def _measure(
        self, table: str, running: Callable[[str], AbstractContextManager[Any]], rate: int, seconds: float
    ) -> Latency:
        with (
            self.world.target() as target,
            running(target),
            psycopg.connect(self.world.dsn(target), autocommit=True) as there,
        ):
            eventually(lambda: _newest(there, table) >= self._next - 1, 60, "what was there before is applied")
            committed: dict[int, float] = {}
            visible: dict[int, float] = {}
            thread = threading.Thread(target=self._write, args=(rate, seconds, committed))
            first = self._next
            thread.start()
            seen, end = first - 1, time.time() + seconds + 60
            while (thread.is_alive() or seen < self._next - 1) and time.time() < end:
                newest, now = _newest(there, table), time.time()
                visible.update(dict.fromkeys(range(seen + 1, newest + 1), now))
                seen = max(seen, newest)
                time.sleep(0.002)
            thread.join()
        ids = sorted(committed)[int(len(committed) * _LEFT_OUT) :]
        began, ended = committed[min(committed)], committed[max(committed)]
        in_topic = self._topic_times(first)
        return Latency(
            asked=rate,
            unseen=sum(each not in visible for each in ids),
            rate=len(committed) / (ended - began),
            commit_ms=quantiles([(visible[each] - committed[each]) * 1000 for each in ids if each in visible]),
            topic_ms=quantiles([(visible[each] - in_topic[each]) * 1000 for each in ids if each in visible]),
        )

    def _write(self, rate: int, seconds: float, committed: dict[int, float]) -> None:
        with psycopg.connect(self.source.dsn, autocommit=True) as connection:
            began = time.time()
            for number in range(int(rate * seconds)):
                ahead = began + number / rate - time.time()
                if ahead < -0.2 * seconds:
                    return  # it can't be done
                if ahead > 0:
                    time.sleep(ahead)
                connection.execute("INSERT INTO pulse VALUES (%s, 'beat')", [self._next])
                committed[self._next] = time.time()
                self._next += 1

    def _topic_times(self, first: int) -> dict[int, float]:
        """Kafka's time of each record, seconds; record n of the topic is of id n (the snapshot's row is id 0)."""
        consumer = KafkaConsumer(bootstrap_servers=self.world.stack.endpoints.kafka)
        found: dict[int, float] = {}
        try:
            part = TopicPartition(*self.source.topics, 0)
            consumer.assign([part])
            consumer.seek(part, first)
            while len(found) < self._next - first:
                for records in consumer.poll(timeout_ms=1000, max_records=5000).values():
                    found.update((record.offset, record.timestamp / 1000) for record in records)
        finally:
            consumer.close()
        return found


def quantiles(values: list[float]) -> dict[str, float]:
    """p50, p95 and p99."""
    if len(values) < 2:
        return {}
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    return {"p50": round(cuts[49], 1), "p95": round(cuts[94], 1), "p99": round(cuts[98], 1)}


def _newest(connection: psycopg.Connection[Any], table: str) -> int:
    try:
        row = connection.execute(f"SELECT max(id) FROM {table}".encode()).fetchone()
    except psycopg.errors.UndefinedTable:
        return -1
    return -1 if row is None or row[0] is None else int(row[0])
