"""Rows of a tape as the hot path carries them: what is plain in blocks, everything else as single rows."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

from cdc.blocks import EventBlock, RowBlock
from cdc.model import UNAVAILABLE, ChangeEvent, MappedRow, Op, RowOp, TableSchema, TopicPartition
from cdc.target.base import Parked

_SCHEMA = TableSchema("tape", "postgresql", "public", "tape", (), 0)


def in_blocks(rows: Iterable[MappedRow], *, timed: bool = False) -> list[RowBlock | MappedRow | Parked]:
    """The same rows in the same order. `timed`: for tables that read the times of blocks."""
    found: list[RowBlock | MappedRow | Parked] = []

    def kind(row: MappedRow) -> tuple[bool, tuple[str, int]]:
        return _is_plain(row, timed), (row.record.topic, row.record.partition)

    for (plain, _), group in groupby(rows, kind):
        if plain:
            found.append(_block(list(group)))
        else:
            found.extend(group)
    return found


def _is_plain(row: MappedRow, timed: bool) -> bool:
    moves = row.moved_from is not None or row.moved_to is not None
    # What tables with such rules read of single rows.
    ruled = row.before is not None or (row.time_us is not None and not timed)
    return not moves and not ruled and row.op is not RowOp.TRUNCATE and UNAVAILABLE not in (row.values or ())


def _block(rows: list[MappedRow]) -> RowBlock:
    def event(index: int) -> ChangeEvent:
        row = rows[index]
        op = Op.DELETE if row.values is None else Op.CREATE if row.created else Op.UPDATE
        return ChangeEvent(
            row.record, _SCHEMA, op, row.position, None, row.values, row.snapshot, None, None, row.time_us
        )

    last = rows[-1].record
    events = EventBlock(
        _SCHEMA,
        TopicPartition(last.topic, last.partition),
        last.offset + 1,
        [row.position for row in rows],
        [row.values for row in rows],
        [row.key if row.values is None else None for row in rows],
        len(rows),
        None,
        event,
        lambda: [row.created for row in rows],
        lambda: [None if row.snapshot else row.time_us for row in rows],
        lambda index: rows[index].record,
        lambda: [("d" if row.values is None else "u", row.time_us or 0) for row in rows],
    )
    return RowBlock(events, [row.key for row in rows], [row.values for row in rows])
