"""The audit trail in the control database, written before a command acts and again when it is done.

A record that was never finished says that the command was interrupted: what it changed is either done or not, and
`before` says what was there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any, Protocol, TypeVar

import msgspec

from cdc.control.operate import who
from cdc.engine.targets import open_audit_log
from cdc.errors import CdcError, Usage
from cdc.settings import Settings
from cdc.target.operator import AuditRecord


class Described(Protocol):
    """Something that shows itself as JSON data: a plan, or what a command did. No secrets, no row values."""

    def to_dict(self) -> dict[str, Any]: ...


T = TypeVar("T", bound=Described)


def audited(settings: Settings, command: str, reason: str, before: Described, action: Callable[[], T]) -> T:
    """Run a mutating command's `action` and record it. `before`: what it is about to change.

    Raises `Usage` without a reason, and what `action` raises. When the control database can't be written to, nothing
    is done: `Transient` or `Terminal`.
    """
    check_reason(True, reason)
    with closing(open_audit_log(settings.control)) as log:
        record = log.begin(who(), command, reason, before.to_dict())
        try:
            done = action()
        except CdcError as error:
            log.finish(record, None, error.what)
            raise
        log.finish(record, done.to_dict(), "")
        return done


def check_reason(execute: bool, reason: str) -> None:
    """Commands call this first, so that nobody waits for a rehearsal to be told. Raises `Usage`."""
    if execute and not reason.strip():
        raise Usage("--execute needs --reason", hint="say why, for whoever reads `cdc audit` later: --reason '…'")


def records(settings: Settings, limit: int = 20, command: str = "") -> list[AuditRecord]:
    """The newest `limit` records first; `command` keeps those whose command begins with it."""
    if limit < 1:
        raise Usage(f"--limit {limit}: at least one")
    with closing(open_audit_log(settings.control)) as log:
        return log.records(limit, command)


def to_dicts(found: Sequence[AuditRecord]) -> list[dict[str, Any]]:
    """JSON data, with the outcome in a word."""
    return [msgspec.structs.asdict(each) | {"outcome": each.outcome} for each in found]
