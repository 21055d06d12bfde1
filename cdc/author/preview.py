"""What a changed mapping would do to real data before it does it: the last events of each topic, mapped by it, beside
what the deployed version makes of them, and beside the rows that the target has now.

Reads only: topics without a group, the target by key. Each event is mapped as it is, in the order of its topic; guards,
rules and what is parked now have no say. The target may be ahead of what was read, or behind it: then its rows differ
for that reason alone, and that is what the other comparison is for.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, Literal, NamedTuple

import msgspec

from cdc.author.changes import columns_of
from cdc.control.operate import KAFKA_ANSWERS_WITHIN_S, opened, partitions_of, topics, topics_of
from cdc.control.run import pipeline_placeholder
from cdc.control.simulate import change_events
from cdc.engine.build import kafka_connection
from cdc.engine.deployed import newest, read
from cdc.engine.holds import hold_of_event
from cdc.engine.plans import Plans
from cdc.engine.targets import open_beside, opened_outlook
from cdc.entries import RestSettings
from cdc.errors import Poison, Usage
from cdc.keys import Keyring
from cdc.mapping.model import Pipeline
from cdc.model import UNAVAILABLE, ChangeEvent, MappedRow, RawRecord, RowOp, TargetTable, Value
from cdc.settings import Settings
from cdc.source.replay import replayed
from cdc.target.base import hold_of
from cdc.target.beside import Beside, Pair

EXAMPLES = 5
"""Of each kind, for each table."""
KEYS_A_QUERY = 1000
MASKED, NOT_SENT = "(masked)", "(not sent)"

Kind = Literal["same", "different", "new", "gone", "parked"]
"""Of a row, by the changed mapping: as before; with other values; there only by it; no longer there; parked, for a
reason."""


class Example(msgspec.Struct, frozen=True):
    """One row: `columns` that differ, each with what it was and what it would be; `reason` of one that is parked."""

    key: str
    kind: Kind
    columns: dict[str, tuple[str, str]] = {}
    reason: str = ""


class TableDiff(msgspec.Struct, frozen=True):
    """Rows of one target table by kind; how many differ in which column."""

    table: str
    rows: dict[str, int]
    columns: dict[str, int]
    examples: tuple[Example, ...]


class Preview(msgspec.Struct, frozen=True):
    """`running`: beside version `version` (0: none is deployed); `target`: beside the rows that are there now."""

    pipeline: str
    version: int
    records: dict[str, int]
    unreadable: int
    running: tuple[TableDiff, ...]
    target: tuple[TableDiff, ...]
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        found: dict[str, Any] = msgspec.to_builtins(self)
        return found


class _Row(NamedTuple):
    """What events left of one row: its values, None when it was deleted; or why the newest event is parked."""

    key: tuple[Value, ...]
    values: tuple[Value, ...] | None
    parked: str = ""


class _Side(NamedTuple):
    """One mapping's target table and rows by the text of their keys. `masked`: columns."""

    table: TargetTable
    rows: dict[str, _Row]
    masked: frozenset[str]


def preview(settings: Settings, pipeline: Pipeline, last: int, tables: Sequence[str] = ()) -> Preview:
    """`last`: events of each topic. `tables`: only these target tables. Raises `Usage` for an unknown table,
    `MappingError` for a mapping that does not fit the events, `Transient`, `Terminal`."""
    known = {str(table.to) for table in pipeline.tables}
    if unknown := sorted(set(tables) - known):
        raise Usage(
            f"no mapping writes {', '.join(unknown)}", where=pipeline.file, hint=f"there are {', '.join(known)}"
        )
    with opened(settings, pipeline) as operator:
        deployed = newest(operator)
        old = None if deployed is None else read(deployed, pipeline.target)
        sources = {topic: each[0].source_name for topic, each in topics_of(pipeline).items()}
        raws = _last(settings, pipeline, sorted(sources), last)
        placeholder = pipeline_placeholder(settings, pipeline)
        events, unreadable = change_events(settings, sources, operator, raws, placeholder)
    after = _mapped(pipeline, events, settings.keys)
    before = {} if old is None else _mapped(old, events, settings.keys)
    wanted = {name: side for name, side in after.items() if not tables or _name(side.table) in tables}
    running = [
        _diff(side, _beside_mapping(side, before.get(name)), before.get(name)) for name, side in sorted(wanted.items())
    ]
    found, notes = _beside_target(settings, pipeline, wanted)
    return Preview(
        pipeline=pipeline.label,
        version=0 if deployed is None else deployed.number,
        records=dict(Counter(raw.topic for raw in raws)),
        unreadable=unreadable,
        running=tuple(running) if old is not None else (),
        target=tuple(found),
        notes=tuple(notes),
    )


# -- what is mapped


def _last(settings: Settings, pipeline: Pipeline, names: Sequence[str], last: int) -> list[RawRecord]:
    """The newest records of each topic, in the order of their partitions."""
    with topics(settings, pipeline) as consumer:
        partitions = partitions_of(consumer, names)
        starts, ends = consumer.starts(partitions), consumer.ends(partitions)
    ranges = {each: (max(starts[each], ends[each] - last), ends[each]) for each in partitions}
    found: dict[str, list[RawRecord]] = defaultdict(list)
    for raw in replayed(kafka_connection(settings.kafka), ranges, KAFKA_ANSWERS_WITHIN_S):
        found[raw.topic].append(raw)
    kept = []
    for raws in found.values():
        newest_ones = sorted(raws, key=lambda raw: (raw.timestamp_ms, raw.offset))[-last:]
        kept += sorted(newest_ones, key=lambda raw: (raw.partition, raw.offset))
    return kept


def _mapped(pipeline: Pipeline, events: Sequence[ChangeEvent], keys: Keyring) -> dict[str, _Side]:
    """What the events make, by mapping. A value that was not sent is the one before it, where that is known."""
    plans, sides = Plans(pipeline, keys), dict[str, _Side]()
    tables = {table.id: table for table in pipeline.tables}
    for event in events:
        for plan in plans.of(event.schema) if plans.reads(event.record.topic) else ():
            target = plan.target
            if not target.key:
                continue  # a truncate
            side = sides.get(target.mapping)
            if side is None or side.table != target:
                columns = columns_of(tables[target.mapping], None)
                masked = frozenset(name for name, said in columns.items() if "mask" in said)
                side = sides[target.mapping] = _Side(target, {} if side is None else side.rows, masked)
            (mapped,) = plan.map_batch([event])
            if isinstance(mapped, Poison):
                side.rows[hold_of_event(plan, event)] = _Row((), None, mapped.reason)
            for row in mapped if isinstance(mapped, tuple) else (mapped,):
                if isinstance(row, MappedRow) and row.op is not RowOp.TRUNCATE:
                    side.rows[hold_of(row.key)] = _Row(row.key, _overlaid(side.rows.get(hold_of(row.key)), row))
    return sides


def _overlaid(known: _Row | None, row: MappedRow) -> tuple[Value, ...] | None:
    if row.values is None or known is None or known.values is None or len(known.values) != len(row.values):
        return row.values
    return tuple(low if high is UNAVAILABLE else high for low, high in zip(known.values, row.values, strict=True))


# -- where it differs

_Found = tuple[str, Kind, dict[str, tuple[Any, Any]], str]
"""Key, kind, columns that differ (what was, what would be), reason."""


def _beside_mapping(side: _Side, other: _Side | None) -> Iterator[_Found]:
    names = [column.name for column in side.table.columns]
    others = [] if other is None else [column.name for column in other.table.columns]
    for key in dict.fromkeys((*side.rows, *(() if other is None else other.rows))):
        row, was = side.rows.get(key), None if other is None else other.rows.get(key)
        if row is not None and row.parked:
            yield key, "parked", {}, row.parked
            continue
        values = None if row is None or row.values is None else dict(zip(names, row.values, strict=True))
        before = None if was is None or was.values is None else dict(zip(others, was.values, strict=True))
        if values is None or before is None:
            yield key, "same" if values is before else "gone" if values is None else "new", {}, ""
            continue
        differing = {
            name: (before.get(name, ""), values.get(name, ""))
            for name in dict.fromkeys((*names, *others))
            if before.get(name, "") != values.get(name, "")
        }
        yield key, "different" if differing else "same", differing, ""


def _beside_target(
    settings: Settings, pipeline: Pipeline, sides: Mapping[str, _Side]
) -> tuple[list[TableDiff], list[str]]:
    destination = settings.destination(pipeline.target)
    if isinstance(destination, RestSettings):
        return [], [f"{pipeline.target} is a REST API: its rows cannot be read"]
    found, notes = [], []
    with opened_outlook(destination) as look:
        for side in sides.values():
            outlook = look(side.table, False)
            there = {name.lower() for name in outlook.columns}
            if side.table.contributes is not None:
                notes.append(f"{_name(side.table)}: several sources make its rows, no one of them tells all")
            elif not outlook.there or not there.issuperset(name.lower() for name in side.table.key):
                notes.append(
                    f"{_name(side.table)}: the target has no such table, or not its key: all rows would be new"
                )
            else:
                missing = [column.name for column in side.table.columns if column.name.lower() not in there]
                if missing:
                    notes.append(f"{_name(side.table)}: not there yet, and not compared: {', '.join(missing)}")
                found.append(_diff(side, _beside_rows(settings, pipeline, side, frozenset(missing)), None))
    return found, notes


def _beside_rows(settings: Settings, pipeline: Pipeline, side: _Side, missing: frozenset[str]) -> Iterator[_Found]:
    """Beside the target's rows, `KEYS_A_QUERY` at a time. Columns that are not there yet are not compared."""
    places = [place for place, column in enumerate(side.table.columns) if column.name not in missing]
    columns = tuple(side.table.columns[place] for place in places)
    table = msgspec.structs.replace(side.table, columns=columns)
    rows = list(side.rows.items())
    with closing(open_beside(settings.target(pipeline.target), table)) as beside:
        for first in range(0, len(rows), KEYS_A_QUERY):
            portion = [(key, row) for key, row in rows[first : first + KEYS_A_QUERY] if not row.parked]
            yield from (
                (key, "parked", {}, row.parked) for key, row in rows[first : first + KEYS_A_QUERY] if row.parked
            )
            asked = [_cells(table, row, places) for _, row in portion]
            for (key, row), values, pair in zip(portion, asked, _pairs(beside, asked), strict=True):
                if isinstance(pair, Poison):
                    yield key, "parked", {}, pair.reason
                    continue
                if row.values is None or pair.there is None:
                    deleted = row.values is None
                    yield key, "same" if deleted and pair.there is None else "gone" if deleted else "new", {}, ""
                    continue
                differing: dict[str, tuple[Any, Any]] = {
                    column.name: (was, now)
                    for column, value, was, now in zip(columns, values, pair.there, pair.wanted, strict=True)
                    if was != now and value is not UNAVAILABLE
                }
                yield key, "different" if differing else "same", differing, ""


def _pairs(beside: Beside, rows: Sequence[Sequence[Value]]) -> list[Pair | Poison]:
    """Rows that the target cannot hold are found by halving."""
    try:
        return list(beside.pairs(rows)) if rows else []
    except Poison as poison:
        if len(rows) == 1:
            return [poison]
        middle = len(rows) // 2
        return _pairs(beside, rows[:middle]) + _pairs(beside, rows[middle:])


def _cells(table: TargetTable, row: _Row, places: Sequence[int]) -> list[Value]:
    if row.values is not None:
        return [row.values[place] for place in places]
    key = dict(zip(table.key, row.key, strict=True))
    return [key.get(column.name) for column in table.columns]


def _diff(side: _Side, found: Iterator[_Found], other: _Side | None) -> TableDiff:
    masked = side.masked | (frozenset() if other is None else other.masked)
    unmasked_here = masked - side.masked
    rows, columns, examples = Counter[str](), Counter[str](), list[Example]()
    told = Counter[str]()
    for key, kind, differing, reason in found:
        rows[kind] += 1
        columns.update(differing.keys())  # a mapping's values would be added
        if kind == "same" or told[kind] == EXAMPLES:
            continue
        told[kind] += 1
        hidden = kind == "gone" and masked.intersection(side.table.key)  # a key as the other mapping shows it
        shown = {
            name: (MASKED if name in masked else _text(was), MASKED if name in unmasked_here else _text(now))
            for name, (was, now) in differing.items()
        }
        examples.append(Example(MASKED if hidden else key, kind, shown, reason))
    return TableDiff(_name(side.table), dict(rows), dict(columns), tuple(examples))


def _name(table: TargetTable) -> str:
    return f"{table.namespace}.{table.name}"


def _text(value: Any) -> str:
    if value is UNAVAILABLE:
        return NOT_SENT
    return "NULL" if value is None else str(value)
