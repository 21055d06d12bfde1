"""The part of a table's statements (see `Statements` in sqlround.py) that all databases of sqlstate.py word alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cdc.model import DeletePolicy, TargetTable
from cdc.target.sqlround import DELETE, POSITION


class Composer:
    """Names, conditions and statements of one table; all names are quoted, `floor` is a query. In statements t is the
    target's row, s the staged one, d the tombstone. A subclass brings `newer`, the function that answers the greatest
    of its arguments, `join`, which reads the table on its left first, `distinct` and `give_up`."""

    newer: str
    join: str

    @staticmethod
    def distinct(left: str, right: str) -> str:
        """Whether the values differ; NULL is a value."""
        raise NotImplementedError

    def give_up(self, column: str) -> str:
        """Set a column of the target's rows to NULL; ends where the list of the writes' numbers begins."""
        raise NotImplementedError

    def __init__(
        self,
        table: TargetTable,
        quote: Callable[[str], str],
        *,
        target: str,
        tombstones: str,
        lent: str,
        stage: str,
        moves: str,
        floor: str,
    ) -> None:
        self.table = table
        self.quote = quote
        self.target, self.tombstones, self.lent, self.stage, self.moves = target, tombstones, lent, stage, moves
        self.names = [quote(column.name) for column in table.columns]
        self.others = [quote(column.name) for column in table.columns if column.name not in table.key]
        self.keys = [quote(name) for name in table.key]
        self.soft = quote(table.soft_delete) if table.on_delete is DeletePolicy.SOFT and table.soft_delete else None
        self.p = quote(POSITION)
        self.t_is_s, self.d_is_s = self.same_key("t", "s"), self.same_key("d", "s")
        self.floor = f"({floor})"
        self.newest = (
            f"{self.newer}(coalesce((SELECT t.{self.p} FROM {target} t WHERE {self.t_is_s}), x''),"
            f" coalesce((SELECT d._position FROM {tombstones} d WHERE {self.d_is_s}), x''), {self.floor})"
        )

    def same_key(self, left: str, right: str) -> str:
        return " AND ".join(f"{left}.{key} = {right}.{key}" for key in self.keys)

    def key(self, alias: str = "") -> str:
        return listed(self.keys, alias)

    def clear(self) -> tuple[str, str]:
        return f"DELETE FROM {self.stage}", f"DELETE FROM {self.moves}"

    def remove(self) -> str:
        return f"DELETE FROM {self.stage} WHERE _n = ?"

    def mixed(self) -> str:
        return (
            f"SELECT s._n FROM {self.stage} s WHERE s._base < s._position AND s._position >= {self.newest}"
            f" AND s._base < {self.newest}"
        )

    def has_tombstones(self) -> str:
        return f"SELECT 1 FROM {self.tombstones} LIMIT 1"

    @property
    def not_deleted(self) -> str:
        found = f"SELECT 1 FROM {self.tombstones} d WHERE {self.d_is_s} AND d._position > s._position"
        return f" AND NOT EXISTS ({found})"

    def unapplied(self) -> str:
        return (
            f"SELECT s._n, s._op, s._position < {self.newest} FROM {self.stage} s WHERE (s._op <> {DELETE} AND NOT"
            f" EXISTS (SELECT 1 FROM {self.target} t WHERE {self.t_is_s} AND t.{self.p} = s._position))"
            f" OR (s._op = {DELETE} AND s._position < {self.newest})"
        )

    def stale(self) -> str:
        return f"SELECT s._n FROM {self.stage} s WHERE s._position < {self.newest}"

    def truncate(self) -> str:
        """The second half of a truncate, after the floor was raised."""
        older = f"WHERE coalesce({self.p}, x'') < ?"
        if self.table.on_delete is DeletePolicy.IGNORE:
            return ""
        if self.soft is not None:
            return f"UPDATE {self.target} SET {self.soft} = 1, {self.p} = ? {older}"
        return f"DELETE FROM {self.target} {older}"

    @property
    def swept(self) -> str:
        """The rows a sweep removes; the staged keys are kept."""
        alive = "" if self.soft is None else f" AND NOT t.{self.soft}"
        kept = f"SELECT {self.key('s')} FROM {self.stage} s"
        return f"coalesce(t.{self.p}, x'') < ?{alive} AND ({self.key('t')}) NOT IN ({kept})"

    def sweep_examples(self) -> str:
        return f"SELECT {self.key('t')} FROM {self.target} t WHERE {self.swept} ORDER BY {self.key('t')} LIMIT 5"


def listed(names: Sequence[str], alias: str = "") -> str:
    return ", ".join(f"{alias}.{name}" if alias else name for name in names)
