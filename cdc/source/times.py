"""When records came: what a rewind by time and the age of what waits need to know.

Both are asked through kafka-python, whichever client the pipeline uses: a few questions, in nobody's group. A record's
time is when Kafka Connect wrote it, which is shortly after the commit at the source.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from kafka import KafkaConsumer
from kafka.errors import KafkaError
from kafka.structs import TopicPartition as KafkaPartition

from cdc.model import TopicPartition
from cdc.source.consumer import KafkaConnection, unanswered

_ONE_RECORD_BYTES = 64 * 1024
"""Fetched from each partition to see one record; a larger one still comes."""
_POLL_MS = 100


def offsets_at(
    connection: KafkaConnection, partitions: Sequence[TopicPartition], time_ms: int, timeout_s: float
) -> dict[TopicPartition, int | None]:
    """The first offset of each partition whose record time is `time_ms` (since 1970) or later; None: there is none.

    Raises `Transient` when Kafka does not answer in `timeout_s`.
    """
    if not partitions:
        return {}
    wanted = {KafkaPartition(*partition): time_ms for partition in partitions}
    with asking(connection, timeout_s) as consumer:
        found = consumer.offsets_for_times(wanted, timeout_ms=int(timeout_s * 1000))
    return {TopicPartition(*part): None if at is None else int(at.offset) for part, at in found.items()}


def times_of(
    connection: KafkaConnection, offsets: Mapping[TopicPartition, int], timeout_s: float
) -> dict[TopicPartition, int]:
    """The times (ms since 1970) of the first records at or after `offsets`; partitions whose record did not come in
    `timeout_s` are absent. Raises `Transient` when Kafka does not answer at all."""
    found: dict[TopicPartition, int] = {}
    if not offsets:
        return {}
    with asking(connection, timeout_s) as consumer:
        consumer.assign([KafkaPartition(*partition) for partition in offsets])
        for partition, offset in offsets.items():
            consumer.seek(KafkaPartition(*partition), offset)
        deadline = time.monotonic() + timeout_s
        while len(found) < len(offsets) and time.monotonic() < deadline:
            for partition, records in consumer.poll(timeout_ms=_POLL_MS).items():
                found.setdefault(TopicPartition(*partition), records[0].timestamp)
                consumer.pause(partition)
    return found


@contextmanager
def asking(
    connection: KafkaConnection, timeout_s: float, fetch_bytes: int = _ONE_RECORD_BYTES
) -> Iterator[KafkaConsumer]:
    """A client that asks and joins no group. Raises `Transient` in place of Kafka's errors."""
    try:
        consumer = KafkaConsumer(
            bootstrap_servers=connection.bootstrap.split(","),
            client_id="cdc-operator",
            security_protocol=connection.security_protocol,
            sasl_mechanism=connection.sasl_mechanism,
            sasl_plain_username=connection.sasl_username,
            sasl_plain_password=connection.sasl_password,
            ssl_cafile=connection.ssl_cafile,
            ssl_certfile=connection.ssl_certfile,
            ssl_keyfile=connection.ssl_keyfile,
            ssl_password=connection.ssl_password,
            ssl_check_hostname=connection.ssl_check_hostname,
            request_timeout_ms=int(timeout_s * 1000),
            bootstrap_timeout_ms=int(timeout_s * 1000),
            max_partition_fetch_bytes=fetch_bytes,
            isolation_level="read_committed",
            enable_auto_commit=False,
            metrics_enabled=False,
        )
        try:
            yield consumer
        finally:
            consumer.close()
    except KafkaError as error:
        raise unanswered(connection, type(error).__name__) from error
