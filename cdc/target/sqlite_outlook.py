"""What writing a table would mean for a SQLite target (see outlook.py)."""

from __future__ import annotations

import msgspec

from cdc.errors import Terminal
from cdc.model import TargetTable
from cdc.target.outlook import Outlook
from cdc.target.sqlite_database import quote
from cdc.target.sqlite_statements import table_name
from cdc.target.sqlite_tables import check_key, creating, encoders_of, missing
from cdc.target.sqlstate import Database


def outlook(database: Database, table: TargetTable, *, count: bool) -> Outlook:
    """`count`: whether its rows are counted. SQLite changes no column's type: the owner makes the table anew."""
    name = table_name(table)
    retype = f"-- SQLite changes no column's type: make {name} anew, then load it again"
    retyping = dict.fromkeys((column.name for column in table.columns), retype)
    if not database.has_table(name):
        return Outlook(statements=(creating(table),), retyping=retyping)
    columns: dict[str, str] = dict(database.rows("SELECT name, type FROM pragma_table_xinfo(?)", (name,)))
    there = {each.lower() for each in columns}
    known = tuple(column for column in table.columns if column.name.lower() in there)
    try:
        check_key(database, table)
        encoders_of(database, msgspec.structs.replace(table, columns=known))
        refused = ""
    except Terminal as error:
        refused = error.what if error.hint is None else f"{error.what}; {error.hint}"
    rows = int(database.rows(f"SELECT count(*) FROM {quote(name)}")[0][0]) if count else None
    added = tuple(statement for _, statement in missing(table, there))
    return Outlook(True, columns, rows, added, retyping, refused)
