"""What the sources said about one target row: kept as one small document beside the row, changed under the guard.

A contribution is one source row's latest word: its values, its position, and when each value last changed at its
source. It is what a row is to a table without `sources`, and the same rules hold for it (`cdc.engine.oracle`): older
changes are stale, a partial image needs what is there, a deleted one is remembered, a key change lends its values.
Withdrawn contributions stay as memories, so that an older change does not bring them back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Set
from typing import Any

import msgspec

from cdc.blocks import Image
from cdc.model import APPLIED, STALE, UNAVAILABLE, Decision, Outcome, Position

Time = int | None
"""Commit time at the source in µs, or None: read by a snapshot, nobody knows when it changed."""

UPDATE_MISSING = Decision(Outcome.PARKED, "update_missing")
MOVED_VALUES_MISSING = Decision(Outcome.PARKED, "moved_values_missing")

_BIG = 1
"""msgpack extension: an integer beyond 64 bits, as decimal text (infinite dates; they are rare)."""


class Contribution(msgspec.Struct, array_like=True):
    """One source row's word. `shape`: which columns `values` has (a number the target gave out); `values` is None when
    it was withdrawn. `times`: when each value changed; None where all changed at `time`. `lent`: the last values of a
    row that moved to another key, until the other half of the key change takes them: {loan: (shape, values)}."""

    position: bytes
    time: Time
    shape: int
    values: tuple[Any, ...] | None
    times: tuple[Time, ...] | None = None
    lent: dict[str, tuple[int, tuple[Any, ...]]] | None = None
    withdrawn_s: int = 0
    """When it was withdrawn, in seconds by this machine's clock: for forgetting it one day, never for deciding."""

    def time_of(self, index: int) -> Time:
        return self.time if self.times is None else self.times[index]


class Document(msgspec.Struct, array_like=True):
    """All contributions to one target row, by contributor and source key. `version` rises with every write of the row:
    it is the position under which it is written, in µs by the clock, so that it also rises when the document was
    forgotten meanwhile. `rules`: the fingerprint of the rules that it was last resolved by."""

    version: int = 0
    rules: str = ""
    by: dict[str, dict[str, Contribution]] = msgspec.field(default_factory=dict)

    def live(self) -> Iterator[tuple[str, str, Contribution]]:
        """(contributor, source key, contribution) of those that were not withdrawn."""
        for contributor, rows in self.by.items():
            for key, contribution in rows.items():
                if contribution.values is not None:
                    yield contributor, key, contribution

    def memory_s(self) -> int | None:
        """Since when it holds a contribution that was withdrawn; None: it holds none."""
        oldest = None
        for rows in self.by.values():
            for said in rows.values():
                if said.values is None and (oldest is None or said.withdrawn_s < oldest):
                    oldest = said.withdrawn_s
        return oldest

    def forget(self, before_s: int) -> None:
        """Drop contributions that were withdrawn before then: nothing can come that they would have to stop."""
        for contributor, rows in list(self.by.items()):
            kept = {key: said for key, said in rows.items() if said.values is not None or said.withdrawn_s >= before_s}
            self.by[contributor] = kept
            if not kept:
                del self.by[contributor]


def encode(document: Document) -> bytes:
    """b'' for one without contributions."""
    if not document.by:
        return b""
    try:
        return _encoder.encode(document)
    except OverflowError:
        return _encoder.encode(_without_big(msgspec.to_builtins(document, builtin_types=(bytes,))))


def decode(data: bytes) -> Document:
    return _decoder.decode(data)


Convert = Callable[[Image, int, int], Image]
"""Values of one shape in the order of another; UNAVAILABLE for columns that the first does not have."""


class Shared:
    """One target row's contributions while changes are applied to them. `floors`: by contributor, the position of the
    newest truncate of its table."""

    def __init__(self, document: Document, floors: Mapping[str, bytes], convert: Convert) -> None:
        self.document = document
        self.changed = False
        self._floors = floors
        self._convert = convert

    def newest(self, contributor: str, source_key: str) -> bytes:
        """The packed position that a change of this contribution must not be older than."""
        found = self.document.by.get(contributor, {}).get(source_key)
        floor = self._floors.get(contributor, b"")
        return floor if found is None else max(found.position, floor)

    def apply(self, contributor: str, source_key: str, change: Change, lender: Shared | None, now_s: int) -> Decision:
        """Take one change. `lender`: the row that it moved away from, where it did."""
        if change.position < self.newest(contributor, source_key):
            return STALE
        rows = self.document.by.setdefault(contributor, {})
        current = self._reshaped(rows.get(source_key), change.shape)
        loan = None if lender is None else lender.take(contributor, change)
        if change.values is None:
            said = _withdrawn(current, change, now_s)
        else:
            values = self._whole(current, change, loan)
            if isinstance(values, Decision):
                return values
            said = _said(current, change, values)
        self.changed |= said != current
        rows[source_key] = said
        return APPLIED

    def _whole(self, current: Contribution | None, change: Change, loan: Image | None) -> Image | Decision:
        """The change's values with those that it lacks taken from what is there, or lent."""
        assert change.values is not None
        if UNAVAILABLE not in change.values:
            return change.values
        there = None if current is None else current.values
        redelivered = there is not None and current is not None and current.position == change.position
        borrows = change.moved_from is not None and not redelivered
        under = loan if borrows else there
        if under is None:
            return MOVED_VALUES_MISSING if borrows else UPDATE_MISSING
        values = tuple([low if high is UNAVAILABLE else high for low, high in zip(under, change.values, strict=True)])
        return UPDATE_MISSING if UNAVAILABLE in values else values

    def _reshaped(self, current: Contribution | None, shape: int) -> Contribution | None:
        """The contribution with its values in the order of `shape`."""
        if current is None or current.values is None or current.shape == shape:
            return current
        values = self._convert(current.values, current.shape, shape)
        times = None if current.times is None else self._convert(current.times, current.shape, shape)
        if times is not None:
            times = tuple([current.time if time is UNAVAILABLE else time for time in times])
        return Contribution(current.position, current.time, shape, values, times, current.lent, current.withdrawn_s)

    def take(self, contributor: str, change: Change) -> Image | None:
        """The values that this row left for the change, which moved away from it; they are given once."""
        assert change.moved_from is not None
        row = self.document.by.get(contributor, {}).get(change.moved_from[1])
        if row is None or row.lent is None or change.loan not in row.lent:
            return None
        self.changed = True
        shape, values = row.lent.pop(change.loan)
        return self._convert(values, shape, change.shape)

    def withdraw_before(self, contributor: str, position: bytes, keep: Set[str], now_s: int) -> list[str]:
        """Withdraw what this contributor said before `position`, but not the source keys in `keep`."""
        rows = self.document.by.get(contributor, {})
        gone = [k for k, row in rows.items() if row.values is not None and row.position < position and k not in keep]
        for key in gone:
            row = rows[key]
            rows[key] = Contribution(position, None, row.shape, None, None, row.lent, now_s)
            self.changed = True
        return gone


class Change(msgspec.Struct):
    """A mapped row as a word on a contribution: `values` in the order of shape `shape`. `loan`: what the other half of
    its key change is found under; `moved_from`: texts of the target key and source key that it moved away from."""

    position: bytes
    time: Time
    shape: int
    values: Image | None
    moved_from: tuple[str, str] | None = None
    loan: str = ""


def loan_of(new_key: str, position: Position) -> str:
    """What both halves of a key change agree on: the new target key's text and the place in the log."""
    return f"{position.place.pack().hex()} {new_key}"


def _said(current: Contribution | None, change: Change, values: Image) -> Contribution:
    """What stands now. A value that is what it was keeps its time; so does one that a snapshot read, which is at least
    as new as what it takes the place of."""
    lent = None if current is None else current.lent
    if current is None or current.values is None:
        return Contribution(change.position, change.time, change.shape, values, None, lent)
    if change.time is None or current.values == values:
        return Contribution(change.position, current.time, change.shape, values, current.times, lent)
    times = tuple(
        [
            current.time_of(index) if old == new else change.time
            for index, (old, new) in enumerate(zip(current.values, values, strict=True))
        ]
    )
    return Contribution(change.position, change.time, change.shape, values, times, lent)


def _withdrawn(current: Contribution | None, change: Change, now_s: int) -> Contribution:
    lent = None if current is None else current.lent
    if change.loan and current is not None and current.values is not None:
        lent = {**(lent or {}), change.loan: (current.shape, current.values)}
    return Contribution(change.position, change.time, change.shape, None, None, lent, now_s)


def _without_big(value: Any) -> Any:
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 64:
        return msgspec.msgpack.Ext(_BIG, str(value).encode())
    if isinstance(value, (list, tuple)):
        return [_without_big(each) for each in value]
    if isinstance(value, dict):
        return {key: _without_big(each) for key, each in value.items()}
    return value


def _extension(code: int, data: memoryview) -> Any:
    if code != _BIG:
        raise ValueError(f"unknown extension {code} among contributions")
    return int(bytes(data))


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Document, ext_hook=_extension)
