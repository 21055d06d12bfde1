"""The engine's state in SQL databases that a DB-API driver reaches (SQLite, MariaDB): tables `cdc_…`, versioned.

    sqlstate.py            the database as this code sees it, the tables and their migrations
    sqlstate_parked.py     the parked store
    sqlstate_target.py     what a `Target` keeps: watermarks, epochs, reports, counts; base of sqlite.py and mariadb.py
    sqlstate_operator.py   the operator's side of the same tables
    sqlstate_contributions.py   what several sources said about rows
    sqlstate_conflicts.py  what was decided in conflicts
    sqlstate_audit.py      the audit trail
    sqlstate_versions.py   deployed versions of the mappings
    sqlstate_ledger.py     the delivery ledger of targets without transactions
    sqlround.py            one round of writes over a target's own statements

The tables stand beside the target's own: SQLite commits across files one by one, and in MariaDB a second database
needs more privileges. Types are written once, in MariaDB's words, which SQLite takes for its own by their affinity.
Times are integers, microseconds since 1970 by the database's clock. Texts that may be longer than a key are found by
their digest.

Two adjacent releases may run side by side: a migration only adds (tables, columns with defaults), and a later release
removes what the one before it stopped using. Every statement may run again: not every database takes back a CREATE.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from hashlib import sha256
from typing import Any, Protocol, TypeAlias

from cdc.errors import Terminal

Row: TypeAlias = tuple[Any, ...]


class Database(Protocol):
    """One connection in autocommit mode, and the words of its SQL for what differs.

    Statements have `?` for each parameter and no other question mark. Everything raises `Transient`, `Terminal` or
    `PoisonRow`, never the driver's errors.
    """

    now: str  # an expression: microseconds since 1970, an integer
    for_update: str  # what ends a SELECT whose rows nobody else may change until the end of the transaction
    for_share: str  # the same, but others who say this may go on
    id_type: str  # definition of a primary key that the database numbers
    table_options: str  # what ends a CREATE TABLE of state
    counts_upserts: bool  # whether an upsert's row count is the number of rows that it inserted or changed

    def rows(self, statement: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """All rows of a query."""

    def run(self, statement: str, parameters: Sequence[Any] = ()) -> int:
        """How many rows the statement met (also those that it left as they were)."""

    def run_many(self, statement: str, rows: Iterable[Sequence[Any]]) -> int:
        """The statement once for each row; the sum of `run`. Inserts go in bulk."""

    def transaction(self) -> AbstractContextManager[None]:
        """Commits at the end of the block, rolls back when it raises."""

    def savepoint(self) -> AbstractContextManager[None]:
        """What happened inside is undone when the block raises; the transaction goes on."""

    def exclusively(self) -> AbstractContextManager[None]:
        """Changes of tables by one connection at a time, whether or not they can be rolled back."""

    def has_table(self, name: str) -> bool:
        """Whether the table is there."""

    def on_conflict(self, key: Sequence[str], assign: Mapping[str, str] | None = None) -> str:
        """What ends an INSERT whose row may be there: keep it, or set columns to expressions in which `{new}` is the
        column's value in the row that did not go in."""

    def close(self) -> None: ...


class Savepoints:
    """Savepoints of one connection, one inside another."""

    _depth = 0

    def run(self, statement: str, parameters: Sequence[Any] = ()) -> int:
        raise NotImplementedError

    def roll_back_to(self, savepoint: str, error: BaseException) -> None:
        """Because of an error, which may have ended the transaction, savepoints and all."""
        raise NotImplementedError

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        self._depth += 1
        name = f"s{self._depth}"
        try:
            self.run(f"SAVEPOINT {name}")
            try:
                yield
            except BaseException as error:
                self.roll_back_to(name, error)
                raise
            self.run(f"RELEASE SAVEPOINT {name}")
        finally:
            self._depth -= 1


_VERSIONS: tuple[tuple[str, ...], ...] = (
    (
        """
        CREATE TABLE IF NOT EXISTS cdc_watermark (
            pipeline VARCHAR(100) NOT NULL, target VARCHAR(100) NOT NULL,
            topic VARCHAR(249) NOT NULL, partition_number INTEGER NOT NULL,
            topic_id VARCHAR(100) NOT NULL, next_offset BIGINT, fence BIGINT NOT NULL,
            tracker LONGTEXT NOT NULL, time_us BIGINT, updated_us BIGINT NOT NULL,
            PRIMARY KEY (pipeline, target, topic, partition_number)
        ) {table_options}
        """,
        """
        CREATE TABLE IF NOT EXISTS cdc_target_table (
            id {id_type}, namespace VARCHAR(100) NOT NULL, name VARCHAR(100) NOT NULL,
            floor_position VARBINARY(22) NOT NULL,
            UNIQUE (namespace, name)
        ) {table_options}
        """,
        """
        CREATE TABLE IF NOT EXISTS cdc_parked (
            id {id_type},
            pipeline VARCHAR(100) NOT NULL, target VARCHAR(100) NOT NULL, mapping VARCHAR(200) NOT NULL,
            hold LONGTEXT NOT NULL, hold_digest CHAR(64) NOT NULL,
            topic VARCHAR(249) NOT NULL, partition_number INTEGER NOT NULL, record_offset BIGINT NOT NULL,
            record_key LONGBLOB, record_value LONGBLOB, headers LONGTEXT NOT NULL, timestamp_ms BIGINT NOT NULL,
            position VARBINARY(22) NOT NULL, reason VARCHAR(100) NOT NULL, error LONGTEXT NOT NULL,
            parked_us BIGINT NOT NULL, retry_requested_us BIGINT,
            UNIQUE (pipeline, target, mapping, topic, partition_number, record_offset, hold_digest)
        ) {table_options}
        """,
        """
        CREATE TABLE IF NOT EXISTS cdc_tally (
            pipeline VARCHAR(100) NOT NULL, target VARCHAR(100) NOT NULL, mapping VARCHAR(200) NOT NULL,
            topic VARCHAR(249) NOT NULL, partition_number INTEGER NOT NULL,
            outcome VARCHAR(20) NOT NULL, reason VARCHAR(80) NOT NULL, number BIGINT NOT NULL,
            PRIMARY KEY (pipeline, target, mapping, topic, partition_number, outcome, reason)
        ) {table_options}
        """,
        """
        CREATE TABLE IF NOT EXISTS cdc_repeated_snapshot (
            pipeline VARCHAR(100) NOT NULL, target VARCHAR(100) NOT NULL, mapping VARCHAR(200) NOT NULL,
            topic VARCHAR(249) NOT NULL, position VARBINARY(22) NOT NULL,
            found_us BIGINT NOT NULL, swept_us BIGINT, ends LONGTEXT,
            PRIMARY KEY (pipeline, target, mapping, position)
        ) {table_options}
        """,
        """
        CREATE TABLE IF NOT EXISTS cdc_source_epoch (
            pipeline VARCHAR(100) NOT NULL, target VARCHAR(100) NOT NULL, source VARCHAR(100) NOT NULL,
            epoch INTEGER NOT NULL, identity LONGTEXT NOT NULL, decided_us BIGINT NOT NULL,
            PRIMARY KEY (pipeline, target, source, epoch)
        ) {table_options}
        """,
        """
        CREATE TABLE IF NOT EXISTS cdc_worker (
            pipeline VARCHAR(100) NOT NULL, target VARCHAR(100) NOT NULL, worker VARCHAR(200) NOT NULL,
            report LONGTEXT NOT NULL, reported_us BIGINT NOT NULL,
            PRIMARY KEY (pipeline, target, worker)
        ) {table_options}
        """,
        """
        CREATE TABLE IF NOT EXISTS cdc_audit (
            id {id_type}, at_us BIGINT NOT NULL, finished_us BIGINT,
            who LONGTEXT NOT NULL, command LONGTEXT NOT NULL, reason LONGTEXT NOT NULL,
            before_json LONGTEXT NOT NULL, after_json LONGTEXT, error LONGTEXT NOT NULL
        ) {table_options}
        """,
    ),
    (
        """
        CREATE TABLE IF NOT EXISTS cdc_delivery (
            id {id_type},
            pipeline VARCHAR(100) NOT NULL, target VARCHAR(100) NOT NULL, mapping VARCHAR(200) NOT NULL,
            hold LONGTEXT NOT NULL, key_hash CHAR(32) NOT NULL, under_way CHAR(32),
            idempotency_key CHAR(32) NOT NULL, operation VARCHAR(20) NOT NULL, position VARBINARY(22) NOT NULL,
            topic VARCHAR(249) NOT NULL, partition_number INTEGER NOT NULL, record_offset BIGINT NOT NULL,
            state VARCHAR(20) NOT NULL, attempts INTEGER NOT NULL, status INTEGER, answer LONGTEXT NOT NULL,
            request LONGBLOB, first_sent_us BIGINT NOT NULL, sent_us BIGINT NOT NULL, settled_us BIGINT,
            UNIQUE (pipeline, target, idempotency_key),
            UNIQUE (pipeline, target, mapping, under_way)
        ) {table_options}
        """,
        """
        CREATE TABLE IF NOT EXISTS cdc_delivered (
            pipeline VARCHAR(100) NOT NULL, target VARCHAR(100) NOT NULL, mapping VARCHAR(200) NOT NULL,
            key_hash CHAR(32) NOT NULL, hold LONGTEXT NOT NULL, position VARBINARY(22) NOT NULL,
            idempotency_key CHAR(32) NOT NULL, present SMALLINT NOT NULL,
            topic VARCHAR(249) NOT NULL, partition_number INTEGER NOT NULL, record_offset BIGINT NOT NULL,
            at_us BIGINT NOT NULL,
            PRIMARY KEY (pipeline, target, mapping, key_hash)
        ) {table_options}
        """,
    ),
    (
        """
        CREATE TABLE IF NOT EXISTS cdc_contribution_table (
            id {id_type},
            pipeline VARCHAR(100) NOT NULL, target VARCHAR(100) NOT NULL, mapping VARCHAR(200) NOT NULL,
            UNIQUE (pipeline, target, mapping)
        ) {table_options}
        """,
        """
        CREATE TABLE IF NOT EXISTS cdc_contribution_shape (
            number {id_type},
            table_id INTEGER NOT NULL, shape_digest CHAR(64) NOT NULL, shape LONGTEXT NOT NULL,
            UNIQUE (table_id, shape_digest)
        ) {table_options}
        """,
        """
        CREATE TABLE IF NOT EXISTS cdc_contribution_floor (
            table_id INTEGER NOT NULL, contributor VARCHAR(100) NOT NULL, position VARBINARY(22) NOT NULL,
            PRIMARY KEY (table_id, contributor)
        ) {table_options}
        """,
        """
        CREATE TABLE IF NOT EXISTS cdc_contribution (
            table_id INTEGER NOT NULL, key_digest CHAR(64) NOT NULL,
            row_key LONGTEXT NOT NULL, document LONGBLOB NOT NULL, memory_s BIGINT,
            PRIMARY KEY (table_id, key_digest)
        ) {table_options}
        """,
        "CREATE INDEX IF NOT EXISTS cdc_contribution_by_memory ON cdc_contribution (table_id, memory_s)",
    ),
    (
        """
        CREATE TABLE IF NOT EXISTS cdc_park_request (
            pipeline VARCHAR(100) NOT NULL, target VARCHAR(100) NOT NULL,
            topic VARCHAR(249) NOT NULL, partition_number INTEGER NOT NULL, record_offset BIGINT NOT NULL,
            who LONGTEXT NOT NULL, reason LONGTEXT NOT NULL, requested_us BIGINT NOT NULL,
            PRIMARY KEY (pipeline, target, topic, partition_number, record_offset)
        ) {table_options}
        """,
    ),
    (
        """
        CREATE TABLE IF NOT EXISTS cdc_conflict (
            id {id_type},
            pipeline VARCHAR(100) NOT NULL, target VARCHAR(100) NOT NULL, mapping VARCHAR(200) NOT NULL,
            hold LONGTEXT NOT NULL, hold_digest CHAR(64) NOT NULL,
            conflict_type VARCHAR(40) NOT NULL, conflict LONGTEXT NOT NULL, position VARBINARY(22) NOT NULL,
            topic VARCHAR(249) NOT NULL, partition_number INTEGER NOT NULL, record_offset BIGINT NOT NULL,
            at_us BIGINT NOT NULL
        ) {table_options}
        """,
        "CREATE INDEX IF NOT EXISTS cdc_conflict_by_key ON cdc_conflict (hold_digest)",
        """
        CREATE TABLE IF NOT EXISTS cdc_conflict_count (
            pipeline VARCHAR(100) NOT NULL, target VARCHAR(100) NOT NULL, mapping VARCHAR(200) NOT NULL,
            topic VARCHAR(249) NOT NULL, partition_number INTEGER NOT NULL,
            conflict_type VARCHAR(40) NOT NULL, action VARCHAR(40) NOT NULL, hour_us BIGINT NOT NULL,
            number BIGINT NOT NULL,
            PRIMARY KEY (pipeline, target, mapping, topic, partition_number, conflict_type, action, hour_us)
        ) {table_options}
        """,
    ),
    (
        """
        CREATE TABLE IF NOT EXISTS cdc_mapping_version (
            pipeline VARCHAR(100) NOT NULL, target VARCHAR(100) NOT NULL, number INTEGER NOT NULL,
            file LONGTEXT NOT NULL, content LONGTEXT NOT NULL,
            who LONGTEXT NOT NULL, reason LONGTEXT NOT NULL, restores INTEGER, at_us BIGINT NOT NULL,
            PRIMARY KEY (pipeline, target, number)
        ) {table_options}
        """,
        """
        CREATE TABLE IF NOT EXISTS cdc_mapping_switch (
            pipeline VARCHAR(100) NOT NULL, target VARCHAR(100) NOT NULL,
            topic VARCHAR(249) NOT NULL, partition_number INTEGER NOT NULL, number INTEGER NOT NULL,
            next_offset BIGINT, tracker LONGTEXT NOT NULL,
            PRIMARY KEY (pipeline, target, topic, partition_number, number)
        ) {table_options}
        """,
    ),
    (
        """
        CREATE TABLE IF NOT EXISTS cdc_history_truncate (
            table_id INTEGER NOT NULL, position VARBINARY(22) NOT NULL, at VARCHAR(40) NOT NULL,
            PRIMARY KEY (table_id, position)
        ) {table_options}
        """,
    ),
)


def stored_version(database: Database) -> int:
    """The version of the state tables; 0: there are none."""
    if not database.has_table("cdc_state_version"):
        return 0
    return int(database.rows("SELECT coalesce(max(version), 0) FROM cdc_state_version")[0][0])


def migrate(database: Database) -> None:
    """Bring the state tables to this release's version. Raises `Terminal` when a newer release has been here."""
    if stored_version(database) == len(_VERSIONS):
        return
    with database.exclusively():
        database.run(
            "CREATE TABLE IF NOT EXISTS cdc_state_version (version INTEGER PRIMARY KEY, at_us BIGINT NOT NULL)"
        )
        current = stored_version(database)
        if current > len(_VERSIONS) + 1:
            raise Terminal(
                f"the target's state has version {current}, this release knows {len(_VERSIONS)}",
                hint="run a release that is at most one version behind the newest that has run here",
            )
        for version in range(current + 1, len(_VERSIONS) + 1):
            for statement in _VERSIONS[version - 1]:
                database.run(statement.format(id_type=database.id_type, table_options=database.table_options))
            database.run(f"INSERT INTO cdc_state_version VALUES (?, {database.now})", (version,))


def digest(text: str) -> str:
    """What a text is found by that is too long for a key."""
    return sha256(text.encode()).hexdigest()


def marks(number: int) -> str:
    """'?, ?, ?': for that many parameters."""
    return ", ".join("?" * number)
