"""What writing a table would mean for a MariaDB target (see outlook.py)."""

from __future__ import annotations

import msgspec

from cdc.db.mariadb import quote
from cdc.errors import Terminal
from cdc.model import TargetTable
from cdc.target.mariadb_database import MariaDbDatabase
from cdc.target.mariadb_tables import check, columns_of, creating, definitions, missing, stored_columns
from cdc.target.outlook import Outlook


def outlook(database: MariaDbDatabase, table: TargetTable, *, count: bool) -> Outlook:
    """`count`: whether its rows are counted."""
    name = quote(table.namespace, table.name)
    existing = columns_of(database, table.namespace, table.name)
    try:
        if not existing:
            return Outlook(statements=tuple(creating(database, table)))
        known = tuple(column for column in table.columns if column.name.lower() in existing)
        check(database, table, stored_columns(database, msgspec.structs.replace(table, columns=known))[0])
        refused = ""
    except Terminal as error:
        refused = error.what if error.hint is None else f"{error.what}; {error.hint}"
    wanted = definitions(database, table)
    nullable = {column.name: column.nullable and column.name not in table.key for column in table.columns}
    retyping = {
        column: f"ALTER TABLE {name} MODIFY COLUMN {quote(column)} {wanted[column]}" + ("" if null else " NOT NULL")
        for column, null in nullable.items()
    }
    rows = int(database.rows(f"SELECT count(*) FROM {name}")[0][0]) if count else None
    columns = {stored.name: stored.full for stored in existing.values()}
    added = tuple(statement for _, statement in missing(database, table, existing))
    return Outlook(bool(existing), columns, rows, added, retyping, refused)
