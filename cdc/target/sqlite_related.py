"""Foreign and unique keys of a SQLite table as they are found. Names of tables and columns have no case here."""

from __future__ import annotations

from collections.abc import Iterator

from cdc.model import TargetTable
from cdc.target.sqlcompose import Composer
from cdc.target.sqlite_database import quote
from cdc.target.sqlite_statements import table_name
from cdc.target.sqllinks import FoundKey, FoundUnique, compose_links
from cdc.target.sqlorder import Links
from cdc.target.sqlstate import Database

_KEYS = """
SELECT lower(m.name), f.id, f."from", lower(f."table"), f."to", f.on_delete IN ('NO ACTION', 'RESTRICT')
FROM main.sqlite_master m JOIN pragma_foreign_key_list(m.name) f
WHERE m.type = 'table' AND (lower(m.name) = ? OR lower(f."table") = ?) ORDER BY m.name, f.id, f.seq
"""
_PRIMARY_KEY = "SELECT name FROM pragma_table_info(?) WHERE pk > 0 ORDER BY pk"


def find_links(database: Database, table: TargetTable, composer: Composer) -> Links:
    """The links of a prepared table."""
    name = table_name(table).lower()
    if not table.key:
        return compose_links(table, name, composer, (), (), _quoted)
    return compose_links(table, name, composer, _keys(database, table, name), _unique(database, table), _quoted)


def _quoted(name: str) -> str:
    return f"main.{quote(name)}"


def _keys(database: Database, table: TargetTable, name: str) -> Iterator[FoundKey]:
    found: dict[tuple[str, int], tuple[str, bool, list[tuple[str, str | None]]]] = {}
    for child, number, column, parent, referenced, forbids in database.rows(_KEYS, (name, name)):
        known = found.setdefault((child, number), (parent, bool(forbids), []))
        known[2].append((column, referenced))
    spelled = {column.name.lower(): column.name for column in table.columns}
    for (child, _), (parent, forbids, pairs) in found.items():
        referenced = [to for _, to in pairs if to is not None] or [
            column for (column,) in database.rows(_PRIMARY_KEY, (parent,))
        ]
        columns = [column for column, _ in pairs]
        if len(referenced) == len(columns):
            mine = [spelled.get(column.lower(), column) for column in columns] if child == name else columns
            theirs = [spelled.get(column.lower(), column) for column in referenced] if parent == name else referenced
            yield FoundKey(child, tuple(mine), parent, tuple(theirs), forbids)


def _unique(database: Database, table: TargetTable) -> Iterator[FoundUnique]:
    name = table_name(table)
    spelled = {column.name.lower(): column.name for column in table.columns}
    optional = {
        column.lower()
        for (column,) in database.rows('SELECT name FROM pragma_table_info(?) WHERE NOT "notnull"', (name,))
    }
    for (index,) in database.rows('SELECT name FROM pragma_index_list(?) WHERE "unique" AND NOT partial', (name,)):
        columns = [
            str(column or "").lower() for (column,) in database.rows("SELECT name FROM pragma_index_info(?)", (index,))
        ]
        names = [spelled.get(column, "") for column in columns]
        free = (n for n in names if n and n.lower() in optional and n not in table.key)
        yield FoundUnique(tuple(names), next(free, None))
