"""MariaDB's words for the statements of sqlhistory.py."""

from __future__ import annotations

from collections.abc import Sequence

from cdc.db.mariadb import quote
from cdc.model import TargetTable
from cdc.target.mariadb_database import MariaDbDatabase
from cdc.target.mariadb_statements import MariaDbComposer
from cdc.target.sqlcompose import listed
from cdc.target.sqlhistory import MISSING, Words
from cdc.target.sqlround import DELETE, FULL, PARTIAL


class MariaDbHistoryComposer(MariaDbComposer):
    """Statements of a table whose rows are changes. Partial ones are inserted with their mask."""

    def upsert(self, wanted: str = "") -> tuple[str, str]:
        if not self.table.partials or not self.keys:
            return super().upsert(wanted)
        places = {name: number for number, name in enumerate(self.names, 1)}
        assignments = [
            f"t.{name} = IF(coalesce(substr(s._mask, {places[name]}, 1), '1') = '1', s.{name}, t.{name})"
            for name in self.others
        ]
        missing, mask = quote(MISSING), "IF(instr(s._mask, '0'), s._mask, NULL)"
        return (
            f"UPDATE {self.s_join_t} SET {', '.join(assignments)}, t.{missing} = {mask}, t.{self.p} = s._position"
            f" WHERE s._op <> {DELETE}",
            f"INSERT INTO {self.target} ({listed(self.names)}, {self.p}, {missing})"
            f" SELECT {listed(self.names, 's')}, s._position, {mask} FROM {self.stage} s"
            f" LEFT JOIN {self.target} t ON {self.t_is_s} WHERE s._op <> {DELETE} AND t.{self.keys[0]} IS NULL",
        )


def words(database: MariaDbDatabase, table: TargetTable, table_id: int, stage: str) -> Words:
    target, staged = quote(table.namespace, table.name), quote(database.name, stage)
    same_key = " AND ".join(f"t.{quote(name)} = s.{quote(name)}" for name in table.key)

    def update(rows: str, key: Sequence[str], columns: Sequence[str]) -> str:
        assignments = ", ".join(f"t.{name} = n.{name}" for name in columns)
        same = " AND ".join(f"t.{name} = n.{name}" for name in key)
        return f"UPDATE ({rows}) n STRAIGHT_JOIN {target} t ON {same} SET {assignments}"

    truncates = quote(database.name, "cdc_history_truncate")
    return Words(
        quote=quote,
        target=target,
        stage=staged,
        truncates=f"(SELECT position, at FROM {truncates} WHERE table_id = {table_id})",
        update=update,
        delete=lambda condition: f"DELETE t FROM {target} t WHERE {condition}",
        settle=f"UPDATE {staged} s STRAIGHT_JOIN {target} t ON {same_key} SET s._op = {FULL} WHERE s._op = {PARTIAL}",
    )
