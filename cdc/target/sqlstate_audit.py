"""The audit trail in table cdc_audit (see sqlstate.py and operator.py)."""

from __future__ import annotations

from typing import Any

import msgspec

from cdc.target.operator import AuditRecord
from cdc.target.sqlstate import Row, marks, migrate
from cdc.target.sqlstate_operator import moment
from cdc.target.sqlstate_target import Connect


class SqlAuditLog:
    """An `AuditLog`."""

    def __init__(self, connect: Connect) -> None:
        self._database = connect(True)
        migrate(self._database)

    def close(self) -> None:
        self._database.close()

    def begin(self, who: str, command: str, reason: str, before: dict[str, Any]) -> int:
        rows = self._database.rows(
            "INSERT INTO cdc_audit (who, command, reason, before_json, error, at_us)"
            f" VALUES ({marks(5)}, {self._database.now}) RETURNING id",
            (who, command, reason, _json(before), ""),
        )
        return int(rows[0][0])

    def finish(self, record: int, after: dict[str, Any] | None, error: str) -> None:
        self._database.run(
            f"UPDATE cdc_audit SET finished_us = {self._database.now}, after_json = ?, error = ? WHERE id = ?",
            (None if after is None else _json(after), error, record),
        )

    def records(self, limit: int, command: str) -> list[AuditRecord]:
        rows = self._database.rows(
            "SELECT id, at_us, finished_us, who, command, reason, before_json, after_json, error FROM cdc_audit"
            " WHERE substr(command, 1, ?) = ? ORDER BY id DESC LIMIT ?",
            (len(command), command, limit),
        )
        return [_record(row) for row in rows]


def _record(row: Row) -> AuditRecord:
    record, at_us, finished_us, who, command, reason, before, after, error = row
    return AuditRecord(
        record,
        moment(at_us),
        None if finished_us is None else moment(finished_us),
        who,
        command,
        reason,
        msgspec.json.decode(before),
        None if after is None else msgspec.json.decode(after),
        error,
    )


def _json(content: dict[str, Any]) -> str:
    return msgspec.json.encode(content).decode()
