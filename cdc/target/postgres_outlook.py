"""What writing a table would mean for a PostgreSQL target (see outlook.py). Reads the catalog, and counts rows."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import sql

from cdc.errors import Terminal
from cdc.model import TargetTable
from cdc.target.outlook import Outlook
from cdc.target.postgres_errors import translated
from cdc.target.postgres_found import check, find
from cdc.target.postgres_statements import identifier
from cdc.target.postgres_tables import check_key, creating, missing, type_of


def outlook(connection: psycopg.Connection[Any], table: TargetTable, *, count: bool) -> Outlook:
    """`count`: whether its rows are counted."""
    with translated():
        name = identifier(table.namespace, table.name)
        retype = sql.SQL("ALTER TABLE {} ALTER COLUMN {} TYPE {}")
        retyping = {
            column.name: retype.format(name, identifier(column.name), type_of(column)).as_string(connection)
            for column in table.columns
        }
        found = find(connection, table)
        try:
            if found is None:
                made = [each.as_string(connection) for each in creating(connection, table)]
                return Outlook(statements=tuple(made), retyping=retyping)
            added = [each.as_string(connection) for _, each in missing(connection, table, found)]
            check(connection, table, found)
            check_key(connection, table)
            refused = ""
        except Terminal as error:
            added, refused = [], _said(error)
        columns = {} if found is None else {column.name: column.type for column in found.columns.values()}
        rows = None
        if count:
            row = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(name)).fetchone()
            rows = None if row is None else int(row[0])
        return Outlook(found is not None, columns, rows, tuple(added), retyping, refused)


def _said(error: Terminal) -> str:
    return error.what if error.hint is None else f"{error.what}; {error.hint}"
