"""What targets share that write rounds through staging tables in a database of sqlstate.py."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from cdc.model import APPLIED, STALE, Decision, History, Position, TargetTable, Value, Write
from cdc.moments import moment
from cdc.target.base import Owner, Related, SweepReport
from cdc.target.sqlhistory import Words
from cdc.target.sqlhistory_round import own_key, sweep_history, truncate_history
from cdc.target.sqlround import PreparedTable, Round, key_writes
from cdc.target.sqlstate_target import Connect, SqlTarget, SqlTransaction, tombstone_name


class StagedTarget(SqlTarget):
    """Base of a `Target`. A subclass brings `capabilities`, `make`, `round`, `exists`, and may bring `alone`."""

    def __init__(self, connect: Connect) -> None:
        super().__init__(connect)
        self._tables: dict[TargetTable, PreparedTable] = {}
        self._stages = 0

    def make(self, table: TargetTable, stage: str) -> PreparedTable:
        """Create or complete the table, and its staging tables under the name `stage` when it has columns."""
        raise NotImplementedError

    def round(self, prepared: PreparedTable, writes: Sequence[Write]) -> Round:
        return Round(self.database, prepared, writes)

    def exists(self, table: TargetTable) -> bool:
        """Whether the table is there."""
        raise NotImplementedError

    def words(self, table: TargetTable, table_id: int, stage: str) -> Words:
        """This database's words for the statements of a history."""
        raise NotImplementedError

    def columns_in(self, name: str) -> list[str]:
        """The columns of one of our own tables; none, when it is not there."""
        raise NotImplementedError

    def moment(self, at: str) -> str:
        """A moment as it stands in a column."""
        return at

    def defer_foreign_keys(self) -> bool:
        """Check foreign keys at the end of the transaction; False where they cannot wait."""
        return False

    def alone(self, prepared: PreparedTable) -> None:
        """No other writer of the table until the end of the transaction."""

    def open(self, owner: Owner) -> None:
        super().open(owner)
        self._tables.clear()  # staging tables went with the connection

    def prepare(self, table: TargetTable) -> None:
        if table not in self._tables:
            self._stages += 1
            # Here and not at the first write: a transaction that rolls back would take the staging tables along.
            self._tables[table] = self.make(table, f"cdc_stage_{self._stages}")

    def forget(self) -> None:
        for prepared in self.prepared_tables():
            for statement in prepared.statements.drop:
                self.database.run(statement)
        self._tables.clear()

    def prepared(self, table: TargetTable) -> PreparedTable:
        """What `prepare` made; a table must be prepared before a transaction writes to it."""
        return self._tables[table]

    def known(self, table: TargetTable) -> PreparedTable | None:
        """The same in another thread, while tables may be prepared or forgotten."""
        return self._tables.get(table)

    def related(self, table: TargetTable) -> Related:
        return self.prepared(table).links.related

    def prepared_tables(self) -> list[PreparedTable]:
        return [prepared for prepared in self._tables.values() if prepared.staged]

    def transaction(self) -> StagedTransaction:
        return StagedTransaction(self)


class StagedTransaction(SqlTransaction):
    def __init__(self, target: StagedTarget) -> None:
        super().__init__(target)
        self.target = target
        self._deferring = False

    @contextmanager
    def deferred(self) -> Iterator[None]:
        self._deferring = self.target.defer_foreign_keys()
        try:
            yield
        finally:
            self._deferring = False

    def write(self, table: TargetTable, writes: Sequence[Write]) -> dict[int, Decision]:
        return self.target.round(self.target.prepared(table), writes).run(self._deferring)

    def stale(self, table: TargetTable, writes: Sequence[Write]) -> set[int]:
        prepared = self.target.prepared(table)
        self._stage_keys(prepared, [(write.row.key, write.row.position) for write in writes])
        return {number for (number,) in self.database.rows(prepared.statements.stale)}

    def truncate(self, table: TargetTable, position: Position, time_us: int | None = None) -> Decision:
        prepared = self.target.prepared(table)
        if table.history is not None:
            return self._truncate_history(prepared, table.history, position, moment(time_us or 0))
        packed = position.pack()
        raised = self.database.run(
            "UPDATE cdc_target_table SET floor_position = ? WHERE id = ? AND floor_position <= ?",
            (packed, prepared.id, packed),
        )
        if not raised:
            return STALE
        if self.target.exists(table):  # else only the floor: rows from before may be on their way
            self._at(prepared.statements.truncate, position)
        return APPLIED

    def sweep(self, table: TargetTable, position: Position, keep: Iterable[tuple[Value, ...]]) -> SweepReport:
        prepared = self.target.prepared(table)
        statements = prepared.statements
        self.target.alone(prepared)
        self._stage_keys(prepared, [(key, position) for key in keep])
        if prepared.history is not None:
            return sweep_history(self.database, prepared, position)
        examples = self.database.rows(statements.sweep_examples, (position.pack(),))
        self._at(statements.sweep_bury, position)
        swept = self._at(statements.sweep, position)
        return SweepReport(swept, tuple(", ".join(map(str, row)) for row in examples))

    def _truncate_history(self, prepared: PreparedTable, history: History, position: Position, at: str) -> Decision:
        table, table_id, target = prepared.table, prepared.id, self.target
        target.alone(prepared)
        key = own_key(target.columns_in(tombstone_name(table_id)), history)
        words, at = target.words(table, table_id, ""), target.moment(at)
        return truncate_history(self.database, words, history, key, table_id, position, at)

    def _stage_keys(self, prepared: PreparedTable, keys: Iterable[tuple[tuple[Value, ...], Position]]) -> None:
        self.target.round(prepared, key_writes(keys)).stage()

    def _at(self, statement: str, position: Position) -> int:
        """A statement whose parameters are all the position; '' does nothing."""
        return self.database.run(statement, (position.pack(),) * statement.count("?")) if statement else 0
