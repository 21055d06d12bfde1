"""The audit trail: table cdc.audit in the control database, written before a command acts and again when it is done.

A record that was never finished says that the command was interrupted: what it changed is either done or not, and
`before` says what was there.
"""

from __future__ import annotations

import getpass
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, TypeVar

import msgspec

from cdc.db import postgres
from cdc.errors import CdcError, Usage
from cdc.settings import Settings
from cdc.target.postgres_errors import translated
from cdc.target.postgres_state import migrate


class Described(Protocol):
    """Something that shows itself as JSON data: a plan, or what a command did. No secrets, no row values."""

    def to_dict(self) -> dict[str, Any]: ...


T = TypeVar("T", bound=Described)


@dataclass(frozen=True)
class AuditRecord:
    """`after` is None and `finished_at` too when the command was interrupted; `error`: why it failed."""

    id: int
    at: datetime
    finished_at: datetime | None
    who: str
    command: str
    reason: str
    before: dict[str, Any]
    after: dict[str, Any] | None
    error: str

    @property
    def outcome(self) -> str:
        if self.finished_at is None:
            return "interrupted"
        return "failed" if self.error else "done"


def audited(settings: Settings, command: str, reason: str, before: Described, action: Callable[[], T]) -> T:
    """Run a mutating command's `action` and record it. `before`: what it is about to change.

    Raises `Usage` without a reason, and what `action` raises. When the control database can't be written to, nothing
    is done: `Transient` or `Terminal`.
    """
    check_reason(True, reason)
    with _opened(settings) as connection:
        record = _begin(connection, command, reason, before)
        try:
            done = action()
        except CdcError as error:
            _finish(connection, record, None, error.what)
            raise
        _finish(connection, record, done.to_dict(), "")
        return done


def check_reason(execute: bool, reason: str) -> None:
    """Commands call this first, so that nobody waits for a rehearsal to be told. Raises `Usage`."""
    if execute and not reason.strip():
        raise Usage("--execute needs --reason", hint="say why, for whoever reads `cdc audit` later: --reason '…'")


def records(settings: Settings, limit: int = 20, command: str = "") -> list[AuditRecord]:
    """The newest `limit` records first; `command` keeps those whose command begins with it."""
    if limit < 1:
        raise Usage(f"--limit {limit}: at least one")
    with _opened(settings) as connection, translated():
        rows = connection.execute(
            "SELECT id, at, finished_at, who, command, reason, before, after, error FROM cdc.audit"
            " WHERE starts_with(command, %s) ORDER BY id DESC LIMIT %s",
            (command, limit),
        ).fetchall()
    return [AuditRecord(*row) for row in rows]


@contextmanager
def _opened(settings: Settings) -> Iterator[postgres.Connection]:
    control = settings.control
    with translated():
        connection = postgres.connect(control, application_name=f"{control.application_name}-audit")
    try:
        with translated():
            migrate(connection)
        yield connection
    finally:
        connection.close()


def _begin(connection: postgres.Connection, command: str, reason: str, before: Described) -> int:
    with translated():
        row = connection.execute(
            "INSERT INTO cdc.audit (who, command, reason, before) VALUES (%s, %s, %s, %s::jsonb) RETURNING id",
            (f"{getpass.getuser()}@{socket.gethostname()}", command, reason, _json(before.to_dict())),
        ).fetchone()
    assert row is not None
    return int(row[0])


def _finish(connection: postgres.Connection, record: int, after: dict[str, Any] | None, error: str) -> None:
    with translated():
        connection.execute(
            "UPDATE cdc.audit SET finished_at = now(), after = %s::jsonb, error = %s WHERE id = %s",
            (None if after is None else _json(after), error, record),
        )


def _json(content: dict[str, Any]) -> str:
    return msgspec.json.encode(content).decode()


def to_dicts(found: Sequence[AuditRecord]) -> list[dict[str, Any]]:
    """JSON data, with the outcome in a word."""
    return [vars(each) | {"outcome": each.outcome} for each in found]
