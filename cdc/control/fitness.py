"""Whether a database can be captured as it is: tables, types, publication, server settings; with the SQL that helps.

Asked before a connector is registered. Kafka Connect's own `validate` finds none of this.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from cdc.control.findings import Finding
from cdc.db import mariadb, postgres
from cdc.db.catalog import CatalogTable
from cdc.db.source import MariadbSource, PostgresSource, SourceDatabase
from cdc.entries import SourceKind
from cdc.model import ColumnType, Kind
from cdc.source.refusals import refusal

_MARIADB_VARIABLES = {
    "log_bin": ("ON", "without a binlog there is nothing to capture", "start the server with log_bin=binlog"),
    "binlog_format": ("ROW", "statements say nothing about rows", "SET GLOBAL binlog_format = 'ROW';"),
    "binlog_row_image": ("FULL", "partial rows cannot be told from NULLs", "SET GLOBAL binlog_row_image = 'FULL';"),
    "binlog_legacy_event_pos": (
        "ON",
        "all changes of a transaction would have one position: older and newer could not be told apart",
        "SET GLOBAL binlog_legacy_event_pos = ON;",
    ),
}
_SYSTEM_SCHEMAS = frozenset({"pg_catalog", "information_schema"})


def check_database(database: SourceDatabase, config: Mapping[str, str], *, captured_now: bool) -> list[Finding]:
    """Everything that is unfit in the database for this connector; errors first. `captured_now`: the connector exists
    already, so its slot may well be in use."""
    if isinstance(database, PostgresSource):
        found = _postgres_server(database, config, captured_now)
        namespaces = _schemas(database)
    else:
        assert isinstance(database, MariadbSource)
        found = _mariadb_server(database)
        namespaces = list(database.settings.databases)
    tables = captured(database.catalog(namespaces), config)
    found += check_tables(tables, database.settings.kind, config, database.settings.where)
    if isinstance(database, PostgresSource):
        found += _publication(database, config, tables)
    return sorted(found, key=lambda finding: finding.severity != "error")


def captured(tables: Iterable[CatalogTable], config: Mapping[str, str]) -> list[CatalogTable]:
    """The tables that the connector's include and exclude lists choose, without the signal table."""
    return [table for table in tables if is_captured(table.full_name, config)]


def is_captured(table: str, config: Mapping[str, str]) -> bool:
    """Whether the connector's lists choose 'schema.table' (or 'database.table')."""
    namespace = table.partition(".")[0]
    for word, name in (("table", table), ("schema", namespace), ("database", namespace)):
        if word == "database" and "database.dbname" in config:
            continue  # PostgreSQL's database is in no table's name
        include, exclude = _patterns(config.get(f"{word}.include.list")), _patterns(config.get(f"{word}.exclude.list"))
        if (include and not _matches(include, name)) or _matches(exclude, name):
            return False
    return table != config.get("signal.data.collection")


def check_tables(
    tables: Sequence[CatalogTable], kind: SourceKind, config: Mapping[str, str], where: str
) -> list[Finding]:
    """Missing tables, tables without a key, and types that can't be carried exactly."""
    found = []
    for pattern in _patterns(config.get("table.include.list")):
        if not any(_matches([pattern], table.full_name) for table in tables):
            what, why = f"no table matches {pattern.pattern}", "it is in table.include.list"
            fix = f"create it, or take {pattern.pattern} out of table.include.list"
            found.append(_finding("table-missing", where, what, why, fix))
    keyed = _patterns(config.get("message.key.columns"), separator=";")
    for table in tables:
        if not table.key and not keyed:
            why = "changes of a row cannot be told from those of another; order holds only within one partition"
            fix = f"ALTER TABLE {_quoted(table, kind)} ADD PRIMARY KEY (…);"
            found.append(_finding("no-key", table.full_name, "the table has no primary key", why, fix))
        found += _unfit_types(table, kind)
    return found


def _unfit_types(table: CatalogTable, kind: SourceKind) -> list[Finding]:
    """One finding a table for all types that need REPLICA IDENTITY FULL, one a column for types that never work."""
    full = table.replica_identity == "full"
    needing: list[tuple[str, str]] = []
    found: list[Finding] = []
    if kind == "postgresql" and table.replica_identity == "nothing":
        fix = f"ALTER TABLE {_quoted(table, kind)} REPLICA IDENTITY DEFAULT;"
        why = "the server refuses updates and deletes of a published table"
        found.append(_finding("replica-identity", table.full_name, "REPLICA IDENTITY NOTHING", why, fix))
    for column in table.columns:
        type_ = ColumnType(Kind.ARRAY if column.native.startswith("_") else Kind.TEXT, column.native)
        never = refusal(type_, kind)
        if never is not None:
            what = f"column {column.name} of type {column.declared} cannot be carried exactly"
            found.append(_finding("type", table.full_name, what, never.reason, never.fix, severity="warning"))
            continue
        without = refusal(type_, kind, full_identity=full)
        if without is not None and column.large:
            needing.append((f"{column.name} {column.declared}", without.reason))
    if needing:
        what = "unchanged large values arrive as NULL: " + ", ".join(column for column, _ in needing)
        fix = f"ALTER TABLE {_quoted(table, kind)} REPLICA IDENTITY FULL;"
        found.append(_finding("replica-identity", table.full_name, what, needing[0][1], fix))
    return found


def publication_sql(name: str, tables: Sequence[CatalogTable], more: Sequence[str] = ()) -> str:
    """CREATE PUBLICATION for the tables and `more` (schema.table: the signal table)."""
    return f"CREATE PUBLICATION {postgres.quote(name)} FOR TABLE {_table_list(_names(tables, more))};"


def _publication(database: PostgresSource, config: Mapping[str, str], tables: Sequence[CatalogTable]) -> list[Finding]:
    """A publication that the connector may not make itself must be there, publish everything and hold every table."""
    if config.get("publication.autocreate.mode") != "disabled":
        return []
    name = config.get("publication.name", "dbz_publication")
    where = f"publication {name}"
    signal = config.get("signal.data.collection")
    wanted = _names(tables, [signal] if signal else [])
    row = database.connection.execute(
        "SELECT pubinsert AND pubupdate AND pubdelete AND pubtruncate FROM pg_publication WHERE pubname = %s", (name,)
    ).fetchone()
    if row is None:
        fix = f"CREATE PUBLICATION {postgres.quote(name)} FOR TABLE {_table_list(wanted)};"
        why = "publication.autocreate.mode is disabled, so that a person decides what leaves the database"
        return [_finding("publication-missing", where, "there is no such publication", why, fix)]
    found = []
    if not row[0]:
        fix = f"ALTER PUBLICATION {postgres.quote(name)} SET (publish = 'insert, update, delete, truncate');"
        found.append(_finding("publication-partial", where, "it leaves out operations", "changes would be lost", fix))
    held = database.connection.execute(
        "SELECT schemaname, tablename FROM pg_publication_tables WHERE pubname = %s", (name,)
    ).fetchall()
    missing = [each for each in wanted if each not in held]
    if missing:
        fix = f"ALTER PUBLICATION {postgres.quote(name)} ADD TABLE {_table_list(missing)};"
        what = "it lacks " + ", ".join(".".join(each) for each in missing)
        found.append(_finding("publication-tables", where, what, "their changes would not be sent", fix))
    return found


_BROKEN_DECODING = frozenset({130021, 140018, 150013, 160009, 170005})
"""Minor releases of May 2025 whose logical decoding multiplies invalidation messages; seen here on 17.5."""


def _postgres_server(database: PostgresSource, config: Mapping[str, str], captured_now: bool) -> list[Finding]:
    where = database.settings.where
    row = database.connection.execute(
        "SELECT current_setting('wal_level'), rolreplication OR rolsuper, current_user"
        " FROM pg_roles WHERE rolname = current_user"
    ).fetchone()
    assert row is not None
    wal_level, may_replicate, role = row
    found = []
    if wal_level != "logical":
        fix = "ALTER SYSTEM SET wal_level = logical; -- and restart the server"
        found.append(_finding("wal-level", where, f"wal_level is {wal_level}", "changes cannot be decoded", fix))
    if not may_replicate:
        fix = f"ALTER ROLE {postgres.quote(role)} REPLICATION;"
        found.append(_finding("replication", where, f"role {role} may not replicate", "it cannot read a slot", fix))
    version = database.connection.info.server_version
    if version in _BROKEN_DECODING:
        what = f"PostgreSQL {version // 10000}.{version % 10000}"
        why = "concurrent DDL (temporary tables too) can make logical decoding fail: invalid memory alloc request size"
        found.append(_finding("server-version", where, what, why, "update to the next minor release", "warning"))
    return found + _slot(database, config.get("slot.name", "debezium"), captured_now)


def _slot(database: PostgresSource, name: str, captured_now: bool) -> list[Finding]:
    """A slot of this name that this connector could not use."""
    slot = database.slot(name)
    if slot is None:
        return []
    where = f"slot {name}"
    if slot.database != database.settings.database:
        what, why = f"it belongs to database {slot.database}", "a slot serves one database"
        return [_finding("slot-taken", where, what, why, f'"slot.name": "cdc_{database.settings.name}",')]
    if slot.reader is not None and not captured_now:
        why = "a slot serves one reader: the connector would wait for it, looking as if it ran"
        fix = f"SELECT pg_terminate_backend({slot.reader}); -- or another slot.name"
        return [_finding("slot-taken", where, f"process {slot.reader} reads it", why, fix)]
    if slot.wal_status == "lost":
        fix = f"SELECT pg_drop_replication_slot('{name}'); -- and load all tables again"
        return [_finding("slot-lost", where, "the server has removed log that it needs", "changes are lost", fix)]
    return []


def _mariadb_server(database: MariadbSource) -> list[Finding]:
    """A server that does not know a variable is older than it and behaves as the wanted value says."""
    values = mariadb.variables(database.connection, tuple(_MARIADB_VARIABLES))
    return [
        _finding(name.replace("_", "-"), database.settings.where, f"{name} is {values[name]}", why, fix)
        for name, (wanted, why, fix) in _MARIADB_VARIABLES.items()
        if name in values and values[name].upper() != wanted
    ]


def _schemas(database: PostgresSource) -> list[str]:
    rows = database.connection.execute("SELECT nspname FROM pg_namespace WHERE nspname NOT LIKE 'pg\\_%'").fetchall()
    return [name for (name,) in rows if name not in _SYSTEM_SCHEMAS]


def _patterns(text: str | None, separator: str = ",") -> list[re.Pattern[str]]:
    """Debezium's lists: regular expressions for the whole of 'schema.table', in any case."""
    return [re.compile(word.strip(), re.IGNORECASE) for word in (text or "").split(separator) if word.strip()]


def _matches(patterns: Iterable[re.Pattern[str]], name: str) -> bool:
    return any(pattern.fullmatch(name) for pattern in patterns)


def _names(tables: Sequence[CatalogTable], more: Sequence[str]) -> list[tuple[str, str]]:
    extra = [(schema, table) for schema, _, table in (name.partition(".") for name in more)]
    return [*((table.namespace, table.name) for table in tables), *extra]


def _table_list(names: Iterable[tuple[str, str]]) -> str:
    return ", ".join(postgres.quote(*each) for each in names)


def _quoted(table: CatalogTable, kind: SourceKind) -> str:
    quote = postgres.quote if kind == "postgresql" else mariadb.quote
    return quote(table.namespace, table.name)


def _finding(code: str, where: str, what: str, why: str, fix: str, severity: str = "error") -> Finding:
    return Finding(code, "warning" if severity == "warning" else "error", where, what, why, fix)
