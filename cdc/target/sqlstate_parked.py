"""The parked store in table cdc_parked (see sqlstate.py)."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterator, Sequence
from typing import TypeVar

import msgspec

from cdc.model import Position, RawRecord, TopicPartition
from cdc.target.base import ON_REQUEST, WAITING, Owner, Parked, Standing
from cdc.target.sqlstate import Database, Row, digest, marks

_T = TypeVar("_T")

MINE = "pipeline = ? AND target = ?"
PORTION = 500
"""Most keys or ids that one statement names."""

_RECORD = "topic, partition_number, record_offset, record_key, record_value, headers, timestamp_ms"
_COLUMNS = f"id, mapping, hold, {_RECORD}, position, reason, error, retry_requested_us IS NOT NULL"


class ParkedStore:
    """Reads and writes cdc_parked for one owner."""

    def __init__(self, database: Database, owner: Owner) -> None:
        self.database = database
        self.owner = (owner.pipeline, owner.target)
        self._read_us = 0  # when a queue was last read: requests that came later ask for another retry

    def held(self, partitions: Sequence[TopicPartition]) -> dict[tuple[str, str], str]:
        held: dict[tuple[str, str], str] = {}
        for mapping, hold, reason, topic, number in self.database.rows(
            f"SELECT mapping, hold, reason, topic, partition_number FROM cdc_parked WHERE {MINE} AND hold <> ''"
            " ORDER BY id",
            self.owner,
        ):
            if TopicPartition(topic, number) in partitions:
                held.setdefault((mapping, hold), reason)
        return held

    def standing(self) -> Standing:
        waiting, aged = sorted(WAITING), sorted(WAITING | {"held"})
        ((records, age_us, asked),) = self.database.rows(
            f"SELECT sum(CASE WHEN reason NOT IN ({marks(len(waiting))}) THEN 1 ELSE 0 END), {self.database.now}"
            f" - min(CASE WHEN reason NOT IN ({marks(len(aged))}) THEN parked_us END),"
            f" count(retry_requested_us) FROM cdc_parked WHERE {MINE}",
            (*waiting, *aged, *self.owner),
        )
        return Standing(int(records or 0), None if age_us is None else int(age_us) / 1e6, bool(asked))

    def queue(self, mapping: str, holds: Sequence[str]) -> list[Parked]:
        self._read_us = int(self.database.rows(f"SELECT {self.database.now}")[0][0])
        found: list[Parked] = []
        for part in portions(sorted(map(digest, holds))):
            rows = self.database.rows(
                f"SELECT {_COLUMNS} FROM cdc_parked WHERE {MINE} AND mapping = ?"
                f" AND hold_digest IN ({marks(len(part))})",
                (*self.owner, mapping, *part),
            )
            found += [_parked(row) for row in rows]
        return sorted(found, key=lambda parked: parked.id or 0)

    def retries(self, partitions: Sequence[TopicPartition]) -> list[tuple[str, str]]:
        rows = self.database.rows(
            f"SELECT mapping, hold, topic, partition_number FROM cdc_parked WHERE {MINE}"
            " AND retry_requested_us IS NOT NULL",
            self.owner,
        )
        return sorted(
            {(mapping, hold) for mapping, hold, *place in rows if TopicPartition(place[0], place[1]) in partitions}
        )

    def retried(self, ids: Sequence[int]) -> None:
        for part in portions(ids):
            self.database.run(
                "UPDATE cdc_parked SET retry_requested_us = NULL WHERE retry_requested_us <= ?"
                f" AND id IN ({marks(len(part))})",
                (self._read_us, *part),
            )

    def requests(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, dict[int, str]]:
        found: dict[TopicPartition, dict[int, str]] = {}
        for topic, number, offset, who, reason in self.database.rows(
            f"SELECT topic, partition_number, record_offset, who, reason FROM cdc_park_request WHERE {MINE}", self.owner
        ):
            place = TopicPartition(topic, number)
            if place in partitions:
                found.setdefault(place, {})[offset] = f"{who}: {reason}"
        return found

    def add(self, records: Sequence[Parked]) -> None:
        if not records:
            return
        on_request = sorted({each.place for each in records if each.reason == ON_REQUEST})
        if on_request:
            self.database.run_many(
                f"DELETE FROM cdc_park_request WHERE {MINE} AND topic = ? AND partition_number = ?"
                " AND record_offset = ?",
                [(*self.owner, *place) for place in on_request],
            )
        key = ("pipeline", "target", "mapping", "topic", "partition_number", "record_offset", "hold_digest")
        self.database.run_many(
            f"INSERT INTO cdc_parked (pipeline, target, mapping, hold, hold_digest, {_RECORD}, position, reason, error,"
            f" parked_us) VALUES ({marks(15)}, {self.database.now})" + self.database.on_conflict(key),
            [(*self.owner, *_fields(parked)) for parked in records],
        )

    def remove(self, ids: Sequence[int]) -> None:
        for part in portions(ids):
            self.database.run(f"DELETE FROM cdc_parked WHERE id IN ({marks(len(part))})", part)

    def rename(self, records: Sequence[Parked]) -> None:
        if records:
            self.database.run_many(
                "UPDATE cdc_parked SET reason = ?, error = ? WHERE id = ?",
                [(parked.reason, parked.error, parked.id) for parked in records],
            )

    def record(self, parked_id: int) -> RawRecord | None:
        rows = self.database.rows(f"SELECT {_RECORD} FROM cdc_parked WHERE {MINE} AND id = ?", (*self.owner, parked_id))
        return _record(rows[0]) if rows else None


def portions(items: Sequence[_T]) -> Iterator[Sequence[_T]]:
    """`items` in parts that one statement may name."""
    return (items[start : start + PORTION] for start in range(0, len(items), PORTION))


def _fields(parked: Parked) -> Row:
    record = parked.record
    headers = msgspec.json.encode([[name, b64encode(value).decode()] for name, value in record.headers]).decode()
    return (
        parked.mapping,
        parked.hold,
        digest(parked.hold),
        record.topic,
        record.partition,
        record.offset,
        record.key,
        record.value,
        headers,
        record.timestamp_ms,
        parked.position.pack(),
        parked.reason,
        parked.error,
    )


def _parked(row: Row) -> Parked:
    parked_id, mapping, hold, *record, position, reason, error, asked = row
    place = Position.unpack(position)
    return Parked(mapping, hold, _record(tuple(record)), place, reason, error, parked_id, bool(asked))


def _record(row: Row) -> RawRecord:
    topic, partition, offset, key, value, headers, timestamp_ms = row
    read = tuple((name, b64decode(text)) for name, text in msgspec.json.decode(headers))
    return RawRecord(topic, partition, offset, key, value, read, timestamp_ms)
