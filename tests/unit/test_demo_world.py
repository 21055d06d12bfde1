"""cdc/demo: the same seed gives the same world; every kind of change occurs; what is rolled back leaves no trace."""

from __future__ import annotations

import copy
from collections import Counter
from itertools import islice
from random import Random

import pytest

from cdc.demo import rows, seed
from cdc.demo.billing import BillingRows, BillingWorld
from cdc.demo.crm import CrmRows, CrmWorld
from cdc.demo.portal import PortalRows, PortalWorld
from cdc.demo.world import Transaction, World, hot

CUSTOMERS = 60


def crm_rows() -> CrmRows:
    tables = {table: list(source) for table, source in seed.crm(1, CUSTOMERS).items()}
    contacts: dict[int, list[int]] = {}
    for row in tables["contacts"]:
        contacts.setdefault(row[1], []).append(row[0])
    lines: dict[int, list[int]] = {}
    for row in tables["subscriptions"]:
        lines.setdefault(row[0], []).append(row[1])
    return CrmRows(
        customers=[row[0] for row in tables["customers"]],
        contacts=contacts,
        lines=lines,
        interactions=[str(row[0]) for row in tables["interactions"]],
        tickets=[row[0] for row in tables["tickets"]],
        next_customer=CUSTOMERS + 1,
        next_contact=2 * CUSTOMERS + 1,
        next_ticket=len(tables["tickets"]) + 1,
    )


def billing_rows() -> BillingRows:
    tables = {table: list(source) for table, source in seed.billing(1, CUSTOMERS).items()}
    lines: dict[int, list[int]] = {}
    for row in tables["invoice_lines"]:
        lines.setdefault(row[0], []).append(row[1])
    return BillingRows(
        accounts=[row[0] for row in tables["accounts"]],
        invoices=[row[0] for row in tables["invoices"]],
        lines=lines,
        payments=[row[0] for row in tables["payments"]],
        next_account=len(tables["accounts"]) + 1,
        next_invoice=len(tables["invoices"]) + 1,
        next_payment=len(tables["payments"]) + 1,
    )


def portal_rows() -> PortalRows:
    profiles = list(seed.portal(1, CUSTOMERS)["profiles"])
    owners = {row[0]: int(row[1][1:]) for row in profiles}
    return PortalRows(profiles=list(owners), owners=owners, next_profile=max(owners) + 1)


def worlds(number: int) -> tuple[World, World, World]:
    return (
        CrmWorld(crm_rows(), number),
        BillingWorld(billing_rows(), number),
        PortalWorld(portal_rows(), number),
    )


def taken(world: World, count: int) -> list[Transaction]:
    return [world.next() for _ in range(count)]


def test_a_seed_names_a_sequence() -> None:
    for one, same, another in zip(worlds(7), worlds(7), worlds(8), strict=True):
        transactions = taken(one, 500)
        assert transactions == taken(same, 500)
        assert transactions != taken(another, 500)


def test_the_first_rows_are_the_seed_s() -> None:
    for make in (seed.crm, seed.billing, seed.portal):
        once = {table: list(source) for table, source in make(1, CUSTOMERS).items()}
        assert once == {table: list(source) for table, source in make(1, CUSTOMERS).items()}
        assert once != {table: list(source) for table, source in make(2, CUSTOMERS).items()}


def test_rows_fit_their_tables() -> None:
    for make in (seed.crm, seed.billing, seed.portal):
        for table, source in make(1, CUSTOMERS).items():
            widths = {len(row) for row in source}
            assert widths == {len(rows.COLUMNS[table])}, table


def test_keys_are_unique() -> None:
    keys = {"subscriptions": 2, "invoice_lines": 2}
    for make in (seed.crm, seed.billing, seed.portal):
        for table, source in make(1, CUSTOMERS).items():
            found = [row[: keys.get(table, 1)] for row in source]
            assert len(set(found)) == len(found), table


@pytest.mark.parametrize("index", [0, 1, 2], ids=["crm", "billing", "portal"])
def test_every_kind_of_change_occurs(index: int) -> None:
    transactions = taken(worlds(3)[index], 2_000)
    operations = Counter(s.operation for t in transactions if not t.rollback for s in t.statements)
    kinds = ("insert", "update", "delete", "key change") if index < 2 else ("insert", "update", "delete")
    assert min(operations[name] for name in kinds) > 20
    assert sum(t.rollback for t in transactions) > 20
    assert index == 2 or sum(len(t.statements) > 1 for t in transactions) > 100
    values = [value for t in transactions for s in t.statements for value in s.values]
    assert any(value is None for value in values)
    texts = [value for value in values if isinstance(value, str)]
    assert any(ord(char) > 0xFFFF for text in texts for char in text), "4-byte characters"
    if index == 0:
        assert any(20_000 <= len(text) <= 60_000 for text in texts), "texts that are kept out of line"


def test_placeholders_fit_the_statements() -> None:
    for world in worlds(5):
        for transaction in taken(world, 1_000):
            for statement in transaction.statements:
                assert statement.sql.count("%s") == len(statement.values), statement.sql


def test_customers_come_back() -> None:
    """Deleted in one system and made again, while the others go on with them."""
    crm, _, portal = worlds(4)
    for world, table in ((crm, "customers"), (portal, "profiles")):
        inserted = [
            statement.values[1]
            for transaction in taken(world, 3_000)
            for statement in transaction.statements
            if (statement.table, statement.operation) == (table, "insert")
        ]
        assert len(set(inserted)) < len(inserted), table


def test_the_hot_customers_are_the_same_everywhere() -> None:
    """What makes conflicts: all three systems mostly change the customers with the lowest numbers."""
    crm, billing, portal = (taken(world, 300) for world in worlds(6))
    changed = Counter(s.values[-1] for t in crm for s in t.statements if s.sql.startswith("UPDATE customers"))
    profiles = Counter(s.values[-1] for t in portal for s in t.statements if s.operation == "update")
    accounts = Counter(s.values[-1] for t in billing for s in t.statements if s.sql.startswith("UPDATE accounts"))
    for counted in (changed, profiles, accounts):
        assert sum(counted[number] for number in range(1, 11)) > counted.total() / 4


def test_what_is_rolled_back_changes_no_key() -> None:
    known = crm_rows()
    world = CrmWorld(known, 1)
    for _ in range(2_000):
        before = copy.deepcopy((known.customers, known.contacts, known.lines, known.interactions, known.tickets))
        if world.next().rollback:
            assert before == (known.customers, known.contacts, known.lines, known.interactions, known.tickets)
            return
    pytest.fail("nothing was rolled back")


def test_hot_rows() -> None:
    chance = Random(1)
    counts = Counter(hot(chance, range(1000)) for _ in range(20_000))
    assert set(counts) <= set(range(1000))
    assert counts[0] > 1_000
    assert sum(counts[row] for row in range(10)) > sum(counts[row] for row in range(500, 1000))
    assert hot(chance, [5]) == 5


def test_seed_is_lazy() -> None:
    assert len(list(islice(seed.crm(1, 10**9)["customers"], 3))) == 3
