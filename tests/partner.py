"""A faulty partner in the test's own process, and what can be asked of it."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from cdc.stack.partner_server import Partner
from cdc.stack.partner_store import Entry, Fault, Store


@dataclass
class Running:
    server: Partner
    store: Store

    @property
    def url(self) -> str:
        return self.server.url

    def fault(self, *faults: Fault) -> None:
        """From now on these, and no others."""
        with self.store.held():
            self.store.faults[:] = faults

    def resources(self, below: str = "/") -> dict[str, Any]:
        with self.store.held():
            return {path: body for path, body in self.store.resources.items() if path.startswith(below)}

    def log(self) -> list[Entry]:
        with self.store.held():
            return list(self.store.log)

    def applied_twice(self) -> list[str]:
        """Idempotency keys whose change was applied more than once: never any."""
        applied = [entry.key for entry in self.log() if entry.outcome == "applied"]
        return [key for key in applied if applied.count(key) > 1] if len(set(applied)) < len(applied) else []

    def under_two_keys(self) -> list[tuple[str, str, str]]:
        """Changes (operation, path, body) that came under more than one key."""
        keys = defaultdict(set)
        for entry in self.log():
            keys[entry.operation, entry.path, repr(entry.body)].add(entry.key)
        return [change for change, found in keys.items() if len(found) > 1]


@contextmanager
def running_partner(secret: str = "", port: int = 0, store: Store | None = None) -> Iterator[Running]:
    """A partner that answers until the block ends."""
    server = Partner(store or Store(), port, secret)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, name="partner", daemon=True)
    thread.start()
    try:
        yield Running(server, server.store)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
