"""The rows of a SQLite table, read back for a comparison (see rows.py)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cdc.model import UNAVAILABLE, DeletePolicy, TargetTable, Value
from cdc.target.base import Owner
from cdc.target.rows import Cells
from cdc.target.sqlite_database import quote
from cdc.target.sqlite_statements import table_name
from cdc.target.sqlite_tables import encoders_of
from cdc.target.sqlite_types import encode_row
from cdc.target.sqlstate import Database, marks, stored_version
from cdc.target.sqlstate_parked import MINE

PAGE = 5000


class SqliteRows:
    """A `TargetRows`. Raises `Terminal` when the table or a column of it is not there."""

    def __init__(self, database: Database, table: TargetTable) -> None:
        self._database = database
        self._table = table
        self._encode = encode_row(encoders_of(database, table))
        self._columns = ", ".join(quote(column.name) for column in table.columns)
        self._keys = ", ".join(map(quote, table.key))
        self._key_places = table.key_indexes
        soft = table.soft_delete if table.on_delete is DeletePolicy.SOFT else None
        self._deleted = quote(soft) if soft else "0"
        self._from = f"FROM {quote(table_name(table))}"

    def encode(self, values: Sequence[Value]) -> Cells:
        return tuple(self._encode([None if value is UNAVAILABLE else value for value in values]))

    def all(self) -> Iterator[list[Cells]]:
        last: Cells = ()
        while True:
            after = f" AND ({self._keys}) > ({marks(len(last))})" if last else ""
            page = self._database.rows(
                f"SELECT {self._columns} {self._from} WHERE NOT {self._deleted}{after}"
                f" ORDER BY {self._keys} LIMIT {PAGE}",
                last,
            )
            if not page:
                return
            yield page
            last = tuple(page[-1][place] for place in self._key_places)

    def of_keys(self, keys: Sequence[Cells]) -> list[Cells]:
        one = f"({marks(len(self._key_places))})"
        return self._database.rows(
            f"SELECT {self._columns} {self._from} WHERE NOT {self._deleted}"
            f" AND ({self._keys}) IN (VALUES {', '.join([one] * len(keys))})",
            [part for key in keys for part in key],
        )

    def soft_deleted(self) -> int:
        return int(self._database.rows(f"SELECT count(*) {self._from} WHERE {self._deleted}")[0][0])

    def holds(self, owner: Owner) -> dict[str, int]:
        if not stored_version(self._database):
            return {}
        rows = self._database.rows(
            f"SELECT hold, count(*) FROM cdc_parked WHERE {MINE} AND mapping = ? GROUP BY hold",
            (owner.pipeline, owner.target, self._table.mapping),
        )
        return dict(rows)

    def close(self) -> None:
        self._database.close()
