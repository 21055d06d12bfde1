"""One round of a batch in a PostgreSQL target: COPY into the staging table, then a few guarded statements.

No pipeline mode: what a round does next depends on what the statement before it found, and COPY is not allowed in it.
Measured with batches over 20 tables of 250 rows on a local, busy server, ten runs of 15 or 20 batches in turn: lock,
tombstone check and upsert of a table in one pipeline take as long (0.90 to 1.21 of the time, median 1.01). All tables'
COPYs first and then all their statements in one pipeline might take less (0.72 to 1.14, median 0.87); that would be
another contract of `Transaction.write`, with errors and savepoints that span tables.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

from cdc.blocks import Writes
from cdc.errors import Poison
from cdc.model import (
    STALE,
    UNAVAILABLE,
    Decision,
    DeletePolicy,
    MappedRow,
    Outcome,
    RowOp,
    TargetColumn,
    TargetTable,
    Value,
    Write,
)
from cdc.target.base import MIXED_REASON, PoisonRow, hold_of
from cdc.target.postgres_encode import Encoded
from cdc.target.postgres_lines import copy_line_builder
from cdc.target.postgres_order import Dependants, Links
from cdc.target.postgres_ruled_statements import RuledStatements
from cdc.target.postgres_statements import BORROWING, DELETE, FULL, PARTIAL, Statements

if TYPE_CHECKING:
    from cdc.target.postgres_history import PreparedHistory

TRUNCATE_LOCK = 0x0CDC
"""Class of the advisory locks that keep a table's writers and its truncates apart."""
PORTION = 500
"""Rows of COPY text made and sent at once: the server takes in one portion while the next is made."""
_DEPENDS = (psycopg.errors.UniqueViolation, psycopg.errors.ForeignKeyViolation)
EARLY = 20
"""Rounds in which children may be expected before their parents, after one in which some were."""
_ALIVE = "\tf"  # not soft-deleted
MIXED = Decision(Outcome.PARKED, MIXED_REASON)
_IGNORED = Decision(Outcome.SKIPPED, "ignored_delete")
NOT_KEPT = Decision(Outcome.PARKED, "not_kept")
_MISSING = {
    FULL: NOT_KEPT,
    DELETE: NOT_KEPT,
    PARTIAL: Decision(Outcome.PARKED, "update_missing"),
    BORROWING: Decision(Outcome.PARKED, "moved_values_missing"),
}


def missing(op: int) -> Decision:
    """What becomes of a staged change that waits for what is not there."""
    return _MISSING[op]


class _DroppedError(Exception):
    """A trigger let rows vanish while they were loaded."""


class PreparedTable:
    """What this connection knows about one target table. `columns`: the table's, with the types as they are found."""

    def __init__(
        self,
        table: TargetTable,
        columns: tuple[TargetColumn, ...],
        table_id: int,
        stage: str,
        statements: Statements,
        links: Links,
        loading: bool,
        ruled: RuledStatements | None = None,
        history: PreparedHistory | None = None,
    ) -> None:
        self.table = table
        self.columns = columns
        self.id = table_id
        self.stage = stage
        self.statements = statements
        self.links = links
        self.staged = 0  # rows since the staging table was truncated
        self.early = 0  # rounds to come that look for parents before they write
        self.ruled = ruled  # of a table with conflict rules
        self.history = history  # of a table whose rows are changes
        self.loading = loading  # it was empty, and no row has met another of its key since
        self.line = copy_line_builder(columns)
        self.width = len(table.columns)
        self.all_present = "1" * self.width
        self.key_indexes = table.key_indexes


class Round:
    """One round of writes to one table, in the open transaction of `connection`; the staging table is empty."""

    def __init__(
        self,
        connection: psycopg.Connection[Any],
        prepared: PreparedTable,
        writes: Sequence[Write],
        deferring: bool = False,
    ) -> None:
        self.connection = connection
        self.deferring = deferring
        self.prepared = prepared
        self.statements = prepared.statements
        self.writes = writes
        self.decisions: dict[int, Decision] = {}
        self.numbers = [0, 0, 0, 0]  # staged rows by op
        self.moves: list[tuple[int, str, str, bytes]] = []
        self.merged = False
        self.encoded: Encoded | None = None
        if (
            isinstance(writes, Writes)
            and isinstance(writes.encoded, Encoded)
            and writes.encoded.columns == prepared.columns
        ):
            self.encoded = writes.encoded
            self.numbers[FULL], self.numbers[DELETE] = writes.upserts, len(writes) - writes.upserts
        self.dependants = Dependants(connection, prepared.links, writes, self.decisions, numbered=self.encoded is None)

    def run(self) -> dict[int, Decision]:
        execute = self.connection.execute
        if self.prepared.loading and self._load():
            return {}
        self._lock_out_truncates()
        self.copy()
        if self.moves:
            self._stage_moves()
        mixed = 0
        if self.merged:
            for (number,) in execute(self.statements.mixed).fetchall():
                self.decisions[number] = MIXED
                mixed += 1
        applied = self._deletes() + self._upserts()
        if applied < len(self.writes) - mixed - self.dependants.taken_out:
            self._explain()
        return self.decisions

    def copy(self) -> None:
        """Fill the staging table."""
        if self.encoded is None:
            self._copy(self.statements.copy_stage, self._lines())
            return
        self._send(self.statements.copy_full, self.encoded.upserts)
        if self.encoded.deletes:
            self._send(self.statements.copy_deletes, self.encoded.deletes)

    def _lock_out_truncates(self) -> None:
        """Shared with other writers of the table, exclusive with a truncate: the floor holds until we commit."""
        lock = sql.SQL("SELECT pg_advisory_xact_lock_shared(%s, %s)")
        self.connection.execute(lock, (TRUNCATE_LOCK, self.prepared.id))

    def _load(self) -> bool:
        """Full images of rows that were never there need no guard: COPY them straight into the table.

        False, and nothing written, when there is anything else in the round, when the table has seen deletes, or when
        one of the rows is there already or has no parent, a trigger drops some, or row security forbids it (then nor is
        this tried again).
        """
        if not self._only_full_images():
            return False
        self._lock_out_truncates()
        if self.connection.execute(self.statements.never_deleted).fetchone() != (True,):
            return False
        try:
            with self.connection.transaction():
                if self.encoded is not None:
                    kept = self._send(self.statements.load, self.encoded.upserts)
                else:
                    kept = self._copy(self.statements.load, self._plain_lines())
                if kept < len(self.writes):
                    raise _DroppedError
        except (*_DEPENDS, psycopg.errors.FeatureNotSupported, _DroppedError) as error:
            self.prepared.loading = False
            if isinstance(error, psycopg.errors.ForeignKeyViolation):
                self.prepared.early = EARLY
            return False
        return True

    def _only_full_images(self) -> bool:
        if self.encoded is not None:
            return not self.encoded.deletes and self.prepared.table.on_delete is not DeletePolicy.SOFT
        partials = self.prepared.table.partials
        for write in self.writes:
            row = write.row
            if row.values is None:
                return False
            if partials and (row.moved_from is not None or row.moved_to is not None or UNAVAILABLE in row.values):
                return False
        return True

    def _plain_lines(self) -> Iterator[str]:
        """The COPY text of full images as rows of the table."""
        soft = self.prepared.table.on_delete is DeletePolicy.SOFT
        last, end = None, ""
        for number, write in enumerate(self.writes):
            row = write.row
            assert row.values is not None
            if row.position is not last:
                last, end = row.position, f"\t\\\\x{row.position.pack().hex()}{_ALIVE if soft else ''}\n"
            yield self._line(number, row, row.values) + end

    def _lines(self) -> Iterator[str]:
        """The COPY text of all writes; what the other statements must know is noted on the way."""
        all_present, partials = self.prepared.all_present, self.prepared.table.partials
        last, position = None, ""  # rows of a snapshot or of one page share their position
        for number, write in enumerate(self.writes):
            row = write.row
            op, mask, values = FULL, all_present, row.values
            if values is None:
                op, values = DELETE, self._key_only(row)
            elif partials and UNAVAILABLE in values:
                op = PARTIAL if row.moved_from is None else BORROWING
                mask = "".join("0" if value is UNAVAILABLE else "1" for value in values)
                values = tuple(None if value is UNAVAILABLE else value for value in values)
            self.numbers[op] += 1
            if row.position is not last:
                last, position = row.position, row.position.pack().hex()
            base = position
            if write.chain and write.base != last:
                base, self.merged = write.base.pack().hex(), True
            if partials and (row.moved_from is not None or row.moved_to is not None):
                self._note_move(number, row)
            text = self._line(number, row, values)
            yield f"{number}\t{op}\t\\\\x{position}\t\\\\x{base}\t{mask}\t{text}\n"

    def _line(self, number: int, row: MappedRow, values: tuple[Value, ...]) -> str:
        try:
            return self.prepared.line(values)
        except Poison as poison:
            raise PoisonRow(
                poison.what, reason=poison.reason, index=number, where=row.record.where, hint=poison.hint
            ) from poison

    def _note_move(self, number: int, row: MappedRow) -> None:
        """Every value of a table without partial images comes with the change: there nothing is lent or borrowed."""
        place = row.position.place.pack()
        if row.moved_from is not None:
            self.moves.append((number, hold_of(row.moved_from), hold_of(row.key), place))
        elif row.moved_to is not None:
            self.moves.append((number, hold_of(row.key), hold_of(row.moved_to), place))

    def _key_only(self, row: MappedRow) -> tuple[Value, ...]:
        values: list[Value] = [None] * self.prepared.width
        for index, value in zip(self.prepared.key_indexes, row.key, strict=True):
            values[index] = value
        return tuple(values)

    def _copy(self, statement: sql.SQL | sql.Composed, lines: Iterator[str]) -> int:
        return self._send(statement, iter(lambda: "".join(islice(lines, PORTION)).encode(), b""))

    def _send(self, statement: sql.SQL | sql.Composed, portions: Iterable[bytes]) -> int:
        """Returns how many rows the server kept."""
        with self.connection.cursor() as cursor:
            with cursor.copy(statement) as copy:
                for portion in portions:
                    copy.write(portion)
            return cursor.rowcount

    def _stage_moves(self) -> None:
        with self.connection.cursor() as cursor, cursor.copy(self.statements.copy_moves) as copy:
            for move in self.moves:
                copy.write_row(move)

    def _deletes(self) -> int:
        if not self.numbers[DELETE]:
            return 0
        execute = self.connection.execute
        if self.moves:
            execute(self.statements.lend)
        if self.prepared.table.on_delete is DeletePolicy.IGNORE:
            for number, write in enumerate(self.writes):
                if write.row.op is RowOp.DELETE:
                    self.decisions.setdefault(number, _IGNORED)
            return self.numbers[DELETE]
        self.dependants.take_out_referenced()
        deleted = execute(self.statements.delete).rowcount
        buried = execute(self.statements.bury).rowcount
        return buried + (deleted if self.prepared.table.on_delete is DeletePolicy.SOFT else 0)

    def _upserts(self) -> int:
        execute = self.connection.execute
        if self.numbers[BORROWING]:
            execute(self.statements.settle_redelivered)
            execute(self.statements.borrow)
        if len(self.writes) == self.numbers[DELETE]:
            return 0
        if self.prepared.early or self.prepared.links.checked_later:
            self._take_out_orphans()
        # Looking for each row among no tombstones takes a fifth of the statement's time.
        deleted = execute(self.statements.has_tombstones).fetchone() == (True,)
        depends = self.prepared.links.unique or self.prepared.links.missing is not None
        applied = self._write_dependants(deleted) if depends else self._write(deleted)
        if deleted:
            execute(self.statements.unbury)
        if self.moves:
            execute(self.statements.forget_lent)
        return applied

    def _take_out_orphans(self) -> bool:
        """Whether there were any; then the next rounds look for them before they write."""
        before = self.dependants.taken_out
        self.dependants.take_out_orphans(self.deferring)
        found = self.dependants.taken_out > before
        self.prepared.early = EARLY if found else max(0, self.prepared.early - 1)
        return found

    def _write_dependants(self, deleted: bool) -> int:
        """The same for a table with foreign keys or secondary unique keys. Only a violation makes anybody look at their
        values: looking for parents beforehand takes half as long as the upsert."""
        resolve = {
            psycopg.errors.ForeignKeyViolation: self._take_out_orphans,
            psycopg.errors.UniqueViolation: self.dependants.free_unique_values,
        }
        while True:
            try:
                with self.connection.transaction():
                    return self._write(deleted)
            except _DEPENDS as error:
                makes_way = resolve.pop(type(error), None)  # each helps once
                if makes_way is None or not makes_way():
                    raise

    def _write(self, deleted: bool) -> int:
        """Upserts; how many rows were written. `deleted`: there are tombstones."""
        execute, applied = self.connection.execute, 0
        if self.numbers[FULL] or self.numbers[BORROWING]:
            applied += execute(self.statements.upsert if deleted else self.statements.upsert_undeleted).rowcount
        if self.numbers[PARTIAL] or self.numbers[BORROWING]:
            applied += execute(self.statements.partial).rowcount
        if self.prepared.links.check is not None:
            execute(self.prepared.links.check)
        return applied

    def _explain(self) -> None:
        for number, op, stale in self.connection.execute(self.statements.unapplied).fetchall():
            decision = STALE if stale else _MISSING[op]
            if decision is NOT_KEPT and isinstance(self.writes, Writes):  # rows in a block are not parked one by one
                raise PoisonRow("the target did not keep a row", reason=decision.reason)
            self.decisions[number] = decision
