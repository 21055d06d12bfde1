"""Where the rows that are there differ from those that a test expects."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

from cdc.author import values
from cdc.author.script import Expected, Image
from cdc.model import ColumnType, TargetTable, Value
from cdc.yamlfile import ValuePath

Cells = Mapping[str, Value]
Kind = Literal["missing", "surplus", "different"]


class CellDifference(NamedTuple):
    """One column; None: there is nothing on that side."""

    column: str
    expected: str | None
    actual: str | None


class RowDifference(NamedTuple):
    """One row of a target table. `path`: where the test says it; empty for a surplus row, of which it says nothing."""

    table: str
    key: str
    kind: Kind
    cells: tuple[CellDifference, ...]
    path: ValuePath = ()


def differences(
    name: str, table: TargetTable, expected: Sequence[Expected], actual: Mapping[Image, Cells]
) -> list[RowDifference]:
    """By canonical values. Columns that an expected row does not name are not compared."""
    types = types_of(table)

    def differ(column: str, one: Value, other: Value) -> bool:
        return not values.same(one, other, types[column])

    def shown(column: str, value: Value) -> str:
        return values.shown(value, types[column])

    return found_differences(name, table, expected, actual, differ, shown)


def types_of(table: TargetTable) -> dict[str, ColumnType]:
    types = {column.name: column.type for column in table.columns}
    return types | ({table.soft_delete: values.FLAG} if table.soft_delete else {})


def found_differences(
    name: str,
    table: TargetTable,
    expected: Sequence[Expected],
    actual: Mapping[Image, Cells],
    differ: Callable[[str, Value, Value], bool],
    shown: Callable[[str, Value], str],
) -> list[RowDifference]:
    """The same for values of any form: `differ(column, expected, actual)`, `shown(column, value)`."""
    found: list[RowDifference] = []
    left = dict(actual)
    for row in expected:
        there = left.pop(row.key, None)
        key = _key(table, row.key, shown)
        if there is None:
            cells = tuple(CellDifference(column, shown(column, value), None) for column, value in row.values.items())
            found.append(RowDifference(name, key, "missing", cells, row.path))
            continue
        wrong = [column for column, value in row.values.items() if differ(column, value, there.get(column))]
        if wrong:
            cells = tuple(
                CellDifference(column, shown(column, row.values[column]), shown(column, there.get(column)))
                for column in wrong
            )
            found.append(RowDifference(name, key, "different", cells, row.path))
    for image, there in left.items():
        cells = tuple(CellDifference(column, None, shown(column, value)) for column, value in there.items())
        found.append(RowDifference(name, _key(table, image, shown), "surplus", cells))
    return found


def _key(table: TargetTable, key: Image, shown: Callable[[str, Value], str]) -> str:
    return ", ".join(f"{column}={shown(column, value)}" for column, value in zip(table.key, key, strict=True))
