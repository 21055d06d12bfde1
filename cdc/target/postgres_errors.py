"""psycopg's errors as ours, by SQLSTATE and never by text. Row values (they occur in server messages) stay out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from cdc.errors import CdcError, Terminal, Transient
from cdc.target.base import PoisonRow

_TRANSIENT_CLASSES = ("08", "40", "53", "57", "58", "XX")  # connection, rollback, resources, operator, system
_TRANSIENT_STATES = frozenset({"55P03", "55006", "25P03", "25P04"})  # lock timeout, object in use, session timeouts
_POISON_CLASSES = ("22", "23", "44", "P0")  # data, constraint, check option, raised by PL/pgSQL
_POISON_STATES = frozenset({"54000", "54011"})  # row or column too large

_REASONS = {
    "23502": "not_null_violation",
    "23503": "foreign_key_missing",
    "23505": "unique_violation",
    "23514": "check_violation",
    "23P01": "exclusion_violation",
}
_REASONS_BY_CLASS = {"22": "value_out_of_range", "P0": "raised_by_trigger"}

_LOCKED = (
    "somebody holds a lock on what is written; who: SELECT pid, query, pg_blocking_pids(pid) FROM pg_stat_activity"
    " WHERE cardinality(pg_blocking_pids(pid)) > 0"
)
_ATTACH = "CREATE TABLE … PARTITION OF … for it, or a DEFAULT partition; then: cdc parked retry"


@contextmanager
def translated() -> Iterator[None]:
    """Raise `Transient`, `Terminal` or `PoisonRow` in place of psycopg's errors."""
    try:
        yield
    except psycopg.Error as error:
        raise translate(error) from error


def translate(error: psycopg.Error) -> CdcError:
    state, diagnostic = error.sqlstate, error.diag
    if state is None:
        return Transient("the connection to the target was lost", hint="it is retried; is the server up?")
    object_name = ".".join(filter(None, (diagnostic.schema_name, diagnostic.table_name, diagnostic.column_name)))
    place = object_name or None
    if diagnostic.datatype_name:
        place = f"domain {diagnostic.schema_name}.{diagnostic.datatype_name}"
    if diagnostic.constraint_name:
        place = f"constraint {diagnostic.constraint_name}" + (f" of {place}" if place else "")
    if state.startswith(_TRANSIENT_CLASSES) or state in _TRANSIENT_STATES:
        hint = _LOCKED if state == "55P03" else None
        return Transient(f"the target answered {state} ({type(error).__name__})", where=place, hint=hint)
    if state.startswith(_POISON_CLASSES) or state in _POISON_STATES:
        if state == "23514" and diagnostic.table_name and not diagnostic.constraint_name:
            return PoisonRow(f"no partition of {place} takes the row", reason="no_partition", where=place, hint=_ATTACH)
        reason = _REASONS.get(state, _REASONS_BY_CLASS.get(state[:2], "refused"))
        what = f"the target refuses the row: {type(error).__name__} ({state})" + (f", {place}" if place else "")
        return PoisonRow(what, reason=reason, where=place)
    return Terminal(
        f"the target refuses the statement: {diagnostic.message_primary} ({state})",
        where=place,
        hint="see the server's log; check the table's definition and the role's privileges",
    )
