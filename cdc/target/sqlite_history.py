"""SQLite's words for the statements of sqlhistory.py."""

from __future__ import annotations

from cdc.model import TargetTable
from cdc.target.sqlcompose import listed
from cdc.target.sqlhistory import MISSING, Words, update_from
from cdc.target.sqlite_database import quote
from cdc.target.sqlite_statements import SqliteComposer, table_name
from cdc.target.sqlround import DELETE, FULL, PARTIAL


class SqliteHistoryComposer(SqliteComposer):
    """Statements of a table whose rows are changes. Partial ones are inserted with their mask."""

    def upsert(self, wanted: str = "") -> str:
        if not self.table.partials or not self.keys:
            return super().upsert(wanted)
        missing, places = quote(MISSING), {name: number for number, name in enumerate(self.names, 1)}
        assignments = [
            f"{name} = CASE substr(excluded.{missing}, {places[name]}, 1) WHEN '0' THEN t.{name}"
            f" ELSE excluded.{name} END"
            for name in self.others
        ]
        return (
            f"INSERT INTO {self.target} AS t ({listed(self.names)}, {self.p}, {missing})"
            f" SELECT {listed(self.names, 's')}, s._position, CASE WHEN instr(s._mask, '0') THEN s._mask END"
            f" FROM {self.stage} s WHERE s._op <> {DELETE} ON CONFLICT ({self.key()}) DO UPDATE SET"
            f" {', '.join(assignments)}, {missing} = excluded.{missing}"
        )


def words(table: TargetTable, table_id: int, stage: str) -> Words:
    target = f"main.{quote(table_name(table))}"
    same_key = " AND ".join(f"t.{quote(name)} = s.{quote(name)}" for name in table.key)

    return Words(
        quote=quote,
        target=target,
        stage=f"temp.{stage}",
        truncates=f"(SELECT position, at FROM main.cdc_history_truncate WHERE table_id = {table_id})",
        update=update_from(target),
        delete=lambda condition: f"DELETE FROM {target} AS t WHERE {condition}",
        settle=f"UPDATE temp.{stage} AS s SET _op = {FULL} FROM {target} t WHERE s._op = {PARTIAL} AND {same_key}",
    )
