"""A MariaDB source of the fault tests: one table, a connector like the shipped one."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pymysql
from kafka import KafkaAdminClient

from cdc.settings import load
from cdc.stack import Stack
from tests.faults.source import Source, connections_text
from tests.fix_stack import Database, new_mariadb_database

SHIPPED = Path("connect-configs/billing.json")
_TABLES = (
    "CREATE TABLE items"
    " (id bigint PRIMARY KEY, name varchar(60) NOT NULL, amount decimal(12,2), big text, rev int NOT NULL)",
    "CREATE TABLE debezium_signal (id varchar(42) PRIMARY KEY, type varchar(32) NOT NULL, data varchar(2048))",
)


@dataclass
class MariadbSource(Source):
    """Its `database` is MariaDB's; it has `items` only."""

    @property
    def entry(self) -> str:
        at = self.stack.endpoints.mariadb
        return f"""
  {self.name}:
    kind: mariadb
    host: {at.host}
    port: {at.port}
    database: {self.database.name}
    user: {at.user}
    password: ${{file:{self.stack.endpoints.secrets_file}:mariadb.password}}
    connector: {self.name}.json
"""

    def run(self, *statements: str) -> None:
        """Each one a transaction of its own."""
        with self._connected() as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def texts(self) -> dict[str, tuple[Any, ...]]:
        """The rows of `items` as text, by key."""
        with self._connected() as connection, connection.cursor() as cursor:
            cursor.execute("SELECT CAST(id AS char), name, CAST(amount AS char), big, CAST(rev AS char) FROM items")
            return {row[0]: tuple(row) for row in cursor.fetchall()}

    def _connected(self) -> pymysql.Connection[Any]:
        return pymysql.connect(**self.database.arguments, autocommit=True)  # type: ignore[call-overload,no-any-return]


@contextmanager
def captured_mariadb(stack: Stack, name: str, folder: Path, **settings: str) -> Iterator[MariadbSource]:
    """A registered source without rows; connector and topics go at the end. `settings` change the connector's (`__` for
    a dot)."""
    with new_mariadb_database(stack.endpoints.mariadb) as database:
        made = _unregistered(stack, database, name, folder, settings)
        made.run(*_TABLES)
        made.register()
        try:
            yield made
        finally:
            with made.connect() as connect:
                connect.delete(name)
            client = KafkaAdminClient(bootstrap_servers=stack.endpoints.kafka)
            try:
                client.delete_topics([topic for topic in client.list_topics() if name in topic])
            finally:
                client.close()


def _unregistered(
    stack: Stack, database: Database, name: str, folder: Path, settings: Mapping[str, str]
) -> MariadbSource:
    config = json.loads(SHIPPED.read_text(encoding="utf-8"))
    config |= {
        "database.server.id": str(200_000 + int.from_bytes(os.urandom(2))),
        "topic.prefix": name,
        "table.include.list": f"{database.name}.items",
        "signal.data.collection": f"{database.name}.debezium_signal",
        "schema.history.internal.kafka.topic": f"schema-history.{name}",
        "topic.creation.default.partitions": "2",
    }
    config |= {key.replace("__", "."): value for key, value in settings.items()}
    text = json.dumps(config).replace("${stack:secrets}", str(stack.endpoints.secrets_file))
    (folder / f"{name}.json").write_text(text, encoding="utf-8")
    connections = folder / f"{name}.source.yaml"
    made = MariadbSource(stack, database, name, folder, None, "root", database.name)  # type: ignore[arg-type]
    connections.write_text(connections_text(stack, made.entry, ""), encoding="utf-8")
    made.settings = load(connections)
    return made
