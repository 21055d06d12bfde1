"""The fast client: librdkafka, by way of confluent-kafka (an optional extra).

Measured with `Decoder.decode` of every record (9.4 kB with schema, lz4, 2 partitions, 2 cores shared with the broker):
77,000 records/s. Its callbacks run inside `poll`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from confluent_kafka import Consumer as RdConsumer
from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka import TopicPartition as RdPartition
from confluent_kafka.admin import AdminClient, ConfigResource  # type: ignore[attr-defined]

from cdc.errors import CdcError, Terminal, Transient
from cdc.model import RawRecord, TopicPartition
from cdc.source.consumer import (
    ConsumerOptions,
    KafkaConnection,
    Rebalance,
    RebalanceLog,
    lost_range,
    retention_seconds,
    unanswered,
)

T = TypeVar("T")
CHUNK = 500
"""Messages asked for at once while `max_bytes` is watched."""

FETCH_BYTES, PARTITION_FETCH_BYTES = 4 * 1024 * 1024, 512 * 1024
"""As on the wire, where records with schemas are a twentieth of their size; a larger record still comes. It reads no
faster with more, and a worker held 1,050 MB with 32 and 8 MB, 365 with 8 and 1 (20 tables, 80 partitions), 244 so."""

REFUSALS = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError._AUTHENTICATION,
}


class LibrdkafkaConsumer:
    """See `cdc.source.consumer.Consumer`.

    librdkafka fetches what it is assigned, at once. So a partition that the group gives us is not assigned to it until
    the engine seeks: `_positions` is the assignment, handed over before the next poll when it changed.
    """

    def __init__(self, connection: KafkaConnection, options: ConsumerOptions) -> None:
        self._connection = connection
        self._options = options
        self._log = RebalanceLog()
        self._consumer: Any = None
        self._group = ""
        self._admin_client: Any = None
        self._granted: set[TopicPartition] = set()
        self._positions: dict[TopicPartition, int] = {}
        self._paused: set[TopicPartition] = set()
        self._dirty = False
        self._answered = time.monotonic()
        self.failed_commits = 0

    # -- membership

    def subscribe(self, topics: Sequence[str], group: str) -> None:
        if self._group != group:
            self._join(group)
            self._group = group
        self._consumer.subscribe(
            list(topics), on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )

    def _join(self, group: str) -> None:
        options = self._options
        settings = {
            **self._common(),
            "group.id": group,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "error",
            "isolation.level": "read_committed",
            "allow.auto.create.topics": False,
            "enable.partition.eof": True,
            "partition.assignment.strategy": "range",
            "session.timeout.ms": int(options.session_timeout_s * 1000),
            "heartbeat.interval.ms": int(options.heartbeat_s * 1000),
            "max.poll.interval.ms": int(options.max_poll_interval_s * 1000),
            "fetch.max.bytes": FETCH_BYTES,
            "max.partition.fetch.bytes": PARTITION_FETCH_BYTES,
            "fetch.wait.max.ms": int(options.fetch_wait_s * 1000),
            "queued.max.messages.kbytes": max(2 * FETCH_BYTES // 1024, 1024),
            # a full queue is looked at again after this (default: a second, in which the engine runs dry)
            "fetch.queue.backoff.ms": 10,
            "on_commit": self._committed,
        }
        if options.group_instance_id is not None:
            settings["group.instance.id"] = options.group_instance_id
        self._consumer = RdConsumer(settings)

    def _on_assign(self, consumer: Any, partitions: list[Any]) -> None:
        granted = {TopicPartition(each.topic, each.partition) for each in partitions}
        self._granted = granted
        self._positions.clear()
        self._log.assign(granted)
        consumer.assign([])
        self._dirty = False

    def _on_revoke(self, consumer: Any, partitions: list[Any]) -> None:
        self._drop(partitions, lost=False)

    def _on_lost(self, consumer: Any, partitions: list[Any]) -> None:
        self._drop(partitions, lost=True)

    def _drop(self, partitions: list[Any], *, lost: bool) -> None:
        # librdkafka names only what it was assigned: with eager assignment everything granted goes.
        del partitions
        self._log.revoke(self._granted, lost=lost)
        self._granted = set()
        self._positions.clear()
        self._paused.clear()
        self._consumer.unassign()
        self._dirty = False

    def changes(self) -> Rebalance:
        return self._log.drain()

    def close(self) -> None:
        if self._consumer is not None:
            self._consumer.close()
        self._consumer = self._admin_client = None

    # -- records

    def poll(self, max_records: int, max_bytes: int, timeout_s: float) -> list[RawRecord]:
        self._assign()
        found: list[RawRecord] = []
        size = 0
        # consume(n, timeout) would wait out its timeout when fewer than n messages come
        first = self._call(lambda: self._consumer.poll(timeout_s))
        messages = [first] if first is not None else []
        while messages:
            size += self._records(messages, found)
            wanted = min(CHUNK, max_records - len(found))
            if wanted <= 0 or size >= max_bytes:
                break
            messages = self._consume(wanted)
        if found:
            self._answered = time.monotonic()
        else:
            self._check_reachable()
        return found

    def _records(self, messages: list[Any], found: list[RawRecord]) -> int:
        """Add what the messages hold to `found`; returns the bytes of the values. Messages of a partition follow one
        another, so places are compared with the last one's rather than looked up."""
        size, topic, number, positioned = 0, "", -1, False
        partition = TopicPartition("", -1)
        for message in messages:
            error = message.error()
            if error is not None:
                self._event(message, error)
                continue
            if message.partition() != number or message.topic() != topic:
                topic, number = message.topic(), message.partition()
                partition = TopicPartition(topic, number)
                positioned = partition in self._positions
            if not positioned:
                continue
            value, offset = message.value(), message.offset()
            headers, timestamp = message.headers(), message.timestamp()[1]
            raw = RawRecord(topic, number, offset, message.key(), value, tuple(headers) if headers else (), timestamp)
            found.append(raw)
            self._positions[partition] = offset + 1
            size += len(value) if value is not None else 0
        return size

    def _consume(self, wanted: int) -> list[Any]:
        messages: list[Any] = self._call(lambda: self._consumer.consume(wanted, 0))
        return messages

    def _assign(self) -> None:
        if not self._dirty:
            return
        partitions = [RdPartition(*each, offset) for each, offset in self._positions.items()]
        self._call(lambda: self._consumer.assign(partitions))
        paused = [RdPartition(*each) for each in self._paused if each in self._positions]
        if paused:
            self._call(lambda: self._consumer.pause(paused))
        self._dirty = False

    def _event(self, message: Any, error: Any) -> None:
        """What librdkafka says between the records: the end of a partition (behind control records), or an error."""
        code = error.code()
        partition = TopicPartition(message.topic() or "", message.partition() or 0)
        if code == KafkaError._PARTITION_EOF:
            if partition in self._positions and message.offset() > self._positions[partition]:
                self._positions[partition] = message.offset()
            return
        if code in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE) and partition in self._positions:
            start, end = self.starts([partition])[partition], self.ends([partition])[partition]
            raise lost_range(partition, self._positions[partition], start, end)
        if error.fatal() or code in REFUSALS:
            raise self._error(error)

    def _check_reachable(self) -> None:
        if time.monotonic() - self._answered < self._options.unreachable_after_s:
            return
        self._call(lambda: self._consumer.list_topics(timeout=self._options.request_timeout_s))
        self._answered = time.monotonic()

    def seek(self, partition: TopicPartition, offset: int) -> None:
        if partition not in self._granted:
            return
        self._positions[partition] = offset
        self._paused.discard(partition)
        self._log.positioned.add(partition)
        self._dirty = True

    def position(self, partition: TopicPartition) -> int | None:
        return self._positions.get(partition)

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        wanted = [each for each in partitions if each in self._granted]
        self._paused.update(wanted)
        known = [RdPartition(*each) for each in wanted if each in self._positions]
        if known and not self._dirty:
            self._call(lambda: self._consumer.pause(known))

    def resume(self, partitions: Iterable[TopicPartition]) -> None:
        wanted = [each for each in partitions if each in self._positions]
        self._paused.difference_update(wanted)
        if wanted and not self._dirty:
            self._call(lambda: self._consumer.resume([RdPartition(*each) for each in wanted]))

    def commit_for_display(self, offsets: Mapping[TopicPartition, int]) -> None:
        if not offsets:
            return
        try:
            self._consumer.commit(
                offsets=[RdPartition(*each, offset) for each, offset in offsets.items()], asynchronous=True
            )
        except KafkaException:
            self.failed_commits += 1

    def _committed(self, error: Any, partitions: list[Any]) -> None:
        if error is not None or any(each.error is not None for each in partitions):
            self.failed_commits += 1

    # -- questions

    def starts(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        return {each: self._watermarks(each)[0] for each in partitions}

    def ends(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        return {each: self._watermarks(each)[1] for each in partitions}

    def _watermarks(self, partition: TopicPartition) -> tuple[int, int]:
        timeout = self._options.request_timeout_s
        found: tuple[int, int] | None = self._call(
            lambda: self._any_consumer().get_watermark_offsets(RdPartition(*partition), timeout=timeout)
        )
        if found is None:
            raise unanswered(self._connection, "not in time")
        return found

    def partitions(self, topics: Iterable[str]) -> dict[str, int]:
        return {name: len(topic.partitions) for name, topic in self._described(topics).items()}

    def topic_ids(self, topics: Iterable[str]) -> dict[str, str]:
        return {name: _uuid(topic.topic_id) for name, topic in self._described(topics).items()}

    def _described(self, topics: Iterable[str]) -> dict[str, Any]:
        names = list(topics)
        if not names:
            return {}
        futures = self._admin().describe_topics(TopicCollection(names), request_timeout=self._options.request_timeout_s)
        found = {}
        for name, future in futures.items():
            try:
                found[name] = self._call(future.result)
            except UnknownTopic:
                continue
        return found

    def cleanup_policy(self, topics: Iterable[str]) -> dict[str, frozenset[str]]:
        return {name: frozenset(text.split(",")) for name, text in self._setting(topics, "cleanup.policy").items()}

    def retention_s(self, topics: Iterable[str]) -> dict[str, float]:
        return {name: retention_seconds(text) for name, text in self._setting(topics, "retention.ms").items()}

    def _setting(self, topics: Iterable[str], setting: str) -> dict[str, str]:
        """One setting of the topics that exist."""
        resources = [ConfigResource(ConfigResource.Type.TOPIC, topic) for topic in topics]
        if not resources:
            return {}
        futures = self._admin().describe_configs(resources, request_timeout=self._options.request_timeout_s)
        found = {}
        for resource, future in futures.items():
            try:
                found[resource.name] = str(self._call(future.result)[setting].value)
            except UnknownTopic:
                continue
        return found

    # -- connections and errors

    def _common(self) -> dict[str, Any]:
        connection = self._connection
        settings = {
            "bootstrap.servers": connection.bootstrap,
            "client.id": self._options.client_id,
            "security.protocol": connection.security_protocol,
            "sasl.mechanism": connection.sasl_mechanism,
            "sasl.username": connection.sasl_username,
            "sasl.password": connection.sasl_password,
            "ssl.ca.location": connection.ssl_cafile,
            "ssl.certificate.location": connection.ssl_certfile,
            "ssl.key.location": connection.ssl_keyfile,
            "ssl.key.password": connection.ssl_password,
            "ssl.endpoint.identification.algorithm": None if connection.ssl_check_hostname else "none",
            "topic.metadata.refresh.interval.ms": int(self._options.metadata_max_age_s * 1000),
            "reconnect.backoff.max.ms": 1000,
            "log_level": 0,  # its own lines on stderr; errors arrive as errors
        }
        return {name: value for name, value in settings.items() if value is not None}

    def _any_consumer(self) -> Any:
        """Offsets may be asked before (or without) subscribing."""
        if self._consumer is None:
            self._consumer = RdConsumer({**self._common(), "group.id": "unused", "isolation.level": "read_committed"})
        return self._consumer

    def _admin(self) -> Any:
        if self._admin_client is None:
            self._admin_client = AdminClient(self._common())
        return self._admin_client

    def _call(self, action: Callable[[], T]) -> T:
        try:
            return action()
        except KafkaException as error:
            raise self._error(error.args[0]) from error

    def _error(self, error: Any) -> CdcError:
        where, name = self._connection.bootstrap, error.name()
        if error.code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION):
            return UnknownTopic(f"Kafka does not know the topic: {name}", where=where)
        if error.code() in REFUSALS:
            return Terminal(f"Kafka refuses access: {name}", where=where)
        if error.fatal():
            return Terminal(f"the Kafka client cannot go on: {name}", where=where, hint="start the worker again")
        return unanswered(self._connection, name)


class UnknownTopic(Transient):
    """A topic that does not exist (yet)."""


def _uuid(topic_id: Any) -> str:
    """confluent-kafka gives Kafka's url-safe base64 of the 16 bytes; kafka-python a UUID."""
    most, least = topic_id.get_most_significant_bits(), topic_id.get_least_significant_bits()
    digits = f"{most & (1 << 64) - 1:016x}{least & (1 << 64) - 1:016x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
