"""People at work: all worlds against real databases at a given rate, for a given time or number of transactions."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from cdc.demo.databases import Billing, Crm, Interrupted, LoadDatabase, Portal
from cdc.demo.world import Transaction, World
from cdc.entries import SourceSettings
from cdc.retry import retrying

RECONNECT_FOR_S = 120.0
"""How long a database may be away (a fault test kills it) before the load gives up."""
BEHIND_S = 1.0
"""A load that falls behind its rate catches up at most this much; the rest is not made up for."""

Database = Literal["crm", "billing", "portal"]


@dataclass
class Report:
    """What was done in one database. `transactions` by kind, committed and rolled back; `rows` (as the server counts
    them) by (table, operation), committed only. `interrupted`: transactions cut off by a lost connection or a
    conflict with somebody else; whether they took effect is not known."""

    seconds: float = 0.0
    transactions: Counter[str] = field(default_factory=Counter)
    rows: Counter[tuple[str, str]] = field(default_factory=Counter)
    rolled_back: int = 0
    interrupted: int = 0

    @property
    def rate(self) -> float:
        """Transactions a second."""
        return self.transactions.total() / self.seconds if self.seconds else 0.0

    def to_dict(self) -> dict[str, Any]:
        tables: dict[str, dict[str, int]] = {}
        for (table, operation), count in sorted(self.rows.items()):
            tables.setdefault(table, {})[operation] = count
        return {
            "seconds": round(self.seconds, 3),
            "transactions": dict(sorted(self.transactions.items())),
            "transactions_total": self.transactions.total(),
            "rows": tables,
            "rows_total": self.rows.total(),
            "rolled_back": self.rolled_back,
            "interrupted": self.interrupted,
        }


class Load:
    """Writes to all databases at once, each from a thread of its own: what is hot in one is hot in the others.

    Deterministic: with the same rows to begin with, the same `seed` runs the same transactions in each database (how
    the two interleave is up to the machine). After an interruption the world is read again from the database.
    """

    def __init__(
        self,
        crm: SourceSettings | None,
        billing: SourceSettings | None,
        portal: SourceSettings | None = None,
        *,
        seed: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seed = seed
        self._clock = clock
        self._stop = threading.Event()
        self._opens: dict[Database, Callable[[], LoadDatabase]] = {}
        if crm is not None:
            self._opens["crm"] = lambda: Crm(crm)
        if billing is not None:
            self._opens["billing"] = lambda: Billing(billing)
        if portal is not None:
            self._opens["portal"] = lambda: Portal(portal)
        self.reports: dict[Database, Report] = {name: Report() for name in self._opens}
        """Filled while the load runs; may be read from any thread."""

    def stop(self) -> None:
        """Ends `run` after the transactions that are under way. May be called from any thread."""
        self._stop.set()

    def run(
        self, *, rate: float | None = None, seconds: float | None = None, transactions: int | None = None
    ) -> dict[Database, Report]:
        """Blocks until `seconds` have passed, each database has run `transactions`, or `stop`.

        `rate`: transactions a second, all databases together; None: as fast as they go. Raises the first error of a
        thread, after all have ended.
        """
        failures: list[Exception] = []
        share = rate / len(self._opens) if rate else None

        def work(name: Database) -> None:
            try:
                self._work(name, share, seconds, transactions)
            except Exception as error:
                failures.append(error)
                self._stop.set()

        threads = [threading.Thread(target=work, args=(name,), name=f"load {name}") for name in self._opens]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                thread.join()
        finally:
            self._stop.set()  # Ctrl-C arrives here
            for thread in threads:
                thread.join()
        if failures:
            raise failures[0]
        return self.reports

    def _work(self, name: Database, rate: float | None, seconds: float | None, transactions: int | None) -> None:
        report = self.reports[name]
        database, world = self._enter(name, self._seed)
        start = self._clock()
        due, done = start, 0
        try:
            while not self._stop.is_set() and (transactions is None or done < transactions):
                now = self._clock()
                report.seconds = now - start
                if seconds is not None and report.seconds >= seconds:
                    break
                if rate is not None:
                    due = max(due, now - BEHIND_S)
                    if due > now:
                        self._stop.wait(due - now)
                        continue
                    due += 1 / rate
                done += 1
                transaction = world.next()
                try:
                    _count(report, transaction, database.run(transaction))
                except Interrupted:
                    report.interrupted += 1
                    database.close()
                    database, world = self._enter_again(name, self._seed + done)
        finally:
            report.seconds = self._clock() - start
            database.close()

    def _enter(self, name: Database, seed: int) -> tuple[LoadDatabase, World]:
        database = self._opens[name]()
        try:
            return database, database.world(seed)
        except BaseException:
            database.close()
            raise

    def _enter_again(self, name: Database, seed: int) -> tuple[LoadDatabase, World]:
        return retrying(lambda: self._enter(name, seed), for_seconds=RECONNECT_FOR_S, max_wait=1.0)


def _count(report: Report, transaction: Transaction, affected: list[int]) -> None:
    if transaction.rollback:
        report.rolled_back += 1
        return
    report.transactions[transaction.kind] += 1
    for statement, rows in zip(transaction.statements, affected, strict=True):
        report.rows[statement.table, statement.operation] += rows
