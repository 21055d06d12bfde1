"""Expected rows beside the target's own: temporary tables in the target, compared by the target itself.

Both sides pass through the same columns' types, and two rows are equal when the server writes them as the same text.
That is stricter than the types' own `=` where those are lax (1.0 and 1.00, a month and thirty days, two spellings of a
citext), and it is defined where they have none (json, point).

    stage     expected rows of one round: 0 is the first pass, each later one reads the open keys again. `_cdc_mask` has
              a '0' for each column that is not compared (empty: all are); `_cdc_reason` says why a row cannot be
              written at all (its other columns are NULL then)
    image     the expected rows of open keys in all rounds; `_cdc_absent` where a round found no row
    open      the keys that differ, `_cdc_state` '' while undecided
    parked    the keys that are parked
    found     what differs in the end
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from cdc.db import postgres
from cdc.errors import Poison, Terminal
from cdc.model import UNAVAILABLE, Kind, MappedRow, TargetTable, Value
from cdc.reconcile.report import Cell, Difference, What
from cdc.reconcile.staging_sql import StagingSql
from cdc.target.postgres_found import find
from cdc.target.postgres_lines import copy_line_builder
from cdc.target.rows import NoTable

CONFIRMED, EXCUSED, UNSETTLED = "confirmed", "excused", "unsettled"  # _cdc_state, beside ''
_UNDEFINED_TABLE = "42P01"
_META_FIELDS = 3  # _cdc_round, _cdc_mask, _cdc_reason
READ_KEYS = 1000
"""Keys that are read again at a time."""


class Refused(NamedTuple):
    """A source row that the mapping refuses. `key` is its target key, None where that cannot be told."""

    key: tuple[Value, ...] | None
    reason: str


@dataclass(frozen=True)
class Totals:
    """Decided keys by `What`, and the number of `different` rows by column."""

    confirmed: dict[What, int]
    excused: int
    unsettled: int
    columns: tuple[tuple[str, int], ...]


class Staging:
    """The temporary tables for one target table, on a connection of their own. Not for several threads."""

    def __init__(
        self, connection: postgres.Connection, table: TargetTable, where: str, *, number: int = 1, keeps: bool = False
    ) -> None:
        self._connection = connection
        self._table = table
        self._where = where
        found = find(connection, table)
        columns = found.typed(table.columns) if found else table.columns
        self._sql = StagingSql(table, number=number, keeps=keeps, domains=found.domains if found else {})
        self._line = copy_line_builder(columns)
        keys = [columns[index] for index in table.key_indexes]
        self._key_line = copy_line_builder(keys)
        self._key_kinds = [column.type.kind for column in keys]
        self.refused_without_key = 0
        """Rows that cannot be written and whose key cannot be told, in the first pass."""
        self._create()

    def _create(self) -> None:
        try:
            for statement in self._sql.create():
                self._run(statement)
        except self._connection.ProgrammingError as error:
            kind = NoTable if getattr(error, "sqlstate", None) == _UNDEFINED_TABLE else Terminal
            raise kind(
                f"the target table cannot be compared: {str(error).partition(chr(10))[0]}",
                where=f"{self._where}, {self._table.namespace}.{self._table.name}",
                hint="has the pipeline run? cdc run creates the table and its columns",
            ) from error

    def drop(self) -> None:
        self._run(self._sql.drop)

    # --- what is expected

    def expect(self, rows: Sequence[MappedRow | Refused], number: int) -> None:
        """Stage what a source's rows should be at the target, as read in round `number`."""
        lines = [line for row in rows if (line := self._staged(row, number)) is not None]
        self._copy(lines, number)

    def _staged(self, row: MappedRow | Refused, number: int) -> str | None:
        if isinstance(row, Refused):
            return self._refused(row, number)
        assert row.values is not None
        mask = "".join("0" if each is UNAVAILABLE else "1" for each in row.values) if row.partial else ""
        try:
            return f"{number}\t{mask}\t\\N\t{self._line(row.values)}"
        except Poison as error:
            return self._refused(Refused(row.key, error.what), number)

    def _refused(self, row: Refused, number: int) -> str | None:
        if row.key is not None:
            values: list[Value] = [None] * len(self._table.columns)
            for index, value in zip(self._table.key_indexes, row.key, strict=True):
                values[index] = value
            try:
                return f"{number}\t\t{_one_line(row.reason)}\t{self._line(values)}"
            except Poison:
                pass  # the key itself is what the column cannot hold
        self.refused_without_key += number == 0
        return None

    def _copy(self, lines: Sequence[str], number: int) -> None:
        """COPY the lines; one that a column's type refuses is found by halving, and staged as a refused row."""
        if not lines:
            return
        try:
            with self._connection.cursor() as cursor, cursor.copy(self._sql.copy_stage.encode()) as copy:
                copy.write("\n".join(lines) + "\n")
        except self._connection.DataError as error:
            if len(lines) > 1:
                middle = len(lines) // 2
                self._copy(lines[:middle], number)
                self._copy(lines[middle:], number)
            else:
                self._copy_refused(lines[0], number, error)

    def _copy_refused(self, line: str, number: int, error: Exception) -> None:
        fields = line.split("\t")
        if fields[2] != "\\N":  # it was a key only already
            self.refused_without_key += number == 0
            return
        state = getattr(error, "sqlstate", None) or type(error).__name__
        keys = {_META_FIELDS + index for index in self._table.key_indexes}
        kept = [field if index in keys else "\\N" for index, field in enumerate(fields)]
        kept[0], kept[1], kept[2] = fields[0], "", f"the target's column type refuses a value ({state})"
        self._copy(["\t".join(kept)], number)

    # --- comparing

    def first_pass(self) -> int:
        """Compare everything staged with the whole target table; the number of keys that differ."""
        self._run(f"ANALYZE {self._sql.stage}")
        self._run(self._sql.find_open)
        return self._number(self._sql.undecided)

    def target_counts(self) -> tuple[int, int]:
        """Rows of the target table, and soft-deleted ones beside them."""
        row = self._connection.execute(self._sql.counts.encode(), {}).fetchone()
        assert row is not None
        return int(row[0]), int(row[1])

    def kept(self) -> int:
        """Rows that the target has and the first pass did not expect. Asked before the first round."""
        return self._number(self._sql.kept)

    def open_keys(self) -> Iterator[list[tuple[str, ...]]]:
        """The undecided keys as text, in lists of a bounded length."""
        last = 0
        while True:
            asked = {"last": last, "limit": READ_KEYS}
            rows = self._connection.execute(self._sql.open_keys.encode(), asked).fetchall()
            if not rows:
                return
            last = rows[-1][0]
            yield [tuple(row[1:]) for row in rows]

    def take_images(self, number: int) -> None:
        """Keep what was staged in round `number` of the undecided keys, and empty the stage."""
        for statement in self._sql.take_images:
            self._run(statement, {"round": number})

    def settle(self, number: int, now: float, settle_s: float) -> int:
        """Judge the undecided keys by what round `number` read of them; how many stay undecided.

        A key is settled (and forgotten) when the target shows something that the source held in this round or an
        earlier one; confirmed as different when its source row has stood still for `settle_s` and the target has not
        come to it.
        """
        self._run(self._sql.forget_settled)
        self._run(self._sql.note_changes, {"round": number, "now": now})
        self._run(self._sql.excuse)
        self._run(self._sql.confirm, {"before": now - settle_s})
        return self._number(self._sql.undecided)

    def give_up(self) -> None:
        """What is undecided now stays unsettled."""
        self._run(self._sql.give_up)

    # --- parked keys

    def read_parked(self, pipeline: str, target: str) -> tuple[int, int]:
        """Take note of this mapping's parked keys; their number, and that of parked records without a key."""
        self._run(f"TRUNCATE {self._sql.parked}")
        if self._connection.execute("SELECT to_regclass('cdc.parked')").fetchone() == (None,):
            return 0, 0
        rows = self._connection.execute(
            "SELECT hold, count(*) FROM cdc.parked WHERE pipeline = %s AND target = %s AND mapping = %s GROUP BY hold",
            (pipeline, target, self._table.mapping),
        ).fetchall()
        lines = []
        without = 0
        for hold, number in rows:
            line = self._held(hold)
            if line is None:
                without += number
            else:
                lines.append(line)
        if lines:
            with self._connection.cursor() as cursor, cursor.copy(self._sql.copy_parked.encode()) as copy:
                copy.write("\n".join(lines) + "\n")
        return len(lines), without

    def _held(self, hold: str) -> str | None:
        """A hold text (JSON of the canonical key) as a line for the table of parked keys."""
        if not hold:
            return None
        values = msgspec.json.decode(hold)
        key = [
            b64decode(value) if kind is Kind.BYTES else value
            for kind, value in zip(self._key_kinds, values, strict=True)
        ]
        try:
            return self._key_line(key)
        except Poison:
            return None

    # --- results

    def totals(self) -> Totals:
        """Count what was decided. Asked once, at the end."""
        self._run(self._sql.find)
        counts: dict[What, int] = {}
        excused = unsettled = 0
        for what, state, number in self._connection.execute(self._sql.totals.encode(), {}):
            if not what:
                continue  # came right after it was decided
            if state == CONFIRMED:
                counts[What(what)] = number
            elif state == EXCUSED:
                excused += number
            else:
                unsettled += number
        row = self._connection.execute(self._sql.column_totals.encode(), {}).fetchone()
        assert row is not None
        names = [column.name for column in self._table.columns]
        by_column = tuple((name, number) for name, number in zip(names, row, strict=True) if number)
        return Totals(counts, excused, unsettled, by_column)

    def examples(self, limit: int, *, values: bool) -> tuple[Difference, ...]:
        """Up to `limit` decided keys, confirmed ones first."""
        rows = self._connection.execute(self._sql.examples.encode(), {"limit": limit}).fetchall()
        return tuple(self._difference(*row, values=values) for row in rows)

    def _difference(
        self,
        what: str,
        state: str,
        key: Sequence[str | None],
        reason: str | None,
        differing: Sequence[bool] | None,
        expected: Sequence[str | None],
        actual: Sequence[str | None],
        *,
        values: bool,
    ) -> Difference:
        names = [column.name for column in self._table.columns]
        places = [index for index, differs in enumerate(differing or ()) if differs] if what == What.DIFFERENT else []
        return Difference(
            What(what),
            tuple(key),
            tuple(names[index] for index in places),
            reason or "",
            settled=state != UNSETTLED,
            excused=state == EXCUSED,
            cells=tuple(Cell(names[index], expected[index], actual[index]) for index in places) if values else (),
        )

    def _run(self, statement: str, parameters: dict[str, Any] | None = None) -> None:
        self._connection.execute(statement.encode(), parameters or {})

    def _number(self, statement: str) -> int:
        row = self._connection.execute(statement.encode(), {}).fetchone()
        return int(row[0]) if row else 0


def _one_line(text: str) -> str:
    return " ".join(text.replace("\\", "/").split())
