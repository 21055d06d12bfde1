"""One round of a batch in a PostgreSQL table with conflict rules.

What meets no conflict is written first, by one statement that compares as it writes; when that was all, the round is
over. Only of what is left the facts are read, and decided here by `cdc.rules.judge`; each kind of step is then one
statement for all rows. A row that somebody changes in between is not written: the batch is played again.

Beside the same table without rules, 14 columns of which 6 have one, batches of 5,000, a busy machine, three runs of
tests/bench/postgres.py: onto existing rows 0.84 to 0.95, with a conflict in every hundredth 0.87 to 1.04, new rows 0.72
to 0.84; before images of all columns compared 0.67 to 0.74 (twice the values come in), of changed ones 0.68 to 0.72.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import psycopg
from msgspec.structs import replace

from cdc.decisions import KEPT, named, seen
from cdc.errors import Poison, Transient
from cdc.model import (
    APPLIED,
    UNAVAILABLE,
    Action,
    ConflictType,
    Decision,
    DeletePolicy,
    Detect,
    MappedRow,
    Outcome,
    Position,
    RowOp,
    Value,
    Write,
)
from cdc.rules import Facts, Step, effective, judge
from cdc.target.base import PoisonRow
from cdc.target.lines import Line
from cdc.target.postgres_lines import copy_line_builder
from cdc.target.postgres_round import MIXED, NOT_KEPT, PreparedTable, Round, missing
from cdc.target.postgres_ruled_statements import BITS, CREATED, MOVED, UNKNOWN, RuledStatements
from cdc.target.postgres_statements import BORROWING, DELETE, FULL

_WINNERS = (Action.NEWEST, Action.OLDEST, Action.UPDATE_IF_NEWER)
_PAIRED = {
    Step.MERGE: "merge_pairs",
    Step.REPLACE: "replace_pairs",
    Step.REMOVE: "remove_pairs",
    Step.KEEP: "keep_pairs",
}


_ALL_BITS = (1 << BITS) - 1


class _Left(NamedTuple):
    """A staged change that is to be decided: where it is staged, and the row that it met, if any."""

    here: str
    there: str | None
    number: int


class RuledRound(Round):
    """See `Round`; the statements of the table's rules are `ruled`."""

    def __init__(
        self,
        connection: psycopg.Connection[Any],
        prepared: PreparedTable,
        writes: Sequence[Write],
        deferring: bool = False,
    ) -> None:
        super().__init__(connection, prepared, writes, deferring)
        assert prepared.ruled is not None
        assert prepared.table.rules is not None
        self.ruled: RuledStatements = prepared.ruled
        self.rules = prepared.table.rules
        self.soft = prepared.table.on_delete is DeletePolicy.SOFT
        self._version: Line | None = None
        if self.rules.version is not None:
            self._version = copy_line_builder([prepared.columns[self.rules.version]])
        self._met: dict[ConflictType, dict[int, _Left]] = {}
        self._seen: dict[int, tuple[tuple[str | None, ...] | None, tuple[str | None, ...]]] = {}
        self._before = copy_line_builder([prepared.columns[index] for index in self.rules.compared])

    def run(self) -> dict[int, Decision]:
        if self.prepared.loading and self._load():
            return {}
        if self.encoded is not None and not self.encoded.ruled:
            self.encoded, self.numbers = None, [0, 0, 0, 0]  # made for loading
        self._lock_out_truncates()
        self.copy()
        if self.moves:
            self._stage_moves()
        if self.numbers[DELETE]:
            self._ruled_deletes()
        if len(self.writes) > self.numbers[DELETE]:
            self._ruled_upserts()
        if self._met:
            self._tell()
        return self.decisions

    # -- the staging table

    def copy(self) -> None:
        if self.encoded is None:
            self._copy(self.ruled.copy_stage, self._ruled_lines())
            return
        if self.encoded.upserts:
            self._send(self.ruled.copy_full, self.encoded.upserts)
        if self.encoded.deletes:
            self._send(self.ruled.copy_deletes, self.encoded.deletes)

    def _only_full_images(self) -> bool:
        """And new ones: to update what is not there is a conflict."""
        if self.rules.detect is Detect.COMMIT_TIME or not super()._only_full_images():
            return False
        if self.encoded is not None:
            return not self.encoded.ruled
        return all(write.row.created for write in self.writes)

    def _ruled_lines(self) -> Iterator[str]:
        more = self._fields()
        for write, line in zip(self.writes, self._lines(), strict=True):
            row = write.row
            kind = CREATED * row.created | MOVED * (row.moved_from is not None)
            yield f"{line[:-1]}\t{more(write, kind)}\n"

    def _fields(self) -> Callable[[Write, int], str]:
        """Makes the fields of `_kind` and, after it, `typed_extras`."""
        if self.rules.reads_before and self.rules.compared:
            return lambda write, kind: f"{kind}\t{self._before_text(write.row)}"
        if self.rules.version is not None:
            return lambda write, kind: self._version_text(write.rows[0], kind)
        if self.rules.detect is Detect.COMMIT_TIME:
            return lambda write, kind: f"{kind}\t{_time(write.rows[0])}\t{_time(write.row)}"
        return lambda write, kind: str(kind)

    def _version_text(self, first: MappedRow, kind: int) -> str:
        assert self._version is not None
        assert self.rules.version is not None
        image = first.values or first.before
        if image is None:
            return f"{kind | UNKNOWN}\t\\N"
        return f"{kind}\t{self._version((image[self.rules.version],))}"

    def _before_text(self, row: MappedRow) -> str:
        """What the table could not hold anyway is not compared; what did not change is sent once."""
        compared, before, new = self.rules.compared, row.before, row.values
        given: list[Value] = [None] * len(compared)
        seen_bits = given_bits = 0
        for place, index in enumerate(compared) if before is not None else ():
            old = before[index]  # type: ignore[index]
            if old is not UNAVAILABLE:
                seen_bits |= 1 << place
                if new is None or new[index] != old:
                    given_bits |= 1 << place
                    given[place] = old
        try:
            text = self._before(given)
        except Poison:
            before, text = None, self._before([None] * len(compared))
        fields = []
        for first in range(0, len(compared), BITS):
            fields.append("\\N" if before is None else str(seen_bits >> first & _ALL_BITS))
            fields.append(str(given_bits >> first & _ALL_BITS))
        return "\t".join([*fields, text])

    # -- deletes

    def _ruled_deletes(self) -> None:
        execute, statements = self.connection.execute, self.statements
        if self.prepared.table.on_delete is DeletePolicy.IGNORE:
            if self.moves:
                execute(statements.lend)
            for number, write in enumerate(self.writes):
                if write.row.op is RowOp.DELETE:
                    self.decisions[number] = Decision(Outcome.SKIPPED, "ignored_delete")
            return
        steps = self._decide(execute(self.ruled.delete_facts).fetchall())
        gone = self._drop([*steps[Step.NOTHING], *steps[Step.MIXED]])
        if self.moves:
            execute(statements.lend)
        self._execute(Step.KEEP, steps)
        gone += self._drop(steps[Step.KEEP])
        marked = self._execute(Step.REMOVE, steps)
        marked += execute(self.ruled.remove).rowcount
        buried = execute(statements.bury).rowcount
        if buried + (marked if self.soft else 0) < self.numbers[DELETE] - gone:
            self._look(execute(self.ruled.undeleted).fetchall())

    # -- upserts

    def _ruled_upserts(self) -> None:
        execute, statements = self.connection.execute, self.statements
        if self.numbers[BORROWING]:
            execute(statements.settle_redelivered)
            execute(statements.borrow)
        self._check_unique()
        left = len(self.writes) - self.numbers[DELETE] - execute(self.ruled.merge).rowcount
        if left:
            steps = self._decide(execute(self.ruled.upsert_facts).fetchall())
            left -= self._drop([*steps[Step.NOTHING], *steps[Step.MIXED]])
            for step in (Step.KEEP, Step.MERGE, Step.REPLACE):
                left -= self._execute(step, steps)
            self._drop(steps[Step.KEEP])
            # What remains is not there, or came once more.
            if left and execute(self.ruled.insert).rowcount < left:
                self._look(execute(self.ruled.uninserted).fetchall())
        if execute(statements.has_tombstones).fetchone() == (True,):
            execute(statements.unbury)
        if self.moves:
            execute(statements.forget_lent)

    def _check_unique(self) -> None:
        """A row alone that several unique indexes are against: the server names only the first of them."""
        wanted = any(type_ is ConflictType.MULTIPLE_UNIQUE_CONFLICTS for type_, _ in self.rules.on)
        if self.ruled.unique_conflicts is None or len(self.writes) > 1 or not wanted:
            return
        (against,) = self.connection.execute(self.ruled.unique_conflicts).fetchall()[0]
        if against > 1:
            what = "several unique indexes are against the row"
            raise PoisonRow(what, reason=ConflictType.MULTIPLE_UNIQUE_CONFLICTS, index=0)

    # -- decisions

    def _decide(self, found: list[tuple[Any, ...]]) -> dict[Step, list[_Left]]:
        steps: dict[Step, list[_Left]] = defaultdict(list)
        for here, there, number, op, position, buried, floor, deleted, different, *winners in found:
            facts = Facts(
                there is not None,
                _position(position),
                _position(buried),
                Position.unpack(bytes(floor)) if floor else Position(0, 0, 0),
                bool(deleted),
                there is not None and "1" in different,
                self._columns(different) if there is not None else (),
                frozenset(action for action, wins in zip(_WINNERS, winners, strict=True) if wins),
            )
            write = self.writes[number]
            step, decision = judge(self.prepared.table, write, facts, whole=op == FULL)
            if op == BORROWING and (step not in (Step.NOTHING, Step.MIXED) or decision.outcome is Outcome.PARKED):
                step, decision = Step.NOTHING, missing(BORROWING)
            if step is Step.MIXED:
                decision = MIXED
            if decision is not APPLIED:
                self.decisions[number] = decision
            steps[step].append(_Left(here, there, number))
            if decision.conflict is not None and decision.conflict.type is not ConflictType.STALE:
                first = self._met.setdefault(decision.conflict.type, {})
                if len(first) < KEPT:
                    first[number] = _Left(here, there, number)
        self._see()
        return steps

    # -- what is told of conflicts: of the first of each type, in one statement before and one afterwards

    def _see(self) -> None:
        """The rows as they were met, before anything is written onto them."""
        new = [each for first in self._met.values() for each in first.values() if each.number not in self._seen]
        if not new:
            return
        places = ([each.here for each in new], [each.there for each in new])
        for number, there, was, comes in self.connection.execute(self.ruled.seen_before, places).fetchall():
            self._seen[number] = was if there else None, comes

    def _tell(self) -> None:
        now = dict(self.connection.execute(self.ruled.seen_after, (list(self._seen),)).fetchall())
        table = self.prepared.table
        for number, (was, comes) in self._seen.items():
            decision, row = self.decisions[number], self.writes[number].row
            if decision.conflict is None:
                continue  # a trigger let it vanish
            before = None if was is None else named(table.columns, was)
            incoming = None
            if row.values is not None:
                brought = zip(effective(table, row), comes, strict=True)
                incoming = named(
                    table.columns, tuple(UNAVAILABLE if own is UNAVAILABLE else text for own, text in brought)
                )
            resulting = before
            if decision.outcome is Outcome.APPLIED:
                resulting = named(table.columns, now[number]) if number in now else None
            told = seen(before, incoming, resulting)
            self.decisions[number] = replace(decision, conflict=replace(decision.conflict, seen=told))

    def _columns(self, different: str) -> tuple[int, ...]:
        if not self.rules.reads_before:
            return ()
        return tuple(index for index, each in zip(self.rules.compared, different, strict=True) if each == "1")

    def _drop(self, left: Sequence[_Left]) -> int:
        """Nothing of these is written, or no more."""
        if left:
            self.connection.execute(self.ruled.drop_staged, ([each.here for each in left],))
        return len(left)

    def _execute(self, step: Step, steps: dict[Step, list[_Left]]) -> int:
        """Write onto the rows that were met, as they were met; returns how many staged changes that settles."""
        met = [each for each in steps[step] if each.there is not None]
        if met:
            done = {number for (number,) in self._on_pairs(getattr(self.ruled, _PAIRED[step]), met)}
            undone = [each for each in met if each.number not in done]
            if undone:
                kept = {number for (number,) in self._on_pairs(self.ruled.same_pairs, undone)}
                self._look([(each.number, each.number not in kept) for each in undone])
        return len(met)

    def _on_pairs(self, statement: Any, pairs: Sequence[_Left]) -> list[tuple[int]]:
        places = ([each.here for each in pairs], [each.there for each in pairs])
        found: list[tuple[int]] = self.connection.execute(statement, places).fetchall()
        return found

    def _look(self, unwritten: list[tuple[int, bool]]) -> None:
        """Rows that were not written although nothing was against it: a trigger, or (True) somebody else was there."""
        table = self.prepared.table
        if any(changed for _, changed in unwritten):
            raise Transient(f"rows of {table.namespace}.{table.name} were changed by somebody else at this moment")
        for number, _ in unwritten:
            self.decisions[number] = NOT_KEPT


def _position(packed: bytes | None) -> Position | None:
    return None if packed is None else Position.unpack(bytes(packed))


def _time(row: MappedRow) -> str:
    """A snapshot's rows are older than its time says."""
    return "\\N" if row.snapshot or row.time_us is None else str(row.time_us)
