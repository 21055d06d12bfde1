"""Contributions in tables cdc_contribution… (see sqlstate.py): one row a target row, locked in order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from cdc.target.base import Owner
from cdc.target.sqlstate import Database, digest, marks
from cdc.target.sqlstate_parked import MINE, portions


class SqlContributions:
    """A `ContributionStore` and a `ShapeStore` on the target's connection. Keys are found by their digest, and go
    through in its order."""

    def __init__(self, database: Database, owner: Owner) -> None:
        self._database = database
        self._owner = (owner.pipeline, owner.target)
        self._ids: dict[str, int] = {}

    def take(self, mapping: str, keys: Iterable[str]) -> dict[str, bytes]:
        database, table = self._database, self._lock(mapping, self._database.for_share)
        wanted = {digest(key): key for key in keys}
        # First the keys that nobody has written yet get rows, then all of them are locked, each time in one order.
        database.run_many(
            f"INSERT INTO cdc_contribution (table_id, key_digest, row_key, document) VALUES ({marks(4)})"
            + database.on_conflict(("table_id", "key_digest")),
            [(table, each, key, b"") for each, key in sorted(wanted.items())],
        )
        found = {}
        for part in portions(sorted(wanted)):
            for row_key, document in database.rows(
                "SELECT row_key, document FROM cdc_contribution WHERE table_id = ?"
                f" AND key_digest IN ({marks(len(part))}) ORDER BY key_digest{database.for_update}",
                (table, *part),
            ):
                found[row_key] = bytes(document)
        return found

    def keep(self, mapping: str, documents: Mapping[str, bytes], memories: Mapping[str, int]) -> None:
        table = self._id(mapping)
        self._database.run_many(
            "UPDATE cdc_contribution SET document = ?, memory_s = ? WHERE table_id = ? AND key_digest = ?",
            [(document, memories.get(key), table, digest(key)) for key, document in documents.items() if document],
        )
        self._database.run_many(
            "DELETE FROM cdc_contribution WHERE table_id = ? AND key_digest = ?",
            [(table, digest(key)) for key, document in documents.items() if not document],
        )

    def forgettable(self, mapping: str, before_s: int, limit: int) -> dict[str, bytes]:
        (oldest_us,) = self._database.rows(f"SELECT min(parked_us) FROM cdc_parked WHERE {MINE}", self._owner)[0]
        before = before_s if oldest_us is None else min(before_s, oldest_us // 1_000_000)
        rows = self._database.rows(
            "SELECT row_key, document FROM cdc_contribution WHERE table_id = ? AND memory_s < ? ORDER BY memory_s"
            f" LIMIT ?{self._database.for_update}",
            (self._id(mapping), before, limit),
        )
        return {key: bytes(document) for key, document in rows}

    def portion(self, mapping: str, after: str, limit: int) -> dict[str, bytes]:
        table = self._id(mapping) if after else self._lock(mapping, self._database.for_update)
        rows = self._database.rows(
            "SELECT row_key, document FROM cdc_contribution WHERE table_id = ? AND key_digest > ?"
            " ORDER BY key_digest LIMIT ?",
            (table, digest(after) if after else "", limit),
        )
        return {key: bytes(document) for key, document in rows}

    def floors(self, mapping: str) -> dict[str, bytes]:
        rows = self._database.rows(
            "SELECT contributor, position FROM cdc_contribution_floor WHERE table_id = ?", (self._id(mapping),)
        )
        return {contributor: bytes(position) for contributor, position in rows}

    def raise_floor(self, mapping: str, contributor: str, position: bytes) -> None:
        self._database.run(
            f"INSERT INTO cdc_contribution_floor (table_id, contributor, position) VALUES ({marks(3)})"
            + self._database.on_conflict(("table_id", "contributor"), {"position": "{new}"}),
            (self._id(mapping), contributor, position),
        )

    def number(self, mapping: str, shape: str) -> int:
        self._database.run(
            f"INSERT INTO cdc_contribution_shape (table_id, shape_digest, shape) VALUES ({marks(3)})"
            + self._database.on_conflict(("table_id", "shape_digest")),
            (self._id(mapping), digest(shape), shape),
        )
        return next(number for number, known in self.all(mapping).items() if known == shape)

    def all(self, mapping: str) -> dict[int, str]:
        rows = self._database.rows(
            "SELECT number, shape FROM cdc_contribution_shape WHERE table_id = ? ORDER BY number", (self._id(mapping),)
        )
        return dict(rows)

    def _id(self, mapping: str) -> int:
        """The table's number; first asked for outside of transactions, as a `ShapeStore`."""
        if mapping not in self._ids:
            mine = (*self._owner, mapping)
            self._database.run(
                f"INSERT INTO cdc_contribution_table (pipeline, target, mapping) VALUES ({marks(3)})"
                + self._database.on_conflict(("pipeline", "target", "mapping")),
                mine,
            )
            ((self._ids[mapping],),) = self._database.rows(
                f"SELECT id FROM cdc_contribution_table WHERE {MINE} AND mapping = ?", mine
            )
        return self._ids[mapping]

    def _lock(self, mapping: str, how: str) -> int:
        """Keep apart those who write single keys and those who go through the whole table."""
        table = self._id(mapping)
        self._database.rows(f"SELECT id FROM cdc_contribution_table WHERE id = ?{how}", (table,))
        return table
