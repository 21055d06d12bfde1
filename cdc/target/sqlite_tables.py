"""Make a SQLite table ready to be written: create it, or check and complete one that is there."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import structlog

from cdc.errors import Terminal
from cdc.model import DeletePolicy, TargetTable
from cdc.target.rows import NoTable
from cdc.target.sqlhistory_round import extra_columns
from cdc.target.sqlite_database import quote
from cdc.target.sqlite_statements import table_name
from cdc.target.sqlite_types import Encode, declared_type, encoder, storage_of
from cdc.target.sqlround import POSITION
from cdc.target.sqlstate import Database
from cdc.target.sqlstate_target import lent_name, tombstone_name

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class _Existing:
    """A column of a table that is there."""

    declared: str
    generated: bool


def prepare_table(database: Database, table: TargetTable) -> tuple[int, list[Encode | None]]:
    """Create or complete the table and what is kept beside it; its id in cdc_target_table, and its columns' encoders.
    Raises `Terminal`."""
    with database.exclusively():
        table_id = _register(database, table)
        if not table.key:  # known by name only, from a truncate that came before any row
            return table_id, []
        if not database.has_table(table_name(table)):
            _create(database, table)
        existing = _columns(database, table)
        _complete(database, table, existing)
        check_key(database, table)
        encoders = encoders_of(database, table)
        _create_memories(database, table, table_id)
    return table_id, encoders


def _register(database: Database, table: TargetTable) -> int:
    name = table_name(table)
    for namespace, other in database.rows("SELECT namespace, name FROM cdc_target_table"):
        if (namespace, other) != (table.namespace, table.name) and name == (
            other if namespace == "main" else f"{namespace}_{other}"
        ):
            raise Terminal(
                f"{table.namespace}.{table.name} and {namespace}.{other} are both the table {name} in SQLite",
                where=table.mapping,
                hint="write one of them to a table of another name",
            )
    database.run(
        "INSERT INTO cdc_target_table (namespace, name, floor_position) VALUES (?, ?, x'')"
        + database.on_conflict(("namespace", "name")),
        (table.namespace, table.name),
    )
    rows = database.rows(
        "SELECT id FROM cdc_target_table WHERE namespace = ? AND name = ?", (table.namespace, table.name)
    )
    return int(rows[0][0])


def creating(table: TargetTable) -> str:
    """What makes the table."""
    parts = [
        f"{quote(column.name)} {declared_type(column.type, column.sql_type)}"
        + (" NOT NULL" if not column.nullable or column.name in table.key else "")
        for column in table.columns
    ]
    if table.on_delete is DeletePolicy.SOFT and table.soft_delete:
        parts.append(f"{quote(table.soft_delete)} INTEGER NOT NULL DEFAULT 0")
    parts += [f"{quote(name)} {type_}" for name, type_ in extra_columns(table, "TEXT", "INTEGER", "TEXT")]
    parts.append(f"{quote(POSITION)} BLOB")
    parts.append(f"PRIMARY KEY ({', '.join(map(quote, table.key))})")
    return f"CREATE TABLE {quote(table_name(table))} ({', '.join(parts)}) STRICT"


def _create(database: Database, table: TargetTable) -> None:
    database.run(creating(table))
    _log.info("table created", target=table_name(table), columns=len(table.columns))


def _columns(database: Database, table: TargetTable) -> dict[str, _Existing]:
    """By name in lower case: SQLite's names have no case."""
    rows = database.rows("SELECT name, type, hidden FROM pragma_table_xinfo(?)", (table_name(table),))
    return {name.lower(): _Existing(declared, hidden in (2, 3)) for name, declared, hidden in rows}


def missing(table: TargetTable, existing: Collection[str]) -> list[tuple[str, str]]:
    """The columns that the table lacks (`existing`: names in lower case), and what adds them."""
    wanted = [(column.name, declared_type(column.type, column.sql_type)) for column in table.columns]
    if table.on_delete is DeletePolicy.SOFT and table.soft_delete:
        wanted.append((table.soft_delete, "INTEGER NOT NULL DEFAULT 0"))
    wanted += extra_columns(table, "TEXT", "INTEGER", "TEXT")
    wanted.append((POSITION, "BLOB"))
    name = quote(table_name(table))
    return [
        (column, f"ALTER TABLE {name} ADD COLUMN {quote(column)} {definition}")
        for column, definition in wanted
        if column.lower() not in existing
    ]


def _complete(database: Database, table: TargetTable, existing: dict[str, _Existing]) -> None:
    for column, statement in missing(table, existing):
        database.run(statement)
        _log.info("column added", target=table_name(table), column=column)


def encoders_of(database: Database, table: TargetTable) -> list[Encode | None]:
    """How the columns that are there store their values. Raises `Terminal` for what is missing or wrong."""
    name, existing = table_name(table), _columns(database, table)
    rows = database.rows("SELECT strict FROM pragma_table_list WHERE schema = 'main' AND name = ?", (name,))
    found = []
    for column in table.columns:
        there = existing.get(column.name.lower())
        if there is None or not rows:
            what = f"there is no column {column.name}" if rows else f"there is no table {name}"
            kind = Terminal if rows else NoTable
            raise kind(what, where=name, hint="has the pipeline run? cdc run creates the table and its columns")
        if there.generated:
            raise Terminal(f"column {column.name} is generated: it takes no values", where=name)
        found.append(encoder(column.name, column.type, storage_of(there.declared, bool(rows[0][0])), name))
    return found


def check_key(database: Database, table: TargetTable) -> None:
    """ON CONFLICT needs a unique index over exactly the key's columns, and exact comparisons of them."""
    name = table_name(table)
    wanted = sorted(key.lower() for key in table.key)
    rows = database.rows("SELECT name, upper(type) FROM pragma_table_info(?) WHERE pk > 0", (name,))
    keys = [[(rows[0][0], "BINARY")]] if [kind for _, kind in rows] == ["INTEGER"] else []  # the row number: no index
    for (index,) in database.rows('SELECT name FROM pragma_index_list(?) WHERE "unique" AND NOT partial', (name,)):
        keys.append(database.rows("SELECT name, coll FROM pragma_index_xinfo(?) WHERE key", (index,)))
    exact = [sorted(str(column).lower() for column, _ in key) for key in keys if all(c == "BINARY" for _, c in key)]
    if wanted not in exact:
        columns = ", ".join(map(quote, table.key))
        raise Terminal(
            f"the table has no unique index over its key ({', '.join(table.key)}) that compares exactly",
            where=name,
            hint=f"run: CREATE UNIQUE INDEX {quote(f'{name}_key')} ON {quote(name)} ({columns});",
        )


def _create_memories(database: Database, table: TargetTable, table_id: int) -> None:
    """Tombstones, and values lent by key changes; columns without types, so that nothing is converted."""
    keys = ", ".join(map(quote, table.key))
    not_null = ", ".join(f"{quote(key)} NOT NULL" for key in table.key)
    database.run(
        f"CREATE TABLE IF NOT EXISTS {tombstone_name(table_id)} ({not_null}, _position BLOB NOT NULL,"
        f" _buried_us INTEGER NOT NULL, PRIMARY KEY ({keys})) WITHOUT ROWID"
    )
    lent = lent_name(table_id)
    database.run(
        f"CREATE TABLE IF NOT EXISTS {lent} (_mapping TEXT NOT NULL, _move TEXT NOT NULL, _place BLOB NOT NULL,"
        " _lent_us INTEGER NOT NULL, PRIMARY KEY (_mapping, _move, _place))"
    )
    there = {name.lower() for (name,) in database.rows("SELECT name FROM pragma_table_info(?)", (lent,))}
    for column in table.columns:
        if column.name.lower() not in there:
            database.run(f"ALTER TABLE {lent} ADD COLUMN {quote(column.name)}")
