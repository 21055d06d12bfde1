"""The SQL that writes one SQLite table, composed once per table. Identifiers are quoted; values never enter SQL text.

The staging table has no index but its row numbers: every statement walks it once and finds the target's rows by key.
Its columns have no type, so that SQLite converts nothing on the way.
"""

from __future__ import annotations

from cdc.model import DeletePolicy, TargetTable
from cdc.target.sqlite_database import quote
from cdc.target.sqlround import BORROWING, DELETE, FULL, PARTIAL, POSITION, Statements
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


def compose(table: TargetTable, table_id: int, stage: str, now: str) -> Statements:
    """The statements for `table`, whose row in cdc_target_table has `table_id`; `stage` names the temporary table."""
    return _Composer(table, table_id, stage, now).all()


class _Composer:
    def __init__(self, table: TargetTable, table_id: int, stage: str, now: str) -> None:
        self.table = table
        self.target = f"main.{quote(table_name(table))}"
        self.tombstones = f"main.{tombstone_name(table_id)}"
        self.lent = f"main.{lent_name(table_id)}"
        self.stage, self.moves = f"temp.{stage}", f"temp.{stage}_moves"
        self.names = [quote(column.name) for column in table.columns]
        self.others = [quote(column.name) for column in table.columns if column.name not in table.key]
        self.keys = [quote(name) for name in table.key]
        self.soft = quote(table.soft_delete) if table.on_delete is DeletePolicy.SOFT and table.soft_delete else None
        self.p = quote(POSITION)
        self.now = now
        self.floor = f"(SELECT floor_position FROM main.cdc_target_table WHERE id = {table_id})"
        self.t_is_s, self.d_is_s = self.same_key("t", "s"), self.same_key("d", "s")
        self.guard = f"coalesce(t.{self.p}, x'') <= s._position"
        self.newest = (
            f"max(coalesce((SELECT t.{self.p} FROM {self.target} t WHERE {self.t_is_s}), x''),"
            f" coalesce((SELECT d._position FROM {self.tombstones} d WHERE {self.d_is_s}), x''), {self.floor})"
        )

    def same_key(self, left: str, right: str) -> str:
        return " AND ".join(f"{left}.{key} = {right}.{key}" for key in self.keys)

    def key(self, alias: str = "") -> str:
        return _list(self.keys, alias)

    def present(self, under: str) -> list[str]:
        """Assignments of the columns that a change has, the others from `under`."""
        places = {name: number for number, name in enumerate(self.names, 1)}
        return [
            f"{name} = CASE substr(s._mask, {places[name]}, 1) WHEN '1' THEN s.{name} ELSE {under}.{name} END"
            for name in self.others
        ]

    def all(self) -> Statements:
        return Statements(
            clear=(f"DELETE FROM {self.stage}", f"DELETE FROM {self.moves}"),
            stage=f"INSERT INTO {self.stage} VALUES ({marks(5 + len(self.names))})",
            stage_moves=f"INSERT INTO {self.moves} VALUES ({marks(4)})",
            drop=(f"DROP TABLE {self.stage}", f"DROP TABLE {self.moves}"),
            mixed=f"SELECT s._n FROM {self.stage} s WHERE s._base < s._position AND s._position >= {self.newest}"
            f" AND s._base < {self.newest}",
            remove=f"DELETE FROM {self.stage} WHERE _n = ?",
            lend=self.lend(),
            delete=self.delete(),
            bury=(self.bury(),),
            settle_redelivered=f"UPDATE {self.stage} AS s SET _op = {PARTIAL} FROM {self.target} t"
            f" WHERE s._op = {BORROWING} AND {self.t_is_s} AND t.{self.p} = s._position",
            borrow=self.borrow(),
            upsert=(self.upsert(),),
            partial=self.partial(),
            unbury=f"DELETE FROM {self.tombstones} WHERE ({self.key()}) IN (SELECT {self.key('s')} FROM {self.stage} s"
            f" CROSS JOIN {self.target} t ON {self.t_is_s} CROSS JOIN {self.tombstones} d ON {self.d_is_s}"
            f" WHERE s._op <> {DELETE} AND t.{self.p} >= d._position)",
            forget_lent=f"DELETE FROM {self.lent} WHERE (_mapping, _move, _place) IN"
            f" (SELECT m._mapping, m._move, m._place FROM {self.moves} m CROSS JOIN {self.stage} s ON s._n = m._n"
            f" CROSS JOIN {self.target} t ON {self.t_is_s} WHERE s._op <> {DELETE} AND t.{self.p} = s._position)",
            unapplied=self.unapplied(),
            stale=f"SELECT s._n FROM {self.stage} s WHERE s._position < {self.newest}",
            truncate=self.truncate(),
            sweep_examples=f"SELECT {self.key()} FROM {self.target} t WHERE {self.swept} ORDER BY {self.key()} LIMIT 5",
            sweep_bury=self.sweep_bury(),
            sweep=self.sweep(),
            purge=self.purge(),
        )

    def lend(self) -> str:
        return (
            f"INSERT INTO {self.lent} (_mapping, _move, _place, _lent_us, {_list(self.names)})"
            f" SELECT m._mapping, m._move, m._place, {self.now}, {_list(self.names, 't')}"
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

    def upsert(self) -> str:
        assignments = [f"{name} = excluded.{name}" for name in [*self.others, self.p]]
        extra = value = ""
        if self.soft is not None:
            extra, value = f", {self.soft}", ", 0"
            assignments.append(f"{self.soft} = 0")
        return (
            f"INSERT INTO {self.target} AS t ({_list(self.names)}, {self.p}{extra})"
            f" SELECT {_list(self.names, 's')}, s._position{value} FROM {self.stage} s"
            f" WHERE s._op = {FULL} AND s._position >= {self.floor}"
            f" AND NOT EXISTS (SELECT 1 FROM {self.tombstones} d WHERE {self.d_is_s} AND d._position > s._position)"
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

    def unapplied(self) -> str:
        return (
            f"SELECT s._n, s._op, s._position < {self.newest} FROM {self.stage} s WHERE (s._op <> {DELETE} AND NOT"
            f" EXISTS (SELECT 1 FROM {self.target} t WHERE {self.t_is_s} AND t.{self.p} = s._position))"
            f" OR (s._op = {DELETE} AND s._position < {self.newest})"
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
        kept = f"SELECT {self.key()} FROM {self.stage}"
        return f"coalesce(t.{self.p}, x'') < ?{alive} AND ({self.key('t')}) NOT IN ({kept})"

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


def _list(names: list[str], alias: str = "") -> str:
    return ", ".join(f"{alias}.{name}" if alias else name for name in names)
