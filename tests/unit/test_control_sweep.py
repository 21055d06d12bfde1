"""Sweep: the parts that need no database."""

from __future__ import annotations

import pytest

from cdc.control.sweep import key_of, sweep_due
from cdc.mapping.load import loads
from cdc.model import ColumnType, Kind, TargetColumn, TargetTable, Value
from cdc.settings import load
from cdc.target.base import hold_of


def table(*kinds: Kind) -> TargetTable:
    columns = tuple(TargetColumn(f"k{n}", ColumnType(kind, str(kind))) for n, kind in enumerate(kinds))
    value = TargetColumn("value", ColumnType(Kind.TEXT, "text"))
    return TargetTable("p/hub.t", "hub", "t", (value, *columns), tuple(column.name for column in columns))


@pytest.mark.parametrize(
    ("kinds", "key"),
    [
        ((Kind.INTEGER,), (7,)),
        ((Kind.INTEGER,), (2**64 - 1,)),
        ((Kind.TEXT, Kind.BYTES), ("ä\n", b"\x00\xff")),
        ((Kind.UUID, Kind.DECIMAL), ("c0ffee00-0000-4000-8000-000000000000", "1.10")),
        ((Kind.BOOLEAN, Kind.DATE), (True, -719528)),
    ],
)
def test_a_parked_records_key_comes_back_from_its_text(kinds: tuple[Kind, ...], key: tuple[Value, ...]) -> None:
    assert key_of(hold_of(key), table(*kinds)) == key


def test_a_pipeline_that_asks_is_not_swept_by_itself(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Not even its target is opened: there is none."""
    file = tmp_path_factory.mktemp("empty") / "connections.yaml"
    file.write_text("kafka: {bootstrap: nowhere}\n", encoding="utf-8")
    pipeline = loads("pipeline: p\nsource: s\ntarget: hub\ntables: [{from: public.a, to: hub.a}]\n")
    assert sweep_due(load(file), pipeline) == []
