"""What the engine needs of a Kafka client, small enough that two libraries can give it.

Rebalances are data, not callbacks: a client library tells of them at odd moments and in odd threads, so the adapters
only note them, and the engine's loop asks for `changes()` when it is ready to act on them.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, cast

from cdc.errors import Terminal, Transient, Usage
from cdc.model import RawRecord, TopicPartition

Client = Literal["kafka-python", "librdkafka"]


@dataclass(frozen=True)
class KafkaConnection:
    """How to reach a Kafka cluster. Names are kafka-python's; the passwords never appear in a `repr`.

    `security_protocol`: PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL. `sasl_mechanism`: PLAIN, SCRAM-SHA-256, -512.
    """

    bootstrap: str
    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str | None = None
    sasl_username: str | None = None
    sasl_password: str | None = field(default=None, repr=False)
    ssl_cafile: str | None = None
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None
    ssl_password: str | None = field(default=None, repr=False)
    ssl_check_hostname: bool = True


def unanswered(connection: KafkaConnection, why: str) -> Transient:
    """The error for a cluster that gave no answer. Both libraries go on asking when an account or a certificate is
    refused, and say so only in their own log."""
    hint = "are the brokers up, and is kafka.bootstrap right?"
    if "SASL" in connection.security_protocol:
        hint += " Do they know the account (kafka.sasl)?"
    if "SSL" in connection.security_protocol:
        hint += " Is their certificate signed by the authority in kafka.tls, for this address?"
    return Transient(f"Kafka does not answer: {why}", where=connection.bootstrap, hint=hint)


def retention_seconds(setting: str) -> float:
    """Kafka's `retention.ms` in seconds; -1 is for ever."""
    milliseconds = int(setting)
    return math.inf if milliseconds < 0 else milliseconds / 1000


@dataclass(frozen=True)
class ConsumerOptions:
    """Bounds of one consumer. Times in seconds, sizes in bytes.

    `group_instance_id`: static membership: a restart within `session_timeout_s` keeps its partitions.
    `unreachable_after_s`: an empty poll asks the brokers for an answer at most this often; without one for as long,
    `poll` raises `Transient`.
    """

    client_id: str = "cdc"
    group_instance_id: str | None = None
    session_timeout_s: float = 30.0
    heartbeat_s: float = 3.0
    max_poll_interval_s: float = 300.0
    fetch_wait_s: float = 0.5
    request_timeout_s: float = 10.0
    unreachable_after_s: float = 10.0
    metadata_max_age_s: float = 15.0


@dataclass(frozen=True)
class Rebalance:
    """Partitions that came and went since the last `changes()`. Handle `lost` and `revoked` before `assigned`: with an
    eager assignment a partition that stays is in `revoked` and in `assigned`.

    `revoked`: given up in order (what is in flight may still be committed). `lost`: somebody else may own it already.
    """

    assigned: frozenset[TopicPartition] = frozenset()
    revoked: frozenset[TopicPartition] = frozenset()
    lost: frozenset[TopicPartition] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.assigned or self.revoked or self.lost)


class RebalanceLog:
    """Notes rebalances as a library tells them (from any thread) until the engine's loop asks.

    `positioned`: assigned partitions that were given an offset since they were assigned. It is kept up to date at once,
    so that nothing is read or said of a partition that went and came again before anybody asked.
    """

    def __init__(self) -> None:
        self.positioned: set[TopicPartition] = set()
        self._assigned: set[TopicPartition] = set()
        self._revoked: set[TopicPartition] = set()
        self._lost: set[TopicPartition] = set()

    def assign(self, partitions: Iterable[TopicPartition]) -> None:
        new = set(partitions)
        self.positioned.difference_update(new)
        self._assigned |= new

    def revoke(self, partitions: Iterable[TopicPartition], *, lost: bool = False) -> None:
        """A partition that was assigned and went again before anybody asked is not told as assigned."""
        gone = set(partitions)
        self.positioned.difference_update(gone)
        self._assigned -= gone
        if lost:
            self._lost |= gone
        else:
            self._revoked |= gone

    def drain(self) -> Rebalance:
        found = Rebalance(frozenset(self._assigned), frozenset(self._revoked - self._lost), frozenset(self._lost))
        self._assigned, self._revoked, self._lost = set(), set(), set()
        return found


class Consumer(Protocol):
    """One member of a consumer group; used by one thread. Reads committed records only, commits nothing by itself.

    Fails with `Transient` (brokers do not answer within the bound; `where` is the bootstrap address) and `Terminal`
    (a wanted offset is gone from the topic, authorization, a wrong setting).
    """

    def subscribe(self, topics: Sequence[str], group: str) -> None:
        """Join `group` for `topics`. Partitions arrive later, through `changes()`. Again, with the same group: stay
        in it for these topics from now on."""

    def poll(self, max_records: int, max_bytes: int, timeout_s: float) -> list[RawRecord]:
        """Records of positioned partitions, in offset order within a partition; [] when none came in `timeout_s`.

        Returns as soon as there are any. At most `max_records`; may pass `max_bytes` by one chunk. Raises `Terminal`
        that names the lost range when a position is outside of its partition's offsets.
        """

    def changes(self) -> Rebalance:
        """Partitions that came and went since the last call. New ones give no records until `seek`."""

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Position an assigned partition, and (re)start its records there.

        One that is not assigned any more is left alone: `changes` will tell.
        """

    def position(self, partition: TopicPartition) -> int | None:
        """The offset after everything `poll` returned or passed over (control records, aborted transactions); None for
        a partition that is not positioned."""

    def starts(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """First offsets still in the topics."""

    def ends(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Offsets after the last committed records: a `position` that reached it has seen everything."""

    def partitions(self, topics: Iterable[str]) -> dict[str, int]:
        """Number of partitions now (asks the brokers). Topics that do not exist are absent."""

    def topic_ids(self, topics: Iterable[str]) -> dict[str, str]:
        """Kafka's ids of topics (a topic created again under its old name has another one), as UUID text."""

    def cleanup_policy(self, topics: Iterable[str]) -> dict[str, frozenset[str]]:
        """The topics' `cleanup.policy`: subsets of {'delete', 'compact'}."""

    def retention_s(self, topics: Iterable[str]) -> dict[str, float]:
        """How long the topics keep their records at least (`retention.ms`), in seconds; inf: for ever."""

    def commit_for_display(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Kafka's committed offsets, so that its tools show the lag. Never waits; failures only count."""

    @property
    def failed_commits(self) -> int: ...

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        """No records of these until `resume`; positions stay."""

    def resume(self, partitions: Iterable[TopicPartition]) -> None: ...

    def close(self) -> None:
        """Leave the group (a static member stays in it until its session times out)."""


def open_consumer(client: Client, connection: KafkaConnection, options: ConsumerOptions | None = None) -> Consumer:
    """The adapter of a client library, by the `client:` setting."""
    options = options or ConsumerOptions()
    if client == "kafka-python":
        module = importlib.import_module("cdc.source.kafka_python")
        return cast("Consumer", module.KafkaPythonConsumer(connection, options))
    if client == "librdkafka":
        try:
            module = importlib.import_module("cdc.source.librdkafka")
        except ImportError as error:
            raise Usage(
                "client: librdkafka needs the package confluent-kafka, which is not installed",
                hint="pip install 'cdc-sync[librdkafka]', or set client: kafka-python",
            ) from error
        return cast("Consumer", module.LibrdkafkaConsumer(connection, options))
    raise Usage(f"unknown Kafka client {client!r}", hint="client: kafka-python or client: librdkafka")


def lost_range(partition: TopicPartition, wanted: int, start: int, end: int) -> Terminal:
    """The error for an offset that a topic does not hold (any more)."""
    where = f"{partition.topic}:{partition.partition}:{wanted}"
    if wanted < start:
        what = f"offsets {wanted} to {start - 1} are gone from the topic: its retention passed them"
    else:
        what = f"offset {wanted} lies behind the topic's end {end}: the topic was emptied or created again"
    return Terminal(
        what,
        where=where,
        hint="`cdc rewind --to-earliest` on this topic, then `cdc source load` its table, `cdc sweep`",
    )
