"""`python -m tests.bench.read CLIENT BOOTSTRAP RECORDS TOPIC…`: read, and print seconds, CPU seconds and peak MB."""

from __future__ import annotations

import os
import sys
import time
import uuid

from cdc.source.consumer import ConsumerOptions, KafkaConnection, open_consumer
from tests.bench import usage


def main() -> None:
    client, bootstrap, records, *topics = sys.argv[1:]
    consumer = open_consumer(client, KafkaConnection(bootstrap=bootstrap), ConsumerOptions())  # type: ignore[arg-type]
    consumer.subscribe(topics, f"read-{uuid.uuid4().hex[:8]}")
    left, began, cpu_s = int(records), 0.0, 0.0
    while left > 0:
        for partition in consumer.changes().assigned:
            consumer.seek(partition, 0)
        found = len(consumer.poll(5000, 32 << 20, 0.2))
        if found and not began:
            began, cpu_s, left = time.monotonic(), time.process_time(), left - found
            continue
        left -= found
    print(time.monotonic() - began, time.process_time() - cpu_s, usage.of(os.getpid()).peak_mb)  # noqa: T201
    consumer.close()


if __name__ == "__main__":
    main()
