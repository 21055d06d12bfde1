"""What happens in the CRM, transaction by transaction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from random import Random

from cdc.demo import rows, values
from cdc.demo.world import Calendar, Operation, Statement, Transaction, hot, pick, remove

FEWEST = 20
"""Below this number of rows of a kind nothing of that kind is deleted any more."""


@dataclass
class CrmRows:
    """The keys that are in the database: all that the next transaction depends on, besides chance."""

    customers: list[int]
    contacts: dict[int, list[int]]  # by customer
    lines: dict[int, list[int]]  # subscriptions' line_no by customer_id
    interactions: list[str]
    tickets: list[str]
    next_customer: int
    next_contact: int
    next_ticket: int
    now: datetime | None = None


class CrmWorld:
    """See `world.World`. `known` is kept up to date; a transaction that is to be rolled back leaves it as it is."""

    def __init__(self, known: CrmRows, seed: int) -> None:
        self._known = known
        self._chance = Random(f"crm {seed}")
        self._calendar = Calendar(self._chance, known.now)
        self._kinds: tuple[tuple[int, Callable[[], Transaction]], ...] = (
            (24, self._update_customer),
            (8, self._update_preferences),
            (2, self._rewrite_notes),
            (5, self._new_customer),
            (1, self._lose_customer),
            (1, self._win_back),
            (4, self._move_house),
            (8, self._change_contacts),
            (8, self._change_subscription),
            (3, self._move_subscription),
            (1, self._raise_fees),
            (12, self._interact),
            (2, self._forget_interaction),
            (10, self._open_ticket),
            (10, self._work_on_ticket),
            (3, self._renumber_ticket),
            (2, self._delete_ticket),
            (4, self._change_their_mind),
        )

    def next(self) -> Transaction:
        return pick(self._chance, self._kinds)

    def _customer(self) -> int:
        return hot(self._chance, self._known.customers)

    def _update_customer(self) -> Transaction:
        """The usual change: large notes stay as they are and are not logged."""
        chance = self._chance
        column, value = chance.choice(
            (
                ("phone", values.maybe(chance, 0.2, values.phone(chance))),
                ("email", values.maybe(chance, 0.1, values.email(chance))),
                ("full_name", values.full_name(chance)),
                ("segment", chance.choice(values.SEGMENTS)),
                ("credit_limit", None if chance.random() < 0.2 else values.money(chance, 0, 50_000)),
                ("interests", values.interests(chance)),
            )
        )
        sql = f"UPDATE customers SET {column} = %s, updated_at = %s WHERE id = %s"  # noqa: S608  a name from above
        return _one("change a customer", "customers", "update", sql, value, self._calendar.now(), self._customer())

    def _update_preferences(self) -> Transaction:
        sql = "UPDATE customers SET preferences = %s, updated_at = %s WHERE id = %s"
        new = (values.preferences(self._chance), self._calendar.now(), self._customer())
        return _one("change preferences", "customers", "update", sql, *new)

    def _move_house(self) -> Transaction:
        """Three columns that belong together."""
        sql = "UPDATE customers SET street = %s, postcode = %s, city = %s, updated_at = %s WHERE id = %s"
        new = (*values.address(self._chance).values(), self._calendar.now(), self._customer())
        return _one("move house", "customers", "update", sql, *new)

    def _rewrite_notes(self) -> Transaction:
        sql = "UPDATE customers SET notes = %s, updated_at = %s WHERE id = %s"
        new = (values.big_text(self._chance), self._calendar.now(), self._customer())
        return _one("rewrite long notes", "customers", "update", sql, *new)

    def _new_customer(self) -> Transaction:
        known, now = self._known, self._calendar.now()
        customer = known.next_customer
        made = [_insert("customers", rows.customer(self._chance, customer, now))]
        known.contacts[customer] = []
        for index in range(self._chance.randint(1, 3)):
            made.append(self._new_contact(customer, primary=index == 0))
        known.lines[customer] = [1]
        made.append(_insert("subscriptions", rows.subscription(self._chance, customer, 1, now.date())))
        known.customers.append(customer)
        known.next_customer += 1
        return Transaction("new customer", tuple(made))

    def _new_contact(self, customer: int, *, primary: bool = False) -> Statement:
        number = self._known.next_contact
        self._known.next_contact += 1
        self._known.contacts.setdefault(customer, []).append(number)
        return _insert("contacts", rows.contact(self._chance, number, customer, primary=primary))

    def _lose_customer(self) -> Transaction:
        """Deletes several rows of two tables with one statement each; tickets lose their customer."""
        known = self._known
        if len(known.customers) <= FEWEST:
            return self._new_customer()
        customer = self._chance.choice(known.customers)
        remove(known.customers, customer)
        known.contacts.pop(customer, None)
        known.lines.pop(customer, None)
        return Transaction(
            "lose a customer",
            (
                Statement("contacts", "delete", "DELETE FROM contacts WHERE customer_id = %s", (customer,)),
                Statement("subscriptions", "delete", "DELETE FROM subscriptions WHERE customer_id = %s", (customer,)),
                Statement(
                    "tickets", "update", "UPDATE tickets SET customer_id = NULL WHERE customer_id = %s", (customer,)
                ),
                Statement("customers", "delete", "DELETE FROM customers WHERE id = %s", (customer,)),
            ),
        )

    def _win_back(self) -> Transaction:
        """A customer that was lost comes back under the old number."""
        known = self._known
        lost = sorted(set(range(1, known.next_customer)).difference(known.customers))
        if not lost:
            return self._update_customer()
        customer = self._chance.choice(lost)
        known.customers.append(customer)
        row = rows.customer(self._chance, customer, self._calendar.now())
        return Transaction("win a customer back", (_insert("customers", row),))

    def _change_contacts(self) -> Transaction:
        customer = self._customer()
        contacts = self._known.contacts.setdefault(customer, [])
        if len(contacts) < 2 or self._chance.random() < 0.3:
            return Transaction("new contact", (self._new_contact(customer),))
        if len(contacts) > 4:
            last = contacts.pop()
            return _one("delete a contact", "contacts", "delete", "DELETE FROM contacts WHERE id = %s", last)
        first = self._chance.choice(contacts)
        return Transaction(
            "another primary contact",
            (
                Statement(
                    "contacts", "update", "UPDATE contacts SET is_primary = false WHERE customer_id = %s", (customer,)
                ),
                Statement(
                    "contacts",
                    "update",
                    "UPDATE contacts SET is_primary = true, value = %s WHERE id = %s",
                    (values.phone(self._chance), first),
                ),
            ),
        )

    def _change_subscription(self) -> Transaction:
        customer = self._customer()
        lines = self._known.lines.setdefault(customer, [])
        today = self._calendar.now().date()
        if not lines or (len(lines) < 4 and self._chance.random() < 0.2):
            line = max(lines, default=0) + 1
            lines.append(line)
            row = rows.subscription(self._chance, customer, line, today)
            return Transaction("new subscription", (_insert("subscriptions", row),))
        line = self._chance.choice(lines)
        if len(lines) > 1 and self._chance.random() < 0.2:
            lines.remove(line)
            sql = "DELETE FROM subscriptions WHERE customer_id = %s AND line_no = %s"
            return _one("delete a subscription", "subscriptions", "delete", sql, customer, line)
        ended = today if self._chance.random() < 0.2 else None
        new = (
            self._chance.choice(values.PLANS),
            values.money(self._chance, 5, 80),
            "ended" if ended else "active",
            ended,
        )
        sql = (
            "UPDATE subscriptions SET plan = %s, monthly_fee = %s, status = %s, ended_on = %s"
            " WHERE customer_id = %s AND line_no = %s"
        )
        return _one("change a subscription", "subscriptions", "update", sql, *new, customer, line)

    def _move_subscription(self) -> Transaction:
        """A key change: the line goes to another number, or to another customer."""
        customer = self._customer()
        lines = self._known.lines.get(customer)
        if not lines:
            return self._change_subscription()
        line = self._chance.choice(lines)
        to = self._customer() if self._chance.random() < 0.5 else customer
        new_line = max(self._known.lines.setdefault(to, []), default=0) + 1
        lines.remove(line)
        self._known.lines[to].append(new_line)
        sql = "UPDATE subscriptions SET customer_id = %s, line_no = %s WHERE customer_id = %s AND line_no = %s"
        return _one("move a subscription", "subscriptions", "key change", sql, to, new_line, customer, line)

    def _raise_fees(self) -> Transaction:
        """One statement, up to some dozens of rows."""
        customer = self._customer()
        sql = "UPDATE subscriptions SET monthly_fee = monthly_fee + 0.01 WHERE customer_id BETWEEN %s AND %s"
        return _one("raise fees", "subscriptions", "update", sql, customer, customer + 20)

    def _interact(self) -> Transaction:
        row = rows.interaction(self._chance, self._customer(), self._calendar.now())
        self._known.interactions.append(str(row[0]))
        return Transaction("interaction", (_insert("interactions", row),))

    def _forget_interaction(self) -> Transaction:
        if len(self._known.interactions) <= FEWEST:
            return self._interact()
        gone = self._chance.choice(self._known.interactions)
        remove(self._known.interactions, gone)
        return _one("forget an interaction", "interactions", "delete", "DELETE FROM interactions WHERE id = %s", gone)

    def _open_ticket(self) -> Transaction:
        row = rows.ticket(self._chance, self._ticket_number(), self._customer(), self._calendar.now())
        self._known.tickets.append(row[0])
        return Transaction("open a ticket", (_insert("tickets", row),))

    def _ticket_number(self) -> int:
        self._known.next_ticket += 1
        return self._known.next_ticket - 1

    def _work_on_ticket(self) -> Transaction:
        if not self._known.tickets:
            return self._open_ticket()
        state = self._chance.choice(values.TICKET_STATES)
        closed = self._calendar.now() if state == "closed" else None
        new = (state, values.tags(self._chance), self._chance.randint(1, 5), closed)
        sql = "UPDATE tickets SET status = %s, tags = %s, priority = %s, closed_at = %s WHERE ticket_no = %s"
        return _one("work on a ticket", "tickets", "update", sql, *new, hot(self._chance, self._known.tickets))

    def _renumber_ticket(self) -> Transaction:
        """A key change of a row whose body may be too long to be logged again."""
        if not self._known.tickets:
            return self._open_ticket()
        index = self._chance.randrange(len(self._known.tickets))
        old, new = self._known.tickets[index], rows.ticket_no(self._ticket_number())
        self._known.tickets[index] = new
        sql = "UPDATE tickets SET ticket_no = %s, status = 'open', closed_at = NULL WHERE ticket_no = %s"
        return _one("re-open a ticket", "tickets", "key change", sql, new, old)

    def _delete_ticket(self) -> Transaction:
        if len(self._known.tickets) <= FEWEST:
            return self._open_ticket()
        gone = self._chance.choice(self._known.tickets)
        remove(self._known.tickets, gone)
        return _one("delete a ticket", "tickets", "delete", "DELETE FROM tickets WHERE ticket_no = %s", gone)

    def _change_their_mind(self) -> Transaction:
        """Rolled back: none of it may arrive anywhere."""
        customer = self._customer()
        sql = "UPDATE customers SET full_name = %s, updated_at = %s WHERE id = %s"
        update = Statement("customers", "update", sql, ("rolled back", self._calendar.now(), customer))
        insert = _insert("interactions", rows.interaction(self._chance, customer, self._calendar.now()))
        return Transaction("change their mind", (update, insert), rollback=True)


def _one(kind: str, table: str, operation: Operation, sql: str, *places: object) -> Transaction:
    return Transaction(kind, (Statement(table, operation, sql, places),))


def _insert(table: str, row: rows.Row) -> Statement:
    return Statement(table, "insert", rows.insert(table), row)
