"""One throw-away connector over one throw-away database: what the conformance tests of types capture with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx
from kafka import KafkaConsumer
from kafka.structs import TopicPartition as KafkaPartition

from cdc.control.required import SOURCE_TYPES
from cdc.model import RawRecord
from tests.waiting import eventually

T = TypeVar("T")
PATIENCE_S = 120.0

SETTINGS = {
    "tasks.max": "1",
    "key.converter": "org.apache.kafka.connect.json.JsonConverter",
    "value.converter": "org.apache.kafka.connect.json.JsonConverter",
    "header.converter": "org.apache.kafka.connect.json.JsonConverter",
    "key.converter.schemas.enable": "true",
    "value.converter.schemas.enable": "true",
    "header.converter.schemas.enable": "true",
    "value.converter.replace.null.with.default": "false",
    "decimal.handling.mode": "string",
    "time.precision.mode": "microseconds",
    "binary.handling.mode": "bytes",
    "event.converting.failure.handling.mode": "fail",
    "include.schema.changes": "false",
    "skipped.operations": "none",
    "poll.interval.ms": "20",
    "topic.creation.default.partitions": "1",
    "topic.creation.default.replication.factor": "1",
    "errors.max.retries": "0",
}
POSTGRES = {
    "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
    "plugin.name": "pgoutput",
    "publication.autocreate.mode": "filtered",
    "datatype.propagate.source.type": SOURCE_TYPES,
    "interval.handling.mode": "string",
    "hstore.handling.mode": "json",
    "include.unknown.datatypes": "true",
}
MARIADB = {
    "connector.class": "io.debezium.connector.mariadb.MariaDbConnector",
    "column.propagate.source.type": ".*",
    "bigint.unsigned.handling.mode": "precise",
    "enable.time.adjuster": "false",
    "schema.history.internal.store.only.captured.tables.ddl": "true",
}


def wait_for(what: str, check: Callable[[], T | None], seconds: float = PATIENCE_S) -> T:
    """What `check` returns once it is not None; an error that names `what` after `seconds`."""

    def boxed() -> tuple[T] | None:
        found = check()
        return None if found is None else (found,)

    box = eventually(boxed, seconds, what)
    assert box is not None
    return box[0]


@dataclass
class Capture:
    """A running connector: its topics' records, and the state of its task."""

    connect_url: str
    kafka: str
    name: str
    config: dict[str, str]
    seen: dict[str, list[RawRecord]] = field(default_factory=dict)

    def task_error(self) -> str | None:
        """The first lines of a failed task's trace; None while nothing failed."""
        answer = httpx.get(f"{self.connect_url}/connectors/{self.name}/status")
        if answer.status_code != 200:
            return None
        for task in answer.json()["tasks"]:
            if task["state"] == "FAILED":
                return str(task["trace"])
        return None

    def records(self, table: str, number: int) -> list[RawRecord]:
        """The first `number` or more records of `table` ('schema.table' or 'database.table'), tombstones included."""
        topic = f"{self.name}.{table}"
        consumer = KafkaConsumer(
            bootstrap_servers=self.kafka, enable_auto_commit=False, auto_offset_reset="earliest", group_id=None
        )
        found: list[RawRecord] = []
        try:

            def partitions() -> set[int] | None:
                self._fail_if_failed()
                return consumer.partitions_for_topic(topic)

            wait_for(f"topic {topic}", partitions)
            consumer.assign([KafkaPartition(topic, 0)])
            consumer.seek_to_beginning()

            def enough() -> bool | None:
                for batch in consumer.poll(timeout_ms=200).values():
                    found.extend(raw_record(record) for record in batch)
                if len(found) < number:
                    self._fail_if_failed()
                return True if len(found) >= number else None

            wait_for(f"{number} records of {topic}", enough)
        finally:
            consumer.close()
        return found

    def _fail_if_failed(self) -> None:
        error = self.task_error()
        if error is not None:
            raise TaskFailed(error)


class TaskFailed(AssertionError):
    """The connector's task stopped; the text is its trace."""


def raw_record(record: Any) -> RawRecord:
    return RawRecord(
        record.topic,
        record.partition,
        record.offset,
        record.key,
        record.value,
        tuple(record.headers),
        record.timestamp,
    )


@contextmanager
def capture(connect_url: str, kafka: str, name: str, config: dict[str, str]) -> Iterator[Capture]:
    """Register a connector called `name` (also its topic prefix); delete it, its offsets and its topics at the end."""
    config = {**SETTINGS, "topic.prefix": name, **config}
    httpx.put(f"{connect_url}/connectors/{name}/config", json=config, timeout=60).raise_for_status()
    try:
        yield Capture(connect_url, kafka, name, config)
    finally:
        httpx.put(f"{connect_url}/connectors/{name}/stop", timeout=60)
        httpx.delete(f"{connect_url}/connectors/{name}/offsets", timeout=60)
        httpx.delete(f"{connect_url}/connectors/{name}", timeout=60)
        _delete_topics(kafka, name)


def _delete_topics(kafka: str, name: str) -> None:
    from kafka import KafkaAdminClient

    admin = KafkaAdminClient(bootstrap_servers=kafka)
    try:
        mine = [topic for topic in admin.list_topics() if topic.startswith(f"{name}.") or topic == name]
        if mine:
            admin.delete_topics(mine)
    finally:
        admin.close()
