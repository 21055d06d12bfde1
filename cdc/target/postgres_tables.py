"""Make a PostgreSQL table ready to be written: create it, or check and complete one that is there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import structlog
from psycopg import sql

from cdc.errors import Terminal
from cdc.model import Action, ConflictType, DeletePolicy, Detect, TargetColumn, TargetTable
from cdc.rules import action_of
from cdc.target.postgres_found import FoundTable, check, find
from cdc.target.postgres_ruled_statements import TIME
from cdc.target.postgres_statements import POSITION, identifier, tombstone_name
from cdc.target.postgres_types import sql_type
from cdc.target.sqlhistory import MISSING

_log = structlog.get_logger(__name__)

_LOCK = 0x_CDC0_7AB1


def prepare_table(connection: psycopg.Connection[Any], table: TargetTable) -> int:
    """Create or complete the table and its tombstones; returns its id in cdc.target_table. Raises `Terminal`."""
    with connection.transaction():
        # Workers start at the same time; only one may create.
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        if not table.key:  # known by name only, from a truncate that came before any row
            return _register(connection, table)
        found = find(connection, table)
        if found is not None:
            check(connection, table, found)
            _complete(connection, table, found)
        else:
            _create(connection, table)
        table_id = _register(connection, table)
        _create_tombstones(connection, table, table_id)
    return table_id


def exists(connection: psycopg.Connection[Any], table: TargetTable) -> bool:
    """Whether the table is there."""
    return find(connection, table) is not None


def is_empty(connection: psycopg.Connection[Any], table: TargetTable) -> bool:
    """Whether the table, which is there, holds no row."""
    name = identifier(table.namespace, table.name)
    return connection.execute(sql.SQL("SELECT FROM {} LIMIT 1").format(name)).fetchone() is None


def type_of(column: TargetColumn) -> sql.SQL:
    """The column's SQL type: the author's, else the default for what arrives. Never text from the stream."""
    return sql.SQL(column.sql_type or sql_type(column.type))


def _own_columns(table: TargetTable) -> Iterator[tuple[str, str]]:
    """What the engine itself keeps with each row, and its type."""
    yield POSITION, "bytea"
    if table.rules is not None and table.rules.detect is Detect.COMMIT_TIME:
        yield TIME, "bigint"
    if table.history is not None and table.partials:
        yield MISSING, "text"


def _worked_out(table: TargetTable) -> Iterator[tuple[str, str]]:
    """Columns of versions that follow from the others, with their types. A new version is the current one."""
    history = table.history
    if history is not None and history.valid_to and history.current:
        yield history.valid_to, "timestamptz"
        yield history.current, "boolean NOT NULL DEFAULT true"


def _by_rule(
    connection: psycopg.Connection[Any], table: TargetTable, what: str, statement: sql.Composed | None = None
) -> Terminal:
    """The error of rules that leave making tables and columns to somebody else."""
    hint = "create it" if statement is None else f"run: {statement.as_string(connection)};"
    return Terminal(f"{what}, where the rule is to stop", where=f"{table.namespace}.{table.name}", hint=hint)


def creating(connection: psycopg.Connection[Any], table: TargetTable) -> list[sql.Composed]:
    """What makes the table. Raises `Terminal` where the rules leave that to somebody else."""
    if action_of(table.rules, ConflictType.TARGET_TABLE_MISSING) is Action.ERROR:
        raise _by_rule(connection, table, "the table is missing")
    parts = [
        identifier(column.name) + sql.SQL(" ") + type_of(column) + sql.SQL(" NOT NULL" if not column.nullable else "")
        for column in table.columns
    ]
    if table.on_delete is DeletePolicy.SOFT and table.soft_delete:
        parts.append(identifier(table.soft_delete) + sql.SQL(" boolean NOT NULL DEFAULT false"))
    parts += [identifier(name) + sql.SQL(f" {type_}") for name, type_ in _worked_out(table)]
    parts += [identifier(name) + sql.SQL(" " + type_) for name, type_ in _own_columns(table)]
    parts.append(sql.SQL("PRIMARY KEY ({})").format(sql.SQL(", ").join(map(identifier, table.key))))
    name = identifier(table.namespace, table.name)
    return [
        sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(identifier(table.namespace)),
        sql.SQL("CREATE TABLE {} ({})").format(name, sql.SQL(", ").join(parts)),
    ]


def missing(
    connection: psycopg.Connection[Any], table: TargetTable, found: FoundTable
) -> list[tuple[str, sql.Composed]]:
    """The columns that the table lacks, and what adds them. Raises `Terminal` where the rules leave that to somebody
    else."""
    wanted: list[tuple[str, sql.Composable]] = [(column.name, type_of(column)) for column in table.columns]
    if table.on_delete is DeletePolicy.SOFT and table.soft_delete:
        wanted.append((table.soft_delete, sql.SQL("boolean NOT NULL DEFAULT false")))
    wanted += [(name, sql.SQL(type_)) for name, type_ in _worked_out(table)]
    own = [(name, sql.SQL(type_)) for name, type_ in _own_columns(table)]
    strict = action_of(table.rules, ConflictType.TARGET_COLUMN_MISSING) is Action.ERROR
    name, add = identifier(table.namespace, table.name), sql.SQL("ALTER TABLE {} ADD COLUMN {} {}")
    statements = []
    for column, definition in (*wanted, *own):
        if column not in found.columns:
            statement = add.format(name, identifier(column), definition)
            if strict and (column, definition) not in own:
                raise _by_rule(connection, table, f"column {column} is missing", statement)
            statements.append((column, statement))
    return statements


def _create(connection: psycopg.Connection[Any], table: TargetTable) -> None:
    for statement in creating(connection, table):
        connection.execute(statement)
    _log.info("table created", target=f"{table.namespace}.{table.name}", columns=len(table.columns))


def _complete(connection: psycopg.Connection[Any], table: TargetTable, found: FoundTable) -> None:
    for column, statement in missing(connection, table, found):
        try:
            connection.execute(statement)
            _log.info("column added", target=f"{table.namespace}.{table.name}", column=column)
        except psycopg.errors.InsufficientPrivilege as error:
            raise Terminal(
                f"column {column} is missing and this role may not add it",
                where=f"{table.namespace}.{table.name}",
                hint=f"run as the table's owner: {statement.as_string(connection)};",
            ) from error
    check_key(connection, table)


def unique_indexes(connection: psycopg.Connection[Any], table: TargetTable) -> list[list[str]]:
    """The columns, by name, of each unique index that holds for every row, and at once."""
    rows = connection.execute(
        "SELECT array_agg(a.attname::text ORDER BY a.attname) FROM pg_index i"
        " JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace"
        " JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey)"
        " WHERE n.nspname = %s AND c.relname = %s AND i.indisunique AND i.indimmediate AND i.indpred IS NULL"
        " AND i.indexprs IS NULL GROUP BY i.indexrelid",
        (table.namespace, table.name),
    ).fetchall()
    return [columns for (columns,) in rows]


def check_key(connection: psycopg.Connection[Any], table: TargetTable) -> None:
    """ON CONFLICT needs a unique index over exactly the key's columns."""
    if sorted(table.key) not in [sorted(columns) for columns in unique_indexes(connection, table)]:
        name = identifier(table.namespace, table.name)
        statement = sql.SQL("CREATE UNIQUE INDEX ON {} ({})").format(
            name, sql.SQL(", ").join(map(identifier, table.key))
        )
        raise Terminal(
            f"the table has no unique index over its key ({', '.join(table.key)})",
            where=f"{table.namespace}.{table.name}",
            hint=f"run: {statement.as_string(connection)};",
        )


def _register(connection: psycopg.Connection[Any], table: TargetTable) -> int:
    connection.execute(
        "INSERT INTO cdc.target_table (namespace, name) VALUES (%s, %s) ON CONFLICT DO NOTHING",
        (table.namespace, table.name),
    )
    row = connection.execute(
        "SELECT id FROM cdc.target_table WHERE namespace = %s AND name = %s", (table.namespace, table.name)
    ).fetchone()
    assert row is not None
    return int(row[0])


def _create_tombstones(connection: psycopg.Connection[Any], table: TargetTable, table_id: int) -> None:
    name = identifier("cdc", tombstone_name(table_id))
    keys = sql.SQL(", ").join(map(identifier, table.key))
    exists = connection.execute("SELECT to_regclass(%s)", (f"cdc.{tombstone_name(table_id)}",)).fetchone()
    if exists != (None,):
        return
    connection.execute(
        sql.SQL("CREATE TABLE {} AS SELECT {} FROM {} WITH NO DATA").format(
            name, keys, identifier(table.namespace, table.name)
        )
    )
    connection.execute(
        sql.SQL(
            "ALTER TABLE {} ADD PRIMARY KEY ({}), ADD COLUMN _position bytea NOT NULL,"
            " ADD COLUMN buried_at timestamptz NOT NULL DEFAULT now()"
        ).format(name, keys)
    )
