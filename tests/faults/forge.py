"""Records that Debezium cannot be made to send: forged on topics of a source that does not exist.

The embedded schemas are those of real records of `items`; only payloads, positions and what is broken are ours.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

from kafka import KafkaAdminClient, KafkaProducer, TopicPartition
from kafka.admin import NewTopic
from kafka.errors import KafkaError, UnknownTopicOrPartitionError

from tests.faults import topics
from tests.faults.pipeline import unique
from tests.faults.source import Source
from tests.waiting import eventually


@dataclass
class Forger:
    """A source by name only (`source`), whose one topic of `items` holds what `send` puts there."""

    source: Source
    admin: KafkaAdminClient
    producer: KafkaProducer
    key_schema: Any
    value_schema: Any
    block: dict[str, Any]  # the source block of a real record
    at: int = 1000

    @property
    def topic(self) -> str:
        return self.source.topic("items")

    def create(self, partitions: int = 1, **configs: str) -> None:
        named = {key.replace("_", "."): value for key, value in configs.items()}

        def created() -> bool:
            """A topic of that name may still be on its way out."""
            with suppress(KafkaError):
                self.admin.create_topics([NewTopic(self.topic, partitions, 1, topic_configs=named)])
            return self.topic in self.admin.list_topics()

        eventually(created, 30, f"{self.topic} is there")

    def delete(self) -> None:
        self.admin.delete_topics([self.topic])
        eventually(lambda: self.topic not in self.admin.list_topics(), 30, f"{self.topic} is gone")

    def send(self, key: bytes | None, value: bytes | None, partition: int = 0) -> int:
        """Returns the record's offset, once it is stored."""
        return int(self.producer.send(self.topic, key=key, value=value, partition=partition).get(30).offset)

    def key(self, number: int) -> bytes:
        return document(self.key_schema, {"id": number})

    def value(
        self,
        op: str,
        after: Mapping[str, Any] | None,
        before: Mapping[str, Any] | None = None,
        **source: Any,
    ) -> bytes:
        """An envelope at the next position."""
        self.at += 8
        block = {
            **self.block,
            "name": self.source.name,
            "snapshot": "false",
            "lsn": self.at,
            "txId": self.at,
            "sequence": json.dumps([str(self.at - 4), str(self.at)]),
            **source,
        }
        payload = {"before": before, "after": after, "source": block, "op": op, "ts_ms": 0, "transaction": None}
        return document(self.value_schema, payload)

    def put(self, number: int, op: str = "c", partition: int = 0, **columns: Any) -> int:
        """A change of one row."""
        return self.send(self.key(number), self.value(op, row(number, **columns)), partition)


def row(number: int, **columns: Any) -> dict[str, Any]:
    return {"id": number, "name": f"item {number}", "amount": "1.00", "big": None, "rev": 0} | columns


def document(schema: Any, payload: Any) -> bytes:
    """As JsonConverter writes it."""
    return json.dumps({"schema": schema, "payload": payload}, separators=(",", ":")).encode()


@contextmanager
def forging(source: Source) -> Iterator[Forger]:
    """Forge on a topic of a new name; `source` lends its database (for its identity) and the look of its records."""
    real = source.topic("items")
    with topics.reading(source.stack) as consumer:
        part = TopicPartition(real, 0)
        consumer.assign([part])
        consumer.seek(part, 0)
        found = eventually(lambda: consumer.poll(timeout_ms=200, max_records=1), 30, f"a record of {real}")
        ((model,),) = found.values()
    key, value = json.loads(model.key), json.loads(model.value)
    bootstrap = source.stack.endpoints.kafka
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    producer = KafkaProducer(bootstrap_servers=bootstrap, metadata_max_age_ms=500)
    forger = Forger(
        replace(source, name=unique("g")), admin, producer, key["schema"], value["schema"], value["payload"]["source"]
    )
    try:
        yield forger
    finally:
        with suppress(UnknownTopicOrPartitionError):
            admin.delete_topics([forger.topic])
        producer.close()
        admin.close()
