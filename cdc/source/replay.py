"""Records of a topic read once more, by nobody's group, for looking at them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

from kafka.structs import TopicPartition as KafkaPartition

from cdc.errors import Transient
from cdc.model import RawRecord, TopicPartition
from cdc.source.consumer import KafkaConnection
from cdc.source.times import asking

_FETCH_BYTES = 1 << 20
_POLL_MS = 200


def replayed(
    connection: KafkaConnection, ranges: Mapping[TopicPartition, tuple[int, int]], timeout_s: float
) -> Iterator[RawRecord]:
    """The committed records of each partition's range of offsets (the second is behind the last), in order within a
    partition. Raises `Transient` when nothing comes for `timeout_s`."""
    left = {KafkaPartition(*partition): end for partition, (start, end) in ranges.items() if start < end}
    if not left:
        return
    with asking(connection, timeout_s, _FETCH_BYTES) as consumer:
        consumer.assign(list(left))
        for partition in left:
            consumer.seek(partition, ranges[TopicPartition(*partition)][0])
        deadline = time.monotonic() + timeout_s
        while left:
            found = consumer.poll(timeout_ms=_POLL_MS)
            for partition, records in found.items():
                for each in records:
                    if each.offset < left.get(partition, 0):
                        headers = tuple(each.headers or ())
                        yield RawRecord(
                            each.topic, each.partition, each.offset, each.key, each.value, headers, each.timestamp
                        )
            # The position also passes what is no record: marks of transactions.
            for partition in [each for each, end in left.items() if consumer.position(each) >= end]:
                del left[partition]
                consumer.pause(partition)
            if found:
                deadline = time.monotonic() + timeout_s
            elif time.monotonic() > deadline:
                raise Transient("records that the topics hold do not come", where=connection.bootstrap)
