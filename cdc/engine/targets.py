"""Targets by kind: the one place that knows which class serves an entry of connections.yaml.

A kind has three sides: the target that a worker writes to, the operator's view of its state, and, where it can keep
the control tables, the audit trail.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import TypeAlias

from cdc.db import postgres
from cdc.entries import (
    MariaDbTargetSettings,
    PostgresTargetSettings,
    RestSettings,
    SqliteTargetSettings,
    TargetSettings,
)
from cdc.model import TargetTable
from cdc.target import mariadb_outlook, postgres_outlook, sqlite_outlook
from cdc.target.base import Capabilities, Owner, Target
from cdc.target.beside import Beside
from cdc.target.delivery import LedgerReader
from cdc.target.mariadb import MariaDbTarget
from cdc.target.mariadb_database import open_database
from cdc.target.mariadb_rows import MariaDbRows
from cdc.target.operator import AuditLog, Operator
from cdc.target.outlook import UNKNOWN, Outlook
from cdc.target.postgres import PostgresTarget
from cdc.target.postgres_audit import PostgresAuditLog
from cdc.target.postgres_beside import PostgresBeside
from cdc.target.postgres_ledger import PostgresLedger
from cdc.target.postgres_operator import PostgresOperator
from cdc.target.postgres_scratch import PostgresScratch
from cdc.target.read_beside import ReadBeside
from cdc.target.rest import capabilities as rest_capabilities
from cdc.target.rest_delivery import StateStore
from cdc.target.rows import TargetRows
from cdc.target.scratch import Scratch
from cdc.target.sqlite import SqliteTarget
from cdc.target.sqlite_database import SqliteDatabase
from cdc.target.sqlite_rows import SqliteRows
from cdc.target.sqlscratch import MariaDbScratch, SqliteScratch
from cdc.target.sqlstate_audit import SqlAuditLog
from cdc.target.sqlstate_ledger import SqlLedger
from cdc.target.sqlstate_operator import SqlOperator
from cdc.target.sqlstate_target import Connect

Look: TypeAlias = Callable[[TargetTable, bool], Outlook]
"""What writing a table would mean; True: with the number of its rows."""


def open_target(settings: TargetSettings) -> Target:
    """The target of an entry in connections.yaml; it connects when it is opened."""
    return _database(settings)


def open_state(settings: TargetSettings) -> StateStore:
    """The database that keeps a REST target's state; it connects when it is opened."""
    return _database(settings)


def _database(settings: TargetSettings) -> PostgresTarget | MariaDbTarget | SqliteTarget:
    match settings:
        case PostgresTargetSettings():
            return PostgresTarget(_postgres(settings, "applier"), settings.session)
        case MariaDbTargetSettings():
            return MariaDbTarget(_sql(settings))
        case SqliteTargetSettings():
            return SqliteTarget(_sql(settings))


@contextmanager
def opened_ledger(settings: TargetSettings, owner: Owner) -> Iterator[LedgerReader]:
    """What is on record about an owner's deliveries."""
    if isinstance(settings, PostgresTargetSettings):
        with closing(_postgres(settings, "operator")()) as connection:
            yield PostgresLedger(connection, owner)
    else:
        with closing(_sql(settings)(False)) as database:
            yield SqlLedger(database, owner)


def capabilities_of(settings: TargetSettings | RestSettings) -> Capabilities:
    """What a target of this kind can do, without connecting to it."""
    if isinstance(settings, RestSettings):
        return rest_capabilities(settings)
    return open_target(settings).capabilities


_CAPABILITIES = {
    "postgresql": PostgresTarget.capabilities,
    "mariadb": MariaDbTarget.capabilities,
    "sqlite": SqliteTarget.capabilities,
}


def decides(kind: str, *, sources: bool) -> bool:
    """Whether a kind of target follows conflict rules: those of one source or of several. Needs no connection, nor
    anything that would be needed for one."""
    can = _CAPABILITIES.get(kind)
    return can is not None and (can.contributions if sources else can.rules)


def keeps_history(kind: str) -> bool:
    """The same of tables whose rows are changes."""
    can = _CAPABILITIES.get(kind)
    return can is not None and can.history


def open_operator(settings: TargetSettings) -> Operator:
    """The operator's side of a target; it connects when it is opened."""
    if isinstance(settings, PostgresTargetSettings):
        return PostgresOperator(_postgres(settings, "operator"))
    return SqlOperator(_sql(settings))


def open_audit_log(settings: TargetSettings) -> AuditLog:
    """The audit trail in a target that keeps the control tables, connected. Raises `Transient` or `Terminal`."""
    if isinstance(settings, PostgresTargetSettings):
        return PostgresAuditLog(_postgres(settings, "audit"))
    return SqlAuditLog(_sql(settings))


def open_rows(settings: SqliteTargetSettings | MariaDbTargetSettings, table: TargetTable) -> TargetRows:
    """The rows of a target that is compared from outside, connected. Raises `Transient` or `Terminal`."""
    if isinstance(settings, MariaDbTargetSettings):
        return MariaDbRows(open_database(settings, settings.database), table)
    return SqliteRows(_sql(settings)(False), table)


def open_scratch(settings: TargetSettings, name: str) -> Scratch:
    """A place of its own in a target, connected; `name`: of the pipeline that is played there."""
    match settings:
        case PostgresTargetSettings():
            return PostgresScratch(settings, _postgres(settings, "test"), name)
        case MariaDbTargetSettings():
            return MariaDbScratch(settings, name)
        case SqliteTargetSettings():
            return SqliteScratch(settings)


def open_beside(settings: TargetSettings, table: TargetTable) -> Beside:
    """A table's rows beside what a mapping makes, connected. Raises `NoTable`, `Transient` or `Terminal`."""
    if isinstance(settings, PostgresTargetSettings):
        return PostgresBeside(_postgres(settings, "preview")(), table)
    return ReadBeside(open_rows(settings, table), table)


@contextmanager
def opened_outlook(settings: TargetSettings | RestSettings) -> Iterator[Look]:
    """Looks at a target's tables over one connection; of a REST API nothing is known. Raises `Transient` or
    `Terminal`."""
    match settings:
        case PostgresTargetSettings():
            with closing(_postgres(settings, "plan")()) as connection:
                yield lambda table, count: postgres_outlook.outlook(connection, table, count=count)
        case MariaDbTargetSettings():
            with closing(open_database(settings, settings.database)) as database:
                yield lambda table, count: mariadb_outlook.outlook(database, table, count=count)
        case SqliteTargetSettings():
            with closing(_sql(settings)(False)) as file:
                yield lambda table, count: sqlite_outlook.outlook(file, table, count=count)
        case _:
            yield lambda table, count: UNKNOWN


def _sql(settings: SqliteTargetSettings | MariaDbTargetSettings) -> Connect:
    """Opens connections as sqlstate.py wants them."""
    if isinstance(settings, MariaDbTargetSettings):
        return lambda create: open_database(settings, settings.database)
    return lambda create: SqliteDatabase(settings.path, wait_s=settings.wait_s, durable=settings.durable, create=create)


def _postgres(settings: PostgresTargetSettings, role: str) -> Callable[[], postgres.Connection]:
    return lambda: postgres.connect(settings, application_name=f"{settings.application_name}-{role}")
