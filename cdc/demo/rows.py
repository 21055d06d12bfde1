"""One row of each table, as a tuple in the order of `COLUMNS`."""

from __future__ import annotations

import json
from datetime import date, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any
from uuid import UUID

from cdc.demo import values

Row = tuple[Any, ...]

COLUMNS: dict[str, tuple[str, ...]] = {
    "customers": (
        *("id", "customer_no", "full_name", "email", "phone", "segment", "birth_date", "preferences", "notes"),
        *("credit_limit", "street", "postcode", "city", "interests", "created_at", "updated_at"),
    ),
    "contacts": ("id", "customer_id", "kind", "value", "is_primary"),
    "subscriptions": (
        *("customer_id", "line_no", "msisdn", "plan", "monthly_fee", "status", "activated_on", "ended_on"),
    ),
    "interactions": ("id", "customer_id", "channel", "started_at", "duration", "transcript"),
    "tickets": (
        *("ticket_no", "customer_id", "subject", "body", "priority", "status", "tags", "opened_at", "closed_at"),
    ),
    "accounts": ("id", "customer_no", "currency", "balance", "status", "opened"),
    "invoices": ("id", "account_id", "number", "issued", "due", "total", "state", "updated"),
    "invoice_lines": ("invoice_id", "line_no", "description", "quantity", "unit_price", "amount"),
    "profiles": (
        *("id", "customer_no", "email", "phone", "language", "street", "postcode", "city", "marketing_consent"),
        *("interests", "preferences", "last_login", "updated_at"),
    ),
    "payments": ("id", "account_id", "invoice_id", "amount", "method", "reference", "received", "raw"),
}
CRM_TABLES = ("customers", "contacts", "subscriptions", "interactions", "tickets")
BILLING_TABLES = ("accounts", "invoices", "invoice_lines", "payments")

BIG_NOTES = 0.08
"""Share of customers whose notes are so long that PostgreSQL keeps them out of line."""


def customer_no(number: int) -> str:
    """The number that all three databases know a customer by."""
    return f"C{number:07}"


def ticket_no(number: int) -> str:
    return f"T-{number:06}"


def insert(table: str) -> str:
    """INSERT of one whole row, for either database."""
    columns = COLUMNS[table]
    places = ", ".join(["%s"] * len(columns))
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places})"  # noqa: S608  our own names only


def notes(chance: Random) -> str | None:
    if chance.random() < BIG_NOTES:
        return values.big_text(chance)
    return values.maybe(chance, 0.4, values.text(chance, chance.randrange(30)))


def customer(chance: Random, number: int, now: datetime) -> Row:
    birth = None if chance.random() < 0.1 else date(1940, 1, 1) + timedelta(days=chance.randrange(25_000))
    limit = None if chance.random() < 0.2 else values.money(chance, 0, 50_000)
    return (
        number,
        customer_no(number),
        values.full_name(chance),
        values.maybe(chance, 0.1, values.email(chance)),
        values.maybe(chance, 0.2, values.phone(chance)),
        chance.choice(values.SEGMENTS),
        birth,
        values.preferences(chance),
        notes(chance),
        limit,
        *values.address(chance).values(),
        values.interests(chance),
        now,
        now,
    )


def contact(chance: Random, number: int, customer: int, *, primary: bool = False) -> Row:
    kind = chance.choice(("email", "phone", "post"))
    value = {"email": values.email, "phone": values.phone}.get(kind, lambda c: values.text(c, 5))(chance)
    return (number, customer, kind, value, primary)


def subscription(chance: Random, customer: int, line_no: int, today: date) -> Row:
    fee = values.money(chance, 5, 80)
    msisdn = f"49{chance.randrange(10**9, 10**10)}"
    ended = today if chance.random() < 0.1 else None
    status = "ended" if ended else chance.choice(("active", "active", "paused"))
    return (customer, line_no, msisdn, chance.choice(values.PLANS), fee, status, today, ended)


def interaction(chance: Random, customer: int | None, now: datetime) -> Row:
    transcript = values.big_text(chance) if chance.random() < 0.02 else values.text(chance, chance.randrange(60))
    return (
        UUID(int=chance.getrandbits(128), version=4),
        customer,
        chance.choice(values.CHANNELS),
        now,
        values.duration(chance),
        values.maybe(chance, 0.3, transcript),
    )


def ticket(chance: Random, number: int, customer: int, now: datetime) -> Row:
    body = values.big_text(chance) if chance.random() < 0.05 else values.text(chance, chance.randrange(80))
    return (
        ticket_no(number),
        customer,
        values.text(chance, 4),
        values.maybe(chance, 0.1, body),
        chance.randint(1, 5),
        chance.choice(values.TICKET_STATES),
        values.tags(chance),
        now,
        now + timedelta(hours=chance.randrange(90)) if chance.random() < 0.4 else None,
    )


def profile(chance: Random, number: int, owner: int, now: datetime) -> Row:
    """Of the customer with the number `owner`."""
    return (
        number,
        customer_no(owner),
        values.maybe(chance, 0.2, values.email(chance)),
        values.maybe(chance, 0.3, values.phone(chance)),
        values.maybe(chance, 0.2, chance.choice(values.LANGUAGES)),
        *values.address(chance).values(),
        chance.choice((True, False, None)),
        values.interests(chance),
        values.portal_preferences(chance),
        None if chance.random() < 0.2 else now,
        now,
    )


def account(chance: Random, number: int, owner: int, today: date) -> Row:
    """Of the customer with the number `owner`."""
    status = chance.choices(("active", "suspended", "closed"), (90, 8, 2))[0]
    currency = chance.choice(("EUR", "EUR", "USD", "JPY"))
    return (number, customer_no(owner), currency, values.money(chance, -500, 5000), status, today)


def invoice_line(chance: Random, invoice: int, line_no: int) -> Row:
    quantity = Decimal(chance.randint(1, 20_000)) / 1000
    price = Decimal(chance.randint(1, 2_000_000)) / 10_000
    amount = (quantity * price).quantize(values.EPOCH_SUM)
    return (invoice, line_no, values.maybe(chance, 0.05, values.text(chance, 6)), quantity, price, amount)


def invoice(chance: Random, number: int, account: int, lines: list[Row], now: datetime) -> Row:
    total = sum((line[5] for line in lines), Decimal("0.00"))
    today = now.date()
    state = chance.choice(("draft", "open", "open"))
    return (number, account, f"R-{number:08}", today, today + timedelta(days=14), total, state, now)


def payment(chance: Random, number: int, account: int, invoice: int | None, amount: Decimal, now: datetime) -> Row:
    raw = json.dumps(
        {"bank": values.text(chance, 2), "score": chance.random(), "ids": [number, None]}, ensure_ascii=False
    )
    received = None if chance.random() < 0.05 else now.replace(microsecond=now.microsecond // 1000 * 1000)
    reference = values.maybe(chance, 0.2, f"{values.text(chance, 2)} {number}"[:60])
    method = chance.choice(values.METHODS)
    return (number, account, invoice, amount, method, reference, received, values.maybe(chance, 0.1, raw))
