"""The operator's side of a PostgreSQL target's state (see cdc/target/operator.py)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from cdc.errors import Terminal
from cdc.model import Outcome, Position, RawRecord, TopicPartition
from cdc.target import postgres_conflicts, postgres_versions
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
from cdc.target.postgres_errors import translated
from cdc.target.postgres_look import look
from cdc.target.postgres_parked import read_headers
from cdc.target.postgres_state import migrate
from cdc.target.versions import Deployed, Switch

_MINE = "pipeline = %s AND target = %s"
_SESSION = {"lock_timeout": "10s", "statement_timeout": "120s", "TimeZone": "UTC"}
_ENTRY = "id, mapping, hold, topic, partition, record_offset, reason, error, parked_at, retry_requested_at IS NOT NULL"


class PostgresOperator:
    """An `Operator`. `connect` opens a connection in autocommit mode."""

    def __init__(self, connect: Callable[[], psycopg.Connection[Any]]) -> None:
        self._connect = connect

    def open(self, owner: Owner) -> None:
        self.owner = owner
        with translated():
            self.connection = self._connect()
            for name, value in _SESSION.items():
                self.connection.execute("SELECT set_config(%s, %s, false)", (name, value))
            self._version = self._stored_version()

    def close(self) -> None:
        self.connection.close()

    # -- looking

    def partitions(self) -> list[PartitionState]:
        return [_partition(row) for row in self._rows(_PARTITIONS, self._owner)]

    def workers(self) -> list[WorkerState]:
        rows = self._rows(
            "SELECT extract(epoch FROM now() - reported_at)::float8, worker, state, error, rows_per_second, latency_ms,"
            f" stages, partitions FROM cdc.worker WHERE {_MINE} ORDER BY reported_at DESC",
            self._owner,
        )
        return [WorkerState(WorkerReport(*report), age) for age, *report in rows]

    def tallies(self) -> list[Tally]:
        rows = self._rows(
            f"SELECT mapping, topic, partition, outcome, reason, number FROM cdc.tally WHERE {_MINE} AND number <> 0"
            " ORDER BY 1, 2, 3, 4, 5",
            self._owner,
        )
        return [Tally(mapping, TopicPartition(topic, partition), *rest) for mapping, topic, partition, *rest in rows]

    def epochs(self) -> list[Epoch]:
        rows = self._rows(
            f"SELECT DISTINCT ON (source) source, epoch, identity FROM cdc.source_epoch WHERE {_MINE}"
            " ORDER BY source, epoch DESC",
            self._owner,
        )
        return [Epoch(*row) for row in rows]

    def open_snapshots(self) -> list[OpenSnapshot]:
        ends = "ends" if self._version > 1 else "NULL"
        rows = self._rows(
            f"SELECT mapping, topic, position, found_at, {ends} FROM cdc.repeated_snapshot"
            f" WHERE {_MINE} AND swept_at IS NULL ORDER BY mapping, position",
            self._owner,
        )
        return [
            OpenSnapshot(mapping, topic, Position.unpack(position), found_at, _ends(ends))
            for mapping, topic, position, found_at, ends in rows
        ]

    def shapes(self, mapping: str) -> dict[int, str]:
        if self._version == 3:  # the release before this one knew none
            return {}
        query = "SELECT number, shape FROM cdc.contribution_shape JOIN cdc.contribution_table ON id = table_id WHERE"
        return dict(self._rows(f"{query} {_MINE} AND mapping = %s", (*self._owner, mapping)))

    def contributions(self, mapping: str, key: str) -> bytes:
        query = f"SELECT document FROM cdc.contribution JOIN cdc.contribution_table ON id = table_id WHERE {_MINE}"
        rows = self._rows(f"{query} AND mapping = %s AND key = %s", (*self._owner, mapping, key))
        return bytes(rows[0][0]) if rows else b""

    def stored(self, namespace: str, name: str, key: Sequence[str]) -> StoredPosition | None:
        with translated():
            return look(self.connection, namespace, name, key)

    def conflicts(self, wanted: ConflictFilter) -> list[ConflictEntry]:
        with translated():
            return postgres_conflicts.entries(self.connection, self.owner, wanted)

    def conflict_counts(self, wanted: ConflictFilter) -> list[ConflictCount]:
        with translated():
            return postgres_conflicts.counts(self.connection, self.owner, wanted)

    def parked(self) -> list[ParkedEntry]:
        query = f"SELECT {_ENTRY} FROM cdc.parked WHERE {_MINE} ORDER BY id"
        return [_entry(row) for row in self._rows(query, self._owner)]

    def record(self, parked_id: int) -> RawRecord | None:
        rows = self._rows(
            "SELECT topic, partition, record_offset, record_key, record_value, headers, timestamp_ms FROM cdc.parked"
            f" WHERE {_MINE} AND id = %s",
            (*self._owner, parked_id),
        )
        if not rows:
            return None
        topic, partition, offset, key, value, headers, timestamp_ms = rows[0]
        return RawRecord(topic, partition, offset, key, value, read_headers(headers), timestamp_ms)

    def park_requests(self) -> list[ParkRequest]:
        if self._version < 5:
            return []
        rows = self._rows(
            f"SELECT topic, partition, record_offset, who, reason, requested_at FROM cdc.park_request WHERE {_MINE}"
            " ORDER BY 1, 2, 3",
            self._owner,
        )
        return [ParkRequest(TopicPartition(topic, partition), *rest) for topic, partition, *rest in rows]

    def versions(self) -> list[Deployed]:
        with translated():
            return postgres_versions.versions(self.connection, self.owner) if self._has_versions() else []

    def switches(self) -> list[Switch]:
        with translated():
            return postgres_versions.switches(self.connection, self.owner) if self._has_versions() else []

    def _has_versions(self) -> bool:
        self._version = self._version or self._stored_version()
        return self._version >= postgres_versions.STATE_VERSION

    # -- moving

    def rewind(self, choose: Choose) -> None:
        self._complete()
        with translated(), self.connection.transaction():
            # Workers' commits wait here: what `choose` sees is what the statement below changes.
            rows = self.connection.execute(_PARTITIONS + " FOR UPDATE", self._owner).fetchall()
            moves = choose([_partition(row) for row in rows])
            if moves:
                self._move(moves)
                postgres_versions.read_again(self.connection, self.owner, moves)

    def _move(self, moves: Sequence[Move]) -> None:
        moved = self.connection.execute(
            "UPDATE cdc.watermark w SET next = v.next, topic_id = v.topic_id, tracker = coalesce(v.tracker, w.tracker),"
            " fence = w.fence + 1, time_us = NULL, updated_at = now()"
            " FROM unnest(%s::text[], %s::integer[], %s::text[], %s::bigint[], %s::text[])"
            " AS v(topic, partition, topic_id, next, tracker)"
            f" WHERE w.{_MINE.replace('AND ', 'AND w.')} AND w.topic = v.topic AND w.partition = v.partition",
            (
                [move.partition.topic for move in moves],
                [move.partition.partition for move in moves],
                [move.topic_id for move in moves],
                [move.next for move in moves],
                [move.tracker for move in moves],
                *self._owner,
            ),
        )
        if moved.rowcount != len(moves):
            raise Terminal(f"{len(moves) - moved.rowcount} of {len(moves)} partitions have no watermark to move")

    def request_retry(self, ids: Sequence[int]) -> None:
        self._complete()
        with translated():
            self.connection.execute(
                f"UPDATE cdc.parked SET retry_requested_at = now() WHERE {_MINE} AND id = ANY(%s)",
                (*self._owner, list(ids)),
            )

    def discard(self, ids: Sequence[int]) -> list[ParkedEntry]:
        """Parked records, then counts, then watermarks: the order in which a worker's retry locks them."""
        self._complete()
        with translated(), self.connection.transaction():
            rows = self.connection.execute(
                f"DELETE FROM cdc.parked WHERE {_MINE} AND id = ANY(%s) RETURNING {_ENTRY}", (*self._owner, list(ids))
            ).fetchall()
            gone = sorted(map(_entry, rows), key=lambda entry: entry.id)
            self._recount(gone)
            self.connection.execute(
                f"UPDATE cdc.parked SET retry_requested_at = now() WHERE {_MINE}"
                " AND hold <> '' AND reason <> ALL(%s)"
                " AND (mapping, hold) IN (SELECT * FROM unnest(%s::text[], %s::text[]))",
                (
                    *self._owner,
                    list(ON_PURPOSE),
                    [entry.mapping for entry in gone],
                    [entry.hold for entry in gone],
                ),
            )
            # A worker keeps the held keys in memory and counts on the records it read: it must read them again.
            self.connection.execute(
                f"UPDATE cdc.watermark SET fence = fence + 1 WHERE {_MINE}"
                " AND (topic, partition) IN (SELECT * FROM unnest(%s::text[], %s::integer[]))",
                (
                    *self._owner,
                    [entry.partition.topic for entry in gone],
                    [entry.partition.partition for entry in gone],
                ),
            )
        return gone

    def _recount(self, gone: Sequence[ParkedEntry]) -> None:
        changes = [(entry, Outcome.PARKED, entry.reason, -1) for entry in gone]
        changes += [(entry, Outcome.SKIPPED, DISCARDED, 1) for entry in gone]
        self.connection.execute(
            "INSERT INTO cdc.tally AS t (pipeline, target, mapping, topic, partition, outcome, reason, number)"
            " SELECT %s, %s, mapping, topic, partition, outcome, reason, sum(number)"
            " FROM unnest(%s::text[], %s::text[], %s::integer[], %s::text[], %s::text[], %s::bigint[])"
            " AS c(mapping, topic, partition, outcome, reason, number) GROUP BY 3, 4, 5, 6, 7 ORDER BY 3, 4, 5, 6, 7"
            " ON CONFLICT (pipeline, target, mapping, topic, partition, outcome, reason)"
            " DO UPDATE SET number = t.number + excluded.number",
            (
                *self._owner,
                [entry.mapping for entry, *_ in changes],
                [entry.partition.topic for entry, *_ in changes],
                [entry.partition.partition for entry, *_ in changes],
                [outcome.value for _, outcome, _, _ in changes],
                [reason for _, _, reason, _ in changes],
                [number for *_, number in changes],
            ),
        )

    def request_park(self, partition: TopicPartition, offset: int, who: str, reason: str) -> int | None:
        """The request, then the watermark: the order in which a worker that sets the record aside locks them."""
        self._complete()
        passed: int | None = None
        with translated(), self.connection.transaction():
            self.connection.execute(
                "INSERT INTO cdc.park_request (pipeline, target, topic, partition, record_offset, who, reason)"
                " VALUES (%s, %s, %s, %s, %s, %s, %s)"
                " ON CONFLICT (pipeline, target, topic, partition, record_offset)"
                " DO UPDATE SET who = excluded.who, reason = excluded.reason",
                (*self._owner, *partition, offset, who, reason),
            )
            row = self._refence(partition)
            if row is not None and row[0] is not None and row[0] > offset:
                passed = row[0]
                raise psycopg.Rollback
        return passed

    def cancel_park(self, partition: TopicPartition, offset: int) -> bool:
        self._complete()
        with translated(), self.connection.transaction():
            gone = self.connection.execute(
                f"DELETE FROM cdc.park_request WHERE {_MINE} AND topic = %s AND partition = %s AND record_offset = %s",
                (*self._owner, *partition, offset),
            )
            if gone.rowcount:
                self._refence(partition)
        return gone.rowcount > 0

    def _refence(self, partition: TopicPartition) -> tuple[Any, ...] | None:
        """Make the partition's owner read everything again; its watermark, None when nobody ever took it."""
        return self.connection.execute(
            f"UPDATE cdc.watermark SET fence = fence + 1 WHERE {_MINE} AND topic = %s AND partition = %s"
            " RETURNING next",
            (*self._owner, *partition),
        ).fetchone()

    def deploy(self, version: Deployed) -> bool:
        self._complete()
        with translated(), self.connection.transaction():
            return postgres_versions.deploy(self.connection, self.owner, version)

    def begin_epoch(self, epoch: Epoch) -> None:
        self._complete()
        with translated():
            self.connection.execute(
                "INSERT INTO cdc.source_epoch (pipeline, target, source, epoch, identity) VALUES (%s, %s, %s, %s, %s)"
                " ON CONFLICT DO NOTHING",
                (*self._owner, epoch.source, epoch.number, epoch.identity),
            )

    def note_ends(self, snapshot: OpenSnapshot, ends: Mapping[int, int]) -> None:
        self._complete()
        with translated():
            self.connection.execute(
                f"UPDATE cdc.repeated_snapshot SET ends = %s WHERE {_MINE} AND mapping = %s AND position = %s",
                (Jsonb(dict(ends)), *self._owner, snapshot.mapping, snapshot.position.pack()),
            )

    # -- the connection

    def _complete(self) -> None:
        """Bring the state tables to this release's version: looking does without, changing does not."""
        with translated():
            migrate(self.connection)
            self._version = self._stored_version()

    def _stored_version(self) -> int:
        if self.connection.execute("SELECT to_regclass('cdc.state_version')").fetchone() == (None,):
            return 0
        row = self.connection.execute("SELECT coalesce(max(version), 0) FROM cdc.state_version").fetchone()
        return int(row[0]) if row else 0

    def _rows(self, query: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
        with translated():
            if self._version == 0:  # a worker may have made the tables since
                self._version = self._stored_version()
            if self._version == 0:
                return []
            return self.connection.execute(query, parameters).fetchall()

    @property
    def _owner(self) -> tuple[str, str]:
        return (self.owner.pipeline, self.owner.target)


_PARTITIONS = (
    f"SELECT topic, partition, topic_id, next, fence, tracker, time_us FROM cdc.watermark WHERE {_MINE}"
    " ORDER BY topic, partition"
)


def _partition(row: tuple[Any, ...]) -> PartitionState:
    topic, partition, *rest = row
    return PartitionState(TopicPartition(topic, partition), *rest)


def _entry(row: tuple[Any, ...]) -> ParkedEntry:
    parked_id, mapping, hold, topic, partition, offset, reason, error, parked_at, requested = row
    at: datetime = parked_at
    return ParkedEntry(parked_id, mapping, hold, TopicPartition(topic, partition), offset, reason, error, at, requested)


def _ends(stored: dict[str, int] | None) -> dict[int, int] | None:
    return None if stored is None else {int(partition): end for partition, end in stored.items()}
