"""The operator's side of a target's state: looking at it without touching it, and moving it on purpose.

A worker uses `cdc.target.base`; commands use this. Every method that changes something is one transaction, and none of
them needs the workers to be stopped: what they change that a worker relies on (watermarks, parked keys) raises the
partitions' fences, so that a worker that builds on the old state commits nothing more and reads it again.

Failure modes: `Transient` (connection lost, lock not granted), `Terminal` (privileges), as in `cdc.target.base`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

import msgspec

from cdc.decisions import Counted, KeptConflict
from cdc.model import Position, RawRecord, TopicPartition
from cdc.target.base import Epoch, Owner, Tally, WorkerReport
from cdc.target.versions import Deployed, Switch

DISCARDED = "discarded"
"""Why a record that a person gave up counts as skipped."""


class PartitionState(msgspec.Struct, frozen=True):
    """A stored watermark. `next` is None for a partition that was taken and of which nothing was applied yet.

    `time_us`: commit time at the source of the newest applied change, µs since 1970; None after a rewind.
    """

    partition: TopicPartition
    topic_id: str
    next: int | None
    fence: int
    tracker: str
    time_us: int | None


class WorkerState(msgspec.Struct, frozen=True):
    """A worker's last report and how old it is by the target's clock."""

    report: WorkerReport
    age_s: float


class OpenSnapshot(msgspec.Struct, frozen=True):
    """A repeated snapshot that nobody settled. `ends`: where the topic's partitions ended at a moment when the snapshot
    was over; None until that was seen."""

    mapping: str
    topic: str
    position: Position
    found_at: datetime
    ends: dict[int, int] | None


class ParkedEntry(msgspec.Struct, frozen=True):
    """A parked record without its bytes. `hold`: its target key's text, a row value: not for every screen."""

    id: int
    mapping: str
    hold: str
    partition: TopicPartition
    offset: int
    reason: str
    error: str
    parked_at: datetime
    retry_requested: bool

    @property
    def where(self) -> str:
        return f"{self.partition.topic}:{self.partition.partition}:{self.offset}"


class ConflictEntry(msgspec.Struct, frozen=True):
    """A conflict that was kept, with the values it was between: not for every screen."""

    id: int
    at: datetime
    kept: KeptConflict


class StoredPosition(msgspec.Struct, frozen=True):
    """What a target's guard knows of one key. `columns`: the key's. `position`: the row's, None for one that somebody
    else made; `buried`: of the newest delete; `floor`: of the newest truncate of the table."""

    columns: tuple[str, ...]
    there: bool = False
    position: Position | None = None
    buried: Position | None = None
    floor: Position | None = None


class ConflictCount(msgspec.Struct, frozen=True):
    counted: Counted
    number: int


class ConflictFilter(msgspec.Struct, frozen=True):
    """Which conflicts are asked for; None: all. Counts know neither `hold` nor `id`, and `since` by the hour only."""

    mappings: tuple[str, ...] | None = None
    type: str | None = None
    since: datetime | None = None
    hold: str | None = None
    id: int | None = None
    limit: int = 100


class ParkRequest(msgspec.Struct, frozen=True):
    """A record that somebody asked to set aside when it comes: who, and why."""

    partition: TopicPartition
    offset: int
    who: str
    reason: str
    requested_at: datetime

    @property
    def where(self) -> str:
        return f"{self.partition.topic}:{self.partition.partition}:{self.offset}"


class Move(msgspec.Struct, frozen=True):
    """Where a partition shall go on: at `next` (None: at the topic's beginning) of the topic with `topic_id`.

    `tracker`: the position tracker's state to go on with; None leaves it as it is.
    """

    partition: TopicPartition
    topic_id: str
    next: int | None
    tracker: str | None = None


Choose = Callable[[Sequence[PartitionState]], Sequence[Move]]
"""Called with all watermarks of the owner while nobody can change them; says which of them move. May raise."""


class Operator(Protocol):
    """One connection of a command to one target, for one owner at a time."""

    def open(self, owner: Owner) -> None:
        """Connect. Changes nothing, takes nothing; a target without state has empty answers."""

    def close(self) -> None: ...

    # -- looking

    def partitions(self) -> list[PartitionState]:
        """All watermarks, by topic and partition."""

    def workers(self) -> list[WorkerState]:
        """Every worker that ever reported, newest report first."""

    def tallies(self) -> list[Tally]: ...

    def epochs(self) -> list[Epoch]:
        """The newest epoch of every source."""

    def open_snapshots(self) -> list[OpenSnapshot]:
        """Repeated snapshots that nobody settled, oldest position first."""

    def parked(self) -> list[ParkedEntry]:
        """All parked records in the order they were parked."""

    def record(self, parked_id: int) -> RawRecord | None:
        """A parked record as it came; None when it is not parked (any more)."""

    def shapes(self, mapping: str) -> dict[int, str]:
        """Of a table of which several sources make the rows: what its contributions' values are, by number."""

    def contributions(self, mapping: str, key: str) -> bytes:
        """What the sources said about one row, by the text of its key; b'' where nothing is kept."""

    def stored(self, namespace: str, name: str, key: Sequence[str]) -> StoredPosition | None:
        """What the guard knows of a row of a table; `key`: its values as a person writes them. Nothing but `columns`
        for as many values as the key has not. None: there is no such table, or this target cannot be asked so."""

    def conflicts(self, wanted: ConflictFilter) -> list[ConflictEntry]:
        """Those that were kept, the newest first."""

    def conflict_counts(self, wanted: ConflictFilter) -> list[ConflictCount]:
        """How many there were, also of those that were not kept."""

    def park_requests(self) -> list[ParkRequest]:
        """Records that somebody asked to set aside and that have not come yet, by place."""

    def versions(self) -> list[Deployed]:
        """All versions of the mappings that were ever deployed, the newest first."""

    def switches(self) -> list[Switch]:
        """Where which version began, by partition."""

    # -- moving; each needs the state tables to be there

    def rewind(self, choose: Choose) -> None:
        """Lock the watermarks, ask `choose`, set `next` and raise the fences in one statement. What is read again is
        applied by the version that is deployed now: its beginnings move back too."""

    def request_retry(self, ids: Sequence[int]) -> None:
        """Ask the partitions' owners to retry the keys of these parked records."""

    def discard(self, ids: Sequence[int]) -> list[ParkedEntry]:
        """Remove parked records and count them as skipped ('discarded') instead; returns those that were there.

        The fences of their partitions rise; what waited behind them is asked to be retried, but for what was set aside
        on purpose.
        """

    def request_park(self, partition: TopicPartition, offset: int, who: str, reason: str) -> int | None:
        """Ask for a record to be set aside when it comes; asked again, the newer words count. The partition's fence
        rises, so that a worker that has read the record already reads it again.

        None: done. Else the partition's watermark: the record has been applied, and nothing was changed.
        """

    def cancel_park(self, partition: TopicPartition, offset: int) -> bool:
        """Take a request back; the fence rises. False: there is none (any more)."""

    def deploy(self, version: Deployed) -> bool:
        """Make it the version that workers run, in all partitions at once (see `cdc.target.versions`). False: its
        number is not the next one (any more), and nothing was changed."""

    def begin_epoch(self, epoch: Epoch) -> None:
        """Remember an epoch; a number that is there already keeps its identity."""

    def note_ends(self, snapshot: OpenSnapshot, ends: Mapping[int, int]) -> None:
        """Remember that the snapshot is over and where the topic's partitions ended then."""


class AuditRecord(msgspec.Struct, frozen=True):
    """What a command did. `after` is None and `finished_at` too when it was interrupted; `error`: why it failed."""

    id: int
    at: datetime
    finished_at: datetime | None
    who: str
    command: str
    reason: str
    before: dict[str, Any]
    after: dict[str, Any] | None
    error: str

    @property
    def outcome(self) -> str:
        if self.finished_at is None:
            return "interrupted"
        return "failed" if self.error else "done"


class AuditLog(Protocol):
    """The audit trail in the control database, over one open connection."""

    def close(self) -> None: ...

    def begin(self, who: str, command: str, reason: str, before: dict[str, Any]) -> int:
        """Write down, durably, that a command is about to act; returns the record's number."""

    def finish(self, record: int, after: dict[str, Any] | None, error: str) -> None:
        """Write down how it ended."""

    def records(self, limit: int, command: str) -> list[AuditRecord]:
        """The newest `limit` records of commands that begin with `command`, newest first."""
