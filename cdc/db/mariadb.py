"""MariaDB: connections, catalog, identity of the log."""

from __future__ import annotations

import ssl
import uuid
from collections.abc import Sequence
from typing import Any, TypeAlias

import pymysql
from pymysql.constants import CR, ER

from cdc.db.catalog import CatalogColumn, CatalogTable, LogPosition, SourceIdentity
from cdc.entries import Account, DatabaseSettings, Tls
from cdc.errors import CdcError, Terminal, Transient

Connection: TypeAlias = "pymysql.Connection[Any]"

LOST = (pymysql.OperationalError, pymysql.InterfaceError)
"""A statement did not come back: the connection broke, the server went away, a deadlock or a timeout."""
CONFLICT = pymysql.IntegrityError

_FOR_A_PERSON = {
    ER.ACCESS_DENIED_ERROR: "check 'user' and 'password' of this entry in connections.yaml",
    ER.DBACCESS_DENIED_ERROR: "GRANT … ON <database>.* TO this user",
    ER.BAD_DB_ERROR: "check 'database' of this entry in connections.yaml",
    ER.HOST_NOT_PRIVILEGED: "the server lets nobody in from this machine: CREATE USER …@'this host'",
    CR.CR_SSL_CONNECTION_ERROR: "check 'tls' of this entry, and whether the server has TLS on",
}
_MARK = '{"message": "cdc: mark at {}"}'
_OUTAGE_HINT = "is the server up and reachable from here?"


def connect(
    settings: DatabaseSettings,
    *,
    database: str | None = None,
    account: Account | None = None,
    autocommit: bool = True,
    flags: int = 0,
    read_timeout_s: int | None = None,
) -> Connection:
    """A connection as `account` (default: the entry's user), with `database` as the current one (default: none).

    Raises `Transient` when the server can't be reached, `Terminal` when somebody must change something. The session
    runs in UTC and in strict mode. `flags`: of `pymysql.constants.CLIENT`. `read_timeout_s`: how long an answer may
    take before the connection counts as lost (None: for ever).
    """
    user = account.user if account else settings.user
    secret = account.password if account else settings.password
    where = f"mariadb://{user}@{settings.host}:{settings.port}/{database or ''}"
    try:
        return pymysql.connect(
            host=settings.host,
            port=settings.port,
            user=user,
            password=secret.resolve().get_secret_value() if secret else "",
            database=database,
            connect_timeout=settings.connect_timeout_s,
            charset="utf8mb4",
            autocommit=autocommit,
            client_flag=flags,
            read_timeout=read_timeout_s,
            sql_mode="STRICT_ALL_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE,ERROR_FOR_DIVISION_BY_ZERO",
            init_command="SET time_zone = '+00:00'",
            **_tls(settings.tls),
        )
    except pymysql.Error as error:
        raise _unconnected(error, where) from error


def _tls(tls: Tls | None) -> dict[str, Any]:
    if tls is None:
        return {}
    if tls.mode == "disable":
        return {"ssl_disabled": True}
    context = ssl.create_default_context(cafile=tls.ca)
    context.check_hostname = tls.mode == "verify-full"
    if tls.mode == "require":
        context.verify_mode = ssl.CERT_NONE
    if tls.certificate is not None:
        context.load_cert_chain(tls.certificate, tls.key)
    return {"ssl": context}


def _unconnected(error: pymysql.Error, where: str) -> CdcError:
    code, text = (*error.args, "", "")[:2]
    hint = _FOR_A_PERSON.get(code)
    return Terminal(str(text), where=where, hint=hint) if hint else Transient(str(text), where=where, hint=_OUTAGE_HINT)


_TABLES = """
SELECT table_schema, table_name, table_comment, table_rows FROM information_schema.tables
WHERE table_type = 'BASE TABLE' AND table_schema IN %(databases)s
ORDER BY table_schema, table_name
"""

_COLUMNS = """
SELECT table_schema, table_name, column_name, data_type, column_type, is_nullable, column_comment,
       extra LIKE '%%GENERATED%%' OR extra LIKE '%%VIRTUAL%%' OR extra LIKE '%%PERSISTENT%%'
FROM information_schema.columns WHERE table_schema IN %(databases)s
ORDER BY table_schema, table_name, ordinal_position
"""

_KEYS = """
SELECT table_schema, table_name, column_name FROM information_schema.statistics
WHERE index_name = 'PRIMARY' AND table_schema IN %(databases)s
ORDER BY table_schema, table_name, seq_in_index
"""


def catalog(
    connection: Connection, databases: Sequence[str], tables: Sequence[str] | None = None
) -> tuple[CatalogTable, ...]:
    """The tables of `databases` (of these names only, with `tables`), by name. The row counts are rough estimates."""
    asked = {"databases": tuple(databases)}
    columns: dict[tuple[str, str], list[CatalogColumn]] = {}
    keys: dict[tuple[str, str], list[str]] = {}
    with connection.cursor() as cursor:
        cursor.execute(_COLUMNS, asked)
        for namespace, table, *rest in cursor.fetchall():
            columns.setdefault((namespace, table), []).append(_column(*rest))
        cursor.execute(_KEYS, asked)
        for namespace, table, column in cursor.fetchall():
            keys.setdefault((namespace, table), []).append(column)
        cursor.execute(_TABLES, asked)
        return tuple(
            CatalogTable(
                namespace,
                table,
                tuple(columns.get((namespace, table), ())),
                tuple(keys.get((namespace, table), ())),
                comment,
                rows=rows,
            )
            for namespace, table, comment, rows in cursor.fetchall()
            if tables is None or table in tables
        )


def _column(name: str, native: str, declared: str, nullable: str, comment: str, generated: int | None) -> CatalogColumn:
    unsigned = " unsigned" if "unsigned" in declared else ""
    return CatalogColumn(name, native.lower() + unsigned, declared, nullable == "YES", comment, bool(generated))


_IDENTITY = """
SELECT @@server_id, @@gtid_domain_id,
       (SELECT variable_value FROM information_schema.global_variables WHERE variable_name = 'SERVER_UID'),
       (SELECT unix_timestamp(create_time) FROM information_schema.tables
        WHERE table_schema = 'mysql' AND table_name = 'global_priv')
"""


def identity(connection: Connection) -> SourceIdentity:
    """Server, GTID domain and end of the binlog.

    MariaDB gives its data no identifier: `server_uid` is the host's and port's. The birth of the system tables tells a
    re-created server on the same machine from the old one (and a server after an upgrade that rebuilt them from before:
    that costs a question, never a row). Data copied back as files keeps all of it; there the position tells.
    """
    with connection.cursor() as cursor:
        cursor.execute(_IDENTITY)
        row = cursor.fetchone()
    assert row is not None
    server_id, domain, uid, born = row
    file, pos = _binlog(connection)
    name = ":".join(("mariadb", *(str(part) for part in (uid, server_id, born) if part is not None)))
    return SourceIdentity(name, str(domain), LogPosition(file_number(file), pos), f"{file}:{pos}")


def current_position(connection: Connection) -> LogPosition:
    """The end of the binlog now: every committed change stands before it."""
    file, pos = _binlog(connection)
    return LogPosition(file_number(file), pos)


def mark(connection: Connection, signal_table: str) -> None:
    """Let the binlog go on after this moment: a signal that makes the connector write one line to its log, and its
    removal. `signal_table`: database.table, as `signal.data.collection` has it."""
    name = str(uuid.uuid4())
    signal(connection, signal_table, name, "log", _MARK)
    with connection.cursor() as cursor:
        cursor.execute(f"DELETE FROM {quote(*signal_table.split('.'))} WHERE id = %s", (name,))  # noqa: S608  quoted


def signal(connection: Connection, signal_table: str, name: str, kind: str, data: str) -> None:
    """One line in a connector's signal table. Raises `Terminal` when this account may not write there."""
    table = quote(*signal_table.split("."))
    try:
        with connection.cursor() as cursor:
            cursor.execute(f"INSERT INTO {table} (id, type, data) VALUES (%s, %s, %s)", (name, kind, data))  # noqa: S608
    except pymysql.OperationalError as error:
        if error.args[0] != ER.TABLEACCESS_DENIED_ERROR:
            raise
        raise Terminal(
            f"cannot write to {signal_table}", where=_where(connection), hint=f"GRANT INSERT, DELETE ON {table} TO …"
        ) from error


def signals(connection: Connection, signal_table: str, kind: str) -> int:
    """How many lines of this kind the signal table holds."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {quote(*signal_table.split('.'))} WHERE type = %s", (kind,))  # noqa: S608
        row = cursor.fetchone()
    assert row is not None
    return int(row[0])


def _binlog(connection: Connection) -> tuple[str, int]:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SHOW MASTER STATUS")
            row = cursor.fetchone()
    except pymysql.OperationalError as error:
        if error.args[0] != ER.SPECIFIC_ACCESS_DENIED_ERROR:
            raise
        raise Terminal(
            f"cannot read the binlog position: {error.args[-1]}",
            where=_where(connection),
            hint="GRANT BINLOG MONITOR ON *.* TO this user",
        ) from error
    if row is None:
        raise Terminal("the server writes no binlog", where=_where(connection), hint="start it with log_bin")
    return str(row[0]), int(row[1])


def variables(connection: Connection, names: Sequence[str]) -> dict[str, str]:
    """The values of those of `names` that this server knows (lower case names), as text."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT lower(variable_name), variable_value FROM information_schema.global_variables"
            " WHERE lower(variable_name) IN %s",
            (tuple(names),),
        )
        return {str(name): str(value) for name, value in cursor.fetchall()}


def file_number(file: str) -> int:
    """'binlog.000003' -> 3."""
    return int(file.rpartition(".")[2])


def quote(*names: str) -> str:
    """An identifier, qualified when there are several names."""
    return ".".join(f"`{name.replace('`', '``')}`" for name in names)


def _where(connection: Connection) -> str:
    return f"mariadb://{connection.host}:{connection.port}"
