"""The operator's side of the state tables of sqlstate.py (see operator.py)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from cdc.errors import Terminal
from cdc.model import Outcome, Position, RawRecord, TopicPartition
from cdc.target import sqlstate_conflicts, sqlstate_versions
from cdc.target.base import ON_PURPOSE, Epoch, Owner, Tally, WorkerReport
from cdc.target.operator import (
    DISCARDED,
    Choose,
    ConflictCount,
    ConflictEntry,
    ConflictFilter,
    Move,
    OpenSnapshot,
    ParkedEntry,
    ParkRequest,
    PartitionState,
    StoredPosition,
    WorkerState,
)
from cdc.target.sqlstate import Database, Row, digest, marks, migrate, stored_version
from cdc.target.sqlstate_parked import MINE, ParkedStore, portions
from cdc.target.sqlstate_target import Connect, add_epoch, add_tallies, stored_epochs
from cdc.target.versions import Deployed, Switch

_ENTRY = (
    "id, mapping, hold, topic, partition_number, record_offset, reason, error, parked_us,"
    " retry_requested_us IS NOT NULL"
)
_PARTITIONS = (
    "SELECT topic, partition_number, topic_id, next_offset, fence, tracker, time_us FROM cdc_watermark"
    f" WHERE {MINE} ORDER BY topic, partition_number"
)
_OF_PLACE = f"FROM cdc_watermark WHERE {MINE} AND topic = ? AND partition_number = ?"


class _PassedError(Exception):
    """The record has been applied: what was begun is rolled back."""

    def __init__(self, watermark: int) -> None:
        super().__init__(watermark)
        self.watermark = watermark


class SqlOperator:
    """An `Operator`. Looking makes no database and no tables, moving does."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect

    def open(self, owner: Owner) -> None:
        self._mine = (owner.pipeline, owner.target)
        self._owner = owner
        self._database = self._connect(False)
        self._version = stored_version(self._database)

    def close(self) -> None:
        self._database.close()

    # -- looking

    def partitions(self) -> list[PartitionState]:
        return [_partition(row) for row in self._rows(_PARTITIONS)]

    def workers(self) -> list[WorkerState]:
        rows = self._rows(
            f"SELECT {self._database.now} - reported_us, report FROM cdc_worker WHERE {MINE} ORDER BY reported_us DESC"
        )
        return [WorkerState(msgspec.json.decode(report, type=WorkerReport), age / 1e6) for age, report in rows]

    def tallies(self) -> list[Tally]:
        rows = self._rows(
            "SELECT mapping, topic, partition_number, outcome, reason, number FROM cdc_tally"
            f" WHERE {MINE} AND number <> 0 ORDER BY 1, 2, 3, 4, 5"
        )
        return [Tally(mapping, TopicPartition(topic, partition), *rest) for mapping, topic, partition, *rest in rows]

    def epochs(self) -> list[Epoch]:
        return stored_epochs(self._database, self._mine) if self._has_state() else []

    def open_snapshots(self) -> list[OpenSnapshot]:
        rows = self._rows(
            "SELECT mapping, topic, position, found_us, ends FROM cdc_repeated_snapshot"
            f" WHERE {MINE} AND swept_us IS NULL ORDER BY mapping, position"
        )
        return [
            OpenSnapshot(mapping, topic, Position.unpack(position), moment(found_us), _ends(ends))
            for mapping, topic, position, found_us, ends in rows
        ]

    def shapes(self, mapping: str) -> dict[int, str]:
        query = "SELECT number, shape FROM cdc_contribution_shape JOIN cdc_contribution_table ON id = table_id WHERE"
        return dict(
            self._rows(f"{query} {MINE} AND mapping = ?", mapping) if self._has_state() and self._version > 2 else ()
        )

    def contributions(self, mapping: str, key: str) -> bytes:
        query = "SELECT document FROM cdc_contribution JOIN cdc_contribution_table ON id = table_id WHERE"
        rows = self._rows(f"{query} {MINE} AND mapping = ? AND key_digest = ?", mapping, digest(key))
        return bytes(rows[0][0]) if rows else b""

    def stored(self, namespace: str, name: str, key: Sequence[str]) -> StoredPosition | None:
        """It cannot be asked so."""
        return None

    def conflicts(self, wanted: ConflictFilter) -> list[ConflictEntry]:
        return sqlstate_conflicts.entries(self._database, self._mine, wanted) if self._has_state() else []

    def conflict_counts(self, wanted: ConflictFilter) -> list[ConflictCount]:
        return sqlstate_conflicts.counts(self._database, self._mine, wanted) if self._has_state() else []

    def parked(self) -> list[ParkedEntry]:
        return [_entry(row) for row in self._rows(f"SELECT {_ENTRY} FROM cdc_parked WHERE {MINE} ORDER BY id")]

    def record(self, parked_id: int) -> RawRecord | None:
        return ParkedStore(self._database, self._owner).record(parked_id) if self._has_state() else None

    def park_requests(self) -> list[ParkRequest]:
        if not self._has_state() or self._version < 4:
            return []
        rows = self._rows(
            "SELECT topic, partition_number, record_offset, who, reason, requested_us FROM cdc_park_request"
            f" WHERE {MINE} ORDER BY 1, 2, 3"
        )
        return [
            ParkRequest(TopicPartition(topic, partition), offset, who, reason, moment(us))
            for topic, partition, offset, who, reason, us in rows
        ]

    def versions(self) -> list[Deployed]:
        return sqlstate_versions.versions(self._database, self._mine) if self._has_versions() else []

    def switches(self) -> list[Switch]:
        return sqlstate_versions.switches(self._database, self._mine) if self._has_versions() else []

    def _has_versions(self) -> bool:
        return self._has_state() and self._version >= sqlstate_versions.STATE_VERSION

    # -- moving

    def rewind(self, choose: Choose) -> None:
        database = self._complete()
        with database.transaction():
            # Workers' commits wait here: what `choose` sees is what the statement below changes.
            rows = database.rows(_PARTITIONS + database.for_update, self._mine)
            moves = choose([_partition(row) for row in rows])
            if moves:
                self._move(database, moves)
                sqlstate_versions.read_again(database, self._mine, moves)

    def _move(self, database: Database, moves: Sequence[Move]) -> None:
        moved = database.run_many(
            "UPDATE cdc_watermark SET next_offset = ?, topic_id = ?, tracker = coalesce(?, tracker), fence = fence + 1,"
            f" time_us = NULL, updated_us = {database.now} WHERE {MINE} AND topic = ? AND partition_number = ?",
            [(move.next, move.topic_id, move.tracker, *self._mine, *move.partition) for move in moves],
        )
        if moved != len(moves):
            raise Terminal(f"{len(moves) - moved} of {len(moves)} partitions have no watermark to move")

    def request_retry(self, ids: Sequence[int]) -> None:
        database = self._complete()
        with database.transaction():
            for part in portions(ids):
                database.run(
                    f"UPDATE cdc_parked SET retry_requested_us = {database.now}"
                    f" WHERE {MINE} AND id IN ({marks(len(part))})",
                    (*self._mine, *part),
                )

    def discard(self, ids: Sequence[int]) -> list[ParkedEntry]:
        """Parked records, then counts, then watermarks: the order in which a worker's retry locks them."""
        database = self._complete()
        with database.transaction():
            gone: list[ParkedEntry] = []
            for part in portions(ids):
                named = f"{MINE} AND id IN ({marks(len(part))})"
                parameters = (*self._mine, *part)
                query = f"SELECT {_ENTRY} FROM cdc_parked WHERE {named}{database.for_update}"
                gone += [_entry(row) for row in database.rows(query, parameters)]
                database.run(f"DELETE FROM cdc_parked WHERE {named}", parameters)
            self._recount(database, gone)
            database.run_many(
                f"UPDATE cdc_parked SET retry_requested_us = {database.now} WHERE {MINE} AND mapping = ? AND hold = ?"
                f" AND reason NOT IN ({marks(len(ON_PURPOSE))})",
                [(*self._mine, *key, *ON_PURPOSE) for key in sorted({(e.mapping, e.hold) for e in gone if e.hold})],
            )
            # A worker keeps the held keys in memory and counts on the records it read: it must read them again.
            database.run_many(
                f"UPDATE cdc_watermark SET fence = fence + 1 WHERE {MINE} AND topic = ? AND partition_number = ?",
                [(*self._mine, *partition) for partition in sorted({entry.partition for entry in gone})],
            )
        return sorted(gone, key=lambda entry: entry.id)

    def _recount(self, database: Database, gone: Sequence[ParkedEntry]) -> None:
        changes = [Tally(each.mapping, each.partition, Outcome.PARKED, each.reason, -1) for each in gone]
        changes += [Tally(each.mapping, each.partition, Outcome.SKIPPED, DISCARDED, 1) for each in gone]
        add_tallies(database, self._mine, changes)

    def request_park(self, partition: TopicPartition, offset: int, who: str, reason: str) -> int | None:
        """The request, then the watermark: the order in which a worker that sets the record aside locks them."""
        database = self._complete()
        place = (*self._mine, *partition)
        key = ("pipeline", "target", "topic", "partition_number", "record_offset")
        try:
            with database.transaction():
                database.run(
                    f"INSERT INTO cdc_park_request ({', '.join(key)}, who, reason, requested_us)"
                    f" VALUES ({marks(7)}, {database.now})"
                    + database.on_conflict(key, {"who": "{new}", "reason": "{new}"}),
                    (*place, offset, who, reason),
                )
                for (next_offset,) in database.rows(f"SELECT next_offset {_OF_PLACE}{database.for_update}", place):
                    if next_offset is not None and next_offset > offset:
                        raise _PassedError(next_offset)
                self._refence(database, partition)
        except _PassedError as passed:
            return passed.watermark
        return None

    def cancel_park(self, partition: TopicPartition, offset: int) -> bool:
        database = self._complete()
        with database.transaction():
            gone = database.run(
                f"DELETE FROM cdc_park_request WHERE {MINE} AND topic = ? AND partition_number = ?"
                " AND record_offset = ?",
                (*self._mine, *partition, offset),
            )
            if gone:
                self._refence(database, partition)
        return gone > 0

    def _refence(self, database: Database, partition: TopicPartition) -> None:
        """Make the partition's owner read everything again."""
        database.run(
            f"UPDATE cdc_watermark SET fence = fence + 1 WHERE {MINE} AND topic = ? AND partition_number = ?",
            (*self._mine, *partition),
        )

    def deploy(self, version: Deployed) -> bool:
        database = self._complete()
        with database.transaction():
            return sqlstate_versions.deploy(database, self._mine, version)

    def begin_epoch(self, epoch: Epoch) -> None:
        add_epoch(self._complete(), self._mine, epoch)

    def note_ends(self, snapshot: OpenSnapshot, ends: Mapping[int, int]) -> None:
        self._complete().run(
            f"UPDATE cdc_repeated_snapshot SET ends = ? WHERE {MINE} AND mapping = ? AND position = ?",
            (msgspec.json.encode(dict(ends)).decode(), *self._mine, snapshot.mapping, snapshot.position.pack()),
        )

    # -- the connection

    def _complete(self) -> Database:
        """The database with state tables of this release's version: looking does without, changing does not."""
        if self._version == 0:
            self._database.close()
            self._database = self._connect(True)
        migrate(self._database)
        self._version = stored_version(self._database)
        return self._database

    def _has_state(self) -> bool:
        if self._version == 0:  # a worker may have made the tables since
            self._database.close()
            self._database = self._connect(False)
            self._version = stored_version(self._database)
        return self._version > 0

    def _rows(self, query: str, *more: str) -> list[Row]:
        return self._database.rows(query, (*self._mine, *more)) if self._has_state() else []


def moment(us: int) -> datetime:
    return datetime.fromtimestamp(us / 1e6, UTC)


def _partition(row: Row) -> PartitionState:
    topic, partition, *rest = row
    return PartitionState(TopicPartition(topic, partition), *rest)


def _entry(row: Row) -> ParkedEntry:
    parked_id, mapping, hold, topic, partition, offset, reason, error, parked_us, requested = row
    place = TopicPartition(topic, partition)
    return ParkedEntry(parked_id, mapping, hold, place, offset, reason, error, moment(parked_us), bool(requested))


def _ends(stored: str | None) -> dict[int, int] | None:
    if stored is None:
        return None
    found: dict[str, Any] = msgspec.json.decode(stored)
    return {int(partition): end for partition, end in found.items()}
