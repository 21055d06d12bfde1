"""The first rows of all worlds, as streams of tuples. A pure function of the seed and the number of customers."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from random import Random

from cdc.demo import rows, values
from cdc.demo.rows import Row
from cdc.demo.world import BEGINNING

CUSTOMERS = 2_000


def crm(seed: int, customers: int = CUSTOMERS) -> dict[str, Iterator[Row]]:
    """Rows by table, in an order that foreign keys allow. About 6.5 rows a customer."""
    return {
        "customers": _customers(_chance(seed, "customers"), customers),
        "contacts": _contacts(_chance(seed, "contacts"), customers),
        "subscriptions": _subscriptions(_chance(seed, "subscriptions"), customers),
        "interactions": _interactions(_chance(seed, "interactions"), customers),
        "tickets": _tickets(_chance(seed, "tickets"), customers),
    }


def billing(seed: int, customers: int = CUSTOMERS) -> dict[str, Iterator[Row]]:
    """Rows by table. About 9.5 rows a customer."""
    return {
        "accounts": _accounts(_chance(seed, "accounts"), customers),
        "invoices": (invoice for invoice, _ in _invoices(_chance(seed, "invoices"), customers)),
        "invoice_lines": (line for _, lines in _invoices(_chance(seed, "invoices"), customers) for line in lines),
        "payments": _payments(_chance(seed, "payments"), customers),
    }


def portal(seed: int, customers: int = CUSTOMERS) -> dict[str, Iterator[Row]]:
    """Four of five customers have a profile."""
    return {"profiles": _profiles(_chance(seed, "profiles"), customers)}


def _chance(seed: int, table: str) -> Random:
    return Random(f"{table} {seed}")


def _before(chance: Random) -> datetime:
    """Some time in the two years before the world began."""
    return BEGINNING - timedelta(microseconds=chance.randrange(63_000_000_000_000))


def _customers(chance: Random, customers: int) -> Iterator[Row]:
    for number in range(1, customers + 1):
        yield rows.customer(chance, number, _before(chance))


def _contacts(chance: Random, customers: int) -> Iterator[Row]:
    for index in range(customers * 2):
        yield rows.contact(chance, index + 1, index // 2 + 1, primary=index % 2 == 0)


def _subscriptions(chance: Random, customers: int) -> Iterator[Row]:
    for customer in range(1, customers + 1):
        for line in range(1, chance.choice((1, 1, 2)) + 1):
            yield rows.subscription(chance, customer, line, _before(chance).date())


def _interactions(chance: Random, customers: int) -> Iterator[Row]:
    for _ in range(customers * 5 // 4):
        yield rows.interaction(chance, chance.randint(1, customers), _before(chance))


def _tickets(chance: Random, customers: int) -> Iterator[Row]:
    for number in range(1, customers // 2 + 1):
        yield rows.ticket(chance, number, chance.randint(1, customers), _before(chance))


def _accounts(chance: Random, customers: int) -> Iterator[Row]:
    for number in range(1, customers + 1):
        yield rows.account(chance, number, number, _before(chance).date())
    for number in range(customers + 1, customers + customers // 8 + 1):
        yield rows.account(chance, number, chance.randint(1, customers), _before(chance).date())


def _profiles(chance: Random, customers: int) -> Iterator[Row]:
    for number in range(1, customers + 1):
        if chance.random() < 0.8:
            yield rows.profile(chance, number, number, _before(chance))


def _invoices(chance: Random, customers: int) -> Iterator[tuple[Row, list[Row]]]:
    for number in range(1, customers * 2 + 1):
        lines = [rows.invoice_line(chance, number, line) for line in range(1, chance.choice((1, 2, 2, 3)) + 1)]
        yield rows.invoice(chance, number, chance.randint(1, customers), lines, _before(chance)), lines


def _payments(chance: Random, customers: int) -> Iterator[Row]:
    for number in range(1, customers * 5 // 4 + 1):
        invoice = chance.randint(1, customers * 2) if chance.random() < 0.8 else None
        amount = values.money(chance, 1, 900)
        yield rows.payment(chance, number, chance.randint(1, customers), invoice, amount, _before(chance))
