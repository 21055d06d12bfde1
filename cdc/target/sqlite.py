"""SQLite as a target: a file beside the tools that read it, for take-away copies, small tools, tests without servers.

A transaction holds the file's only write lock from its beginning, so that workers queue and nothing needs locks of its
own. A round is one `executemany` into a temporary table, then a few guarded statements (sqlite_statements.py).

    sqlite_database.py     the connection, its errors
    sqlite_types.py        how each kind of value is stored
    sqlite_tables.py       creates and checks tables
    sqlite_statements.py   the SQL that writes

What differs from a server: a worker that is frozen inside a transaction (SIGSTOP, a suspended machine) keeps the lock
until it goes on or ends; nobody can take it away. The file must be on a local file system.
"""

from __future__ import annotations

from cdc.model import TargetTable
from cdc.target.base import Capabilities
from cdc.target.sqlite_related import find_links
from cdc.target.sqlite_statements import SqliteComposer, create_stage, table_name
from cdc.target.sqlite_tables import prepare_table
from cdc.target.sqlite_types import encode_row
from cdc.target.sqlround import PreparedTable
from cdc.target.sqlstaged import StagedTarget


class SqliteTarget(StagedTarget):
    """A `Target`. `connect` opens a `SqliteDatabase`."""

    capabilities = Capabilities(
        transactions=True,
        creates_tables=True,
        contributions=True,
        upsert="rows into a temporary table, then INSERT … ON CONFLICT … WHERE",
        one_writer=True,
        limits=("integers beyond 64 bits in INTEGER columns", "NaN in REAL columns"),
    )

    def make(self, table: TargetTable, stage: str) -> PreparedTable:
        table_id, encoders = prepare_table(self.database, table)
        composer = SqliteComposer(table, table_id, stage, self.database.now)
        links = find_links(self.database, table, composer)
        prepared = PreparedTable(table, table_id, composer.all(), links, encode_row(encoders))
        if prepared.staged:
            for statement in create_stage(table, stage):
                self.database.run(statement)
        return prepared

    def defer_foreign_keys(self) -> bool:
        self.database.run("PRAGMA defer_foreign_keys = ON")
        return True

    def exists(self, table: TargetTable) -> bool:
        return self.database.has_table(table_name(table))
