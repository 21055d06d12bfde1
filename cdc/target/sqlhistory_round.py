"""Histories in the targets of sqlround.py: their place in a round, in a truncate and in a sweep."""

from __future__ import annotations

from collections.abc import Sequence

from cdc.model import APPLIED, Decision, History, Outcome, Position, TargetTable
from cdc.target.base import SweepReport
from cdc.target.sqlhistory import MISSING, HistorySql, HistoryStatements, Words
from cdc.target.sqlround import PARTIAL, PreparedTable, Round
from cdc.target.sqlstate import Database

_WAITS = Decision(Outcome.PARKED, "partial_image", "no change that tells the whole row stands before it")


class HistoryRound(Round):
    """A round of changes: they are written as rows are, then what follows from them."""

    def run(self, deferring: bool = False) -> dict[int, Decision]:
        super().run(deferring)
        statements, database = self.history, self.database
        if self.numbers[PARTIAL]:
            self.decisions.update((number, _WAITS) for (number,) in database.rows(statements.waiting))
            database.run(statements.forget)
        if database.rows(statements.any_truncates):
            database.run(statements.forget_truncated)
            database.run(statements.truncated)
        for statement in filter(None, (statements.filled, statements.dated)):
            database.run(statement)
        return self.decisions

    @property
    def history(self) -> HistoryStatements:
        assert self.prepared.history is not None
        return self.prepared.history

    def _write(self, deleted: bool) -> int:
        if self.numbers[PARTIAL]:
            self.database.run(self.history.settle)
        return self.upsert(len(self.writes), self.statements.upsert_undeleted)


def truncate_history(
    database: Database, words: Words, history: History, key: Sequence[str], table_id: int, position: Position, at: str
) -> Decision:
    """Remember a truncate, and end every row that was there. `key`: of the rows, empty while no table is there; `at`:
    as the target takes moments."""
    database.run(
        "INSERT INTO cdc_history_truncate (table_id, position, at) VALUES (?, ?, ?)"
        + database.on_conflict(("table_id", "position")),
        (table_id, position.pack(), at),
    )
    for statement in HistorySql(words, key, history).whole_table() if key else ():
        if statement:
            database.run(statement)
    return APPLIED


def sweep_history(database: Database, prepared: PreparedTable, position: Position) -> SweepReport:
    """The kept keys are staged."""
    statements = prepared.history
    assert statements is not None

    def places(statement: str) -> tuple[bytes, ...]:
        return (position.pack(),) * statement.count("?")

    examples = database.rows(statements.sweep_examples, places(statements.sweep_examples))
    swept = database.run(statements.swept, places(statements.swept))
    if swept and statements.sweep_dated:
        database.run(statements.sweep_dated)
    return SweepReport(swept, tuple(", ".join(map(str, row)) for row in examples))


def own_key(names: Sequence[str], history: History) -> list[str]:
    """The key of the rows whose changes these are, of the columns of the table that remembers deleted keys."""
    others = {history.position, history.operation, "_position", "_buried_us"}
    return [name for name in names if name not in others]


def extra_columns(table: TargetTable, moment: str, mark: str, mask: str) -> list[tuple[str, str]]:
    """Columns of a history that no change brings, with their types. A new version is the current one."""
    history, found = table.history, list[tuple[str, str]]()
    if history is not None and history.valid_to and history.current:
        found += [(history.valid_to, moment), (history.current, f"{mark} NOT NULL DEFAULT 1")]
    if history is not None and table.partials:
        found.append((MISSING, mask))
    return found
