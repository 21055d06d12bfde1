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
"""

from __future__ import annotations

from dataclasses import dataclass

from cdc.db.mariadb import quote
from cdc.model import DeletePolicy, TargetTable
from cdc.target.mariadb_database import MariaDbDatabase
from cdc.target.sqlround import BORROWING, DELETE, FULL, PARTIAL, POSITION, Statements
from cdc.target.sqlstate_target import PURGE_PORTION, lent_name, tombstone_name

_FORMAT = r"CHARACTER SET binary FIELDS TERMINATED BY '\t' ESCAPED BY '\\' LINES TERMINATED BY '\n'"


@dataclass(frozen=True)
class MariaDbStatements(Statements):
    load: str  # LOAD DATA straight into the target: the columns' fields, the position, and 0 for a soft-delete mark
    never_deleted: str  # answers 1 when the table has seen no delete and no truncate
    any_row: str  # answers something when the table holds a row
    doubles: str  # answers something when two staged rows have one key
    share: str  # keeps truncates and sweeps of the table away until the end of the transaction
    alone: str  # ... and other writers


def compose(database: MariaDbDatabase, table: TargetTable, table_id: int, stage: str) -> MariaDbStatements:
    """The statements for `table`, whose row in cdc_target_table has `table_id`; `stage` names the temporary table."""
    return _Composer(database, table, table_id, stage).all()


class _Composer:
    def __init__(self, database: MariaDbDatabase, table: TargetTable, table_id: int, stage: str) -> None:
        self.table = table
        self.now = database.now
        self.target = quote(table.namespace, table.name)
        self.tombstones = quote(database.name, tombstone_name(table_id))
        self.lent = quote(database.name, lent_name(table_id))
        self.stage, self.moves = quote(database.name, stage), quote(database.name, f"{stage}_moves")
        self.names = [quote(column.name) for column in table.columns]
        self.others = [quote(column.name) for column in table.columns if column.name not in table.key]
        self.keys = [quote(name) for name in table.key]
        self.soft = quote(table.soft_delete) if table.on_delete is DeletePolicy.SOFT and table.soft_delete else None
        self.p = quote(POSITION)
        self.floor_row = f"SELECT floor_position FROM {quote(database.name, 'cdc_target_table')} WHERE id = {table_id}"
        self.floor = f"({self.floor_row})"
        self.t_is_s, self.d_is_s = self.same_key("t", "s"), self.same_key("d", "s")
        self.s_join_t = f"{self.stage} s STRAIGHT_JOIN {self.target} t ON {self.t_is_s}"
        self.guard = f"coalesce(t.{self.p}, x'') <= s._position AND s._position >= {self.floor}"
        self.newest = (
            f"greatest(coalesce((SELECT t.{self.p} FROM {self.target} t WHERE {self.t_is_s}), x''),"
            f" coalesce((SELECT d._position FROM {self.tombstones} d WHERE {self.d_is_s}), x''), {self.floor})"
        )

    def same_key(self, left: str, right: str) -> str:
        return " AND ".join(f"{left}.{key} = {right}.{key}" for key in self.keys)

    def key(self, alias: str = "") -> str:
        return _list(self.keys, alias)

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
        return MariaDbStatements(
            clear=(f"DELETE FROM {self.stage}", f"DELETE FROM {self.moves}"),
            stage=f"LOAD DATA LOCAL INFILE 'rows' INTO TABLE {self.stage} {_FORMAT}",
            stage_moves=f"LOAD DATA LOCAL INFILE 'rows' INTO TABLE {self.moves} {_FORMAT}",
            drop=(f"DROP TEMPORARY TABLE {self.stage}", f"DROP TEMPORARY TABLE {self.moves}"),
            mixed=f"SELECT s._n FROM {self.stage} s WHERE s._base < s._position AND s._position >= {self.newest}"
            f" AND s._base < {self.newest}",
            remove=f"DELETE FROM {self.stage} WHERE _n = ?",
            lend=self.lend(),
            delete=self.delete(),
            bury=self.bury(),
            settle_redelivered=f"UPDATE {self.s_join_t} SET s._op = {PARTIAL}"
            f" WHERE s._op = {BORROWING} AND t.{self.p} = s._position",
            borrow=f"UPDATE {self.stage} s STRAIGHT_JOIN {self.moves} m ON m._n = s._n STRAIGHT_JOIN {self.lent} r"
            " ON r._mapping = m._mapping AND r._move = m._move AND r._place = m._place"
            f" SET {', '.join([*self.present('r', 's'), f's._op = {FULL}'])} WHERE s._op = {BORROWING}",
            upsert=self.upsert(),
            partial=f"UPDATE {self.s_join_t} SET {self.alive(*self.present('t', 't'))}"
            f" WHERE s._op = {PARTIAL} AND {self.guard}",
            unbury=f"DELETE d FROM {self.stage} s STRAIGHT_JOIN {self.tombstones} d ON {self.d_is_s}"
            f" STRAIGHT_JOIN {self.target} t ON {self.t_is_s} WHERE s._op <> {DELETE} AND t.{self.p} >= d._position",
            forget_lent=f"DELETE v FROM {self.stage} s STRAIGHT_JOIN {self.moves} m ON m._n = s._n"
            f" STRAIGHT_JOIN {self.target} t ON {self.t_is_s} STRAIGHT_JOIN {self.lent} v"
            " ON v._mapping = m._mapping AND v._move = m._move AND v._place = m._place"
            f" WHERE s._op <> {DELETE} AND t.{self.p} = s._position",
            unapplied=f"SELECT s._n, s._op, s._position < {self.newest} FROM {self.stage} s"
            f" WHERE (s._op <> {DELETE} AND NOT EXISTS (SELECT 1 FROM {self.target} t WHERE {self.t_is_s}"
            f" AND t.{self.p} = s._position)) OR (s._op = {DELETE} AND s._position < {self.newest})",
            stale=f"SELECT s._n FROM {self.stage} s WHERE s._position < {self.newest}",
            truncate=self.truncate(),
            sweep_examples=f"SELECT {self.key('t')} FROM {self.target} t WHERE {self.swept}"
            f" ORDER BY {self.key('t')} LIMIT 5",
            sweep_bury=self.sweep_bury(),
            sweep=self.sweep(),
            purge=self.purge(),
            load=self.load(),
            never_deleted=f"SELECT {self.floor} = x'' AND NOT EXISTS (SELECT 1 FROM {self.tombstones})",
            any_row=f"SELECT 1 FROM {self.target} LIMIT 1",
            doubles=f"SELECT 1 FROM {self.stage} GROUP BY {self.key()} HAVING count(*) > 1 LIMIT 1",
            share=f"{self.floor_row} LOCK IN SHARE MODE",
            alone=f"{self.floor_row} FOR UPDATE",
        )

    def load(self) -> str:
        columns = [*self.names, self.p, *([] if self.soft is None else [self.soft])]
        return f"LOAD DATA LOCAL INFILE 'rows' INTO TABLE {self.target} {_FORMAT} ({', '.join(columns)})"

    def lend(self) -> str:
        columns = ["_mapping", "_move", "_place"]
        return (
            f"INSERT INTO {self.lent} ({_list(columns)}, _lent_us, {_list(self.names)})"
            f" SELECT {_list(columns, 'm')}, {self.now}, {_list(self.names, 't')} FROM {self.stage} s"
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

    def upsert(self) -> tuple[str, str]:
        extra, value = ("", "") if self.soft is None else (f", {self.soft}", ", 0")
        first = self.keys[0] if self.keys else self.p  # without a key the statements are for a truncate only
        return (
            f"UPDATE {self.s_join_t} SET {self.alive(*(f't.{name} = s.{name}' for name in self.others))}"
            f" WHERE s._op = {FULL} AND {self.guard}",
            f"INSERT INTO {self.target} ({_list(self.names)}, {self.p}{extra})"
            f" SELECT {_list(self.names, 's')}, s._position{value} FROM {self.stage} s"
            f" LEFT JOIN {self.target} t ON {self.t_is_s}"
            f" WHERE s._op = {FULL} AND t.{first} IS NULL AND s._position >= {self.floor}"
            f" AND NOT EXISTS (SELECT 1 FROM {self.tombstones} d WHERE {self.d_is_s} AND d._position > s._position)",
        )

    def truncate(self) -> str:
        """The second half of a truncate, after the floor was raised."""
        older = f"WHERE coalesce({self.p}, x'') < ?"
        if self.table.on_delete is DeletePolicy.IGNORE:
            return ""
        if self.soft is not None:
            return f"UPDATE {self.target} SET {self.soft} = 1, {self.p} = ? {older}"
        return f"DELETE FROM {self.target} {older}"

    @property
    def swept(self) -> str:
        """The rows a sweep removes; the staged keys are kept."""
        alive = "" if self.soft is None else f" AND NOT t.{self.soft}"
        kept = f"SELECT {self.key('s')} FROM {self.stage} s"
        return f"coalesce(t.{self.p}, x'') < ?{alive} AND ({self.key('t')}) NOT IN ({kept})"

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


def _list(names: list[str], alias: str = "") -> str:
    return ", ".join(f"{alias}.{name}" if alias else name for name in names)
