"""Histories in a PostgreSQL target: its words for the statements of sqlhistory.py, and their place in a round."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from cdc.model import Decision, History, Outcome, Position, TargetTable
from cdc.moments import moment
from cdc.target.postgres_round import Round
from cdc.target.postgres_statements import FULL, PARTIAL, Composer, identifier, tombstone_name
from cdc.target.postgres_types import timestamptz_literal
from cdc.target.sqlhistory import MISSING, HistorySql, HistoryStatements, Words, update_from

WAITS = Decision(Outcome.PARKED, "partial_image", "no change that tells the whole row stands before it")


@dataclass(frozen=True)
class PreparedHistory:
    """`statements` without parameters, and those of a sweep."""

    statements: HistoryStatements
    sweep: HistoryStatements


class HistoryComposer(Composer):
    """Statements of a table whose rows are changes. Partial ones are inserted with their mask."""

    def upsert(self, undeleted: sql.SQL | sql.Composed) -> sql.SQL | sql.Composed:
        if not self.table.partials:
            return super().upsert(undeleted)
        missing = identifier(MISSING)
        assignments = [
            sql.SQL("{c} = CASE substr(excluded.{m}, {n}, 1) WHEN '0' THEN t.{c} ELSE excluded.{c} END").format(
                c=identifier(name), m=missing, n=sql.Literal(number)
            )
            for number, name in enumerate(self.names, 1)
            if name not in self.table.key
        ]
        return self.text(
            "INSERT INTO {target} AS t ({columns}, {p}, {missing}) OVERRIDING SYSTEM VALUE"
            " SELECT {s_columns}, s._position, CASE WHEN s._mask LIKE '%0%' THEN s._mask END FROM {stage} s"
            " ORDER BY {s_key} ON CONFLICT ({key}) DO UPDATE SET {assignments}, {missing} = excluded.{missing}",
            columns=self.columns(),
            s_columns=self.columns("s."),
            missing=missing,
            assignments=sql.SQL(", ").join(assignments),
        )

    def history(self) -> PreparedHistory:
        plain = HistorySql.of(self._words(lambda name: identifier(name).as_string(None)), self.table)
        doubled = HistorySql.of(
            self._words(lambda name: identifier(name).as_string(None).replace("%", "%%"), "%(position)s"), self.table
        )
        return PreparedHistory(plain.all(self.table.partials), doubled.all(partials=False))

    def _words(self, quote: Any, place: str = "?") -> Words:
        quoted = [quote(name) for name in self.table.key]
        same = " AND ".join(f"t.{name} = s.{name}" for name in quoted)
        stage, target = (
            f"pg_temp.{self.stage_name.as_string(None)}",
            ".".join(map(quote, (self.table.namespace, self.table.name))),
        )
        settle = f"UPDATE {stage} s SET _op = {FULL} FROM {target} t WHERE s._op = {PARTIAL} AND {same}"
        return words(quote, target, stage, self.id.as_string(None), settle, place)


def words(quote: Any, target: str, stage: str, table_id: str, settle: str = "", place: str = "?") -> Words:
    return Words(
        quote=quote,
        target=target,
        stage=stage,
        truncates=f"(SELECT position, at FROM cdc.history_truncate WHERE table_id = {table_id})",
        update=update_from(target),
        delete=lambda condition: f"DELETE FROM {target} t WHERE {condition}",
        settle=settle,
        place=place,
        lowest="decode(min(encode({}, 'hex') COLLATE \"C\"), 'hex')".format,  # bytes have no min before release 18
    )


class HistoryRound(Round):
    """A round of changes: they are written as rows are, then what follows from them."""

    def run(self) -> dict[int, Decision]:
        super().run()
        assert self.prepared.history is not None
        statements = self.prepared.history.statements
        if self.numbers[PARTIAL]:
            for (number,) in self._execute(statements.waiting).fetchall():
                self.decisions[number] = WAITS
            self._execute(statements.forget)
        if self._execute(statements.any_truncates).fetchone() is not None:
            self._execute(statements.forget_truncated)
            self._execute(statements.truncated)
        if statements.filled:
            self._execute(statements.filled)
        if statements.dated:
            self._execute(statements.dated)
        return self.decisions

    def _write(self, deleted: bool) -> int:
        if self.numbers[PARTIAL]:
            assert self.prepared.history is not None
            self._execute(self.prepared.history.statements.settle)
        applied = self.connection.execute(self.statements.upsert_undeleted).rowcount
        if self.prepared.links.check is not None:
            self.connection.execute(self.prepared.links.check)
        return applied

    def _execute(self, statement: str) -> psycopg.Cursor[Any]:
        return self.connection.execute(sql.SQL(statement))


def truncate_history(
    connection: psycopg.Connection[Any], table: TargetTable, table_id: int, position: Position, time_us: int | None
) -> None:
    """Remember the truncate, and end every row that was there. The table may be known by its name only."""
    history = table.history
    assert history is not None
    connection.execute(
        "INSERT INTO cdc.history_truncate (table_id, position, at) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
        (table_id, position.pack(), timestamptz_literal(moment(time_us or 0))),
    )
    key = _own_key(connection, table_id, history)
    if not key:
        return  # no row yet: those on their way find it
    quote = _quoted
    target = ".".join(map(quote, (table.namespace, table.name)))
    for statement in HistorySql(words(quote, target, "", str(table_id)), key, history).whole_table():
        if statement:
            connection.execute(sql.SQL(statement))


def sweep_history(
    connection: psycopg.Connection[Any], prepared: PreparedHistory, position: Position
) -> tuple[int, list[Any]]:
    """How many rows were found gone, and a few of their keys. The kept keys are staged."""
    at = {"position": position.pack()}
    examples = connection.execute(sql.SQL(prepared.sweep.sweep_examples), at).fetchall()
    swept = connection.execute(sql.SQL(prepared.sweep.swept), at).rowcount
    if swept and prepared.statements.sweep_dated:
        connection.execute(sql.SQL(prepared.statements.sweep_dated))
    return swept, examples


def _own_key(connection: psycopg.Connection[Any], table_id: int, history: History) -> list[str]:
    """The key columns of the rows whose changes these are; what remembers deleted rows has them all."""
    rows = connection.execute(
        "SELECT attname::text FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped"
        " ORDER BY attnum",
        (f"cdc.{tombstone_name(table_id)}",),
    ).fetchall()
    others = {history.position, history.operation, "_position", "buried_at"}
    return [name for (name,) in rows if name not in others]


def _quoted(name: str) -> str:
    return identifier(name).as_string(None)
