"""Deliveries on their way, in the order of steps of delivery.py: on record, sent, answered; and after a crash again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from cdc.entries import RestSettings
from cdc.errors import CdcError, Terminal
from cdc.model import TopicPartition
from cdc.target.base import Advance, Owner, Target
from cdc.target.delivery import Answered, Delivery, Ledger
from cdc.target.rest_client import Failpoint, RestClient

NOWHERE = TopicPartition("", 0)
"""The partition of what no record made: a sweep's deletes."""
_ROWS_A_PLACE, _PACED_S = 25, 60.0
"""Most rows of a batch for each request that may be under way, and seconds that a batch may take by the rate: Kafka
wants to hear of a worker every five minutes."""


def most_rows(settings: RestSettings) -> int:
    """Most rows of a batch."""
    rows = settings.concurrency * _ROWS_A_PLACE
    return rows if settings.rate is None else max(1, min(rows, int(settings.rate * _PACED_S)))


class StateStore(Target, Protocol):
    """The database target that keeps a REST target's state."""

    def ledger(self) -> Ledger:
        """On the open connection, for the owner it was opened for."""


class UnsentError(Exception):
    """Some deliveries got no answer: `why`. `answers` are those of the others."""

    def __init__(self, answers: list[Answered], why: CdcError) -> None:
        super().__init__(why.what)
        self.answers = answers
        self.why = why


class Deliverer:
    """Sends for one owner. `rows`: most rows at a time."""

    def __init__(self, settings: RestSettings, state: StateStore, failpoint: Failpoint) -> None:
        self.state = state
        self._settings = settings
        self._failpoint = failpoint
        self._client: RestClient | None = None
        self._recovered: set[tuple[TopicPartition, int]] = set()
        self.rows = most_rows(settings)

    def open(self, owner: Owner) -> None:
        self.owner = owner
        self.state.open(owner)
        self.ledger = self.state.ledger()
        self._recovered.clear()

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None
        self.state.close()

    def deliver(
        self, deliveries: Sequence[Delivery], moves: Sequence[Advance], settle: Callable[[], None]
    ) -> tuple[list[Answered], set[str]]:
        """Put deliveries on record, then send them. `settle` stores, in that first transaction, what came before.

        Returns the answers, and the keys of those that had been acknowledged already. Raises `Fenced` (and what else
        the state store has to say) before anything has left, `UnsentError` when some got no answer.
        """
        with self.state.begin() as transaction:
            settle()
            known = self.ledger.send(deliveries)
            transaction.advance([_as_it_is(move) for move in moves])
        self._failpoint("recorded")
        if self._client is None:
            self._client = RestClient(self._settings, self._failpoint)
        outcomes = self._client.send([each for each in deliveries if each.idempotency_key not in known])
        self._failpoint("answered")
        answers = [outcome for _, outcome in outcomes if isinstance(outcome, Answered)]
        errors = [outcome for _, outcome in outcomes if isinstance(outcome, CdcError)]
        if errors:
            raise UnsentError(answers, next((each for each in errors if isinstance(each, Terminal)), errors[0]))
        return answers, known

    def recover(self, moves: Sequence[Advance]) -> None:
        """Settle what an earlier owner (or attempt) sent and never heard of, before anything newer leaves."""
        new = {(move.partition, move.fence) for move in moves} - self._recovered
        if not new:
            return
        left = self.ledger.unsettled([*(partition for partition, _ in new), NOWHERE])
        while left:
            some, left = left[: self.rows], left[self.rows :]
            try:
                answers, _ = self.deliver(some, moves, lambda: None)
            except UnsentError as error:
                self._keep(error.answers)
                raise error.why from error
            self._keep(answers)
        self._recovered |= new

    def _keep(self, answers: Sequence[Answered]) -> None:
        with self.state.begin():
            self.ledger.settle(answers)


def _as_it_is(move: Advance) -> Advance:
    """The compare of an advance without its step."""
    return Advance(move.partition, move.fence, move.expected, move.expected)
