"""Make a MariaDB table ready to be written: create it, or check and complete one that is there.

A CREATE or ALTER commits what is open and can't be rolled back: all of this happens outside transactions, one worker at
a time, and each step may run again.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from cdc.db.mariadb import quote
from cdc.errors import Terminal
from cdc.model import DeletePolicy, Kind, TargetColumn, TargetTable
from cdc.target.lines import Text
from cdc.target.mariadb_database import MariaDbDatabase
from cdc.target.mariadb_types import KEY_BYTES, Stored, declared_type, literal
from cdc.target.rows import NoTable
from cdc.target.sqlhistory_round import extra_columns
from cdc.target.sqlround import POSITION
from cdc.target.sqlstate_target import lent_name, tombstone_name

_log = structlog.get_logger(__name__)

_POSITION_TYPE = "varbinary(22)"
_MARK_TYPE = "tinyint(1) NOT NULL DEFAULT 0"
_UNBOUNDED = (Kind.TEXT, Kind.BYTES, Kind.LITERAL, Kind.JSON, Kind.INTERVAL, Kind.ARRAY)
_ROW_BYTES = 60_000
"""What short texts of one row may take together: the server's limit is 65,535 with everything else."""


@dataclass(frozen=True)
class Prepared:
    """What is known of a table that is ready: its columns as they are, in the order of `TargetTable.columns`."""

    id: int
    columns: Sequence[Stored]
    literals: Sequence[Text | None]
    key_index: str


def prepare_table(database: MariaDbDatabase, table: TargetTable) -> Prepared:
    """Create or complete the table and what is kept beside it. Raises `Terminal`."""
    with database.exclusively():
        table_id = _register(database, table)
        if not table.key:  # known by name only, from a truncate that came before any row
            return Prepared(table_id, (), (), "")
        if not database.has_table_in(table.namespace, table.name):
            _create(database, table)
        existing = columns_of(database, table.namespace, table.name)
        _complete(database, table, existing)
        columns, literals = stored_columns(database, table)
        key_index = check(database, table, columns)
        _create_memories(database, table, table_id, columns)
    return Prepared(table_id, columns, literals, key_index)


def create_stage(database: MariaDbDatabase, stage: str, columns: Sequence[Stored]) -> tuple[str, str]:
    """Staging tables: not logged, not undone, emptied at once. (MySQL has no Aria.)"""
    engine = "ENGINE=Aria TRANSACTIONAL=0" if database.is_mariadb else "ENGINE=InnoDB"
    options = f"{engine} CHARACTER SET utf8mb4 COLLATE {database.collation}"
    own = (
        "_n int, _op tinyint, _position varbinary(22), _base varbinary(22),"
        f" _mask varchar({len(columns)}) CHARACTER SET ascii"
    )
    definitions = ", ".join([own, *(_copied(database, stored) for stored in columns)])
    return (
        f"CREATE TEMPORARY TABLE {quote(database.name, stage)} ({definitions}) {options}",
        f"CREATE TEMPORARY TABLE {quote(database.name, f'{stage}_moves')} (_n int PRIMARY KEY, _mapping varchar(200),"
        f" _move char(64), _place varbinary(22)) {options}",
    )


def columns_of(database: MariaDbDatabase, namespace: str, name: str) -> dict[str, Stored]:
    """By name in lower case: column names have no case here."""
    rows = database.rows(
        "SELECT column_name, data_type, column_type, character_maximum_length, numeric_precision, numeric_scale,"
        " datetime_precision, character_set_name, collation_name, is_nullable = 'YES',"
        " generation_expression IS NOT NULL AND generation_expression <> ''"
        " FROM information_schema.columns WHERE table_schema = ? AND table_name = ?",
        (namespace, name),
    )
    found = [_stored(*row) for row in rows]
    return {stored.name.lower(): stored for stored in found}


def _stored(name: str, type_: str, full: str, *limits: Any) -> Stored:
    length, digits, scale, fraction, charset, collation, nullable, generated = limits
    numbers = (length, digits, scale, fraction)
    return Stored(name, type_.lower(), full.lower(), *numbers, charset, collation, bool(nullable), bool(generated))


def stored_columns(database: MariaDbDatabase, table: TargetTable) -> tuple[list[Stored], list[Text | None]]:
    """The table's columns as they are, and how they take values. Raises `Terminal` for what is missing or wrong."""
    where = f"{table.namespace}.{table.name}"
    existing = columns_of(database, table.namespace, table.name)
    columns = []
    for column in table.columns:
        stored = existing.get(column.name.lower())
        if stored is None:
            what = f"there is no column {column.name}" if existing else f"there is no table {where}"
            kind = Terminal if existing else NoTable
            raise kind(what, where=where, hint="has the pipeline run? cdc run creates the table and its columns")
        if stored.generated:
            raise Terminal(f"column {column.name} is generated: it takes no values", where=where)
        columns.append(stored)
    return columns, [literal(column, stored, where) for column, stored in zip(table.columns, columns, strict=True)]


def _register(database: MariaDbDatabase, table: TargetTable) -> int:
    named = (table.namespace, table.name)
    find = "SELECT id FROM cdc_target_table WHERE namespace = ? AND name = ?"
    if not database.rows(find, named):
        database.run(
            "INSERT INTO cdc_target_table (namespace, name, floor_position) VALUES (?, ?, x'')"
            + database.on_conflict(("namespace", "name")),
            named,
        )
    return int(database.rows(find, named)[0][0])


def creating(database: MariaDbDatabase, table: TargetTable) -> list[str]:
    """What makes the table. Raises `Terminal` for a key that no index holds."""
    there = database.rows("SELECT 1 FROM information_schema.schemata WHERE schema_name = ?", (table.namespace,))
    parts = [
        f"{quote(column.name)} {type_}" + (" NOT NULL" if not column.nullable or column.name in table.key else " NULL")
        for column, type_ in zip(table.columns, _types(table), strict=True)
    ]
    if table.on_delete is DeletePolicy.SOFT and table.soft_delete:
        parts.append(f"{quote(table.soft_delete)} {_MARK_TYPE}")
    parts += [f"{quote(name)} {type_}" for name, type_ in _extra_columns(table)]
    parts.append(f"{quote(POSITION)} {_POSITION_TYPE}")
    parts.append(f"PRIMARY KEY ({', '.join(map(quote, table.key))})")
    name = quote(table.namespace, table.name)
    made = f"CREATE TABLE {name} ({', '.join(parts)}) {database.table_options}"
    return [made] if there else [f"CREATE DATABASE IF NOT EXISTS {quote(table.namespace)}", made]


def _create(database: MariaDbDatabase, table: TargetTable) -> None:
    for statement in creating(database, table):
        database.run(statement)
    _log.info("table created", target=f"{table.namespace}.{table.name}", columns=len(table.columns))


def _types(table: TargetTable) -> list[str]:
    """The types of columns that we make: a key's texts share its length, and short texts are long ones where a row
    would get too wide."""
    unbounded = [
        column.name
        for column in table.columns
        if column.name in table.key and column.type.kind in _UNBOUNDED and not column.sql_type
    ]
    # Other key columns are numbers, times, or texts with a length: those count with what they take.
    taken = sum(
        _width(declared_type(column, None)) or 16
        for column in table.columns
        if column.name in table.key and not (column.name in unbounded and not _width(declared_type(column, None)))
    )
    open_ended = [name for name in unbounded if not _width(declared_type(_column(table, name), None))]
    share = (KEY_BYTES - taken) // max(len(open_ended), 1)
    if share < 4 or taken > KEY_BYTES:
        raise Terminal(
            f"the key ({', '.join(table.key)}) may take more than {KEY_BYTES} bytes, the most that an index holds",
            where=f"{table.namespace}.{table.name}",
            hint=f"give its texts the length of their values: {(open_ended or table.key)[0]}: {{type: varchar(100)}}",
        )
    types = [declared_type(column, share if column.name in table.key else None) for column in table.columns]
    if sum(map(_width, types)) > _ROW_BYTES:
        return [
            type_ if column.name in table.key or column.sql_type or not type_.startswith("varchar") else "longtext"
            for column, type_ in zip(table.columns, types, strict=True)
        ]
    return types


def _column(table: TargetTable, name: str) -> TargetColumn:
    return next(column for column in table.columns if column.name == name)


def _width(type_: str) -> int:
    """Bytes that a text or bytes column of this type takes in a key or a row; 0 for others and for long ones."""
    name, _, length = type_.lower().partition("(")
    digits = length.partition(")")[0]
    if name.strip() not in ("varchar", "char", "varbinary", "binary") or not digits.isdigit():
        return 0
    return int(digits) * (4 if name.strip().endswith("char") else 1)


def definitions(database: MariaDbDatabase, table: TargetTable) -> dict[str, str]:
    """How we would define the columns that rows are written to."""
    wanted = dict(zip((column.name for column in table.columns), _types(table), strict=True))
    if table.on_delete is DeletePolicy.SOFT and table.soft_delete:
        wanted[table.soft_delete] = _MARK_TYPE
    wanted |= dict(_extra_columns(table))
    wanted[POSITION] = _POSITION_TYPE
    text = f" CHARACTER SET utf8mb4 COLLATE {database.collation}"
    return {name: type_ + text * _is_text(type_) for name, type_ in wanted.items()}


def missing(database: MariaDbDatabase, table: TargetTable, existing: Collection[str]) -> list[tuple[str, str]]:
    """The columns that the table lacks (`existing`: names in lower case), and what adds them."""
    name = quote(table.namespace, table.name)
    return [
        (column, f"ALTER TABLE {name} ADD COLUMN {quote(column)} {definition}")
        for column, definition in definitions(database, table).items()
        if column.lower() not in existing
    ]


def _complete(database: MariaDbDatabase, table: TargetTable, existing: dict[str, Stored]) -> None:
    for column, statement in missing(database, table, existing):
        database.run(statement)
        _log.info("column added", target=f"{table.namespace}.{table.name}", column=column)


def _extra_columns(table: TargetTable) -> list[tuple[str, str]]:
    return extra_columns(table, "datetime(6) NULL", "tinyint(1)", f"varbinary({len(table.columns)}) NULL")


def _is_text(type_: str) -> bool:
    name = type_.lower().partition("(")[0].strip()
    return name in ("varchar", "char", "tinytext", "text", "mediumtext", "longtext")


def check(database: MariaDbDatabase, table: TargetTable, columns: Sequence[Stored]) -> str:
    """The table can be written exactly and taken back; the name of the unique index over its key."""
    where = f"{table.namespace}.{table.name}"
    name = quote(table.namespace, table.name)
    ((engine,),) = database.rows(
        "SELECT coalesce(engine, 'a view') FROM information_schema.tables WHERE table_schema = ? AND table_name = ?",
        (table.namespace, table.name),
    )
    if engine != "InnoDB":
        hint = f"ALTER TABLE {name} ENGINE=InnoDB;"
        raise Terminal(f"the table is {engine}, which has no transactions", where=where, hint=hint)
    for stored in columns:
        if stored.name.lower() in {key.lower() for key in table.key}:
            _check_collation(database, stored, name, where)
    return _key_index(database, table, name, where)


def _check_collation(database: MariaDbDatabase, stored: Stored, name: str, where: str) -> None:
    if stored.collation is None or stored.collation == database.collation:
        return
    raise Terminal(
        f"key column {stored.name} compares as {stored.collation}: different keys of the source could be one here",
        where=where,
        hint=f"ALTER TABLE {name} MODIFY {quote(stored.name)} {stored.full} CHARACTER SET utf8mb4"
        f" COLLATE {database.collation} NOT NULL;",
    )


def _key_index(database: MariaDbDatabase, table: TargetTable, name: str, where: str) -> str:
    rows = database.rows(
        "SELECT index_name, lower(column_name), sub_part IS NULL FROM information_schema.statistics"
        " WHERE table_schema = ? AND table_name = ? AND non_unique = 0",
        (table.namespace, table.name),
    )
    indexes: dict[str, list[str]] = {}
    for index, column, whole in rows:
        indexes.setdefault(index, []).append(column if whole else "")
    wanted = sorted(key.lower() for key in table.key)
    found = [index for index, columns in indexes.items() if sorted(columns) == wanted]
    if found:
        return found[0]
    columns = ", ".join(map(quote, table.key))
    raise Terminal(
        f"the table has no unique index over its key ({', '.join(table.key)})",
        where=where,
        hint=f"CREATE UNIQUE INDEX {quote(f'{table.name}_key')} ON {name} ({columns});",
    )


def _copied(database: MariaDbDatabase, stored: Stored) -> str:
    """A column that takes what `stored` takes, and NULL; texts of any character set, compared exactly."""
    text = f" CHARACTER SET utf8mb4 COLLATE {database.collation}" if stored.charset is not None else ""
    return f"{quote(stored.name)} {stored.full}{text} NULL"


def _create_memories(database: MariaDbDatabase, table: TargetTable, table_id: int, columns: Sequence[Stored]) -> None:
    """Tombstones, and values lent by key changes; their columns follow the table's when somebody changes those."""
    keys = [stored for column, stored in zip(table.columns, columns, strict=True) if column.name in table.key]
    key = ", ".join(map(quote, table.key))
    own = "_position varbinary(22) NOT NULL, _buried_us bigint NOT NULL, KEY buried (_buried_us)"
    _follow(database, tombstone_name(table_id), f"{own}, PRIMARY KEY ({key})", keys, " NOT NULL")
    own = (
        "_mapping varchar(200) NOT NULL, _move char(64) NOT NULL, _place varbinary(22) NOT NULL,"
        " _lent_us bigint NOT NULL, PRIMARY KEY (_mapping, _move, _place)"
    )
    _follow(database, lent_name(table_id), own, columns, " NULL")


def _follow(database: MariaDbDatabase, name: str, own: str, columns: Sequence[Stored], null: str) -> None:
    definitions = {stored.name.lower(): _copied(database, stored).removesuffix(" NULL") + null for stored in columns}
    there = columns_of(database, database.name, name)
    if not there:
        database.run(
            f"CREATE TABLE IF NOT EXISTS {quote(database.name, name)} ({', '.join([*definitions.values(), own])})"
            f" {database.table_options}"
        )
        return
    for stored in columns:
        known = there.get(stored.name.lower())
        if known is None or known.full != stored.full:
            change = "ADD COLUMN" if known is None else "MODIFY COLUMN"
            database.run(f"ALTER TABLE {quote(database.name, name)} {change} {definitions[stored.name.lower()]}")
