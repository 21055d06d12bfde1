"""Deployed versions of mappings in a PostgreSQL target: cdc.mapping_version, cdc.mapping_switch (see versions.py).

Errors are psycopg's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg

from cdc.model import TopicPartition
from cdc.target.base import Owner
from cdc.target.operator import Move
from cdc.target.versions import Deployed, Switch

STATE_VERSION = 7
"""Of the state that has these tables."""
_MINE = "pipeline = %s AND target = %s"


def versions(connection: psycopg.Connection[Any], owner: Owner, most: int | None = None) -> list[Deployed]:
    """The newest first; `most` of them."""
    rows = connection.execute(
        f"SELECT number, content, file, who, reason, restores, at FROM cdc.mapping_version WHERE {_MINE}"
        " ORDER BY number DESC LIMIT %s",
        (owner.pipeline, owner.target, most),
    ).fetchall()
    return [Deployed(*row) for row in rows]


def switches(connection: psycopg.Connection[Any], owner: Owner) -> list[Switch]:
    rows = connection.execute(
        f"SELECT topic, partition, number, next, tracker FROM cdc.mapping_switch WHERE {_MINE} ORDER BY 1, 2, 3",
        (owner.pipeline, owner.target),
    ).fetchall()
    return [Switch(TopicPartition(topic, partition), *rest) for topic, partition, *rest in rows]


def deploy(connection: psycopg.Connection[Any], owner: Owner, version: Deployed) -> bool:
    """See `Operator.deploy`; in a transaction. Watermarks are locked in the order of a rewind."""
    mine = (owner.pipeline, owner.target)
    inserted = connection.execute(
        "INSERT INTO cdc.mapping_version (pipeline, target, number, file, content, who, reason, restores)"
        " SELECT %s, %s, %s, %s, %s, %s, %s, %s"
        f" WHERE (SELECT coalesce(max(number), 0) FROM cdc.mapping_version WHERE {_MINE}) = %s"
        " ON CONFLICT DO NOTHING",
        (
            *(*mine, version.number, version.file, version.text, version.who, version.reason, version.restores),
            *(*mine, version.number - 1),
        ),
    )
    if not inserted.rowcount:
        return False
    connection.execute(f"SELECT FROM cdc.watermark WHERE {_MINE} ORDER BY topic, partition FOR UPDATE", mine)
    connection.execute(
        "INSERT INTO cdc.mapping_switch SELECT pipeline, target, topic, partition, %s, next, tracker"
        f" FROM cdc.watermark WHERE {_MINE}",
        (version.number, *mine),
    )
    connection.execute(f"UPDATE cdc.watermark SET fence = fence + 1 WHERE {_MINE}", mine)
    return True


def read_again(connection: psycopg.Connection[Any], owner: Owner, moves: Sequence[Move]) -> None:
    """What a rewind moves back begins anew under the version that is deployed; in its transaction."""
    connection.execute(
        "UPDATE cdc.mapping_switch s SET next = v.next, tracker = ''"
        " FROM unnest(%s::text[], %s::integer[], %s::bigint[]) AS v(topic, partition, next)"
        f" WHERE s.{_MINE.replace('AND ', 'AND s.')} AND s.topic = v.topic AND s.partition = v.partition"
        f" AND s.number = (SELECT max(number) FROM cdc.mapping_version WHERE {_MINE})"
        " AND s.next IS NOT NULL AND (v.next IS NULL OR v.next < s.next)",
        (
            [move.partition.topic for move in moves],
            [move.partition.partition for move in moves],
            [move.next for move in moves],
            *(owner.pipeline, owner.target) * 2,
        ),
    )
