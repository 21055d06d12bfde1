"""Golden errors: each file of tests/unit/errors/ is a pipeline with a mistake; beside it stands, to the last caret,
what its author is told. It is loaded, and then meets the tables below.

After a change of words: CDC_GOLDEN=write, and read the difference before it is committed.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cdc.engine.plans import Plans
from cdc.mapping.diagnostics import MappingError, render
from cdc.mapping.load import loads
from cdc.model import Column, ColumnType, Kind, TableSchema

FOLDER = Path(__file__).parent / "errors"
CASES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
_TEXT = ColumnType(Kind.TEXT, "text")
_COLUMNS = {
    "id": ColumnType(Kind.INTEGER, "int8"),
    "full_name": _TEXT,
    "email": _TEXT,
    "born": ColumnType(Kind.DATE, "date"),
    "fee": ColumnType(Kind.DECIMAL, "numeric", 10, 2),
    "preferences": ColumnType(Kind.JSON, "jsonb"),
    "seen": ColumnType(Kind.TIMESTAMPTZ, "timestamptz"),
}


def _schema(table: str, columns: dict[str, ColumnType], version: int) -> TableSchema:
    found = tuple(Column(name, type_, name != "id", name == "id") for name, type_ in columns.items())
    return TableSchema("crm", "postgresql", "public", table, found, version)


SCHEMAS = {
    "people": _schema("people", _COLUMNS, 77_001),
    "hours": _schema("hours", {"id": _COLUMNS["id"], "opens": ColumnType(Kind.LITERAL, "timetz")}, 77_002),
}


def told(name: str) -> str:
    try:
        pipeline = loads((FOLDER / f"{name}.yaml").read_bytes().decode(), f"{name}.yaml")
        for name in {table.from_.name for table in pipeline.tables}:
            Plans(pipeline).of(SCHEMAS[name])
    except MappingError as error:
        return render(error.diagnostics) + "\n"
    return ""


@pytest.mark.parametrize("name", CASES)
def test_what_the_author_is_told(name: str) -> None:
    path = FOLDER / f"{name}.txt"
    if os.environ.get("CDC_GOLDEN") == "write":
        path.write_text(told(name), encoding="utf-8")
    assert told(name) == path.read_text(encoding="utf-8")
    assert told(name), "nothing is wrong with it"


def test_there_are_enough_of_them() -> None:
    assert len(CASES) >= 40
    assert sorted(path.stem for path in FOLDER.glob("*.txt")) == CASES
