"""Histories in the memory target: changes as they were brought, and the rows that follow from all of a key's."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cdc.model import (
    APPLIED,
    GONE,
    HISTORY_COLUMNS,
    HISTORY_KEYS,
    UNAVAILABLE,
    Decision,
    History,
    Outcome,
    Position,
    TargetTable,
    Value,
    Write,
)
from cdc.moments import moment
from cdc.target.base import PoisonRow, SweepReport

if TYPE_CHECKING:
    from cdc.target.memory import MemoryTarget, Table

Key = tuple[Value, ...]
_WAITS = Decision(Outcome.PARKED, "partial_image")


@dataclass
class Changes:
    """By the row's own key, the values of its changes by (position, not gone, operation); truncates by position, their
    times. `width`: of the values."""

    by_key: dict[Key, dict[tuple[bytes, bool, str], Key]] = field(default_factory=dict)
    truncates: dict[bytes, str] = field(default_factory=dict)
    key_places: tuple[int, ...] = ()
    width: int = 0
    versions: bool = False


def write_history(
    target: MemoryTarget, table: TargetTable, stored: Table, writes: Sequence[Write]
) -> dict[int, Decision]:
    changes, decisions = _of(table, stored), dict[int, Decision]()
    in_order = sorted(enumerate(writes), key=lambda pair: pair[1].row.position)  # what a partial one builds on first
    for index, write in in_order:
        values, (*key, position, op) = write.row.values, write.row.key
        assert values is not None
        if not target.accepts(table, values):
            raise PoisonRow("the table refuses the row", reason="refused", index=index)
        own = changes.by_key.setdefault(tuple(key), {})
        place = (position, op not in GONE, op)
        if UNAVAILABLE in values and place not in own and not _stands(own, position):
            decisions[index] = _WAITS
        else:
            own[place] = values
    for touched in {write.row.key[:-HISTORY_KEYS] for write in writes}:
        _show(changes, stored, touched)
    return decisions


def truncate_history(history: History, stored: Table, position: Position, time_us: int | None) -> Decision:
    changes = stored.history
    changes.truncates[position.pack()] = moment(time_us or 0)
    for key in list(changes.by_key):
        _show(changes, stored, key)
    return APPLIED


def sweep_history(table: TargetTable, stored: Table, position: Position, keep: Collection[Key]) -> SweepReport:
    changes, packed = _of(table, stored), position.pack()
    kept = {key[: len(table.key) - HISTORY_KEYS] for key in keep}
    at = max((row.values[changes.width - 2] for row in stored.rows.values() if row.position <= position), default=None)
    gone = []
    for key, own in changes.by_key.items():
        last_position, there, _ = max(_all(changes, key))
        if there and last_position < packed and key not in kept:
            gone.append(key)
            own[packed, False, "s"] = _told(changes, key, "s", at, packed)
    for key in gone:
        _show(changes, stored, key)
    return SweepReport(len(gone), tuple(repr(key) for key in gone[:5]))


def _of(table: TargetTable, stored: Table) -> Changes:
    changes, history = stored.history, table.history
    assert history is not None
    changes.key_places, changes.width = table.key_indexes[:-HISTORY_KEYS], len(table.columns)
    changes.versions = history.versions
    return changes


def _stands(own: dict[tuple[bytes, bool, str], Key], position: bytes) -> bool:
    return any(there and before < position and UNAVAILABLE not in values for (before, there, _), values in own.items())


def _all(changes: Changes, key: Key) -> dict[tuple[bytes, bool, str], Key]:
    """The changes of a key, and what truncates made of it."""
    found = dict(changes.by_key[key])
    for position, at in sorted(changes.truncates.items()):
        before = [place for place in found if place[0] < position]
        if before and max(before)[1]:
            found[position, False, "t"] = _told(changes, key, "t", at, position)
    return found


def _told(changes: Changes, key: Key, op: str, at: Value, position: bytes) -> Key:
    values: list[Value] = [None] * (changes.width - HISTORY_COLUMNS)
    for index, value in zip(changes.key_places, key, strict=True):
        values[index] = value
    return (*values, op, at, position)


def _show(changes: Changes, stored: Table, key: Key) -> None:
    """The rows of a key anew."""
    for whole in [each for each in stored.rows if each[:-HISTORY_KEYS] == key]:
        del stored.rows[whole]
    in_order = sorted(_all(changes, key).items())
    known: list[Value] = [None] * changes.width
    for number, ((position, there, op), values) in enumerate(in_order):
        filled = tuple(old if new is UNAVAILABLE else new for old, new in zip(known, values, strict=True))
        known = list(filled) if there else known
        extra = tuple(_interval(in_order, number)) if changes.versions else ()
        stored.put((*key, position, op), (*filled, *extra), Position.unpack(position))


def _interval(in_order: Sequence[tuple[tuple[bytes, bool, str], Key]], number: int) -> Iterator[Value]:
    (_, there, _), values = in_order[number]
    after = in_order[number + 1 :]
    yield (after[0][1][-2] if after else None) if there else values[-2]
    yield there and not after
