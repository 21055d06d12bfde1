"""Conflicts in a PostgreSQL target: tables cdc.conflict (those that are kept with values) and cdc.conflict_count."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from cdc.decisions import Conflicts, Counted, KeptConflict
from cdc.model import Action, Conflict, ConflictType, Position, Seen, TopicPartition
from cdc.target.base import Owner
from cdc.target.operator import ConflictCount, ConflictEntry, ConflictFilter

PORTION = 10_000
"""Most rows that a purge deletes at once."""

_MINE = "pipeline = %s AND target = %s"
_ENTRY = "id, at, mapping, hold, type, action, columns, before, incoming, resulting, position, topic, partition"
_KEPT = "mapping, hold, type, action, columns, before, incoming, resulting, position, topic, partition, record_offset"
_FOUND = " AND (%s OR mapping = ANY(%s)) AND (%s::text IS NULL OR type = %s)"
_OF_KEY = " AND (%s::text IS NULL OR md5(hold) = md5(%s) AND hold = %s)"


def note(connection: psycopg.Connection[Any], owner: Owner, conflicts: Conflicts) -> None:
    """Add to the counts of this hour, keep those that are kept. Errors are psycopg's, here and below."""
    mine, counts = (owner.pipeline, owner.target), sorted(conflicts.counts.items())
    connection.execute(
        "INSERT INTO cdc.conflict_count AS c (pipeline, target, mapping, topic, partition, type, action, number, hour)"
        " SELECT %s, %s, v.*, date_trunc('hour', now()) FROM unnest(%s::text[], %s::text[], %s::integer[],"
        " %s::text[], %s::text[], %s::bigint[]) AS v"
        " ON CONFLICT (pipeline, target, mapping, topic, partition, type, action, hour)"
        " DO UPDATE SET number = c.number + excluded.number",
        (
            *mine,
            [each.mapping for each, _ in counts],
            [each.partition.topic for each, _ in counts],
            [each.partition.partition for each, _ in counts],
            [each.type.value for each, _ in counts],
            [each.action.value for each, _ in counts],
            [number for _, number in counts],
        ),
    )
    if conflicts.kept:
        with connection.cursor() as cursor:
            cursor.executemany(
                f"INSERT INTO cdc.conflict (pipeline, target, {_KEPT}) VALUES ({', '.join(['%s'] * 14)})",
                [(*mine, *_fields(kept)) for kept in conflicts.kept],
            )


def _fields(kept: KeptConflict) -> tuple[Any, ...]:
    conflict, seen = kept.conflict, kept.conflict.seen or Seen()
    sides = [None if side is None else Jsonb(side) for side in (seen.before, seen.incoming, seen.resulting)]
    return (
        *(kept.mapping, kept.hold, conflict.type.value, conflict.action.value, list(conflict.columns), *sides),
        *(kept.position.pack(), kept.partition.topic, kept.partition.partition, kept.offset),
    )


def purge(connection: psycopg.Connection[Any], owner: Owner, keep_s: float) -> int:
    """One portion of each; returns how many rows went."""
    gone = 0
    for table, column in (("conflict", "at"), ("conflict_count", "hour")):
        gone += connection.execute(
            f"DELETE FROM cdc.{table} WHERE ctid = ANY(ARRAY(SELECT ctid FROM cdc.{table} WHERE {_MINE}"
            f" AND {column} < now() - make_interval(secs => %s) LIMIT {PORTION}))",
            (owner.pipeline, owner.target, keep_s),
        ).rowcount
    return gone


def has_conflicts(connection: psycopg.Connection[Any]) -> bool:
    """Whether the tables are there: an earlier release has none."""
    return connection.execute("SELECT to_regclass('cdc.conflict_count') IS NOT NULL").fetchone() == (True,)


def entries(connection: psycopg.Connection[Any], owner: Owner, wanted: ConflictFilter) -> list[ConflictEntry]:
    """See `Operator.conflicts`."""
    if not has_conflicts(connection):
        return []
    rows = connection.execute(
        f"SELECT {_ENTRY}, record_offset FROM cdc.conflict WHERE {_MINE}{_FOUND}{_OF_KEY}"
        " AND (%s::timestamptz IS NULL OR at >= %s) AND (%s::bigint IS NULL OR id = %s) ORDER BY id DESC LIMIT %s",
        (
            owner.pipeline,
            owner.target,
            *_found(wanted),
            *[wanted.hold] * 3,
            *[wanted.since] * 2,
            *[wanted.id] * 2,
            wanted.limit,
        ),
    ).fetchall()
    return [_entry(row) for row in rows]


def _found(wanted: ConflictFilter) -> list[Any]:
    mappings = wanted.mappings
    return [mappings is None, list(mappings or ()), wanted.type, wanted.type]


def _entry(row: tuple[Any, ...]) -> ConflictEntry:
    id_, at, mapping, hold, type_, action, columns, before, incoming, resulting, position, topic, partition, offset = (
        row
    )
    conflict = Conflict(ConflictType(type_), Action(action), tuple(columns), Seen(before, incoming, resulting))
    place = TopicPartition(topic, partition)
    return ConflictEntry(id_, at, KeptConflict(mapping, hold, conflict, Position.unpack(position), place, offset))


def counts(connection: psycopg.Connection[Any], owner: Owner, wanted: ConflictFilter) -> list[ConflictCount]:
    """See `Operator.conflict_counts`."""
    if not has_conflicts(connection):
        return []
    rows = connection.execute(
        "SELECT mapping, topic, partition, type, action, sum(number)::bigint FROM cdc.conflict_count"
        f" WHERE {_MINE}{_FOUND}"
        " AND (%s::timestamptz IS NULL OR hour >= date_trunc('hour', %s::timestamptz))"
        " GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5",
        (owner.pipeline, owner.target, *_found(wanted), wanted.since, wanted.since),
    ).fetchall()
    return [
        ConflictCount(Counted(mapping, TopicPartition(topic, partition), ConflictType(type_), Action(action)), number)
        for mapping, topic, partition, type_, action, number in rows
    ]
