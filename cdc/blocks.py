"""Many events and rows at once: the hot path's columns.

Most records are alike: full images and deletes of one table, nothing of them missing. Such a run is carried as one
block of parallel lists from the decoder to the target, so that a row costs list items instead of objects and calls. A
block says nothing that single events (`ChangeEvent`, `MappedRow`) would not say, in the same order: it can be taken
apart at any time, and is, wherever the plain case ends (held keys, bad rows, policies that look at what is there).
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, chain
from operator import itemgetter
from typing import Any, TypeAlias, overload

from cdc.model import (
    ChangeEvent,
    DeletePolicy,
    MappedRow,
    Position,
    RawRecord,
    RowOp,
    TableSchema,
    TargetTable,
    TopicPartition,
    Value,
    Write,
)

Image: TypeAlias = tuple[Value, ...]


class EventBlock:
    """Change events of consecutive records of one partition, all of one schema version; no halves of key changes.

    `after`: the row, without UNAVAILABLE, or None for a delete; `before`: of deletes, None for all others. `bytes`: of
    the records' payloads. `time_us`: commit time of the last streamed event, None if there is none.
    `event(i)` makes the whole change event again; it may raise `Poison` for a before-image that is no longer needed.
    `raw(i)`: the record that it came in.
    `created()`: which of them are creates or snapshot reads. `times()`: of each event, the commit time in µs; None for
    what a snapshot read. `told()`: of each, the operation and the time that the source told with it, in µs, a snapshot
    read's as well.
    """

    __slots__ = (
        "after",
        "before",
        "bytes",
        "created",
        "end",
        "event",
        "partition",
        "positions",
        "raw",
        "schema",
        "time_us",
        "times",
        "told",
    )

    def __init__(
        self,
        schema: TableSchema,
        partition: TopicPartition,
        end: int,
        positions: list[Position],
        after: list[Image | None],
        before: list[Image | None],
        size: int,
        time_us: int | None,
        event: Callable[[int], ChangeEvent],
        created: Callable[[], list[bool]],
        times: Callable[[], list[int | None]],
        raw: Callable[[int], RawRecord],
        told: Callable[[], list[tuple[str, int]]],
    ) -> None:
        self.schema = schema
        self.partition = partition
        self.end = end  # the offset after the last record
        self.positions = positions
        self.after = after
        self.before = before
        self.bytes = size
        self.time_us = time_us
        self.event = event
        self.created = created
        self.times = times
        self.raw = raw
        self.told = told

    def __len__(self) -> int:
        return len(self.after)

    def __iter__(self) -> Iterator[ChangeEvent]:
        return map(self.event, range(len(self.after)))


class RowBlock:
    """What a block of events says about one target table: one upsert or delete (`values` None) an event."""

    __slots__ = ("events", "keys", "values")

    def __init__(self, events: EventBlock, keys: list[Image], values: list[Image | None]) -> None:
        self.events = events
        self.keys = keys
        self.values = values

    def __len__(self) -> int:
        return len(self.keys)

    def __iter__(self) -> Iterator[MappedRow]:
        return map(self.row, range(len(self.keys)))

    def row(self, index: int) -> MappedRow:
        event, values = self.events.event(index), self.values[index]
        op = RowOp.DELETE if values is None else RowOp.UPSERT
        return MappedRow(
            op=op,
            key=self.keys[index],
            values=values,
            position=event.position,
            record=event.record,
            snapshot=event.snapshot,
            time_us=event.time_us,
            created=event.created,
        )


class Writes(Sequence[Write]):
    """A round of plain writes: each key once, upserts of full images first, then deletes. Reads as `Write`s do; a
    target that knows blocks reads the columns. `values`: of the upserts, the first of `keys` and `positions`.
    `encoded`: what `Target.encode` made of it."""

    def __init__(self, blocks: Sequence[RowBlock]) -> None:
        self._blocks = blocks
        self._ends = list(accumulate(map(len, blocks)))
        self._order: list[int] | None = None  # the row (counted through all blocks) of each write; None: as they come
        self._before: dict[int, list[int]] = {}  # rows that were superseded by a write's row
        self.keys = _joined([block.keys for block in blocks])
        self.values = _joined([block.values for block in blocks])
        self.positions = _joined([block.events.positions for block in blocks])
        self.encoded: object = None

    def fold(self) -> bool:
        """Keep the last change of each key, deletes behind upserts. False when that takes the general `Fold`: a row
        stands before an older one of its key."""
        keys, values, positions = self.keys, self.values, self.positions
        if None not in values and len(dict.fromkeys(keys)) == len(keys):
            return True
        last: dict[Image, int] = {}
        for index, key in enumerate(keys):
            before = last.get(key)
            if before is not None:
                if positions[index] < positions[before]:
                    return False
                self._before[index] = [*self._before.pop(before, ()), before]
            last[key] = index
        order = [index for index in last.values() if values[index] is not None]
        upserts = len(order)
        order += [index for index in last.values() if values[index] is None]
        self._order = order
        self.keys = [keys[index] for index in order]
        self.values = [values[index] for index in order[:upserts]]
        self.positions = [positions[index] for index in order]
        return True

    def created(self) -> list[bool]:
        """Of the upserts, which are creates or snapshot reads; only of rounds in which nothing was superseded."""
        assert self._order is None or not self._before
        flags = _joined([block.events.created() for block in self._blocks])
        return flags if self._order is None else [flags[index] for index in self._order[: self.upserts]]

    @property
    def upserts(self) -> int:
        return len(self.values)

    def times(self) -> list[int | None]:
        """The commit times of the writes' rows; None for what a snapshot read."""
        times = _joined([block.events.times() for block in self._blocks])
        return times if self._order is None else [times[index] for index in self._order]

    def chain(self, index: int) -> tuple[MappedRow, ...]:
        """The rows of a write that folded several, () otherwise."""
        number = self._number(index)
        before = self._before.get(number)
        return (*map(self._row, before), self._row(number)) if before else ()

    def partition(self, index: int) -> TopicPartition:
        """Where the record of a write's row stands."""
        return self._block(self._number(index))[0].events.partition

    def superseded_by(self, index: int) -> list[TopicPartition]:
        """Where the records stand that a write's row took the place of."""
        return [self._block(before)[0].events.partition for before in self._before.get(self._number(index), ())]

    @property
    def superseded(self) -> Counter[TopicPartition]:
        """Rows that a later one of their key took the place of, by partition."""
        return Counter(self._block(index)[0].events.partition for rows in self._before.values() for index in rows)

    @property
    def last(self) -> Counter[TopicPartition]:
        """The other rows, by partition."""
        found = Counter[TopicPartition]()
        for block in self._blocks:
            found[block.events.partition] += len(block)
        return found - self.superseded

    def __len__(self) -> int:
        return len(self.keys)

    @overload
    def __getitem__(self, index: int) -> Write: ...
    @overload
    def __getitem__(self, index: slice) -> list[Write]: ...
    def __getitem__(self, index: int | slice) -> Write | list[Write]:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        if index >= len(self.keys):
            raise IndexError(index)
        return self._write(index)

    def _write(self, index: int) -> Write:
        row = self._row(self._number(index))
        return Write(row, row.position, self.chain(index))

    def _number(self, index: int) -> int:
        """The row, counted through all blocks, of a write."""
        return index if self._order is None else self._order[index]

    def _row(self, number: int) -> MappedRow:
        block, index = self._block(number)
        return block.row(index)

    def _block(self, number: int) -> tuple[RowBlock, int]:
        at = bisect_right(self._ends, number)
        return self._blocks[at], number - (self._ends[at - 1] if at else 0)


def folded(table: TargetTable, blocks: Sequence[RowBlock]) -> Writes | None:
    """One round for all rows of the blocks; None when their order, or the table's policy or rules ask for more."""
    if not blocks:
        return None
    if table.on_delete is not DeletePolicy.DELETE and any(None in block.values for block in blocks):
        return None
    writes = Writes(blocks)
    return writes if writes.fold() and (table.rules is None or not writes.superseded) else None


def picker(indexes: Sequence[int]) -> Callable[[Image], Image]:
    """A fast function that picks these places of a tuple, as a tuple."""
    if len(indexes) == 1:
        return itemgetter(slice(indexes[0], indexes[0] + 1))
    return itemgetter(*indexes)


def _joined(lists: list[list[Any]]) -> list[Any]:
    return lists[0] if len(lists) == 1 else list(chain.from_iterable(lists))
