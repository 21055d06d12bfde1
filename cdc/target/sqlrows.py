"""What reading rows back (see rows.py) has in common in the databases of sqlstate.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cdc.model import DeletePolicy, TargetTable
from cdc.target.base import Owner
from cdc.target.rows import Cells
from cdc.target.sqlstate import Database, Row, marks, stored_version
from cdc.target.sqlstate_parked import MINE

PAGE = 5000


class SqlRows:
    """Base of a `TargetRows`. `columns` reads the table's columns, `name` is its quoted name. A subclass brings
    `encode` and `all`, and may bring `cells`."""

    tuples = "{}"
    """How a list of keys is written behind IN."""

    def __init__(
        self, database: Database, table: TargetTable, *, columns: str, name: str, quote: Callable[[str], str]
    ) -> None:
        self.database = database
        self._table = table
        self.keys = ", ".join(map(quote, table.key))
        soft = table.soft_delete if table.on_delete is DeletePolicy.SOFT else None
        self._from, self._deleted = f"FROM {name}", quote(soft) if soft else "0"
        self.alive = f"SELECT {columns} {self._from} WHERE NOT {self._deleted}"

    def cells(self, rows: list[Row]) -> list[Cells]:
        """Rows as the database answers them, in comparable form."""
        return rows

    def of_keys(self, keys: Sequence[Cells]) -> list[Cells]:
        one = f"({marks(len(self._table.key))})"
        wanted = self.tuples.format(", ".join([one] * len(keys)))
        query = f"{self.alive} AND ({self.keys}) IN ({wanted})"
        return self.cells(self.database.rows(query, [part for key in keys for part in key]))

    def soft_deleted(self) -> int:
        return int(self.database.rows(f"SELECT count(*) {self._from} WHERE {self._deleted}")[0][0])

    def holds(self, owner: Owner) -> dict[str, int]:
        if not stored_version(self.database):
            return {}
        rows = self.database.rows(
            f"SELECT hold, count(*) FROM cdc_parked WHERE {MINE} AND mapping = ? GROUP BY hold",
            (owner.pipeline, owner.target, self._table.mapping),
        )
        return dict(rows)

    def close(self) -> None:
        self.database.close()
