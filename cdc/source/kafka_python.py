"""The default client: kafka-python.

Measured with `Decoder.decode` of every record (9.4 kB with schema, lz4, 2 partitions, 2 cores shared with the broker):
54,000 records/s. Its network runs on a thread of its own, and so do its rebalance listeners: they only note things.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from kafka import KafkaAdminClient, KafkaConsumer
from kafka import errors as kafka_errors
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.consumer.subscription_state import ConsumerRebalanceListener
from kafka.structs import OffsetAndMetadata
from kafka.structs import TopicPartition as KafkaPartition

from cdc.errors import Terminal, Transient
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
"""Records asked for at once while `max_bytes` is watched."""

FETCH_BYTES, PARTITION_FETCH_BYTES = 8 * 1024 * 1024, 1024 * 1024
"""As on the wire, where records with schemas are a twentieth of their size; a larger record still comes. With half of
it the worker waits more often for an answer that nobody reads while it works: 27,300 rows/s instead of 30,900."""


class KafkaPythonConsumer:
    """See `cdc.source.consumer.Consumer`."""

    def __init__(self, connection: KafkaConnection, options: ConsumerOptions) -> None:
        self._connection = connection
        self._options = options
        self._log = RebalanceLog()
        self._consumer: Any = None
        self._group = ""
        self._admin_client: Any = None
        self._answered = time.monotonic()
        self.failed_commits = 0

    # -- membership

    def subscribe(self, topics: Sequence[str], group: str) -> None:
        if self._group != group:
            self._join(group)
            self._group = group
        self._consumer.subscribe(list(topics), listener=_Listener(self._consumer, self._log))

    def _join(self, group: str) -> None:
        options = self._options
        self._consumer = self._ask(
            lambda: KafkaConsumer(
                **self._common(),
                group_id=group,
                group_instance_id=options.group_instance_id,
                enable_auto_commit=False,
                auto_offset_reset="none",
                isolation_level="read_committed",
                allow_auto_create_topics=False,
                session_timeout_ms=int(options.session_timeout_s * 1000),
                heartbeat_interval_ms=int(options.heartbeat_s * 1000),
                max_poll_interval_ms=int(options.max_poll_interval_s * 1000),
                fetch_max_bytes=FETCH_BYTES,
                max_partition_fetch_bytes=PARTITION_FETCH_BYTES,
                fetch_max_wait_ms=int(options.fetch_wait_s * 1000),
                metrics_enabled=False,
            )
        )
        # kafka-python 3.0.12 does not hand its setting on: a misspelt topic would be created by asking for it
        self._consumer._cluster.config["allow_auto_create_topics"] = False

    def changes(self) -> Rebalance:
        return self._log.drain()

    def close(self) -> None:
        for client in (self._consumer, self._admin_client):
            if client is not None:
                client.close()
        self._consumer = self._admin_client = None

    # -- records

    def poll(self, max_records: int, max_bytes: int, timeout_s: float) -> list[RawRecord]:
        found: list[RawRecord] = []
        size = 0
        timeout_ms = int(timeout_s * 1000)
        while len(found) < max_records and size < max_bytes:
            batches = self._poll_once(min(CHUNK, max_records - len(found)), timeout_ms)
            if not batches:
                break
            for partition, records in batches.items():
                if partition not in self._log.positioned:
                    continue
                for record in records:
                    raw = RawRecord(
                        record.topic,
                        record.partition,
                        record.offset,
                        record.key,
                        record.value,
                        tuple(record.headers) if record.headers else (),
                        record.timestamp,
                    )
                    found.append(raw)
                    size += record.serialized_value_size
            timeout_ms = 0
        if found:
            self._answered = time.monotonic()
        else:
            self._check_reachable()
        return found

    def _poll_once(self, max_records: int, timeout_ms: int) -> dict[Any, list[Any]]:
        self._finish_joining()
        try:
            batches: dict[Any, list[Any]] = self._consumer.poll(timeout_ms=timeout_ms, max_records=max_records)
            return batches
        except kafka_errors.NoOffsetForPartitionError:
            return {}  # a partition was assigned this moment and its listener has not run yet
        except kafka_errors.OffsetOutOfRangeError as error:
            raise self._lost(error) from error
        except kafka_errors.AuthorizationError as error:
            raise self._refused(error) from error
        except kafka_errors.KafkaError as error:
            raise self._transient(error) from error

    def _finish_joining(self) -> None:
        """kafka-python 3.0.12 forgets a rejoin that a metadata change caused when `poll` times out before the group
        answers: nobody waits for the answer, heartbeats stay off, and the member never gets partitions again.
        Reproduced with a slow broker (SyncGroup 270 ms, poll 100 ms): 2 of 22 joins. Asking for a rejoin makes the
        next poll wait for the answer that is under way.
        """
        coordinator = self._consumer._coordinator
        if coordinator.rejoining and not coordinator.rejoin_needed:
            coordinator.request_rejoin()

    def _lost(self, error: Exception) -> Terminal:
        wanted = error.args[0] if error.args and isinstance(error.args[0], dict) else {}
        for partition, offset in wanted.items():
            mine = TopicPartition(*partition)
            return lost_range(mine, _number(offset), self.starts([mine])[mine], self.ends([mine])[mine])
        return Terminal("a wanted offset is gone from its topic", where=self._connection.bootstrap)

    def _check_reachable(self) -> None:
        """An empty poll looks the same with and without brokers: ask one for something, now and then."""
        if time.monotonic() - self._answered < self._options.unreachable_after_s:
            return
        partitions = list(self._log.positioned)
        self._ask(lambda: self.ends(partitions) if partitions else self._admin().describe_cluster())
        self._answered = time.monotonic()

    def seek(self, partition: TopicPartition, offset: int) -> None:
        kafka_partition = KafkaPartition(*partition)
        try:
            self._consumer.seek(kafka_partition, offset)
        except ValueError:
            return  # not assigned any more
        self._log.positioned.add(partition)
        self._consumer.resume(kafka_partition)

    def position(self, partition: TopicPartition) -> int | None:
        if partition not in self._log.positioned:
            return None
        try:
            position: int | None = self._consumer.position(KafkaPartition(*partition), timeout_ms=0)
        except (kafka_errors.IllegalStateError, kafka_errors.NoOffsetForPartitionError):
            return None  # not assigned any more
        return position if partition in self._log.positioned else None

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        self._consumer.pause(*[KafkaPartition(*partition) for partition in partitions])

    def resume(self, partitions: Iterable[TopicPartition]) -> None:
        self._consumer.resume(*[KafkaPartition(*each) for each in partitions if each in self._log.positioned])

    def commit_for_display(self, offsets: Mapping[TopicPartition, int]) -> None:
        if not offsets:
            return
        wanted = {KafkaPartition(*each): OffsetAndMetadata(offset, "", -1) for each, offset in offsets.items()}
        try:
            self._consumer.commit_async(wanted, callback=self._committed)
        except kafka_errors.KafkaError:
            self.failed_commits += 1

    def _committed(self, offsets: object, response: object) -> None:
        if isinstance(response, Exception):
            self.failed_commits += 1

    # -- questions

    def starts(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        return self._offsets(self._any_consumer().beginning_offsets, partitions)

    def ends(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        return self._offsets(self._any_consumer().end_offsets, partitions)

    def _offsets(self, ask: Callable[..., Any], partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        wanted = [KafkaPartition(*partition) for partition in partitions]
        timeout_ms = int(self._options.request_timeout_s * 1000)
        found = self._ask(lambda: ask(wanted, timeout_ms=timeout_ms)) if wanted else {}
        return {TopicPartition(*partition): offset for partition, offset in found.items()}

    def partitions(self, topics: Iterable[str]) -> dict[str, int]:
        return {topic["name"]: len(topic["partitions"]) for topic in self._described(topics)}

    def topic_ids(self, topics: Iterable[str]) -> dict[str, str]:
        return {topic["name"]: str(topic["topic_id"]) for topic in self._described(topics)}

    def _described(self, topics: Iterable[str]) -> list[dict[str, Any]]:
        found = self._ask(lambda: self._admin().describe_topics(list(topics)))
        return [topic for topic in found if topic["error_code"] == 0]

    def cleanup_policy(self, topics: Iterable[str]) -> dict[str, frozenset[str]]:
        return {name: frozenset(text.split(",")) for name, text in self._setting(topics, "cleanup.policy").items()}

    def retention_s(self, topics: Iterable[str]) -> dict[str, float]:
        return {name: retention_seconds(text) for name, text in self._setting(topics, "retention.ms").items()}

    def _setting(self, topics: Iterable[str], setting: str) -> dict[str, str]:
        """One setting of the topics that exist."""
        resources = [ConfigResource(ConfigResourceType.TOPIC, topic, {setting: None}) for topic in topics]
        found = self._ask(lambda: self._admin().describe_configs(resources, config_filter="all"))
        return {name: each[setting]["value"] for name, each in found.get("topic", {}).items() if setting in each}

    # -- connections and errors

    def _common(self) -> dict[str, Any]:
        connection = self._connection
        return {
            "bootstrap_servers": connection.bootstrap.split(","),
            "client_id": self._options.client_id,
            "security_protocol": connection.security_protocol,
            "sasl_mechanism": connection.sasl_mechanism,
            "sasl_plain_username": connection.sasl_username,
            "sasl_plain_password": connection.sasl_password,
            "ssl_cafile": connection.ssl_cafile,
            "ssl_certfile": connection.ssl_certfile,
            "ssl_keyfile": connection.ssl_keyfile,
            "ssl_password": connection.ssl_password,
            "ssl_check_hostname": connection.ssl_check_hostname,
            "request_timeout_ms": int(self._options.request_timeout_s * 1000),
            "bootstrap_timeout_ms": int(self._options.request_timeout_s * 1000),
            "metadata_max_age_ms": int(self._options.metadata_max_age_s * 1000),
            "reconnect_backoff_max_ms": 1000,
        }

    def _any_consumer(self) -> Any:
        """Offsets may be asked before (or without) subscribing."""
        if self._consumer is None:
            self._consumer = self._ask(
                lambda: KafkaConsumer(
                    **self._common(), enable_auto_commit=False, isolation_level="read_committed", metrics_enabled=False
                )
            )
        return self._consumer

    def _admin(self) -> Any:
        if self._admin_client is None:
            self._admin_client = KafkaAdminClient(**self._common())
        return self._admin_client

    def _ask(self, question: Callable[[], T]) -> T:
        try:
            return question()
        except kafka_errors.AuthorizationError as error:
            raise self._refused(error) from error
        except kafka_errors.KafkaError as error:
            raise self._transient(error) from error

    def _refused(self, error: Exception) -> Terminal:
        return Terminal(f"Kafka refuses access: {type(error).__name__}", where=self._connection.bootstrap)

    def _transient(self, error: Exception) -> Transient:
        return unanswered(self._connection, type(error).__name__)


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    """Runs on kafka-python's network thread: it notes, and keeps new partitions still until the engine seeks.

    Without a position at once, `poll` would look for committed offsets and fail for want of them.
    """

    def __init__(self, consumer: Any, log: RebalanceLog) -> None:
        self._consumer = consumer
        self._log = log

    def on_partitions_assigned(self, assigned: Iterable[Any]) -> None:
        partitions = list(assigned)
        self._consumer.pause(*partitions)
        for partition in partitions:
            self._consumer.seek(partition, 0)
        self._log.assign(TopicPartition(*partition) for partition in partitions)

    def on_partitions_revoked(self, revoked: Iterable[Any]) -> None:
        self._log.revoke(TopicPartition(*partition) for partition in revoked)

    def on_partitions_lost(self, lost: Iterable[Any]) -> None:
        self._log.revoke((TopicPartition(*partition) for partition in lost), lost=True)


def _number(offset: Any) -> int:
    """kafka-python reports an offset as a number or as OffsetAndMetadata."""
    return int(getattr(offset, "offset", offset))
