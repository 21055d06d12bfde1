"""What the topics hold, read by a plain consumer: the tests' own view of the stream."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from kafka import KafkaConsumer, TopicPartition

from cdc.stack import Stack

PLACEHOLDER = "__cdc_unavailable_3f9c1d7e52ab4806__"
Place = tuple[str, int]  # topic, partition


class Seen(NamedTuple):
    """One record: its place, and what Debezium says in it."""

    place: Place
    offset: int
    key: dict[str, Any] | None
    payload: dict[str, Any] | None


@contextmanager
def reading(stack: Stack) -> Iterator[KafkaConsumer]:
    consumer = KafkaConsumer(
        bootstrap_servers=stack.endpoints.kafka,
        enable_auto_commit=False,
        auto_offset_reset="none",
        group_id=None,
        isolation_level="read_committed",
    )
    try:
        yield consumer
    finally:
        consumer.close()


def ends(stack: Stack, topics: Iterable[str]) -> dict[Place, int]:
    """Where the partitions of the topics end; a topic that is not there has none."""
    with reading(stack) as consumer:
        known = consumer.topics()
        parts = [
            TopicPartition(topic, part)
            for topic in topics
            if topic in known
            for part in consumer.partitions_for_topic(topic) or ()
        ]
        return {tuple(part): end for part, end in consumer.end_offsets(parts).items()}


def records(stack: Stack, upto: Mapping[Place, int]) -> list[Seen]:
    """The records of these partitions from their beginning up to (not including) the given offsets, in topic order."""
    found: list[Seen] = []
    with reading(stack) as consumer:
        parts = {TopicPartition(*place): end for place, end in upto.items() if end > 0}
        consumer.assign(list(parts))
        for part, start in consumer.beginning_offsets(list(parts)).items():
            consumer.seek(part, start)
        while any(consumer.position(part) < end for part, end in parts.items()):
            for part, batch in consumer.poll(timeout_ms=200).items():
                found += [_seen(part, record) for record in batch if record.offset < parts[part]]
    return found


def _seen(part: TopicPartition, record: Any) -> Seen:
    key = None if record.key is None else json.loads(record.key)["payload"]
    payload = None if record.value is None else json.loads(record.value)["payload"]
    return Seen((part.topic, part.partition), record.offset, key, payload)
