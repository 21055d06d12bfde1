"""The audit trail in a PostgreSQL database: table cdc.audit (see operator.py)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from cdc.target.operator import AuditRecord
from cdc.target.postgres_errors import translated
from cdc.target.postgres_state import migrate


class PostgresAuditLog:
    """An `AuditLog`. `connect` opens a connection in autocommit mode."""

    def __init__(self, connect: Callable[[], psycopg.Connection[Any]]) -> None:
        with translated():
            self._connection = connect()
            migrate(self._connection)

    def close(self) -> None:
        self._connection.close()

    def begin(self, who: str, command: str, reason: str, before: dict[str, Any]) -> int:
        with translated():
            row = self._connection.execute(
                "INSERT INTO cdc.audit (who, command, reason, before) VALUES (%s, %s, %s, %s) RETURNING id",
                (who, command, reason, Jsonb(before)),
            ).fetchone()
        assert row is not None
        return int(row[0])

    def finish(self, record: int, after: dict[str, Any] | None, error: str) -> None:
        with translated():
            self._connection.execute(
                "UPDATE cdc.audit SET finished_at = now(), after = %s, error = %s WHERE id = %s",
                (None if after is None else Jsonb(after), error, record),
            )

    def records(self, limit: int, command: str) -> list[AuditRecord]:
        with translated():
            rows = self._connection.execute(
                "SELECT id, at, finished_at, who, command, reason, before, after, error FROM cdc.audit"
                " WHERE starts_with(command, %s) ORDER BY id DESC LIMIT %s",
                (command, limit),
            ).fetchall()
        return [AuditRecord(*row) for row in rows]
