"""Records in, a batch out: decode, map, and cut batches where they must be cut.

A batch ends when it is full (rows, bytes), when a mapping meets another schema version (one plan a batch and mapping),
and before a truncate (parked keys must have the chance to heal before their rows go).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter

from cdc.blocks import EventBlock
from cdc.engine.apply import Batch, TableBatch
from cdc.engine.failpoints import Failpoint, nothing
from cdc.engine.holds import NOWHERE, Plan, cut_at, hold_of_event, hold_of_source, set_aside
from cdc.errors import Poison
from cdc.model import (
    ChangeEvent,
    Decision,
    MappedRow,
    Op,
    Outcome,
    Position,
    RawRecord,
    TableSchema,
    TargetTable,
    TopicPartition,
    Value,
)
from cdc.source.envelope import Decoder
from cdc.source.runs import Segment
from cdc.target.base import Advance, Parked, RepeatedSnapshot, Tally, hold_of

Found = EventBlock | ChangeEvent | Parked
Waiting = list[RawRecord] | RawRecord | Segment | EventBlock | ChangeEvent


@dataclass(frozen=True)
class Limits:
    """Bounds of one batch."""

    rows: int = 5000
    bytes: int = 16 << 20


@dataclass
class Owned:
    """A partition this worker took: what it must find in the target when it commits."""

    partition: TopicPartition
    source: str
    fence: int
    expected: int | None  # the stored `next` that the coming batch builds on
    start: int  # where reading began: what `expected` means when nothing was stored yet

    @property
    def next(self) -> int:
        return self.start if self.expected is None else self.expected


@dataclass
class _Filling:
    """The batch being filled."""

    events: dict[str, tuple[Plan, list[Found]]] = field(default_factory=dict)  # by mapping, of one plan
    parked: list[Parked] = field(default_factory=list)
    skipped: Counter[tuple[str, TopicPartition, str]] = field(default_factory=Counter)
    ends: dict[TopicPartition, int] = field(default_factory=dict)
    times: dict[TopicPartition, int] = field(default_factory=dict)
    lists: dict[int, list[list[Found]]] = field(default_factory=dict)  # by schema version
    repeated: list[RepeatedSnapshot] = field(default_factory=list)
    records: int = 0
    bytes: int = 0


class Intake:
    """Fills batches from records. `plans(schema)` gives the plans of a schema version, one per mapping of its table;
    `mappings(topic)` the names of the mappings that read a topic (for counting what never becomes an event)."""

    def __init__(
        self,
        decoder: Decoder,
        plans: Callable[[TableSchema], list[Plan]],
        mappings: Callable[[str], list[str]],
        limits: Limits,
        failpoint: Failpoint = nothing,
    ) -> None:
        self._decoder = decoder
        self._plans = plans
        self._mappings = mappings
        self._limits = limits
        self._failpoint = failpoint
        self._waiting: deque[Waiting] = deque()  # read, but not placed; only the first may have its positions already
        self._schemas: dict[str, TableSchema] = {}  # newest schema by topic, to find keys of unreadable records
        self._filling = _Filling()
        self.requested: Mapping[TopicPartition, Mapping[int, str]] = {}
        """Offsets of records to set aside when they come, and who asked for it and why. Replaced while it is empty."""

    @property
    def empty(self) -> bool:
        return not self._filling.ends

    @property
    def full(self) -> bool:
        filling = self._filling
        return bool(self._waiting) or filling.records >= self._limits.rows or filling.bytes >= self._limits.bytes

    @property
    def room(self) -> int:
        """How many records still fit."""
        return max(0, self._limits.rows - self._filling.records)

    def clear(self) -> None:
        """Forget everything that was read and not handed out: the partitions will be read again."""
        self._waiting.clear()
        self._filling = _Filling()

    def add(self, records: Iterable[RawRecord], owned: Container[tuple[str, int]] | None = None) -> None:
        """Decode records (those of other partitions than the owned ones are passed over) and fill the batch; what must
        wait for the next batch is kept."""
        for place, run in groupby(records, attrgetter("topic", "partition")):
            if owned is None or place in owned:
                self._waiting.extend(cut_at(list(run), self.requested.get(TopicPartition(*place), {})))
        self._drain()

    def note(self, repeated: Iterable[RepeatedSnapshot]) -> None:
        """A repeated snapshot was seen while decoding: it is remembered with the batch that is filling."""
        self._filling.repeated += repeated

    def take(
        self,
        owned: Mapping[TopicPartition, Owned],
        positions: Mapping[TopicPartition, int],
        tracker: Callable[[TopicPartition], str],
    ) -> Batch:
        """The batch, mapped; the next one begins.

        `positions`: where the consumer stands, for partitions of which nothing waits: it may have passed control
        records behind the last row. `tracker`: the state of a partition's position tracker.
        """
        filling, self._filling = self._filling, _Filling()
        waiting = {_partition(each) for each in self._waiting}
        batch = Batch(repeated_snapshots=filling.repeated, parked=filling.parked)
        for partition, own in owned.items():
            next_ = filling.ends.get(partition, own.next)
            if partition not in waiting:
                next_ = max(next_, positions.get(partition, next_))
            if next_ != own.next or (own.expected is None and partition in filling.ends):
                batch.moves.append(
                    Advance(partition, own.fence, own.expected, next_, tracker(partition), filling.times.get(partition))
                )
        for plan, events in filling.events.values():
            batch.tables.append(self._mapped(plan, events, filling))
        batch.skipped = [
            Tally(mapping, partition, Outcome.SKIPPED, reason, number)
            for (mapping, partition, reason), number in filling.skipped.items()
        ]
        self._failpoint("mapped")
        self._drain()
        return batch

    def _drain(self) -> None:
        """Fill the batch from what waits, up to where it must be cut."""
        waiting, filling, limits = self._waiting, self._filling, self._limits
        while waiting and filling.records < limits.rows and filling.bytes < limits.bytes:
            first = waiting[0]
            if isinstance(first, list):
                waiting.popleft()
                room = limits.rows - filling.records
                pieces = [*self._decoder.cut(first[:room]), *([first[room:]] if first[room:] else [])]
                waiting.extendleft(reversed(pieces))
                continue
            if isinstance(first, Segment):
                first = self._settle(first)
            if isinstance(first, EventBlock):
                if not self._place(first.schema, first):
                    return
                self._passed(first.partition, first.end, len(first), first.bytes)
                if first.time_us is not None:
                    filling.times[first.partition] = first.time_us
            elif not self._one(first):
                return
            waiting.popleft()

    def _settle(self, segment: Segment) -> EventBlock | RawRecord:
        """What stands first when the segment's positions are known; the rest of it comes behind."""
        block, rest = self._decoder.settle(segment)
        self._waiting.popleft()
        self._waiting.extendleft(reversed(rest))
        if block is not None:
            self._waiting.appendleft(block)
        first = self._waiting[0]
        assert isinstance(first, EventBlock | RawRecord)
        return first

    def _one(self, first: RawRecord | ChangeEvent) -> bool:
        """Place a single record; False when it must wait for the next batch."""
        raw = first.record if isinstance(first, ChangeEvent) else first
        partition = TopicPartition(raw.topic, raw.partition)
        event = first if isinstance(first, ChangeEvent) else self._decode(raw, self._words(raw))
        if event is not None:
            if not self._place(event.schema, event):
                self._waiting[0] = event
                return False
            if event.time_us is not None and not event.snapshot:  # a snapshot's rows are older than its time says
                self._filling.times[partition] = event.time_us
        self._passed(partition, raw.offset + 1, 1, len(raw.value or b"") + len(raw.key or b""))
        return True

    def _passed(self, partition: TopicPartition, end: int, records: int, size: int) -> None:
        filling = self._filling
        filling.ends[partition] = end
        filling.records += records
        filling.bytes += size

    def _words(self, raw: RawRecord) -> str | None:
        """Why a record is to be set aside; None: it is not."""
        return self.requested.get(TopicPartition(raw.topic, raw.partition), {}).get(raw.offset)

    def _decode(self, raw: RawRecord, aside: str | None) -> ChangeEvent | None:
        """The event, or None when the record was counted as skipped or parked."""
        if aside is not None:
            for plan, parked in set_aside(raw, aside, self._decoder, self._plans, self._mappings):
                self._put_aside(plan, parked)
            return None
        try:
            found = self._decoder.decode(raw)
        except Poison as poison:
            self._park_unreadable(raw, poison)
            return None
        if isinstance(found, ChangeEvent):
            self._schemas[raw.topic] = found.schema
            return found
        for mapping in self._mappings(raw.topic):
            self._filling.skipped[mapping, TopicPartition(raw.topic, raw.partition), found.reason] += 1
        return None

    def _place(self, schema: TableSchema, found: EventBlock | ChangeEvent) -> bool:
        """Put events into the batch; False when they must wait for the next one."""
        truncates = isinstance(found, ChangeEvent) and found.op is Op.TRUNCATE
        lists = self._filling.lists.get(schema.version)
        if lists is None or truncates:
            lists = self._lists(schema, truncates)
            if lists is None:
                return False
        for events in lists:
            events.append(found)
        return True

    def _lists(self, schema: TableSchema, truncates: bool) -> list[list[Found]] | None:
        """Where events of this schema version go in this batch; None when one of its mappings has another plan there,
        or when the event must begin a batch."""
        events, plans = self._filling.events, self._plans(schema)
        for plan in plans:
            known = events.get(plan.target.mapping)
            if known is not None and (known[0] is not plan or truncates):
                return None
        lists = [events.setdefault(plan.target.mapping, (plan, []))[1] for plan in plans]
        self._filling.lists[schema.version] = lists
        return lists

    def _mapped(self, plan: Plan, found: list[Found], filling: _Filling) -> TableBatch:
        table = TableBatch(plan.target)
        for whole, group in groupby(found, lambda each: isinstance(each, EventBlock)):
            if whole:
                for block in group:
                    assert isinstance(block, EventBlock)
                    rows = plan.map_block(block)
                    if rows is None:
                        self._map_singly(plan, _taken_apart(plan, block), filling, table)
                    else:
                        table.found.append(rows)
            else:
                self._map_singly(plan, list(group), filling, table)
        table.fold()
        return table

    def _map_singly(self, plan: Plan, found: Sequence[Found], filling: _Filling, table: TableBatch) -> None:
        rows, mapping = table.found, plan.target.mapping
        mapped_events = iter(plan.map_batch([event for event in found if isinstance(event, ChangeEvent)]))
        for event in found:
            if not isinstance(event, ChangeEvent):
                assert isinstance(event, Parked)
                rows.append(event)
                continue
            mapped = next(mapped_events)
            if isinstance(mapped, MappedRow):
                rows.append(mapped)
            elif isinstance(mapped, tuple):
                rows.extend(mapped)
            elif isinstance(mapped, Decision):
                partition = TopicPartition(event.record.topic, event.record.partition)
                filling.skipped[mapping, partition, mapped.reason] += 1
            else:
                hold = hold_of_event(plan, event)
                rows.append(Parked(mapping, hold, event.record, event.position, mapped.reason, mapped.what))

    def _park_unreadable(self, raw: RawRecord, poison: Poison) -> None:
        """Park a record that is no event, under the key of its row where that can be read."""
        schema: TableSchema | None = getattr(poison, "schema", None) or self._schemas.get(raw.topic)
        position: Position = getattr(poison, "position", None) or NOWHERE
        key: tuple[Value, ...] | None = getattr(poison, "key", None)
        if schema is None:
            for mapping in self._mappings(raw.topic):
                self._put_aside(None, Parked(mapping, "", raw, position, poison.reason, poison.what))
            return
        for plan in self._plans(schema):
            hold = "" if key is None else hold_of_source(plan, key)
            self._put_aside(plan, Parked(plan.target.mapping, hold, raw, position, poison.reason, poison.what))

    def _put_aside(self, plan: Plan | None, parked: Parked) -> None:
        """A parked record, among the events of its mapping where its key can be told."""
        if plan is None:
            self._filling.parked.append(parked)
        else:
            self._filling.events.setdefault(parked.mapping, (plan, []))[1].append(parked)


def _taken_apart(plan: Plan, block: EventBlock) -> list[Found]:
    """The events of a block one by one, parked where the old row, which the block did without, did not come exactly."""
    found: list[Found] = []
    for index, position in enumerate(block.positions):
        try:
            found.append(block.event(index))
        except Poison as poison:
            key: tuple[Value, ...] | None = getattr(poison, "key", None)
            hold = "" if key is None else hold_of_source(plan, key)
            raw = block.raw(index)
            found.append(Parked(plan.target.mapping, hold, raw, position, poison.reason, poison.what))
    return found


def _partition(waiting: Waiting) -> TopicPartition:
    if isinstance(waiting, EventBlock):
        return waiting.partition
    if isinstance(waiting, Segment):
        waiting = waiting.raws[0]
    elif isinstance(waiting, list):
        waiting = waiting[0]
    raw = waiting.record if isinstance(waiting, ChangeEvent) else waiting
    return TopicPartition(raw.topic, raw.partition)


def remapped(
    parked: Parked, decoder: Decoder, plans: Callable[[TableSchema], list[Plan]]
) -> tuple[TargetTable, MappedRow | Decision]:
    """The current mapping's word on a parked record (see `cdc.engine.parked.Remap`)."""
    position = None if parked.position == NOWHERE else parked.position
    found = decoder.decode(parked.record, position)
    if not isinstance(found, ChangeEvent):
        raise Poison(f"the record is no change event ({found.reason})", reason="unreadable_record")
    for plan in plans(found.schema):
        if plan.target.mapping != parked.mapping:
            continue
        (mapped,) = plan.map_batch([found])
        if isinstance(mapped, Poison):
            raise mapped
        if isinstance(mapped, Decision):
            return plan.target, mapped
        rows = mapped if isinstance(mapped, tuple) else (mapped,)
        for row in rows:
            if hold_of(row.key) == parked.hold:
                return plan.target, row
        return plan.target, rows[-1]
    raise Poison("no mapping reads this table any more", reason="unmapped")
