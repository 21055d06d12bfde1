"""cdc/demo/golden.py: what the golden customers must be, and that it notices when they are not."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from cdc.demo.golden import COLUMNS, Said, differences, expected

CRM: dict[str, Any] = {
    "name": "Ann",
    "segment": "vip",
    "birth_date": date(1980, 1, 1),
    "email": "Ann@CRM ",
    "phone": "1",
    "marketing_consent": True,
    "language": "de",
    "street": "A",
    "postcode": "01",
    "city": "Köln",
    "interests": ["5G", "travel"],
    "preferences": {"newsletter": True, "quiet": {"from": "20:00", "days": [1]}},
    "updated_at": 5,
}
PORTAL: dict[str, Any] = {
    "email": "ann@portal",
    "phone": None,
    "marketing_consent": None,
    "language": None,
    "street": None,
    "postcode": "02",
    "city": "York",
    "interests": ["travel", "TV"],
    "last_login": 7,
    "updated_at": 6,
    "preferences": {"newsletter": False, "quiet": {"from": "22:30"}, "theme": "dark"},
}
ACCOUNTS = [
    {"currency": "EUR", "balance": Decimal("1.50"), "opened": date(2024, 1, 1)},
    {"currency": "USD", "balance": Decimal("9.00"), "opened": None},
    {"currency": "EUR", "balance": Decimal("-0.25"), "opened": date(2023, 1, 1)},
]
SAID = {"C1": Said(CRM, PORTAL, ACCOUNTS)}
GOOD: dict[str, Any] = {
    "name": "Ann",
    "segment": "vip",
    "birth_date": date(1980, 1, 1),
    "email": "ann@crm",
    "phone": "1",
    "marketing_consent": None,
    "language": "de",
    "street": None,
    "postcode": "02",
    "city": "York",
    "interests": ["5G", "travel", "TV"],
    "updated_at": 6,
    "last_login": 7,
    "balance_eur": Decimal("1.25"),
    "accounts": 3,
    "customer_since": date(2023, 1, 1),
    "preferences": {"newsletter": False, "quiet": {"from": "20:00", "days": [1]}, "theme": "dark"},
}


def test_a_row_as_it_must_be() -> None:
    assert GOOD.keys() == set(COLUMNS)
    assert list(differences(SAID, {"C1": GOOD})) == []


@pytest.mark.parametrize(
    ("column", "value"),
    [
        *(("email", "ann@made.up"), ("phone", None), ("marketing_consent", True), ("street", "A"), ("city", "Köln")),
        *(("interests", ["travel", "TV", "5G"]), ("balance_eur", Decimal("10.25")), ("accounts", 2)),
        *(("preferences", {"newsletter": False}), ("preferences", {**GOOD["preferences"], "theme": "light"})),
        ("preferences", {**GOOD["preferences"], "quiet": {"from": "20:00"}}),
    ],
)
def test_every_wrong_value_is_noticed(column: str, value: object) -> None:
    (wrong,) = differences(SAID, {"C1": {**GOOD, column: value}})
    assert (wrong.customer_no, wrong.column) == ("C1", column)


def test_rows_that_must_not_be_there_and_rows_that_are_missing() -> None:
    assert expected(Said(portal=PORTAL)) is None, "a profile alone makes no customer"
    assert [each.actual for each in differences({"C2": Said(portal=PORTAL)}, {"C2": GOOD})] == ["a row"]
    assert [each.actual for each in differences(SAID, {})] == ["no row"]
    assert [each.expected for each in differences({}, {"C1": GOOD})] == ["no row"]


def test_what_single_systems_say() -> None:
    alone = expected(Said(accounts=ACCOUNTS[:1]))
    assert alone is not None
    assert (alone["name"], alone["interests"], alone["language"], alone["accounts"]) == (None, None, "en", 1)
    of_crm = expected(Said(crm=CRM))
    assert of_crm is not None
    assert (of_crm["marketing_consent"], of_crm["balance_eur"], of_crm["street"]) == (True, None, "A")
