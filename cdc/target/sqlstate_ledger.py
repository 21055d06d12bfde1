"""The delivery ledger in tables cdc_delivery and cdc_delivered (see sqlstate.py)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta

from cdc.errors import Transient
from cdc.model import Position, TopicPartition
from cdc.target.base import Owner, PoisonRow
from cdc.target.delivery import BEGINNING, EXCERPT, FLOOR, Answered, Delivery, Last, Recorded
from cdc.target.sqlstate import Database, Row, marks
from cdc.target.sqlstate_parked import MINE, portions

_PLACE = "topic, partition_number, record_offset"
_DELIVERY = f"mapping, hold, key_hash, idempotency_key, operation, position, {_PLACE}, request"
_SHOWN = (
    f"id, mapping, key_hash, idempotency_key, operation, {_PLACE}, state, attempts, status, answer, first_sent_us,"
    " sent_us, settled_us"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class SqlLedger:
    """A `Ledger` and a `LedgerReader` on the state store's connection. `under_way` is the key's hash while a delivery
    is not answered, else NULL, and unique: one delivery of a row at a time."""

    def __init__(self, database: Database, owner: Owner) -> None:
        self._database = database
        self._owner = (owner.pipeline, owner.target)

    def last(self, mapping: str, key_hashes: Sequence[str]) -> dict[str, Last]:
        found = {}
        for part in portions(sorted(set(key_hashes))):
            for key_hash, position, key, present, topic, number, offset in self._database.rows(
                f"SELECT key_hash, position, idempotency_key, present, {_PLACE} FROM cdc_delivered"
                f" WHERE {MINE} AND mapping = ? AND key_hash IN ({marks(len(part))})",
                (*self._owner, mapping, *part),
            ):
                place = (TopicPartition(topic, number), offset)
                found[key_hash] = Last(Position.unpack(position), key, bool(present), place)
        return found

    def floor(self, mapping: str) -> Position:
        found = self.last(mapping, [FLOOR]).get(FLOOR)
        return BEGINNING if found is None else found.position

    def raise_floor(self, mapping: str, position: Position) -> None:
        self.remember([Delivery(mapping, "", FLOOR, "", "upsert", position, TopicPartition("", 0), 0, b"")])

    def present(self, mapping: str, before: Position, after: str, limit: int) -> list[str]:
        rows = self._database.rows(
            f"SELECT hold FROM cdc_delivered WHERE {MINE} AND mapping = ? AND present = 1 AND position < ?"
            " AND key_hash <> ? AND key_hash > ? ORDER BY key_hash LIMIT ?",
            (*self._owner, mapping, before.pack(), FLOOR, after, limit),
        )
        return [hold for (hold,) in rows]

    def send(self, deliveries: Sequence[Delivery]) -> set[str]:
        states: dict[str, str] = {}
        for part in portions([each.idempotency_key for each in deliveries]):
            query = f"SELECT idempotency_key, state FROM cdc_delivery WHERE {MINE} AND idempotency_key IN"
            for key, state in self._database.rows(f"{query} ({marks(len(part))})", (*self._owner, *part)):
                states[key] = state
        new = [each for each in deliveries if each.idempotency_key not in states]
        again = [each for each in deliveries if states.get(each.idempotency_key) in ("sent", "refused")]
        try:
            self._insert(new)
            self._database.run_many(
                f"UPDATE cdc_delivery SET state = 'sent', under_way = key_hash, attempts = attempts + 1, request = ?,"
                f" sent_us = {self._database.now} WHERE {MINE} AND idempotency_key = ?",
                [(each.request, *self._owner, each.idempotency_key) for each in again],
            )
        except PoisonRow as error:  # the only constraint that can fail
            what = "a row has a delivery under way by another worker: its partition's owner settles it first"
            raise Transient(what, where=deliveries[0].mapping) from error
        return {key for key, state in states.items() if state == "acknowledged"}

    def _insert(self, deliveries: Sequence[Delivery]) -> None:
        now = self._database.now
        self._database.run_many(
            f"INSERT INTO cdc_delivery (pipeline, target, under_way, {_DELIVERY}, state, attempts, answer,"
            f" first_sent_us, sent_us) VALUES ({marks(13)}, 'sent', 1, '', {now}, {now})",
            [
                (
                    *self._owner,
                    each.key_hash,
                    each.mapping,
                    each.hold,
                    each.key_hash,
                    each.idempotency_key,
                    each.operation,
                    each.position.pack(),
                    *each.partition,
                    each.offset,
                    each.request,
                )
                for each in deliveries
            ],
        )

    def settle(self, answered: Sequence[Answered]) -> None:
        self._database.run_many(
            "UPDATE cdc_delivery SET state = ?, status = ?, answer = ?, attempts = attempts + ?, request = NULL,"
            f" under_way = NULL, settled_us = {self._database.now} WHERE {MINE} AND idempotency_key = ?",
            [
                (
                    each.state,
                    each.status,
                    each.excerpt[:EXCERPT],
                    each.attempts - 1,
                    *self._owner,
                    each.delivery.idempotency_key,
                )
                for each in answered
            ],
        )
        self.remember([each.delivery for each in answered if each.state == "acknowledged"])

    def remember(self, deliveries: Sequence[Delivery]) -> None:
        newest = {(each.mapping, each.key_hash): each for each in deliveries}
        known: set[tuple[str, str]] = set()
        for mapping in {mapping for mapping, _ in newest}:
            hashes = [key_hash for its, key_hash in newest if its == mapping]
            known |= {(mapping, key_hash) for key_hash in self.last(mapping, hashes)}
        columns = f"position, idempotency_key, present, {_PLACE}"
        rows = {key: _said(each) for key, each in newest.items()}
        self._database.run_many(
            f"INSERT INTO cdc_delivered (pipeline, target, mapping, key_hash, hold, {columns}, at_us)"
            f" VALUES ({marks(11)}, {self._database.now})",
            [(*self._owner, *key, newest[key].hold, *row) for key, row in rows.items() if key not in known],
        )
        self._database.run_many(
            f"UPDATE cdc_delivered SET {' = ?, '.join(columns.split(', '))} = ?, at_us = {self._database.now}"
            f" WHERE {MINE} AND mapping = ? AND key_hash = ? AND position <= ?",
            [(*rows[key], *self._owner, *key, rows[key][0]) for key in rows if key in known],
        )

    def unsettled(self, partitions: Collection[TopicPartition]) -> list[Delivery]:
        found = []
        for *said, position, topic, number, offset, request in self._database.rows(
            f"SELECT {_DELIVERY} FROM cdc_delivery WHERE {MINE} AND state = 'sent' ORDER BY id", self._owner
        ):
            place = TopicPartition(topic, number)
            if place in partitions:
                mapping, hold, key_hash, key, operation = said
                at = Position.unpack(position)
                found.append(Delivery(mapping, hold, key_hash, key, operation, at, place, offset, bytes(request)))
        return found

    def purge(self, keep_s: float, ledger_s: float) -> int:
        """All at once: there is nothing left to come back for."""
        now = int(self._database.rows(f"SELECT {self._database.now}")[0][0])
        parked = self._database.rows(f"SELECT min(parked_us) FROM cdc_parked WHERE {MINE}", self._owner)[0][0]
        old = min(now - int(keep_s * 1e6), now if parked is None else int(parked))
        deleted = f"DELETE FROM cdc_delivered WHERE {MINE} AND present = 0 AND at_us < ?"
        self._database.run(deleted, (*self._owner, old))
        settled = f"DELETE FROM cdc_delivery WHERE {MINE} AND state <> 'sent' AND settled_us < ?"
        self._database.run(settled, (*self._owner, now - int(ledger_s * 1e6)))
        return 0

    # -- for people

    def recorded(self, *, state: str | None, key_hash: str | None, since_s: float | None, limit: int) -> list[Recorded]:
        if not self._database.has_table("cdc_delivery"):
            return []
        conditions, values = MINE, list[object](self._owner)
        if state is not None:
            conditions, values = f"{conditions} AND state = ?", [*values, state]
        if key_hash is not None:
            conditions, values = f"{conditions} AND key_hash LIKE ?", [*values, f"{key_hash}%"]
        if since_s is not None:
            conditions += f" AND sent_us >= {self._database.now} - ?"
            values.append(int(since_s * 1e6))
        rows = self._database.rows(
            f"SELECT {_SHOWN} FROM cdc_delivery WHERE {conditions} ORDER BY id DESC LIMIT ?", (*values, limit)
        )
        return [_recorded(row) for row in rows]

    def one(self, key: str) -> Recorded | None:
        if not self._database.has_table("cdc_delivery"):
            return None
        query = f"SELECT {_SHOWN} FROM cdc_delivery WHERE {MINE} AND idempotency_key = ?"
        rows = self._database.rows(query, (*self._owner, key))
        return _recorded(rows[0]) if rows else None


def _said(delivery: Delivery) -> Row:
    present = 1 if delivery.present else 0
    return (delivery.position.pack(), delivery.idempotency_key, present, *delivery.partition, delivery.offset)


def _recorded(row: Row) -> Recorded:
    number, mapping, key_hash, key, operation, topic, partition, offset, state, attempts, status, answer, *times = row
    where = f"{topic}:{partition}:{offset}"
    first, sent, settled = (None if us is None else _EPOCH + timedelta(microseconds=us) for us in times)
    assert first is not None
    assert sent is not None
    return Recorded(
        number, mapping, key_hash, key, operation, where, state, attempts, status, answer, first, sent, settled
    )
