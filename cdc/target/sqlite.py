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

from collections.abc import Iterable, Sequence

from cdc.model import Decision, Outcome, Position, TargetTable, Value, Write
from cdc.target.base import Capabilities, Owner, SweepReport
from cdc.target.sqlite_statements import compose, create_stage, table_name
from cdc.target.sqlite_tables import prepare_table
from cdc.target.sqlite_types import encode_row
from cdc.target.sqlround import STALE, PreparedTable, Round, key_writes
from cdc.target.sqlstate_target import Connect, SqlTarget, SqlTransaction


class SqliteTarget(SqlTarget):
    """A `Target`. `connect` opens a `SqliteDatabase`."""

    capabilities = Capabilities(
        transactions=True,
        creates_tables=True,
        upsert="rows into a temporary table, then INSERT … ON CONFLICT … WHERE",
        one_writer=True,
        limits=("integers beyond 64 bits in INTEGER columns", "NaN in REAL columns"),
    )

    def __init__(self, connect: Connect) -> None:
        super().__init__(connect)
        self._tables: dict[TargetTable, PreparedTable] = {}
        self._stages = 0

    def open(self, owner: Owner) -> None:
        super().open(owner)
        self._tables.clear()  # staging tables went with the connection

    def prepare(self, table: TargetTable) -> None:
        if table in self._tables:
            return
        table_id, encoders = prepare_table(self.database, table)
        self._stages += 1
        stage = f"cdc_stage_{self._stages}"
        statements = compose(table, table_id, stage, self.database.now)
        prepared = PreparedTable(table, table_id, statements, encode_row(encoders))
        if prepared.staged:
            # Here and not at the first write: a transaction that rolls back would take them along.
            for statement in create_stage(table, stage):
                self.database.run(statement)
        self._tables[table] = prepared

    def forget(self) -> None:
        for prepared in self._tables.values():
            if prepared.staged:
                for statement in prepared.statements.drop:
                    self.database.run(statement)
        self._tables.clear()

    def prepared(self, table: TargetTable) -> PreparedTable:
        """What `prepare` made; a table must be prepared before a transaction writes to it."""
        return self._tables[table]

    def prepared_tables(self) -> list[PreparedTable]:
        return [prepared for prepared in self._tables.values() if prepared.staged]

    def transaction(self) -> SqliteTransaction:
        return SqliteTransaction(self)


class SqliteTransaction(SqlTransaction):
    def __init__(self, target: SqliteTarget) -> None:
        super().__init__(target)
        self.target = target

    def write(self, table: TargetTable, writes: Sequence[Write]) -> dict[int, Decision]:
        return Round(self.database, self.target.prepared(table), writes).run()

    def stale(self, table: TargetTable, writes: Sequence[Write]) -> set[int]:
        prepared = self.target.prepared(table)
        self._stage_keys(prepared, [(write.row.key, write.row.position) for write in writes])
        return {number for (number,) in self.database.rows(prepared.statements.stale)}

    def truncate(self, table: TargetTable, position: Position) -> Decision:
        prepared = self.target.prepared(table)
        packed = position.pack()
        raised = self.database.run(
            "UPDATE cdc_target_table SET floor_position = ? WHERE id = ? AND floor_position <= ?",
            (packed, prepared.id, packed),
        )
        if not raised:
            return STALE
        if self.database.has_table(table_name(table)):  # else only the floor: rows from before may be on their way
            self._at(prepared.statements.truncate, position)
        return Decision(Outcome.APPLIED)

    def sweep(self, table: TargetTable, position: Position, keep: Iterable[tuple[Value, ...]]) -> SweepReport:
        prepared = self.target.prepared(table)
        statements = prepared.statements
        self._stage_keys(prepared, [(key, position) for key in keep])
        examples = self.database.rows(statements.sweep_examples, (position.pack(),))
        self._at(statements.sweep_bury, position)
        swept = self._at(statements.sweep, position)
        return SweepReport(swept, tuple(", ".join(map(str, row)) for row in examples))

    def _stage_keys(self, prepared: PreparedTable, keys: Iterable[tuple[tuple[Value, ...], Position]]) -> None:
        Round(self.database, prepared, key_writes(keys)).stage()

    def _at(self, statement: str, position: Position) -> int:
        """A statement whose parameters are all the position; '' does nothing."""
        return self.database.run(statement, (position.pack(),) * statement.count("?")) if statement else 0
