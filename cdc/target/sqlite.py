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

from collections.abc import Sequence

from cdc.model import TargetTable, Write
from cdc.target.base import Capabilities
from cdc.target.sqlhistory import HistorySql, Words
from cdc.target.sqlhistory_round import HistoryRound
from cdc.target.sqlite_history import SqliteHistoryComposer, words
from cdc.target.sqlite_related import find_links
from cdc.target.sqlite_statements import SqliteComposer, create_stage, table_name
from cdc.target.sqlite_tables import prepare_table
from cdc.target.sqlite_types import encode_row
from cdc.target.sqlround import PreparedTable, Round
from cdc.target.sqlstaged import StagedTarget


class SqliteTarget(StagedTarget):
    """A `Target`. `connect` opens a `SqliteDatabase`."""

    capabilities = Capabilities(
        transactions=True,
        creates_tables=True,
        contributions=True,
        history=True,
        upsert="rows into a temporary table, then INSERT … ON CONFLICT … WHERE",
        one_writer=True,
        limits=("integers beyond 64 bits in INTEGER columns", "NaN in REAL columns"),
    )

    def make(self, table: TargetTable, stage: str) -> PreparedTable:
        table_id, encoders = prepare_table(self.database, table)
        kind = SqliteComposer if table.history is None else SqliteHistoryComposer
        composer = kind(table, table_id, stage, self.database.now)
        links = find_links(self.database, table, composer)
        prepared = PreparedTable(table, table_id, composer.all(), links, encode_row(encoders))
        if prepared.staged and table.history is not None:
            prepared.history = HistorySql.of(self.words(table, table_id, stage), table).all(table.partials)
        if prepared.staged:
            for statement in create_stage(table, stage):
                self.database.run(statement)
        return prepared

    def round(self, prepared: PreparedTable, writes: Sequence[Write]) -> Round:
        return (Round if prepared.history is None else HistoryRound)(self.database, prepared, writes)

    def words(self, table: TargetTable, table_id: int, stage: str) -> Words:
        return words(table, table_id, stage)

    def columns_in(self, name: str) -> list[str]:
        return [column for (column,) in self.database.rows("SELECT name FROM pragma_table_info(?)", (name,))]

    def defer_foreign_keys(self) -> bool:
        self.database.run("PRAGMA defer_foreign_keys = ON")
        return True

    def exists(self, table: TargetTable) -> bool:
        return self.database.has_table(table_name(table))
