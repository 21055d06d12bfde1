"""A pipeline of the fault tests whose target is a SQLite file."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.faults.pipeline import Pipeline, by_key, write_mapping
from tests.faults.source import COLUMNS, REFUSED, Source, connections_text
from tests.faults.topics import Place

_TABLES = f"""
CREATE TABLE hub_items (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL CHECK (name <> '{REFUSED}'), amount TEXT, big TEXT,
    rev INTEGER NOT NULL, _cdc_position BLOB) STRICT;
CREATE TABLE hub_lines (
    item_id INTEGER, line_no INTEGER, body TEXT, big TEXT, _cdc_position BLOB, PRIMARY KEY (item_id, line_no)) STRICT;
CREATE TABLE falls (relation TEXT, was BLOB, became BLOB);
CREATE TRIGGER items_fall AFTER UPDATE ON hub_items WHEN new._cdc_position < old._cdc_position
BEGIN INSERT INTO falls VALUES ('items', old._cdc_position, new._cdc_position); END;
CREATE TRIGGER lines_fall AFTER UPDATE ON hub_lines WHEN new._cdc_position < old._cdc_position
BEGIN INSERT INTO falls VALUES ('lines', old._cdc_position, new._cdc_position); END;
"""
"""As the PostgreSQL target's tables: a constraint that refuses a name, and a watch on positions (I3)."""


@dataclass
class SqlitePipeline(Pipeline):
    """The target is `file`; `database` is the source's, which nothing here writes to."""

    @property
    def file(self) -> Path:
        return self.folder / f"{self.name}.db"

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.file, timeout=20)) as connection:
            return connection.execute(query, values).fetchall()

    def run(self, *statements: str) -> None:
        with closing(sqlite3.connect(self.file, isolation_level=None, timeout=20)) as connection:
            for statement in statements:
                connection.execute(statement)

    def gone(self) -> None:
        """A dead process has no locks."""

    def state_exists(self) -> bool:
        return bool(self.rows("SELECT 1 FROM sqlite_master WHERE name = 'cdc_worker'"))

    def watermarks(self) -> dict[Place, int]:
        if not self.state_exists():
            return {}
        found = self.rows(
            "SELECT topic, partition_number, next_offset FROM cdc_watermark WHERE pipeline = ?", self.name
        )
        return {(topic, partition): at for topic, partition, at in found if at is not None}

    def parked(self) -> list[tuple[str, tuple[Any, ...] | None, str]]:
        found = self.rows("SELECT mapping, hold, reason FROM cdc_parked WHERE pipeline = ? ORDER BY id", self.name)
        return [(m.rpartition(".")[2], tuple(json.loads(hold)) if hold else None, reason) for m, hold, reason in found]

    def texts(self, table: str) -> dict[tuple[Any, ...], tuple[Any, ...]]:
        columns = ", ".join(f"CAST({column} AS TEXT)" for column in COLUMNS[table])
        return by_key(table, self.rows(f"SELECT {columns} FROM hub_{table}"))

    def tallied(self) -> list[tuple[str, int, str, str, int]]:
        query = "SELECT topic, partition_number, outcome, reason, number FROM cdc_tally WHERE pipeline = ?"
        return self.rows(query, self.name)

    def falls(self) -> list[tuple[Any, ...]]:
        return self.rows("SELECT * FROM falls LIMIT 5")


@contextmanager
def new_sqlite_pipeline(
    source: Source,
    name: str,
    tables: tuple[str, ...] = ("items", "lines"),
    *,
    rows: int = 40,
    options: Sequence[str] = ("parked: {max: 1000000}",),
) -> Iterator[SqlitePipeline]:
    """A pipeline with an empty file, nothing running; its workers are killed at the end."""
    pipeline = SqlitePipeline(source, name, source.database, source.folder, tables)
    write_mapping(pipeline, rows, options)
    target = f"\n  hub: {{kind: sqlite, path: {pipeline.file.name}}}\n"
    text = connections_text(source.stack, source.entry, target)
    pipeline.connections_file.write_text(text, encoding="utf-8")
    with closing(sqlite3.connect(pipeline.file)) as connection:
        connection.executescript(_TABLES)
    try:
        yield pipeline
    finally:
        pipeline.kill_all()
