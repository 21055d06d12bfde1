"""A REST API as a target: at least once, and every repetition of a change under the idempotency key of its first time.

It has no transactions, so everything that must agree with it is kept in a state store beside it (`StateStore`: a
database target): watermarks, parked records, counts, the delivery ledger and the guard. The order of steps is told in
delivery.py. What follows from it:

* killed anywhere: a delivery on record without an answer leaves again, byte for byte under its key, before anything
  newer of its partition; one that is not on record has never left.
* a worker that lost its fence puts nothing on record any more, and what is not on record does not leave. What it had on
  record and sends late (frozen between the two) the new owner has sent as well, under the same key: an API that
  remembers keys for as long as a worker may be frozen applies it once.
* no values are kept but those under way. So it cannot lend a row's values to its next key, and a change that brings
  only some columns needs a `patch` request; without one it is parked (`partial_image`) until a whole row comes.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from hashlib import sha256
from typing import Any, Protocol

import msgspec

from cdc.errors import CdcError, Poison, Terminal
from cdc.model import (
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
from cdc.settings import RestSettings
from cdc.target.base import (
    MIXED_REASON,
    Advance,
    Capabilities,
    Epoch,
    Owner,
    Parked,
    RepeatedSnapshot,
    SweepReport,
    Tally,
    Target,
    Transaction,
    Watermark,
    WorkerReport,
    hold_of,
)
from cdc.target.delivery import Answered, Delivery, Last, Ledger
from cdc.target.rest_client import RestClient
from cdc.target.rest_requests import Renderer, Requests

STALE = Decision(Outcome.SKIPPED, "stale")
_ROWS_A_PLACE, _PACED_S = 25, 60.0
"""Most rows of a batch for each request that may be under way, and seconds that a batch may take by the rate: Kafka
wants to hear of a worker every five minutes."""
_NOWHERE = TopicPartition("", 0)  # what a sweep sends comes from no record
_PARTIAL = "only some columns came (the source does not repeat large values) and the mapping has no patch: request"
_EXAMPLES = 5


class StateStore(Target, Protocol):
    """The database target that keeps a REST target's state."""

    def ledger(self) -> Ledger:
        """On the open connection, for the owner it was opened for."""


class RestTarget:
    """A `Target`. `requests`: those of every mapping that goes here, by its id. `client`: made when it is opened."""

    def __init__(
        self,
        settings: RestSettings,
        state: StateStore,
        requests: Mapping[str, Requests],
        failpoint: Callable[[str], None] = lambda point: None,
        client: Callable[[RestSettings, Callable[[str], None]], RestClient] = RestClient,
    ) -> None:
        self.settings = settings
        self.state = state
        self.requests = requests
        self.failpoint = failpoint
        self._make_client = client
        self._client: RestClient | None = None
        self._renderers: dict[TargetTable, Renderer] = {}
        self._recovered: set[tuple[TopicPartition, int]] = set()
        self._cleared: set[str] = set()
        self.rows = settings.concurrency * _ROWS_A_PLACE
        if settings.rate is not None:
            self.rows = max(1, min(self.rows, int(settings.rate * _PACED_S)))
        self.capabilities = Capabilities(transactions=False, creates_tables=False, max_rows=self.rows)

    def open(self, owner: Owner) -> None:
        self.owner = owner
        self.state.open(owner)
        self.ledger = self.state.ledger()
        self._recovered.clear()
        self._cleared.clear()

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None
        self.state.close()

    def prepare(self, table: TargetTable) -> None:
        if table not in self._renderers and table.key:
            self._renderers[table] = Renderer(table, self._requests_of(table))

    def forget(self) -> None:
        """Nothing is known of the tables at the other side."""

    @contextmanager
    def begin(self, moves: Sequence[Advance] = ()) -> Iterator[RestTransaction]:
        self._recover(moves)
        transaction = RestTransaction(self, moves)
        try:
            with transaction.stored:
                yield transaction
                transaction.finish()
        except BaseException:
            transaction.keep_answers()
            raise

    def deliver(
        self, deliveries: Sequence[Delivery], moves: Sequence[Advance], settle: Callable[[], None]
    ) -> tuple[list[Answered], set[str]]:
        """Put deliveries on record, then send them. `settle` stores, in that first transaction, what came before.

        Returns the answers, and the keys of those that had been acknowledged already. Raises `Fenced` (and what else
        the state store has to say) before anything has left, `UnsentError` when some got no answer.
        """
        with self.state.begin() as transaction:
            settle()
            known = self.ledger.send(deliveries)
            transaction.advance([_as_it_is(move) for move in moves])
        self.failpoint("recorded")
        if self._client is None:
            self._client = self._make_client(self.settings, self.failpoint)
        outcomes = self._client.send([each for each in deliveries if each.idempotency_key not in known])
        self.failpoint("answered")
        answers = [outcome for _, outcome in outcomes if isinstance(outcome, Answered)]
        errors = [outcome for _, outcome in outcomes if isinstance(outcome, CdcError)]
        if errors:
            raise UnsentError(answers, next((each for each in errors if isinstance(each, Terminal)), errors[0]))
        return answers, known

    def renderer(self, table: TargetTable) -> Renderer:
        return self._renderers[table]

    def owes_clearing(self, table: TargetTable) -> bool:
        """Once after each opening: a truncate that came while the table was known by name only left its rows."""
        first = table.mapping not in self._cleared
        self._cleared.add(table.mapping)
        return first

    def idempotency_key(self, row: MappedRow, table: TargetTable, hold: str) -> str:
        """From the change's position, the mapping, the row's key and what is said of it: the same on every replay.

        Neither the Kafka offset is in it (a redelivery has another one) nor the operation (a replay may find the row
        there). What is said is, because changes of one row can share a position.
        """
        about = (self.owner.pipeline, self.owner.target, table.mapping, hold, row.op, self._requests_of(table).digest)
        said = repr(row.values).encode()  # canonical values have one form, and one text
        return sha256(b"\0".join([msgspec.json.encode(about), row.position.pack(), said])).hexdigest()[:32]

    def takes_partials(self, table: TargetTable) -> bool:
        return self._requests_of(table).takes_partials

    def operation(self, table: TargetTable, row: MappedRow, last: Last | None) -> str:
        return self._requests_of(table).operation(row, last is not None and last.present)

    def _requests_of(self, table: TargetTable) -> Requests:
        found = self.requests.get(table.mapping)
        if found is None:
            hint = "say in the mapping file how its rows are written: rest: {upsert: …, delete: …}"
            raise Terminal("the table has no requests for a REST target", where=table.mapping, hint=hint)
        return found

    def _recover(self, moves: Sequence[Advance]) -> None:
        """Settle what an earlier owner (or attempt) sent and never heard of, before anything newer leaves."""
        new = {(move.partition, move.fence) for move in moves} - self._recovered
        if not new:
            return
        left = self.ledger.unsettled([*(partition for partition, _ in new), _NOWHERE])
        while left:
            some, left = left[: self.rows], left[self.rows :]
            try:
                answers, _ = self.deliver(some, moves, lambda: None)
            except UnsentError as error:
                self._keep(error.answers)
                raise error.why from error
            self._keep(answers)
        self._recovered |= new

    def _keep(self, answers: Sequence[Answered]) -> None:
        with self.state.begin():
            self.ledger.settle(answers)

    # -- kept by the state store

    def register(self, topic_ids: Mapping[TopicPartition, str]) -> None:
        self.state.register(topic_ids)

    def take(self, topic_ids: Mapping[TopicPartition, str]) -> list[Watermark]:
        return self.state.take(topic_ids)

    def watermarks(self) -> list[Watermark]:
        return self.state.watermarks()

    def epochs(self) -> list[Epoch]:
        return self.state.epochs()

    def begin_epoch(self, epoch: Epoch) -> None:
        self.state.begin_epoch(epoch)

    def report(self, report: WorkerReport) -> None:
        self.state.report(report)

    def parked_records(self) -> int:
        return self.state.parked_records()

    def parked(self, partitions: Sequence[TopicPartition]) -> dict[tuple[str, str], str]:
        return self.state.parked(partitions)

    def queue(self, mapping: str, holds: Sequence[str]) -> list[Parked]:
        return self.state.queue(mapping, holds)

    def retries(self, partitions: Sequence[TopicPartition]) -> list[tuple[str, str]]:
        return self.state.retries(partitions)

    def purge(self, keep_s: float) -> int:
        return self.state.purge(keep_s) + self.ledger.purge(keep_s, self.settings.ledger_days * 86_400.0)


class UnsentError(Exception):
    """Some deliveries got no answer: `why`. `answers` are those of the others."""

    def __init__(self, answers: list[Answered], why: CdcError) -> None:
        super().__init__(why.what)
        self.answers = answers
        self.why = why


class RestTransaction:
    """What was sent stays sent; what is to be stored waits for `advance` and is stored with it, in one transaction."""

    def __init__(self, target: RestTarget, moves: Sequence[Advance]) -> None:
        self.target = target
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

    def write(self, table: TargetTable, writes: Sequence[Write]) -> dict[int, Decision]:
        if self.target.owes_clearing(table):
            self._clear(table, self.target.ledger.floor(table.mapping))
        newest = self._newest(table, [write.row for write in writes])
        floor = self.target.ledger.floor(table.mapping)
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
        key = self.target.idempotency_key(row, table, hold)
        if last is not None and last.position == row.position and _is_it(last, row, key):
            return None
        kept = table.on_delete is DeletePolicy.IGNORE  # then a truncate removed nothing
        present = last is not None and last.present and (kept or last.position >= floor)
        if row.partial and (row.moved_from is not None or not self.target.takes_partials(table)):
            return Decision(Outcome.PARKED, "partial_image", _PARTIAL)
        if row.partial and not present:
            return Decision(Outcome.PARKED, "update_missing")
        return self._delivery(table, row, hold, key, last)

    def _delivery(
        self, table: TargetTable, row: MappedRow, hold: str, key: str, last: Last | None
    ) -> Delivery | Decision | None:
        operation = self.target.operation(table, row, last)
        try:
            message = self.target.renderer(table).message(row, operation, key)
        except Poison as error:
            return Decision(Outcome.PARKED, error.reason, error.what)
        place = TopicPartition(row.record.topic, row.record.partition)
        delivery = Delivery(
            table.mapping, hold, _hashed(hold), key, operation, row.position, place, row.record.offset, message.encode()
        )
        if operation == "delete" and last is not None and not last.present:
            self._know([delivery])  # it was deleted before: nothing has to be said
            return None
        return delivery

    def _send(self, deliveries: Sequence[Delivery]) -> dict[str, Answered]:
        """Those that were refused, by idempotency key."""
        refused: dict[str, Answered] = {}
        for start in range(0, len(deliveries), self.target.rows):
            some = deliveries[start : start + self.target.rows]
            try:
                answers, known = self.target.deliver(some, self._moves, self._settle)
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
        self.target.ledger.settle(self._answered)
        self.target.ledger.remember(self._guards)

    def _newest(self, table: TargetTable, rows: Iterable[MappedRow]) -> dict[str, Last]:
        hashes = [_hashed(hold_of(row.key)) for row in rows]
        found = self.target.ledger.last(table.mapping, hashes)
        own = {(table.mapping, each): self._last.get((table.mapping, each)) for each in hashes}
        return found | {each: last for (_, each), last in own.items() if last is not None}

    def stale(self, table: TargetTable, writes: Sequence[Write]) -> set[int]:
        newest, floor = self._newest(table, [w.row for w in writes]), self.target.ledger.floor(table.mapping)
        found = set()
        for index, write in enumerate(writes):
            last = newest.get(_hashed(hold_of(write.row.key)))
            if write.row.position < (floor if last is None else max(last.position, floor)):
                found.add(index)
        return found

    def truncate(self, table: TargetTable, position: Position) -> Decision:
        if position < self.target.ledger.floor(table.mapping):
            return STALE
        with self.target.state.begin():
            self._settle()
            self.target.ledger.raise_floor(table.mapping, position)
        self._answered, self._guards = [], []
        if table.key:
            self._clear(table, position)
        return Decision(Outcome.APPLIED)

    def _clear(self, table: TargetTable, position: Position) -> None:
        """Delete the rows that were given before `position`: none of them has been deleted since."""
        if table.on_delete is not DeletePolicy.DELETE:
            return
        rows = self._present(table, position)
        made = [
            self._delivery(table, row, hold, self.target.idempotency_key(row, table, hold), None) for hold, row in rows
        ]
        self._send([each for each in made if isinstance(each, Delivery)])

    def _present(self, table: TargetTable, position: Position) -> list[tuple[str, MappedRow]]:
        """Deletes, at `position`, of the rows that the target was given before it."""
        partition = self._moves[0].partition if self._moves else _NOWHERE
        record = RawRecord(partition.topic, partition.partition, 0, None, None)
        holds = self.target.ledger.present(table.mapping, position)
        return [(hold, MappedRow(RowOp.DELETE, _key(table, hold), None, position, record)) for hold in holds]

    def sweep(self, table: TargetTable, position: Position, keep: Iterable[tuple[Value, ...]]) -> SweepReport:
        """What it removes leaves when the transaction ends: a rehearsal is taken back before."""
        kept = {hold_of(key) for key in keep}
        gone = [row for hold, row in self._present(table, position) if hold not in kept]
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
            self._stored = self.stored.enter_context(self.target.state.begin())
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
            with suppress(CdcError), self.target.state.begin():
                self._settle()


def _as_it_is(move: Advance) -> Advance:
    """The compare of an advance without its step."""
    return Advance(move.partition, move.fence, move.expected, move.expected)


def _is_it(last: Last, row: MappedRow, key: str) -> bool:
    """Whether a row was given this very change. A part of a row that was sent together with others has another key."""
    place = (TopicPartition(row.record.topic, row.record.partition), row.record.offset)
    return last.idempotency_key == key or (row.partial and last.place == place)


def _hashed(hold: str) -> str:
    return sha256(hold.encode()).hexdigest()[:32]


def _key(table: TargetTable, hold: str) -> tuple[Value, ...]:
    """The key whose canonical text is `hold`."""
    values: list[Any] = msgspec.json.decode(hold)
    types = {column.name: column.type for column in table.columns}
    kinds = [types[name].kind for name in table.key]
    return tuple(b64decode(v) if kind is Kind.BYTES else v for v, kind in zip(values, kinds, strict=True))
