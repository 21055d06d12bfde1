"""A demo world of a test's own on the run's stack: unique names for everything, all of it removed at the end."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pymysql
from kafka import KafkaAdminClient, KafkaConsumer
from kafka import TopicPartition as KafkaPartition
from psycopg import sql

from cdc.control.connect import Connect
from cdc.db.source import SourceDatabase, connect_source
from cdc.demo.prepare import prepare
from cdc.entries import SourceSettings
from cdc.errors import CdcError
from cdc.settings import Settings, load
from cdc.stack import Stack

SHIPPED = Path("connect-configs")


@dataclass(frozen=True)
class ControlWorld:
    """The shipped connections and connector configurations under other names. Sources: `pg`, `maria` and `portal`."""

    stack: Stack
    folder: Path
    name: str
    settings: Settings

    @property
    def pg(self) -> SourceSettings:
        return self.settings.source(f"crm_{self.name}")

    @property
    def maria(self) -> SourceSettings:
        return self.settings.source(f"billing_{self.name}")

    @property
    def portal(self) -> SourceSettings:
        return self.settings.source(f"portal_{self.name}")

    def connect(self, retry_for_s: float = 60.0) -> Connect:
        return Connect(self.settings.connect, retry_for_s=retry_for_s)

    def change(self, source: SourceSettings, **settings: str) -> None:
        """Rewrite the source's JSON; `__` stands for a dot in names."""
        config = json.loads(source.connector.read_text(encoding="utf-8"))
        config |= {key.replace("__", "."): value for key, value in settings.items()}
        source.connector.write_text(json.dumps(config, indent=2), encoding="utf-8")

    @contextmanager
    def database(self, source: SourceSettings) -> Iterator[SourceDatabase]:
        made = connect_source(source)
        try:
            yield made
        finally:
            made.close()

    def admin_pg(self, database: str | None = None) -> psycopg.Connection:
        url = self.stack.endpoints.postgres_dsn(database or self.pg.database)
        return psycopg.connect(url, autocommit=True)

    def admin_maria(self) -> pymysql.Connection:
        at = self.stack.endpoints.mariadb
        return pymysql.connect(host=at.host, port=at.port, user=at.user, password=at.password, autocommit=True)

    def records(self, prefix: str) -> dict[str, list[dict[str, Any]]]:
        """Payloads of all records in the topics `prefix`.*, by the last word of the topic."""
        found: dict[str, list[dict[str, Any]]] = {}
        with closing_consumer(self.stack) as consumer:
            topics = [topic for topic in consumer.topics() if topic.startswith(f"{prefix}.")]
            for topic in topics:
                table = topic.rpartition(".")[2]
                found[table] = [json.loads(value)["payload"] for value in _values(consumer, topic)]
        return found

    def ends(self, prefix: str) -> dict[tuple[str, int], int]:
        with closing_consumer(self.stack) as consumer:
            topics = [topic for topic in consumer.topics() if topic.startswith(f"{prefix}.")]
            parts = [KafkaPartition(t, p) for t in topics for p in consumer.partitions_for_topic(t) or ()]
            return {(part.topic, part.partition): end for part, end in consumer.end_offsets(parts).items()}


@contextmanager
def closing_consumer(stack: Stack) -> Iterator[KafkaConsumer]:
    consumer = KafkaConsumer(
        bootstrap_servers=stack.endpoints.kafka, enable_auto_commit=False, auto_offset_reset="none"
    )
    try:
        yield consumer
    finally:
        consumer.close()


def _values(consumer: KafkaConsumer, topic: str) -> Iterator[bytes]:
    parts = [KafkaPartition(topic, part) for part in consumer.partitions_for_topic(topic) or ()]
    ends = consumer.end_offsets(parts)
    consumer.assign(parts)
    for part in parts:
        consumer.seek(part, 0)
    while any(consumer.position(part) < end for part, end in ends.items()):
        for records in consumer.poll(200).values():
            yield from (record.value for record in records if record.value is not None)


@contextmanager
def control_world(stack: Stack, folder: Path, *, customers: int) -> Iterator[ControlWorld]:
    """Databases prepared, nothing registered. At the end connectors, topics, slots, databases and the role go."""
    name = uuid.uuid4().hex[:8]
    settings = _write(stack, folder, name)
    world = ControlWorld(stack, folder, name, settings)
    prepare(
        settings,
        crm=f"crm_{name}",
        billing=f"billing_{name}",
        hub=f"hub_{name}",
        reports=f"reports_{name}",
        portal=f"portal_{name}",
        customers=customers,
    )
    try:
        yield world
    finally:
        _remove(world)


def _write(stack: Stack, folder: Path, name: str) -> Settings:
    text = (SHIPPED / "connections.yaml").read_text(encoding="utf-8")
    for word in ("crm", "portal", "billing", "hub", "reports"):
        text = text.replace(f"database: {word}\n", f"database: {word}_{name}\n")
        text = text.replace(f"\n  {word}:\n", f"\n  {word}_{name}:\n")
    text = text.replace("target: hub ", f"target: hub_{name} ").replace("/crm.db", f"/crm_{name}.db")
    for word in ("cdc_capture", "cdc_apply"):
        text = text.replace(word, f"{word}_{name}")
    (folder / "connections.yaml").write_text(text, encoding="utf-8")
    for word in ("crm", "portal"):
        config = (SHIPPED / f"{word}.json").read_text(encoding="utf-8")
        config = config.replace(f'"{word}"', f'"{word}_{name}"').replace(f"cdc_{word}", f"cdc_{word}_{name}")
        (folder / f"{word}.json").write_text(config, encoding="utf-8")
    billing = json.loads((SHIPPED / "billing.json").read_text(encoding="utf-8"))
    for key in ("table.include.list", "signal.data.collection"):
        billing[key] = billing[key].replace("billing.", f"billing_{name}.")
    billing["topic.prefix"] = f"billing_{name}"
    billing["schema.history.internal.kafka.topic"] = f"schema-history.billing_{name}"
    billing["database.server.id"] = str(100_000 + int(name, 16) % 1_000_000)
    (folder / "billing.json").write_text(json.dumps(billing, indent=2), encoding="utf-8")
    return load(folder / "connections.yaml", {"CDC_STACK_HOME": str(stack.home.path)})


def _remove(world: ControlWorld) -> None:
    remove_connectors(world)
    with world.admin_pg("postgres") as admin:
        sources = [world.pg.database, world.portal.database]
        admin.execute(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = ANY(%s)", (sources,)
        )
        for database in (*sources, f"hub_{world.name}"):
            admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(database)))
        for role in ("cdc_capture", "cdc_apply"):
            admin.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(f"{role}_{world.name}")))
    with world.admin_maria() as connection, connection.cursor() as cursor:
        for database in (world.maria.database, f"reports_{world.name}"):
            cursor.execute(f"DROP DATABASE {database}")
        for user in ("cdc_capture", "cdc_apply"):
            cursor.execute(f"DROP USER {user}_{world.name}@'%'")
    admin_client = KafkaAdminClient(bootstrap_servers=world.stack.endpoints.kafka)
    try:
        admin_client.delete_topics([topic for topic in admin_client.list_topics() if world.name in topic])
    finally:
        admin_client.close()


def remove_connectors(world: ControlWorld) -> None:
    """All of this world, and wait until their tasks have let go of the database."""
    with world.connect() as connect:
        for name in connect.names():
            if world.name in name:
                connect.delete(name)
        until(lambda: not [name for name in connect.statuses() if world.name in name], "the connectors are gone")
    until(lambda: not _sessions(world), "their sessions have ended")


def _sessions(world: ControlWorld) -> bool:
    with world.admin_pg("postgres") as admin:
        query = "SELECT FROM pg_stat_activity WHERE usename = %s AND application_name LIKE 'Debezium%%'"
        return admin.execute(query, (world.pg.user,)).fetchone() is not None


def until(condition: Callable[[], bool], what: str, deadline_s: float = 60.0) -> None:
    """Wait for a condition, without guessing how long it takes."""
    pause = threading.Event()
    end = time.monotonic() + deadline_s
    while True:
        with suppress(CdcError):
            if condition():
                return
        assert time.monotonic() < end, f"not within {deadline_s:.0f} s: {what}"
        pause.wait(0.1)
