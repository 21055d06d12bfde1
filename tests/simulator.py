"""A whole world in one thread: a simulated PostgreSQL source, Debezium's records, a broker, workers, a memory target.

The workers are the real ones (`cdc.engine.worker.Worker`); only their clients are fakes. Workers take turns, crash at
named steps, lose and get partitions; records are delivered again; at the end the target must equal the source.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

import msgspec

from cdc.engine.deployed import Adopted
from cdc.engine.worker import Parts, Worker
from cdc.keys import NO_KEYS, Keyring
from cdc.mapping.load import loads
from cdc.model import RawRecord, TopicPartition
from cdc.source.consumer import Rebalance
from cdc.target.base import Owner, Target
from cdc.target.memory import MemoryTarget, Storage
from cdc.target.versions import Deployed

TOPIC = "crm.public.people"
PARTITIONS = 2
PLACEHOLDER = "__debezium_unavailable_value"
PIPELINE = """
pipeline: simulated
source: crm
target: memory
batch: {rows: 7}
tables:
  - from: public.people
    to: hub.people
"""


def _field(kind: str, name: str, optional: bool = True, source_type: str | None = None) -> dict[str, Any]:
    made: dict[str, Any] = {"type": kind, "optional": optional, "field": name}
    if source_type:
        made["parameters"] = {"__debezium.source.column.type": source_type}
    return made


_COLUMNS = [
    _field("int64", "id", False, "INT8"),
    _field("string", "name", True, "TEXT"),
    _field("string", "notes", True, "TEXT"),
]
_SOURCE = [
    _field("string", name) for name in ("version", "connector", "name", "snapshot", "db", "sequence", "schema", "table")
] + [_field("int64", name) for name in ("ts_ms", "ts_us", "ts_ns", "txId", "lsn", "xmin")]


def _struct(fields: list[dict[str, Any]], name: str, field_name: str | None = None) -> dict[str, Any]:
    made: dict[str, Any] = {"type": "struct", "fields": fields, "optional": True, "name": name}
    if field_name:
        made["field"] = field_name
    return made


_VALUE_SCHEMA = _struct(
    [
        _struct(_COLUMNS, "crm.public.people.Value", "before"),
        _struct(_COLUMNS, "crm.public.people.Value", "after"),
        _struct(_SOURCE, "io.debezium.connector.postgresql.Source", "source"),
        _struct([_field("string", "id")], "event.block", "transaction"),
        _field("string", "op", False),
        _field("int64", "ts_ms"),
    ],
    "crm.public.people.Envelope",
)
_KEY_SCHEMA = _struct([_field("int64", "id", False, "INT8")], "crm.public.people.Key")


def document(schema: dict[str, Any], payload: Any) -> bytes:
    """As JsonConverter writes it."""
    return json.dumps({"schema": schema, "payload": payload}, separators=(",", ":")).encode()


@dataclass
class Source:
    """Rows id → (name, notes), a log of committed changes, and what Debezium would send for it."""

    rows: dict[int, tuple[str, str | None]] = field(default_factory=dict)
    lsn: int = 1000
    commit: int = 0
    sent: list[RawRecord] = field(default_factory=list)  # without offsets: the broker numbers them

    def put(self, key: int, name: str, notes: str | None) -> None:
        """Insert or update; an update that keeps `notes` sends the placeholder, as a large unchanged value does."""
        old = self.rows.get(key)
        self.rows[key] = (name, notes)
        unchanged = old is not None and notes is not None and old[1] == notes
        after = {"id": key, "name": name, "notes": PLACEHOLDER if unchanged else notes}
        self._event("c" if old is None else "u", key, None, after)
        self._end()

    def delete(self, key: int) -> None:
        if self.rows.pop(key, None) is not None:
            self._event("d", key, {"id": key, "name": None, "notes": None}, None)
            self._end()

    def move(self, key: int, to: int) -> None:
        """A changed key: delete and create in one transaction at one lsn; an unchanged large value is not sent."""
        if key not in self.rows or to in self.rows:
            return
        name, notes = self.rows.pop(key)
        self.rows[to] = (name, notes)
        lsn = self._tick()
        new, old = document(_KEY_SCHEMA, {"id": to}), document(_KEY_SCHEMA, {"id": key})
        gone = {"id": key, "name": None, "notes": None}
        self._event("d", key, gone, None, (("__debezium.newkey", new),), lsn)
        created = {"id": to, "name": name, "notes": PLACEHOLDER if notes is not None else None}
        self._event("c", to, None, created, (("__debezium.oldkey", old),), lsn)
        self._end()

    def truncate(self) -> None:
        self.rows.clear()
        self._event("t", None, None, None)
        self._end()

    def snapshot(self) -> None:
        at = self._tick()
        self.commit = 0
        for key, (name, notes) in sorted(self.rows.items()):
            self._record("r", key, None, {"id": key, "name": name, "notes": notes}, f'[null,"{at}"]', at, "true", ())

    def _tick(self) -> int:
        self.lsn += 8
        return self.lsn

    def _end(self) -> None:
        self.commit = self._tick()

    def _event(
        self,
        op: str,
        key: int | None,
        before: Any,
        after: Any,
        headers: tuple[tuple[str, bytes], ...] = (),
        lsn: int | None = None,
    ) -> None:
        at = self._tick() if lsn is None else lsn
        first = f'"{self.commit}"' if self.commit else "null"
        self._record(op, key, before, after, f'[{first},"{at}"]', at, "false", headers)

    def _record(
        self,
        op: str,
        key: int | None,
        before: Any,
        after: Any,
        sequence: str,
        lsn: int,
        snapshot: str,
        headers: tuple[tuple[str, bytes], ...],
    ) -> None:
        source = {
            "version": "3.5.0.Final",
            "connector": "postgresql",
            "name": "crm",
            "snapshot": snapshot,
            "db": "crm",
            "sequence": sequence,
            "schema": "public",
            "table": "people",
            "ts_ms": lsn,
            "ts_us": lsn * 1000,
            "ts_ns": lsn * 1_000_000,
            "txId": self.commit + 1,
            "lsn": lsn,
            "xmin": None,
        }
        payload = {"before": before, "after": after, "source": source, "transaction": None, "op": op, "ts_ms": lsn}
        raw_key = None if key is None else document(_KEY_SCHEMA, {"id": key})
        partition = 0 if raw_key is None else crc32(str(key).encode()) % PARTITIONS
        self.sent.append(RawRecord(TOPIC, partition, 0, raw_key, document(_VALUE_SCHEMA, payload), headers))


@dataclass
class Broker:
    """A topic of a few partitions, and a group whose members the test assigns."""

    logs: dict[TopicPartition, list[RawRecord]] = field(
        default_factory=lambda: {TopicPartition(TOPIC, number): [] for number in range(PARTITIONS)}
    )

    def produce(self, records: Iterable[RawRecord]) -> None:
        for raw in records:
            log = self.logs[TopicPartition(raw.topic, raw.partition)]
            log.append(RawRecord(raw.topic, raw.partition, len(log), raw.key, raw.value, raw.headers))


class FakeConsumer:
    """A `Consumer` on a `Broker`."""

    failed_commits = 0

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.positions: dict[TopicPartition, int] = {}
        self.assigned: set[TopicPartition] = set()
        self._new: set[TopicPartition] = set()
        self._gone: set[TopicPartition] = set()

    def assign(self, partitions: Iterable[TopicPartition]) -> None:
        """What the group's coordinator would do; eager, as kafka-python does it."""
        self._gone |= self.assigned
        self.assigned = set(partitions)
        self._new = set(self.assigned)
        self.positions.clear()

    def subscribe(self, topics: Sequence[str], group: str) -> None: ...

    def changes(self) -> Rebalance:
        found = Rebalance(frozenset(self._new), frozenset(self._gone))
        self._new, self._gone = set(), set()
        return found

    def poll(self, max_records: int, max_bytes: int, timeout_s: float) -> list[RawRecord]:
        found: list[RawRecord] = []
        for partition in sorted(self.positions):
            at = self.positions[partition]
            records = self.broker.logs[partition][at : at + max(0, max_records - len(found))]
            self.positions[partition] = at + len(records)
            found += records
        return found

    def seek(self, partition: TopicPartition, offset: int) -> None:
        if partition in self.assigned:
            self.positions[partition] = offset

    def position(self, partition: TopicPartition) -> int | None:
        return self.positions.get(partition)

    def starts(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, 0)

    def ends(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        return {partition: len(self.broker.logs[partition]) for partition in partitions}

    def partitions(self, topics: Iterable[str]) -> dict[str, int]:
        return dict.fromkeys(topics, PARTITIONS)

    def topic_ids(self, topics: Iterable[str]) -> dict[str, str]:
        return dict.fromkeys(topics, "id")

    def retention_s(self, topics: Iterable[str]) -> dict[str, float]:
        return dict.fromkeys(topics, 60.0)

    def cleanup_policy(self, topics: Iterable[str]) -> dict[str, frozenset[str]]:
        return dict.fromkeys(topics, frozenset({"delete"}))

    def commit_for_display(self, offsets: Mapping[TopicPartition, int]) -> None: ...

    def pause(self, partitions: Iterable[TopicPartition]) -> None: ...

    def resume(self, partitions: Iterable[TopicPartition]) -> None: ...

    def close(self) -> None: ...


class Crash(BaseException):
    """The worker's process is gone; nothing of it may run any more."""


class InlineExecutor(Executor):
    """Runs a job where it is submitted, so that a simulation has one order of things."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Crash:
            raise
        except Exception as error:
            future.set_exception(error)
        return future


@dataclass(frozen=True)
class SameSource:
    """A source that is always itself."""

    identity: str = "7301"
    timeline: str = "1"
    position: tuple[int, int] = (1 << 60, 0)


class World:
    """The source, the broker, the target's storage and the workers on them. `target`: makes connections to another
    target than that storage; no worker crashes on it."""

    def __init__(self, target: Callable[[], Target] | None = None, pipeline: str = PIPELINE) -> None:
        self.source, self.broker, self.storage = Source(), Broker(), Storage()
        self.pipeline = pipeline
        self.keys: Keyring = NO_KEYS
        self._connect = target or (lambda: MemoryTarget(self.storage))
        self.workers: dict[str, tuple[Worker, FakeConsumer, Target]] = {}
        self.now = 0.0
        self.crashes = 0

    def deploy(self, text: str) -> int:
        """Another version of the mappings, as `Operator.deploy` does it: fences rise; its number."""
        owner = Owner("simulated", "memory")
        versions = self.storage.versions.setdefault(owner, [])
        versions.append(Deployed(len(versions) + 1, text, "simulated.yaml", "", ""))
        for place, mark in self.storage.watermarks.items():
            self.storage.watermarks[place] = msgspec.structs.replace(mark, fence=mark.fence + 1)
        return len(versions)

    def start(self, name: str) -> None:
        consumer, target = FakeConsumer(self.broker), self._connect()
        self._control = self._connect()

        def adopt(deployed: Deployed) -> Adopted:
            return Adopted(loads(deployed.text), self._connect(), {"crm": "postgresql"})

        parts = Parts(
            adopt=adopt,
            pipeline=loads(self.pipeline),
            consumer=consumer,
            target=target,
            control=self._control,
            source_kinds={"crm": "postgresql"},
            ask_identity=lambda _: SameSource(),
            placeholder=PLACEHOLDER,
            clock=self._clock,
            now_us=lambda: 0,
            keys=self.keys,
            writers=InlineExecutor(),
        )
        worker = Worker(parts)
        worker.begin()
        self.workers[name] = (worker, consumer, target)
        self.rebalance()

    def rebalance(self) -> None:
        partitions = sorted(self.broker.logs)
        members = sorted(self.workers)
        for index, member in enumerate(members):
            self.workers[member][1].assign(partitions[index :: len(members)])

    def turn(self, name: str, crash_at: str | None = None) -> None:
        """One turn of a worker's loop; with `crash_at` it dies at that step of the target, if it gets there."""
        worker, _, target = self.workers[name]

        def crash() -> None:
            raise Crash

        if isinstance(target, MemoryTarget):
            target.faults = {crash_at: crash} if crash_at else {}
        try:
            worker.turn()
        except Crash:
            self.crashes += 1
            del self.workers[name]
            self.start(name)

    def deliver(self, number: int) -> None:
        """Move records from the source to the topic."""
        self.broker.produce(self.source.sent[:number])
        del self.source.sent[:number]

    def settle(self) -> None:
        """Everything is delivered and read; parked keys had the time to heal."""
        self.deliver(len(self.source.sent))
        for _ in range(6):
            for _ in range(200):
                for name in self.workers:
                    self.turn(name)
                if self.drained():
                    break
            self.now += 10.0

    def drained(self) -> bool:
        marks = {mark.partition: mark.next or 0 for mark in self._control.watermarks()}
        return all(marks.get(partition, 0) == len(log) for partition, log in self.broker.logs.items())

    def target_rows(self) -> dict[int, tuple[str, str | None]]:
        table = self.storage.tables.get("simulated/hub.people")
        return {} if table is None else {key[0]: tuple(row.values[1:]) for key, row in table.rows.items()}

    def _clock(self) -> float:
        self.now += 0.01
        return self.now
