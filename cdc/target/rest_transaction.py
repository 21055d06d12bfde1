"""One batch on its way to a REST target: decided by the guard, sent, and stored with the watermarks."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from hashlib import sha256
from typing import Any

import msgspec
import structlog

from cdc.decisions import Conflicts
from cdc.errors import CdcError, Poison
from cdc.model import (
    APPLIED,
    STALE,
    Decision,
    DeletePolicy,
    Kind,
    MappedRow,
    Outcome,
    Position,
    RawRecord,
    RowOp,
    TargetTable,
    TopicPartition,
    Value,
    Write,
)
from cdc.target.base import (
    MIXED_REASON,
    Advance,
    Parked,
    RepeatedSnapshot,
    SweepReport,
    Tally,
    Transaction,
    hold_of,
)
from cdc.target.delivery import Answered, Delivery, Last
from cdc.target.rest_delivery import NOWHERE, Deliverer, UnsentError
from cdc.target.rest_tables import Tables

_log = structlog.get_logger(__name__)

_PARTIAL = "only some columns came (the source does not repeat large values) and the mapping has no patch: request"
_EXAMPLES = 5


class RestTransaction:
    """What was sent stays sent; what is to be stored waits for `advance` and is stored with it, in one transaction."""

    def __init__(self, deliverer: Deliverer, tables: Tables, moves: Sequence[Advance]) -> None:
        self._deliverer = deliverer
        self._ledger = deliverer.ledger
        self._tables = tables
        self._moves = moves
        self._later: list[Callable[[Transaction], None]] = []
        self._answered: list[Answered] = []
        self._guards: list[Delivery] = []
        self._last: dict[tuple[str, str], Last] = {}  # of this transaction's own deliveries
        self._at_end: list[tuple[TargetTable, list[MappedRow]]] = []
        self.stored = ExitStack()  # the state store's transaction, once it is open
        self._stored: Transaction | None = None

    def savepoint(self) -> AbstractContextManager[None]:
        """`write` raises no `Poison` here: a refused row is a decision, so there is nothing to take back."""
        return nullcontext()

    def deferred(self) -> AbstractContextManager[None]:
        return nullcontext()

    def write(self, table: TargetTable, writes: Sequence[Write]) -> dict[int, Decision]:
        if self._tables.owes_clearing(table):
            self._clear(table, self._ledger.floor(table.mapping))
        newest = self._newest(table, [write.row for write in writes])
        floor = self._ledger.floor(table.mapping)
        decisions: dict[int, Decision] = {}
        going: list[tuple[int, Delivery]] = []
        for index, write in enumerate(writes):
            found = self._decide(table, write, newest.get(_hashed(hold_of(write.row.key))), floor)
            if isinstance(found, Decision):
                decisions[index] = found
            elif found is not None:
                going.append((index, found))
        refused = self._send([delivery for _, delivery in going])
        for index, delivery in going:
            answer = refused.get(delivery.idempotency_key)
            if answer is not None:
                detail = f"the target answered {answer.status}: cdc deliveries show {delivery.idempotency_key} --answer"
                decisions[index] = Decision(Outcome.PARKED, f"refused_{answer.status}", detail)
        return decisions

    def _decide(
        self, table: TargetTable, write: Write, last: Last | None, floor: Position
    ) -> Decision | Delivery | None:
        """What to send, None when the row has it already, or a decision without sending."""
        row = write.row
        at = floor if last is None else max(last.position, floor)
        if row.position < at:
            return STALE
        if write.base < at:
            return Decision(Outcome.PARKED, MIXED_REASON)
        if row.op is RowOp.DELETE and table.on_delete is DeletePolicy.IGNORE:
            return Decision(Outcome.SKIPPED, "ignored_delete")
        hold = hold_of(row.key)
        key = self._key(table, row, hold)
        if last is not None and last.position == row.position and _is_it(last, row, key):
            return None
        kept = table.on_delete is DeletePolicy.IGNORE  # then a truncate removed nothing
        present = last is not None and last.present and (kept or last.position >= floor)
        if row.partial and (row.moved_from is not None or not self._tables.requests(table).takes_partials):
            return Decision(Outcome.PARKED, "partial_image", _PARTIAL)
        if row.partial and not present:
            return Decision(Outcome.PARKED, "update_missing")
        return self._delivery(table, row, hold, key, last)

    def _delivery(
        self, table: TargetTable, row: MappedRow, hold: str, key: str, last: Last | None
    ) -> Delivery | Decision | None:
        operation = self._tables.requests(table).operation(row, last is not None and last.present)
        try:
            message = self._tables.message(table, row, operation, key)
        except Poison as error:
            return Decision(Outcome.PARKED, error.reason, error.what)
        place = TopicPartition(row.record.topic, row.record.partition)
        delivery = Delivery(
            table.mapping, hold, _hashed(hold), key, operation, row.position, place, row.record.offset, message.encode()
        )
        given = last.present if last is not None else not row.filtered
        if operation == "delete" and not given:
            self._know([delivery])  # it was deleted before, or never given: nothing has to be said
            return None
        return delivery

    def _send(self, deliveries: Sequence[Delivery]) -> dict[str, Answered]:
        """Those that were refused, by idempotency key."""
        refused: dict[str, Answered] = {}
        for start in range(0, len(deliveries), self._deliverer.rows):
            some = deliveries[start : start + self._deliverer.rows]
            try:
                answers, known = self._deliverer.deliver(some, self._moves, self._settle)
            except UnsentError as error:
                self._answered, self._guards = error.answers, []
                raise error.why from error
            self._answered, self._guards = answers, []
            refused |= {each.delivery.idempotency_key: each for each in answers if each.state == "refused"}
            self._know([each for each in some if each.idempotency_key not in refused], also=known)
        return refused

    def _know(self, deliveries: Sequence[Delivery], also: set[str] | None = None) -> None:
        """These rows have it. The ledger learns it with the answers; `also`, and what needed none, it is told."""
        for each in deliveries:
            place = (each.partition, each.offset)
            self._last[each.mapping, each.key_hash] = Last(each.position, each.idempotency_key, each.present, place)
            if also is None or each.idempotency_key in also:
                self._guards.append(each)

    def _settle(self) -> None:
        """Store what was answered so far, in the transaction that is open."""
        self._ledger.settle(self._answered)
        self._ledger.remember(self._guards)

    def _key(self, table: TargetTable, row: MappedRow, hold: str) -> str:
        return self._tables.idempotency_key(self._deliverer.owner, table, row, hold)

    def _newest(self, table: TargetTable, rows: Iterable[MappedRow]) -> dict[str, Last]:
        hashes = [_hashed(hold_of(row.key)) for row in rows]
        found = self._ledger.last(table.mapping, hashes)
        own = {(table.mapping, each): self._last.get((table.mapping, each)) for each in hashes}
        return found | {each: last for (_, each), last in own.items() if last is not None}

    def stale(self, table: TargetTable, writes: Sequence[Write]) -> set[int]:
        newest, floor = self._newest(table, [w.row for w in writes]), self._ledger.floor(table.mapping)
        found = set()
        for index, write in enumerate(writes):
            last = newest.get(_hashed(hold_of(write.row.key)))
            if write.row.position < (floor if last is None else max(last.position, floor)):
                found.add(index)
        return found

    def truncate(self, table: TargetTable, position: Position, time_us: int | None = None) -> Decision:
        if position < self._ledger.floor(table.mapping):
            return STALE
        with self._deliverer.state.begin():
            self._settle()
            self._ledger.raise_floor(table.mapping, position)
        self._answered, self._guards = [], []
        if table.key:
            self._clear(table, position)
        return APPLIED

    def _clear(self, table: TargetTable, position: Position) -> None:
        """Delete the rows that were given before `position`: none of them has been deleted since."""
        if table.on_delete is not DeletePolicy.DELETE:
            return
        refused = 0
        for portion in self._present(table, position):
            made = [self._delivery(table, row, hold, self._key(table, row, hold), None) for hold, row in portion]
            refused += len(self._send([each for each in made if isinstance(each, Delivery)]))
        if refused:
            _log.warning("a truncate left rows that the target does not delete", mapping=table.mapping, rows=refused)

    def _present(self, table: TargetTable, position: Position) -> Iterator[list[tuple[str, MappedRow]]]:
        """Deletes, at `position`, of the rows that the target was given before it, in portions."""
        partition = self._moves[0].partition if self._moves else NOWHERE
        record = RawRecord(partition.topic, partition.partition, 0, None, None)
        holds = self._ledger.present(table.mapping, position, "", self._deliverer.rows)
        while holds:
            made = [MappedRow(RowOp.DELETE, _key_of(table, hold), None, position, record) for hold in holds]
            yield list(zip(holds, made, strict=True))
            holds = self._ledger.present(table.mapping, position, _hashed(holds[-1]), self._deliverer.rows)

    def sweep(self, table: TargetTable, position: Position, keep: Iterable[tuple[Value, ...]]) -> SweepReport:
        """What it removes leaves when the transaction ends: a rehearsal is taken back before."""
        kept = {hold_of(key) for key in keep}
        every = (pair for portion in self._present(table, position) for pair in portion)
        gone = [row for hold, row in every if hold not in kept]
        self._at_end.append((table, gone))
        return SweepReport(len(gone), tuple(", ".join(map(str, row.key)) for row in gone[:_EXAMPLES]))

    # -- stored with the watermarks

    def park(self, records: Sequence[Parked]) -> None:
        self._store(lambda state: state.park(records))

    def unpark(self, ids: Sequence[int]) -> None:
        self._store(lambda state: state.unpark(ids))

    def retried(self, ids: Sequence[int]) -> None:
        self._store(lambda state: state.retried(ids))

    def repark(self, records: Sequence[Parked]) -> None:
        self._store(lambda state: state.repark(records))

    def count(self, tallies: Sequence[Tally]) -> None:
        self._store(lambda state: state.count(tallies))

    def note(self, conflicts: Conflicts) -> None:
        self._store(lambda state: state.note(conflicts))

    def repeated_snapshot(self, found: RepeatedSnapshot) -> None:
        self._store(lambda state: state.repeated_snapshot(found))

    def advance(self, moves: Sequence[Advance]) -> None:
        self._opened().advance(moves)

    def _store(self, action: Callable[[Transaction], None]) -> None:
        if self._stored is None:
            self._later.append(action)
        else:
            action(self._stored)

    def _opened(self) -> Transaction:
        """The state store's transaction, with all that waited for it. Nothing is sent while it is open."""
        if self._stored is None:
            self._stored = self.stored.enter_context(self._deliverer.state.begin())
            self._settle()
            for action in self._later:
                action(self._stored)
        return self._stored

    def finish(self) -> None:
        for table, rows in self._at_end:
            made = [self._decide(table, Write(row, row.position), None, row.position) for row in rows]
            self._send([each for each in made if isinstance(each, Delivery)])
        self._opened()

    def keep_answers(self) -> None:
        """The rest is taken back; but what the answers speak of has happened. When they cannot be kept, the deliveries
        leave again, under their keys."""
        if self._answered:
            with suppress(CdcError), self._deliverer.state.begin():
                self._settle()


def _is_it(last: Last, row: MappedRow, key: str) -> bool:
    """Whether a row was given this very change. A part of a row that was sent together with others has another key."""
    place = (TopicPartition(row.record.topic, row.record.partition), row.record.offset)
    return last.idempotency_key == key or (row.partial and last.place == place)


def _hashed(hold: str) -> str:
    return sha256(hold.encode()).hexdigest()[:32]


def _key_of(table: TargetTable, hold: str) -> tuple[Value, ...]:
    """The key whose canonical text is `hold`."""
    values: list[Any] = msgspec.json.decode(hold)
    types = {column.name: column.type for column in table.columns}
    kinds = [types[name].kind for name in table.key]
    return tuple(b64decode(v) if kind is Kind.BYTES else v for v, kind in zip(values, kinds, strict=True))
