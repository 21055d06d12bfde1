"""The part of a target that is the same for all databases of sqlstate.py: everything but the tables' own rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager

import msgspec

from cdc.blocks import Writes
from cdc.decisions import Conflicts
from cdc.errors import Fenced, Transient
from cdc.model import Decision, Position, TargetTable, TopicPartition, Value, Write
from cdc.target import sqlstate_conflicts
from cdc.target.base import (
    Advance,
    Capabilities,
    Epoch,
    Owner,
    Parked,
    RepeatedSnapshot,
    Standing,
    SweepReport,
    Tally,
    Transaction,
    Watermark,
    WorkerReport,
)
from cdc.target.sqlround import PreparedTable
from cdc.target.sqlstate import Database, Row, marks, migrate
from cdc.target.sqlstate_contributions import SqlContributions
from cdc.target.sqlstate_ledger import SqlLedger
from cdc.target.sqlstate_parked import MINE, ParkedStore
from cdc.target.sqlstate_versions import versions
from cdc.target.versions import Deployed

Connect = Callable[[bool], Database]
"""Opens a connection; True: makes the database when it is not there."""

PURGE_PORTION = 10_000
"""Most rows of a table that go in one statement: a purge never holds locks for long."""

_WATERMARK = "topic, partition_number, topic_id, next_offset, fence, tracker"
_WATERMARK_KEY = ("pipeline", "target", "topic", "partition_number")


class SqlTarget:
    """Base of a `Target` with its state in `database`. A subclass brings `capabilities`, `prepare`, `forget`,
    `prepared_tables`, and a `transaction` that writes rows."""

    capabilities: Capabilities

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._database: Database | None = None

    def open(self, owner: Owner) -> None:
        self.owner = owner
        self._database = self._connect(True)
        migrate(self._database)
        self.parked_store = ParkedStore(self._database, owner)
        self.shapes = SqlContributions(self._database, owner)

    def close(self) -> None:
        if self._database is not None:
            self._database.close()

    def ledger(self) -> SqlLedger:
        """For a target without transactions whose state is kept here; on the open connection."""
        return SqlLedger(self.database, self.owner)

    @property
    def database(self) -> Database:
        if self._database is None:
            raise Transient("the target was not connected yet")
        return self._database

    def prepare(self, table: TargetTable) -> None:
        raise NotImplementedError

    def encode(self, table: TargetTable, writes: Writes) -> object:
        """Nothing: what a round stages is made row by row, while the driver takes it in."""
        return None

    def forget(self) -> None:
        raise NotImplementedError

    def prepared_tables(self) -> list[PreparedTable]:
        """The tables that were prepared and have columns."""
        raise NotImplementedError

    def transaction(self) -> Transaction:
        """What `begin` gives out, inside the database's open transaction."""
        raise NotImplementedError

    def register(self, topic_ids: Mapping[TopicPartition, str]) -> None:
        with self.database.transaction():
            self._register(topic_ids)

    def _register(self, topic_ids: Mapping[TopicPartition, str]) -> None:
        self.database.run_many(
            "INSERT INTO cdc_watermark (pipeline, target, topic, partition_number, topic_id, fence, tracker,"
            f" updated_us) VALUES ({marks(5)}, 0, '', {self.database.now})" + self.database.on_conflict(_WATERMARK_KEY),
            [(*self.mine, *partition, topic_id) for partition, topic_id in sorted(topic_ids.items())],
        )

    def take(self, topic_ids: Mapping[TopicPartition, str]) -> list[Watermark]:
        with self.database.transaction():
            self._register(topic_ids)
            self.database.run_many(
                "UPDATE cdc_watermark SET fence = fence + 1,"
                " topic_id = CASE WHEN next_offset IS NULL THEN ? ELSE topic_id END"
                f" WHERE {MINE} AND topic = ? AND partition_number = ?",
                [(topic_id, *self.mine, *partition) for partition, topic_id in sorted(topic_ids.items())],
            )
            return [mark for mark in self.watermarks() if mark.partition in topic_ids]

    def watermarks(self) -> list[Watermark]:
        rows = self.database.rows(
            f"SELECT {_WATERMARK} FROM cdc_watermark WHERE {MINE} ORDER BY topic, partition_number", self.mine
        )
        return [_watermark(row) for row in rows]

    @contextmanager
    def begin(self, moves: Sequence[Advance] = ()) -> Iterator[Transaction]:
        with self.database.transaction():
            yield self.transaction()

    def epochs(self) -> list[Epoch]:
        return stored_epochs(self.database, self.mine)

    def begin_epoch(self, epoch: Epoch) -> None:
        add_epoch(self.database, self.mine, epoch)

    def report(self, report: WorkerReport) -> None:
        self.database.run(
            "INSERT INTO cdc_worker (pipeline, target, worker, report, reported_us)"
            f" VALUES ({marks(4)}, {self.database.now})"
            + self.database.on_conflict(("pipeline", "target", "worker"), {"report": "{new}", "reported_us": "{new}"}),
            (*self.mine, report.worker, msgspec.json.encode(report).decode()),
        )

    def standing(self) -> Standing:
        return self.parked_store.standing()

    def parked(self, partitions: Sequence[TopicPartition]) -> dict[tuple[str, str], str]:
        return self.parked_store.held(partitions)

    def queue(self, mapping: str, holds: Sequence[str]) -> list[Parked]:
        return self.parked_store.queue(mapping, holds)

    def retries(self, partitions: Sequence[TopicPartition]) -> list[tuple[str, str]]:
        return self.parked_store.retries(partitions)

    def park_requests(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, dict[int, str]]:
        return self.parked_store.requests(partitions)

    def deployed(self) -> Deployed | None:
        return next(iter(versions(self.database, self.mine, 1)), None)

    def purge(self, keep_s: float) -> int:
        database = self.database
        before = int(database.rows(f"SELECT {database.now}")[0][0]) - int(keep_s * 1_000_000)
        (oldest,) = database.rows(f"SELECT min(parked_us) FROM cdc_parked WHERE {MINE}", self.mine)[0]
        unneeded = before if oldest is None else min(before, oldest)
        gone = database.run(f"DELETE FROM cdc_worker WHERE {MINE} AND reported_us < ?", (*self.mine, before))
        for statement in sorted({each for prepared in self.prepared_tables() for each in prepared.statements.purge}):
            gone += database.run(statement, (unneeded,))
        return gone

    def purge_conflicts(self, keep_s: float) -> int:
        return sqlstate_conflicts.purge(self.database, self.mine, keep_s)

    @property
    def mine(self) -> tuple[str, str]:
        return (self.owner.pipeline, self.owner.target)


class SqlTransaction:
    """Base of a `Transaction` on the state tables. A subclass brings what writes rows."""

    def __init__(self, target: SqlTarget) -> None:
        self.owner = target.owner
        self.mine = target.mine
        self.database = target.database
        self.parked_store = target.parked_store
        self.contributions = target.shapes

    def deferred(self) -> AbstractContextManager[None]:
        raise NotImplementedError

    def write(self, table: TargetTable, writes: Sequence[Write]) -> dict[int, Decision]:
        raise NotImplementedError

    def stale(self, table: TargetTable, writes: Sequence[Write]) -> set[int]:
        raise NotImplementedError

    def truncate(self, table: TargetTable, position: Position, time_us: int | None = None) -> Decision:
        raise NotImplementedError

    def sweep(self, table: TargetTable, position: Position, keep: Iterable[tuple[Value, ...]]) -> SweepReport:
        raise NotImplementedError

    def savepoint(self) -> AbstractContextManager[None]:
        return self.database.savepoint()

    def park(self, records: Sequence[Parked]) -> None:
        self.parked_store.add(records)

    def unpark(self, ids: Sequence[int]) -> None:
        self.parked_store.remove(ids)

    def repark(self, records: Sequence[Parked]) -> None:
        self.parked_store.rename(records)

    def retried(self, ids: Sequence[int]) -> None:
        self.parked_store.retried(ids)

    def count(self, tallies: Sequence[Tally]) -> None:
        add_tallies(self.database, self.mine, tallies)

    def note(self, conflicts: Conflicts) -> None:
        sqlstate_conflicts.note(self.database, self.mine, conflicts)

    def repeated_snapshot(self, found: RepeatedSnapshot) -> None:
        self.database.run(
            "INSERT INTO cdc_repeated_snapshot (pipeline, target, mapping, topic, position, found_us, swept_us)"
            f" VALUES ({marks(5)}, {self.database.now}, {self.database.now if found.swept else 'NULL'})"
            + self.database.on_conflict(
                ("pipeline", "target", "mapping", "position"),
                {"swept_us": "coalesce({new}, cdc_repeated_snapshot.swept_us)"},
            ),
            (*self.mine, found.mapping, found.topic, found.position.pack()),
        )

    def advance(self, moves: Sequence[Advance]) -> None:
        if not moves:
            return
        moved = self.database.run_many(
            "UPDATE cdc_watermark SET next_offset = ?, tracker = coalesce(?, tracker), time_us = coalesce(?, time_us),"
            f" updated_us = {self.database.now} WHERE {MINE} AND topic = ? AND partition_number = ? AND fence = ?"
            " AND coalesce(next_offset, -1) = ?",
            [
                (
                    *(move.next, move.tracker, move.time_us, *self.mine, *move.partition, move.fence),
                    -1 if move.expected is None else move.expected,
                )
                for move in sorted(moves, key=lambda move: move.partition)
            ],
        )
        if moved != len(moves):
            raise Fenced(
                f"{len(moves) - moved} of {len(moves)} partitions were taken or moved by somebody else",
                where=", ".join(f"{move.partition.topic}:{move.partition.partition}" for move in moves[:3]),
            )


def add_tallies(database: Database, mine: tuple[str, str], tallies: Sequence[Tally]) -> None:
    """Add to the counts of an owner, in one order for everybody."""
    if not tallies:
        return
    key = ("pipeline", "target", "mapping", "topic", "partition_number", "outcome", "reason")
    database.run_many(
        f"INSERT INTO cdc_tally ({', '.join(key)}, number) VALUES ({marks(8)})"
        + database.on_conflict(key, {"number": "cdc_tally.number + {new}"}),
        sorted(
            (*mine, tally.mapping, *tally.partition, str(tally.outcome), tally.reason, tally.number)
            for tally in tallies
        ),
    )


def stored_epochs(database: Database, mine: tuple[str, str]) -> list[Epoch]:
    """The newest epoch of every source."""
    rows = database.rows(
        f"SELECT source, epoch, identity FROM cdc_source_epoch WHERE {MINE} ORDER BY source, epoch", mine
    )
    return list({source: Epoch(source, number, identity) for source, number, identity in rows}.values())


def add_epoch(database: Database, mine: tuple[str, str], epoch: Epoch) -> None:
    """Remember an epoch; one that is there stays as it is."""
    database.run(
        "INSERT INTO cdc_source_epoch (pipeline, target, source, epoch, identity, decided_us)"
        f" VALUES ({marks(5)}, {database.now})" + database.on_conflict(("pipeline", "target", "source", "epoch")),
        (*mine, epoch.source, epoch.number, epoch.identity),
    )


def tombstone_name(table_id: int) -> str:
    """The table that remembers the positions of a target table's deleted rows."""
    return f"cdc_tombstone_{table_id}"


def lent_name(table_id: int) -> str:
    """The table that keeps the last values of a target table's rows whose key changed, until they are taken."""
    return f"cdc_lent_{table_id}"


def _watermark(row: Row) -> Watermark:
    topic, partition, *rest = row
    return Watermark(TopicPartition(topic, partition), *rest)
