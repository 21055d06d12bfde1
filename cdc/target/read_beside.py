"""Rows beside those of a target whose rows are read back as they are (see beside.py, rows.py)."""

from __future__ import annotations

from collections.abc import Sequence

from cdc.model import TargetTable, Value
from cdc.target.beside import Pair
from cdc.target.rows import Cells, TargetRows


class ReadBeside:
    """A `Beside` over `TargetRows`."""

    def __init__(self, rows: TargetRows, table: TargetTable) -> None:
        self._rows = rows
        self._key = table.key_indexes

    def pairs(self, rows: Sequence[Sequence[Value]]) -> list[Pair]:
        wanted = [self._rows.encode(row) for row in rows]
        there = {self._key_of(cells): cells for cells in self._rows.of_keys([self._key_of(each) for each in wanted])}
        return [Pair(cells, there.get(self._key_of(cells))) for cells in wanted]

    def _key_of(self, cells: Cells) -> Cells:
        return tuple(cells[place] for place in self._key)

    def close(self) -> None:
        self._rows.close()
