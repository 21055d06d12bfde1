"""Where a test is played: in memory, or in a scratch place of a real target."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from contextlib import closing

import msgspec

from cdc.author import values
from cdc.author.differences import RowDifference, differences, found_differences, types_of
from cdc.author.play import WRITTEN_BEFORE, key_of
from cdc.author.script import Expected, Image, Script
from cdc.engine.targets import open_scratch, open_target
from cdc.entries import TargetSettings
from cdc.mapping.model import Pipeline, QualifiedName
from cdc.model import NO_RECORD, DeletePolicy, MappedRow, RowOp, TargetTable, Value, Write
from cdc.target.base import Owner, Target
from cdc.target.memory import MemoryTarget
from cdc.target.scratch import PREFIX, Text

_EXPECTED = "_expected"


class MemoryGround:
    """A `Ground` on the reference target."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self._target = MemoryTarget()

    def target(self) -> MemoryTarget:
        return self._target

    def disown(self, table: TargetTable) -> None:
        """The lowest position is nobody's."""

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


class DatabaseGround:
    """A `Ground` in a scratch place of a target. Expected rows are written there too, by the same target into tables
    beside, and both are read back by one SELECT: so a value means what this database makes of it."""

    def __init__(self, script: Script, settings: TargetSettings) -> None:
        name = f"{PREFIX}{secrets.token_hex(4)}"
        self._scratch = open_scratch(settings, name)
        try:
            self.pipeline = self._moved(script.pipeline, name)
        except BaseException:
            self._scratch.remove()
            raise

    def _moved(self, pipeline: Pipeline, name: str) -> Pipeline:
        """The same mappings under the pipeline's scratch name, into scratch schemas."""
        rules = {}
        tables = []
        for table in pipeline.tables:
            to = QualifiedName(self._scratch.namespace(table.to.namespace), table.to.name)
            if table.rules is not None:
                rules[str(to)] = table.rules
            tables.append(table.model_copy(update={"to": to}))
        moved = pipeline.model_copy(update={"pipeline": name, "tables": tuple(tables), "rules": rules})
        assert pipeline.document is not None
        return moved.bind(pipeline.document)

    def target(self) -> Target:
        return open_target(self._scratch.settings)

    def disown(self, table: TargetTable) -> None:
        self._scratch.disown(table)

    def differences(self, name: str, table: TargetTable, expected: Sequence[Expected]) -> list[RowDifference]:
        beside = _beside(table)
        keys = self._write(beside, expected)
        names = [column.name for column in table.columns]
        wanted = self._rows(beside, names, ())
        soft = (table.soft_delete,) if table.soft_delete else ()
        texts = []
        for row, key in zip(expected, keys, strict=True):
            cells = {column: wanted[key].get(column) for column in row.values if column in names}
            cells |= {column: values.shown(row.values[column], values.FLAG) for column in soft if column in row.values}
            texts.append(Expected(key, cells, row.path))
        actual, types = self._rows(table, names, soft), types_of(table)

        def differ(column: str, one: Text, other: Text) -> bool:
            return not values.same_text(one, other, types[column])

        return found_differences(name, table, texts, actual, differ, lambda _, text: "NULL" if text is None else text)

    def _write(self, table: TargetTable, expected: Sequence[Expected]) -> list[Image]:
        """Write the expected rows one by one; returns the keys by which the database gives them back."""
        keys: list[Image] = []
        with closing(self.target()) as target:
            target.open(Owner(self.pipeline.name, self.pipeline.target))
            target.prepare(table)
            for row in expected:
                image = tuple([row.values.get(column.name) for column in table.columns])
                made = MappedRow(RowOp.UPSERT, key_of(table, image), image, WRITTEN_BEFORE, NO_RECORD)
                with target.begin() as transaction:
                    transaction.write(table, [Write(made, made.position)])
                keys += [key for key in self._rows(table, list(table.key), ()) if key not in keys]
        return keys

    def _rows(self, table: TargetTable, names: Sequence[str], soft: Sequence[str]) -> dict[Image, dict[str, Text]]:
        found: dict[Image, dict[str, Text]] = {}
        for row in self._scratch.texts(table, (*names, *soft)):
            cells = dict(zip((*names, *soft), row, strict=True))
            for column in soft:
                cells[column] = "true" if cells[column] in ("true", "1", "t") else "false"
            found[tuple([cells[column] for column in table.key])] = cells
        return found

    def close(self) -> None:
        self._scratch.remove()


def _beside(table: TargetTable) -> TargetTable:
    """A table for what is expected of another: its columns, of which all but the key may be missing."""
    return msgspec.structs.replace(
        table,
        mapping=f"{table.mapping}{_EXPECTED}",
        name=f"{table.name}{_EXPECTED}",
        columns=tuple(
            msgspec.structs.replace(column, nullable=column.name not in table.key) for column in table.columns
        ),
        on_delete=DeletePolicy.DELETE,
        soft_delete=None,
        rules=None,
        contributes=None,
    )
