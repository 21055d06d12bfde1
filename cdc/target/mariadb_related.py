"""Foreign and unique keys of a MariaDB table as they are found."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cdc.db.mariadb import quote
from cdc.errors import Terminal
from cdc.model import TargetTable
from cdc.target.mariadb_database import MariaDbDatabase
from cdc.target.mariadb_types import Stored
from cdc.target.sqlcompose import Composer
from cdc.target.sqllinks import FoundKey, FoundUnique, compose_links
from cdc.target.sqlorder import Links

_KEYS = """
SELECT u.constraint_schema, u.constraint_name, concat(u.table_schema, '.', u.table_name), u.column_name,
       concat(u.referenced_table_schema, '.', u.referenced_table_name), u.referenced_column_name,
       r.delete_rule IN ('NO ACTION', 'RESTRICT')
FROM information_schema.key_column_usage u JOIN information_schema.referential_constraints r
  ON r.constraint_schema = u.constraint_schema AND r.constraint_name = u.constraint_name AND r.table_name = u.table_name
WHERE u.referenced_table_name IS NOT NULL AND ((u.table_schema = ? AND u.table_name = ?)
  OR (u.referenced_table_schema = ? AND u.referenced_table_name = ?))
ORDER BY u.constraint_schema, u.constraint_name, u.ordinal_position
"""
_UNIQUE = """
SELECT index_name, column_name, sub_part IS NULL FROM information_schema.statistics
WHERE table_schema = ? AND table_name = ? AND non_unique = 0 ORDER BY index_name, seq_in_index
"""


def find_links(database: MariaDbDatabase, table: TargetTable, columns: Sequence[Stored], composer: Composer) -> Links:
    """The links of a prepared table; `columns` as they are, in the order of `TargetTable.columns`."""
    name = f"{table.namespace}.{table.name}"
    if not table.key:
        return compose_links(table, name, composer, (), (), _quoted)
    exact = {stored.name for stored in columns if stored.collation in (None, database.collation)}
    keys = [
        key
        for key in _keys(database, table)
        if (key.child != name or set(key.columns) <= exact)
        and (key.parent != name or set(key.referenced) <= exact)
        and all(_readable(database, other) for other in {key.child, key.parent} - {name})
    ]
    unique = [key for key in _unique(database, table, columns) if set(key.columns) <= exact]
    return compose_links(table, name, composer, keys, unique, _quoted)


def _quoted(name: str) -> str:
    namespace, _, table = name.partition(".")
    return quote(namespace, table)


def _readable(database: MariaDbDatabase, name: str) -> bool:
    try:
        database.rows(f"SELECT 1 FROM {_quoted(name)} LIMIT 0")
    except Terminal:
        return False
    return True


def _keys(database: MariaDbDatabase, table: TargetTable) -> Iterator[FoundKey]:
    place = (table.namespace, table.name)
    found: dict[tuple[str, str], tuple[str, str, bool, list[tuple[str, str]]]] = {}
    for schema, name, child, column, parent, referenced, forbids in database.rows(_KEYS, (*place, *place)):
        known = found.setdefault((schema, name), (child, parent, bool(forbids), []))
        known[3].append((column, referenced))
    for child, parent, forbids, pairs in found.values():
        yield FoundKey(child, tuple(one for one, _ in pairs), parent, tuple(other for _, other in pairs), forbids)


def _unique(database: MariaDbDatabase, table: TargetTable, columns: Sequence[Stored]) -> Iterator[FoundUnique]:
    indexes: dict[str, list[str]] = {}
    for index, column, whole in database.rows(_UNIQUE, (table.namespace, table.name)):
        indexes.setdefault(index, []).append(column if whole else "")
    optional = {stored.name for stored in columns if stored.nullable} - set(table.key)
    for names in indexes.values():
        yield FoundUnique(tuple(names), next((name for name in names if name in optional), None))
