"""The reference target: everything in memory, transactions by copy, faults on request.

It is a target like any other to the engine and to the conformance suite. `faults` maps a step's name ('write',
'advance', 'commit', 'begin') to a callable that may raise, so that tests can break any step at any time.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field

import msgspec

from cdc.blocks import Writes
from cdc.decisions import Conflicts, Counted, KeptConflict
from cdc.errors import Fenced
from cdc.model import (
    APPLIED,
    STALE,
    UNAVAILABLE,
    Decision,
    DeletePolicy,
    MappedRow,
    Outcome,
    Position,
    RowOp,
    TargetTable,
    TopicPartition,
    Value,
    Write,
)
from cdc.target.base import (
    MIXED_REASON,
    ON_REQUEST,
    WAITING,
    Advance,
    Capabilities,
    Epoch,
    Owner,
    Parked,
    PoisonRow,
    Related,
    RepeatedSnapshot,
    Standing,
    SweepReport,
    Tally,
    Watermark,
    WorkerReport,
)
from cdc.target.memory_history import Changes, sweep_history, truncate_history, write_history
from cdc.target.memory_rules import write_ruled
from cdc.target.versions import Deployed

Key = tuple[Value, ...]
_BEGINNING = Position(0, 0, 0, 0)


@dataclass
class StoredRow:
    """`position`: the lowest there is for a row that somebody else made. `time_us`: when its change was committed."""

    values: tuple[Value, ...]
    position: Position = _BEGINNING
    deleted: bool = False
    time_us: int | None = None


@dataclass
class Table:
    """One target table with the state the engine keeps about it."""

    rows: dict[Key, StoredRow] = field(default_factory=dict)
    tombstones: dict[Key, Position] = field(default_factory=dict)
    moved: dict[tuple[Key, Key, Position], tuple[Value, ...]] = field(default_factory=dict)
    floor: Position = _BEGINNING
    history: Changes = field(default_factory=Changes)

    def put(self, key: Key, values: tuple[Value, ...], position: Position, time_us: int | None = None) -> None:
        self.rows[key] = StoredRow(values, position, False, time_us)
        self.tombstones.pop(key, None)


@dataclass
class Contributions:
    """Those to one target table."""

    shapes: list[str] = field(default_factory=list)
    documents: dict[str, bytes] = field(default_factory=dict)
    memories: dict[str, int] = field(default_factory=dict)
    floors: dict[str, bytes] = field(default_factory=dict)


@dataclass
class Storage:
    """What survives a crash; several `MemoryTarget`s (workers) may share one."""

    tables: dict[str, Table] = field(default_factory=dict)
    watermarks: dict[tuple[Owner, TopicPartition], Watermark] = field(default_factory=dict)
    parked: dict[int, Parked] = field(default_factory=dict)
    parked_by: dict[int, Owner] = field(default_factory=dict)
    retry_requests: set[tuple[str, str]] = field(default_factory=set)
    park_requests: set[tuple[Owner, TopicPartition, int]] = field(default_factory=set)
    tallies: Counter[tuple[str, TopicPartition, str, str]] = field(default_factory=Counter)
    repeated: dict[tuple[str, Position], RepeatedSnapshot] = field(default_factory=dict)
    epochs: dict[tuple[Owner, str], Epoch] = field(default_factory=dict)
    reports: dict[str, WorkerReport] = field(default_factory=dict)
    contributions: dict[str, Contributions] = field(default_factory=dict)
    conflict_counts: Counter[Counted] = field(default_factory=Counter)
    conflicts: list[KeptConflict] = field(default_factory=list)
    versions: dict[Owner, list[Deployed]] = field(default_factory=dict)
    last_id: int = 0


class MemoryTarget:
    """A `Target` over a `Storage`. `accepts(table, values)` plays the role of constraints."""

    capabilities = Capabilities(transactions=True, creates_tables=True, contributions=True, rules=True, history=True)

    def __init__(
        self,
        storage: Storage | None = None,
        accepts: Callable[[TargetTable, tuple[Value, ...]], bool] = lambda table, values: True,
        faults: Mapping[str, Callable[[], None]] | None = None,
    ) -> None:
        self.storage = storage or Storage()
        self.accepts = accepts
        self.faults = dict(faults or {})

    def open(self, owner: Owner) -> None:
        self.owner = owner

    def close(self) -> None:
        pass

    def prepare(self, table: TargetTable) -> None:
        self.storage.tables.setdefault(table.mapping, Table())

    def related(self, table: TargetTable) -> Related:
        """It has no constraints between rows."""
        return Related(f"{table.namespace}.{table.name}")

    @property
    def shapes(self) -> MemoryContributions:
        return MemoryContributions(self.storage)

    def encode(self, table: TargetTable, writes: Writes) -> None:
        pass

    def forget(self) -> None:
        pass

    def register(self, topic_ids: Mapping[TopicPartition, str]) -> None:
        for partition, topic_id in topic_ids.items():
            self.storage.watermarks.setdefault((self.owner, partition), Watermark(partition, topic_id, None, 0))

    def take(self, topic_ids: Mapping[TopicPartition, str]) -> list[Watermark]:
        taken = []
        for partition, topic_id in topic_ids.items():
            key = (self.owner, partition)
            known = self.storage.watermarks.get(key) or Watermark(partition, topic_id, None, 0)
            of = topic_id if known.next is None else known.topic_id
            self.storage.watermarks[key] = msgspec.structs.replace(known, topic_id=of, fence=known.fence + 1)
            taken.append(self.storage.watermarks[key])
        return taken

    def watermarks(self) -> list[Watermark]:
        return [mark for (owner, _), mark in self.storage.watermarks.items() if owner == self.owner]

    @contextmanager
    def begin(self, moves: Sequence[Advance] = ()) -> Iterator[MemoryTransaction]:
        self.fault("begin")
        transaction = MemoryTransaction(self, copy.deepcopy(self.storage))
        yield transaction
        self.fault("commit")
        self.storage.__dict__.update(transaction.storage.__dict__)
        self.fault("committed")

    def epochs(self) -> list[Epoch]:
        return [epoch for (owner, _), epoch in self.storage.epochs.items() if owner == self.owner]

    def begin_epoch(self, epoch: Epoch) -> None:
        known = self.storage.epochs.get((self.owner, epoch.source))
        if known is None or known.number < epoch.number:
            self.storage.epochs[self.owner, epoch.source] = epoch

    def report(self, report: WorkerReport) -> None:
        self.storage.reports[report.worker] = report

    def standing(self) -> Standing:
        """It has no clock: nothing in it gets old."""
        records = sum(record.reason not in WAITING for record in self._parked_in_order())
        return Standing(records, None, bool(self.storage.retry_requests))

    def parked(self, partitions: Sequence[TopicPartition]) -> dict[tuple[str, str], str]:
        held: dict[tuple[str, str], str] = {}
        for record in self._parked_in_order():
            if record.hold and TopicPartition(record.record.topic, record.record.partition) in partitions:
                held.setdefault((record.mapping, record.hold), record.reason)
        return held

    def queue(self, mapping: str, holds: Sequence[str]) -> list[Parked]:
        return [
            msgspec.structs.replace(record, asked=(mapping, record.hold) in self.storage.retry_requests)
            for record in self._parked_in_order()
            if record.mapping == mapping and record.hold in holds
        ]

    def retries(self, partitions: Sequence[TopicPartition]) -> list[tuple[str, str]]:
        there = {
            (each.mapping, each.hold)
            for each in self._parked_in_order()
            if TopicPartition(each.record.topic, each.record.partition) in partitions
        }
        return sorted(self.storage.retry_requests & there)

    def park_requests(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, dict[int, str]]:
        found: dict[TopicPartition, dict[int, str]] = {}
        for owner, partition, offset in self.storage.park_requests:
            if owner == self.owner and partition in partitions:
                found.setdefault(partition, {})[offset] = "asked for"
        return found

    def deployed(self) -> Deployed | None:
        return next(reversed(self.storage.versions.get(self.owner, ())), None)

    def purge(self, keep_s: float) -> int:
        """Lives shorter than anything is kept."""
        return 0

    def purge_conflicts(self, keep_s: float) -> int:
        """The same."""
        return 0

    def fault(self, step: str) -> None:
        if step in self.faults:
            self.faults[step]()

    def _parked_in_order(self) -> list[Parked]:
        by = self.storage.parked_by
        return [record for number, record in sorted(self.storage.parked.items()) if by[number] == self.owner]


class MemoryTransaction:
    def __init__(self, target: MemoryTarget, storage: Storage) -> None:
        self.target = target
        self.storage = storage

    @property
    def contributions(self) -> MemoryContributions:
        return MemoryContributions(self.storage)

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        before = copy.deepcopy(self.storage)
        try:
            yield
        except BaseException:
            self.storage = before
            raise

    def retried(self, ids: Sequence[int]) -> None:
        keys = {(self.storage.parked[id_].mapping, self.storage.parked[id_].hold) for id_ in ids}
        self.storage.retry_requests -= keys

    def deferred(self) -> AbstractContextManager[None]:
        return nullcontext()

    def write(self, table: TargetTable, writes: Sequence[Write]) -> dict[int, Decision]:
        self.target.fault("write")
        stored = self.storage.tables[table.mapping]
        if table.history is not None:
            return write_history(self.target, table, stored, writes)
        decisions: dict[int, Decision] = {}
        # Deletes first, as in every target: they lend the values that creates of the same round may borrow.
        for index, write in sorted(enumerate(writes), key=lambda pair: pair[1].row.op is not RowOp.DELETE):
            decision = self._write_one(table, stored, write, index)
            if decision.outcome is not Outcome.APPLIED or decision.conflict is not None:
                decisions[index] = decision
        return decisions

    def _write_one(self, table: TargetTable, stored: Table, write: Write, index: int) -> Decision:
        row, newest = write.row, _newest(stored, write.row.key)
        if row.position < newest:
            return STALE
        ignored = row.op is RowOp.DELETE and table.on_delete is DeletePolicy.IGNORE
        if table.rules is not None and not ignored:
            return write_ruled(self.target, table, stored, write, index)
        if write.base < newest:
            return Decision(Outcome.PARKED, MIXED_REASON)
        if row.op is RowOp.DELETE:
            return _delete(table, stored, row)
        return self._upsert(table, stored, row, index)

    def _upsert(self, table: TargetTable, stored: Table, row: MappedRow, index: int) -> Decision:
        current = stored.rows.get(row.key)
        values = row.values
        assert values is not None
        if row.partial:
            redelivered = current is not None and current.position == row.position
            under = current.values if current else None
            if row.moved_from is not None and not redelivered:
                under = stored.moved.get((row.moved_from, row.key, row.position.place))
            if under is None:
                reason = "update_missing" if row.moved_from is None else "moved_values_missing"
                return Decision(Outcome.PARKED, reason)
            values = _overlay(under, values, table, row.key)
        if not self.target.accepts(table, values):
            raise PoisonRow("the table refuses the row", reason="refused", index=index)
        if row.moved_from is not None:
            stored.moved.pop((row.moved_from, row.key, row.position.place), None)
        stored.put(row.key, values, row.position)
        return APPLIED

    def stale(self, table: TargetTable, writes: Sequence[Write]) -> set[int]:
        stored = self.storage.tables[table.mapping]
        return {index for index, write in enumerate(writes) if write.row.position < _newest(stored, write.row.key)}

    def truncate(self, table: TargetTable, position: Position, time_us: int | None = None) -> Decision:
        stored = self.storage.tables[table.mapping]
        if table.history is not None:
            return truncate_history(table.history, stored, position, time_us)
        if position < stored.floor:
            return STALE
        stored.floor = position
        for key in [key for key, row in stored.rows.items() if row.position < position]:
            if table.on_delete is DeletePolicy.DELETE:
                del stored.rows[key]
            elif table.on_delete is DeletePolicy.SOFT:
                stored.rows[key].deleted, stored.rows[key].position = True, position
        return APPLIED

    def sweep(self, table: TargetTable, position: Position, keep: Iterable[Key]) -> SweepReport:
        stored, kept = self.storage.tables[table.mapping], set(keep)
        if table.history is not None:
            return sweep_history(table, stored, position, kept)
        gone = [key for key, row in stored.rows.items() if row.position < position and key not in kept]
        for key in gone:
            _remove(table, stored, key, position)
        return SweepReport(len(gone), tuple(repr(key) for key in gone[:5]))

    def park(self, records: Sequence[Parked]) -> None:
        owner, by = self.target.owner, self.storage.parked_by
        for topic, partition, offset in {record.place for record in records if record.reason == ON_REQUEST}:
            self.storage.park_requests.discard((owner, TopicPartition(topic, partition), offset))
        known = {
            (parked.mapping, parked.record.where) for id_, parked in self.storage.parked.items() if by[id_] == owner
        }
        for record in records:
            if (record.mapping, record.record.where) not in known:
                self.storage.last_id += 1
                self.storage.parked[self.storage.last_id] = msgspec.structs.replace(record, id=self.storage.last_id)
                by[self.storage.last_id] = owner

    def unpark(self, ids: Sequence[int]) -> None:
        for parked_id in ids:
            self.storage.parked.pop(parked_id, None)

    def repark(self, records: Sequence[Parked]) -> None:
        for record in records:
            assert record.id is not None
            self.storage.parked[record.id] = record

    def count(self, tallies: Sequence[Tally]) -> None:
        for tally in tallies:
            self.storage.tallies[tally.mapping, tally.partition, tally.outcome, tally.reason] += tally.number

    def note(self, conflicts: Conflicts) -> None:
        self.storage.conflict_counts.update(conflicts.counts)
        self.storage.conflicts += conflicts.kept

    def repeated_snapshot(self, found: RepeatedSnapshot) -> None:
        self.storage.repeated[found.mapping, found.position] = found

    def advance(self, moves: Sequence[Advance]) -> None:
        self.target.fault("advance")
        for move in moves:
            # Read from the shared storage, not the copy: another worker may have committed since we began.
            stored = self.target.storage.watermarks[self.target.owner, move.partition]
            if stored.fence != move.fence or stored.next != move.expected:
                raise Fenced(f"{move.partition} was taken or moved by somebody else")
            self.storage.watermarks[self.target.owner, move.partition] = msgspec.structs.replace(
                stored, next=move.next, tracker=stored.tracker if move.tracker is None else move.tracker
            )


class MemoryContributions:
    """A `ContributionStore` and a `ShapeStore`."""

    def __init__(self, storage: Storage) -> None:
        self._by_mapping = storage.contributions

    def take(self, mapping: str, keys: Iterable[str]) -> dict[str, bytes]:
        documents = self._of(mapping).documents
        return {key: documents.get(key, b"") for key in keys}

    def keep(self, mapping: str, documents: Mapping[str, bytes], memories: Mapping[str, int]) -> None:
        kept = self._of(mapping)
        for key, document in documents.items():
            kept.documents[key] = document
            kept.memories.pop(key, None)
            if not document:
                del kept.documents[key]
        kept.memories.update(memories)

    def forgettable(self, mapping: str, before_s: int, limit: int) -> dict[str, bytes]:
        kept = self._of(mapping)
        old = sorted((since, key) for key, since in kept.memories.items() if since < before_s)
        return {key: kept.documents[key] for _, key in old[:limit]}

    def portion(self, mapping: str, after: str, limit: int) -> dict[str, bytes]:
        documents = self._of(mapping).documents
        return {key: documents[key] for key in sorted(key for key in documents if key > after)[:limit]}

    def floors(self, mapping: str) -> dict[str, bytes]:
        return self._of(mapping).floors

    def raise_floor(self, mapping: str, contributor: str, position: bytes) -> None:
        self._of(mapping).floors[contributor] = position

    def number(self, mapping: str, shape: str) -> int:
        shapes = self._of(mapping).shapes
        if shape not in shapes:
            shapes.append(shape)
        return shapes.index(shape)

    def all(self, mapping: str) -> dict[int, str]:
        return dict(enumerate(self._of(mapping).shapes))

    def _of(self, mapping: str) -> Contributions:
        return self._by_mapping.setdefault(mapping, Contributions())


def _newest(stored: Table, key: Key) -> Position:
    row = stored.rows.get(key)
    return max(row.position if row else _BEGINNING, stored.tombstones.get(key, _BEGINNING), stored.floor)


def _delete(table: TargetTable, stored: Table, row: MappedRow) -> Decision:
    current = stored.rows.get(row.key)
    if row.moved_to is not None and current is not None:
        stored.moved[row.key, row.moved_to, row.position.place] = current.values
    if table.on_delete is DeletePolicy.IGNORE:
        return Decision(Outcome.SKIPPED, "ignored_delete")
    _remove(table, stored, row.key, row.position)
    return APPLIED


def _remove(table: TargetTable, stored: Table, key: Key, position: Position) -> None:
    row = stored.rows.get(key)
    if table.on_delete is DeletePolicy.SOFT and row is not None:
        row.deleted, row.position = True, position
    else:
        stored.rows.pop(key, None)
        stored.tombstones[key] = position


def _overlay(under: tuple[Value, ...], over: tuple[Value, ...], table: TargetTable, key: Key) -> tuple[Value, ...]:
    merged = [low if high is UNAVAILABLE else high for low, high in zip(under, over, strict=True)]
    for index, value in zip(table.key_indexes, key, strict=True):
        merged[index] = value
    return tuple(merged)
