"""The SQL that writes one SQLite table, composed once per table. Identifiers are quoted; values never enter SQL text.

The staging table has no index but its row numbers: every statement walks it once and finds the target's rows by key.
Its columns have no type, so that SQLite converts nothing on the way.
"""

from __future__ import annotations

from cdc.model import TargetTable
from cdc.target.sqlcompose import Composer, listed
from cdc.target.sqlite_database import quote
from cdc.target.sqlround import BORROWING, DELETE, FULL, PARTIAL, Statements
from cdc.target.sqlstate import marks
from cdc.target.sqlstate_target import PURGE_PORTION, lent_name, tombstone_name


def table_name(table: TargetTable) -> str:
    """SQLite has no schemas: main.people is the table people, hub.people is hub_people."""
    return table.name if table.namespace == "main" else f"{table.namespace}_{table.name}"


def create_stage(table: TargetTable, stage: str) -> tuple[str, str]:
    columns = ", ".join(quote(column.name) for column in table.columns)
    return (
        f"CREATE TEMP TABLE {stage} (_n INTEGER PRIMARY KEY, _op INTEGER, _position BLOB, _base BLOB, _mask TEXT,"
        f" {columns})",
        f"CREATE TEMP TABLE {stage}_moves (_n INTEGER PRIMARY KEY, _mapping TEXT, _move TEXT, _place BLOB)",
    )


class SqliteComposer(Composer):
    """For `table`, whose row in cdc_target_table has `table_id`; `stage` names the temporary table."""

    newer = "max"
    join = "CROSS JOIN"

    @staticmethod
    def distinct(left: str, right: str) -> str:
        return f"{left} IS NOT {right}"

    def give_up(self, column: str) -> str:
        return f"UPDATE {self.target} AS t SET {column} = NULL FROM {self.stage} s WHERE {self.t_is_s} AND s._n IN "

    def __init__(self, table: TargetTable, table_id: int, stage: str, now: str) -> None:
        self.now = now
        super().__init__(
            table,
            quote,
            target=f"main.{quote(table_name(table))}",
            tombstones=f"main.{tombstone_name(table_id)}",
            lent=f"main.{lent_name(table_id)}",
            stage=f"temp.{stage}",
            moves=f"temp.{stage}_moves",
            floor=f"SELECT floor_position FROM main.cdc_target_table WHERE id = {table_id}",
        )
        self.guard = f"coalesce(t.{self.p}, x'') <= s._position"

    def present(self, under: str) -> list[str]:
        """Assignments of the columns that a change has, the others from `under`."""
        places = {name: number for number, name in enumerate(self.names, 1)}
        return [
            f"{name} = CASE substr(s._mask, {places[name]}, 1) WHEN '1' THEN s.{name} ELSE {under}.{name} END"
            for name in self.others
        ]

    def all(self) -> Statements:
        return Statements(
            clear=self.clear(),
            stage=f"INSERT INTO {self.stage} VALUES ({marks(5 + len(self.names))})",
            stage_moves=f"INSERT INTO {self.moves} VALUES ({marks(4)})",
            drop=(f"DROP TABLE {self.stage}", f"DROP TABLE {self.moves}"),
            mixed=self.mixed(),
            remove=self.remove(),
            lend=self.lend(),
            delete=self.delete(),
            bury=(self.bury(),),
            settle_redelivered=f"UPDATE {self.stage} AS s SET _op = {PARTIAL} FROM {self.target} t"
            f" WHERE s._op = {BORROWING} AND {self.t_is_s} AND t.{self.p} = s._position",
            borrow=self.borrow(),
            has_tombstones=self.has_tombstones(),
            upsert=(self.upsert(self.not_deleted),),
            upsert_undeleted=(self.upsert(),),
            partial=self.partial(),
            unbury=f"DELETE FROM {self.tombstones} WHERE ({self.key()}) IN (SELECT {self.key('s')} FROM {self.stage} s"
            f" CROSS JOIN {self.target} t ON {self.t_is_s} CROSS JOIN {self.tombstones} d ON {self.d_is_s}"
            f" WHERE s._op <> {DELETE} AND t.{self.p} >= d._position)",
            forget_lent=f"DELETE FROM {self.lent} WHERE (_mapping, _move, _place) IN"
            f" (SELECT m._mapping, m._move, m._place FROM {self.moves} m CROSS JOIN {self.stage} s ON s._n = m._n"
            f" CROSS JOIN {self.target} t ON {self.t_is_s} WHERE s._op <> {DELETE} AND t.{self.p} = s._position)",
            unapplied=self.unapplied(),
            stale=self.stale(),
            truncate=self.truncate(),
            sweep_examples=self.sweep_examples(),
            sweep_bury=self.sweep_bury(),
            sweep=self.sweep(),
            purge=self.purge(),
        )

    def lend(self) -> str:
        return (
            f"INSERT INTO {self.lent} (_mapping, _move, _place, _lent_us, {listed(self.names)})"
            f" SELECT m._mapping, m._move, m._place, {self.now}, {listed(self.names, 't')}"
            f" FROM {self.moves} m CROSS JOIN {self.stage} s ON s._n = m._n CROSS JOIN {self.target} t ON {self.t_is_s}"
            f" WHERE s._op = {DELETE} AND {self.guard} AND s._position >= {self.floor} ON CONFLICT DO NOTHING"
        )

    def delete(self) -> str:
        if self.soft is None:
            return (
                f"DELETE FROM {self.target} WHERE ({self.key()}) IN (SELECT {self.key('s')} FROM {self.stage} s"
                f" CROSS JOIN {self.target} t ON {self.t_is_s} WHERE s._op = {DELETE} AND {self.guard})"
            )
        return (
            f"UPDATE {self.target} AS t SET {self.soft} = 1, {self.p} = s._position FROM {self.stage} s"
            f" WHERE s._op = {DELETE} AND {self.t_is_s} AND {self.guard} AND s._position >= {self.floor}"
        )

    def bury(self) -> str:
        return (
            f"INSERT INTO {self.tombstones} AS d ({self.key()}, _position, _buried_us)"
            f" SELECT {self.key('s')}, s._position, {self.now} FROM {self.stage} s"
            f" WHERE s._op = {DELETE} AND s._position >= {self.floor}"
            f" AND NOT EXISTS (SELECT 1 FROM {self.target} t WHERE {self.t_is_s})"
            f" ON CONFLICT ({self.key()}) DO UPDATE SET _position = excluded._position,"
            " _buried_us = excluded._buried_us WHERE d._position <= excluded._position"
        )

    def borrow(self) -> str:
        assignments = [f"_op = {FULL}", *self.present("r")]
        return (
            f"UPDATE {self.stage} AS s SET {', '.join(assignments)} FROM {self.moves} m, {self.lent} r"
            f" WHERE s._op = {BORROWING} AND m._n = s._n AND r._mapping = m._mapping AND r._move = m._move"
            " AND r._place = m._place"
        )

    def upsert(self, wanted: str = "") -> str:
        assignments = [f"{name} = excluded.{name}" for name in [*self.others, self.p]]
        extra = value = ""
        if self.soft is not None:
            extra, value = f", {self.soft}", ", 0"
            assignments.append(f"{self.soft} = 0")
        return (
            f"INSERT INTO {self.target} AS t ({listed(self.names)}, {self.p}{extra})"
            f" SELECT {listed(self.names, 's')}, s._position{value} FROM {self.stage} s"
            f" WHERE s._op = {FULL} AND s._position >= {self.floor}{wanted}"
            f" ORDER BY {self.key('s')} ON CONFLICT ({self.key()}) DO UPDATE SET {', '.join(assignments)}"
            f" WHERE coalesce(t.{self.p}, x'') <= excluded.{self.p}"
        )

    def partial(self) -> str:
        assignments = [*self.present("t"), f"{self.p} = s._position"]
        if self.soft is not None:
            assignments.append(f"{self.soft} = 0")
        return (
            f"UPDATE {self.target} AS t SET {', '.join(assignments)} FROM {self.stage} s"
            f" WHERE s._op = {PARTIAL} AND {self.t_is_s} AND {self.guard} AND s._position >= {self.floor}"
        )

    def sweep_bury(self) -> str:
        if self.soft is not None:
            return ""
        return (
            f"INSERT INTO {self.tombstones} AS d ({self.key()}, _position, _buried_us)"
            f" SELECT {self.key()}, ?, {self.now} FROM {self.target} t WHERE {self.swept}"
            f" ON CONFLICT ({self.key()}) DO UPDATE SET _position = max(d._position, excluded._position)"
        )

    def sweep(self) -> str:
        if self.soft is not None:
            return f"UPDATE {self.target} AS t SET {self.soft} = 1, {self.p} = ? WHERE {self.swept}"
        return f"DELETE FROM {self.target} AS t WHERE {self.swept}"

    def purge(self) -> tuple[str, str]:
        """Of lent values only this mapping's: another pipeline may need its own for longer."""
        mapping = "'" + self.table.mapping.replace("'", "''") + "'"
        keys = f"SELECT {self.key()} FROM {self.tombstones} WHERE _buried_us < ? LIMIT {PURGE_PORTION}"
        return (
            f"DELETE FROM {self.tombstones} WHERE ({self.key()}) IN ({keys})",
            f"DELETE FROM {self.lent} WHERE rowid IN (SELECT rowid FROM {self.lent} WHERE _mapping = {mapping}"
            f" AND _lent_us < ? LIMIT {PURGE_PORTION})",
        )
