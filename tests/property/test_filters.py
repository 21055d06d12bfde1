"""Random lives of a source table, through a mapping with a filter: the target has the rows that are inside of it.

Checked from end to end (events → plan → batches → target) against the source's own rows at the end, for a source that
sends old rows, one that sends none and leaves out large values, and one that only moves keys.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc.engine.apply import Applier, Batch, TableBatch
from cdc.engine.holds import hold_of_event
from cdc.engine.parked import retry
from cdc.errors import Poison
from cdc.mapping.compile import compile_table
from cdc.mapping.load import loads
from cdc.mapping.plan import Plan
from cdc.model import (
    UNAVAILABLE,
    ChangeEvent,
    Column,
    ColumnType,
    Decision,
    Kind,
    MappedRow,
    Op,
    Position,
    RawRecord,
    TableSchema,
    TargetTable,
    TopicPartition,
)
from cdc.target.base import Advance, Owner, Parked, hold_of
from cdc.target.memory import MemoryTarget

PARTITION = TopicPartition("crm.public.people", 0)
_TEXT = ColumnType(Kind.TEXT, "text")
_COLUMNS = (
    Column("id", ColumnType(Kind.INTEGER, "int8"), nullable=False, key=True),
    Column("country", ColumnType(Kind.TEXT, "varchar", 2)),
    Column("notes", _TEXT),
    Column("bio", _TEXT),
)
Source = Literal["full", "default", "mariadb"]
Image = tuple[Any, ...]
FILTERS: dict[str, Callable[[Image], bool]] = {
    "country = 'DE'": lambda row: row[1] == "DE",
    "country = 'DE' and notes is not null": lambda row: row[1] == "DE" and row[2] is not None,
    "notes like 'a%'": lambda row: row[2] is not None and row[2].startswith("a"),
    "notes = bio": lambda row: None not in row[2:] and row[2] == row[3],
    "id <> 2": lambda row: row[0] != 2,
}
CHANGES = st.lists(
    st.tuples(
        st.sampled_from([*["put"] * 8, "delete", "move", "move", "load", "truncate", "again", "again"]),
        st.integers(1, 3),
        st.integers(1, 3),
        st.tuples(st.sampled_from(["DE", "FR", None]), st.sampled_from(["a", "b", None]), st.sampled_from(["a", "c"])),
    ),
    min_size=3,
    max_size=20,
)


@dataclass
class Life:
    """A source table, and the events that its changes make."""

    source: Source
    rows: dict[int, Image] = field(default_factory=dict)
    events: list[ChangeEvent] = field(default_factory=list)

    @property
    def schema(self) -> TableSchema:
        kind: Literal["postgresql", "mariadb"] = "mariadb" if self.source == "mariadb" else "postgresql"
        return TableSchema("crm", kind, "public", "people", _COLUMNS, 1)

    def live(self, changes: Sequence[tuple[str, int, int, Image]]) -> None:
        for what, key, other, values in changes:
            getattr(self, f"_{what}")(key, other, values)

    def _put(self, key: int, other: int, values: Image) -> None:
        before, after = self.rows.get(key), (key, *values)
        self.rows[key] = after
        if before is None:
            self._tell(Op.CREATE, None, after)
        else:
            self._tell(Op.UPDATE, self._old(before), self._sent(before, after))

    def _delete(self, key: int, other: int, values: Image) -> None:
        before = self.rows.pop(key, None)
        if before is not None:
            self._tell(Op.DELETE, self._gone(before), None)

    def _move(self, key: int, other: int, values: Image) -> None:
        if key in self.rows and other not in self.rows:
            before = self.rows.pop(key)
            self.rows[other] = after = (other, *before[1:])
            self._tell(Op.DELETE, self._gone(before), None, moved_to=(other,))
            self._tell(Op.CREATE, None, self._sent(before, after), moved_from=(key,), again=True)

    def _load(self, key: int, other: int, values: Image) -> None:
        for row in list(self.rows.values()):
            self._tell(Op.READ, None, row, snapshot="incremental")

    def _truncate(self, key: int, other: int, values: Image) -> None:
        self.rows.clear()
        self._tell(Op.TRUNCATE, None, None)

    def _again(self, key: int, other: int, values: Image) -> None:
        """The newest events are delivered again."""
        for event in self.events[-key * other :]:
            self.events.append(self._event(event))

    def _old(self, before: Image) -> Image | None:
        return None if self.source == "default" else before

    def _gone(self, before: Image) -> Image:
        return (before[0], None, None, None) if self.source == "default" else before

    def _sent(self, before: Image, after: Image) -> Image:
        if self.source != "default":
            return after
        large = [UNAVAILABLE if old == new else new for old, new in zip(before[2:], after[2:], strict=True)]
        return (*after[:2], *large)

    def _tell(self, op: Op, before: Image | None, after: Image | None, *, again: bool = False, **more: Any) -> None:
        at = self.events[-1].position if again else Position(1, len(self.events) + 1, 0)
        raw = RawRecord(*PARTITION, len(self.events), b"k", b"v")
        self.events.append(ChangeEvent(raw, self.schema, op, at, before, after, time_us=5, **more))

    def _event(self, old: ChangeEvent) -> ChangeEvent:
        raw = RawRecord(*PARTITION, len(self.events), b"k", b"v")
        more = {"snapshot": old.snapshot, "moved_from": old.moved_from, "moved_to": old.moved_to}
        return ChangeEvent(raw, self.schema, old.op, old.position, old.before, old.after, time_us=5, **more)  # type: ignore[arg-type]


def plan_of(where: str, source: Source, schema: TableSchema, more: str = "") -> Plan:
    text = f"pipeline: p\nsource: crm\ntarget: hub\ntables:\n  - from: public.people\n    to: hub.people\n{more}"
    return compile_table(loads(f'{text}    where: "{where}"\n').tables[0], schema, full_before=source == "full" or None)


def play(plan: Plan, events: Sequence[ChangeEvent], cuts: Iterable[int]) -> MemoryTarget:
    """Through batches, as the engine does it; what the mapping cannot map is parked."""
    target = MemoryTarget()
    target.open(Owner("p", "hub"))
    target.prepare(plan.target)
    mark = target.take({PARTITION: "id"})[0]
    applier, by_offset = Applier(target), {event.record.offset: event for event in events}

    def remap(parked: Parked) -> tuple[TargetTable, MappedRow | Decision]:
        mapped = plan.map(by_offset[parked.record.offset])
        assert not isinstance(mapped, tuple)
        return plan.target, mapped

    truncates = {index for index, event in enumerate(events) if event.op is Op.TRUNCATE}
    edges = sorted({0, len(events), *(cut for cut in cuts if cut < len(events)), *truncates})
    for start, end in pairwise(edges):
        table = TableBatch(plan.target)
        for event, mapped in zip(events[start:end], plan.map_batch(events[start:end]), strict=True):
            if isinstance(mapped, Poison):
                hold = hold_of_event(plan, event)
                table.found.append(Parked(plan.target.mapping, hold, event.record, event.position, mapped.reason))
            elif not isinstance(mapped, Decision):
                table.found += mapped if isinstance(mapped, tuple) else [mapped]
        table.fold()
        applied = applier.apply(Batch([table], [Advance(PARTITION, mark.fence, start or None, end, "")]))
        if applied.may_heal:
            as_it_is = Advance(PARTITION, mark.fence, end, end)
            guard = partial(lambda advance, partitions: [advance], as_it_is)
            retry(target, applied.may_heal, remap, guard, applier.held, applier.waiting)
    return target


WAYS: list[tuple[str, Source, str]] = [
    *((where, source, "") for where in FILTERS for source in ("full", "default", "mariadb")),  # type: ignore[misc]
    ("notes like 'a%'", "default", "    on_delete: soft\n"),
    ("country = 'DE'", "full", "    on_delete: soft\n"),
    ("country = 'DE' and notes is not null", "full", "    key: [country, id]\n"),
    ("country = 'DE'", "mariadb", "    key: [country, id]\n"),
]


@pytest.mark.parametrize(("where", "source", "more"), WAYS)
def test_the_target_has_the_rows_that_are_inside(where: str, source: Source, more: str) -> None:
    met = Counter[str]()

    @settings(max_examples=50, deadline=None)
    @given(CHANGES, st.lists(st.integers(1, 30), max_size=4))
    def check(changes: list[tuple[str, int, int, Image]], cuts: list[int]) -> None:
        life = Life(source)
        life.live(changes)
        plan = plan_of(where, source, life.schema, more)
        target = play(plan, life.events, cuts)
        rows = target.storage.tables[plan.target.mapping].rows
        found = {key[-1]: row.values for key, row in rows.items() if not row.deleted}
        held = {parked.hold for parked in target.storage.parked.values()}
        inside = {key: row for key, row in life.rows.items() if FILTERS[where](row)}
        for key in {*inside, *found}:
            if hold_of((key,)) not in held:
                assert found.get(key) == inside.get(key)
        met.update(held=len(held), inside=len(inside), outside=len(life.rows) - len(inside))
        if source != "default":
            assert not held

    check()
    assert met["inside"] > 0
    assert met["outside"] > 0
    assert met["held"] < met["inside"] + met["outside"]


def test_where_the_filter_reads_only_what_comes_nothing_is_parked_but_rows_that_come_in_without_all_their_values() -> (
    None
):
    life = Life("default")
    life.live([("put", 1, 1, ("FR", "a", "a")), ("put", 1, 1, ("FR", "b", "a")), ("put", 1, 1, ("DE", "b", "a"))])
    target = play(plan_of("country = 'DE'", "default", life.schema), life.events, [])
    assert [parked.reason for parked in target.storage.parked.values()] == ["update_missing"]
    life.live([("load", 1, 1, ())])
    target = play(plan_of("country = 'DE'", "default", life.schema), life.events, [])
    assert not target.storage.parked
    assert target.storage.tables["p/hub.people"].rows[(1,)].values == (1, "DE", "b", "a")
