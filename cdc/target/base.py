"""The contract of a target: what the engine may ask, what must hold, and how it fails.

Failure modes, the same for every target and every method (see `cdc.errors`); a driver's own errors never come through:

* `Transient`  connection lost, lock not granted in time, deadlock, disk full, server restarting. Nothing of the open
               transaction is kept; the engine opens a new connection and plays the batch again. A COMMIT whose answer
               was lost is `Transient` too: the watermark tells what became of it.
* `Terminal`   privileges missing, a table that cannot hold what the mapping wants, a state of a newer release. A person
               must act; the pipeline stops, and nothing is skipped.
* `Poison`     the rows given to one `write` cannot all be stored: a value out of range, a constraint. The transaction
               is of no use outside a savepoint. `PoisonRow.index` names the bad one when known; otherwise the engine
               finds it by halving. `reason` is a short word that does not depend on the target where the same thing has
               happened: value_out_of_range, not_null_violation, unique_violation, foreign_key_missing,
               foreign_key_referenced, check_violation, raised_by_trigger, no_partition, not_kept (a trigger let it
               vanish), refused.
* `Fenced`     `advance` found another fence or another `next`: roll back, drop the batch, read the watermarks again.

No message holds a row value: not even the server's own text of an error, unless it is known to have none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Literal, Protocol

import msgspec

from cdc.blocks import Writes
from cdc.decisions import Conflicts
from cdc.errors import Poison
from cdc.model import Decision, Position, RawRecord, TargetTable, TopicPartition, Value, Write
from cdc.target.versions import Deployed

ON_REQUEST, TRUNCATE = "on_request", "truncate"
ON_PURPOSE = frozenset({ON_REQUEST, TRUNCATE})
"""Why records are parked that could have been applied: a person asked for it, the table's policy for truncates says so.
Only a retry that was asked for the record itself applies them."""
WAITING = frozenset({"foreign_key_missing", "foreign_key_referenced", "unique_violation", "exclusion_violation"})
"""Why records are parked that some other row stands in the way of, and that come in when it changes: their parent
comes, their children go, somebody gives up a unique value."""


def hold_of(key: tuple[Value, ...]) -> str:
    """The canonical text of a target key, under which parked records and lent values of it are found."""
    return msgspec.json.encode(key).decode()


class PoisonRow(Poison):
    """A `Poison` that may know which of the writes it was given is bad."""

    def __init__(
        self, what: str, *, reason: str, index: int | None = None, where: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(what, reason=reason, where=where, hint=hint)
        self.index = index


class Capabilities(msgspec.Struct, frozen=True):
    """What a target can do; the engine, the commands and the README's table read it, they never ask for the class.

    `transactions`   rows and watermark become durable together: exactly once. Without, all state (watermarks, parked
                     records, counts, and per key what it was given last: the guard) is kept in a store beside it, and
                     it promises less: a change takes effect at least once, and every repetition carries the idempotency
                     key of its first delivery
    `creates_tables` makes tables and adds columns; without, somebody else does
    `guard`          what keeps an older change from overwriting a newer one: the `statement` that writes, whoever else
                     writes at that moment; or the `engine`, which compares beforehand
    `upsert`         how a batch of full images is written, for people
    `one_writer`     a transaction keeps all others waiting: more workers read and map side by side, but write in turn
    `limits`         what it does not hold exactly, for people: such rows are parked, never rounded or cut
    `contributions`  keeps what several sources say about one row (tables with `sources` in the rules): it is a
                     `ContributingTarget`
    `max_rows`       the most rows of a batch; None: as the pipeline says
    `rules`          decides conflicts by a table's rules (`cdc.rules`)
    `history`        keeps tables of one row a change (`TargetTable.history`)
    """

    transactions: bool
    creates_tables: bool
    guard: Literal["statement", "engine"] = "statement"
    upsert: str = ""
    one_writer: bool = False
    limits: tuple[str, ...] = ()
    contributions: bool = False
    max_rows: int | None = None
    rules: bool = False
    history: bool = False


class Owner(msgspec.Struct, frozen=True):
    """Whose state it is: one pipeline writing to one target."""

    pipeline: str
    target: str


class Watermark(msgspec.Struct, frozen=True):
    """Per topic partition: the next offset to apply, kept with the rows.

    `fence` is the number a worker must still hold to commit. `tracker` is the position tracker's state (its own text).
    `next` is None for a partition that was never taken: it starts at the topic's beginning.
    """

    partition: TopicPartition
    topic_id: str
    next: int | None
    fence: int
    tracker: str = ""


class Advance(msgspec.Struct, frozen=True):
    """One partition's step in a commit: only if the stored `fence` and `next` (None: never set) are as expected."""

    partition: TopicPartition
    fence: int
    expected: int | None
    next: int | None
    tracker: str | None = None  # None: as it is
    time_us: int | None = None  # commit time at the source of the newest change, for showing lag in seconds


class Parked(msgspec.Struct, frozen=True):
    """A record set aside for one mapping.

    `hold` is the canonical text of its target key ('' when no key could be read: nothing waits behind it). `reason` is
    'held' for those that wait behind another one. `error` says what, without row values. `asked`: somebody asked for
    the retry of this very record.
    """

    mapping: str
    hold: str
    record: RawRecord
    position: Position
    reason: str
    error: str = ""
    id: int | None = None  # set by the store
    asked: bool = False

    @property
    def place(self) -> tuple[str, int, int]:
        """Topic, partition, offset."""
        return self.record.topic, self.record.partition, self.record.offset


class Standing(msgspec.Struct, frozen=True):
    """What is parked, as limits see it. `oldest_s`: for how long the oldest one that does not just wait behind another
    has been parked; None: there is none. `asked`: somebody asked for a retry whose outcome is not known yet."""

    records: int
    oldest_s: float | None
    asked: bool


class Tally(msgspec.Struct, frozen=True):
    """Counts for invariant I2: how many records of a partition ended how, for one mapping."""

    mapping: str
    partition: TopicPartition
    outcome: str
    reason: str
    number: int


class RepeatedSnapshot(msgspec.Struct, frozen=True):
    """A snapshot of a table that had been captured before: deletes in between were never sent."""

    mapping: str
    topic: str
    position: Position
    swept: bool = False


class Epoch(msgspec.Struct, frozen=True):
    """Which incarnation of a source the stored positions belong to; `identity` is the source's own word for itself."""

    source: str
    number: int
    identity: str


class WorkerReport(msgspec.Struct, frozen=True):
    """What a worker last said of itself, for `cdc status`. `error` holds no row values."""

    worker: str  # host:pid
    state: str  # starting, running, waiting, stopped, failed
    error: str
    rows_per_second: float
    latency_ms: dict[str, float]  # 'p50', 'p99': commit at the source to commit in the target, over the last minute
    stages: dict[str, float]  # share of the time spent in each stage, over the last minute
    partitions: list[str]


class ForeignKey(msgspec.Struct, frozen=True):
    """Rows refer by `columns` to the row of `parent` (a name as `Related` has it) with the same in `referenced`."""

    columns: tuple[str, ...]
    parent: str
    referenced: tuple[str, ...]


class Related(msgspec.Struct, frozen=True):
    """What a target calls one of its tables, and which rows the rows of that table refer to."""

    name: str
    foreign_keys: tuple[ForeignKey, ...] = ()


class SweepReport(msgspec.Struct, frozen=True):
    """Rows that a sweep removes (or would): how many, and a few of their keys as text."""

    rows: int
    examples: tuple[str, ...]


class Transaction(Protocol):
    """All of it is durable at the end of the `with` block, or none."""

    def savepoint(self) -> AbstractContextManager[None]:
        """What happened inside is undone when the block raises; the transaction goes on."""

    def deferred(self) -> AbstractContextManager[None]:
        """Inside, `write` does not look for parents by foreign keys that can be checked later. What was written there
        must be written once more outside: that answers as always. For rows that refer to one another in a circle of
        tables. A target whose foreign keys cannot wait does nothing."""

    def write(self, table: TargetTable, writes: Sequence[Write]) -> dict[int, Decision]:
        """Apply one round: each key at most once, any order. Returns the decisions that are not 'applied', by index,
        and, of a table with rules, those on every change that met a conflict.

        A change is applied when its position is not older than what its key met last: the row's own position, its
        tombstone's, the table's floor (`cdc.engine.oracle` says it all). Deletes come before upserts: they lend the
        values that creates of the same round may borrow.

        Beside the outcomes of the oracle it may answer `MIXED`: only a part of a merged chain passes the guard; nothing
        was written for that key and the engine plays the chain again row by row. So it does for a chain that meets a
        conflict: each of its changes is decided alone (`cdc.rules.judge`).
        A conflict says what was `Seen`, at least the first `cdc.decisions.KEPT` of its type in the round.

        Rows that other rows stand in the way of are answered as parked, where the target finds them out for the whole
        round at once, and the others are written: `foreign_key_missing` (no such parent, neither there nor in this
        round), `foreign_key_referenced` (a delete whose row others refer to), `unique_violation` (another row holds
        the value and keeps it). Unique values that pass among the rows of the round, in circles too, are no violation.
        A target that cannot find them out refuses them (`Poison`), and the engine isolates them.
        Raises `Poison`; the transaction is then unusable outside a savepoint.
        """

    def stale(self, table: TargetTable, writes: Sequence[Write]) -> set[int]:
        """Indexes of the writes that the guard would skip; asked before a refused row is parked. Reads only keys."""

    def truncate(self, table: TargetTable, position: Position, time_us: int | None = None) -> Decision:
        """Remove rows positioned before `position`, raise the table's floor. In a history the rows that were there at
        that position ended at `time_us`: each has a row that says so, also those whose changes arrive later."""

    def sweep(self, table: TargetTable, position: Position, keep: Iterable[tuple[Value, ...]]) -> SweepReport:
        """Remove rows positioned before `position` as deletes of that position, but not the keys in `keep` (of a
        history, keys of changes: their rows are kept). A history gets a row for each instead, dated by the snapshot."""

    def park(self, records: Sequence[Parked]) -> None:
        """Set records aside. A record already parked for that mapping stays as it is (a replay changes nothing). What
        is parked on request is not asked for any more."""

    def unpark(self, ids: Sequence[int]) -> None:
        """Forget parked records that have been applied, superseded or discarded."""

    def retried(self, ids: Sequence[int]) -> None:
        """Requests to retry these parked records are settled, whatever came of it."""

    def repark(self, records: Sequence[Parked]) -> None:
        """Write back reason and error of parked records (by `id`) after a retry that failed."""

    def count(self, tallies: Sequence[Tally]) -> None:
        """Add to the counts of invariant I2."""

    def note(self, conflicts: Conflicts) -> None:
        """Remember conflicts: add to their counts of this hour, keep those that are told with values."""

    def repeated_snapshot(self, found: RepeatedSnapshot) -> None:
        """Remember (or, with `swept`, settle) a repeated snapshot of a table."""

    def advance(self, moves: Sequence[Advance]) -> None:
        """Compare and set all watermarks, so that nobody can come in between. Raises `Fenced` if any of them is not as
        expected. The last thing of a transaction."""


class Target(Protocol):
    """One connection to one target, used by one thread at a time."""

    capabilities: Capabilities

    def open(self, owner: Owner) -> None:
        """Connect and bring the state tables to this release's version."""

    def close(self) -> None: ...

    def prepare(self, table: TargetTable) -> None:
        """Create the target table when it does not exist, add what is missing; check that it can hold the columns.

        Idempotent; called before the first write of a table and again when its columns changed. Raises `Terminal`.
        """

    def related(self, table: TargetTable) -> Related:
        """What the rows of a prepared table refer to. Only foreign keys whose columns the mapping writes."""

    def encode(self, table: TargetTable, writes: Writes) -> object:
        """What `write` will want of plain writes and can be made without the connection: it is called in another
        thread, for one batch at a time, and comes back as `writes.encoded`. None: nothing; `write` copes with that."""

    def forget(self) -> None:
        """Drop what is known of the tables, so that `prepare` looks at them again: somebody may have changed them."""

    def register(self, topic_ids: Mapping[TopicPartition, str]) -> None:
        """Remember that partitions exist, with fence 0 and no `next`; those already known stay as they are."""

    def take(self, topic_ids: Mapping[TopicPartition, str]) -> list[Watermark]:
        """Become the owner of partitions: raise each fence, return what is stored. Unknown partitions are created, and
        one that has no `next` yet belongs to the topic as it is now."""

    def watermarks(self) -> list[Watermark]:
        """All watermarks of this owner, without taking them."""

    def begin(self, moves: Sequence[Advance] = ()) -> AbstractContextManager[Transaction]:
        """A transaction; commits at the end of the block, rolls back when it raises.

        `moves`: what its `advance` will be given. Only a target without transactions needs to know it beforehand: what
        it sends cannot be taken back, so it makes sure first that these fences are held (else `Fenced`).
        """

    def epochs(self) -> list[Epoch]:
        """The newest epoch of every source this owner has read."""

    def begin_epoch(self, epoch: Epoch) -> None:
        """Remember an epoch; a number that is there already keeps its identity."""

    def report(self, report: WorkerReport) -> None:
        """Store a worker's report, replacing its last one."""

    def standing(self) -> Standing:
        """What of this owner is parked, but for records that wait for another row (`WAITING`)."""

    def parked(self, partitions: Sequence[TopicPartition]) -> dict[tuple[str, str], str]:
        """Held keys of partitions: (mapping, hold) → reason of the first parked record."""

    def queue(self, mapping: str, holds: Sequence[str]) -> list[Parked]:
        """The parked records of these keys, in the order they were parked."""

    def retries(self, partitions: Sequence[TopicPartition]) -> list[tuple[str, str]]:
        """(mapping, hold) of keys whose retry somebody asked for; its transaction settles that (`retried`)."""

    def park_requests(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, dict[int, str]]:
        """Offsets of records that somebody asked to set aside when they come, and who and why in words; of those of
        the partitions that have any."""

    def deployed(self) -> Deployed | None:
        """The newest version of this owner's mappings; None: none was ever deployed."""

    def purge(self, keep_s: float) -> int:
        """Forget what no replay can need any more: memories of deleted rows and lent values of the prepared tables that
        are older than `keep_s` and than the oldest parked record, and the last words of workers gone for as long.

        In portions: returns how many went; not 0: there may be more."""

    def purge_conflicts(self, keep_s: float) -> int:
        """Forget conflicts older than that; returns as `purge` does."""


MIXED_REASON = "mixed"
