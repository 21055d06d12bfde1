"""One round of a batch in a database of sqlstate.py: rows into a staging table, then a few guarded statements.

The statements are each target's own; what they mean, their order, and what is concluded from them is the same.

A staged row is `_n` (number of the write), `_op` (below), `_position` and `_base` (packed), `_mask` (one character a
column, '1' where the change has a value), then the target's columns. A staged move (half of a key change) is `_n`,
`_mapping`, `_move` (digest of old and new key) and `_place` (packed).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cdc.blocks import Writes
from cdc.errors import Poison
from cdc.model import (
    NO_RECORD,
    STALE,
    UNAVAILABLE,
    Decision,
    DeletePolicy,
    MappedRow,
    Outcome,
    Position,
    RowOp,
    TargetTable,
    Value,
    Write,
)
from cdc.target.base import MIXED_REASON, PoisonRow, hold_of
from cdc.target.sqlorder import Dependants, Links
from cdc.target.sqlstate import Database, digest

if TYPE_CHECKING:
    from cdc.target.sqlhistory import HistoryStatements

FULL, PARTIAL, DELETE, BORROWING = 0, 1, 2, 3
"""Values of `_op`. BORROWING: the create half of a key change that lacks values: it becomes FULL, PARTIAL, or waits."""

POSITION = "_cdc_position"
"""The version column of every target table: the packed position of the change that made the row what it is."""

_MIXED = Decision(Outcome.PARKED, MIXED_REASON)
_IGNORED = Decision(Outcome.SKIPPED, "ignored_delete")
_MISSING = {
    PARTIAL: Decision(Outcome.PARKED, "update_missing"),
    BORROWING: Decision(Outcome.PARKED, "moved_values_missing"),
}


@dataclass(frozen=True)
class Statements:
    """All statements for one table. In those of truncate and sweep every parameter is the packed position. Of several
    the later ones do what the earlier ones left; each answers how many rows it did."""

    clear: tuple[str, ...]  # empty the staging tables
    stage: str
    stage_moves: str
    drop: tuple[str, ...]
    mixed: str  # answers `_n` of merged chains of which only a part passes the guard
    remove: str  # takes the row with this `_n`, its only parameter, out of the round
    lend: str  # keep the rows of staged deletes that are halves of key changes
    delete: str
    bury: tuple[str, ...]  # tombstones of the staged deletes that pass the guard and left no row behind
    settle_redelivered: str  # creates of key changes that are there already: PARTIAL
    borrow: str  # creates of key changes get what they lack from what was lent: FULL
    has_tombstones: str  # answers something when a deleted row is remembered
    upsert: tuple[str, ...]
    upsert_undeleted: tuple[str, ...]  # the same where no deleted row is remembered
    partial: str
    unbury: str
    forget_lent: str
    unapplied: str  # answers `_n`, `_op` and whether something newer is there, of rows that left no mark on the target
    stale: str  # answers `_n` of rows that the guard would skip
    truncate: str  # '' for nothing to do
    sweep_examples: str
    sweep_bury: str
    sweep: str
    purge: tuple[str, ...]  # each forgets a portion of memories from before a time in µs, its only parameter


@dataclass
class PreparedTable:
    """What a connection knows about one target table. `encode`: canonical values (None for what is not there) as the
    driver takes them; raises `Poison` for what a column cannot hold."""

    table: TargetTable
    id: int
    statements: Statements
    links: Links
    encode: Callable[[Sequence[Value]], Sequence[Any]]
    history: HistoryStatements | None = None

    @property
    def staged(self) -> bool:
        """False for a table known by name only, from a truncate that came before any row."""
        return bool(self.table.key)


class Round:
    """One round of writes to one table, in the open transaction of `database`. A target may override how rows get into
    the staging tables (`fill`, `stage_plain`), and what keeps truncates away until the commit
    (`lock_out_truncates`)."""

    def __init__(self, database: Database, prepared: PreparedTable, writes: Sequence[Write]) -> None:
        self.database = database
        self.prepared = prepared
        self.statements = prepared.statements
        self.writes = writes
        self.decisions: dict[int, Decision] = {}
        self.numbers = [0, 0, 0, 0]  # staged rows by op
        self.moves: list[tuple[int, str, str, bytes]] = []
        self.merged = False
        self.deferring = False
        self.dependants = Dependants(database, prepared.links, writes, self.decisions)
        self._key_indexes = prepared.table.key_indexes
        self._all_present = "1" * len(prepared.table.columns)

    def run(self, deferring: bool = False) -> dict[int, Decision]:
        """`deferring`: foreign keys are looked at later."""
        self.deferring = deferring
        self.lock_out_truncates()
        self.stage()
        mixed = 0
        if self.merged:
            found = self.database.rows(self.statements.mixed)
            self.database.run_many(self.statements.remove, found)
            self.decisions.update(dict.fromkeys((number for (number,) in found), _MIXED))
            mixed = len(found)
        applied = self._deletes() + self._upserts()
        if applied < len(self.writes) - mixed - self.dependants.taken_out or not self.database.counts_upserts:
            for number, op, stale in self.database.rows(self.statements.unapplied):
                self.decisions[number] = STALE if stale else _MISSING[op]
        return self.decisions

    def stage(self) -> None:
        """Fill the staging tables."""
        for statement in self.statements.clear:
            self.database.run(statement)
        if isinstance(self.writes, Writes):
            upserts = self.writes.upserts
            self.numbers = [upserts, 0, len(self.writes) - upserts, 0]
            self.stage_plain(self.writes)
        else:
            self.fill(self.statements.stage, self._staged())
        if self.moves:
            self.fill(self.statements.stage_moves, self.moves)

    def stage_plain(self, writes: Writes) -> None:
        self.fill(self.statements.stage, self._plain(writes))

    def fill(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        self.database.run_many(statement, rows)

    def lock_out_truncates(self) -> None:
        """The table's floor holds until we commit."""

    def _plain(self, writes: Writes) -> Iterator[tuple[Any, ...]]:
        """The staged rows of plain writes, without making objects of them."""
        upserts, encode, all_present = writes.upserts, self.prepared.encode, self._all_present
        for number, (key, place) in enumerate(zip(writes.keys, writes.positions, strict=True)):
            position = place.pack()
            op, values = (FULL, writes.values[number]) if number < upserts else (DELETE, self._key_only(key))
            try:
                yield (number, op, position, position, all_present, *encode(values))
            except Poison as poison:
                raise PoisonRow(
                    poison.what,
                    reason=poison.reason,
                    index=number,
                    where=writes[number].row.record.where,
                    hint=poison.hint,
                ) from poison

    def _staged(self) -> Iterator[tuple[Any, ...]]:
        """The staged rows; what the other statements must know is noted on the way."""
        all_present, partials = self._all_present, self.prepared.table.partials
        last: Position | None = None
        position = b""  # rows of a snapshot or of one page share their position
        for number, write in enumerate(self.writes):
            row = write.row
            op, mask, values = FULL, all_present, row.values
            if values is None:
                op, values = DELETE, self._key_only(row.key)
            elif partials and UNAVAILABLE in values:
                op = PARTIAL if row.moved_from is None else BORROWING
                mask = "".join(["0" if value is UNAVAILABLE else "1" for value in values])
                values = tuple(None if value is UNAVAILABLE else value for value in values)
            self.numbers[op] += 1
            if row.position is not last:
                last, position = row.position, row.position.pack()
            base = position
            if write.chain and write.base != last:
                base, self.merged = write.base.pack(), True
            if partials and (row.moved_from is not None or row.moved_to is not None):
                self._note_move(number, row)
            yield (number, op, position, base, mask, *self.encoded(number, values))

    def encoded(self, number: int, values: Sequence[Value]) -> Sequence[Any]:
        """The columns of a write as the driver takes them."""
        try:
            return self.prepared.encode(values)
        except Poison as poison:
            raise PoisonRow(
                poison.what,
                reason=poison.reason,
                index=number,
                where=self.writes[number].row.record.where,
                hint=poison.hint,
            ) from poison

    def _note_move(self, number: int, row: MappedRow) -> None:
        """Every value of a table without partial images comes with the change: there nothing is lent or borrowed."""
        old, new = (row.moved_from, row.key) if row.moved_from is not None else (row.key, row.moved_to)
        assert old is not None
        assert new is not None
        move = digest(f"{hold_of(old)} {hold_of(new)}")
        self.moves.append((number, self.prepared.table.mapping, move, row.position.place.pack()))

    def _key_only(self, key: tuple[Value, ...]) -> tuple[Value, ...]:
        values: list[Value] = [None] * len(self._all_present)
        for index, value in zip(self._key_indexes, key, strict=True):
            values[index] = value
        return tuple(values)

    def _deletes(self) -> int:
        if not self.numbers[DELETE]:
            return 0
        if self.moves:
            self.database.run(self.statements.lend)
        if self.prepared.table.on_delete is DeletePolicy.IGNORE:
            for number, write in enumerate(self.writes):
                if write.row.op is RowOp.DELETE:
                    self.decisions.setdefault(number, _IGNORED)
            return self.numbers[DELETE]
        self.dependants.take_out_referenced()
        deleted = self.database.run(self.statements.delete)
        buried = self._until(self.numbers[DELETE], self.statements.bury)
        return buried + (deleted if self.prepared.table.on_delete is DeletePolicy.SOFT else 0)

    def _upserts(self) -> int:
        run = self.database.run
        if self.numbers[BORROWING]:
            run(self.statements.settle_redelivered)
            run(self.statements.borrow)
        if len(self.writes) == self.numbers[DELETE]:
            return 0
        if not self.deferring:
            self.dependants.take_out_orphans()
        # Looking for each row among no tombstones costs time.
        deleted = bool(self.database.rows(self.statements.has_tombstones))
        applied = self._write_uniquely(deleted) if self.prepared.links.unique else self._write(deleted)
        if deleted:
            run(self.statements.unbury)
        if self.moves:
            run(self.statements.forget_lent)
        return applied

    def _write_uniquely(self, deleted: bool) -> int:
        """The same for a table with secondary unique keys: only a violation makes anybody look at their values."""
        try:
            with self.database.savepoint():
                return self._write(deleted)
        except PoisonRow as poison:
            if poison.reason != "unique_violation":
                raise
            self.dependants.free_unique_values()
        return self._write(deleted)

    def _write(self, deleted: bool) -> int:
        """Upserts; how many rows were written. `deleted`: there are tombstones."""
        applied = 0
        if self.numbers[FULL] or self.numbers[BORROWING]:
            statements = self.statements.upsert if deleted else self.statements.upsert_undeleted
            applied += self.upsert(self.numbers[FULL] + self.numbers[BORROWING], statements)
        if self.numbers[PARTIAL] or self.numbers[BORROWING]:
            applied += self.database.run(self.statements.partial)
        return applied

    def upsert(self, rows: int, statements: Iterable[str]) -> int:
        """Write the full images, at most that many rows; how many were written."""
        return self._until(rows, statements)

    def _until(self, rows: int, statements: Iterable[str]) -> int:
        """Run statements until all rows are done; how many were."""
        done = 0
        for statement in statements:
            if done >= rows:
                break
            done += self.database.run(statement)
        return done


def key_writes(keys: Iterable[tuple[tuple[Value, ...], Position]]) -> list[Write]:
    """Keys and positions as deletes that nobody executes, for questions about keys."""
    rows = [MappedRow(RowOp.DELETE, key, None, position, NO_RECORD) for key, position in keys]
    return [Write(row, row.position) for row in rows]
