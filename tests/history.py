"""Tapes of histories: the same changes as other tapes, each as the row that a mapping with `history:` makes of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import msgspec

from cdc.engine.oracle_history import HistoryOracle
from cdc.mapping.history_plan import history_table
from cdc.model import UNAVAILABLE, History, MappedRow, RowOp, TargetTable
from cdc.moments import moment
from cdc.target.base import Owner, hold_of
from tests import tapes
from tests.fix_targets import Bench
from tests.tapes import REFUSED_TEXT, play

APPEND = History("change_op", "changed_at", "change_position")
VERSIONS = History("change_op", "valid_from", "change_position", "valid_to", "is_current")


def changes_table(bench: Bench, history: History) -> TargetTable:
    """A history that nothing has written to."""
    return history_table(bench.table(), history)


def time_of(row: MappedRow) -> int:
    """The changes of a transaction (tapes: of one major part) are committed together."""
    return 1_700_000_000_000_000 + row.position.major * 1_500_000


def as_changes(tape: Iterable[MappedRow]) -> list[MappedRow]:
    return [as_change(row) for row in tape]


def as_change(row: MappedRow) -> MappedRow:
    """What `cdc.mapping.history_plan` makes of a change; its time is that of its position."""
    if row.op is RowOp.TRUNCATE:
        return msgspec.structs.replace(row, time_us=time_of(row))
    op = "d" if row.values is None else "r" if row.snapshot else "u"
    packed, values = row.position.pack(), row.values or (*row.key, None, None)
    if row.moved_from is not None:
        values = tuple("moved" if value is UNAVAILABLE else value for value in values)
    return msgspec.structs.replace(
        row,
        op=RowOp.UPSERT,
        key=(*row.key, packed, op),
        values=(*values, op, moment(time_of(row)), packed),
        moved_from=None,
        moved_to=None,
    )


def expected(table: TargetTable, tape: Iterable[MappedRow]) -> HistoryOracle:
    """The oracle after the tape; it refuses rows whose name is `REFUSED_TEXT`."""
    oracle = HistoryOracle(table, lambda values: values[1] != REFUSED_TEXT, lambda row: moment(time_of(row)))
    oracle.play(tape)
    return oracle


def shown(bench: Bench, table: TargetTable) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    """What a reader sees, by the whole key, with canonical values."""
    history = table.history
    assert history is not None
    names = [column.name for column in table.columns]
    extra = [history.valid_to, history.current] if history.valid_to and history.current else []
    found = {}
    for row in bench.rows(table, [*names, *extra]):
        cells = {name: _canonical(value) for name, value in zip([*names, *extra], row, strict=True)}
        if extra:
            cells[extra[1]] = bool(cells[extra[1]])
        found[tuple(cells[name] for name in table.key)] = tuple(cells.values())
    return found


def wanted(oracle: HistoryOracle) -> Mapping[tuple[Any, ...], tuple[Any, ...]]:
    """The same as the oracle says it."""
    versions = oracle.table.history is not None and oracle.table.history.versions
    return {
        key: (*row.values, row.valid_to, row.current) if versions else row.values
        for key, row in oracle.visible().items()
    }


def check(bench: Bench, table: TargetTable, tape: list[MappedRow], cuts: list[int], *, asked: bool = True) -> None:
    """The tape, cut into batches there, leaves what the oracle says; `asked`: after a retry of all that is parked."""
    owner, oracle, target = Owner(f"{table.name} {len(cuts)}", "target"), expected(table, tape), bench.target()
    target.open(owner)
    target.prepare(table)
    bench.refuse(table)
    target.close()
    with closing(target):
        applier = play(target, table, tape, cuts, owner)
        if asked:
            bench.ask(owner)
            tapes.retry_asked(target, table, tape, applier)
            oracle.retry()
        assert {hold for _, hold in applier.held} == {hold_of(key) for key in oracle.parked}
    assert shown(bench, table) == wanted(oracle)


def _canonical(value: Any) -> Any:
    if isinstance(value, datetime):
        utc = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        return moment(int((utc - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 10) * 100_000)
    return bytes(value) if isinstance(value, memoryview | bytearray) else value
