"""A connection pooler (pgbouncer and its like) between us and PostgreSQL: noticed, and refused where it breaks things.

What a worker relies on outlives a transaction: its temporary staging tables, its session's parameters, prepared
statements. A pooler in session mode keeps them; in transaction or statement mode the next transaction may run in
another of the server's sessions, and other clients run in ours.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing, suppress
from select import select
from typing import Any

import psycopg
import structlog
from psycopg.pq import ExecStatus

from cdc.errors import Terminal, Transient

_log = structlog.get_logger(__name__)

WAIT_S = 5.0
"""So long we wait for an answer. Only the second connection gets none: all sessions are given away for good."""
_ROUNDS = 10


def refuse_shared_sessions(connection: psycopg.Connection[Any], connect: Callable[[], psycopg.Connection[Any]]) -> None:
    """Raise `Terminal` when transactions of `connection` do not have a session of the server to themselves.

    A pooler makes up the process id that a client gets when it connects; only then more is asked. A quiet pool gives a
    client the same session again and again, so a second connection asks in turn with ours: in transaction mode it is
    given our session, or takes turns with us.
    """
    ours, others = {backend(connection)}, set[int | None]()
    if ours == {connection.info.backend_pid}:
        return
    at = f"{connection.info.host}:{connection.info.port}/{connection.info.dbname}"
    with suppress(Transient), closing(connect()) as other:
        for _ in range(_ROUNDS):
            if None in ours | others or len(ours) > 1 or ours & others:
                break
            others.add(backend(other))
            ours.add(backend(connection))
    if None in ours:
        raise Transient(
            f"the target did not answer for {WAIT_S:g} s", where=at, hint="has the pooler a session left for it?"
        )
    if len(ours) > 1 or ours & others:
        raise Terminal(
            "a connection pooler here gives every transaction another session of the server: temporary tables and "
            "session settings would be lost",
            where=at,
            hint="set pool_mode = session for this database (pgbouncer.ini, [databases]: … pool_mode=session), or give "
            "the server's own host and port in connections.yaml",
        )
    _log.info("connected through a pooler in session mode: it must have a session for every worker", target=at)


def backend(connection: psycopg.Connection[Any]) -> int | None:
    """The server's process that answers now, None when none does in time; without a prepared statement, and the
    connection must not be used after None."""
    wire = connection.pgconn
    wire.send_query(b"SELECT pg_backend_pid()")
    wire.flush()
    while wire.is_busy():
        if not select([wire.socket], [], [], WAIT_S)[0]:
            return None
        wire.consume_input()
    result = wire.get_result()
    while wire.get_result() is not None:
        pass
    if result is None or result.status != ExecStatus.TUPLES_OK:
        return None
    return int(result.get_value(0, 0) or b"0")
