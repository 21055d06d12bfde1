"""A PostgreSQL source of the fault tests: two tables, a connector like the shipped one, and somebody who writes.

items   one key; `big` is stored outside the row, so that an update that keeps it sends no value for it
lines   a key of two columns
shapes  a table for changes of its definition; nothing writes to it by itself
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import psycopg
from kafka import KafkaAdminClient
from psycopg import sql

from cdc.control.caught_up import wait_captured
from cdc.control.connect import Connect
from cdc.control.registration import plan, register
from cdc.db.source import connect_source
from cdc.settings import Settings, load
from cdc.stack import Stack
from tests.fix_stack import Database
from tests.waiting import eventually

SHIPPED = Path("connect-configs/crm.json")
REFUSED = "refused"  # a name that the target's tables do not take
COLUMNS = {
    "items": ("id", "name", "amount", "big", "rev"),
    "lines": ("item_id", "line_no", "body", "big"),
    "shapes": ("id", "a", "b"),
}
KEYS = {"items": ("id",), "lines": ("item_id", "line_no"), "shapes": ("id",)}
_TABLES = """
CREATE TABLE items (id bigint PRIMARY KEY, name text NOT NULL, amount numeric(12,2), big text, rev int NOT NULL);
ALTER TABLE items ALTER big SET STORAGE EXTERNAL;
CREATE TABLE lines (item_id bigint, line_no int, body text, big text, PRIMARY KEY (item_id, line_no));
ALTER TABLE lines ALTER big SET STORAGE EXTERNAL;
CREATE TABLE shapes (id bigint PRIMARY KEY, a int, b text);
CREATE TABLE debezium_signal (id varchar(42) PRIMARY KEY, type varchar(32) NOT NULL, data varchar(2048));
"""
_BIG = "repeat(md5(%s::text), 120)"  # 3840 characters: beyond what stays in the row
_LARGE_ENOUGH = 50


@dataclass
class Source:
    """A captured database. `name` is its connector and the first word of its topics, `role` the account it reads by."""

    stack: Stack
    database: Database
    name: str
    folder: Path
    settings: Settings
    role: str
    namespace: str = "public"

    @property
    def entry(self) -> str:
        """Its entry in connections.yaml."""
        return source_text(self.stack, self.name, self.database.name, self.role)

    def topic(self, table: str) -> str:
        return f"{self.name}.{self.namespace}.{table}"

    def connection(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self.database.dsn, autocommit=True)

    def run(self, *statements: str) -> None:
        with self.connection() as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def seed(self, items: int) -> None:
        """`items` rows of that table and twice as many lines, in one transaction."""
        with self.connection() as connection, connection.transaction():
            connection.execute(
                "INSERT INTO items SELECT n, 'item ' || n, n / 7.0, CASE WHEN n %% 3 > 0 THEN repeat(md5(n::text), 120)"
                " END, 0 FROM generate_series(1, %s) n",
                (items,),
            )
            connection.execute(
                "INSERT INTO lines SELECT n, l, 'line', CASE WHEN n %% 2 = 0 THEN repeat(md5(n::text), 120) END"
                " FROM generate_series(1, %s) n, generate_series(1, 2) l",
                (items,),
            )

    def connect(self) -> Connect:
        return Connect(self.settings.connect)

    def register(self) -> None:
        """The connector, checked and put as `cdc source register` does it."""
        with self.connect() as connect:
            register(plan(self.settings, self.settings.source(self.name), connect), connect)

    def captured(self, deadline_s: float = 150.0) -> None:
        """Wait until everything that is committed now is in Kafka."""
        database = connect_source(self.settings.source(self.name))
        try:
            with self.connect() as connect:
                wait_captured(database, connect, self.name, deadline_s=deadline_s)
        finally:
            database.close()


@contextmanager
def captured_source(
    stack: Stack, database: Database, name: str, folder: Path, *, items: int, **settings: str
) -> Iterator[Source]:
    """A registered source with `items` rows; `settings` change the connector's (`__` for a dot)."""
    made = unregistered_source(stack, database, name, folder, **settings)
    try:
        made.seed(items)
        made.register()
        yield made
    finally:
        remove(made)


def unregistered_source(stack: Stack, database: Database, name: str, folder: Path, **settings: str) -> Source:
    """Role, tables, publication and files; no rows and no connector yet."""
    role = f"capture_{name}"
    with psycopg.connect(database.dsn, autocommit=True) as admin:
        admin.execute(_TABLES.encode())
        _make_role(admin, role, "LOGIN REPLICATION", stack.endpoints.postgres.password)
        admin.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}".encode())
        admin.execute(f"GRANT INSERT, UPDATE, DELETE ON debezium_signal TO {role}".encode())
        admin.execute(f"CREATE PUBLICATION {name} FOR TABLE items, lines, shapes, debezium_signal".encode())
    config = json.loads(SHIPPED.read_text(encoding="utf-8"))
    config |= {
        "topic.prefix": name,
        "table.include.list": "public.items,public.lines,public.shapes",
        "slot.name": name,
        "publication.name": name,
        "topic.creation.default.partitions": "2",
    }
    config |= {key.replace("__", "."): value for key, value in settings.items()}
    (folder / f"{name}.json").write_text(
        json.dumps(config).replace("${stack:secrets}", str(stack.endpoints.secrets_file)), encoding="utf-8"
    )
    connections = folder / "source.yaml"
    connections.write_text(connections_text(stack, source_text(stack, name, database.name, role), ""), encoding="utf-8")
    return Source(stack, database, name, folder, load(connections), role)


def remove(source: Source) -> None:
    """Connector, topics, slot; the database is its fixture's."""
    with source.connect() as connect:
        if source.name in connect.names():
            connect.delete(source.name)
    with psycopg.connect(source.stack.endpoints.postgres_dsn(), autocommit=True) as admin:
        slots = "FROM pg_replication_slots WHERE database = %s"
        eventually(
            lambda: not admin.execute(f"SELECT {slots} AND active", [source.database.name]).fetchall(),
            30,
            "the slot is free",
        )
        admin.execute(f"SELECT pg_drop_replication_slot(slot_name) {slots}", [source.database.name])
        with psycopg.connect(source.database.dsn, autocommit=True) as there:
            there.execute(f"DROP OWNED BY capture_{source.name}".encode())
        admin.execute(f"DROP ROLE IF EXISTS capture_{source.name}".encode())
    client = KafkaAdminClient(bootstrap_servers=source.stack.endpoints.kafka)
    try:
        client.delete_topics([topic for topic in client.list_topics() if source.name in topic])
    finally:
        client.close()


def _make_role(admin: psycopg.Connection[Any], role: str, can: str, password: str) -> None:
    admin.execute(
        sql.SQL("CREATE ROLE {} {} PASSWORD {}").format(sql.Identifier(role), sql.SQL(can), sql.Literal(password))
    )


def source_text(stack: Stack, name: str, database: str, user: str) -> str:
    """A source's entry in connections.yaml."""
    at = stack.endpoints.postgres
    return f"""
  {name}:
    kind: postgresql
    host: {at.host}
    port: {at.port}
    database: {database}
    user: {user}
    password: ${{file:{stack.endpoints.secrets_file}:postgres.password}}
    connector: {name}.json
"""


def connections_text(stack: Stack, sources: str, targets: str, kafka: str | None = None) -> str:
    """A connections.yaml."""
    at = stack.endpoints
    text = f"kafka:\n  bootstrap: {kafka or at.kafka}\nconnect:\n  url: {at.connect_url}\nsources:{sources}\n"
    return text + (f"targets:{targets}\n" if targets else "")


@dataclass
class Writer:
    """Writes to a source until stopped: every kind of change, several a transaction, some overlapping, some rolled
    back. Deterministic but for timing. A lost connection is made anew, and the keys are read again.

    It hurries while a test waits in `wrote`, and only trickles otherwise: what it writes, every pipeline must read.
    """

    source: Source
    seed: int = 1
    pause_s: float = 0.01
    trickle_s: float = 0.1
    refused: bool = False  # now and then a name that the target refuses
    committed: int = 0
    _keys: list[int] = field(default_factory=list)
    _next: int = 0
    _error: Exception | None = None

    def __post_init__(self) -> None:
        self._chance = Random(self.seed)
        self._stop = threading.Event()
        self._wanted = 0
        self._thread = threading.Thread(target=self._work, name="writer")

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(60)
        if self._error is not None:
            raise self._error

    def wrote(self, more: int, deadline_s: float = 30.0) -> None:
        """Wait until it has committed so many transactions more."""
        self._wanted = self.committed + more

        def enough() -> bool:
            assert self._error is None, self._error
            return self.committed >= self._wanted

        eventually(enough, deadline_s, f"{more} transactions of the writer")

    def _work(self) -> None:
        try:
            while not self._stop.is_set():
                with suppress(psycopg.OperationalError):
                    self._write()
                self._stop.wait(0.1)
        except Exception as error:
            self._error = error

    def _write(self) -> None:
        kinds: list[tuple[int, Callable[[psycopg.Connection[Any]], None]]] = [
            (20, self._update),
            (8, self._update_many),
            (6, self._rewrite_big),
            (14, self._insert),
            (5, self._delete),
            (5, self._move),
            (4, self._move_line),
            (4, self._replace),
            (3, self._roll_back),
            (3, self._overlap),
        ]
        with self.source.connection() as connection:
            self._keys = [key for (key,) in connection.execute("SELECT id FROM items ORDER BY id")]
            self._next = max(self._keys, default=0) + self._chance.randint(1, 5)
            while not self._stop.wait(self.pause_s if self.committed < self._wanted else self.trickle_s):
                (change,) = self._chance.choices([kind for _, kind in kinds], [weight for weight, _ in kinds])
                change(connection)
                self.committed += 1

    def _any(self) -> int:
        return self._chance.choice(self._keys)

    def _new(self) -> int:
        self._next += 1
        return self._next

    def _update(self, on: psycopg.Connection[Any]) -> None:
        """The large value stays and is not sent."""
        on.execute("UPDATE items SET rev = rev + 1, amount = amount + 0.5 WHERE id = %s", (self._any(),))

    def _update_many(self, on: psycopg.Connection[Any]) -> None:
        with on.transaction():
            on.execute("UPDATE items SET rev = rev + 1 WHERE id %% 31 = %s", (self._chance.randrange(31),))
            on.execute("UPDATE lines SET body = %s WHERE item_id = %s", (f"b{self.committed}", self._any()))

    def _rewrite_big(self, on: psycopg.Connection[Any]) -> None:
        on.execute(f"UPDATE items SET big = {_BIG} WHERE id = %s".encode(), (self.committed, self._any()))
        on.execute(f"UPDATE lines SET big = {_BIG} WHERE item_id = %s".encode(), (self.committed, self._any()))

    def _insert(self, on: psycopg.Connection[Any]) -> None:
        key = self._new()
        name = REFUSED if self.refused and self._chance.random() < 0.1 else f"item {key}"
        with on.transaction():
            on.execute(
                f"INSERT INTO items VALUES (%s, %s, %s, {_BIG}, 0)".encode(), (key, name, self._chance.random(), key)
            )
            on.execute("INSERT INTO lines VALUES (%s, 1, 'first', NULL), (%s, 2, 'second', NULL)", (key, key))
        self._keys.append(key)

    def _delete(self, on: psycopg.Connection[Any]) -> None:
        if len(self._keys) < _LARGE_ENOUGH:
            return self._insert(on)
        key = self._any()
        with on.transaction():
            on.execute("DELETE FROM lines WHERE item_id = %s", (key,))
            on.execute("DELETE FROM items WHERE id = %s", (key,))
        self._keys.remove(key)
        return None

    def _move(self, on: psycopg.Connection[Any]) -> None:
        """A key changes; the large value goes along unsent."""
        old, new = self._any(), self._new()
        with on.transaction():
            on.execute("UPDATE items SET id = %s WHERE id = %s", (new, old))
            on.execute("UPDATE items SET rev = rev + 1 WHERE id = %s", (new,))
        self._keys[self._keys.index(old)] = new

    def _move_line(self, on: psycopg.Connection[Any]) -> None:
        on.execute(
            "UPDATE lines SET line_no = line_no + 100 WHERE (item_id, line_no) ="
            " (SELECT item_id, max(line_no) FROM lines WHERE item_id = %s GROUP BY item_id)",
            (self._any(),),
        )

    def _replace(self, on: psycopg.Connection[Any]) -> None:
        """Deleted and created again under its key, in one transaction."""
        key = self._any()
        with on.transaction():
            on.execute("DELETE FROM items WHERE id = %s", (key,))
            on.execute("INSERT INTO items VALUES (%s, 'again', NULL, NULL, 0)", (key,))

    def _roll_back(self, on: psycopg.Connection[Any]) -> None:
        with on.transaction(force_rollback=True):
            on.execute("DELETE FROM items WHERE id % 2 = 0")

    def _overlap(self, on: psycopg.Connection[Any]) -> None:
        """One transaction begins before and commits after others."""
        with self.source.connection() as other, other.transaction():
            other.execute("UPDATE items SET rev = rev + 100 WHERE id = %s", (self._any(),))
            self._insert(on)
            self._insert(on)
