"""PostgreSQL as a target: COPY into a staging table, a few guarded statements a round, state in schema `cdc`.

Measured shape (see postgres_statements.py for the SQL): one round of full images is COPY + one INSERT … ON CONFLICT;
partial images, deletes and key changes add one statement each, only when a round holds any. While a table that was
empty is loaded, a round is one COPY into the table itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from cdc.blocks import Writes
from cdc.decisions import Conflicts
from cdc.errors import Fenced, Transient
from cdc.model import (
    APPLIED,
    NO_RECORD,
    STALE,
    Decision,
    MappedRow,
    Position,
    RowOp,
    TargetTable,
    TopicPartition,
    Value,
    Write,
)
from cdc.target import postgres_conflicts
from cdc.target.base import (
    Advance,
    Capabilities,
    Epoch,
    Owner,
    Parked,
    Related,
    RepeatedSnapshot,
    Standing,
    SweepReport,
    Tally,
    Watermark,
    WorkerReport,
)
from cdc.target.postgres_contributions import PostgresContributions
from cdc.target.postgres_encode import Encoded, Encoder
from cdc.target.postgres_errors import translated
from cdc.target.postgres_found import find
from cdc.target.postgres_history import HistoryComposer, HistoryRound, sweep_history, truncate_history
from cdc.target.postgres_ledger import PostgresLedger
from cdc.target.postgres_order import find_links, no_links
from cdc.target.postgres_parked import ParkedStore
from cdc.target.postgres_pooler import refuse_shared_sessions
from cdc.target.postgres_purge import purge
from cdc.target.postgres_round import TRUNCATE_LOCK, PreparedTable, Round
from cdc.target.postgres_ruled_round import RuledRound
from cdc.target.postgres_ruled_statements import check_ordered, compose_ruled
from cdc.target.postgres_session import END_STUCK_COPIES, SESSION
from cdc.target.postgres_state import migrate
from cdc.target.postgres_statements import Composer
from cdc.target.postgres_tables import exists, is_empty, prepare_table, unique_indexes
from cdc.target.postgres_versions import versions
from cdc.target.versions import Deployed

_TRUNCATED_FROM = 1000
"""Rows that were staged since: fewer are deleted, because a TRUNCATE writes to the catalog, more are truncated, because
deleted rows are read over."""


class PostgresTarget:
    """A `Target`. `connect` opens a connection in autocommit mode (see `cdc.db.postgres`). `session`: server parameters
    that differ from ours; a wrong one is `Terminal` when the target is opened."""

    capabilities = Capabilities(
        transactions=True,
        creates_tables=True,
        upsert="COPY into a temporary table, then INSERT … ON CONFLICT … WHERE",
        limits=("NUL in texts", "what a narrower column would round or cut"),
        rules=True,
        contributions=True,
        history=True,
    )

    def __init__(
        self, connect: Callable[[], psycopg.Connection[Any]], session: Mapping[str, str] | None = None
    ) -> None:
        self._connect = connect
        self._session = {**SESSION, **(session or {})}
        self._connection: psycopg.Connection[Any] | None = None
        self._tables: dict[TargetTable, PreparedTable] = {}
        self._stages = 0
        self._encoder = Encoder()

    def open(self, owner: Owner) -> None:
        self.owner = owner
        with translated():
            self._connection = self._connect()
            refuse_shared_sessions(self._connection, self._connect)
            self.connection.execute(
                sql.SQL("SELECT set_config(name, value, false) FROM unnest(%s::text[], %s::text[]) AS s(name, value)"),
                (list(self._session), list(self._session.values())),
            )
            self.connection.execute(END_STUCK_COPIES)
            migrate(self.connection)
        self.parked_store = ParkedStore(self.connection, owner)
        self.shapes = PostgresContributions(self.connection, owner)
        self._tables.clear()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    @property
    def connection(self) -> psycopg.Connection[Any]:
        if self._connection is None:
            raise Transient("the target was not connected yet")
        return self._connection

    def prepare(self, table: TargetTable) -> None:
        if table in self._tables:
            return
        with translated():
            table_id = prepare_table(self.connection, table)
            if not table.key:
                nothing = Composer(table, table_id, "", {})
                self._tables[table] = PreparedTable(
                    table, (), table_id, "", nothing.all(), no_links(table, nothing), loading=False
                )
                return
            found = find(self.connection, table)
            if found is None:
                raise Transient(f"table {table.namespace}.{table.name} went away")
            self._stages += 1
            stage = f"stage_{table_id}_{self._stages}"
            composer, ruled, history = Composer(table, table_id, stage, found.domains), None, None
            if table.history is not None:
                composer = HistoryComposer(table, table_id, stage, found.domains)
                history = composer.history()
            statements = composer.all()
            if table.rules is not None:
                check_ordered(table, found)
                unique = unique_indexes(self.connection, table)
                ruled = compose_ruled(table, table_id, stage, found.domains, unique)
            # Here and not at the first write: a transaction that rolls back would take them along.
            self.connection.execute(statements.create_stage if ruled is None else ruled.create_stage)
            if table.partials:
                self.connection.execute(statements.create_moves)
            links = find_links(self.connection, table, found, composer)
            loading = not links.checked_later and history is None and is_empty(self.connection, table)
        columns = found.typed(table.columns)
        self._tables[table] = PreparedTable(table, columns, table_id, stage, statements, links, loading, ruled, history)

    def related(self, table: TargetTable) -> Related:
        return self.prepared(table).links.related

    def encode(self, table: TargetTable, writes: Writes) -> Encoded | None:
        prepared = self._tables.get(table)  # None until the writer met the table: nobody knows its types yet
        if prepared is None:
            return None
        rules = table.rules
        if rules is not None and prepared.loading and writes.upserts == len(writes) and all(writes.created()):
            rules = None  # as lines of the table itself
        return self._encoder.encode(prepared.columns, prepared.key_indexes, writes, rules)

    def forget(self) -> None:
        """Staging tables have their columns' types from the target as it was: a column made wider since would go on
        refusing."""
        with translated():
            for prepared in self._tables.values():
                if prepared.stage:
                    self.connection.execute(prepared.statements.drop)
        self._tables.clear()

    def prepared(self, table: TargetTable) -> PreparedTable:
        """What `prepare` made; a table must be prepared before a transaction writes to it."""
        return self._tables[table]

    def register(self, topic_ids: Mapping[TopicPartition, str]) -> None:
        with translated():
            self.connection.execute(
                "INSERT INTO cdc.watermark (pipeline, target, topic, partition, topic_id, fence)"
                " SELECT %s, %s, topic, partition, topic_id, 0"
                " FROM unnest(%s::text[], %s::integer[], %s::text[]) AS t(topic, partition, topic_id)"
                " ORDER BY topic, partition ON CONFLICT DO NOTHING",
                (
                    *self._owner,
                    [partition.topic for partition in topic_ids],
                    [partition.partition for partition in topic_ids],
                    list(topic_ids.values()),
                ),
            )

    def take(self, topic_ids: Mapping[TopicPartition, str]) -> list[Watermark]:
        with translated():
            self.connection.execute(END_STUCK_COPIES)
            rows = self.connection.execute(
                "INSERT INTO cdc.watermark AS w (pipeline, target, topic, partition, topic_id, fence)"
                " SELECT %s, %s, topic, partition, topic_id, 1"
                " FROM unnest(%s::text[], %s::integer[], %s::text[]) AS t(topic, partition, topic_id)"
                " ORDER BY topic, partition"
                " ON CONFLICT (pipeline, target, topic, partition) DO UPDATE SET fence = w.fence + 1,"
                " topic_id = CASE WHEN w.next IS NULL THEN excluded.topic_id ELSE w.topic_id END"
                " RETURNING topic, partition, topic_id, next, fence, tracker",
                (
                    *self._owner,
                    [partition.topic for partition in topic_ids],
                    [partition.partition for partition in topic_ids],
                    list(topic_ids.values()),
                ),
            ).fetchall()
        return [_watermark(row) for row in rows]

    def watermarks(self) -> list[Watermark]:
        with translated():
            rows = self.connection.execute(
                "SELECT topic, partition, topic_id, next, fence, tracker FROM cdc.watermark"
                " WHERE pipeline = %s AND target = %s ORDER BY topic, partition",
                self._owner,
            ).fetchall()
        return [_watermark(row) for row in rows]

    @contextmanager
    def begin(self, moves: Sequence[Advance] = ()) -> Iterator[PostgresTransaction]:
        with translated(), self.connection.transaction():
            transaction = PostgresTransaction(self)
            yield transaction
            transaction.leave_stages_empty()

    def epochs(self) -> list[Epoch]:
        with translated():
            rows = self.connection.execute(
                "SELECT DISTINCT ON (source) source, epoch, identity FROM cdc.source_epoch"
                " WHERE pipeline = %s AND target = %s ORDER BY source, epoch DESC",
                self._owner,
            ).fetchall()
        return [Epoch(*row) for row in rows]

    def begin_epoch(self, epoch: Epoch) -> None:
        with translated():
            self.connection.execute(
                "INSERT INTO cdc.source_epoch (pipeline, target, source, epoch, identity) VALUES (%s, %s, %s, %s, %s)"
                " ON CONFLICT DO NOTHING",
                (*self._owner, epoch.source, epoch.number, epoch.identity),
            )

    def report(self, report: WorkerReport) -> None:
        with translated():
            self.connection.execute(
                "INSERT INTO cdc.worker VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, now())"
                " ON CONFLICT (pipeline, target, worker) DO UPDATE SET state = excluded.state, error = excluded.error,"
                " rows_per_second = excluded.rows_per_second, latency_ms = excluded.latency_ms,"
                " stages = excluded.stages, partitions = excluded.partitions, reported_at = now()",
                (
                    *self._owner,
                    report.worker,
                    report.state,
                    report.error,
                    report.rows_per_second,
                    Jsonb(report.latency_ms),
                    Jsonb(report.stages),
                    report.partitions,
                ),
            )

    def standing(self) -> Standing:
        with translated():
            return self.parked_store.standing()

    def parked(self, partitions: Sequence[TopicPartition]) -> dict[tuple[str, str], str]:
        with translated():
            return self.parked_store.held(partitions)

    def queue(self, mapping: str, holds: Sequence[str]) -> list[Parked]:
        with translated():
            return self.parked_store.queue(mapping, holds)

    def retries(self, partitions: Sequence[TopicPartition]) -> list[tuple[str, str]]:
        with translated():
            return self.parked_store.retries(partitions)

    def park_requests(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, dict[int, str]]:
        with translated():
            return self.parked_store.requests(partitions)

    def deployed(self) -> Deployed | None:
        with translated():
            return next(iter(versions(self.connection, self.owner, 1)), None)

    def purge(self, keep_s: float) -> int:
        with translated():
            return purge(self.connection, self.owner, [prepared.id for prepared in self._tables.values()], keep_s)

    def purge_conflicts(self, keep_s: float) -> int:
        with translated():
            return postgres_conflicts.purge(self.connection, self.owner, keep_s)

    def ledger(self) -> PostgresLedger:
        """For a target without transactions whose state is kept here; on the open connection."""
        return PostgresLedger(self.connection, self.owner)

    @property
    def _owner(self) -> tuple[str, str]:
        return (self.owner.pipeline, self.owner.target)


class PostgresTransaction:
    def __init__(self, target: PostgresTarget) -> None:
        self.target = target
        self.contributions = target.shapes
        self.connection = target.connection
        self._used: dict[str, PreparedTable] = {}  # by their staging tables
        self._deferring = False

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        with translated(), self.connection.transaction():
            yield

    @contextmanager
    def deferred(self) -> Iterator[None]:
        self._deferring = True
        try:
            with translated():
                self.execute(sql.SQL("SET CONSTRAINTS ALL DEFERRED"))
            yield
        finally:
            self._deferring = False

    def write(self, table: TargetTable, writes: Sequence[Write]) -> dict[int, Decision]:
        prepared = self.target.prepared(table)
        with translated():
            self.stage(prepared, len(writes))
            kind = HistoryRound if prepared.history else Round if prepared.ruled is None else RuledRound
            return kind(self.connection, prepared, writes, self._deferring).run()

    def stale(self, table: TargetTable, writes: Sequence[Write]) -> set[int]:
        prepared = self.target.prepared(table)
        with translated():
            self._stage_keys(prepared, [(write.row.key, write.row.position) for write in writes])
            return {number for (number,) in self.execute(prepared.statements.stale).fetchall()}

    def truncate(self, table: TargetTable, position: Position, time_us: int | None = None) -> Decision:
        prepared = self.target.prepared(table)
        with translated():
            self.execute(sql.SQL("SELECT pg_advisory_xact_lock(%s, %s)"), (TRUNCATE_LOCK, prepared.id))
            if table.history is not None:
                truncate_history(self.connection, table, prepared.id, position, time_us)
                return APPLIED
            raised = self.execute(
                sql.SQL("UPDATE cdc.target_table SET floor = %s WHERE id = %s AND floor <= %s"),
                (position.pack(), prepared.id, position.pack()),
            )
            if raised.rowcount == 0:
                return STALE
            if exists(self.connection, table):  # else only the floor: rows from before it may still be on their way
                self.execute(prepared.statements.truncate, {"position": position.pack()})
        return APPLIED

    def sweep(self, table: TargetTable, position: Position, keep: Iterable[tuple[Value, ...]]) -> SweepReport:
        prepared = self.target.prepared(table)
        with translated():
            self.execute(sql.SQL("SELECT pg_advisory_xact_lock(%s, %s)"), (TRUNCATE_LOCK, prepared.id))
            self._stage_keys(prepared, [(key, position) for key in keep])
            if prepared.history is not None:
                swept, examples = sweep_history(self.connection, prepared.history, position)
                return SweepReport(swept, tuple(", ".join(map(str, row)) for row in examples))
            parameters = {"position": position.pack()}
            examples = self.execute(prepared.statements.sweep_examples, parameters).fetchall()
            self.execute(prepared.statements.sweep_bury, parameters)
            swept = self.execute(prepared.statements.sweep, parameters).rowcount
        return SweepReport(swept, tuple(", ".join(map(str, row)) for row in examples))

    def _stage_keys(self, prepared: PreparedTable, keys: Iterable[tuple[tuple[Value, ...], Position]]) -> None:
        """Keys and positions in the staging table, as deletes that nobody executes."""
        rows = [MappedRow(RowOp.DELETE, key, None, position, NO_RECORD) for key, position in keys]
        self.stage(prepared, len(rows))
        Round(self.connection, prepared, [Write(row, row.position) for row in rows]).copy()

    def park(self, records: Sequence[Parked]) -> None:
        with translated():
            self.target.parked_store.add(records)

    def unpark(self, ids: Sequence[int]) -> None:
        with translated():
            self.target.parked_store.remove(ids)

    def repark(self, records: Sequence[Parked]) -> None:
        with translated():
            self.target.parked_store.rename(records)

    def retried(self, ids: Sequence[int]) -> None:
        with translated():
            self.target.parked_store.retried(ids)

    def count(self, tallies: Sequence[Tally]) -> None:
        if not tallies:
            return
        with translated():
            self.execute(
                sql.SQL(
                    "INSERT INTO cdc.tally AS t (pipeline, target, mapping, topic, partition, outcome, reason, number)"
                    " SELECT %s, %s, * FROM unnest(%s::text[], %s::text[], %s::integer[], %s::text[], %s::text[],"
                    " %s::bigint[]) ORDER BY 3, 4, 5, 6, 7"
                    " ON CONFLICT (pipeline, target, mapping, topic, partition, outcome, reason)"
                    " DO UPDATE SET number = t.number + excluded.number"
                ),
                (
                    self.target.owner.pipeline,
                    self.target.owner.target,
                    [tally.mapping for tally in tallies],
                    [tally.partition.topic for tally in tallies],
                    [tally.partition.partition for tally in tallies],
                    [tally.outcome for tally in tallies],
                    [tally.reason for tally in tallies],
                    [tally.number for tally in tallies],
                ),
            )

    def note(self, conflicts: Conflicts) -> None:
        with translated():
            postgres_conflicts.note(self.connection, self.target.owner, conflicts)

    def repeated_snapshot(self, found: RepeatedSnapshot) -> None:
        owner = self.target.owner
        with translated():
            self.execute(
                sql.SQL(
                    "INSERT INTO cdc.repeated_snapshot AS r (pipeline, target, mapping, topic, position, swept_at)"
                    " VALUES (%s, %s, %s, %s, %s, CASE WHEN %s THEN now() END)"
                    " ON CONFLICT (pipeline, target, mapping, position)"
                    " DO UPDATE SET swept_at = coalesce(excluded.swept_at, r.swept_at)"
                ),
                (owner.pipeline, owner.target, found.mapping, found.topic, found.position.pack(), found.swept),
            )

    def advance(self, moves: Sequence[Advance]) -> None:
        with translated():
            moved = self.execute(
                sql.SQL(
                    "UPDATE cdc.watermark w SET next = v.next, tracker = coalesce(v.tracker, w.tracker),"
                    " time_us = coalesce(v.time_us, w.time_us), updated_at = now()"
                    " FROM unnest(%s::text[], %s::integer[], %s::bigint[], %s::bigint[], %s::bigint[], %s::text[],"
                    " %s::bigint[]) AS v(topic, partition, fence, expected, next, tracker, time_us)"
                    " WHERE w.pipeline = %s AND w.target = %s AND w.topic = v.topic AND w.partition = v.partition"
                    " AND w.fence = v.fence AND w.next IS NOT DISTINCT FROM v.expected"
                ),
                (
                    [move.partition.topic for move in moves],
                    [move.partition.partition for move in moves],
                    [move.fence for move in moves],
                    [move.expected for move in moves],
                    [move.next for move in moves],
                    [move.tracker for move in moves],
                    [move.time_us for move in moves],
                    self.target.owner.pipeline,
                    self.target.owner.target,
                ),
            )
        if moved.rowcount != len(moves):
            raise Fenced(
                f"{len(moves) - moved.rowcount} of {len(moves)} partitions were taken or moved by somebody else",
                where=", ".join(f"{move.partition.topic}:{move.partition.partition}" for move in moves[:3]),
            )

    def execute(self, query: sql.SQL | sql.Composed, parameters: Any = None) -> psycopg.Cursor[Any]:
        cursor: psycopg.Cursor[Any] = self.connection.execute(query, parameters)
        return cursor

    def stage(self, prepared: PreparedTable, rows: int) -> None:
        """An empty staging table for the next round."""
        if prepared.stage in self._used:
            self.execute(prepared.statements.clear)
        self._used[prepared.stage] = prepared
        prepared.staged += rows

    def leave_stages_empty(self) -> None:
        """Before the commit; a rollback leaves them as empty as they were. (`ON COMMIT DELETE ROWS` would have the
        server empty all of the session's at every commit: with 200 tables that took longer than the rows.)"""
        statements = []
        for prepared in self._used.values():
            emptied = prepared.staged >= _TRUNCATED_FROM
            statements.append(prepared.statements.clear if emptied else prepared.statements.empty)
            prepared.staged *= not emptied
        if statements:
            self.execute(sql.SQL("; ").join(statements))


def _watermark(row: tuple[Any, ...]) -> Watermark:
    topic, partition, topic_id, position, fence, tracker = row
    return Watermark(TopicPartition(topic, partition), topic_id, position, fence, tracker)
