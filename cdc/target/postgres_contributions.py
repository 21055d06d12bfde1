"""Contributions in a PostgreSQL target: one row a target row, locked in the order of the keys."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any

import psycopg

from cdc.target.base import Owner
from cdc.target.postgres_errors import translated

_LOCK_CLASS = 0x0CDD
"""Class of the advisory locks that keep those who write single keys and those who go through a whole table apart."""


class PostgresContributions:
    """A `ContributionStore` and a `ShapeStore` on the target's connection. `mine`: this owner's name of a mapping."""

    def __init__(self, connection: psycopg.Connection[Any], owner: Owner) -> None:
        self._connection = connection
        self._owner = (owner.pipeline, owner.target)
        self._ids: dict[str, int] = {}

    def take(self, mapping: str, keys: Iterable[str]) -> dict[str, bytes]:
        table, wanted = self._id(mapping), sorted(set(keys))
        self._connection.execute("SELECT pg_advisory_xact_lock_shared(%s, %s)", (_LOCK_CLASS, table))
        # First what is there is locked, then the other keys get rows: each time in key order, and nobody who waits for
        # a row that is there holds a new one, so that two workers wait for one another but never in a ring.
        found = self._lock(table, wanted)
        missing = [key for key in wanted if key not in found]
        if missing:
            made = self._connection.execute(
                "INSERT INTO cdc.contribution (table_id, key, document)"
                " SELECT %s, key, '' FROM unnest(string_to_array(%s, E'\n')) AS k(key) ON CONFLICT DO NOTHING",
                (table, "\n".join(missing)),
            )
            found.update(dict.fromkeys(missing, b"") if made.rowcount == len(missing) else self._lock(table, missing))
        return found

    def _lock(self, table: int, keys: Sequence[str]) -> dict[str, bytes]:
        """The documents that are there. Keys are JSON texts, without line breaks: one parameter brings them all."""
        rows = self._connection.execute(
            "SELECT c.key, c.document FROM unnest(string_to_array(%s, E'\n')) WITH ORDINALITY AS k(key, number)"
            " JOIN cdc.contribution AS c ON c.table_id = %s AND c.key = k.key ORDER BY k.number FOR UPDATE OF c",
            ("\n".join(keys), table),
            binary=True,
        ).fetchall()
        return dict(rows)

    def keep(self, mapping: str, documents: Mapping[str, bytes], memories: Mapping[str, int]) -> None:
        table, ends = self._id(mapping), [*accumulate(map(len, documents.values()))]
        since = [memories.get(key, "") for key in documents] if memories else [""] * len(documents)
        rows = "\n".join([f"{key}\t{end}\t{second}" for key, end, second in zip(documents, ends, since, strict=True)])
        # One parameter brings all documents as they are, another says where each of them ends.
        self._connection.execute(
            "UPDATE cdc.contribution AS c"
            " SET document = substring(%b FROM d.start FOR d.size), memory_s = nullif(d.since, '')::bigint"
            " FROM (SELECT split_part(line, E'\t', 1) AS key, split_part(line, E'\t', 3) AS since,"
            " coalesce(lag(split_part(line, E'\t', 2)::int) OVER w, 0) + 1 AS start, split_part(line, E'\t', 2)::int"
            " - coalesce(lag(split_part(line, E'\t', 2)::int) OVER w, 0) AS size"
            " FROM unnest(string_to_array(%s, E'\n')) WITH ORDINALITY AS u(line, number)"
            " WINDOW w AS (ORDER BY number)) AS d WHERE c.table_id = %s AND c.key = d.key",
            (b"".join(documents.values()), rows, table),
        )
        empty = [key for key, document in documents.items() if not document]
        if empty:
            self._connection.execute(
                "DELETE FROM cdc.contribution WHERE table_id = %s AND key = ANY(%s)", (table, empty)
            )

    def forgettable(self, mapping: str, before_s: int, limit: int) -> dict[str, bytes]:
        rows = self._connection.execute(
            "SELECT key, document FROM cdc.contribution WHERE table_id = %s AND memory_s < least(%s, (SELECT"
            " extract(epoch FROM min(parked_at))::bigint FROM cdc.parked WHERE pipeline = %s AND target = %s))"
            " ORDER BY memory_s LIMIT %s FOR UPDATE SKIP LOCKED",
            (self._id(mapping), before_s, *self._owner, limit),
            binary=True,
        ).fetchall()
        return dict(rows)

    def portion(self, mapping: str, after: str, limit: int) -> dict[str, bytes]:
        table = self._id(mapping)
        if not after:
            self._connection.execute("SELECT pg_advisory_xact_lock(%s, %s)", (_LOCK_CLASS, table))
        rows = self._connection.execute(
            "SELECT key, document FROM cdc.contribution WHERE table_id = %s AND key > %s ORDER BY key LIMIT %s",
            (table, after, limit),
            binary=True,
        ).fetchall()
        return dict(rows)

    def floors(self, mapping: str) -> dict[str, bytes]:
        rows = self._connection.execute(
            "SELECT contributor, position FROM cdc.contribution_floor WHERE table_id = %s", (self._id(mapping),)
        ).fetchall()
        return {contributor: bytes(position) for contributor, position in rows}

    def raise_floor(self, mapping: str, contributor: str, position: bytes) -> None:
        self._connection.execute(
            "INSERT INTO cdc.contribution_floor AS f VALUES (%s, %s, %s)"
            " ON CONFLICT (table_id, contributor) DO UPDATE SET position = greatest(f.position, excluded.position)",
            (self._id(mapping), contributor, position),
        )

    def number(self, mapping: str, shape: str) -> int:
        with translated():
            self._connection.execute(
                "INSERT INTO cdc.contribution_shape (table_id, shape) VALUES (%s, %s) ON CONFLICT DO NOTHING",
                (self._id(mapping), shape),
            )
        return next(number for number, known in self.all(mapping).items() if known == shape)

    def all(self, mapping: str) -> dict[int, str]:
        query = "SELECT number, shape FROM cdc.contribution_shape WHERE table_id = %s ORDER BY number"
        with translated():
            return dict(self._connection.execute(query, (self._id(mapping),)).fetchall())

    def _id(self, mapping: str) -> int:
        """The table's number; first asked for outside of transactions, as a `ShapeStore`."""
        if mapping not in self._ids:
            mine = (*self._owner, mapping)
            self._connection.execute(
                "INSERT INTO cdc.contribution_table (pipeline, target, mapping) VALUES (%s, %s, %s)"
                " ON CONFLICT DO NOTHING",
                mine,
            )
            ((self._ids[mapping],),) = self._connection.execute(
                "SELECT id FROM cdc.contribution_table WHERE pipeline = %s AND target = %s AND mapping = %s", mine
            ).fetchall()
        return self._ids[mapping]
