"""The benchmark's own stack: sources with their topics filled once, and targets made anew for every run."""

from __future__ import annotations

import json
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition

from cdc.control.caught_up import wait_captured
from cdc.control.connect import Connect
from cdc.control.registration import plan, register
from cdc.db.source import connect_source
from cdc.settings import Settings, load
from cdc.stack import Stack
from tests.bench.workloads import Workload

SHIPPED = Path("connect-configs/crm.json")
_CAPTURE_S = 1200.0


@dataclass
class Source:
    """One source database with its connector and topics."""

    world: World
    name: str
    tables: dict[str, str]
    partitions: int = 4
    ends: dict[tuple[str, int], int] = field(default_factory=dict)  # once its topics are filled
    record_bytes: int = 0  # on average, as they come from Kafka
    stored_bytes: int = 0  # of all records as the broker keeps and sends them, compressed

    @property
    def topics(self) -> list[str]:
        return [f"{self.name}.public.{table}" for table in self.tables]

    @property
    def records(self) -> int:
        return sum(self.ends.values())

    @property
    def dsn(self) -> str:
        return self.world.dsn(self.name)

    @property
    def settings(self) -> Settings:
        return load(self.world.connections(self))

    def fill(self, first: tuple[str, ...], then: tuple[str, ...]) -> None:
        """Rows, the connector that reads them, then changes."""
        self.world.make_database(self.name)
        signal = "id varchar(42) PRIMARY KEY, type varchar(32) NOT NULL, data varchar(2048)"
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            for table, definition in {**self.tables, "debezium_signal": signal}.items():
                connection.execute(f"CREATE TABLE {table} ({definition})".encode())
            for statement in first:
                connection.execute(statement.encode())
            names = ", ".join([*self.tables, "debezium_signal"])
            connection.execute(f"CREATE PUBLICATION {self.name} FOR TABLE {names}".encode())
        config = json.loads(SHIPPED.read_text(encoding="utf-8")) | {
            "topic.prefix": self.name,
            "table.include.list": ",".join(f"public.{table}" for table in self.tables),
            "slot.name": self.name,
            "publication.name": self.name,
            "topic.creation.default.partitions": str(self.partitions),
        }
        text = json.dumps(config).replace("${stack:secrets}", str(self.world.stack.endpoints.secrets_file))
        (self.world.folder / f"{self.name}.json").write_text(text, encoding="utf-8")
        settings = self.settings
        with Connect(settings.connect) as connect:
            register(plan(settings, settings.source(self.name), connect), connect)
        self.captured()
        if then:
            with psycopg.connect(self.dsn, autocommit=True) as connection:
                for statement in then:
                    connection.execute(statement.encode())
            self.captured()
        self.look()

    def captured(self) -> None:
        settings = self.settings
        database = connect_source(settings.source(self.name))
        try:
            with Connect(settings.connect) as connect:
                wait_captured(database, connect, self.name, deadline_s=_CAPTURE_S)
        finally:
            database.close()

    def look(self) -> None:
        """Learn where the topics end, how long their records are, and what they take in the broker."""
        consumer = KafkaConsumer(bootstrap_servers=self.world.stack.endpoints.kafka)
        try:
            self.ends = self.ends_now(consumer)
            filled = [TopicPartition(*place) for place, end in self.ends.items() if end]
            consumer.assign(filled[:8])
            consumer.seek_to_beginning()
            sizes: list[int] = []
            while len(sizes) < min(100, self.records):
                found = consumer.poll(timeout_ms=1000, max_records=100)
                sizes += [len(record.value or b"") for records in found.values() for record in records]
            self.record_bytes = sum(sizes) // max(len(sizes), 1)
        finally:
            consumer.close()
        logs = self.world.stack.home.kafka_data.glob(f"{self.name}.public.*-*/*.log")
        self.stored_bytes = sum(log.stat().st_size for log in logs)

    def ends_now(self, consumer: KafkaConsumer) -> dict[tuple[str, int], int]:
        """(topic, partition) → the offset after its last record, of those topics that exist."""
        known = set(consumer.topics())
        topics = [topic for topic in self.topics if topic in known]
        parts = [TopicPartition(topic, part) for topic in topics for part in range(self.partitions)]
        return {(part.topic, part.partition): end for part, end in consumer.end_offsets(parts).items()}

    def stop(self) -> None:
        """Its connector reads no more: it would cost every contender CPU."""
        with Connect(self.settings.connect) as connect:
            connect.delete(self.name)
        with psycopg.connect(self.world.dsn("postgres"), autocommit=True) as admin:
            slots = "FROM pg_replication_slots WHERE database = %s"
            admin.execute(f"SELECT pg_terminate_backend(active_pid, 5000) {slots} AND active", [self.name])
            admin.execute(f"SELECT pg_drop_replication_slot(slot_name) {slots}", [self.name])


@dataclass
class World:
    """A stack in a folder of its own."""

    stack: Stack
    folder: Path
    sources: dict[str, Source] = field(default_factory=dict)

    def dsn(self, database: str) -> str:
        return self.stack.endpoints.postgres.url("postgresql", database)

    def make_database(self, name: str) -> None:
        with psycopg.connect(self.dsn("postgres"), autocommit=True) as admin:
            admin.execute(f"CREATE DATABASE {name}".encode())

    def drop_database(self, name: str) -> None:
        with psycopg.connect(self.dsn("postgres"), autocommit=True) as admin:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())
            admin.execute("CHECKPOINT")  # what it wrote must not be paid for by the next contender

    def source_of(self, workload: Workload) -> Source:
        """The workload's source, its topics filled."""
        found = self.sources.get(workload.source)
        if found is None:
            found = Source(self, workload.source, workload.tables, workload.partitions)
            found.fill(workload.fill, workload.changes)
            found.stop()
            self.sources[workload.source] = found
        return found

    def drop(self, source: Source) -> None:
        """Its topics and database go: what is kept would weigh on the next contenders."""
        self.sources.pop(source.name, None)
        with closing(self.admin()) as admin:
            admin.delete_topics([topic for topic in admin.list_topics() if topic.startswith(f"{source.name}.")])
        self.drop_database(source.name)

    @contextmanager
    def target(self) -> Iterator[str]:
        """The name of an empty database."""
        name = f"target_{uuid.uuid4().hex[:8]}"
        self.make_database(name)
        try:
            yield name
        finally:
            self.drop_database(name)

    def connections(self, source: Source, target: str = "", target_port: int | None = None) -> Path:
        """A connections.yaml for this source and target database. `target_port`: by which the target is reached."""
        at = self.stack.endpoints
        postgres: dict[str, Any] = {
            "kind": "postgresql",
            "host": at.postgres.host,
            "port": at.postgres.port,
            "user": at.postgres.user,
            "password": f"${{file:{at.secrets_file}:postgres.password}}",
        }
        found = {
            "kafka": {"bootstrap": at.kafka},
            "connect": {"url": at.connect_url},
            "sources": {source.name: {**postgres, "database": source.name, "connector": f"{source.name}.json"}},
            "targets": {
                "hub": {**postgres, "port": target_port or at.postgres.port, "database": target or source.name}
            },
        }
        path = self.folder / f"{source.name}.{target or 'source'}.yaml"
        path.write_text(json.dumps(found), encoding="utf-8")  # JSON is YAML
        return path

    def admin(self) -> KafkaAdminClient:
        return KafkaAdminClient(bootstrap_servers=self.stack.endpoints.kafka)


@contextmanager
def new_world(*, durable: bool = False) -> Iterator[World]:
    """A stack that is stopped and removed at the end. Its databases wait for the disk only if `durable`: else the disk
    is no part of the comparison. Either way every contender commits to the same server."""
    folder = Path(tempfile.mkdtemp(prefix="cdc-bench-"))
    folder.chmod(0o755)
    stack = Stack(folder / "stack")
    try:
        stack.up(["kafka", "connect", "postgres"], fast=not durable, jdbc_sink=True)
        yield World(stack, folder)
    finally:
        stack.reset(execute=True)
        shutil.rmtree(folder, ignore_errors=True)
