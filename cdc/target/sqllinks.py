"""The statements that ask what of a round waits (see sqlorder.py), composed of a table's foreign and unique keys."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from cdc.model import DeletePolicy, TargetTable
from cdc.target.base import ForeignKey, Related
from cdc.target.sqlcompose import Composer, listed
from cdc.target.sqlorder import Links, Missing, UniqueKey
from cdc.target.sqlround import DELETE, FULL, PARTIAL


@dataclass(frozen=True)
class FoundKey:
    """A foreign key as it is found; names of tables as `Related` has them. `forbids`: that a parent goes before."""

    child: str
    columns: tuple[str, ...]
    parent: str
    referenced: tuple[str, ...]
    forbids: bool


@dataclass(frozen=True)
class FoundUnique:
    """A unique key beside the table's own. `freed`: one of its columns that may be NULL, if there is one."""

    columns: tuple[str, ...]
    freed: str | None


def compose_links(
    table: TargetTable,
    name: str,
    composer: Composer,
    keys: Iterable[FoundKey],
    unique: Iterable[FoundUnique],
    quoted: Callable[[str], str],
) -> Links:
    """`name`: the table's own; `quoted` makes of such a name what stands in statements."""
    columns = {column.name for column in table.columns}
    parents, children = list[FoundKey](), list[FoundKey]()
    for key in keys:
        if key.child == name and columns >= {*key.columns, *(key.referenced if key.parent == name else ())}:
            parents.append(key)
        if key.parent == name and key.forbids and table.on_delete is DeletePolicy.DELETE:
            children.append(key)
    made = _LinkComposer(table, name, composer, quoted)
    missing = tuple(map(made.missing, parents))
    return Links(
        related=Related(name, tuple(each.key for each in missing)),
        missing=missing,
        referenced=made.referenced(children) if children else "",
        unique=tuple(
            made.unique(key.columns, key.freed)
            for key in unique
            if columns >= set(key.columns) and set(key.columns) != set(table.key) and key.freed is not None
        ),
        take_out=f"DELETE FROM {composer.stage} WHERE _n IN ",
    )


class _LinkComposer:
    """In its statements s is the staged row, t the target's row of the same key, o another row."""

    def __init__(self, table: TargetTable, name: str, composer: Composer, quoted: Callable[[str], str]) -> None:
        self.name = name
        self.composer = composer
        self.quoted = quoted
        self.column = dict(zip([column.name for column in table.columns], composer.names, strict=True))
        self.upserts = f"s._op IN ({FULL}, {PARTIAL})"
        self.passes = f"s._position >= {composer.newest}"
        self.stage = f"{composer.stage} s"
        self.s_join_t = f"{self.stage} {composer.join} {composer.target} t ON {composer.t_is_s}"

    def missing(self, key: FoundKey) -> Missing:
        same = self.same("o", key.referenced, "s", key.columns)
        referred = self.named(key.referenced) if key.parent == self.name else []
        return Missing(
            ForeignKey(key.columns, key.parent, key.referenced),
            f"SELECT s._n, {listed(self.named(key.columns), 's')} FROM {self.stage} WHERE {self.upserts}"
            f" AND {self.given(key.columns)} AND NOT EXISTS"
            f" (SELECT 1 FROM {self.quoted(key.parent)} o WHERE {same}) AND {self.passes}",
            f"SELECT s._n, {listed(referred, 's')} FROM {self.stage} WHERE s._op = {FULL} AND {self.passes}"
            if referred
            else "",
        )

    def referenced(self, keys: Sequence[FoundKey]) -> str:
        parts = []
        for key in keys:
            another = f" AND NOT ({self.composer.same_key('o', 't')})" if key.child == self.name else ""
            same = self.same("o", key.columns, "t", key.referenced)
            parts.append(f"EXISTS (SELECT 1 FROM {self.quoted(key.child)} o WHERE {same}{another})")
        return (
            f"SELECT s._n FROM {self.s_join_t} WHERE s._op = {DELETE}"
            f" AND coalesce(t.{self.composer.p}, x'') <= s._position AND ({' OR '.join(parts)})"
        )

    def unique(self, columns: tuple[str, ...], freed: str | None) -> UniqueKey:
        assert freed is not None
        changed = " OR ".join(self.changed(name) for name in columns)
        return UniqueKey(
            columns,
            held=f"SELECT s._n, {self.composer.key('o')} FROM {self.stage} {self.composer.join}"
            f" {self.composer.target} o ON {self.same('o', columns, 's', columns)}"
            f" WHERE {self.upserts} AND NOT ({self.composer.same_key('o', 's')}) AND {self.passes}",
            leaving=f"SELECT s._n, {self.composer.key('t')} FROM {self.s_join_t}"
            f" WHERE {self.upserts} AND ({changed}) AND {self.passes}",
            wanted=f"SELECT s._n, {listed(self.named(columns), 's')} FROM {self.stage}"
            f" WHERE {self.upserts} AND {self.given(columns)} AND {self.passes}",
            give_up=self.composer.give_up(self.column[freed]),
        )

    def changed(self, name: str) -> str:
        column = self.column[name]
        place = self.composer.names.index(column) + 1
        distinct = self.composer.distinct(f"s.{column}", f"t.{column}")
        return f"((s._op = {FULL} OR substr(s._mask, {place}, 1) = '1') AND {distinct})"

    def named(self, columns: Iterable[str]) -> list[str]:
        """Quoted; also columns of other tables."""
        return [self.composer.quote(name) for name in columns]

    def given(self, columns: Iterable[str]) -> str:
        return " AND ".join(f"s.{name} IS NOT NULL" for name in self.named(columns))

    def same(self, left: str, left_columns: Iterable[str], right: str, right_columns: Iterable[str]) -> str:
        pairs = zip(self.named(left_columns), self.named(right_columns), strict=True)
        return " AND ".join(f"{left}.{one} = {right}.{other}" for one, other in pairs)
