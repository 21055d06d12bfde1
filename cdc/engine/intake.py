"""Records in, a batch out: decode, map, and cut batches where they must be cut.

A batch ends when it is full (rows, bytes), when a mapping meets another schema version (one plan a batch and mapping),
and before a truncate (parked keys must have the chance to heal before their rows go).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from cdc.engine.apply import Batch, TableBatch
from cdc.engine.failpoints import Failpoint, nothing
from cdc.errors import Poison
from cdc.mapping.plan import KeylessPlan
from cdc.mapping.plan import Plan as CompiledPlan
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
from cdc.target.base import Advance, Parked, RepeatedSnapshot, Tally, hold_of

Plan = CompiledPlan | KeylessPlan
_NOWHERE = Position(0, 0, 0)


@dataclass(frozen=True)
class Limits:
    """Bounds of one batch."""

    rows: int = 5000
    bytes: int = 32 << 20


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

    events: dict[str, tuple[Plan, list[ChangeEvent | Parked]]] = field(default_factory=dict)  # by mapping, of one plan
    parked: list[Parked] = field(default_factory=list)
    skipped: Counter[tuple[str, TopicPartition, str]] = field(default_factory=Counter)
    ends: dict[TopicPartition, int] = field(default_factory=dict)
    times: dict[tuple[str, int], int] = field(default_factory=dict)
    lists: dict[int, list[list[ChangeEvent | Parked]]] = field(default_factory=dict)  # by schema version
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
        self._waiting: deque[tuple[RawRecord, ChangeEvent | None]] = deque()  # read, but of the next batch
        self._schemas: dict[str, TableSchema] = {}  # newest schema by topic, to find keys of unreadable records
        self._filling = _Filling()

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

    def add(self, records: Iterable[RawRecord]) -> None:
        """Decode records and fill the batch; what must wait for the next batch is kept."""
        for raw in records:
            self._waiting.append((raw, None))
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
        waiting = {TopicPartition(raw.topic, raw.partition) for raw, _ in self._waiting}
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
        """Fill the batch from what waits, up to where it must be cut. The hot loop: one pass a record."""
        waiting, filling, limits = self._waiting, self._filling, self._limits
        offsets: dict[tuple[str, int], int] = {}
        try:
            while waiting and filling.records < limits.rows and filling.bytes < limits.bytes:
                raw, event = waiting[0]
                if event is None:
                    event = self._decode(raw)
                if event is not None and not self._place(event):
                    waiting[0] = (raw, event)
                    return
                waiting.popleft()
                offsets[raw.topic, raw.partition] = raw.offset + 1
                filling.records += 1
                filling.bytes += len(raw.value or b"") + len(raw.key or b"")
        finally:
            filling.ends.update((TopicPartition(*each), end) for each, end in offsets.items())

    def _decode(self, raw: RawRecord) -> ChangeEvent | None:
        """The event, or None when the record was counted as skipped or parked."""
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

    def _place(self, event: ChangeEvent) -> bool:
        """Put an event into the batch; False when it must wait for the next one."""
        lists = self._filling.lists.get(event.schema.version)
        if lists is None or event.op is Op.TRUNCATE:
            lists = self._lists(event)
            if lists is None:
                return False
        for events in lists:
            events.append(event)
        if event.time_us is not None and not event.snapshot:  # a snapshot's rows are older than its time says
            self._filling.times[event.record.topic, event.record.partition] = event.time_us
        return True

    def _lists(self, event: ChangeEvent) -> list[list[ChangeEvent | Parked]] | None:
        """Where events of this schema version go in this batch; None when one of its mappings has another plan there,
        or when the event must begin a batch."""
        events, plans = self._filling.events, self._plans(event.schema)
        for plan in plans:
            known = events.get(plan.target.mapping)
            if known is not None and (known[0] is not plan or event.op is Op.TRUNCATE):
                return None
        lists = [events.setdefault(plan.target.mapping, (plan, []))[1] for plan in plans]
        self._filling.lists[event.schema.version] = lists
        return lists

    def _mapped(self, plan: Plan, found: list[ChangeEvent | Parked], filling: _Filling) -> TableBatch:
        table = TableBatch(plan.target)
        rows, mapping = table.rows, plan.target.mapping
        mapped_events = iter(plan.map_batch([event for event in found if isinstance(event, ChangeEvent)]))
        for event in found:
            if isinstance(event, Parked):
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
        return table

    def _park_unreadable(self, raw: RawRecord, poison: Poison) -> None:
        """Park a record that is no event, under the key of its row where that can be read."""
        schema: TableSchema | None = getattr(poison, "schema", None) or self._schemas.get(raw.topic)
        position: Position = getattr(poison, "position", None) or _NOWHERE
        key: tuple[Value, ...] | None = getattr(poison, "key", None)
        if schema is None:
            for mapping in self._mappings(raw.topic):
                self._filling.parked.append(Parked(mapping, "", raw, position, poison.reason, poison.what))
            return
        for plan in self._plans(schema):
            hold = "" if key is None else _hold(plan, key)
            parked = Parked(plan.target.mapping, hold, raw, position, poison.reason, poison.what)
            known = self._filling.events.setdefault(plan.target.mapping, (plan, []))
            known[1].append(parked)


def hold_of_event(plan: Plan, event: ChangeEvent) -> str:
    """The hold text of an event that could not be mapped: its target key if that much can be told, else ''."""
    image = event.after or event.before
    if image is None:
        return ""
    columns = event.schema.columns
    return _hold(plan, tuple(value for value, column in zip(image, columns, strict=True) if column.key))


def _hold(plan: Plan, source_key: tuple[Value, ...]) -> str:
    try:
        return hold_of(plan.key_of_source(source_key))
    except Poison:
        return ""


def remapped(
    parked: Parked, decoder: Decoder, plans: Callable[[TableSchema], list[Plan]]
) -> tuple[TargetTable, MappedRow | Decision]:
    """The current mapping's word on a parked record (see `cdc.engine.parked.Remap`)."""
    position = None if parked.position == _NOWHERE else parked.position
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
