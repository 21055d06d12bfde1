"""The SQL that writes one MariaDB table, composed once per table. Identifiers are quoted; values never enter SQL text.

Full images are two statements: a guarded UPDATE of the rows that are there, an INSERT of those that are not. One INSERT
… ON DUPLICATE KEY UPDATE with IF(…) per column would be right for the guard, but it takes any unique index for the key:
a row whose e-mail address another row has would overwrite *that* row. A row that another worker inserts between the
two statements is a duplicate key, and a retry.

Every statement walks the staging table once (STRAIGHT_JOIN) and finds rows by key; none names it twice, which MySQL
forbids for temporary tables.

Measured: MariaDB 11.4, 2 shared cores, 10,000 rows of 14 columns, milliseconds (best of 3):
    LOAD DATA into a staging table of Aria / InnoDB / MyISAM               52 / 111 / 114
    existing rows: staged, UPDATE + INSERT / ON DUPLICATE KEY UPDATE       318 / 305 (of the 318 the INSERT, which finds
                                                                           nothing and is left out then, takes 61)
    … half of them there                                                   361 / 212
    multi-row INSERT … ON DUPLICATE KEY UPDATE with IF, from the driver    281
    into an empty table: staged, UPDATE + INSERT / straight into it        186 / 75

The server's own CPU time, MariaDB 11.4, µs a row of tests/bench/mariadb.py with text that is ready:
    into an empty table: LOAD DATA / the target                            6.0 / 7.4
    existing rows: LOAD DATA and ON DUPLICATE KEY UPDATE / and UPDATE … JOIN / the target    15.8 / 18.2 / 21.2

The INSERT never goes first, though rounds of new rows alone would save the UPDATE: of a row that somebody deletes
between the two, nobody would say what became of it.
"""

from __future__ import annotations

from dataclasses import dataclass

from cdc.db.mariadb import quote
from cdc.model import TargetTable
from cdc.target.mariadb_database import MariaDbDatabase
from cdc.target.sqlcompose import Composer, listed
from cdc.target.sqlround import BORROWING, DELETE, FULL, PARTIAL, Statements
from cdc.target.sqlstate_target import PURGE_PORTION, lent_name, tombstone_name

_FORMAT = r"CHARACTER SET binary FIELDS TERMINATED BY '\t' ESCAPED BY '\\' LINES TERMINATED BY '\n'"


@dataclass(frozen=True)
class MariaDbStatements(Statements):
    load: str  # LOAD DATA of `Encoded.upserts` (mariadb_lines.py) straight into the target
    stage_full: str  # ... into the staging table
    stage_deletes: str  # ... of `Encoded.deletes`
    never_deleted: str  # answers 1 when the table has seen no delete and no truncate
    any_row: str  # answers something when the table holds a row
    doubles: str  # answers something when two staged rows have one key
    share: str  # keeps truncates and sweeps of the table away until the end of the transaction
    alone: str  # ... and other writers


class MariaDbComposer(Composer):
    """For `table`, whose row in cdc_target_table has `table_id`; `stage` names the temporary table."""

    newer = "greatest"
    join = "STRAIGHT_JOIN"

    @staticmethod
    def distinct(left: str, right: str) -> str:
        return f"NOT ({left} <=> {right})"

    def give_up(self, column: str) -> str:
        return f"UPDATE {self.s_join_t} SET t.{column} = NULL WHERE s._n IN "

    def __init__(self, database: MariaDbDatabase, table: TargetTable, table_id: int, stage: str) -> None:
        self.now = database.now
        self.floor_row = f"SELECT floor_position FROM {quote(database.name, 'cdc_target_table')} WHERE id = {table_id}"
        super().__init__(
            table,
            quote,
            target=quote(table.namespace, table.name),
            tombstones=quote(database.name, tombstone_name(table_id)),
            lent=quote(database.name, lent_name(table_id)),
            stage=quote(database.name, stage),
            moves=quote(database.name, f"{stage}_moves"),
            floor=self.floor_row,
        )
        self.s_join_t = f"{self.stage} s STRAIGHT_JOIN {self.target} t ON {self.t_is_s}"
        self.guard = f"coalesce(t.{self.p}, x'') <= s._position AND s._position >= {self.floor}"

    def present(self, under: str, to: str) -> list[str]:
        """Assignments to the columns of `to`: what a change has, the others from `under`."""
        places = {name: number for number, name in enumerate(self.names, 1)}
        return [
            f"{to}.{name} = IF(substr(s._mask, {places[name]}, 1) = '1', s.{name}, {under}.{name})"
            for name in self.others
        ]

    def alive(self, *assignments: str) -> str:
        soft = () if self.soft is None else (f"t.{self.soft} = 0",)
        return ", ".join((*assignments, f"t.{self.p} = s._position", *soft))

    def all(self) -> MariaDbStatements:
        soft = [] if self.soft is None else [f"{self.soft} = 0"]
        return MariaDbStatements(
            clear=self.clear(),
            stage=f"LOAD DATA LOCAL INFILE 'rows' INTO TABLE {self.stage} {_FORMAT}",
            stage_moves=f"LOAD DATA LOCAL INFILE 'rows' INTO TABLE {self.moves} {_FORMAT}",
            drop=(f"DROP TEMPORARY TABLE {self.stage}", f"DROP TEMPORARY TABLE {self.moves}"),
            mixed=self.mixed(),
            remove=self.remove(),
            lend=self.lend(),
            delete=self.delete(),
            bury=self.bury(),
            settle_redelivered=f"UPDATE {self.s_join_t} SET s._op = {PARTIAL}"
            f" WHERE s._op = {BORROWING} AND t.{self.p} = s._position",
            borrow=f"UPDATE {self.stage} s STRAIGHT_JOIN {self.moves} m ON m._n = s._n STRAIGHT_JOIN {self.lent} r"
            " ON r._mapping = m._mapping AND r._move = m._move AND r._place = m._place"
            f" SET {', '.join([*self.present('r', 's'), f's._op = {FULL}'])} WHERE s._op = {BORROWING}",
            has_tombstones=self.has_tombstones(),
            upsert=self.upsert(self.not_deleted),
            upsert_undeleted=self.upsert(),
            partial=f"UPDATE {self.s_join_t} SET {self.alive(*self.present('t', 't'))}"
            f" WHERE s._op = {PARTIAL} AND {self.guard}",
            unbury=f"DELETE d FROM {self.stage} s STRAIGHT_JOIN {self.tombstones} d ON {self.d_is_s}"
            f" STRAIGHT_JOIN {self.target} t ON {self.t_is_s} WHERE s._op <> {DELETE} AND t.{self.p} >= d._position",
            forget_lent=f"DELETE v FROM {self.stage} s STRAIGHT_JOIN {self.moves} m ON m._n = s._n"
            f" STRAIGHT_JOIN {self.target} t ON {self.t_is_s} STRAIGHT_JOIN {self.lent} v"
            " ON v._mapping = m._mapping AND v._move = m._move AND v._place = m._place"
            f" WHERE s._op <> {DELETE} AND t.{self.p} = s._position",
            unapplied=self.unapplied(),
            stale=self.stale(),
            truncate=self.truncate(),
            sweep_examples=self.sweep_examples(),
            sweep_bury=self.sweep_bury(),
            sweep=self.sweep(),
            purge=self.purge(),
            load=self.load(self.target, [*self.names, "@p", "@n"], f"{self.p} = unhex(@p)", *soft),
            stage_full=self.load(self.stage, [*self.names, "@p", "_n"], "_position = unhex(@p)", f"_op = {FULL}"),
            stage_deletes=self.load(self.stage, [*self.keys, "@p", "_n"], "_position = unhex(@p)", f"_op = {DELETE}"),
            never_deleted=f"SELECT {self.floor} = x'' AND NOT EXISTS (SELECT 1 FROM {self.tombstones})",
            any_row=f"SELECT 1 FROM {self.target} LIMIT 1",
            doubles=f"SELECT 1 FROM {self.stage} GROUP BY {self.key()} HAVING count(*) > 1 LIMIT 1",
            share=f"{self.floor_row} LOCK IN SHARE MODE",
            alone=f"{self.floor_row} FOR UPDATE",
        )

    def load(self, into: str, fields: list[str], *assignments: str) -> str:
        return (
            f"LOAD DATA LOCAL INFILE 'rows' INTO TABLE {into} {_FORMAT} ({', '.join(fields)})"
            f" SET {', '.join(assignments)}"
        )

    def lend(self) -> str:
        columns = ["_mapping", "_move", "_place"]
        return (
            f"INSERT INTO {self.lent} ({listed(columns)}, _lent_us, {listed(self.names)})"
            f" SELECT {listed(columns, 'm')}, {self.now}, {listed(self.names, 't')} FROM {self.stage} s"
            f" STRAIGHT_JOIN {self.moves} m ON m._n = s._n STRAIGHT_JOIN {self.target} t ON {self.t_is_s}"
            f" WHERE s._op = {DELETE} AND {self.guard} ON DUPLICATE KEY UPDATE _mapping = {self.lent}._mapping"
        )

    def delete(self) -> str:
        if self.soft is None:
            return f"DELETE t FROM {self.s_join_t} WHERE s._op = {DELETE} AND coalesce(t.{self.p}, x'') <= s._position"
        return (
            f"UPDATE {self.s_join_t} SET t.{self.soft} = 1, t.{self.p} = s._position"
            f" WHERE s._op = {DELETE} AND {self.guard}"
        )

    def bury(self) -> tuple[str, str]:
        left = f"s._op = {DELETE} AND s._position >= {self.floor}"
        gone = f"NOT EXISTS (SELECT 1 FROM {self.target} t WHERE {self.t_is_s})"
        return (
            f"UPDATE {self.stage} s STRAIGHT_JOIN {self.tombstones} d ON {self.d_is_s}"
            f" SET d._position = s._position, d._buried_us = {self.now}"
            f" WHERE {left} AND d._position <= s._position AND {gone}",
            f"INSERT INTO {self.tombstones} ({self.key()}, _position, _buried_us)"
            f" SELECT {self.key('s')}, s._position, {self.now} FROM {self.stage} s"
            f" LEFT JOIN {self.tombstones} d ON {self.d_is_s} WHERE {left} AND d._position IS NULL AND {gone}",
        )

    def upsert(self, wanted: str = "") -> tuple[str, str]:
        extra, value = ("", "") if self.soft is None else (f", {self.soft}", ", 0")
        first = self.keys[0] if self.keys else self.p  # without a key the statements are for a truncate only
        return (
            f"UPDATE {self.s_join_t} SET {self.alive(*(f't.{name} = s.{name}' for name in self.others))}"
            f" WHERE s._op = {FULL} AND {self.guard}",
            f"INSERT INTO {self.target} ({listed(self.names)}, {self.p}{extra})"
            f" SELECT {listed(self.names, 's')}, s._position{value} FROM {self.stage} s"
            f" LEFT JOIN {self.target} t ON {self.t_is_s}"
            f" WHERE s._op = {FULL} AND t.{first} IS NULL AND s._position >= {self.floor}{wanted}",
        )

    def sweep_bury(self) -> str:
        if self.soft is not None:
            return ""
        position = f"{self.tombstones}._position"
        return (
            f"INSERT INTO {self.tombstones} ({self.key()}, _position, _buried_us)"
            f" SELECT {self.key('t')}, ?, {self.now} FROM {self.target} t WHERE {self.swept}"
            f" ON DUPLICATE KEY UPDATE _position = greatest({position}, VALUES(_position))"
        )

    def sweep(self) -> str:
        if self.soft is not None:
            return f"UPDATE {self.target} t SET t.{self.soft} = 1, t.{self.p} = ? WHERE {self.swept}"
        return f"DELETE t FROM {self.target} t WHERE {self.swept}"

    def purge(self) -> tuple[str, str]:
        """Of lent values only this mapping's: another pipeline may need its own for longer."""
        mapping = f"CONVERT(0x{self.table.mapping.encode().hex()} USING utf8mb4)"
        return (
            f"DELETE FROM {self.tombstones} WHERE _buried_us < ? LIMIT {PURGE_PORTION}",
            f"DELETE FROM {self.lent} WHERE _mapping = {mapping} AND _lent_us < ? LIMIT {PURGE_PORTION}",
        )
