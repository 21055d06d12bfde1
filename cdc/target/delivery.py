"""What is on record about deliveries to a target without transactions, and the contract of the ledger that keeps it.

The order that makes a crash harmless (rest.py keeps it):

1. one transaction of the state store: are the fences still ours? then the delivery is on record as `sent`, with the
   very bytes that will leave;
2. the request leaves, under an idempotency key that every repetition of this change has again;
3. one transaction: `acknowledged` (or `refused`), what the key was given last (the guard), the watermarks.

What a killed worker left as `sent` leaves again, byte for byte and under the same key, before anything newer of its
partition does.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Literal, Protocol

import msgspec

from cdc.model import Position, TopicPartition

State = Literal["sent", "acknowledged", "refused"]
FLOOR = ""
"""The key hash under which a mapping's floor stands among its keys."""
BEGINNING = Position(0, 0, 0, 0)
EXCERPT = 300
"""Most characters of an answer that are kept."""


class Last(msgspec.Struct, frozen=True):
    """What a key was given last: the guard's memory. Not `present`: it was deleted. No values are kept."""

    position: Position
    idempotency_key: str
    present: bool
    place: tuple[TopicPartition, int] | None = None


class Delivery(msgspec.Struct, frozen=True):
    """One change on its way to one row of the target. `hold`: the row's key as text; `request`: what leaves."""

    mapping: str
    hold: str
    key_hash: str
    idempotency_key: str
    operation: str
    position: Position
    partition: TopicPartition
    offset: int
    request: bytes

    @property
    def present(self) -> bool:
        """Whether the target has the row afterwards."""
        return self.operation != "delete"


class Answered(msgspec.Struct, frozen=True):
    """What came of a delivery. `attempts`: how often its request left this time."""

    delivery: Delivery
    state: Literal["acknowledged", "refused"]
    status: int
    excerpt: str
    attempts: int = 1


class Recorded(msgspec.Struct, frozen=True):
    """A delivery as people see it: without values."""

    id: int
    mapping: str
    key_hash: str
    idempotency_key: str
    operation: str
    where: str
    state: State
    attempts: int
    status: int | None
    excerpt: str
    first_sent_at: datetime
    sent_at: datetime
    settled_at: datetime | None


class Ledger(Protocol):
    """The ledger of one owner. Changes belong to the transaction that is open on the state store's connection.

    Raises `Transient` when another worker has a delivery of the same key under way.
    """

    def last(self, mapping: str, key_hashes: Sequence[str]) -> dict[str, Last]:
        """What these keys were given last."""

    def floor(self, mapping: str) -> Position:
        """Position of the newest truncate: older changes are stale."""

    def raise_floor(self, mapping: str, position: Position) -> None: ...

    def present(self, mapping: str, before: Position, after: str, limit: int) -> list[str]:
        """Holds of the rows that the target has and that were given to it before `before`: the first `limit` whose key
        hash is greater than `after`, in the order of key hashes."""

    def send(self, deliveries: Sequence[Delivery]) -> set[str]:
        """Put on record what leaves now; the idempotency keys of those that were acknowledged already: not to send."""

    def settle(self, answered: Sequence[Answered]) -> None:
        """Record answers; what was acknowledged is what its key was given last, unless that is newer."""

    def remember(self, deliveries: Sequence[Delivery]) -> None:
        """These keys were given this last, unless something newer was: the guard moves. Of one key the last counts."""

    def unsettled(self, partitions: Collection[TopicPartition]) -> list[Delivery]:
        """What was sent and never answered, of these partitions, oldest first."""

    def purge(self, keep_s: float, ledger_s: float) -> int:
        """Forget deleted keys older than `keep_s` and settled deliveries older than `ledger_s`; how many went."""


class LedgerReader(Protocol):
    """The ledger of one owner for people."""

    def recorded(self, *, state: str | None, key_hash: str | None, since_s: float | None, limit: int) -> list[Recorded]:
        """The newest deliveries first. `key_hash`: its beginning; `since_s`: sent in the last so many seconds."""

    def one(self, key: str) -> Recorded | None:
        """The delivery with this idempotency key."""
