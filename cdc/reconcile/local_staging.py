"""Expected rows and the target's own side by side in a scratch database here, for targets that do not compare by
themselves: what staging.py does inside a PostgreSQL target, over `TargetRows`.

Rows are packed cells, and equal when the bytes are: 1 is not '1', 0.0 is not -0.0.

    stage     expected rows of one round; `mask` has a '0' for each column that is not compared ('': all are); `reason`
              says why a row cannot be written at all
    actual    the target's rows: all of them in the first pass, later those of the undecided keys, read again
    image     the expected rows of open keys in all rounds; a NULL row where a round found none
    open      the keys that differ, `state` '' while undecided
    parked    the keys that are parked
"""

# ruff: noqa: S608  composed of constants only

from __future__ import annotations

import sqlite3
from base64 import b64decode
from collections.abc import Iterator, Sequence

import msgspec

from cdc.errors import Poison
from cdc.model import UNAVAILABLE, Kind, MappedRow, TargetTable, Value
from cdc.reconcile.report import Cell as ShownCell
from cdc.reconcile.report import Difference, What
from cdc.reconcile.staging import CONFIRMED, EXCUSED, READ_KEYS, UNSETTLED, Refused, Totals
from cdc.target.base import Owner
from cdc.target.rows import Cell, Cells, TargetRows

_TABLES = """
CREATE TABLE stage (key BLOB NOT NULL, round INTEGER NOT NULL, reason TEXT, mask TEXT NOT NULL, row BLOB);
CREATE TABLE actual (key BLOB PRIMARY KEY, row BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE image (key BLOB NOT NULL, round INTEGER NOT NULL, reason TEXT, mask TEXT NOT NULL, row BLOB);
CREATE INDEX image_key ON image (key, round);
CREATE TABLE open (number INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, state TEXT NOT NULL DEFAULT '', seen TEXT,
                   since REAL);
CREATE TABLE parked (key BLOB PRIMARY KEY) WITHOUT ROWID;
"""
_EQUAL = (
    "(e.reason IS NULL AND e.row IS NOT NULL AND a.row IS NOT NULL AND (e.row = a.row OR same(e.mask, e.row, a.row)))"
)


class LocalStaging:
    """Both sides of one target table. Not for several threads; `drop` ends it."""

    def __init__(self, rows: TargetRows, table: TargetTable, *, keeps: bool = False) -> None:
        self._rows = rows
        self._table = table
        self._keeps = keeps
        self._keys = [table.columns[index] for index in table.key_indexes]
        self.refused_without_key = 0
        """Rows that cannot be written and whose key cannot be told, in the first pass."""
        self._scratch = sqlite3.connect("", isolation_level=None)  # a file without a name, that goes by itself
        self._scratch.create_function("same", 3, _same, deterministic=True)
        self._scratch.executescript(_TABLES)
        self._found: list[tuple[What, str, bytes, str, list[int], Cells | None, Cells | None]] = []

    def drop(self) -> None:
        self._scratch.close()
        self._rows.close()

    # --- what is expected

    def expect(self, rows: Sequence[MappedRow | Refused], number: int) -> None:
        """Stage what a source's rows should be at the target, as read in round `number`."""
        staged = [line for row in rows if (line := self._staged(row, number)) is not None]
        with self._scratch:
            self._scratch.execute("BEGIN")
            self._scratch.executemany("INSERT INTO stage VALUES (?, ?, ?, ?, ?)", staged)

    def _staged(self, row: MappedRow | Refused, number: int) -> tuple[bytes, int, str | None, str, bytes | None] | None:
        if isinstance(row, Refused):
            return self._refused(row, number)
        assert row.values is not None
        mask = "".join("0" if each is UNAVAILABLE else "1" for each in row.values) if row.partial else ""
        try:
            cells = self._rows.encode(row.values)
        except Poison as error:
            return self._refused(Refused(row.key, error.what), number)
        return self._key_of(cells), number, None, mask, _pack(cells)

    def _refused(self, row: Refused, number: int) -> tuple[bytes, int, str | None, str, bytes | None] | None:
        key = None if row.key is None else self._encoded_key(row.key)
        if key is None:
            self.refused_without_key += number == 0
            return None
        return key, number, row.reason, "", None

    def _encoded_key(self, key: Sequence[Value]) -> bytes | None:
        """None when the key itself is what the columns cannot hold."""
        values: list[Value] = [None] * len(self._table.columns)
        for index, value in zip(self._table.key_indexes, key, strict=True):
            values[index] = value
        try:
            return self._key_of(self._rows.encode(values))
        except Poison:
            return None

    def _key_of(self, cells: Cells) -> bytes:
        return _pack(tuple(cells[index] for index in self._table.key_indexes))

    # --- comparing

    def first_pass(self) -> int:
        """Compare everything staged with the whole target table; the number of keys that differ."""
        run = self._scratch.execute
        for page in self._rows.all():
            self._keep(page)
        run("CREATE INDEX stage_key ON stage (key)")
        run(
            "INSERT OR IGNORE INTO open (key) SELECT e.key FROM stage e LEFT JOIN actual a ON a.key = e.key"
            f" WHERE NOT {_EQUAL}"
        )
        if not self._keeps:
            run(f"INSERT OR IGNORE INTO open (key) SELECT key FROM actual WHERE {_SURPLUS}")
        return self._number(_UNDECIDED)

    def _keep(self, rows: Sequence[Cells]) -> None:
        with self._scratch:
            self._scratch.execute("BEGIN")
            pairs = [(self._key_of(row), _pack(row)) for row in rows]
            self._scratch.executemany("INSERT OR REPLACE INTO actual VALUES (?, ?)", pairs)

    def target_counts(self) -> tuple[int, int]:
        """Rows of the target table, and soft-deleted ones beside them."""
        return self._number("SELECT count(*) FROM actual"), self._rows.soft_deleted()

    def kept(self) -> int:
        """Rows that the target has and the first pass did not expect. Asked before the first round."""
        return self._number(f"SELECT count(*) FROM actual WHERE {_SURPLUS}")

    def open_keys(self) -> Iterator[list[tuple[str, ...]]]:
        """The undecided keys as text, in lists of a bounded length."""
        for keys in self._pages("state = ''"):
            yield [
                tuple(
                    _source_text(cell, column.type.kind) for cell, column in zip(_unpack(key), self._keys, strict=True)
                )
                for key in keys
            ]

    def _pages(self, condition: str) -> Iterator[list[bytes]]:
        last = 0
        while True:
            page = self._scratch.execute(
                f"SELECT number, key FROM open WHERE {condition} AND number > ? ORDER BY number LIMIT ?",
                (last, READ_KEYS),
            ).fetchall()
            if not page:
                return
            last = page[-1][0]
            yield [key for _, key in page]

    def take_images(self, number: int) -> None:
        """Keep what was staged in round `number` of the undecided keys, and empty the stage."""
        run = self._scratch.execute
        run("INSERT INTO image SELECT e.* FROM stage e JOIN open o ON o.key = e.key WHERE o.state = ''")
        run(
            "INSERT INTO image SELECT key, ?, NULL, '', NULL FROM open o WHERE state = '' AND NOT EXISTS"
            " (SELECT 1 FROM image i WHERE i.key = o.key AND i.round = ?)",
            (number, number),
        )
        run("DELETE FROM stage")

    def settle(self, number: int, now: float, settle_s: float) -> int:
        """Judge the undecided keys by what round `number` read of them; how many stay undecided (see staging.py)."""
        self._read_again("state = ''")
        run = self._scratch.execute
        gone = "1" if self._keeps else "a.row IS NULL"
        run(
            "DELETE FROM open WHERE state = '' AND EXISTS (SELECT 1 FROM image e LEFT JOIN actual a ON a.key = e.key"
            " WHERE e.key = open.key AND"  # a NULL row without a reason: absent
            f" CASE WHEN e.row IS NULL AND e.reason IS NULL THEN {gone} ELSE {_EQUAL} END)"
        )
        seen = (
            "(SELECT group_concat(hex(coalesce(e.row, e.reason, '')), ',') FROM (SELECT * FROM image i"
            " WHERE i.key = open.key AND i.round = :round ORDER BY i.row, i.reason) e)"
        )
        run(
            f"UPDATE open SET seen = {seen}, since = :now WHERE state = '' AND seen IS NOT {seen}",
            {"round": number, "now": now},
        )
        run(f"UPDATE open SET state = '{EXCUSED}' WHERE state = '' AND key IN (SELECT key FROM parked)")
        run(f"UPDATE open SET state = '{CONFIRMED}' WHERE state = '' AND since <= ?", (now - settle_s,))
        return self._number(_UNDECIDED)

    def _read_again(self, condition: str) -> None:
        """What the target holds now of open keys."""
        for keys in self._pages(condition):
            self._scratch.executemany("DELETE FROM actual WHERE key = ?", [(key,) for key in keys])
            self._keep(self._rows.of_keys([_unpack(key) for key in keys]))

    def give_up(self) -> None:
        """What is undecided now stays unsettled."""
        self._scratch.execute(f"UPDATE open SET state = '{UNSETTLED}' WHERE state = ''")

    # --- parked keys

    def read_parked(self, pipeline: str, target: str) -> tuple[int, int]:
        """Take note of this mapping's parked keys; their number, and that of parked records without a key."""
        self._scratch.execute("DELETE FROM parked")
        keys, without = [], 0
        for hold, number in self._rows.holds(Owner(pipeline, target)).items():
            key = self._held(hold)
            if key is None:
                without += number
            else:
                keys.append((key,))
        self._scratch.executemany("INSERT INTO parked VALUES (?)", keys)
        return len(keys), without

    def _held(self, hold: str) -> bytes | None:
        """A hold text (JSON of the canonical key) as a packed key."""
        if not hold:
            return None
        return self._encoded_key(
            [
                b64decode(value) if column.type.kind is Kind.BYTES else value
                for value, column in zip(msgspec.json.decode(hold), self._keys, strict=True)
            ]
        )

    # --- results

    def totals(self) -> Totals:
        """Count what was decided, as it stands at this moment. Asked once, at the end."""
        self._read_again("true")
        counts: dict[What, int] = {}
        columns = [0] * len(self._table.columns)
        excused = unsettled = 0
        for key, state, reason, mask, expected, actual in self._scratch.execute(_DECIDED):
            places = _differing(mask, expected, actual)
            what = _what(reason, expected, actual, places)
            if what is None:
                continue  # came right after it was decided
            self._found.append((what, state, key, reason or "", places, _cells(expected), _cells(actual)))
            if state == CONFIRMED:
                counts[what] = counts.get(what, 0) + 1
                for place in places:
                    columns[place] += 1
            excused += state == EXCUSED
            unsettled += state == UNSETTLED
        names = [column.name for column in self._table.columns]
        by_column = tuple((name, number) for name, number in zip(names, columns, strict=True) if number)
        return Totals(counts, excused, unsettled, by_column)

    def examples(self, limit: int, *, values: bool) -> tuple[Difference, ...]:
        """Up to `limit` decided keys, confirmed ones first."""
        names = [column.name for column in self._table.columns]
        return tuple(
            Difference(
                what,
                tuple(map(_shown, _unpack(key))),
                tuple(names[place] for place in places),
                reason,
                settled=state != UNSETTLED,
                excused=state == EXCUSED,
                cells=tuple(
                    ShownCell(names[place], _shown(expected[place]), _shown(actual[place]))
                    for place in places
                    if values and expected and actual
                ),
            )
            for what, state, key, reason, places, expected, actual in sorted(
                self._found, key=lambda found: (found[1], found[0])
            )[:limit]
        )

    def _number(self, statement: str) -> int:
        return int(self._scratch.execute(statement).fetchone()[0])


_UNDECIDED = "SELECT count(*) FROM open WHERE state = ''"
_SURPLUS = "NOT EXISTS (SELECT 1 FROM stage e WHERE e.key = actual.key)"
_DECIDED = (
    "SELECT o.key, o.state, e.reason, e.mask, e.row, a.row FROM open o JOIN image e ON e.rowid ="
    " (SELECT i.rowid FROM image i WHERE i.key = o.key ORDER BY i.round DESC LIMIT 1)"
    " LEFT JOIN actual a ON a.key = o.key ORDER BY o.number"
)


def _pack(cells: Cells) -> bytes:
    return msgspec.msgpack.encode(cells)


def _unpack(packed: bytes) -> Cells:
    return tuple(msgspec.msgpack.decode(packed))


def _cells(packed: bytes | None) -> Cells | None:
    return None if packed is None else _unpack(packed)


def _differing(mask: str, expected: bytes | None, actual: bytes | None) -> list[int]:
    """The columns in which two rows differ, where both are there."""
    if expected is None or actual is None or expected == actual:
        return []
    pairs = enumerate(zip(_unpack(expected), _unpack(actual), strict=True))
    return [
        place
        for place, (left, right) in pairs
        if (not mask or mask[place] == "1") and _pack((left,)) != _pack((right,))
    ]


def _same(mask: str, expected: bytes, actual: bytes) -> bool:
    return bool(mask) and not _differing(mask, expected, actual)


def _what(reason: str | None, expected: bytes | None, actual: bytes | None, places: list[int]) -> What | None:
    if reason is not None:
        return What.UNMAPPED
    if expected is None:
        return None if actual is None else What.SURPLUS
    if actual is None:
        return What.MISSING
    return What.DIFFERENT if places else None


def _shown(cell: Cell) -> str | None:
    if cell is None:
        return None
    return f"\\x{cell.hex()}" if isinstance(cell, bytes) else str(cell)


def _source_text(cell: Cell, kind: Kind) -> str:
    """A part of a key as the source reads it."""
    return ("true" if cell else "false") if kind is Kind.BOOLEAN else str(_shown(cell))
