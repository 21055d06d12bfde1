"""MariaDB and MySQL as a target: LOAD DATA LOCAL from memory into a staging table, a few guarded statements a round.

    mariadb_database.py    the connection, its transactions and loads
    mariadb_errors.py      the server's errors as ours
    mariadb_types.py       how each kind of value is stored
    mariadb_lines.py       rows as LOAD DATA's text
    mariadb_tables.py      creates and checks tables
    mariadb_statements.py  the SQL that writes, and what it was measured against

What differs from PostgreSQL: a schema is a database; the state's tables `cdc_…` stand in the database that the entry of
connections.yaml names. The server needs local_infile=ON and binlog_format ROW or MIXED. Tests run on MariaDB 11.4;
the SQL keeps to what MySQL 8 has too, except the audit trail's INSERT … RETURNING, but was never run there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, cast

from cdc.blocks import Writes
from cdc.errors import Transient
from cdc.model import UNAVAILABLE, Decision, Position, TargetTable, Write
from cdc.target.base import Capabilities, PoisonRow
from cdc.target.mariadb_database import MariaDbDatabase, is_duplicate_key
from cdc.target.mariadb_history import MariaDbHistoryComposer, words
from cdc.target.mariadb_lines import Encoded, Lines, move_packets, staged_packets, upsert_packets
from cdc.target.mariadb_related import find_links
from cdc.target.mariadb_statements import MariaDbComposer, MariaDbStatements
from cdc.target.mariadb_tables import columns_of, create_stage, prepare_table
from cdc.target.sqlhistory import HistorySql, Words
from cdc.target.sqlhistory_round import HistoryRound
from cdc.target.sqlround import PreparedTable, Round
from cdc.target.sqlstaged import StagedTarget


class MariaDbTable(PreparedTable):
    """A prepared table. `loading`: it was empty, and no row has met another of its key since."""

    statements: MariaDbStatements
    lines: Lines
    key_index = ""
    loading = False


class MariaDbTarget(StagedTarget):
    """A `Target`. `connect` opens a `MariaDbDatabase`."""

    capabilities = Capabilities(
        transactions=True,
        creates_tables=True,
        contributions=True,
        history=True,
        upsert="LOAD DATA into a temporary table, then guarded UPDATE … JOIN and INSERT of the missing",
        limits=(
            "NaN and infinities",
            "decimals beyond 65 digits, 30 of them behind the point",
            "years before 1 and after 9999",
            "keys beyond 3,072 bytes",
        ),
    )

    @property
    def server(self) -> MariaDbDatabase:
        return cast(MariaDbDatabase, self.database)

    def make(self, table: TargetTable, stage: str) -> MariaDbTable:
        found = prepare_table(self.server, table)
        kind = MariaDbComposer if table.history is None else MariaDbHistoryComposer
        composer = kind(self.server, table, found.id, stage)
        statements, lines = composer.all(), Lines(table, found.literals)
        links = find_links(self.server, table, found.columns, composer)
        made = MariaDbTable(table, found.id, statements, links, lines.row)
        made.lines = lines
        if made.staged:
            for statement in create_stage(self.server, stage, found.columns):
                self.server.run(statement)
            made.key_index = found.key_index
            # Straight into the table only where nothing must be converted on the way.
            plain = all(stored.charset in (None, "utf8mb4") for stored in found.columns)
            made.loading = plain and table.history is None and not self.server.rows(statements.any_row)
            if table.history is not None:
                made.history = HistorySql.of(self.words(table, found.id, stage), table).all(table.partials)
        return made

    def round(self, prepared: PreparedTable, writes: Sequence[Write]) -> MariaDbRound:
        kind = MariaDbRound if prepared.history is None else _HistoryRound
        return kind(self.server, cast(MariaDbTable, prepared), writes)

    def words(self, table: TargetTable, table_id: int, stage: str) -> Words:
        return words(self.server, table, table_id, stage)

    def columns_in(self, name: str) -> list[str]:
        return [stored.name for stored in columns_of(self.server, self.server.name, name).values()]

    def moment(self, at: str) -> str:
        return at.removesuffix("Z").replace("T", " ")

    def encode(self, table: TargetTable, writes: Writes) -> Encoded | None:
        prepared = cast(MariaDbTable | None, self.known(table))  # how it takes values is known from then on
        return None if prepared is None else prepared.lines.encode(writes)

    def exists(self, table: TargetTable) -> bool:
        return self.server.has_table_in(table.namespace, table.name)

    def alone(self, prepared: PreparedTable) -> None:
        self.server.rows(cast(MariaDbTable, prepared).statements.alone)


class MariaDbRound(Round):
    """A round that arrives by LOAD DATA; into a table that was empty, without any staging."""

    database: MariaDbDatabase
    prepared: MariaDbTable
    statements: MariaDbStatements

    def run(self, deferring: bool = False) -> dict[int, Decision]:
        return {} if self.prepared.loading and self._load() else super().run(deferring)

    def lock_out_truncates(self) -> None:
        self.database.rows(self.statements.share)

    def stage_plain(self, writes: Writes) -> None:
        encoded = self.encoded_ahead
        if encoded is None:
            super().stage_plain(writes)
            return
        if encoded.upserts:
            self.database.load(self.statements.stage_full, encoded.upserts)
        if encoded.deletes:
            try:
                self.database.load(self.statements.stage_deletes, encoded.deletes)
            except PoisonRow as poison:
                if poison.index is not None:
                    poison.index += writes.upserts
                raise

    def fill(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        packets = staged_packets if statement == self.statements.stage else move_packets
        self.database.load(statement, packets(rows))

    @property
    def encoded_ahead(self) -> Encoded | None:
        """What `MariaDbTarget.encode` made for the table as it is known now."""
        encoded = self.writes.encoded if isinstance(self.writes, Writes) else None
        return encoded if isinstance(encoded, Encoded) and encoded.by is self.prepared.lines else None

    def upsert(self, rows: int, statements: Iterable[str]) -> int:
        """A key that is not there when the first statement looks, and is when the second one inserts, is somebody
        else's new row; unless two rows of the round are one row here."""
        try:
            return super().upsert(rows, statements)
        except PoisonRow as poison:
            if not is_duplicate_key(poison, self.prepared.key_index) or self.database.rows(self.statements.doubles):
                raise
            raise Transient("another worker wrote a row of the same key meanwhile", hint="it is retried") from poison

    def _load(self) -> bool:
        """Full images of rows that were never there need no guard: load them straight into the table.

        False, and nothing written, when there is anything else in the round, when the table has seen deletes, or when
        one of the rows is there already or other rows stand in its way (then nor is this tried again).
        """
        if not self._only_full_images():
            return False
        self.lock_out_truncates()
        if self.database.rows(self.statements.never_deleted) != [(1,)]:
            return False
        try:
            with self.database.savepoint():
                self.database.load(self.statements.load, self._upsert_packets())
        except PoisonRow as poison:
            if poison.reason not in ("unique_violation", "foreign_key_missing"):
                raise
            self.prepared.loading = False
            return False
        return True

    def _only_full_images(self) -> bool:
        if isinstance(self.writes, Writes):
            return self.writes.upserts == len(self.writes)
        for write in self.writes:
            row = write.row
            if row.values is None or row.moved_from is not None or UNAVAILABLE in row.values:
                return False
        return True

    def _upsert_packets(self) -> Iterable[bytes]:
        encoded = self.encoded_ahead
        return upsert_packets(self._upsert_lines()) if encoded is None else encoded.upserts

    def _upsert_lines(self) -> Iterator[tuple[int, str, Position]]:
        for number, write in enumerate(self.writes):
            assert write.row.values is not None
            yield number, self.encoded(number, write.row.values)[0], write.row.position


class _HistoryRound(HistoryRound, MariaDbRound):
    """The same of changes."""
