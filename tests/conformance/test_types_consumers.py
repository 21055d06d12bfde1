"""Both Kafka clients keep the same contract, on a real broker."""

from __future__ import annotations

import gc
import time
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeVar

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
)

from cdc.errors import Terminal, Transient
from cdc.model import RawRecord, TopicPartition
from cdc.source.consumer import Client, Consumer, ConsumerOptions, KafkaConnection, Rebalance, open_consumer
from cdc.stack import Stack

pytestmark = pytest.mark.stack
T = TypeVar("T")
QUICK = ConsumerOptions(fetch_wait_s=0.05, session_timeout_s=6, heartbeat_s=1, unreachable_after_s=1)


def until(what: str, check: Callable[[], T | None], seconds: float = 40) -> T:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = check()
        if found:
            return found
    raise AssertionError(f"waited {seconds} s for {what}")


@pytest.fixture
def kafka(stack: Stack) -> str:
    return stack.endpoints.kafka


@pytest.fixture(params=["kafka-python", "librdkafka"])
def client(request: pytest.FixtureRequest) -> Client:
    name: Client = request.param
    return name


@pytest.fixture
def topic(kafka: str) -> Iterator[str]:
    name = f"t_{uuid.uuid4().hex[:12]}"
    admin = AdminClient({"bootstrap.servers": kafka})
    admin.create_topics([NewTopic(name, num_partitions=2, replication_factor=1)])[name].result()
    yield name
    admin.delete_topics([name])[name].result()


@pytest.fixture
def opened(client: Client, kafka: str) -> Iterator[Callable[..., Consumer]]:
    """Opens consumers that are closed after the test."""
    consumers: list[Consumer] = []

    def make(options: ConsumerOptions = QUICK) -> Consumer:
        consumer = open_consumer(client, KafkaConnection(kafka), options)
        consumers.append(consumer)
        return consumer

    yield make
    for consumer in consumers:
        consumer.close()


def produce(kafka: str, topic: str, partition: int, values: list[bytes | None], *, transaction: str = "") -> None:
    """`transaction`: 'commit' or 'abort' to send them in one."""
    settings = {"bootstrap.servers": kafka, "linger.ms": 0}
    if transaction:
        settings["transactional.id"] = uuid.uuid4().hex
    producer = Producer(settings)
    if transaction:
        producer.init_transactions()
        producer.begin_transaction()
    for number, value in enumerate(values):
        producer.produce(topic, value, f"k{number}".encode(), partition, headers=[("h", b"1")])
    producer.flush()
    if transaction == "commit":
        producer.commit_transaction()
    elif transaction == "abort":
        producer.abort_transaction()


def joined(consumer: Consumer, topic: str, number: int) -> Rebalance:
    """Subscribed, and the first change that brings `number` partitions."""
    consumer.subscribe([topic], f"g_{topic}")

    def changed() -> Rebalance | None:
        assert consumer.poll(100, 1 << 20, 0.1) == [], "a partition without a position must give nothing"
        found = consumer.changes()
        return found if len(found.assigned) == number else None

    return until("an assignment", changed)


def read(consumer: Consumer, number: int) -> list[RawRecord]:
    found: list[RawRecord] = []

    def enough() -> bool | None:
        found.extend(consumer.poll(100, 1 << 20, 0.1))
        return True if len(found) >= number else None

    until(f"{number} records", enough)
    return found


def test_partitions_give_nothing_before_they_are_positioned(
    opened: Callable[..., Consumer], kafka: str, topic: str
) -> None:
    produce(kafka, topic, 0, [b"a", b"b", None])
    produce(kafka, topic, 1, [b"c"])
    consumer = opened()
    assert joined(consumer, topic, 2).assigned == {TopicPartition(topic, 0), TopicPartition(topic, 1)}
    assert consumer.position(TopicPartition(topic, 0)) is None
    consumer.seek(TopicPartition(topic, 0), 1)
    records = read(consumer, 2)
    assert [(r.partition, r.offset, r.value) for r in records] == [(0, 1, b"b"), (0, 2, None)]
    assert records[0].headers == (("h", b"1"),)
    assert records[0].key == b"k1"
    assert abs(records[0].timestamp_ms / 1000 - time.time()) < 3600
    assert consumer.position(TopicPartition(topic, 0)) == 3
    assert consumer.position(TopicPartition(topic, 1)) is None


def test_seeking_back_and_limits(opened: Callable[..., Consumer], kafka: str, topic: str) -> None:
    produce(kafka, topic, 0, [b"%d" % number for number in range(50)])
    consumer, partition = opened(), TopicPartition(topic, 0)
    joined(consumer, topic, 2)
    consumer.seek(partition, 0)
    first = until("records", lambda: consumer.poll(7, 1 << 20, 0.1) or None)
    assert len(first) <= 7
    assert consumer.position(partition) == first[-1].offset + 1
    read(consumer, 50 - len(first))
    consumer.seek(partition, 40)
    assert [r.offset for r in read(consumer, 10)] == list(range(40, 50))


def test_positions_pass_control_records_and_aborted_transactions(
    opened: Callable[..., Consumer], kafka: str, topic: str
) -> None:
    produce(kafka, topic, 0, [b"a", b"b"], transaction="commit")
    produce(kafka, topic, 0, [b"lost"], transaction="abort")
    consumer, partition = opened(), TopicPartition(topic, 0)
    joined(consumer, topic, 2)
    consumer.seek(partition, 0)
    assert [r.value for r in read(consumer, 2)] == [b"a", b"b"]
    end = consumer.ends([partition])[partition]
    assert end == 5

    def there() -> bool | None:
        assert consumer.poll(10, 1000, 0.1) == []
        return True if consumer.position(partition) == end else None

    until("the position to reach the end", there)


def test_pausing(opened: Callable[..., Consumer], kafka: str, topic: str) -> None:
    consumer, partition = opened(), TopicPartition(topic, 0)
    joined(consumer, topic, 2)
    consumer.seek(partition, 0)
    consumer.seek(TopicPartition(topic, 1), 0)
    consumer.pause([partition])
    produce(kafka, topic, 0, [b"a"])
    produce(kafka, topic, 1, [b"b"])
    assert [r.value for r in read(consumer, 1)] == [b"b"]
    consumer.resume([partition])
    assert [r.value for r in read(consumer, 1)] == [b"a"]


def test_a_lost_range_is_named(opened: Callable[..., Consumer], kafka: str, topic: str) -> None:
    produce(kafka, topic, 0, [b"a", b"b"])
    consumer, partition = opened(), TopicPartition(topic, 0)
    joined(consumer, topic, 2)
    consumer.seek(partition, 100)
    with pytest.raises(Terminal, match=r"offset 100 lies behind the topic's end 2"):
        until("the error", lambda: consumer.poll(10, 1000, 0.1) or None)


def test_a_second_member_takes_a_partition(opened: Callable[..., Consumer], topic: str) -> None:
    one, two = opened(), opened()
    joined(one, topic, 2)
    for number in (0, 1):
        one.seek(TopicPartition(topic, number), 0)
    two.subscribe([topic], f"g_{topic}")
    seen: dict[str, Rebalance] = {}
    revoked: set[TopicPartition] = set()

    def both() -> bool | None:
        for name, consumer in (("one", one), ("two", two)):
            consumer.poll(10, 1000, 0.1)
            found = consumer.changes()
            if name == "one":
                revoked.update(found.revoked)
            if found.assigned:
                seen[name] = found
        done = len(seen) == 2 and all(len(change.assigned) == 1 for change in seen.values())
        return True if done else None

    until("both members to own one partition", both)
    assert len(revoked) == 2, "an eager assignment takes everything back first"
    kept = next(iter(seen["one"].assigned))
    assert one.position(kept) is None, "a partition that comes again must be positioned again"


def test_questions_about_topics(opened: Callable[..., Consumer], kafka: str, topic: str) -> None:
    consumer = opened()
    until("the topic", lambda: True if consumer.partitions([topic, "no-such-topic"]) == {topic: 2} else None)
    assert consumer.cleanup_policy([topic]) == {topic: frozenset({"delete"})}
    assert consumer.retention_s([topic]) == {topic: 10 * 365 * 86_400.0}  # the local stack's
    first = consumer.topic_ids([topic])[topic]
    assert str(uuid.UUID(first)) == first
    admin = AdminClient({"bootstrap.servers": kafka})
    admin.create_partitions([NewPartitions(topic, 3)])[topic].result()
    until("the third partition", lambda: True if consumer.partitions([topic]) == {topic: 3} else None)
    entry = ConfigEntry("cleanup.policy", "compact,delete", incremental_operation=AlterConfigOpType.SET)
    compact = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[entry])
    admin.incremental_alter_configs([compact])[compact].result()
    both = frozenset({"compact", "delete"})
    until("the new policy", lambda: True if consumer.cleanup_policy([topic])[topic] == both else None)
    produce(kafka, topic, 1, [b"a", b"b"])
    partitions = [TopicPartition(topic, number) for number in (0, 1)]
    assert consumer.starts(partitions) == dict(zip(partitions, (0, 0), strict=True))
    assert consumer.ends(partitions) == dict(zip(partitions, (0, 2), strict=True))


def test_clients_agree_on_topic_ids(kafka: str, topic: str) -> None:
    ids = set()
    for client in ("kafka-python", "librdkafka"):
        consumer = open_consumer(client, KafkaConnection(kafka), QUICK)  # type: ignore[arg-type]
        ids.add(until("the topic", partial(consumer.topic_ids, [topic]))[topic])
        consumer.close()
    assert len(ids) == 1


def test_committed_offsets_are_only_shown(opened: Callable[..., Consumer], kafka: str, topic: str) -> None:
    produce(kafka, topic, 0, [b"a"])
    consumer, partition = opened(), TopicPartition(topic, 0)
    joined(consumer, topic, 2)
    consumer.seek(partition, 0)
    read(consumer, 1)
    consumer.commit_for_display({partition: 1})
    group = AdminClient({"bootstrap.servers": kafka})

    def shown() -> bool | None:
        from confluent_kafka import ConsumerGroupTopicPartitions

        consumer.poll(1, 1, 0.1)
        answer = group.list_consumer_group_offsets([ConsumerGroupTopicPartitions(f"g_{topic}")])
        offsets = next(iter(answer.values())).result().topic_partitions
        return True if any(each.offset == 1 for each in offsets) else None

    until("the committed offset", shown)
    assert consumer.failed_commits == 0


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_broker_that_does_not_answer_is_named(client: Client) -> None:
    _ask_nobody(client)
    gc.collect()  # kafka-python leaves sockets of refused connections unclosed, which warns when they go


def _ask_nobody(client: Client) -> None:
    options = ConsumerOptions(request_timeout_s=1, unreachable_after_s=0)
    consumer = open_consumer(client, KafkaConnection("127.0.0.1:1"), options)
    with pytest.raises(Transient) as caught:
        consumer.topic_ids(["t"])
    assert caught.value.where == "127.0.0.1:1"

    def subscribe_and_poll() -> None:
        consumer.subscribe(["t"], "g")
        until("the error", lambda: consumer.poll(1, 1, 0.1) or None)

    with pytest.raises(Transient):
        subscribe_and_poll()
    consumer.close()
