"""Tables of which several sources make the rows: contributions in, rows out, in the engine's own transaction.

To the engine a contribution is a row like any other, of a table whose key also tells the source row (`Contributes`).
Its guard, folding, parking and healing are the same. What is written is another thing: the documents of a round's
target keys are taken once (locked, in key order), the changes applied to them in memory, the rows worked out from all
that the sources said, written through the target's own batched path, and the documents kept. A target row's position
is its document's version: it only rises, so the target's guard lets every such write pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from cdc.blocks import Writes
from cdc.conflict.contributions import Change, Document, Shared, decode, encode, loan_of
from cdc.conflict.resolve import UnknownShapeError
from cdc.engine.merged import MergedTables, Merging, met_elsewhere
from cdc.errors import Terminal
from cdc.model import Decision, MappedRow, Outcome, Position, RawRecord, RowOp, TargetTable, Value, Write
from cdc.target.base import MIXED_REASON, PoisonRow, SweepReport, hold_of
from cdc.target.contributions import ContributingTransaction

_PORTION = 1000
"""Documents looked at at once when a whole table is gone through."""
_EPOCH = 1  # of the positions of merged rows: they are no places in a log
_APPLIED = Decision(Outcome.APPLIED)
_STALE = Decision(Outcome.SKIPPED, "stale")
_SKEWED = Decision(
    Outcome.PARKED, "clock_skew", "its commit time is too far in the future: it would win over every other for as long"
)
_MIXED = Decision(Outcome.PARKED, MIXED_REASON)
_NO_RECORD = RawRecord("", 0, 0, None, None)

Place = tuple[str, str]  # texts of a target key and of a source key


class MergingTransaction:
    """A `Transaction` that takes contributions beside rows. `now_s`: the clock, for memories of what was withdrawn."""

    def __init__(self, inner: ContributingTransaction, tables: MergedTables, now_s: Callable[[], float]) -> None:
        self._inner = inner
        self._tables = tables
        self._now_s = now_s
        self.savepoint = inner.savepoint
        self.deferred = inner.deferred
        self.park = inner.park
        self.unpark = inner.unpark
        self.retried = inner.retried
        self.repark = inner.repark
        self.count = inner.count
        self.repeated_snapshot = inner.repeated_snapshot
        self.advance = inner.advance

    def write(self, table: TargetTable, writes: Sequence[Write]) -> dict[int, Decision]:
        if table.contributes is None:
            return self._inner.write(table, writes)
        return self._round(table).write(writes)

    def stale(self, table: TargetTable, writes: Sequence[Write]) -> set[int]:
        if table.contributes is None:
            return self._inner.stale(table, writes)
        return self._round(table).stale(writes)

    def truncate(self, table: TargetTable, position: Position) -> Decision:
        if table.contributes is None:
            return self._inner.truncate(table, position)
        return self._round(table).truncate(position)

    def sweep(self, table: TargetTable, position: Position, keep: Iterable[tuple[Value, ...]]) -> SweepReport:
        if table.contributes is None:
            return self._inner.sweep(table, position, keep)
        return self._round(table).sweep(position, keep)

    def _round(self, table: TargetTable) -> _Round:
        return _Round(self._inner, self._tables.of(table), int(self._now_s()))


class _Round:
    """One call of a transaction: nothing that it read of the documents outlives it."""

    def __init__(self, transaction: ContributingTransaction, way: Merging, now_s: int) -> None:
        self._transaction = transaction
        self._store = transaction.contributions
        self._way = way
        self._now_s = now_s
        self._latest_us = int((now_s + way.max_skew_s) * 1_000_000)
        self._floors: dict[str, bytes] = {}
        self._rows: dict[str, Shared] = {}
        self._keys: dict[str, tuple[Value, ...]] = {}  # of rows that may have to be written

    def write(self, writes: Sequence[Write]) -> dict[int, Decision]:
        places = self._take(writes)
        decisions: dict[int, Decision] = {}
        found = list(self._changes(writes))
        # Deletes first, as in every target: they lend the values that creates of the same round may borrow.
        deletes = [each for each in found if each[2][-1].values is None]
        upserts = [each for each in found if each[2][-1].values is not None] if deletes else found
        for index, base, changes in (*deletes, *upserts):
            decision = self._apply(places[index], base, changes)
            if decision is not _APPLIED:
                decisions[index] = decision
        self._write_rows(places, decisions)
        return decisions

    def stale(self, writes: Sequence[Write]) -> set[int]:
        places = self._take(writes)
        return {
            index
            for index, (place, write) in enumerate(zip(places, writes, strict=True))
            if write.row.position.pack() < self._rows[place[0]].newest(self._way.contributor, place[1])
        }

    def truncate(self, position: Position) -> Decision:
        packed = position.pack()
        self._withdraw(packed, {})  # nothing, when a newer truncate came first
        if packed < self._store.floors(self._way.mapping).get(self._way.contributor, b""):
            return _STALE
        self._store.raise_floor(self._way.mapping, self._way.contributor, packed)
        return _APPLIED

    def sweep(self, position: Position, keep: Iterable[tuple[Value, ...]]) -> SweepReport:
        kept: dict[str, set[str]] = {}
        for key in keep:
            target_key, source_key = self._place(key)
            kept.setdefault(target_key, set()).add(source_key)
        gone = self._withdraw(position.pack(), kept)
        return SweepReport(len(gone), tuple(gone[:5]))

    # Documents

    def _place(self, key: tuple[Value, ...]) -> Place:
        width = self._way.key_width
        return hold_of(key[:width]), hold_of(key[width:]) if width < len(key) else "[]"

    def _take(self, writes: Sequence[Write]) -> list[Place]:
        """Lock what the writes are about. Returns each one's place."""
        keys = writes.keys if isinstance(writes, Writes) else [write.row.key for write in writes]
        places = [self._place(key) for key in keys]
        width = self._way.key_width
        self._keys = {place[0]: key[:width] for place, key in zip(places, keys, strict=True)}
        wanted = set(self._keys)
        if not isinstance(writes, Writes):  # a block holds no halves of key changes
            moved = (write.row.moved_from for write in writes)
            wanted.update(self._place(key)[0] for key in moved if key is not None)
        taken = self._store.take(self._way.mapping, wanted)
        self._floors = self._store.floors(self._way.mapping)  # none rises any more: truncates wait for us
        self._rows = {key: self._shared(document) for key, document in taken.items()}
        return places

    def _shared(self, document: bytes) -> Shared:
        return Shared(decode(document) if document else Document(), self._floors, self._way.merged.convert)

    def _changes(self, writes: Sequence[Write]) -> Iterator[tuple[int, bytes, Sequence[Change]]]:
        """Of each write: its index, the position that all of it must pass the guard with, and its changes in order."""
        if not isinstance(writes, Writes):
            for index, write in enumerate(writes):
                yield index, write.base.pack(), [self._change(row) for row in write.rows]
            return
        shape, width, upserts = self._way.shape, self._way.width, writes.upserts
        last, packed = None, b""
        for index, (position, time) in enumerate(zip(writes.positions, writes.times(), strict=True)):
            if position is not last:
                last, packed = position, position.pack()
            chain = writes.chain(index)
            if chain:
                yield index, packed, [self._change(row) for row in chain]
            else:
                values = writes.values[index][:width] if index < upserts else None
                yield index, packed, (Change(packed, time, shape, values),)

    def _change(self, row: MappedRow) -> Change:
        values = None if row.values is None else row.values[: self._way.width]
        time = None if row.snapshot else row.time_us
        moved_from: Place | None = None
        loan = ""
        if row.moved_from is not None:
            moved_from, loan = self._place(row.moved_from), loan_of(hold_of(row.key), row.position)
        elif row.moved_to is not None:
            loan = loan_of(hold_of(row.moved_to), row.position)
        return Change(row.position.pack(), time, self._way.shape, values, moved_from, loan)

    def _apply(self, place: Place, base: bytes, changes: Sequence[Change]) -> Decision:
        shared, contributor = self._rows[place[0]], self._way.contributor
        newest = shared.newest(contributor, place[1])
        if changes[-1].position < newest:
            return _STALE
        if base < newest:
            return _MIXED
        for change in changes:
            if change.time is not None and change.time > self._latest_us:
                return _SKEWED
            lender = None if change.moved_from is None else self._rows[change.moved_from[0]]
            decision = shared.apply(contributor, place[1], change, lender, self._now_s)
            if decision.outcome is not Outcome.APPLIED:
                return decision
        return _APPLIED

    def _withdraw(self, position: bytes, kept: Mapping[str, set[str]]) -> list[str]:
        """Withdraw what this contributor said before `position`, in all documents; returns the keys' texts."""
        gone: list[str] = []
        after = ""
        while documents := self._store.portion(self._way.mapping, after, _PORTION):
            *_, after = documents
            self._rows, self._keys = {}, {}
            for key, document in documents.items():
                shared = self._shared(document)
                target_key = self._key_in(shared.document)
                if shared.withdraw_before(self._way.contributor, position, kept.get(key, set()), self._now_s):
                    assert target_key is not None, "there were live contributions"
                    self._rows[key], self._keys[key] = shared, target_key
                    gone.append(key)
            self._write_rows((), {})
        return gone

    def _key_in(self, document: Document) -> tuple[Value, ...] | None:
        """The target key, from what some source says."""
        for _, _, said in document.live():
            names = [column.name for column in self._way.merged.shape(said.shape).columns]
            assert said.values is not None
            return tuple([said.values[names.index(name)] for name in self._way.merged.table.key])
        return None

    # Rows

    def _write_rows(self, places: Sequence[Place], decisions: dict[int, Decision]) -> None:
        """Work out and write the rows whose contributions changed; keep the documents of those that went in."""
        rules = self._way.merged.resolver.rules.fingerprint
        changed = {key: shared.document for key, shared in self._rows.items() if shared.changed}
        rows: dict[str, MappedRow] = {}
        failed: dict[str, Decision] = {}
        for key, document in changed.items():
            if key not in self._keys:
                continue  # it only lent its values
            document.version, document.rules = document.version + 1, rules
            try:
                row = self._row(self._keys[key], document)
            except (ValueError, ArithmeticError) as error:
                failed[key] = Decision(Outcome.PARKED, "rule_failed", str(error))
                continue
            if row is not None:
                rows[key] = row
        failed |= self._write_merged(rows, places)
        for index, (key, _) in enumerate(places):
            if key in failed:
                decisions.setdefault(index, failed[key])
        self._store.keep(
            self._way.mapping, {key: encode(document) for key, document in changed.items() if key not in failed}
        )

    def _row(self, key: tuple[Value, ...], document: Document) -> MappedRow | None:
        """The row as it has to be written; None when there is nothing to write."""
        resolver = self._way.merged.resolver
        try:
            resolved = resolver.resolve(resolver.words(document))
        except UnknownShapeError as error:
            raise met_elsewhere() from error
        position = Position(_EPOCH, document.version, 0)
        if resolved is not None:
            return MappedRow(RowOp.UPSERT, key, resolved.values, position, _NO_RECORD)
        return None if document.version == 1 else MappedRow(RowOp.DELETE, key, None, position, _NO_RECORD)

    def _write_merged(self, rows: Mapping[str, MappedRow], places: Sequence[Place]) -> dict[str, Decision]:
        """Write target rows. Returns the keys of those that the target did not keep, with its word."""
        if not rows:
            return {}
        keys = list(rows)
        writes = [Write(row, row.position) for row in rows.values()]
        try:
            decisions = self._transaction.write(self._way.merged.table, writes)
        except PoisonRow as poison:
            bad = None if poison.index is None else keys[poison.index]
            index = next((index for index, (key, _) in enumerate(places) if key == bad), None)
            raise PoisonRow(poison.what, reason=poison.reason, index=index, hint=poison.hint) from poison
        for index, decision in decisions.items():
            if decision.reason == "stale":
                raise Terminal(
                    f"a row of {self._way.mapping} is newer than what is kept of its sources",
                    where=keys[index],
                    hint="were the target's tables restored without its schema cdc? Empty the table and rewind"
                    " the pipeline to the earliest offset",
                )
        return {keys[index]: decision for index, decision in decisions.items()}
