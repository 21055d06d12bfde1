"""The rows of a SQLite table, read back for a comparison (see rows.py)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cdc.model import UNAVAILABLE, TargetTable, Value
from cdc.target.rows import Cells
from cdc.target.sqlite_database import quote
from cdc.target.sqlite_statements import table_name
from cdc.target.sqlite_tables import encoders_of
from cdc.target.sqlite_types import encode_row
from cdc.target.sqlrows import PAGE, SqlRows
from cdc.target.sqlstate import Database, marks


class SqliteRows(SqlRows):
    """A `TargetRows`. Raises `Terminal` when the table or a column of it is not there."""

    tuples = "VALUES {}"

    def __init__(self, database: Database, table: TargetTable) -> None:
        self._encode = encode_row(encoders_of(database, table))
        self._key_places = table.key_indexes
        columns = ", ".join(quote(column.name) for column in table.columns)
        super().__init__(database, table, columns=columns, name=quote(table_name(table)), quote=quote)

    def encode(self, values: Sequence[Value]) -> Cells:
        return tuple(self._encode([None if value is UNAVAILABLE else value for value in values]))

    def all(self) -> Iterator[list[Cells]]:
        last: Cells = ()
        while True:
            after = f" AND ({self.keys}) > ({marks(len(last))})" if last else ""
            page = self.database.rows(f"{self.alive}{after} ORDER BY {self.keys} LIMIT {PAGE}", last)
            if not page:
                return
            yield page
            last = tuple(page[-1][place] for place in self._key_places)
