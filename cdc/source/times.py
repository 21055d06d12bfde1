"""Offsets by time: a question for operators, asked with kafka-python whatever client the pipeline reads with."""

from __future__ import annotations

from collections.abc import Sequence

from kafka import KafkaConsumer
from kafka import errors as kafka_errors
from kafka.structs import TopicPartition as KafkaPartition

from cdc.errors import Transient
from cdc.model import TopicPartition
from cdc.source.consumer import KafkaConnection


def offsets_at(
    connection: KafkaConnection, partitions: Sequence[TopicPartition], time_ms: int, timeout_s: float
) -> dict[TopicPartition, int | None]:
    """The first offset of each partition whose record time is `time_ms` (since 1970) or later; None: there is none.

    Record time is when Kafka Connect wrote the record, which is not the commit time at the source. Raises `Transient`
    when Kafka does not answer in `timeout_s`.
    """
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
            enable_auto_commit=False,
            metrics_enabled=False,
        )
    except kafka_errors.KafkaError as error:
        raise _unanswered(connection, error) from error
    try:
        wanted = {KafkaPartition(*partition): time_ms for partition in partitions}
        found = consumer.offsets_for_times(wanted, timeout_ms=int(timeout_s * 1000)) if wanted else {}
    except kafka_errors.KafkaError as error:
        raise _unanswered(connection, error) from error
    finally:
        consumer.close()
    return {TopicPartition(*part): None if at is None else int(at.offset) for part, at in found.items()}


def _unanswered(connection: KafkaConnection, error: Exception) -> Transient:
    return Transient(f"Kafka does not answer: {type(error).__name__}", where=connection.bootstrap)
