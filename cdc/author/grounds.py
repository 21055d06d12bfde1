"""Where a test is played: in memory."""

from __future__ import annotations

from collections.abc import Sequence

from cdc.author.differences import RowDifference, differences
from cdc.author.play import key_of
from cdc.author.script import Expected, Image
from cdc.mapping.model import Pipeline
from cdc.model import TargetTable, Value
from cdc.target.memory import MemoryTarget, StoredRow


class MemoryGround:
    """A `Ground` on the reference target."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self._target = MemoryTarget()

    def target(self) -> MemoryTarget:
        return self._target

    def put_foreign(self, table: TargetTable, rows: Sequence[Image]) -> None:
        stored = self._target.storage.tables[table.mapping].rows
        for row in rows:
            stored[key_of(table, row)] = StoredRow(row)

    def differences(self, name: str, table: TargetTable, expected: Sequence[Expected]) -> list[RowDifference]:
        return differences(name, table, expected, self._rows(table))

    def _rows(self, table: TargetTable) -> dict[Image, dict[str, Value]]:
        names = [column.name for column in table.columns]
        found: dict[Image, dict[str, Value]] = {}
        for key, row in self._target.storage.tables[table.mapping].rows.items():
            cells = dict(zip(names, row.values, strict=False))
            if table.soft_delete:
                cells[table.soft_delete] = row.deleted
            found[key] = {name: cells.get(name) for name in (*names, *filter(None, (table.soft_delete,)))}
        return found

    def close(self) -> None:
        pass
