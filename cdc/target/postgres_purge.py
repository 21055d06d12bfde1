"""What a PostgreSQL target may forget: tombstones, lent values, workers' reports that no replay can need any more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg import sql

from cdc.target.base import Owner
from cdc.target.postgres_statements import identifier, tombstone_name

PORTION = 10_000
"""Most rows of a table that go in one statement: a purge never holds locks for long."""

_OLD = sql.SQL(
    " < least(now() - make_interval(secs => %s),"
    " (SELECT min(parked_at) FROM cdc.parked WHERE pipeline = %s AND target = %s))"
)


def purge(connection: psycopg.Connection[Any], owner: Owner, table_ids: Sequence[int], keep_s: float) -> int:
    """One portion of each; returns how many rows went. `table_ids`: of cdc.target_table. Errors are psycopg's."""
    parameters = (keep_s, owner.pipeline, owner.target)
    gone = 0
    for table_id in sorted(set(table_ids)):
        tombstones = identifier("cdc", tombstone_name(table_id))
        gone += connection.execute(_statement(tombstones, sql.SQL("buried_at") + _OLD), parameters).rowcount
    mine = sql.SQL(" AND starts_with(mapping, %s)")
    lent = _statement(identifier("cdc", "moved"), sql.SQL("created_at") + _OLD + mine)
    gone += connection.execute(lent, (*parameters, f"{owner.pipeline}/")).rowcount
    gone += connection.execute(
        "DELETE FROM cdc.worker"
        " WHERE reported_at < now() - make_interval(secs => %s) AND pipeline = %s AND target = %s",
        parameters,
    ).rowcount
    return gone


def _statement(table: sql.Composable, condition: sql.Composable) -> sql.Composed:
    """A row that changed meanwhile has another place and stays."""
    return sql.SQL("DELETE FROM {0} WHERE ctid = ANY(ARRAY(SELECT ctid FROM {0} WHERE {1} LIMIT {2}))").format(
        table, condition, sql.Literal(PORTION)
    )
