"""Tables of which several sources make the rows: contributions in, rows out, in the engine's own transaction.

To the engine a contribution is a row like any other, of a table whose key also tells the source row (`Contributes`).
Its guard, folding, parking and healing are the same. What is written is another thing: the documents of a round's
target keys are taken (locked, in key order), the changes applied to them in memory, the rows worked out from all that
the sources said, written through the target's own batched path, and the documents kept. A target row's position is its
document's version: it only rises, so the target's guard lets every such write pass.

A round goes in portions, in the order of the keys, so that the server takes and writes documents of one while the rows
of another are worked out: a fifth of the speed of the same rows by one source (tests/bench/sources.py has what it
costs).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from itertools import compress
from operator import ne
from typing import NamedTuple

import msgspec

from cdc.blocks import Image, Writes, picker
from cdc.conflict.contributions import Change, Document, Shared, decode, encode, loan_of
from cdc.conflict.resolve import UnknownShapeError
from cdc.decisions import KEPT, named, seen
from cdc.engine.merged import MergedTables, Merging, met_elsewhere
from cdc.engine.merged_rows import MergedRow, MergedRows
from cdc.errors import Terminal
from cdc.model import (
    APPLIED,
    STALE,
    UNAVAILABLE,
    Action,
    Conflict,
    ConflictType,
    Decision,
    Kind,
    MappedRow,
    Outcome,
    Position,
    TargetTable,
    Value,
    Write,
)
from cdc.target.base import MIXED_REASON, PoisonRow, SweepReport, hold_of
from cdc.target.contributions import ContributingTransaction, ContributionStore

Encode = Callable[[TargetTable, Writes], object]
Key = tuple[Value, ...]
Place = tuple[str, str]  # texts of a target key and of a source key

_PORTION = 1000
"""Documents looked at at once."""
_SKEWED = Decision(
    Outcome.PARKED, "clock_skew", "its commit time is too far in the future: it would win over every other for as long"
)
_MIXED = Decision(Outcome.PARKED, MIXED_REASON)


class MergingTransaction:
    """A `Transaction` that takes contributions beside rows. `now_s`: the clock, for memories of what was withdrawn.
    `beside`: one thread, in which the connection is used while rows are worked out in this one. `encode`: the
    target's, see there."""

    def __init__(
        self,
        inner: ContributingTransaction,
        tables: MergedTables,
        encode: Encode,
        beside: Executor,
        now_s: Callable[[], float],
    ) -> None:
        self._inner = inner
        self._tables = tables
        self._encode = encode
        self._beside = beside
        self._now_s = now_s
        self.savepoint = inner.savepoint
        self.deferred = inner.deferred
        self.park = inner.park
        self.unpark = inner.unpark
        self.retried = inner.retried
        self.repark = inner.repark
        self.count = inner.count
        self.note = inner.note
        self.repeated_snapshot = inner.repeated_snapshot
        self.advance = inner.advance

    def write(self, table: TargetTable, writes: Sequence[Write]) -> dict[int, Decision]:
        if table.contributes is None:
            return self._inner.write(table, writes)
        return self._round(table).write(writes, self._beside)

    def stale(self, table: TargetTable, writes: Sequence[Write]) -> set[int]:
        if table.contributes is None:
            return self._inner.stale(table, writes)
        return self._round(table).stale(writes)

    def truncate(self, table: TargetTable, position: Position, time_us: int | None = None) -> Decision:
        if table.contributes is None:
            return self._inner.truncate(table, position, time_us)
        return self._round(table).truncate(position)

    def sweep(self, table: TargetTable, position: Position, keep: Iterable[Key]) -> SweepReport:
        if table.contributes is None:
            return self._inner.sweep(table, position, keep)
        return self._round(table).sweep(position, keep)

    def reapply(self, table: TargetTable, after: str) -> Reapplied:
        """Work out anew the rows that were last worked out by other rules, of a portion of the documents: those behind
        the key `after` ('': from the first)."""
        return self._round(table).reapply(after)

    def _round(self, table: TargetTable) -> _Round:
        return _Round(self._inner, self._tables.of(table), self._encode, self._now_s())


class Reapplied(NamedTuple):
    """`after`: the last key that was looked at, None at the end; how many documents were looked at, and how many rows
    were worked out anew."""

    after: str | None
    looked: int
    rows: int


class _Item(NamedTuple):
    """One write: its number, its place, the position that all of it must pass the guard with, its changes in order."""

    number: int
    place: Place
    base: bytes
    changes: Sequence[Change]


@dataclass
class _Portion:
    """Writes whose documents are taken together. `keys`: target keys by their text; `lenders`: those of other rows
    that values are borrowed from. `taken`, `rows`: what was taken, as it was kept and as it is changed."""

    items: list[_Item] = field(default_factory=list)
    keys: dict[str, Key] = field(default_factory=dict)
    lenders: set[str] = field(default_factory=set)
    taken: dict[str, bytes] = field(default_factory=dict)
    rows: dict[str, Shared] = field(default_factory=dict)


@dataclass
class _Outcome:
    """What has to be written: rows of the target table by the text of their key, documents; and what cannot be.
    `values`: of the rows that are there."""

    rows: MergedRows
    values: dict[str, Image]
    documents: dict[str, Document]
    failed: dict[str, Decision]


class _Round:
    """One call of a transaction: nothing that it read of the documents outlives it."""

    def __init__(self, transaction: ContributingTransaction, way: Merging, encode: Encode, now_s: float) -> None:
        self._transaction = transaction
        self._store: ContributionStore = transaction.contributions
        self._way = way
        self._encode = encode
        self._now_s, self._now_us = int(now_s), int(now_s * 1_000_000)
        self._latest_us = int((now_s + way.max_skew_s) * 1_000_000)
        self._told: dict[tuple[str, ...], Decision] = {}  # one object for all that say the same
        self._seen = 0

    def write(self, writes: Sequence[Write], beside: Executor) -> dict[int, Decision]:
        decisions: dict[int, Decision] = {}
        portions = self._portions(writes)
        coming = [beside.submit(self._take, portion) for portion in portions[:1]]
        written: list[tuple[_Portion, Future[dict[str, Decision]]]] = []
        try:
            for number, portion in enumerate(portions):
                coming.pop().result()
                coming += [beside.submit(self._take, after) for after in portions[number + 1 : number + 2]]
                decisions |= self._apply(portion)
                outcome = self._work_out(portion)
                written.append((portion, beside.submit(self._put, outcome)))
                self._compare(portion, outcome.values, decisions)
            for portion, failed in written:
                self._note(portion, failed.result(), decisions)
        except PoisonRow as poison:
            raise self._placed(poison, writes) from poison
        finally:
            for taken in coming:
                taken.exception()
            for _, put in written:
                put.exception()  # the connection is ours again when nothing runs beside any more
        return decisions

    def stale(self, writes: Sequence[Write]) -> set[int]:
        contributor = self._way.contributor
        found: set[int] = set()
        for portion in self._portions(writes):
            self._take(portion)
            for index, (key, source_key), _, changes in portion.items:
                if changes[-1].position < portion.rows[key].newest(contributor, source_key):
                    found.add(index)
        return found

    def truncate(self, position: Position) -> Decision:
        packed = position.pack()
        self._withdraw(packed, {})  # nothing, when a newer truncate came first
        if packed < self._store.floors(self._way.mapping).get(self._way.contributor, b""):
            return STALE
        self._store.raise_floor(self._way.mapping, self._way.contributor, packed)
        return APPLIED

    def sweep(self, position: Position, keep: Iterable[Key]) -> SweepReport:
        kept: dict[str, set[str]] = {}
        for key in keep:
            target_key, source_key = self._place(key)
            kept.setdefault(target_key, set()).add(source_key)
        gone = self._withdraw(position.pack(), kept)
        return SweepReport(len(gone), tuple(gone[:5]))

    def reapply(self, after: str) -> Reapplied:
        keys = list(self._store.portion(self._way.mapping, after, _PORTION))
        if not keys:
            return Reapplied(None, 0, 0)
        rules, portion = self._way.merged.resolver.rules.fingerprint, _Portion(lenders=set(keys))
        self._take(portion)
        for key, shared in portion.rows.items():
            target_key = self._key_in(shared.document)
            if shared.document.rules != rules and target_key is not None:
                portion.keys[key], shared.changed = target_key, True
        refused = self._put(self._work_out(portion))
        for key, decision in refused.items():
            raise Terminal(
                f"a row cannot be worked out by the new rules: {decision.reason} {decision.detail}".strip(),
                where=f"{self._way.mapping} {key}",
                hint="mend the rules, or this row's values at a source",
            )
        return Reapplied(keys[-1], len(keys), len(portion.keys))

    # What is asked for

    def _place(self, key: Key) -> Place:
        width = self._way.key_width
        return hold_of(key[:width]), hold_of(key[width:]) if width < len(key) else "[]"

    def _portions(self, writes: Sequence[Write]) -> list[_Portion]:
        """Plain writes in portions, all of a target row in one; others at once: they may borrow from one another."""
        width = self._way.key_width
        whole = _Portion()
        if not isinstance(writes, Writes):
            for index, write in enumerate(writes):
                place = self._place(write.row.key)
                whole.items.append(_Item(index, place, write.base.pack(), [self._change(row) for row in write.rows]))
                whole.keys[place[0]] = write.row.key[:width]
            whole.lenders = {
                change.moved_from[0] for item in whole.items for change in item.changes if change.moved_from is not None
            }
            return [whole]
        items = sorted(self._plain(writes), key=lambda item: item.place[0])
        found: list[_Portion] = []
        for item in items:
            if not found or (len(found[-1].items) >= _PORTION and item.place[0] not in found[-1].keys):
                found.append(_Portion())
            found[-1].items.append(item)
            found[-1].keys[item.place[0]] = writes.keys[item.number][:width]
        return found

    def _plain(self, writes: Writes) -> Iterator[_Item]:
        shape, width, upserts, values = self._way.shape, self._way.width, writes.upserts, writes.values
        last, packed = None, b""
        for index, (key, position, time) in enumerate(zip(writes.keys, writes.positions, writes.times(), strict=True)):
            if position is not last:
                last, packed = position, position.pack()
            changes: Sequence[Change] = [self._change(row) for row in writes.chain(index)]
            if not changes:
                changes = (Change(packed, time, shape, values[index][:width] if index < upserts else None),)
            yield _Item(index, self._place(key), packed, changes)

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

    # Documents

    def _take(self, portion: _Portion) -> None:
        taken = portion.taken = self._store.take(self._way.mapping, {*portion.keys, *portion.lenders})
        floors = self._store.floors(self._way.mapping)  # none rises any more: truncates wait for us
        convert = self._way.merged.convert
        portion.rows = {
            key: Shared(decode(document) if document else Document(), floors, convert)
            for key, document in taken.items()
        }

    def _apply(self, portion: _Portion) -> dict[int, Decision]:
        """Decisions that are not 'applied', by index."""
        # Deletes first, as in every target: they lend the values that creates of the same round may borrow.
        deletes = [item for item in portion.items if item.changes[-1].values is None]
        upserts = [item for item in portion.items if item.changes[-1].values is not None] if deletes else portion.items
        decided = ((item.number, self._one(portion, item)) for item in (*deletes, *upserts))
        return {index: decision for index, decision in decided if decision is not APPLIED}

    def _one(self, portion: _Portion, item: _Item) -> Decision:
        (key, source_key), contributor = item.place, self._way.contributor
        shared = portion.rows[key]
        newest = shared.newest(contributor, source_key)
        if item.changes[-1].position < newest:
            return STALE
        if item.base < newest:
            return _MIXED
        for change in item.changes:
            if change.time is not None and change.time > self._latest_us:
                return _SKEWED
            lender = None if change.moved_from is None else portion.rows[change.moved_from[0]]
            decision = shared.apply(contributor, source_key, change, lender, self._now_s)
            # What a later whole image of the chain replaces has no say, whether it is stale or waits for its row.
            if decision.outcome is not Outcome.APPLIED and change.position >= item.base:
                return decision
        return APPLIED

    def _withdraw(self, position: bytes, kept: Mapping[str, set[str]]) -> list[str]:
        """Withdraw what this contributor said before `position`, in all documents; returns the keys' texts."""
        gone: list[str] = []
        after = ""
        while documents := self._store.portion(self._way.mapping, after, _PORTION):
            *_, after = documents
            portion = _Portion()
            for key, document in documents.items():
                shared = Shared(decode(document) if document else Document(), {}, self._way.merged.convert)
                target_key = self._key_in(shared.document)
                if shared.withdraw_before(self._way.contributor, position, kept.get(key, set()), self._now_s):
                    assert target_key is not None, "there were live contributions"
                    portion.rows[key], portion.keys[key] = shared, target_key
                    gone.append(key)
            self._put(self._work_out(portion))
        return gone

    def _key_in(self, document: Document) -> Key | None:
        """The target key, from what some source says."""
        for _, _, said in document.live():
            names = [column.name for column in self._way.merged.shape(said.shape).columns]
            assert said.values is not None
            return tuple([said.values[names.index(name)] for name in self._way.merged.table.key])
        return None

    # Rows

    def _work_out(self, portion: _Portion) -> _Outcome:
        """The rows whose contributions changed."""
        resolver = self._way.merged.resolver
        rows: list[MergedRow] = []
        documents: dict[str, Document] = {}
        failed: dict[str, Decision] = {}
        values: dict[str, Image] = {}
        for key, shared in portion.rows.items():
            if not shared.changed:
                continue
            document, target_key = shared.document, portion.keys.get(key)
            documents[key] = document
            if target_key is None:
                continue  # it only lent its values
            new, document.rules = document.version == 0, resolver.rules.fingerprint
            document.version = max(document.version + 1, self._now_us)
            try:
                resolved = resolver.resolve(resolver.words(document))
            except UnknownShapeError as error:
                raise met_elsewhere() from error
            except (ValueError, ArithmeticError) as error:
                failed[key] = Decision(Outcome.PARKED, "rule_failed", str(error))
                continue
            if resolved is not None:
                values[key] = resolved.values
                rows.append(MergedRow(key, target_key, resolved.values, document.version))
            elif not new:
                rows.append(MergedRow(key, target_key, None, document.version))
        merged = MergedRows(rows)
        merged.encoded = self._encode(self._way.merged.table, merged)
        return _Outcome(merged, values, documents, failed)

    # Conflicts

    def _compare(self, portion: _Portion, rows: Mapping[str, Image], decisions: dict[int, Decision]) -> None:
        """Of the applied changes, those whose values do not all stand in their row: another source's do."""
        if not rows:
            return
        columns = self._way.merged.shape(self._way.shape).columns
        shape = [column.name for column in columns]
        own = [column.name for column in self._way.merged.resolver.columns]
        pick = picker([own.index(name) for name in shape])
        floats = any(column.type.kind in (Kind.FLOAT32, Kind.FLOAT64) for column in columns)
        for item in portion.items:
            said, row = item.changes[-1].values, rows.get(item.place[0])
            if said is None or row is None or item.number in decisions:
                continue
            stands = pick(row)
            if said == stands:
                continue
            differing = tuple(compress(shape, map(ne, said, stands)))
            if floats or UNAVAILABLE in said:  # what it does not say differs from nothing; a NaN is not even itself
                differing = tuple(
                    [
                        name
                        for name, mine, there in zip(shape, said, stands, strict=True)
                        if mine != there and mine is not there and mine is not UNAVAILABLE
                    ]
                )
            if differing:
                decisions[item.number] = self._differing(differing, portion, item, row)

    def _differing(self, differing: tuple[str, ...], portion: _Portion, item: _Item, row: Image) -> Decision:
        decision = self._told.get(differing)
        if decision is None:
            conflict = Conflict(ConflictType.UPDATE_ORIGIN_DIFFERS, Action.MERGE, differing)
            reason = f"{conflict.type}:{conflict.action}"
            decision = self._told[differing] = Decision(Outcome.APPLIED, reason, conflict=conflict)
        self._seen += 1
        if self._seen > KEPT or decision.conflict is None:
            return decision
        merged, said = self._way.merged, item.changes[-1].values
        incoming = None if said is None else named(merged.shape(self._way.shape).columns, said)
        columns = merged.resolver.columns
        before = self._before(portion.taken[item.place[0]])
        was = None if before is None else named(columns, before)
        told = seen(was, incoming, named(columns, row))
        return msgspec.structs.replace(decision, conflict=msgspec.structs.replace(decision.conflict, seen=told))

    def _before(self, document: bytes) -> Image | None:
        """The row that a document made, by today's rules."""
        resolver = self._way.merged.resolver
        try:
            resolved = resolver.resolve(resolver.words(decode(document))) if document else None
        except (UnknownShapeError, ValueError, ArithmeticError):
            return None
        return None if resolved is None else resolved.values

    def _put(self, outcome: _Outcome) -> dict[str, Decision]:
        """Write rows and documents. Returns the keys of those that did not go in, with the reason."""
        failed = dict(outcome.failed)
        if outcome.rows:
            for index, decision in self._transaction.write(self._way.merged.table, outcome.rows).items():
                key = outcome.rows.texts[index]
                if decision.reason == "stale":
                    raise self._older(key)
                failed[key] = decision
        documents = {key: document for key, document in outcome.documents.items() if key not in failed}
        if documents:
            keep(self._store, self._way.mapping, documents)
        return failed

    def _note(self, portion: _Portion, failed: Mapping[str, Decision], decisions: dict[int, Decision]) -> None:
        if failed:
            for item in portion.items:
                known = decisions.get(item.number, APPLIED)
                if item.place[0] in failed and known.outcome is Outcome.APPLIED:
                    decisions[item.number] = failed[item.place[0]]

    def _older(self, key: str) -> Terminal:
        return Terminal(
            f"a row of {self._way.mapping} is newer than what is kept of its sources",
            where=key,
            hint="were the target's tables restored without its schema cdc? Empty the table and rewind the pipeline to"
            " the earliest offset",
        )

    def _placed(self, poison: PoisonRow, writes: Sequence[Write]) -> PoisonRow:
        """The target names the bad row among its own, which are others: which of these writes it is, nobody knows when
        there are several."""
        index = 0 if len(writes) == 1 else None
        return PoisonRow(poison.what, reason=poison.reason, index=index, hint=poison.hint)


def keep(store: ContributionStore, mapping: str, documents: Mapping[str, Document]) -> None:
    """Put documents back that were taken from the store."""
    since = {key: document.memory_s() for key, document in documents.items()}
    memories = {key: second for key, second in since.items() if second is not None}
    store.keep(mapping, {key: encode(document) for key, document in documents.items()}, memories)
