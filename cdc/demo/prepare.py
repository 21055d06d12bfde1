"""Makes the demo world: databases, roles, tables, publications, first rows. Running it again changes nothing.

Databases that it makes carry a mark (their comment); one that exists without the mark is somebody's own and is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from itertools import islice
from typing import Any

from cdc.control.fitness import captured, publication_sql
from cdc.control.registration import read_config
from cdc.db import mariadb, postgres
from cdc.demo import rows, seed
from cdc.entries import (
    Account,
    DatabaseSettings,
    MariaDbTargetSettings,
    PostgresTargetSettings,
    SourceSettings,
    TargetSettings,
)
from cdc.errors import Usage
from cdc.settings import Settings

MARK = "cdc demo"
APPLIER_RIGHTS = "SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, INDEX, DROP, CREATE TEMPORARY TABLES"
"""What an applier must be allowed in a MariaDB target."""
_ROWS_A_STATEMENT = 1_000
Report = Callable[[str], None]


@dataclass(frozen=True)
class Prepared:
    """What there is now. `rows`: those inserted by this call, by table; empty when the tables had rows already."""

    crm: str
    portal: str
    billing: str
    hub: str
    rows: dict[str, int]


def prepare(
    settings: Settings,
    *,
    crm: str = "crm",
    billing: str = "billing",
    hub: str = "hub",
    reports: str = "reports",
    portal: str = "portal",
    customers: int = seed.CUSTOMERS,
    number: int = 1,
    report: Report = lambda _: None,
) -> Prepared:
    """Make the sources and the (empty) targets ready, with the accounts that connections.yaml names.

    `reports` may be missing there. `number` is the seed. Each of the entries needs `admin`. Takes a few seconds for
    2,000 customers.
    """
    source, profiles, ledger = settings.source(crm), settings.source(portal), settings.source(billing)
    target = settings.target(hub)
    if (source.kind, profiles.kind, ledger.kind) != ("postgresql", "postgresql", "mariadb"):
        raise Usage("the demo wants its CRM and portal in PostgreSQL, its billing in MariaDB", where=settings.name)
    if not isinstance(target, PostgresTargetSettings):
        raise Usage("the demo's hub is a PostgreSQL database", where=settings.name)
    report(f"{source.where}")
    made = _prepare_postgres(settings, source, "crm.sql", seed.crm(number, customers))
    report(f"{profiles.where}")
    made |= _prepare_postgres(settings, profiles, "portal.sql", seed.portal(number, customers))
    report(f"{ledger.where}")
    made |= _prepare_billing(ledger, customers, number)
    report(f"{target.where}")
    _prepare_hub(target)
    if reports in settings.targets:
        _prepare_reports(settings.target(reports))
    return Prepared(source.database, profiles.database, ledger.database, target.database, made)


# -- PostgreSQL ----------------------------------------------------------------------------------------------------


def _prepare_postgres(
    settings: Settings, source: SourceSettings, script: str, first: Mapping[str, Iterator[rows.Row]]
) -> dict[str, int]:
    """A source with the tables of `script` and, where they are empty, these rows."""
    admin = _admin(source, source.where)
    _make_postgres_database(source, source.database, admin, "LOGIN REPLICATION")
    with postgres.connect(source, account=admin, autocommit=False) as connection:
        connection.execute("SET timezone = 'UTC'")
        if connection.execute("SELECT to_regclass('public.debezium_signal')").fetchone() == (None,):
            connection.execute(_script(script).encode())
        role = postgres.quote(source.user)
        grants = (
            f"GRANT USAGE ON SCHEMA public TO {role}",
            f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}",
            f"GRANT INSERT, UPDATE, DELETE ON debezium_signal TO {role}",
        )
        for statement in grants:
            connection.execute(statement.encode())
        made = _seed_postgres(connection, first)
        _publish(connection, settings, source)
    return made


def _make_postgres_database(settings: DatabaseSettings, database: str, admin: Account, role_can: str) -> None:
    """The role with the entry's password, and the database with our mark."""
    with postgres.connect(settings, account=admin, database="postgres") as connection:
        role = postgres.quote(settings.user)
        if connection.execute("SELECT FROM pg_roles WHERE rolname = %s", (settings.user,)).fetchone() is None:
            connection.execute(f"CREATE ROLE {role}".encode())
        password = settings.password.resolve().get_secret_value() if settings.password else ""
        # Hashed here, so that the password is in no log of the server.
        hashed = connection.pgconn.encrypt_password(password.encode(), settings.user.encode(), b"scram-sha-256")
        connection.execute(f"ALTER ROLE {role} {role_can} PASSWORD '{hashed.decode()}'".encode())
        found = connection.execute(
            "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s", (database,)
        ).fetchone()
        _refuse_foreign(found is not None, found[0] if found else None, database, settings)
        if found is None:
            name = postgres.quote(database)
            connection.execute(f"CREATE DATABASE {name}".encode())
            connection.execute(f"COMMENT ON DATABASE {name} IS '{MARK}'".encode())


def _seed_postgres(connection: postgres.Connection, first: Mapping[str, Iterator[rows.Row]]) -> dict[str, int]:
    filled = f"SELECT FROM {next(iter(first))} LIMIT 1"
    if connection.execute(filled.encode()).fetchone() is not None:
        return {}
    made: dict[str, int] = {}
    with connection.cursor() as cursor:
        for table, source in first.items():
            columns = ", ".join(rows.COLUMNS[table])
            with cursor.copy(f"COPY {table} ({columns}) FROM STDIN".encode()) as copy:
                made[table] = 0
                for row in source:
                    copy.write_row(row)
                    made[table] += 1
        cursor.execute("ANALYZE")
    return made


def _publish(connection: postgres.Connection, settings: Settings, source: SourceSettings) -> None:
    """The publication that the connector's JSON names, for the tables that it captures and the signal table."""
    config = read_config(settings, source)
    name = config.get("publication.name", "")
    if not name or connection.execute("SELECT FROM pg_publication WHERE pubname = %s", (name,)).fetchone() is not None:
        return
    signal = config.get("signal.data.collection")
    tables = captured(postgres.catalog(connection), config)
    connection.execute(publication_sql(name, tables, [signal] if signal else []).encode())


def _prepare_hub(target: PostgresTargetSettings) -> None:
    """An empty database that belongs to the account which applies changes."""
    admin = _admin(target, target.where)
    _make_postgres_database(target, target.database, admin, "LOGIN")
    with postgres.connect(target, account=admin, database="postgres") as connection:
        owner = f"ALTER DATABASE {postgres.quote(target.database)} OWNER TO {postgres.quote(target.user)}"
        connection.execute(owner.encode())


# -- MariaDB -------------------------------------------------------------------------------------------------------


def _prepare_billing(source: SourceSettings, customers: int, number: int) -> dict[str, int]:
    admin = _admin(source, source.where)
    name = mariadb.quote(source.database)
    with mariadb.connect(source, account=admin) as connection, connection.cursor() as cursor:
        connection.query("SET sql_notes = 0")  # "already exists" is no news here
        _make_mariadb_database(cursor, source, source.database)
        cursor.execute(f"USE {name}")
        for statement in _script("billing.sql").split(";\n"):
            if statement.strip():
                cursor.execute(statement)
        _let_capture(cursor, source)
        return _seed_billing(connection, cursor, customers, number)


def _make_mariadb_database(cursor: Any, settings: DatabaseSettings, database: str) -> None:
    """The user with the entry's password, and the database with our mark."""
    cursor.execute("SELECT schema_comment FROM information_schema.schemata WHERE schema_name = %s", (database,))
    found = cursor.fetchone()
    _refuse_foreign(found is not None, found[0] if found else None, database, settings)
    name = mariadb.quote(database)
    cursor.execute(f"CREATE DATABASE IF NOT EXISTS {name} CHARACTER SET utf8mb4 COMMENT '{MARK}'")
    password = settings.password.resolve().get_secret_value() if settings.password else ""
    cursor.execute("CREATE USER IF NOT EXISTS %s@'%%' IDENTIFIED BY %s", (settings.user, password))
    cursor.execute("ALTER USER %s@'%%' IDENTIFIED BY %s", (settings.user, password))


def _let_capture(cursor: Any, source: SourceSettings) -> None:
    cursor.execute(
        "GRANT SELECT, RELOAD, SHOW DATABASES, REPLICATION SLAVE, BINLOG MONITOR, LOCK TABLES ON *.* TO %s@'%%'",
        (source.user,),
    )
    database = mariadb.quote(source.database)
    cursor.execute(f"GRANT INSERT, UPDATE, DELETE ON {database}.debezium_signal TO %s@'%%'", (source.user,))


def _prepare_reports(target: TargetSettings) -> None:
    """An empty database in which the account that applies changes may make and write tables."""
    if not isinstance(target, MariaDbTargetSettings):
        raise Usage("the demo's reports are a MariaDB database", where=target.where)
    admin = _admin(target, target.where)
    with mariadb.connect(target, account=admin) as connection, connection.cursor() as cursor:
        connection.query("SET sql_notes = 0")
        _make_mariadb_database(cursor, target, target.database)
        cursor.execute(f"GRANT {APPLIER_RIGHTS} ON {mariadb.quote(target.database)}.* TO %s@'%%'", (target.user,))


def _seed_billing(connection: mariadb.Connection, cursor: Any, customers: int, number: int) -> dict[str, int]:
    cursor.execute("SELECT 1 FROM accounts LIMIT 1")
    if cursor.fetchone() is not None:
        return {}
    made: dict[str, int] = {}
    connection.begin()
    for table, source in seed.billing(number, customers).items():
        made[table] = 0
        for batch in _batches(source):
            made[table] += cursor.executemany(rows.insert(table), batch)
    connection.commit()
    return made


def _batches(source: Iterator[rows.Row]) -> Iterator[list[rows.Row]]:
    while batch := list(islice(source, _ROWS_A_STATEMENT)):
        yield batch


# -- both ----------------------------------------------------------------------------------------------------------


def _admin(settings: DatabaseSettings, where: str) -> Account:
    if settings.admin is None:
        raise Usage("the demo needs an account that may create roles and databases", where=where, hint="add 'admin:'")
    return settings.admin


def _refuse_foreign(exists: bool, comment: str | None, database: str, settings: DatabaseSettings) -> None:
    if exists and comment != MARK:
        raise Usage(
            f"database {database} exists and is not of the demo's making",
            where=f"{settings.host}:{settings.port}",
            hint="the demo writes only to databases that it made: name another one in connections.yaml",
        )


def _script(name: str) -> str:
    return (files("cdc.demo") / name).read_text(encoding="utf-8")
