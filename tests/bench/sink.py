"""Debezium's JDBC sink as a contender, on the stack's worker of Kafka Connect."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import psycopg
from kafka import KafkaAdminClient

from cdc.control.connect import Connect
from tests.bench.clock import Clock, Measured, Run
from tests.bench.workloads import Workload
from tests.bench.world import Source, World


@dataclass(frozen=True)
class SinkSettings:
    """Beside the necessary ones. `rewrite`: reWriteBatchedInserts of the driver."""

    connector: dict[str, str] = field(default_factory=dict)
    rewrite: bool = True
    url: str = ""


DEFAULTS = SinkSettings()
TUNED = SinkSettings(
    {"batch.size": "5000", "use.reduction.buffer": "true", "consumer.override.max.poll.records": "5000"}
)
"""The best of the first measurements of the design, where UNNEST inserts failed on a timestamptz column."""


def sink(settings: SinkSettings) -> Run:
    """A run with these settings beside the necessary ones; tables are made beforehand."""

    def run(world: World, source: Source, workload: Workload, target: str) -> Measured:
        # Rewritten inserts fail when a batch holds a key twice, unless the reduction buffer folds them.
        folds = settings.connector.get("use.reduction.buffer") == "true"
        safe = replace(settings, rewrite=settings.rewrite and (folds or not workload.changes))
        with running_sink(world, source, target, safe) as (connector, connect_pid):
            clock = Clock(world, connect_pid, source.records)
            with closing(world.admin()) as admin, Connect(source.settings.connect) as connect:
                done = partial(committed, admin, connector)
                return clock.follow(done, partial(_is_fine, connect, connector), pause_s=0.2)

    return run


@contextmanager
def running_sink(world: World, source: Source, target: str, settings: SinkSettings) -> Iterator[tuple[str, int]]:
    """The connector's name and the process id of the Connect worker."""
    with psycopg.connect(world.dsn(target), autocommit=True) as connection:
        for table, definition in source.tables.items():
            connection.execute(f"CREATE TABLE IF NOT EXISTS {table} ({definition})".encode())
    at = world.stack.endpoints
    name = f"sink{uuid.uuid4().hex[:8]}"
    config = {
        "connector.class": "io.debezium.connector.jdbc.JdbcSinkConnector",
        "tasks.max": "1",
        "topics": ",".join(source.topics),
        # stringtype: numerics travel as text
        "connection.url": f"jdbc:postgresql://{at.postgres.host}:{at.postgres.port}/{target}"
        f"?reWriteBatchedInserts={str(settings.rewrite).lower()}&stringtype=unspecified{settings.url}",
        "connection.username": at.postgres.user,
        "connection.password": f"${{file:{at.secrets_file}:postgres.password}}",
        "insert.mode": "upsert",
        "delete.enabled": "true",
        "primary.key.mode": "record_key",
        "collection.name.format": "${source.table}",
        "consumer.override.auto.offset.reset": "earliest",
        "consumer.override.metadata.max.age.ms": "1000",
        **settings.connector,
    }
    pid = next(part.pid or 0 for part in world.stack.status() if part.part == "connect")
    with Connect(source.settings.connect) as connect:
        connect.put_config(name, config)
        try:
            yield name, pid
        finally:
            connect.delete(name)


def _is_fine(connect: Connect, connector: str) -> bool:
    problem = connect.status(connector).problem
    assert problem is None, problem
    return True


def committed(admin: KafkaAdminClient, connector: str) -> int:
    """What a sink's group has committed, over all its partitions; it does so every second."""
    found = admin.list_group_offsets([f"connect-{connector}"])
    offsets: dict[Any, Any] = next(iter(found.values()), {})
    return sum(max(each.offset, 0) for each in offsets.values())
