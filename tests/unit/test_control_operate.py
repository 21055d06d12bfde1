"""Tables by name, as operators give them."""

from __future__ import annotations

import pytest

from cdc.control.operate import table_of
from cdc.errors import Usage
from cdc.mapping.load import loads

PIPELINE = """
pipeline: p
target: hub
rules: {hub.customers: {sources: [crm, portal]}}
tables:
  - {from: public.customers, to: hub.customers, source: crm}
  - {from: public.accounts, to: hub.customers, source: portal}
  - {from: public.tickets, to: hub.tickets, source: crm}
"""


@pytest.mark.parametrize(
    ("name", "mapping"),
    [
        ("hub.tickets", "p/hub.tickets"),
        ("public.accounts", "p/hub.customers@portal"),
        ("hub.customers@crm", "p/hub.customers@crm"),
    ],
)
def test_the_one_that_is_meant(name: str, mapping: str) -> None:
    assert table_of(loads(PIPELINE), name).id == mapping


@pytest.mark.parametrize(("name", "said"), [("hub.customers", "2 mappings of"), ("hub.none", "no table")])
def test_none_or_several_are_refused_with_the_names(name: str, said: str) -> None:
    with pytest.raises(Usage, match=said) as refused:
        table_of(loads(PIPELINE), name)
    assert refused.value.hint == "give one of hub.customers@crm, hub.customers@portal, hub.tickets"
