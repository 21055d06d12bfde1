"""Every way in which columns combine: what must come out is written here by hand, and the oracle, the memory target
and real PostgreSQL must all say the same."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest

from cdc.model import (
    ColumnType,
    Combine,
    Kind,
    Rules,
    TargetColumn,
    TargetTable,
    Unit,
)
from tests.fix_targets import Bench, MemoryBench
from tests.rules import (
    NAME,
    NOTES,
    NUMBER,
    VERSION,
    Change,
    Foreign,
    Step,
    Values,
    expected,
    new_table,
    of_oracle,
    play,
    rows_of,
    run,
)

# -- how columns combine: (combine, there, incoming, what comes out) of (number, version)

_N = None
COMBINED = [
    (Combine.SOURCE_WINS, (5, 5), (_N, 6), (_N, 6)),
    (Combine.TARGET_WINS, (5, 5), (7, 6), (5, 6)),
    (Combine.TARGET_WINS, (_N, 5), (7, 6), (_N, 6)),
    (Combine.KEEP_IF_NULL, (5, 5), (7, 6), (7, 6)),
    (Combine.KEEP_IF_NULL, (5, 5), (_N, 6), (5, 6)),
    (Combine.FILL_NULLS, (5, 5), (7, 6), (5, 6)),
    (Combine.FILL_NULLS, (_N, 5), (7, 6), (7, 6)),
    (Combine.MAX, (5, 5), (7, 6), (7, 6)),
    (Combine.MAX, (5, 5), (3, 6), (5, 6)),
    (Combine.MAX, (5, 5), (_N, 6), (5, 6)),
    (Combine.MAX, (_N, 5), (3, 6), (3, 6)),
    (Combine.MIN, (5, 5), (7, 6), (5, 6)),
    (Combine.MIN, (5, 5), (3, 6), (3, 6)),
    (Combine.MIN, (5, 5), (_N, 6), (5, 6)),
    (Combine.MIN, (_N, 5), (3, 6), (3, 6)),
    (Combine.NEWEST, (5, 5), (7, 6), (7, 6)),
    (Combine.NEWEST, (5, 5), (7, 5), (7, 5)),
    (Combine.NEWEST, (5, 5), (7, 4), (5, 5)),
    (Combine.NEWEST, (5, 5), (7, _N), (5, 5)),
    (Combine.NEWEST, (5, _N), (7, 4), (7, 4)),
    (Combine.OLDEST, (5, 5), (7, 6), (5, 5)),
    (Combine.OLDEST, (5, 5), (7, 5), (5, 5)),
    (Combine.OLDEST, (5, 5), (7, 4), (7, 4)),
    (Combine.OLDEST, (5, 5), (7, _N), (5, 5)),
    (Combine.OLDEST, (5, _N), (7, 4), (7, 4)),
]
_VERSIONS = {Combine.NEWEST: (Unit(Combine.MAX, (VERSION,)),), Combine.OLDEST: (Unit(Combine.MIN, (VERSION,)),)}


@pytest.mark.parametrize(("combine", "there", "incoming", "out"), COMBINED)
def test_columns(ruled: Bench, combine: Combine, there: Values, incoming: Values, out: Values) -> None:
    """Two changes one after the other, apart and in one batch, and a row that somebody edited."""
    version = VERSION if combine in _VERSIONS else None
    units = () if combine is Combine.SOURCE_WINS else (Unit(combine, (NUMBER,), version), *_VERSIONS.get(combine, ()))
    first = Change("c", 1, ("a", "x", *there), 10)
    edits: list[Step] = [Change("c", 1, ("a", "x", 9, None), 10), Foreign("edited", 1, ("a", "x", *there))]
    for steps in ([first], edits):
        for single, blocks in itertools.product((True, False), repeat=2):
            table = new_table(Rules(units=units))
            tape = rows_of(table.rules or Rules(), [*steps, Change("u", 1, ("b", "x", *incoming), 20)])
            assert of_oracle(expected(table, tape)[0])[0] == {1: ("b", "x", *out)}
            assert play(ruled, table, tape, single=single, blocks=blocks).rows == {1: ("b", "x", *out)}


GROUPS = [
    (Combine.KEEP_IF_NULL, ("a", "x"), (None, None), ("a", "x")),
    (Combine.KEEP_IF_NULL, ("a", "x"), (None, "y"), (None, "y")),
    (Combine.FILL_NULLS, (None, None), ("b", None), ("b", None)),
    (Combine.FILL_NULLS, ("a", None), ("b", "y"), ("a", None)),
    (Combine.TARGET_WINS, ("a", None), ("b", "y"), ("a", None)),
    (Combine.NEWEST, ("a", "x"), ("b", None), ("b", None)),
    (Combine.OLDEST, ("a", "x"), ("b", None), ("a", "x")),
]


@pytest.mark.parametrize(("combine", "there", "incoming", "out"), GROUPS)
def test_columns_that_belong_together(
    ruled: Bench, combine: Combine, there: Values, incoming: Values, out: Values
) -> None:
    """All of them come from the same side."""
    version = VERSION if combine in _VERSIONS else None
    given = Rules(units=(Unit(combine, (NAME, NOTES), version), *_VERSIONS.get(combine, ())))
    highest = 2 if combine is not Combine.OLDEST else 1
    steps: list[Step] = [Change("c", 1, (*there, 1, 1), 10), Change("u", 1, (*incoming, 2, 2), 20)]
    for single in (True, False):
        table = new_table(given)
        tape = rows_of(given, steps)
        assert of_oracle(expected(table, tape)[0])[0] == {1: (*out, 2, highest)}
        assert play(ruled, table, tape, single=single, blocks=True).rows == {1: (*out, 2, highest)}


KINDS: dict[str, tuple[ColumnType, list[Any]]] = {
    "integer": (ColumnType(Kind.INTEGER, "int8"), [-5, 0, 1 << 40]),
    "decimal": (ColumnType(Kind.DECIMAL, "numeric"), ["-10.5", "9.1", "9.10000000000000000000000001", "10", "NaN"]),
    "float": (ColumnType(Kind.FLOAT64, "float8"), [float("-inf"), -0.5, 1e300, float("nan")]),
    "text": (ColumnType(Kind.TEXT, "text"), ["", "B", "a", "ä", "\uffff", "𝔘"]),
    "bytes": (ColumnType(Kind.BYTES, "bytea"), [b"", b"\x00", b"\x00\x01", b"\xff"]),
    "boolean": (ColumnType(Kind.BOOLEAN, "bool"), [False, True]),
    "date": (ColumnType(Kind.DATE, "date"), [-(1 << 70), -800_000, 0, 1 << 70]),
    "time": (ColumnType(Kind.TIME, "time", scale=6), [0, 1, 86_400_000_000]),
    "timestamp": (ColumnType(Kind.TIMESTAMP, "timestamp", scale=6), [-(1 << 70), -1, 0, 1 << 70]),
    "timestamptz": (
        ColumnType(Kind.TIMESTAMPTZ, "timestamptz", scale=6),
        [
            *("-infinity", "-0043-03-15T00:00:00Z", "0999-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
            *("2026-01-01T00:00:00.1Z", "2026-01-01T00:00:00.12Z", "+10000-01-01T00:00:00Z", "infinity"),
        ],
    ),
    "uuid": (
        ColumnType(Kind.UUID, "uuid"),
        ["00000000-0000-0000-0000-000000000001", "a0000000-0000-0000-0000-000000000000"],
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_values_have_one_order(ruled: Bench, kind: str) -> None:
    """The highest of all, in whatever order and batches they come, and the lowest."""
    type_, ascending = KINDS[kind]
    for combine, wanted in ((Combine.MAX, ascending[-1]), (Combine.MIN, ascending[0])):
        for values, single in itertools.product((ascending, ascending[::-1]), (True, False)):
            base = new_table(Rules(units=(Unit(combine, (1,)),)))
            columns = (base.columns[0], TargetColumn("name", type_))
            table = msgspec.structs.replace(base, columns=columns, partials=False)
            changes: list[Step] = [Change("c", 1, (value,), at) for at, value in enumerate(values, 1)]
            run(ruled, table, rows_of(Rules(), changes), single=single, blocks=True)
            alone = msgspec.structs.replace(table, mapping=f"{base.mapping}_", name=f"{base.name}_", rules=None)
            run(ruled, alone, rows_of(Rules(), [Change("c", 1, (wanted,), 1)]), single=True, blocks=True)
            assert _shown(ruled, table) == _shown(ruled, alone)


def _shown(bench: Bench, table: TargetTable) -> str:
    memory = isinstance(bench, MemoryBench)
    return repr(bench.rows(table, ("name",)) if memory else bench.shown(table, "name"))
