"""A pipeline of the fault tests that delivers into a MariaDB database of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pymysql

from cdc.demo.prepare import APPLIER_RIGHTS
from tests.faults.pipeline import Pipeline, by_key, write_mapping
from tests.faults.source import COLUMNS, REFUSED, Source, connections_text
from tests.faults.topics import Place
from tests.fix_stack import new_mariadb_database
from tests.waiting import eventually

_EXACT = "CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin"
_FALL = (
    "CREATE TRIGGER {0}_fall BEFORE UPDATE ON {0} FOR EACH ROW IF NEW._cdc_position < OLD._cdc_position THEN"
    " INSERT INTO falls VALUES ('{0}', OLD._cdc_position, NEW._cdc_position); END IF"
)
_TABLES = (
    f"CREATE TABLE items (id bigint PRIMARY KEY, name varchar(200) NOT NULL CHECK (name <> '{REFUSED}'),"
    f" amount decimal(12,2), big longtext, rev int NOT NULL, _cdc_position varbinary(22)) {_EXACT}",
    "CREATE TABLE `lines` (item_id bigint, line_no int, body longtext, big longtext, _cdc_position varbinary(22),"
    f" PRIMARY KEY (item_id, line_no)) {_EXACT}",
    "CREATE TABLE falls (relation text, was varbinary(22), became varbinary(22))",
    _FALL.format("items"),
    _FALL.format("`lines`").replace("`lines`_fall", "lines_fall").replace("'`lines`'", "'lines'"),
)
"""As the PostgreSQL target's tables: a constraint that refuses a name, and a watch on positions (I3)."""


@dataclass
class MariaDbPipeline(Pipeline):
    """`database` is the target's: tables and state."""

    @property
    def schema(self) -> str:
        return self.database.name

    @property
    def user(self) -> str:
        return f"apply_{self.database.name}"

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with pymysql.connect(**self.database.arguments, autocommit=True) as connection, connection.cursor() as cursor:
            cursor.execute(query, values or None)
            return list(cursor.fetchall())

    def run(self, *statements: str) -> None:
        for statement in statements:
            self.rows(statement)

    def gone(self) -> None:
        query = "SELECT id FROM information_schema.processlist WHERE user = %s"
        eventually(lambda: not self.rows(query, self.user), 20, f"{self.name}: no session of a worker is left")

    def state_exists(self) -> bool:
        return bool(self.rows("SHOW TABLES LIKE 'cdc_audit'"))

    def watermarks(self) -> dict[Place, int]:
        if not self.state_exists():
            return {}
        query = "SELECT topic, partition_number, next_offset FROM cdc_watermark WHERE pipeline = %s"
        return {(topic, at): offset for topic, at, offset in self.rows(query, self.name) if offset is not None}

    def parked(self) -> list[tuple[str, tuple[Any, ...] | None, str]]:
        found = self.rows("SELECT mapping, hold, reason FROM cdc_parked WHERE pipeline = %s ORDER BY id", self.name)
        return [(m.rpartition(".")[2], tuple(json.loads(hold)) if hold else None, reason) for m, hold, reason in found]

    def texts(self, table: str) -> dict[tuple[Any, ...], tuple[Any, ...]]:
        columns = ", ".join(f"CAST({column} AS CHAR)" for column in COLUMNS[table])
        return by_key(table, self.rows(f"SELECT {columns} FROM `{table}`"))

    def tallied(self) -> list[tuple[str, int, str, str, int]]:
        query = "SELECT topic, partition_number, outcome, reason, number FROM cdc_tally WHERE pipeline = %s"
        return self.rows(query, self.name)

    def falls(self) -> list[tuple[Any, ...]]:
        return self.rows("SELECT * FROM falls LIMIT 5")


@contextmanager
def new_mariadb_pipeline(
    source: Source,
    name: str,
    tables: tuple[str, ...] = ("items", "lines"),
    *,
    rows: int = 40,
    options: Sequence[str] = ("parked: {max: 1000000}",),
) -> Iterator[MariaDbPipeline]:
    """A pipeline with an empty target, nothing running; its account may do there what an applier must, no more. At the
    end its workers are killed and the target dropped."""
    stack = source.stack
    at = stack.endpoints.mariadb
    with new_mariadb_database(at) as database:
        pipeline = MariaDbPipeline(source, name, database, source.folder, tables)
        write_mapping(pipeline, rows, options)
        target = f"""
  hub:
    kind: mariadb
    host: {at.host}
    port: {at.port}
    database: {database.name}
    user: {pipeline.user}
    password: ${{file:{stack.endpoints.secrets_file}:mariadb.password}}
"""
        text = connections_text(stack, source.entry, target)
        pipeline.connections_file.write_text(text, encoding="utf-8")
        account = f"{pipeline.user}@'127.0.0.1'"
        pipeline.run(
            *_TABLES,
            f"CREATE USER {account} IDENTIFIED BY '{at.password}'",
            f"GRANT {APPLIER_RIGHTS} ON {database.name}.* TO {account}",
        )
        try:
            yield pipeline
        finally:
            pipeline.kill_all()
            pipeline.gone()
            pipeline.run(f"DROP USER {account}")
