"""What is possible: the database fed with rows that are ready, and the broker read without doing anything."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

import psycopg
from kafka import KafkaConsumer, TopicPartition

from cdc.model import ChangeEvent, RawRecord, TargetColumn
from cdc.source.envelope import Decoder
from cdc.target.postgres_lines import copy_line_builder
from tests.bench.clock import Clock, Measured, Run
from tests.bench.workloads import Workload
from tests.bench.world import Source, World

_BATCH = 5000
_lines: dict[str, list[str]] = {}


def by_hand(world: World, source: Source, workload: Workload, target: str) -> Measured:
    """Per batch one COPY and one COMMIT; onto existing rows by way of a staging table and a guarded upsert.

    The COPY text of all rows is made beforehand, and its making is not measured.
    """
    (table,) = source.tables
    lines = _ready(world, source)
    with psycopg.connect(world.dsn(target)) as connection:
        connection.execute(f"CREATE TABLE IF NOT EXISTS {table} ({source.tables[table]}, _position bigint)".encode())
        connection.execute("SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off")
        stage = f"CREATE TEMP TABLE stage ON COMMIT DELETE ROWS AS SELECT * FROM {table} WITH NO DATA"
        connection.execute(stage.encode())
        connection.commit()
        columns = [
            each.name for each in connection.execute(f"SELECT * FROM {table} LIMIT 0".encode()).description or ()
        ]
        updates = ", ".join(f"{column} = excluded.{column}" for column in columns if column != "id")
        upsert = (
            f"INSERT INTO {table} AS t SELECT * FROM stage ORDER BY id ON CONFLICT (id) DO UPDATE SET {updates}"
            " WHERE t._position <= excluded._position"
        )
        copy_into = f"COPY {'stage' if workload.existing else table} FROM STDIN"
        clock = Clock(world, None, len(lines))
        began = time.monotonic()
        for first in range(0, len(lines), _BATCH):
            with connection.cursor() as cursor:
                with cursor.copy(copy_into.encode()) as copy:
                    copy.write("".join(lines[first : first + _BATCH]))
                if workload.existing:
                    cursor.execute(upsert.encode())
            connection.commit()
        seconds = time.monotonic() - began
        database = clock.follow(lambda: len(lines), lambda: True).database_cpu_s_per_million
    return Measured(len(lines) / seconds, 0.0, 0.0, database, 0.0)


def reading(client: str) -> Run:
    """Records from the broker as the applier takes them, in a process of its own."""

    def run(world: World, source: Source, workload: Workload, target: str) -> Measured:
        told = [client, world.stack.endpoints.kafka, str(source.records), *source.topics]
        command = [sys.executable, "-m", "tests.bench.read", *told]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        seconds, cpu_s, peak_mb = map(float, done.stdout.split())
        return Measured(source.records / seconds, 0.0, cpu_s / source.records * 1e6, 0.0, peak_mb)

    return run


def _ready(world: World, source: Source) -> list[str]:
    """COPY text of every record's row; made once a source, and kept: rounds take turns."""
    if source.name not in _lines:
        decoder, found = Decoder(standalone=True), list[str]()
        consumer = KafkaConsumer(bootstrap_servers=world.stack.endpoints.kafka)
        builders: dict[int, Any] = {}
        try:
            consumer.assign([TopicPartition(*place) for place in source.ends])
            consumer.seek_to_beginning()
            while len(found) < source.records:
                for records in consumer.poll(timeout_ms=1000, max_records=_BATCH).values():
                    found += [_line(decoder, builders, record) for record in records]
        finally:
            consumer.close()
        _lines[source.name] = found
    return _lines[source.name]


def _line(decoder: Decoder, builders: dict[int, Any], record: Any) -> str:
    event = decoder.decode(RawRecord(record.topic, record.partition, record.offset, record.key, record.value))
    assert isinstance(event, ChangeEvent)
    assert event.after is not None
    build = builders.get(event.schema.version)
    if build is None:
        columns = [TargetColumn(column.name, column.type) for column in event.schema.columns]
        build = builders[event.schema.version] = copy_line_builder(columns)
    return f"{build(event.after)}\t{event.position.major}\n"
