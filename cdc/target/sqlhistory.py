"""The SQL of histories, for every SQL target: what follows from a round's changes, worked out for the keys it touched.

A change is a row like any other: the target's own upsert writes it. What then depends on the other changes of its key
is worked out by a statement each, for all keys of the round together and only from the round's first position of a key
on, so that a long history costs no more than a short one:

    waiting      partial changes before which no change tells the whole row: they go again, and are parked
    truncated    rows that say 't', for changes before a truncate that are the last ones before it
    filled       what partial changes did not bring
    dated        `valid_to` and `is_current`

All of it is a function of the table's own rows and `cdc.history_truncate`, so that no order of the rounds
decides anything.
In statements t is a change, p one before it, s a staged one, k a key with `_first`, the position to begin at.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cdc.model import GONE, HISTORY_COLUMNS, HISTORY_KEYS, History, TargetTable
from cdc.target.sqlround import PARTIAL, POSITION

MISSING = "_cdc_missing"
"""The column for the mask of a partial change (see sqlround.py); NULL for others."""

Update = Callable[[str, Sequence[str], Sequence[str]], str]
"""(rows, key columns, columns): sets these columns of the target's rows to those of a query's rows of the same key."""


def update_from(target: str) -> Update:
    """In the words of PostgreSQL and SQLite; `target`: the quoted table."""

    def update(rows: str, key: Sequence[str], columns: Sequence[str]) -> str:
        assignments = ", ".join(f"{name} = n.{name}" for name in columns)
        same = " AND ".join(f"t.{name} = n.{name}" for name in key)
        return f"UPDATE {target} AS t SET {assignments} FROM ({rows}) n WHERE {same}"

    return update


@dataclass(frozen=True)
class HistoryStatements:
    """Every parameter is the packed position of the sweep."""

    settle: str  # staged partial changes that are there already: FULL
    waiting: str  # answers `_n`
    forget: str  # takes them away again
    any_truncates: str  # answers something when there are truncates
    forget_truncated: str
    truncated: str
    filled: str
    dated: str  # '' where no versions are kept
    swept: str  # the rows that a sweep makes; staged keys are kept
    sweep_examples: str
    sweep_dated: str


@dataclass(frozen=True)
class Words:
    """A database's words. `truncates`: a query in parentheses for those of the table (position, at). `delete`: those of
    the target's rows t that meet a condition. `settle`: staged rows that are PARTIAL become FULL where the target has a
    row of their key. `place`: of a parameter. `lowest`: the least of a group's positions."""

    quote: Callable[[str], str]
    target: str
    stage: str
    truncates: str
    update: Update
    delete: Callable[[str], str]
    settle: str
    place: str = "?"
    lowest: Callable[[str], str] = "min({})".format


class HistorySql:
    """Statements of one history. `key`: of the row itself; `history`: names of the columns that tell about changes."""

    def __init__(self, words: Words, key: Sequence[str], history: History, values: Sequence[str] = ()) -> None:
        quote = words.quote
        self.words = words
        self.own_key = list(map(quote, key))
        self.op, self.at, self.pos = quote(history.operation), quote(history.at), quote(history.position)
        self.key = [*self.own_key, self.pos, self.op]
        self.values = list(map(quote, values))  # all columns that a change brings, in the order of the mask
        self.to = quote(history.valid_to) if history.valid_to else ""
        self.current = quote(history.current) if history.current else ""
        self.missing, self.p = quote(MISSING), quote(POSITION)
        self.gone = f"IN {GONE}"

    @classmethod
    def of(cls, words: Words, table: TargetTable) -> HistorySql:
        assert table.history is not None
        names = [column.name for column in table.columns]
        return cls(words, table.key[:-HISTORY_KEYS], table.history, names[:-HISTORY_COLUMNS])

    def all(self, partials: bool) -> HistoryStatements:
        staged = f"SELECT {self.keys('s')}, {self.words.lowest(f's.{self.pos}')} AS _lowest"
        staged += f" FROM {self.words.stage} s GROUP BY {self.keys('s')}"
        return HistoryStatements(
            settle=self.words.settle,
            waiting=self.waiting(),
            forget=self.words.delete(f"({self.listed(self.key, 't')}) IN ({self.waiting_keys()})"),
            any_truncates=f"SELECT 1 FROM {self.words.truncates} x LIMIT 1",
            forget_truncated=self.words.delete(
                f"t.{self.op} = 't' AND ({self.keys('t')}) IN (SELECT {self.keys('s')} FROM {self.words.stage} s)"
            ),
            truncated=self.truncated(f"SELECT DISTINCT {self.keys('s')} FROM {self.words.stage} s"),
            filled=self.filled(self.first(staged)) if partials else "",
            dated=self.dated(self.first(staged)) if self.to else "",
            swept=self.swept(),
            sweep_examples=f"SELECT {self.keys('l')} FROM {self.last()} ORDER BY {self.keys('l')} LIMIT 5",
            sweep_dated=self.dated(self.everything()) if self.to else "",
        )

    def whole_table(self) -> tuple[str, str, str]:
        """After a truncate, for all keys: what says 't' goes, comes again, and is dated ('' without versions)."""
        every = f"SELECT DISTINCT {self.keys('t')} FROM {self.words.target} t"
        forget = self.words.delete(f"t.{self.op} = 't'")
        return forget, self.truncated(every), self.dated(self.everything()) if self.to else ""

    # Pieces

    def listed(self, names: Sequence[str], alias: str) -> str:
        return ", ".join(f"{alias}.{name}" for name in names)

    def keys(self, alias: str) -> str:
        return self.listed(self.own_key, alias)

    def same(self, left: str, right: str) -> str:
        return " AND ".join(f"{left}.{name} = {right}.{name}" for name in self.own_key)

    def everything(self) -> str:
        found = f"SELECT {self.keys('t')}, {self.words.lowest(f't.{self.pos}')} AS _first"
        return f"{found} FROM {self.words.target} t GROUP BY {self.keys('t')}"

    def first(self, staged: str) -> str:
        """The keys, each with the position of the change before its lowest staged one, whose row changes too."""
        before = (
            f"SELECT p.{self.pos} FROM {self.words.target} p WHERE {self.same('p', 'g')} AND p.{self.pos} < g._lowest"
            f" ORDER BY p.{self.pos} DESC LIMIT 1"
        )
        return f"SELECT {self.keys('g')}, coalesce(({before}), g._lowest) AS _first FROM ({staged}) g"

    def window(self, alias: str) -> str:
        """At one position, the row that goes comes first."""
        rank = f"CASE WHEN {alias}.{self.op} {self.gone} THEN 0 ELSE 1 END"
        return f"(PARTITION BY {self.keys(alias)} ORDER BY {alias}.{self.pos}, {rank})"

    # Statements

    def waiting(self) -> str:
        whole = (
            f"SELECT 1 FROM {self.words.target} p WHERE {self.same('p', 's')} AND p.{self.pos} < s.{self.pos}"
            f" AND p.{self.missing} IS NULL AND NOT p.{self.op} {self.gone}"
        )
        return f"SELECT s._n FROM {self.words.stage} s WHERE s._op = {PARTIAL} AND NOT EXISTS ({whole})"

    def waiting_keys(self) -> str:
        return self.waiting().replace("SELECT s._n", f"SELECT {self.listed(self.key, 's')}", 1)

    def truncated(self, keys: str) -> str:
        lead = f"lead(t.{self.pos}) OVER {self.window('t')}"
        changes = (
            f"SELECT {self.keys('t')}, t.{self.op}, t.{self.pos}, {lead} AS _next FROM ({keys}) k"
            f" JOIN {self.words.target} t ON {self.same('t', 'k')} WHERE t.{self.op} <> 't'"
        )
        ended = (
            f"SELECT {self.keys('e')}, {self.words.lowest('x.position')} AS _at FROM ({changes}) e"
            f" JOIN {self.words.truncates} x ON x.position > e.{self.pos} AND (e._next IS NULL"
            f" OR x.position <= e._next)"
            f" WHERE NOT e.{self.op} {self.gone} GROUP BY {self.keys('e')}, e.{self.pos}, e.{self.op}"
        )
        # What comes after does not date such a row, and may begin later than it (`first`).
        dates = [self.to, self.current] if self.to else []
        return (
            f"INSERT INTO {self.words.target} ({', '.join([*self.key, self.at, self.p, *dates])})"
            f" SELECT {self.keys('d')}, d._at, 't', x.at, d._at{', x.at, FALSE' if dates else ''} FROM ({ended}) d"
            f" JOIN {self.words.truncates} x ON x.position = d._at"
        )

    def filled(self, keys: str) -> str:
        others = [(name, number) for number, name in enumerate(self.values, 1) if name not in self.own_key]
        before = f"FROM {self.words.target} p WHERE {self.same('p', 't')} AND p.{self.pos} < t.{self.pos}"
        before += f" AND NOT p.{self.op} {self.gone}"
        columns = [
            f"CASE WHEN {self.brought('t', number)} THEN t.{name} ELSE (SELECT p.{name} {before}"
            f" AND (p.{self.missing} IS NULL OR {self.brought('p', number)})"
            f" ORDER BY p.{self.pos} DESC LIMIT 1) END AS {name}"
            for name, number in others
        ]
        rows = (
            f"SELECT {', '.join([self.listed(self.key, 't'), *columns])} FROM ({keys}) k JOIN {self.words.target} t"
            f" ON {self.same('t', 'k')} AND t.{self.pos} >= k._first WHERE t.{self.missing} IS NOT NULL"
            f" AND EXISTS (SELECT 1 {before} AND p.{self.missing} IS NULL)"
        )
        return self.words.update(rows, self.key, [name for name, _ in others])

    def brought(self, alias: str, number: int) -> str:
        return f"substr({alias}.{self.missing}, {number}, 1) = '1'"

    def dated(self, keys: str) -> str:
        over = f"OVER {self.window('t')}"
        there = f"CASE WHEN t.{self.op} {self.gone} THEN 0 ELSE 1 END = 1"
        worked_out = (
            f"SELECT {self.listed(self.key, 't')}, CASE WHEN {there} THEN lead(t.{self.at}) {over} ELSE t.{self.at} END"
            f" AS {self.to}, ({there} AND lead(t.{self.pos}) {over} IS NULL) AS {self.current},"
            f" t.{self.to} AS _to, t.{self.current} AS _current FROM ({keys}) k"
            f" JOIN {self.words.target} t ON {self.same('t', 'k')} AND t.{self.pos} >= k._first"
        )
        other = f"coalesce(w.{self.to} <> w._to, w.{self.to} IS NOT NULL OR w._to IS NOT NULL)"
        rows = f"SELECT w.* FROM ({worked_out}) w WHERE w.{self.current} <> w._current OR {other}"
        return self.words.update(rows, self.key, [self.to, self.current])

    def last(self) -> str:
        """The last changes of the keys that a sweep finds gone, as l."""
        lead = f"lead(t.{self.pos}) OVER {self.window('t')}"
        rows = f"SELECT {self.keys('t')}, t.{self.op}, t.{self.pos}, {lead} AS _next FROM {self.words.target} t"
        kept = f"SELECT {self.keys('s')} FROM {self.words.stage} s"
        return (
            f"({rows}) l WHERE l._next IS NULL AND l.{self.pos} < {self.words.place} AND NOT l.{self.op} {self.gone}"
            f" AND ({self.keys('l')}) NOT IN ({kept})"
        )

    def swept(self) -> str:
        place = self.words.place
        at = f"(SELECT max(a.{self.at}) FROM {self.words.target} a WHERE a.{self.pos} <= {self.words.place})"
        return (
            f"INSERT INTO {self.words.target} ({', '.join([*self.key, self.at, self.p])})"
            f" SELECT {self.keys('l')}, {place}, 's', {at}, {place} FROM {self.last()}"
        )
