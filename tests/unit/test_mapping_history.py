"""`history:` in a mapping file: what is refused, and where."""

from __future__ import annotations

import pytest

from cdc.mapping.diagnostics import MappingError
from cdc.mapping.load import loads

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
