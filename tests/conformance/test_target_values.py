"""Every kind of value reaches every target exactly: into the row, through a key change, and in keys.

(The real types of the real sources, over the real stack, are test_types_*.py.)
"""

from __future__ import annotations

from contextlib import closing
from typing import Any

import msgspec
import pytest

from cdc.model import UNAVAILABLE, ColumnType, Kind, MappedRow, TargetColumn
from cdc.target.base import Owner
from tests import tapes
from tests.conformance.target_values import VALUES
from tests.fix_targets import Bench, differs
from tests.tapes import play


def canonical(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def with_values(row: MappedRow, *values: Any) -> MappedRow:
    return msgspec.structs.replace(row, values=values)


@pytest.mark.parametrize("name", VALUES)
def test_a_value_arrives_as_it_was(bench: Bench, name: str) -> None:
    """As a full image, as one half of a key change that lends it, and merged from a partial image."""
    differs(bench, "values")
    differs(bench, name)
    column, values = VALUES[name]
    base = bench.table()
    table = msgspec.structs.replace(base, columns=(*base.columns, TargetColumn("v", column)))
    tape, rows = tapes.Tape(), []
    for number, value in enumerate([*values, None]):
        key, at = 10 * number, (1, 10 * number)
        rows.append(with_values(tape.full(key, "a", "x", at), key, "a", "x", canonical(value)))
        moved = tape.partial(key + 1, "moved", (2, 10 * number), moved_from=key)
        rows.append(tape.delete(key, (2, 10 * number), moved_to=key + 1))
        rows.append(with_values(moved, key + 1, "moved", UNAVAILABLE, UNAVAILABLE))
        rows.append(with_values(tape.full(key + 2, "b", "x", at), key + 2, "b", "x", None))
        later = tape.partial(key + 2, "later", (3, 10 * number))
        rows.append(with_values(later, key + 2, "later", UNAVAILABLE, canonical(value)))
    target = bench.target()
    with closing(target):
        applier = play(target, table, rows, range(1, len(rows), 2), Owner(table.name, "target"))
        assert applier.held == {}
    kind = (column.element or column).kind if column.kind is Kind.ARRAY else column.kind
    wanted = [bench.shows.get((name, text), text) for text in values.values()] + [None]
    assert bench.shown(table, "v") == [each for each in wanted for _ in range(2)], kind


KEYS = {
    "a composite of all that can be one": [
        (ColumnType(Kind.TEXT, "varchar", 40), "Aé 𝔘", "aé 𝔘"),
        (ColumnType(Kind.DECIMAL, "numeric", 20, 2), "1.10", "1.11"),
        (ColumnType(Kind.BYTES, "varbinary", 16), b"\x00\xff", b"\x00"),
        (ColumnType(Kind.DATE, "date"), 20780, 20781),
        (ColumnType(Kind.TIMESTAMP, "timestamp", 6), 1_000_001, 1_000_000),
        (ColumnType(Kind.UUID, "uuid"), "0e37df36-f698-11e6-8dd4-cb9ced3df976", "0e37df36-f698-11e6-8dd4-cb9ced3df977"),
        (ColumnType(Kind.BOOLEAN, "bool"), True, False),
        (ColumnType(Kind.INTEGER, "bigint unsigned"), (1 << 64) - 1, 1),
    ],
    "texts that differ in little": [
        (ColumnType(Kind.TEXT, "varchar", 40), "a", "A"),
        (ColumnType(Kind.TEXT, "varchar", 40), "e", "é"),
        (ColumnType(Kind.TEXT, "varchar", 40), "a", "a "),
    ],
}


@pytest.mark.parametrize("name", KEYS)
def test_keys_of_every_kind(bench: Bench, name: str) -> None:
    """Two rows that differ in one part of the key are two rows: written, changed, deleted, written again."""
    differs(bench, "values")
    differs(bench, name)
    parts = KEYS[name]
    keys = [tuple(first for _, first, _ in parts)]
    keys += [(*keys[0][:at], other, *keys[0][at + 1 :]) for at, (_, _, other) in enumerate(parts)]
    base = bench.table()
    columns = tuple(TargetColumn(f"k{at}", column, nullable=False) for at, (column, _, _) in enumerate(parts))
    name_column = TargetColumn("id", ColumnType(Kind.INTEGER, "int8"))
    table = msgspec.structs.replace(
        base, columns=(*columns, name_column), key=tuple(each.name for each in columns), partials=True
    )
    tape = tapes.Tape()

    def keyed(row: MappedRow, key: tuple[Any, ...], number: int | None) -> MappedRow:
        return msgspec.structs.replace(row, key=key, values=None if number is None else (*key, number))

    rows = [keyed(tape.full(0, "", "", (1, n)), key, n) for n, key in enumerate(keys)]
    rows += [keyed(tape.full(0, "", "", (2, n)), key, 100 + n) for n, key in enumerate(keys)]
    rows += [keyed(tape.delete(0, (3, 0)), keys[0], None)]
    rows += [keyed(tape.full(0, "", "", (1, 0)), keys[0], 7)]  # late: its tombstone is found
    target = bench.target()
    with closing(target):
        applier = play(target, table, rows, [len(keys), 2 * len(keys), 2 * len(keys) + 1], Owner(table.name, "target"))
        assert applier.held == {}
    found = sorted(number for (number,) in bench.rows(table, ("id",)))
    assert found == [100 + n for n in range(1, len(keys))]
