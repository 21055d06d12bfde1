"""What happens in billing, transaction by transaction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from random import Random

from cdc.demo import rows, values
from cdc.demo.world import Calendar, Operation, Statement, Transaction, hot, pick, remove

FEWEST = 20


@dataclass
class BillingRows:
    """The keys that are in the database: all that the next transaction depends on, besides chance."""

    accounts: list[int]
    invoices: list[int]
    lines: dict[int, list[int]]  # line_no by invoice
    payments: list[int]
    next_account: int
    next_invoice: int
    next_payment: int
    now: datetime | None = None


class BillingWorld:
    """See `world.World`. `known` is kept up to date; a transaction that is to be rolled back leaves it as it is."""

    def __init__(self, known: BillingRows, seed: int) -> None:
        self._known = known
        self._chance = Random(f"billing {seed}")
        self._calendar = Calendar(self._chance, known.now)
        self._kinds: tuple[tuple[int, Callable[[], Transaction]], ...] = (
            (22, self._bill),
            (26, self._pay),
            (12, self._correct_line),
            (3, self._renumber_line),
            (4, self._change_state),
            (4, self._discard_invoice),
            (8, self._correct_payment),
            (3, self._refund),
            (6, self._change_account),
            (3, self._new_account),
            (2, self._renew_account),
            (2, self._hand_over_account),
            (4, self._change_their_mind),
        )

    def next(self) -> Transaction:
        return pick(self._chance, self._kinds)

    def _account(self) -> int:
        return hot(self._chance, self._known.accounts)

    def _customer(self) -> int:
        """Somebody's number: most have an account, some get their second."""
        return self._chance.randint(1, self._known.next_account)

    def _new_account(self) -> Transaction:
        number = self._known.next_account
        self._known.next_account += 1
        self._known.accounts.append(number)
        row = rows.account(self._chance, number, self._customer(), self._calendar.now().date())
        return Transaction("new account", (_insert("accounts", row),))

    def _renew_account(self) -> Transaction:
        """A new account takes the place of an old one, with everything that belongs to it."""
        known, old, new = self._known, self._account(), self._known.next_account
        known.next_account += 1
        known.accounts[known.accounts.index(old)] = new
        copy = (
            "INSERT INTO accounts (id, customer_no, currency, balance, status, opened)"
            " SELECT %s, customer_no, currency, balance, 'active', %s FROM accounts WHERE id = %s"
        )
        now = self._calendar.now()
        moved = "UPDATE invoices SET account_id = %s, updated = %s WHERE account_id = %s"
        return Transaction(
            "renew an account",
            (
                Statement("accounts", "insert", copy, (new, now.date(), old)),
                _update("invoices", moved, new, now, old),
                _update("payments", "UPDATE payments SET account_id = %s WHERE account_id = %s", new, old),
                Statement("accounts", "delete", "DELETE FROM accounts WHERE id = %s", (old,)),
            ),
        )

    def _hand_over_account(self) -> Transaction:
        """Another customer pays from now on."""
        sql, owner = "UPDATE accounts SET customer_no = %s WHERE id = %s", rows.customer_no(self._customer())
        return _one("hand an account over", "accounts", "update", sql, owner, self._account())

    def _bill(self) -> Transaction:
        """An invoice with its lines."""
        known, invoice = self._known, self._known.next_invoice
        lines = [rows.invoice_line(self._chance, invoice, n + 1) for n in range(self._chance.randint(1, 6))]
        row = rows.invoice(self._chance, invoice, self._account(), lines, self._calendar.now())
        known.next_invoice += 1
        known.invoices.append(invoice)
        known.lines[invoice] = [line[1] for line in lines]
        return Transaction("invoice", (_insert("invoices", row), *(_insert("invoice_lines", line) for line in lines)))

    def _pay(self) -> Transaction:
        """A payment, the account's balance, perhaps the invoice's state."""
        known, account, now = self._known, self._account(), self._calendar.now()
        invoice = hot(self._chance, known.invoices) if known.invoices and self._chance.random() < 0.7 else None
        amount = values.money(self._chance, 1, 900)
        number = known.next_payment
        known.next_payment += 1
        known.payments.append(number)
        made = [
            _insert("payments", rows.payment(self._chance, number, account, invoice, amount, now)),
            _update("accounts", "UPDATE accounts SET balance = balance + %s WHERE id = %s", amount, account),
        ]
        if invoice is not None:
            sql = "UPDATE invoices SET state = 'paid', updated = %s WHERE id = %s"
            made.append(_update("invoices", sql, now, invoice))
        return Transaction("payment", tuple(made))

    def _correct_line(self) -> Transaction:
        invoice = self._invoice_with_lines()
        if invoice is None:
            return self._bill()
        line = rows.invoice_line(self._chance, invoice, self._chance.choice(self._known.lines[invoice]))
        change = (
            "UPDATE invoice_lines SET description = %s, quantity = %s, unit_price = %s, amount = %s"
            " WHERE invoice_id = %s AND line_no = %s"
        )
        total = (
            "UPDATE invoices SET total = (SELECT sum(amount) FROM invoice_lines WHERE invoice_id = %s), updated = %s"
            " WHERE id = %s"
        )
        return Transaction(
            "correct a line",
            (
                _update("invoice_lines", change, *line[2:], *line[:2]),
                _update("invoices", total, invoice, self._calendar.now(), invoice),
            ),
        )

    def _renumber_line(self) -> Transaction:
        """A key change."""
        invoice = self._invoice_with_lines()
        if invoice is None:
            return self._bill()
        lines = self._known.lines[invoice]
        index = self._chance.randrange(len(lines))
        old, lines[index] = lines[index], max(lines) + 1
        sql = "UPDATE invoice_lines SET line_no = %s WHERE invoice_id = %s AND line_no = %s"
        return _one("renumber a line", "invoice_lines", "key change", sql, lines[index], invoice, old)

    def _invoice_with_lines(self) -> int | None:
        if not self._known.invoices:
            return None
        invoice = hot(self._chance, self._known.invoices)
        return invoice if self._known.lines.get(invoice) else None

    def _change_state(self) -> Transaction:
        if not self._known.invoices:
            return self._bill()
        state = self._chance.choice(("draft", "open", "void"))
        sql = "UPDATE invoices SET state = %s, due = %s, updated = %s WHERE id = %s"
        now = self._calendar.now()
        due = None if state == "void" else now.date()
        return _one(
            "invoice state", "invoices", "update", sql, state, due, now, hot(self._chance, self._known.invoices)
        )

    def _discard_invoice(self) -> Transaction:
        known = self._known
        if len(known.invoices) <= FEWEST:
            return self._bill()
        invoice = self._chance.choice(known.invoices)
        remove(known.invoices, invoice)
        known.lines.pop(invoice, None)
        lines = Statement("invoice_lines", "delete", "DELETE FROM invoice_lines WHERE invoice_id = %s", (invoice,))
        head = Statement("invoices", "delete", "DELETE FROM invoices WHERE id = %s", (invoice,))
        return Transaction("discard an invoice", (lines, head))

    def _correct_payment(self) -> Transaction:
        if not self._known.payments:
            return self._pay()
        reference = values.maybe(self._chance, 0.3, values.text(self._chance, 3)[:60])
        sql = "UPDATE payments SET reference = %s, method = %s WHERE id = %s"
        new = (reference, self._chance.choice(values.METHODS), hot(self._chance, self._known.payments))
        return _one("correct a payment", "payments", "update", sql, *new)

    def _refund(self) -> Transaction:
        if len(self._known.payments) <= FEWEST:
            return self._pay()
        gone = self._chance.choice(self._known.payments)
        remove(self._known.payments, gone)
        balance = (
            "UPDATE accounts SET balance = balance - (SELECT amount FROM payments WHERE id = %s)"
            " WHERE id = (SELECT account_id FROM payments WHERE id = %s)"
        )
        return Transaction(
            "refund",
            (
                _update("accounts", balance, gone, gone),
                Statement("payments", "delete", "DELETE FROM payments WHERE id = %s", (gone,)),
            ),
        )

    def _change_account(self) -> Transaction:
        status = self._chance.choices(("active", "suspended", "closed"), (80, 15, 5))[0]
        opened = None if self._chance.random() < 0.1 else self._calendar.now().date()
        sql = "UPDATE accounts SET status = %s, opened = %s WHERE id = %s"
        return _one("change an account", "accounts", "update", sql, status, opened, self._account())

    def _change_their_mind(self) -> Transaction:
        """Rolled back: none of it may arrive anywhere."""
        account, now = self._account(), self._calendar.now()
        amount = values.money(self._chance, 1, 900)
        row = rows.payment(self._chance, self._known.next_payment, account, None, amount, now)
        balance = _update("accounts", "UPDATE accounts SET balance = balance + %s WHERE id = %s", amount, account)
        return Transaction("change their mind", (_insert("payments", row), balance), rollback=True)


def _one(kind: str, table: str, operation: Operation, sql: str, *places: object) -> Transaction:
    return Transaction(kind, (Statement(table, operation, sql, places),))


def _update(table: str, sql: str, *places: object) -> Statement:
    return Statement(table, "update", sql, places)


def _insert(table: str, row: rows.Row) -> Statement:
    return Statement(table, "insert", rows.insert(table), row)
