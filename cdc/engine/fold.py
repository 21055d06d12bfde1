"""Fold a batch's rows per key, so that each key is written once a round.

A batch is cut into *rounds*: in one round each key occurs at most once and the order among keys is free. Most batches
have one round. What folds:

    full or delete onto anything               the later one stands, the earlier are superseded
    partial onto full, partial onto partial    merged; `Write.base` is the first position whose values it carries

and what takes a new round, because the result depends on what the target holds:

    partial onto delete                          it may have to wait for its row
    anything older, where something may wait     the partial may be waiting for exactly this one
    delete onto an upsert, rows that are kept    (soft or ignored deletes) the kept row must get the upsert's values
    either half of a key change                  one lends its last values, the other borrows them

In a table with rules, a row folds onto another one as its columns' rules combine them, and the result expects what the
first of them expects; what is decided on its own takes a new round:

    anything that is not newer                   the newer one may not have been written, by rule
    an upsert onto a delete                      it replaces the row instead of being combined with it
    partials, where columns decide together      what they lack may come from another change than the rest
    an update that does not follow its before    somebody else's change may be in between
    versions or times that fall                  each is compared with the row as the one before left it

A row older than a full image or delete already folded for its key is stale by the guard and is answered here.
"""

from __future__ import annotations

import msgspec

from cdc.model import UNAVAILABLE, DeletePolicy, Detect, MappedRow, Position, RowOp, TargetTable, Value, Write
from cdc.rules import combined, effective, order_of

Key = tuple[Value, ...]


class _Entry:
    """The row being folded for one key in one round."""

    __slots__ = ("base", "chain", "row")

    def __init__(
        self,
        row: MappedRow,
        base: Position | None = None,
        chain: tuple[MappedRow, ...] = (),
    ) -> None:
        self.row = row
        self.base = row.position if base is None else base
        self.chain = chain

    def then(self, row: MappedRow) -> tuple[MappedRow, ...]:
        """The chain with one more row."""
        return (*(self.chain or (self.row,)), row)

    @property
    def is_half_a_move(self) -> bool:
        return self.row.moved_to is not None or self.row.moved_from is not None


class Fold:
    """Rows of one target table on their way to rounds. Rows come in topic order; truncates are not for here."""

    def __init__(self, table: TargetTable) -> None:
        # Most keys occur once: a row stands for itself until a second one of its key comes.
        self._rounds: list[dict[Key, MappedRow | _Entry]] = [{}]
        self._last: dict[Key, int] = {}  # the newest round that holds the key, where that is not the first
        self._may_wait: set[Key] = set()  # some row of the key may be parked, so an older one may be what it waits for
        self._table = table
        self._on_delete = table.on_delete
        self._partials = table.partials
        self._ignores_deletes = table.on_delete is DeletePolicy.IGNORE
        self.stale: list[MappedRow] = []
        self.ignored: list[MappedRow] = []  # deletes that the policy ignores and that lend nothing

    def add(self, row: MappedRow) -> None:
        key = row.key
        moves = row.moved_from is not None or row.moved_to is not None
        if moves or (self._partials and row.partial):
            self._may_wait.add(key)
        if self._ignores_deletes and row.op is RowOp.DELETE and row.moved_to is None:
            self.ignored.append(row)
            return
        first = self._rounds[0]
        if key not in first and key not in self._last and row.moved_from is None:
            first[key] = row
        elif row.moved_from is not None:
            self._put(max(self._round_of(key), self._round_of(row.moved_from)) + 1, _Entry(row))
        else:
            at = self._round_of(key)
            entry = self._rounds[at][key]
            if isinstance(entry, MappedRow):
                entry = _Entry(entry)
            self._add_again(at, entry, row)

    def rounds(self) -> list[list[Write]]:
        """The rounds, to be written in this order."""
        return [[_write(entry) for entry in entries.values()] for entries in self._rounds if entries]

    def _round_of(self, key: Key) -> int:
        """The newest round that holds the key; -1 for none."""
        at = self._last.get(key)
        if at is not None:
            return at
        return 0 if key in self._rounds[0] else -1

    def _add_again(self, at: int, entry: _Entry, row: MappedRow) -> None:
        if self._table.rules is not None:
            self._add_ruled(at, entry, row)
            return
        leaves_no_mark = entry.row.op is RowOp.DELETE and self._on_delete is DeletePolicy.IGNORE
        older = row.position < entry.row.position and not leaves_no_mark
        if older and row.key not in self._may_wait:
            self.stale.append(row)
        elif older or entry.is_half_a_move or self._needs_it_written(row, entry.row):
            self._put(at + 1, _Entry(row))
        elif not row.partial:
            self._put(at, _Entry(row, chain=entry.then(row)))
        elif entry.row.op is RowOp.DELETE:
            self._put(at + 1, _Entry(row))
        else:
            self._put(at, _Entry(_merge(entry.row, row), entry.base, entry.then(row)))

    def _add_ruled(self, at: int, entry: _Entry, row: MappedRow) -> None:
        before = entry.row
        if (
            row.position <= before.position
            or entry.is_half_a_move
            or before.op is RowOp.DELETE
            or self._needs_it_written(row, before)
            or not follows(self._table, before, row)
        ):
            self._put(at + 1, _Entry(row))
        else:
            self._put(at, _Entry(_combined(self._table, before, row), entry.base, entry.then(row)))

    def _needs_it_written(self, row: MappedRow, before: MappedRow) -> bool:
        """A lender lends what the target holds; a delete that keeps the row keeps the values it has by then."""
        keeps_row = row.op is RowOp.DELETE and self._on_delete is not DeletePolicy.DELETE
        return row.moved_to is not None or (keeps_row and before.op is RowOp.UPSERT)

    def _put(self, at: int, entry: _Entry) -> None:
        while len(self._rounds) <= at:
            self._rounds.append({})
        self._rounds[at][entry.row.key] = entry
        if at:
            self._last[entry.row.key] = at


def _write(entry: MappedRow | _Entry) -> Write:
    if isinstance(entry, MappedRow):
        return Write(entry, entry.position)
    return Write(entry.row, entry.base, entry.chain)


def _merge(under: MappedRow, over: MappedRow) -> MappedRow:
    """`over` with the values it lacks taken from `under`."""
    assert under.values is not None
    assert over.values is not None
    return MappedRow(
        op=over.op,
        key=over.key,
        values=tuple(low if high is UNAVAILABLE else high for low, high in zip(under.values, over.values, strict=True)),
        position=over.position,
        record=over.record,
        snapshot=over.snapshot,
        time_us=over.time_us,
        filtered=under.filtered and over.filtered,
    )


def follows(table: TargetTable, before: MappedRow, row: MappedRow) -> bool:
    """Whether two changes of a key, in a table with rules, are decided by what the first of them meets."""
    rules = table.rules
    assert rules is not None
    if (before.partial or row.partial) and any(
        unit.version is not None or len(unit.columns) > 1 for unit in rules.units
    ):
        return False
    if rules.reads_before:
        return _is_as_it_expects(rules.detect, before, row)
    if rules.detect is Detect.VERSION:
        assert rules.version is not None
        left = before.values and before.values[rules.version]
        image = row.values or row.before
        right = image and image[rules.version]
        key = order_of(table.columns[rules.version].type.kind)
        return left is not None and right is not None and bool(key(left) <= key(right))
    if rules.detect is Detect.COMMIT_TIME:
        return not row.snapshot and not before.snapshot and (before.time_us or 0) <= (row.time_us or 0)
    return True


def _is_as_it_expects(detect: Detect, before: MappedRow, row: MappedRow) -> bool:
    """A change without a before image writes every column: it cannot be one with a change that writes only some."""
    if row.before is None:
        return before.before is None or detect is Detect.ALL_COLUMNS
    assert before.values is not None
    return all(
        expected is UNAVAILABLE or expected == value for expected, value in zip(row.before, before.values, strict=True)
    )


def _combined(table: TargetTable, before: MappedRow, row: MappedRow) -> MappedRow:
    """Both changes as one: it expects what the first expects, and stands where the last stands."""
    assert before.values is not None
    values = None if row.values is None else combined(table, before.values, effective(table, row))
    expected = before.before
    if expected is not None and row.before is not None:
        expected = tuple(new if old is UNAVAILABLE else old for old, new in zip(expected, row.before, strict=True))
    filtered = row.filtered and (before.filtered or values is None)
    return msgspec.structs.replace(row, values=values, created=before.created, before=expected, filtered=filtered)
