"""A REST API as a target: at least once, and every repetition of a change under the idempotency key of its first time.

It has no transactions, so everything that must agree with it is kept in a state store beside it (`StateStore`: a
database target): watermarks, parked records, counts, the delivery ledger and the guard. The order of steps is told in
delivery.py. What follows from it:

* killed anywhere: a delivery on record without an answer leaves again, byte for byte under its key, before anything
  newer of its partition; one that is not on record has never left.
* a worker that lost its fence puts nothing on record any more, and what is not on record does not leave. What it had on
  record and sends late (frozen between the two) the new owner has sent as well, under the same key: an API that
  remembers keys for as long as a worker may be frozen applies it once.
* no values are kept but those under way. So it cannot lend a row's values to its next key, and a change that brings
  only some columns needs a `patch` request; without one it is parked (`partial_image`) until a whole row comes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from cdc.blocks import Writes
from cdc.entries import RestSettings
from cdc.model import TargetTable, TopicPartition
from cdc.target.base import Advance, Capabilities, Epoch, Owner, Parked, Related, Standing, Watermark, WorkerReport
from cdc.target.rest_delivery import Deliverer, StateStore, most_rows
from cdc.target.rest_requests import Requests
from cdc.target.rest_tables import Tables
from cdc.target.rest_transaction import RestTransaction
from cdc.target.versions import Deployed


def capabilities(settings: RestSettings) -> Capabilities:
    """What a REST target can do."""
    return Capabilities(
        transactions=False,
        creates_tables=False,
        guard="engine",
        upsert="a request for each row, or one for a batch",
        limits=("NaN and infinities", "NULL in a URL", "a part of a row, where no request takes parts"),
        max_rows=most_rows(settings),
    )


class RestTarget:
    """A `Target`. `requests`: those of every mapping that goes here, by its id. It connects when something leaves."""

    def __init__(
        self,
        settings: RestSettings,
        state: StateStore,
        requests: Mapping[str, Requests],
        failpoint: Callable[[str], None] = lambda point: None,
    ) -> None:
        self._settings = settings
        self._deliverer = Deliverer(settings, state, failpoint)
        self._tables = Tables(requests)
        self.capabilities = capabilities(settings)

    def open(self, owner: Owner) -> None:
        self._deliverer.open(owner)
        self._tables.reopened()

    def close(self) -> None:
        self._deliverer.close()

    def prepare(self, table: TargetTable) -> None:
        self._tables.prepare(table)

    def related(self, table: TargetTable) -> Related:
        """What its rows refer to is the other side's to know."""
        return Related(f"{table.namespace}.{table.name}")

    def encode(self, table: TargetTable, writes: Writes) -> None:
        """Requests are made when their turn comes."""

    def forget(self) -> None:
        """Nothing is known of the tables at the other side."""

    @contextmanager
    def begin(self, moves: Sequence[Advance] = ()) -> Iterator[RestTransaction]:
        self._deliverer.recover(moves)
        transaction = RestTransaction(self._deliverer, self._tables, moves)
        try:
            with transaction.stored:
                yield transaction
                transaction.finish()
        except BaseException:
            transaction.keep_answers()
            raise

    # -- kept by the state store

    def register(self, topic_ids: Mapping[TopicPartition, str]) -> None:
        self._deliverer.state.register(topic_ids)

    def take(self, topic_ids: Mapping[TopicPartition, str]) -> list[Watermark]:
        return self._deliverer.state.take(topic_ids)

    def watermarks(self) -> list[Watermark]:
        return self._deliverer.state.watermarks()

    def epochs(self) -> list[Epoch]:
        return self._deliverer.state.epochs()

    def begin_epoch(self, epoch: Epoch) -> None:
        self._deliverer.state.begin_epoch(epoch)

    def report(self, report: WorkerReport) -> None:
        self._deliverer.state.report(report)

    def standing(self) -> Standing:
        return self._deliverer.state.standing()

    def parked(self, partitions: Sequence[TopicPartition]) -> dict[tuple[str, str], str]:
        return self._deliverer.state.parked(partitions)

    def queue(self, mapping: str, holds: Sequence[str]) -> list[Parked]:
        return self._deliverer.state.queue(mapping, holds)

    def retries(self, partitions: Sequence[TopicPartition]) -> list[tuple[str, str]]:
        return self._deliverer.state.retries(partitions)

    def purge_conflicts(self, keep_s: float) -> int:
        return self._deliverer.state.purge_conflicts(keep_s)

    def park_requests(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, dict[int, str]]:
        return self._deliverer.state.park_requests(partitions)

    def deployed(self) -> Deployed | None:
        return self._deliverer.state.deployed()

    def purge(self, keep_s: float) -> int:
        ledger_s = self._settings.ledger_days * 86_400.0
        return self._deliverer.state.purge(keep_s) + self._deliverer.ledger.purge(keep_s, ledger_s)
