"""`history:` in a mapping file: what is refused, and where."""

from __future__ import annotations

import pytest

from cdc.errors import Poison
from cdc.mapping.compile import compile_table
from cdc.mapping.diagnostics import MappingError
from cdc.mapping.load import loads
from cdc.model import (
    UNAVAILABLE,
    ChangeEvent,
    Column,
    ColumnType,
    Kind,
    MappedRow,
    Op,
    Position,
    RawRecord,
    TableSchema,
)

FILE = """pipeline: crm
source: crm
target: hub
tables:
  - from: public.customers
    to: hub.customers
    history: {history}
"""


@pytest.mark.parametrize(
    ("text", "code", "line"),
    [
        (FILE.format(history="versions") + "    on_delete: soft\n", "history-with", 8),
        (FILE.format(history="versions") + "rules: { hub.customers: { on: { stale: skip } } }\n", "history-with", 8),
        (FILE.format(history="{ keep: append, valid_to: until }"), "history-column", 7),
        (FILE.format(history="{ keep: version }"), "bad-value", 7),
    ],
)
def test_what_cannot_stand_with_a_history(text: str, code: str, line: int) -> None:
    with pytest.raises(MappingError) as refused:
        loads(text)
    assert (code, line) in [(found.code, found.span.line) for found in refused.value.diagnostics]


def test_rules_for_all_tables_pass_a_history_over() -> None:
    pipeline = loads(FILE.format(history="append") + 'rules: { "*": { detect: position } }\n')
    assert pipeline.tables[0].rules is None
    assert pipeline.tables[0].history is not None
    assert pipeline.tables[0].history.names == ("change_op", "changed_at", "change_position")


def test_changes_become_rows_of_their_own() -> None:
    number, text = ColumnType(Kind.INTEGER, "int8"), ColumnType(Kind.TEXT, "text")
    columns = (Column("id", number, nullable=False, key=True), Column("name", text))
    schema = TableSchema("crm", "postgresql", "public", "customers", columns, 1)
    plan = compile_table(loads(FILE.format(history="versions")).tables[0], schema)
    at, record = Position(1, 2, 3), RawRecord("t", 0, 7, b"k", b"v")
    update = ChangeEvent(record, schema, Op.UPDATE, at, None, (1, "a"), time_us=1_500_000)
    delete = ChangeEvent(record, schema, Op.DELETE, at, (1, "a"), None, time_us=1_500_000)
    moved = ChangeEvent(record, schema, Op.CREATE, at, None, (2, UNAVAILABLE), moved_from=(1,), time_us=0)
    packed, moment = at.pack(), "1970-01-01T00:00:01.5Z"
    first, gone, refused = plan.map_batch([update, delete, moved])
    assert isinstance(first, MappedRow)
    assert isinstance(gone, MappedRow)
    assert isinstance(refused, Poison)
    assert (first.key, first.values) == ((1, packed, "u"), (1, "a", "u", moment, packed))
    assert (gone.key, gone.values) == ((1, packed, "d"), (1, None, "d", moment, packed))
    assert refused.reason == "partial_image"
    assert plan.target.key == ("id", "change_position", "change_op")
