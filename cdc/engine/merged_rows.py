"""Rows that were worked out from contributions, as plain writes: in columns, for the target's own batched path."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from cdc.blocks import Image, Writes
from cdc.model import NO_RECORD, MappedRow, Position, RowOp, Write

_EPOCH = 1  # of the positions of such rows: they are no places in a log


class MergedRow(NamedTuple):
    """One row; without values it goes. `text`: its key's. `version`: its document's."""

    text: str
    key: Image
    values: Image | None
    version: int


class MergedRows(Writes):
    """Each key once. `texts`: those of the keys, in the order of the writes."""

    def __init__(self, rows: Sequence[MergedRow]) -> None:
        super().__init__([])
        upserts = [row for row in rows if row.values is not None]
        rows = upserts if len(upserts) == len(rows) else [*upserts, *(row for row in rows if row.values is None)]
        self.texts = [row.text for row in rows]
        self.keys = [row.key for row in rows]
        self.values = [row.values for row in upserts]
        positions = {version: Position(_EPOCH, version, 0) for version in {row.version for row in rows}}
        self.positions = [positions[row.version] for row in rows]

    def _write(self, index: int) -> Write:
        key, position = self.keys[index], self.positions[index]
        if index < len(self.values):
            return Write(MappedRow(RowOp.UPSERT, key, self.values[index], position, NO_RECORD), position)
        return Write(MappedRow(RowOp.DELETE, key, None, position, NO_RECORD), position)
