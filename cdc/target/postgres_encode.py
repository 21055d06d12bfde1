"""Plain writes as COPY text, made ahead of the transaction: no connection is needed, so the server can work on the
batch before meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from cdc.blocks import Writes
from cdc.errors import Poison
from cdc.model import Position, TargetColumn
from cdc.target.postgres_lines import copy_block_builder
from cdc.target.postgres_statements import DELETE

PORTION = 1000
"""Rows sent at once: 250 kB of ordinary ones."""


class Encoded(NamedTuple):
    """Portions of text: upserts as `columns, position` (also the lines of the table itself), deletes as
    `key, position, op`. Only for a table with these columns as it is found."""

    columns: tuple[TargetColumn, ...]
    upserts: list[bytes]
    deletes: list[bytes]


class Encoder:
    """For one thread at a time; knows the columns it was asked for."""

    def __init__(self) -> None:
        self._lines: dict[tuple[TargetColumn, ...], tuple[Callable[..., str], Callable[..., str]]] = {}

    def encode(self, columns: tuple[TargetColumn, ...], key_indexes: Sequence[int], writes: Writes) -> Encoded | None:
        """None when some value does not fit its column: then the rows must be looked at one by one."""
        lines = self._lines.get(columns)
        if lines is None:
            keys = [columns[index] for index in key_indexes]
            lines = self._lines[columns] = (copy_block_builder(columns), copy_block_builder(keys))
        number = writes.upserts
        try:
            return Encoded(
                columns,
                list(_portions(lines[0], writes.values, writes.positions[:number], "\n")),
                list(_portions(lines[1], writes.keys[number:], writes.positions[number:], f"\t{DELETE}\n")),
            )
        except Poison:
            return None


def _portions(
    make: Callable[..., str], rows: Sequence[Any], positions: Sequence[Position], end: str
) -> Iterator[bytes]:
    for start in range(0, len(rows), PORTION):
        part = rows[start : start + PORTION]
        yield make(part, _ends(positions[start : start + PORTION], end)).encode()


def _ends(positions: Sequence[Position], end: str) -> list[str]:
    last, text, ends = None, "", []
    for position in positions:
        if position is not last:  # rows of a snapshot or of one page share their position
            last, text = position, f"\\\\x{position.pack().hex()}{end}"
        ends.append(text)
    return ends
