"""The delivery ledger in PostgreSQL: tables cdc.delivery and cdc.delivered."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import psycopg

from cdc.errors import Transient
from cdc.model import Position, TopicPartition
from cdc.target.base import Owner, PoisonRow
from cdc.target.delivery import BEGINNING, EXCERPT, FLOOR, Answered, Delivery, Last, Recorded
from cdc.target.postgres_errors import translated

_MINE = "pipeline = %s AND target = %s"
_PURGED_AT_ONCE = 10_000
_SHOWN = (
    "id, mapping, key_hash, idempotency_key, operation, topic || ':' || partition || ':' || record_offset, state,"
    " attempts, status, answer, first_sent_at, sent_at, settled_at"
)


class PostgresLedger:
    """A `Ledger` and a `LedgerReader` on the state store's connection."""

    def __init__(self, connection: psycopg.Connection[Any], owner: Owner) -> None:
        self._connection = connection
        self._owner = (owner.pipeline, owner.target)

    def last(self, mapping: str, key_hashes: Sequence[str]) -> dict[str, Last]:
        rows = self._rows(
            "SELECT key_hash, position, idempotency_key, present, topic, partition, record_offset FROM cdc.delivered"
            f" WHERE {_MINE} AND mapping = %s AND key_hash = ANY(%s)",
            (*self._owner, mapping, list(key_hashes)),
        )
        return {
            key_hash: Last(Position.unpack(position), key, present, (TopicPartition(topic, partition), offset))
            for key_hash, position, key, present, topic, partition, offset in rows
        }

    def floor(self, mapping: str) -> Position:
        found = self.last(mapping, [FLOOR]).get(FLOOR)
        return BEGINNING if found is None else found.position

    def raise_floor(self, mapping: str, position: Position) -> None:
        self._rows(
            "INSERT INTO cdc.delivered (pipeline, target, mapping, key_hash, hold, position, idempotency_key, present,"
            " topic, partition, record_offset) VALUES (%s, %s, %s, %s, '', %s, '', true, '', 0, 0)"
            " ON CONFLICT (pipeline, target, mapping, key_hash)"
            " DO UPDATE SET position = greatest(cdc.delivered.position, excluded.position)",
            (*self._owner, mapping, FLOOR, position.pack()),
        )

    def present(self, mapping: str, before: Position, after: str, limit: int) -> list[str]:
        rows = self._rows(
            f"SELECT hold FROM cdc.delivered WHERE {_MINE} AND mapping = %s AND present AND position < %s"
            ' AND key_hash <> %s AND key_hash COLLATE "C" > %s ORDER BY key_hash COLLATE "C" LIMIT %s',
            (*self._owner, mapping, before.pack(), FLOOR, after, limit),
        )
        return [hold for (hold,) in rows]

    def send(self, deliveries: Sequence[Delivery]) -> set[str]:
        if not deliveries:
            return set()
        statement = (
            "INSERT INTO cdc.delivery AS d (pipeline, target, mapping, hold, key_hash, idempotency_key, operation,"
            " position, topic, partition, record_offset, request)"
            " SELECT %s, %s, * FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::bytea[],"
            " %s::text[], %s::integer[], %s::bigint[], %s::bytea[]) ORDER BY 5"
            " ON CONFLICT (pipeline, target, idempotency_key) DO UPDATE SET"
            " state = CASE WHEN d.state = 'acknowledged' THEN d.state ELSE 'sent' END,"
            " attempts = d.attempts + CASE WHEN d.state = 'acknowledged' THEN 0 ELSE 1 END,"
            " request = CASE WHEN d.state = 'acknowledged' THEN NULL ELSE excluded.request END,"
            " sent_at = CASE WHEN d.state = 'acknowledged' THEN d.sent_at ELSE now() END"
            " RETURNING idempotency_key, state"
        )
        parameters = (
            *self._owner,
            [each.mapping for each in deliveries],
            [each.hold for each in deliveries],
            [each.key_hash for each in deliveries],
            [each.idempotency_key for each in deliveries],
            [each.operation for each in deliveries],
            [each.position.pack() for each in deliveries],
            [each.partition.topic for each in deliveries],
            [each.partition.partition for each in deliveries],
            [each.offset for each in deliveries],
            [each.request for each in deliveries],
        )
        try:
            rows = self._rows(statement, parameters)
        except PoisonRow as error:  # the only constraint that can fail: one delivery of a row at a time
            what = "a row has a delivery under way by another worker: its partition's owner settles it first"
            raise Transient(what, where=deliveries[0].mapping) from error
        return {key for key, state in rows if state == "acknowledged"}

    def settle(self, answered: Sequence[Answered]) -> None:
        if not answered:
            return
        self._rows(
            "UPDATE cdc.delivery d SET state = v.state, status = v.status, answer = v.answer, settled_at = now(),"
            " attempts = d.attempts + v.attempts - 1, request = NULL"
            " FROM unnest(%s::text[], %s::text[], %s::integer[], %s::text[], %s::integer[])"
            " AS v(key, state, status, answer, attempts)"
            " WHERE d.pipeline = %s AND d.target = %s AND d.idempotency_key = v.key",
            (
                [each.delivery.idempotency_key for each in answered],
                [each.state for each in answered],
                [each.status for each in answered],
                [each.excerpt[:EXCERPT].replace("\0", "") for each in answered],
                [each.attempts for each in answered],
                *self._owner,
            ),
        )
        self.remember([each.delivery for each in answered if each.state == "acknowledged"])

    def remember(self, deliveries: Sequence[Delivery]) -> None:
        # Of one key there may be several, in order: one statement may change a row only once.
        deliveries = list({(each.mapping, each.key_hash): each for each in deliveries}.values())
        if not deliveries:
            return
        self._rows(
            "INSERT INTO cdc.delivered AS g (pipeline, target, mapping, key_hash, hold, position, idempotency_key,"
            " present, topic, partition, record_offset)"
            " SELECT %s, %s, * FROM unnest(%s::text[], %s::text[], %s::text[], %s::bytea[], %s::text[], %s::boolean[],"
            " %s::text[], %s::integer[], %s::bigint[]) ORDER BY 3, 4"
            " ON CONFLICT (pipeline, target, mapping, key_hash) DO UPDATE SET position = excluded.position,"
            " idempotency_key = excluded.idempotency_key, present = excluded.present, topic = excluded.topic,"
            " partition = excluded.partition, record_offset = excluded.record_offset, at = now()"
            " WHERE g.position <= excluded.position",
            (
                *self._owner,
                [each.mapping for each in deliveries],
                [each.key_hash for each in deliveries],
                [each.hold for each in deliveries],
                [each.position.pack() for each in deliveries],
                [each.idempotency_key for each in deliveries],
                [each.present for each in deliveries],
                [each.partition.topic for each in deliveries],
                [each.partition.partition for each in deliveries],
                [each.offset for each in deliveries],
            ),
        )

    def unsettled(self, partitions: Collection[TopicPartition]) -> list[Delivery]:
        rows = self._rows(
            "SELECT mapping, hold, key_hash, idempotency_key, operation, position, topic, partition, record_offset,"
            f" request FROM cdc.delivery WHERE {_MINE} AND state = 'sent'"
            " AND (topic, partition) IN (SELECT * FROM unnest(%s::text[], %s::integer[])) ORDER BY id",
            (*self._owner, [each.topic for each in partitions], [each.partition for each in partitions]),
        )
        return [
            Delivery(mapping, hold, key_hash, key, op, Position.unpack(at), TopicPartition(topic, number), offset, sent)
            for mapping, hold, key_hash, key, op, at, topic, number, offset, sent in rows
        ]

    def purge(self, keep_s: float, ledger_s: float) -> int:
        parked = "(SELECT min(parked_at) FROM cdc.parked WHERE pipeline = %s AND target = %s)"
        gone = 0
        for table, condition, parameters in (
            (
                "cdc.delivered",
                f"NOT present AND at < least(now() - make_interval(secs => %s), {parked})",
                (keep_s, *self._owner),
            ),
            ("cdc.delivery", "state <> 'sent' AND settled_at < now() - make_interval(secs => %s)", (ledger_s,)),
        ):
            with translated():
                gone += self._connection.execute(
                    f"DELETE FROM {table} WHERE ctid = ANY(ARRAY(SELECT ctid FROM {table} WHERE {_MINE} AND {condition}"
                    f" LIMIT {_PURGED_AT_ONCE}))".encode(),
                    (*self._owner, *parameters),
                ).rowcount
        return gone

    # -- for people

    def recorded(self, *, state: str | None, key_hash: str | None, since_s: float | None, limit: int) -> list[Recorded]:
        rows = self._rows(
            f"SELECT {_SHOWN} FROM cdc.delivery WHERE {_MINE} AND (%s::text IS NULL OR state = %s)"
            " AND (%s::text IS NULL OR starts_with(key_hash, %s))"
            " AND (%s::float8 IS NULL OR sent_at >= now() - make_interval(secs => %s)) ORDER BY id DESC LIMIT %s",
            (*self._owner, state, state, key_hash, key_hash, since_s, since_s, limit),
        )
        return [Recorded(*row) for row in rows]

    def one(self, key: str) -> Recorded | None:
        rows = self._rows(
            f"SELECT {_SHOWN} FROM cdc.delivery WHERE {_MINE} AND idempotency_key = %s", (*self._owner, key)
        )
        return Recorded(*rows[0]) if rows else None

    def _rows(self, query: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
        with translated():
            cursor = self._connection.execute(query.encode(), parameters)
            return cursor.fetchall() if cursor.description else []
