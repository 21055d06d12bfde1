"""The load's connections: run a world's transactions, and read where a world stands."""

from __future__ import annotations

from typing import Any, Protocol

from cdc.db import mariadb, postgres
from cdc.demo.billing import BillingRows, BillingWorld
from cdc.demo.crm import CrmRows, CrmWorld
from cdc.demo.portal import PortalRows, PortalWorld
from cdc.demo.prepare import MARK
from cdc.demo.world import Transaction, World
from cdc.entries import SourceSettings
from cdc.errors import Transient, Usage


class LoadDatabase(Protocol):
    """One connection of the load."""

    def world(self, seed: int) -> World:
        """The world as it stands in the database now. Raises `Transient` when the connection is lost, `Usage` when the
        database is not of the demo's making."""

    def run(self, transaction: Transaction) -> list[int]:
        """Run it to its commit or rollback; affected rows by statement. Raises `Interrupted`."""

    def close(self) -> None: ...


class Interrupted(Exception):
    """The transaction did not get through; the world must be read again."""


class _Postgres:
    """What the CRM and the portal share."""

    def __init__(self, settings: SourceSettings) -> None:
        self._connection = postgres.connect(
            settings, account=settings.admin, application_name="cdc demo load", autocommit=False
        )
        self._settings = settings

    def world(self, seed: int) -> World:
        try:
            self._connection.execute("SET timezone = 'UTC'")
            _refuse_unmarked(
                self._one(
                    "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = current_database()"
                ),
                self._settings,
            )
            world = self._world(seed)
            self._connection.commit()
        except postgres.LOST as error:
            raise Transient(str(error).strip(), where=self._settings.where) from error
        return world

    def _world(self, seed: int) -> World:
        raise NotImplementedError

    def run(self, transaction: Transaction) -> list[int]:
        try:
            affected = [self._connection.execute(s.sql.encode(), s.values).rowcount for s in transaction.statements]
            if transaction.rollback:
                self._connection.rollback()
            else:
                self._connection.commit()
        except (postgres.LOST, postgres.CONFLICT) as error:
            raise Interrupted from error
        return affected

    def close(self) -> None:
        self._connection.close()

    def _all(self, query: str) -> list[Any]:
        return self._connection.execute(query.encode()).fetchall()

    def _one(self, query: str) -> Any:
        return self._all(query)[0][0]


class Crm(_Postgres):
    """The CRM."""

    def _world(self, seed: int) -> World:
        return CrmWorld(self._known(), seed)

    def _known(self) -> CrmRows:
        contacts: dict[int, list[int]] = {}
        for number, customer in self._all("SELECT id, customer_id FROM contacts ORDER BY id"):
            contacts.setdefault(customer, []).append(number)
        lines: dict[int, list[int]] = {}
        for customer, line in self._all("SELECT customer_id, line_no FROM subscriptions ORDER BY 1, 2"):
            lines.setdefault(customer, []).append(line)
        return CrmRows(
            customers=[number for (number,) in self._all("SELECT id FROM customers ORDER BY id")],
            contacts=contacts,
            lines=lines,
            interactions=[key for (key,) in self._all("SELECT id::text FROM interactions ORDER BY id")],
            tickets=[key for (key,) in self._all('SELECT ticket_no FROM tickets ORDER BY ticket_no COLLATE "C"')],
            next_customer=self._one("SELECT coalesce(max(id), 0) + 1 FROM customers"),
            next_contact=self._one("SELECT coalesce(max(id), 0) + 1 FROM contacts"),
            next_ticket=self._one(  # somebody may have added tickets with numbers of another shape
                "SELECT coalesce(max(substring(ticket_no FROM '^T-([0-9]{1,9})$')::int), 0) + 1 FROM tickets"
            ),
            now=self._one(
                "SELECT (SELECT max(updated_at) FROM customers HAVING max(updated_at) > '2026-01-05')"
                " AT TIME ZONE 'UTC'"
            ),
        )


class Portal(_Postgres):
    """The self-care portal."""

    def _world(self, seed: int) -> World:
        owners = {
            profile: int(owner)
            for profile, owner in self._all("SELECT id, substring(customer_no FROM 2) FROM profiles ORDER BY id")
        }
        known = PortalRows(
            profiles=list(owners),
            owners=owners,
            next_profile=self._one("SELECT coalesce(max(id), 0) + 1 FROM profiles"),
            now=self._one(
                "SELECT greatest((SELECT max(updated_at) FROM profiles), (SELECT max(last_login) FROM profiles),"
                " '2026-01-05 08:00Z') AT TIME ZONE 'UTC'"
            ),
        )
        return PortalWorld(known, seed)


class Billing:
    """Billing, in MariaDB."""

    def __init__(self, settings: SourceSettings) -> None:
        self._connection = mariadb.connect(
            settings, account=settings.admin, database=settings.database, autocommit=False
        )
        self._cursor = self._connection.cursor()
        self._settings = settings

    def world(self, seed: int) -> World:
        try:
            _refuse_unmarked(
                self._one("SELECT schema_comment FROM information_schema.schemata WHERE schema_name = database()"),
                self._settings,
            )
            known = self._known()
            self._connection.commit()
        except mariadb.LOST as error:
            raise Transient(str(error), where=self._settings.where) from error
        return BillingWorld(known, seed)

    def run(self, transaction: Transaction) -> list[int]:
        try:
            affected = [self._cursor.execute(s.sql, s.values) for s in transaction.statements]
            if transaction.rollback:
                self._connection.rollback()
            else:
                self._connection.commit()
        except (*mariadb.LOST, mariadb.CONFLICT) as error:
            raise Interrupted from error
        return affected

    def close(self) -> None:
        if self._connection.open:
            self._connection.close()

    def _known(self) -> BillingRows:
        lines: dict[int, list[int]] = {}
        for invoice, line in self._all("SELECT invoice_id, line_no FROM invoice_lines ORDER BY 1, 2"):
            lines.setdefault(invoice, []).append(line)
        return BillingRows(
            accounts=[number for (number,) in self._all("SELECT id FROM accounts ORDER BY id")],
            invoices=[number for (number,) in self._all("SELECT id FROM invoices ORDER BY id")],
            lines=lines,
            payments=[number for (number,) in self._all("SELECT id FROM payments ORDER BY id")],
            next_account=int(self._one("SELECT coalesce(max(id), 0) + 1 FROM accounts")),
            next_invoice=int(self._one("SELECT coalesce(max(id), 0) + 1 FROM invoices")),
            next_payment=int(self._one("SELECT coalesce(max(id), 0) + 1 FROM payments")),
            now=self._one("SELECT max(updated) FROM invoices WHERE updated > '2026-01-05'"),
        )

    def _all(self, query: str) -> tuple[Any, ...]:
        self._cursor.execute(query)
        return tuple(self._cursor.fetchall())

    def _one(self, query: str) -> Any:
        return self._all(query)[0][0]


def _refuse_unmarked(comment: str | None, settings: SourceSettings) -> None:
    if comment != MARK:
        raise Usage(
            f"database {settings.database} is not of the demo's making",
            where=settings.where,
            hint="the load writes only to databases that 'cdc demo prepare' made",
        )
