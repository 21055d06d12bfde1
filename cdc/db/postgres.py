"""PostgreSQL: connections, catalog, identity of the log."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, TypeAlias

import psycopg
from psycopg import sql

from cdc.db.catalog import CatalogColumn, CatalogTable, LogPosition, ReplicaIdentity, Slot, SourceIdentity
from cdc.entries import Account, DatabaseSettings
from cdc.errors import CdcError, Terminal, Transient

Connection: TypeAlias = psycopg.Connection[Any]

LOST = psycopg.OperationalError
"""A statement did not come back: the connection broke, the server went away, a deadlock or a timeout."""
CONFLICT = psycopg.IntegrityError

_IDENTITIES: dict[str, ReplicaIdentity] = {"d": "default", "f": "full", "i": "index", "n": "nothing"}

# What libpq and the server say when no connection comes about: (part of the text, hint). The server's code does not
# reach us for these; what matches none of them is taken for an outage.
_FOR_A_PERSON = (
    ("password authentication failed", "check 'user' and 'password' of this entry in connections.yaml"),
    ("no password supplied", "add 'password: ${env:…}' to this entry in connections.yaml"),
    ("does not exist", "check 'database' and 'user' of this entry in connections.yaml"),
    ("is not permitted to log in", "ALTER ROLE … LOGIN"),
    ("no pg_hba.conf entry", "the server's pg_hba.conf must let this user in from this machine"),
    ("permission denied for database", "GRANT CONNECT ON DATABASE … TO …"),
    ("server does not support SSL", "set tls.mode to disable, or TLS up at the server"),
    ("certificate verify failed", "check tls.ca of this entry"),
    ("does not match host name", "give the host as the server's certificate names it, or tls.mode: verify-ca"),
)
_OUTAGE_HINT = "is the server up and reachable from here?"


def connect(
    settings: DatabaseSettings,
    *,
    database: str | None = None,
    account: Account | None = None,
    application_name: str = "cdc",
    autocommit: bool = True,
) -> Connection:
    """A connection to `database` (default: the entry's own), as `account` (default: the entry's user).

    Raises `Transient` when the server can't be reached, `Terminal` when somebody must change something.
    """
    user = account.user if account else settings.user
    secret = account.password if account else settings.password
    name = database or getattr(settings, "database", None) or user
    tls = settings.tls
    options: dict[str, object] = {"sslmode": tls.mode if tls else "prefer"}
    if tls is not None:
        named = {"sslrootcert": tls.ca, "sslcert": tls.certificate, "sslkey": tls.key}
        options |= {key: str(value) for key, value in named.items() if value is not None}
    try:
        return psycopg.connect(
            host=settings.host,
            port=settings.port,
            user=user,
            password=secret.resolve().get_secret_value() if secret else None,
            dbname=name,
            connect_timeout=settings.connect_timeout_s,
            application_name=application_name,
            autocommit=autocommit,
            **options,  # type: ignore[arg-type]
        )
    except psycopg.OperationalError as error:
        raise _unconnected(error, f"postgresql://{user}@{settings.host}:{settings.port}/{name}") from error


def _unconnected(error: psycopg.Error, where: str) -> CdcError:
    first = str(error).strip().partition("\n")[0] or type(error).__name__
    text = re.sub(r"^connection failed: |^(connection failed: )?connection to server .*?failed: (FATAL: +)?", "", first)
    for phrase, hint in _FOR_A_PERSON:
        if phrase in str(error):
            return Terminal(text, where=where, hint=hint)
    return Transient(text, where=where, hint=_OUTAGE_HINT)


_COLUMNS = """
SELECT n.nspname, c.relname, c.relreplident::text, coalesce(obj_description(c.oid, 'pg_class'), ''),
       CASE WHEN c.reltuples < 0 THEN NULL ELSE c.reltuples::bigint END,
       a.attname,
       lower(coalesce(b.typname, t.typname)), -- a domain arrives as the type it is made of
       format_type(a.atttypid, a.atttypmod), a.attnotnull, coalesce(col_description(c.oid, a.attnum), ''),
       a.attgenerated <> '', a.attstorage IN ('x', 'e', 'm')
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_type b ON b.oid = t.typbasetype
WHERE c.relkind IN ('r', 'p') AND n.nspname = ANY(%(schemas)s)
  AND (%(tables)s::text[] IS NULL OR c.relname = ANY(%(tables)s))
ORDER BY n.nspname, c.relname, a.attnum
"""

_KEYS = """
SELECT n.nspname, c.relname, a.attname
FROM pg_constraint p
JOIN pg_class c ON c.oid = p.conrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL unnest(p.conkey) WITH ORDINALITY AS k (attnum, place)
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum
WHERE p.contype = 'p' AND n.nspname = ANY(%s)
ORDER BY n.nspname, c.relname, k.place
"""


def catalog(
    connection: Connection, schemas: Sequence[str] = ("public",), tables: Sequence[str] | None = None
) -> tuple[CatalogTable, ...]:
    """The tables of `schemas` (of these names only, with `tables`), partitioned ones as one; by name."""
    keys: dict[tuple[str, str], list[str]] = {}
    for namespace, table, column in connection.execute(_KEYS, (list(schemas),)):
        keys.setdefault((namespace, table), []).append(column)
    found: dict[tuple[str, str], CatalogTable] = {}
    asked = {"schemas": list(schemas), "tables": None if tables is None else list(tables)}
    for namespace, table, identity, comment, rows, *rest in connection.execute(_COLUMNS, asked):
        place = (namespace, table)
        known = found.get(place)
        column = _column(*rest)
        found[place] = CatalogTable(
            namespace,
            table,
            (*known.columns, column) if known else (column,),
            tuple(keys.get(place, ())),
            comment,
            _IDENTITIES[identity],
            rows,
        )
    return tuple(found.values())


def _column(
    name: str, native: str, declared: str, not_null: bool, comment: str, generated: bool, large: bool
) -> CatalogColumn:
    return CatalogColumn(name, native, declared, not not_null, comment, generated, large)


_IDENTITY = """
SELECT system_identifier::text, pg_is_in_recovery(),
       -- A promotion shows in the name of the WAL file at once, in the control file only after the next checkpoint.
       CASE WHEN pg_is_in_recovery() THEN (SELECT timeline_id FROM pg_control_checkpoint())
            ELSE ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int END
FROM pg_control_system()
"""


def identity(connection: Connection) -> SourceIdentity:
    """Cluster, timeline and end of the log. A cluster copied as files keeps the first two; its position tells."""
    row = connection.execute(_IDENTITY).fetchone()
    assert row is not None
    position = current_position(connection)
    return SourceIdentity(f"postgresql:{row[0]}", str(row[2]), position, lsn_text(position.minor))


def current_position(connection: Connection) -> LogPosition:
    """The end of the log now: every change that anybody can see at this moment stands before it."""
    row = connection.execute(
        "SELECT (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END"
        " - '0/0')::bigint"
    ).fetchone()
    assert row is not None
    return LogPosition(row[0], row[0])


def mark(connection: Connection) -> None:
    """Write a message of our own to the log, readable by logical decoding, so that the log goes on after this moment.

    A capture of an otherwise idle database then passes the position of before. Needs no table and no privilege, changes
    no data. A standby can't and need not: the primary's traffic is its own.
    """
    connection.execute("SELECT CASE WHEN NOT pg_is_in_recovery() THEN pg_logical_emit_message(true, 'cdc', 'mark') END")


def signal(connection: Connection, signal_table: str, name: str, kind: str, data: str) -> None:
    """One line in a connector's signal table (schema.table). Raises `Terminal` when this role may not write there."""
    table = sql.Identifier(*signal_table.split("."))
    statement = sql.SQL("INSERT INTO {} (id, type, data) VALUES (%s, %s, %s)").format(table)
    try:
        connection.execute(statement, (name, kind, data))
    except psycopg.errors.InsufficientPrivilege as error:
        grant = f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table.as_string(connection)} TO {connection.info.user}"
        raise Terminal(f"cannot write to {signal_table}", where=signal_table, hint=grant) from error


def signals(connection: Connection, signal_table: str, kind: str) -> int:
    """How many lines of this kind the signal table holds."""
    table = sql.Identifier(*signal_table.split("."))
    row = connection.execute(sql.SQL("SELECT count(*) FROM {} WHERE type = %s").format(table), (kind,)).fetchone()
    assert row is not None
    return int(row[0])


def slot(connection: Connection, name: str) -> Slot | None:
    """The logical slot of this name on the whole server, whichever database it belongs to."""
    row = connection.execute(
        "SELECT database, active_pid, (confirmed_flush_lsn - '0/0')::bigint, coalesce(wal_status, ''),"
        " coalesce(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END"
        " - restart_lsn, 0)::bigint"
        " FROM pg_replication_slots WHERE slot_name = %s AND slot_type = 'logical'",
        (name,),
    ).fetchone()
    if row is None:
        return None
    database, reader, confirmed, wal_status, retained = row
    return Slot(name, database, reader, confirmed, retained, wal_status)


def lsn_text(lsn: int) -> str:
    """26506176 -> '0/19473C0', as PostgreSQL writes it."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


def quote(*names: str) -> str:
    """An identifier, qualified when there are several names, for SQL that is shown to people or run."""
    return sql.Identifier(*names).as_string(None)
