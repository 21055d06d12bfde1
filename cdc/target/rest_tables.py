"""What a REST target knows of the tables that go there: their requests, and the idempotency keys of their changes."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256

import msgspec

from cdc.errors import Terminal
from cdc.model import MappedRow, TargetTable
from cdc.target.base import Owner
from cdc.target.rest_requests import Message, Renderer, Requests


class Tables:
    """`requests`: those of every mapping that goes here, by its id."""

    def __init__(self, requests: Mapping[str, Requests]) -> None:
        self._requests = requests
        self._renderers: dict[TargetTable, Renderer] = {}
        self._cleared: set[str] = set()

    def reopened(self) -> None:
        self._cleared.clear()

    def prepare(self, table: TargetTable) -> None:
        """Raises `Terminal` for a table without requests."""
        if table not in self._renderers and table.key:
            self._renderers[table] = Renderer(table, self.requests(table))

    def requests(self, table: TargetTable) -> Requests:
        found = self._requests.get(table.mapping)
        if found is None:
            hint = "say in the mapping file how its rows are written: rest: {upsert: …, delete: …}"
            raise Terminal("the table has no requests for a REST target", where=table.mapping, hint=hint)
        return found

    def message(self, table: TargetTable, row: MappedRow, operation: str, idempotency_key: str) -> Message:
        """Raises `Poison` for a value that cannot stand where its column's place is."""
        return self._renderers[table].message(row, operation, idempotency_key)

    def owes_clearing(self, table: TargetTable) -> bool:
        """Once after each opening: a truncate that came while the table was known by name only left its rows."""
        first = table.mapping not in self._cleared
        self._cleared.add(table.mapping)
        return first

    def idempotency_key(self, owner: Owner, table: TargetTable, row: MappedRow, hold: str) -> str:
        """From the change's position, the mapping, the row's key and what is said of it: the same on every replay.

        Neither the Kafka offset is in it (a redelivery has another one) nor the operation (a replay may find the row
        there). What is said is, because changes of one row can share a position.
        """
        about = (owner.pipeline, owner.target, table.mapping, hold, row.op, self.requests(table).digest)
        said = repr(row.values).encode()  # canonical values have one form, and one text
        return sha256(b"\0".join([msgspec.json.encode(about), row.position.pack(), said])).hexdigest()[:32]
