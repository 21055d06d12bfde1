"""The parked store in a PostgreSQL target: table cdc.parked."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Sequence
from typing import Any

import psycopg

from cdc.model import Position, RawRecord, TopicPartition
from cdc.target.base import ON_REQUEST, WAITING, Owner, Parked, Standing

_COLUMNS = (
    "id, mapping, hold, topic, partition, record_offset, record_key, record_value, headers, timestamp_ms, position,"
    " reason, error, retry_requested_at IS NOT NULL"
)
_MINE = "pipeline = %s AND target = %s"
_OF_PARTITIONS = "(topic, partition) IN (SELECT * FROM unnest(%s::text[], %s::integer[]))"


class ParkedStore:
    """Reads and writes cdc.parked for one owner; errors are psycopg's, the target translates them."""

    def __init__(self, connection: psycopg.Connection[Any], owner: Owner) -> None:
        self.connection = connection
        self.owner = (owner.pipeline, owner.target)

    def held(self, partitions: Sequence[TopicPartition]) -> dict[tuple[str, str], str]:
        rows = self.connection.execute(
            f"SELECT DISTINCT ON (mapping, hold) mapping, hold, reason FROM cdc.parked WHERE {_MINE} AND hold <> ''"
            f" AND {_OF_PARTITIONS} ORDER BY mapping, hold, id",
            (*self.owner, *_lists(partitions)),
        )
        return {(mapping, hold): reason for mapping, hold, reason in rows}

    def standing(self) -> Standing:
        ((records, oldest_s, asked),) = self.connection.execute(
            "SELECT count(*) FILTER (WHERE reason <> ALL(%s)),"
            " extract(epoch FROM now() - min(parked_at) FILTER (WHERE reason <> ALL(%s)))::float8,"
            f" coalesce(bool_or(retry_requested_at IS NOT NULL), false) FROM cdc.parked WHERE {_MINE}",
            (sorted(WAITING), sorted(WAITING | {"held"}), *self.owner),
        ).fetchall()
        return Standing(records, oldest_s, asked)

    def queue(self, mapping: str, holds: Sequence[str]) -> list[Parked]:
        rows = self.connection.execute(
            f"SELECT {_COLUMNS} FROM cdc.parked WHERE {_MINE} AND mapping = %s"
            " AND md5(hold) = ANY (SELECT md5(h) FROM unnest(%s::text[]) h) AND hold = ANY(%s) ORDER BY id",
            (*self.owner, mapping, list(holds), list(holds)),
        )
        return [_parked(row) for row in rows]

    def retries(self, partitions: Sequence[TopicPartition]) -> list[tuple[str, str]]:
        rows = self.connection.execute(
            "SELECT DISTINCT mapping, hold FROM cdc.parked WHERE retry_requested_at IS NOT NULL"
            f" AND {_MINE} AND {_OF_PARTITIONS}",
            (*self.owner, *_lists(partitions)),
        )
        return sorted((mapping, hold) for mapping, hold in rows)

    def retried(self, ids: Sequence[int]) -> None:
        self.connection.execute(
            "UPDATE cdc.parked SET retry_requested_at = NULL WHERE retry_requested_at <= now() AND id = ANY(%s)",
            (list(ids),),
        )

    def requests(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, dict[int, str]]:
        found: dict[TopicPartition, dict[int, str]] = {}
        for topic, partition, offset, who, reason in self.connection.execute(
            f"SELECT topic, partition, record_offset, who, reason FROM cdc.park_request WHERE {_MINE}"
            f" AND {_OF_PARTITIONS}",
            (*self.owner, *_lists(partitions)),
        ):
            found.setdefault(TopicPartition(topic, partition), {})[offset] = f"{who}: {reason}"
        return found

    def add(self, records: Sequence[Parked]) -> None:
        on_request = sorted({each.place for each in records if each.reason == ON_REQUEST})
        with self.connection.cursor() as cursor:
            if on_request:
                cursor.executemany(
                    f"DELETE FROM cdc.park_request WHERE {_MINE} AND topic = %s AND partition = %s"
                    " AND record_offset = %s",
                    [(*self.owner, *place) for place in on_request],
                )
            cursor.executemany(
                "INSERT INTO cdc.parked (pipeline, target, mapping, hold, topic, partition, record_offset, record_key,"
                " record_value, headers, timestamp_ms, position, reason, error)"
                " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
                [(*self.owner, *_fields(parked)) for parked in records],
            )

    def remove(self, ids: Sequence[int]) -> None:
        if ids:
            self.connection.execute("DELETE FROM cdc.parked WHERE id = ANY(%s)", (list(ids),))

    def rename(self, records: Sequence[Parked]) -> None:
        if records:
            self.connection.execute(
                "UPDATE cdc.parked p SET reason = v.reason, error = v.error"
                " FROM unnest(%s::bigint[], %s::text[], %s::text[]) AS v(id, reason, error) WHERE p.id = v.id",
                (
                    [parked.id for parked in records],
                    [parked.reason for parked in records],
                    [parked.error for parked in records],
                ),
            )


def _lists(partitions: Sequence[TopicPartition]) -> tuple[list[str], list[int]]:
    return [partition.topic for partition in partitions], [partition.partition for partition in partitions]


def _fields(parked: Parked) -> tuple[Any, ...]:
    record = parked.record
    headers = json.dumps([[name, b64encode(value).decode()] for name, value in record.headers])
    return (
        parked.mapping,
        parked.hold,
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


def _parked(row: tuple[Any, ...]) -> Parked:
    parked_id, mapping, hold, topic, partition, offset, key, value, headers, timestamp, position, *words = row
    record = RawRecord(
        topic,
        partition,
        offset,
        key,
        value,
        read_headers(headers),
        timestamp,
    )
    reason, error, asked = words
    return Parked(mapping, hold, record, Position.unpack(position), reason, error, parked_id, asked)


def read_headers(stored: list[list[str]]) -> tuple[tuple[str, bytes], ...]:
    """Headers as a record has them, from the stored JSON: names and values in base64."""
    return tuple((name, b64decode(text)) for name, text in stored)
