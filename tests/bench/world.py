"""The stack, the source database, and topics filled once by Debezium with the settings of connect-configs/crm.json."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from psycopg import sql

from cdc.control.connect import Connect
from cdc.settings import ConnectSettings
from cdc.stack import Stack
from tests.bench.targets import Databases, Incomplete
from tests.bench.usage import OWN
from tests.bench.workloads import SENTINEL, Workload

CRM = Path(__file__).parents[2] / "connect-configs" / "crm.json"
SOURCE = "bench_source"
_CAPTURE_S = 900.0


@dataclass(frozen=True)
class Filled:
    """One filled set of topics. `markers`: by table, the last rows; `records` by table; `bytes` of the values, plain
    (`estimated` from the last records) and as they lie in the broker's files."""

    prefix: str
    records: dict[str, int]
    markers: dict[str, list[int]]
    record_bytes: int
    stored_bytes: int
    seconds: float

    @property
    def total(self) -> int:
        return sum(self.records.values())

    @property
    def topics(self) -> list[str]:
        return [f"{self.prefix}.public.{table}" for table in self.records]


@dataclass
class World:
    """Everything a contender needs to know of where it runs."""

    stack: Stack
    databases: Databases
    connect: Connect
    folder: Path
    say: Callable[[str], None] = print
    stamp: int = field(default_factory=lambda: int(time.time()))
    placeholder: str = field(default_factory=lambda: json.loads(CRM.read_text())["unavailable.value.placeholder"])

    @property
    def kafka(self) -> str:
        return self.stack.endpoints.kafka

    def pid(self, part: str) -> int:
        run = self.stack.home.run(part)
        assert run is not None
        return run.pid

    def source(self) -> psycopg.Connection:
        return psycopg.connect(self.databases.dsn_of(SOURCE), autocommit=True, application_name=OWN)

    def prefix(self, name: str) -> str:
        """A source's name of this run (a stack that is used again still has the topics of the last one)."""
        return f"b{self.stamp}_{name}"

    # -- filling topics

    def fill(self, workload: Workload) -> list[Filled]:
        """The workload's topics: [snapshot], or [snapshot, stream] for one that goes on changing."""
        self.say(f"filling: {workload.name}, {len(workload.tables)} tables, {workload.rows:,} rows")
        with self.source() as source:
            for table in workload.tables:
                source.execute(table.create())
                source.execute(table.fill())
        names = [table.name for table in workload.tables]
        rows = {table.name: table.rows for table in workload.tables}
        prefix = self.prefix(workload.name)
        with self.captured(prefix, names, partitions=workload.partitions) as began:
            filled = [self._wait(prefix, rows, began)]
        if workload.stream:
            filled.append(self._stream(workload, names))
        return filled

    def _stream(self, workload: Workload, names: Sequence[str]) -> Filled:
        prefix = self.prefix(workload.name) + "_stream"
        with self.source() as source, self.captured(prefix, names, {"snapshot.mode": "no_data"}):
            self.connect.wait_running(prefix, 60, settle_s=3)
            began = time.monotonic()
            source.execute(workload.setup)
            source.execute(workload.changes)
            for table in workload.tables:
                source.execute(table.add_sentinels())
            return self._wait_sentinels(prefix, names, began)

    @contextmanager
    def captured(
        self, prefix: str, tables: Sequence[str], settings: dict[str, str] | None = None, partitions: int = 4
    ) -> Iterator[float]:
        """A source connector for as long as the block runs; its topics stay, its slot goes. Yields when it began."""
        with self.source() as source:
            signal = sql.SQL("CREATE TABLE IF NOT EXISTS public.debezium_signal (id text PRIMARY KEY, type text, data text)")
            source.execute(signal)
            wanted = sql.SQL(", ").join(sql.Identifier("public", name) for name in (*tables, "debezium_signal"))
            source.execute(sql.SQL("CREATE PUBLICATION {} FOR TABLE {}").format(sql.Identifier(prefix), wanted))
        config = self._config(prefix, tables) | {"topic.creation.default.partitions": str(partitions)} | (settings or {})
        began = time.monotonic()
        self.connect.put_config(prefix, config)
        try:
            yield began
        finally:
            self.connect.stop(prefix)
            self.connect.wait_stopped(prefix)
            self.connect.delete(prefix)
            with self.source() as source:
                source.execute(
                    "SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots"
                    " WHERE slot_name = %s AND active",
                    [prefix],
                )
                source.execute("SELECT pg_drop_replication_slot(%s)", [prefix])

    def _config(self, prefix: str, tables: Sequence[str]) -> dict[str, str]:
        """connect-configs/crm.json for this database."""
        at = self.stack.endpoints.postgres
        text = CRM.read_text()
        for reference, value in {
            "${source:host}": at.host,
            "${source:port}": str(at.port),
            "${source:user}": at.user,
            "${source:database}": SOURCE,
            "${stack:secrets}": str(self.stack.endpoints.secrets_file),
        }.items():
            text = text.replace(reference, value)
        config: dict[str, str] = json.loads(text)
        return config | {
            "topic.prefix": prefix,
            "table.include.list": ",".join(f"public.{name}" for name in tables),
            "slot.name": prefix,
            "publication.name": prefix,
        }

    # -- looking at topics

    def _wait(self, prefix: str, rows: dict[str, int], began: float) -> Filled:
        deadline = time.monotonic() + _CAPTURE_S
        with self.reader() as reader:
            for table, number in rows.items():
                while sum(end for _, end in self.ends(reader, f"{prefix}.public.{table}")) < number:
                    if time.monotonic() > deadline:
                        raise Incomplete(f"{prefix}.public.{table} was not filled in {_CAPTURE_S:.0f} s")
                    self.connect.wait_running(prefix, 60)
                    time.sleep(0.2)
            return self._filled(reader, prefix, list(rows), time.monotonic() - began)

    def _wait_sentinels(self, prefix: str, names: Sequence[str], began: float) -> Filled:
        """A stream's topics are full when the last record of every partition is a sentinel's, and no more come."""
        deadline = time.monotonic() + _CAPTURE_S
        with self.reader() as reader:
            while time.monotonic() < deadline:
                try:
                    filled = self._filled(reader, prefix, names, time.monotonic() - began)
                except Incomplete:
                    time.sleep(1)
                    continue
                if all(min(ids) >= SENTINEL for ids in filled.markers.values()):
                    time.sleep(1)
                    if self._filled(reader, prefix, names, 0).total == filled.total:
                        return filled
                time.sleep(0.5)
        raise Incomplete(f"{prefix} was not filled in {_CAPTURE_S:.0f} s")

    @contextmanager
    def reader(self) -> Iterator[Consumer]:
        reader = Consumer({"bootstrap.servers": self.kafka, "group.id": "bench-look", "enable.auto.commit": False})
        try:
            yield reader
        finally:
            reader.close()

    def ends(self, reader: Consumer, topic: str) -> list[tuple[int, int]]:
        """(partition, end offset) of a topic; [] while it does not exist."""
        found = reader.list_topics(topic, timeout=10).topics[topic]
        if found.error is not None:
            return []
        try:
            return [
                (number, reader.get_watermark_offsets(TopicPartition(topic, number), timeout=10)[1])
                for number in sorted(found.partitions)
            ]
        except KafkaException:  # it was created this moment
            return []

    def _filled(self, reader: Consumer, prefix: str, tables: Sequence[str], seconds: float) -> Filled:
        records: dict[str, int] = {}
        markers: dict[str, list[int]] = {}
        size = 0.0
        for table in tables:
            topic = f"{prefix}.public.{table}"
            ends = [(number, end) for number, end in self.ends(reader, topic) if end > 0]
            if not ends:
                raise Incomplete(f"{topic} is empty")
            records[table] = sum(end for _, end in ends)
            markers[table] = []
            for number, end in ends:
                key, length = self._last(reader, topic, number, end)
                markers[table].append(key)
                size += end * length
        return Filled(prefix, records, markers, round(size / sum(records.values())), self._stored(prefix), seconds)

    def _last(self, reader: Consumer, topic: str, partition: int, end: int) -> tuple[int, int]:
        """Key and size of a partition's last record."""
        reader.assign([TopicPartition(topic, partition, end - 1)])
        message = reader.poll(10)
        if message is None or message.error():
            raise Incomplete(f"cannot read {topic}:{partition}:{end - 1}")
        return json.loads(message.key())["payload"]["id"], len(message.value() or b"")

    def _stored(self, prefix: str) -> int:
        folders = self.stack.home.kafka_data.glob(f"{prefix}.public.*")
        return sum(file.stat().st_size for folder in folders for file in folder.glob("*.log"))

    def create_topic(self, topic: str, partitions: int = 4) -> None:
        admin = AdminClient({"bootstrap.servers": self.kafka})
        for made in admin.create_topics([NewTopic(topic, partitions, 1)]).values():
            made.result()


@contextmanager
def new_world(say: Callable[[str], None]) -> Iterator[World]:
    """A stack with the JDBC sink and an empty source database; all of it goes at the end."""
    given = os.environ.get("CDC_BENCH_STACK")
    with tempfile.TemporaryDirectory(prefix="cdc-bench-") as name:
        folder = Path(name)
        stack = Stack(Path(given) if given else folder / "stack")
        try:
            say("starting Kafka, Connect and PostgreSQL")
            stack.up(["kafka", "connect", "postgres"], jdbc_sink=True, fast=None if given else False)
            _keep_commit_times(stack)
            databases = Databases(stack.endpoints.postgres_dsn)
            with Connect(ConnectSettings(url=stack.endpoints.connect_url)) as connect:
                for left in connect.names():
                    connect.delete(left)
                databases.create(SOURCE)
                try:
                    yield World(stack, databases, connect, folder, say)
                finally:
                    for left in connect.names():
                        connect.delete(left)
                    databases.drop_all()
        finally:
            if not given:
                stack.reset(execute=True)


def _keep_commit_times(stack: Stack) -> None:
    with psycopg.connect(stack.endpoints.postgres_dsn(), autocommit=True) as admin:
        if admin.execute("SHOW track_commit_timestamp").fetchone() == ("on",):
            return
        admin.execute("ALTER SYSTEM SET track_commit_timestamp = on")
    stack.restart("postgres")
