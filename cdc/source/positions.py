"""Where a change stands in its source's log, from what Debezium puts into the `source` block.

MariaDB is simple: (binlog file number, pos, row), for snapshot reads as well.

PostgreSQL orders by commit, which `source.sequence` = [end of the previous commit, lsn] gives:

    snapshot read of any kind                (sequence[0] or else sequence[1], 0)
    streamed                                 (sequence[0], lsn)
    streamed, sequence[0] null               (base of its transaction or lsn if that is higher, lsn)

The third line is the first transaction that the connector streams after a snapshot (or after its offsets were lost). It
must come after everything the partition saw before it, and the same when it is delivered again, even when newer commits
were seen in between: a redelivered one that took "the newest commit part" would overwrite newer rows. So each such
transaction gets its `base` when it is first seen, and the tracker remembers it by the transaction's id:

    base = newest part of any kind (snapshot reads, commits, other bases) + 1

`+ 1` and not `+ 0`: two transactions with an equal commit part would be compared by lsn, and an INSERT that waited in
the unique index for a DELETE of the same key has the lower lsn. No real commit part lies so near: between two such
transactions, and before the next commit part, there is at least one commit record in the log.

A transaction's base survives restarts (the state is stored beside the watermark) and rewinds (the base is looked up,
not computed again).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal, NamedTuple, Protocol

import msgspec

from cdc.errors import Terminal
from cdc.model import Position

FIRST_TRANSACTIONS = 64
"""How many transactions with a null commit part are remembered per partition: one comes with each snapshot."""

SourceKind = Literal["postgresql", "mariadb"]
Snapshot = Literal["", "initial", "incremental"]
SNAPSHOTS: dict[str | None, Snapshot] = {None: "", "false": "", "incremental": "incremental"}
"""What `source.snapshot` says; any other word is a part of an initial snapshot."""


class Step(NamedTuple):
    """What the tracker says about one event.

    `fell`: the event stands before one that this partition had already seen (a redelivery, a rewind, or a source that
    was reset: ask the source's identity), or it cannot be told whether it does.
    `repeated_snapshot`: this initial-snapshot read starts a snapshot of a table that was captured before: rows
    positioned before `position` that it does not bring are gone at the source.
    """

    position: Position
    fell: bool = False
    repeated_snapshot: bool = False


class PostgresBlock(Protocol):
    """The fields of PostgreSQL's `source` block that positions need."""

    sequence: str | None
    lsn: int | None
    txId: int | None


class MariadbBlock(Protocol):
    """The fields of MariaDB's `source` block that positions need."""

    file: str | None
    pos: int | None
    row: int | None


class PositionTracker(Protocol):
    """Positions of one topic partition. Its state is small, and a pure function of the events it was shown."""

    kind: SourceKind
    epoch: int

    def step(self, source: Any, snapshot: Snapshot) -> Step:
        """The position of the partition's next event; `source` is a block of the tracker's kind.

        Raises `ValueError` when the block holds no position.
        """

    def stands_with(self, source: Any, before: Any) -> bool:
        """Whether a snapshot read has the position of the one in front of it, so that it needs no step of its own."""

    def state(self) -> str:
        """JSON text, to be stored with the watermark and given to `restore`."""

    @property
    def reached(self) -> tuple[int, int]:
        """How far the source's log has been read, comparable with `cdc.db.catalog.LogPosition`."""

    def is_new(self, position: Position) -> bool:
        """Whether no event that it was shown can have had the position: what has it came later."""


def restore(kind: SourceKind, epoch: int | None = 0, text: str = "") -> PositionTracker:
    """The tracker of a partition as `state` wrote it; a fresh one for ''. Another epoch than the stored one starts
    afresh: positions of the old epoch say nothing about the new one. None: whichever is stored."""
    cls: type[PostgresTracker | MariadbTracker] = PostgresTracker if kind == "postgresql" else MariadbTracker
    if not text:
        return cls(epoch or 0)
    try:
        if epoch is not None and msgspec.json.decode(text, type=_AnyState).epoch != epoch:
            return cls(epoch)
        return cls.load(text)
    except (msgspec.MsgspecError, ValueError) as error:
        raise Terminal(
            f"the stored position state of a {kind} partition cannot be read",
            hint="the source's kind changed, or a newer release wrote it: reset the pipeline's watermarks and re-load",
        ) from error


class _AnyState(msgspec.Struct):
    epoch: int


class _PostgresState(msgspec.Struct, forbid_unknown_fields=True):
    epoch: int
    commit: int
    lsn: int
    snapshot: int | None
    streamed: bool
    first: list[tuple[int, int]]


class PostgresTracker:
    """PostgreSQL: see the module's docstring for the rule.

    `commit`: newest commit part of any kind. `lsn`: highest lsn of a streamed event. `snapshot`: newest part of an
    initial snapshot. `first`: base by transaction id, for transactions whose commit part is null.
    """

    kind: SourceKind = "postgresql"

    def __init__(self, epoch: int = 0) -> None:
        self.epoch = epoch
        self.commit = 0
        self.lsn = 0
        self.snapshot: int | None = None
        self.streamed = False
        self.first: dict[int, int] = {}

    @classmethod
    def load(cls, text: str) -> PostgresTracker:
        state = msgspec.json.decode(text, type=_PostgresState)
        tracker = cls(state.epoch)
        tracker.commit, tracker.lsn, tracker.snapshot = state.commit, state.lsn, state.snapshot
        tracker.streamed, tracker.first = state.streamed, dict(state.first)
        return tracker

    def state(self) -> str:
        state = _PostgresState(
            self.epoch, self.commit, self.lsn, self.snapshot, self.streamed, list(self.first.items())
        )
        return msgspec.json.encode(state).decode()

    @property
    def reached(self) -> tuple[int, int]:
        return (self.commit, 0)

    def is_new(self, position: Position) -> bool:
        if position.epoch != self.epoch:
            return position.epoch > self.epoch
        return position.major > self.commit or position.minor > self.lsn

    def step(self, source: PostgresBlock, snapshot: Snapshot) -> Step:
        part, lsn = _sequence(source.sequence)
        if snapshot:
            return self._read(part, lsn, initial=snapshot == "initial")
        if lsn is None:
            lsn = source.lsn
            if lsn is None:
                raise ValueError("a streamed PostgreSQL event without an lsn")
        unsure = False
        if part is None:
            base, unsure = self._base(source.txId or 0, lsn)
            # Another partition may know another base, or none; a truncate must stand between the rows that it removed
            # and those written after it wherever they are, so the lsn counts where it is higher. A commit part that
            # follows is higher still.
            part = max(base, lsn)
        self.streamed = True
        if lsn > self.lsn:
            self.lsn = lsn
        if part >= self.commit:
            self.commit = part
            return Step(Position(self.epoch, part, lsn), unsure)
        return Step(Position(self.epoch, part, lsn), True)

    def stands_with(self, source: PostgresBlock, before: PostgresBlock) -> bool:
        return source.sequence is not None and source.sequence == before.sequence

    def _read(self, part: int | None, lsn: int | None, *, initial: bool) -> Step:
        if part is None:
            part = lsn if lsn is not None else self.commit
        repeated = False
        if initial:
            known = self.snapshot
            repeated = part > known if known is not None else self.streamed
            if known is None or part > known:
                self.snapshot = part
        fell = part < self.commit
        if not fell:
            self.commit = part
        return Step(Position(self.epoch, part, 0), fell, repeated)

    def _base(self, transaction: int, lsn: int) -> tuple[int, bool]:
        """The base of a transaction without a commit part, and whether it may be an old one in new clothes.

        Unsure: a transaction not met before, with an lsn that was passed already, and no snapshot newer than all
        commits that would explain it. Either it was open across a snapshot that read nothing in this partition, or the
        connector lost its offsets and streams old transactions again.
        """
        known = self.first.get(transaction)
        if known is not None:
            return known, False
        base = self.commit + 1
        unsure = lsn <= self.lsn and self.commit > (self.snapshot or 0)
        self.first[transaction] = base
        if len(self.first) > FIRST_TRANSACTIONS:
            del self.first[next(iter(self.first))]
        return base, unsure


@lru_cache(maxsize=64)  # all rows of a snapshot have the same one
def _sequence(text: str | None) -> tuple[int | None, int | None]:
    """'["24023128","24023140"]' or '[null,"24023140"]' as integers; strings inside a JSON string."""
    if text is None:
        return None, None
    if text.startswith('["'):
        first, _, second = text[2:-2].partition('","')
        if second:
            return int(first), int(second)
    parts = msgspec.json.decode(text, type=tuple[str | None, str | None])
    return tuple(None if part is None else int(part) for part in parts)  # type: ignore[return-value]


class _MariadbState(msgspec.Struct, forbid_unknown_fields=True):
    epoch: int
    newest: tuple[int, int, int]
    snapshot: tuple[int, int] | None
    streamed: bool


class MariadbTracker:
    """MariaDB and MySQL: binlog coordinates. They need `binlog_legacy_event_pos=ON` on MariaDB 11.4 (doctor checks)."""

    kind: SourceKind = "mariadb"

    def __init__(self, epoch: int = 0) -> None:
        self.epoch = epoch
        self.newest = (0, 0, 0)
        self.snapshot: tuple[int, int] | None = None
        self.streamed = False
        self._file = ""
        self._number = 0

    @classmethod
    def load(cls, text: str) -> MariadbTracker:
        state = msgspec.json.decode(text, type=_MariadbState)
        tracker = cls(state.epoch)
        tracker.newest, tracker.snapshot, tracker.streamed = state.newest, state.snapshot, state.streamed
        return tracker

    def state(self) -> str:
        return msgspec.json.encode(_MariadbState(self.epoch, self.newest, self.snapshot, self.streamed)).decode()

    @property
    def reached(self) -> tuple[int, int]:
        return self.newest[:2]

    def is_new(self, position: Position) -> bool:
        return position > Position(self.epoch, *self.newest)

    def step(self, source: MariadbBlock, snapshot: Snapshot) -> Step:
        if source.file is None or source.pos is None:
            raise ValueError("a MariaDB event without binlog coordinates")
        number, pos, row = self._file_number(source.file), source.pos, source.row or 0
        repeated = False
        if snapshot == "initial":
            known = self.snapshot
            repeated = (number, pos) > known if known is not None else self.streamed
            if known is None or (number, pos) > known:
                self.snapshot = (number, pos)
        elif not snapshot:
            self.streamed = True
        fell = (number, pos, row) < self.newest
        if not fell:
            self.newest = (number, pos, row)
        return Step(Position(self.epoch, number, pos, row), fell, repeated)

    def stands_with(self, source: MariadbBlock, before: MariadbBlock) -> bool:
        return (source.file, source.pos, source.row) == (before.file, before.pos, before.row)

    def _file_number(self, file: str) -> int:
        """'mariadb-bin.000003' -> 3; the last answer is kept, since files change rarely."""
        if file != self._file:
            self._number = int(file.rpartition(".")[2])
            self._file = file
        return self._number
