"""What other rules would decide: recorded changes played through the pipeline file as it is and through a new one.

It writes nothing and joins no group. Both sides start from the same: of rows from before, what the before image of
their first change says; in tables of several sources, what those source rows last said that do not come up. So a change
may be decided otherwise than it was: both sides err alike, and what is shown is where they differ.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from cdc.control.operate import KAFKA_ANSWERS_WITHIN_S, opened, partitions_of, topics, topics_of
from cdc.decisions import seen
from cdc.engine.build import kafka_connection
from cdc.engine.replay import Decided, Kept, Replay
from cdc.errors import Poison, Usage
from cdc.mapping.model import Pipeline
from cdc.model import ChangeEvent, RawRecord, TopicPartition
from cdc.settings import Settings
from cdc.source.envelope import Decoder
from cdc.source.positions import restore
from cdc.source.replay import replayed
from cdc.source.times import offsets_at
from cdc.target.base import hold_of
from cdc.target.operator import Operator

EXAMPLES = 5
"""Of each kind of difference, and of each table's rows."""
MOST_KEYS = 10_000
"""Rows of several sources whose kept contributions are looked up."""

NOTE = (
    "rows from before --since are as the before image of their first change says, and missing where it has none; what"
    " others wrote to the target is not known"
)


@dataclass(frozen=True)
class Example:
    """One record that would be decided otherwise. `columns`: those in conflict by the new rules, or else the old."""

    where: str
    key: str
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Difference:
    """Records of one table that were decided `old` and would be `new`; '-': the file does not map them."""

    table: str
    old: str
    new: str
    number: int
    examples: tuple[Example, ...]


@dataclass(frozen=True)
class RowExample:
    """A row that would end otherwise: the columns that differ, with values where they are asked for. None: no row."""

    key: str
    columns: tuple[str, ...]
    old: dict[str, str | None] | None = None
    new: dict[str, str | None] | None = None


@dataclass(frozen=True)
class Rows:
    """Rows of one target table that would end otherwise."""

    table: str
    number: int
    examples: tuple[RowExample, ...]


@dataclass(frozen=True)
class Simulated:
    """`words`: per table and decision, how many by the old and by the new rules. `cut`: there were more records than
    were read. `unreadable`: records that are no change events."""

    pipeline: str
    since: str
    records: int
    cut: bool
    unreadable: int
    words: tuple[tuple[str, str, int, int], ...]
    differences: tuple[Difference, ...]
    rows: tuple[Rows, ...]
    notes: tuple[str, ...] = field(default=(NOTE,))

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def simulate(
    settings: Settings, old: Pipeline, new: Pipeline, placeholder: str, since: datetime, *, most: int, values: bool
) -> Simulated:
    """Play what the pipeline's topics hold since then, at most `most` records. Raises `Usage` when the new file is
    another pipeline's; `Transient`, `Terminal`."""
    if (new.name, new.target) != (old.name, old.target):
        raise Usage(f"the new file is of pipeline {new.label}, not of {old.label}", where=new.file)
    with opened(settings, old) as operator:
        sources = {topic: tables[0].source_name for each in (old, new) for topic, tables in topics_of(each).items()}
        raws, cut = _records(settings, old, sorted(sources), since, most)
        events, unreadable = change_events(settings, sources, operator, raws, placeholder)
        sides = [Replay(pipeline, events, settings.keys) for pipeline in (old, new)]
        kept, complete = _kept(operator, sides)
    for side in sides:
        side.begin_with(kept)
        side.play()
    notes = [NOTE]
    if not complete:
        notes.append(
            f"more than {MOST_KEYS:,} rows of several sources: what else was said of those beyond is not known"
        )
    before, after = sides
    return Simulated(
        old.label,
        since.isoformat(),
        len(raws),
        cut,
        unreadable,
        _words(before, after),
        _differences(before, after),
        tuple(_rows(before, after, values)),
        tuple(notes),
    )


# -- what is played


def _records(
    settings: Settings, pipeline: Pipeline, names: Sequence[str], since: datetime, most: int
) -> tuple[list[RawRecord], bool]:
    connection = kafka_connection(settings.kafka)
    with topics(settings, pipeline) as consumer:
        partitions = partitions_of(consumer, names)
        ends = consumer.ends(partitions)
    starts = offsets_at(connection, partitions, int(since.timestamp() * 1000), KAFKA_ANSWERS_WITHIN_S)
    ranges: dict[TopicPartition, tuple[int, int]] = {}
    for partition in partitions:
        start = starts.get(partition)
        if start is not None:
            ranges[partition] = (start, ends[partition])
    raws: list[RawRecord] = []
    for raw in replayed(connection, ranges, KAFKA_ANSWERS_WITHIN_S):
        if len(raws) == most:
            return raws, True
        raws.append(raw)
    return raws, False


def change_events(
    settings: Settings, sources: Mapping[str, str], operator: Operator, raws: Sequence[RawRecord], placeholder: str
) -> tuple[list[ChangeEvent], int]:
    """The change events, with the positions that the workers gave them."""
    decoder = Decoder(placeholder=placeholder, standalone=True)
    epochs = {epoch.source: epoch.number for epoch in operator.epochs()}
    for state in operator.partitions():
        source = sources.get(state.partition.topic)
        if source is not None:
            kind = settings.source(source).kind
            decoder.follow(state.partition, restore(kind, epochs.get(source, 0), state.tracker))
    events, unreadable = [], 0
    for raw in raws:
        try:
            found = decoder.decode(raw)
        except Poison:
            unreadable += 1
            continue
        if isinstance(found, ChangeEvent):
            events.append(found)
    return events, unreadable


def _kept(operator: Operator, sides: Sequence[Replay]) -> tuple[dict[str, Kept], bool]:
    """What is kept of the rows of several sources that come up; and whether that is of all of them."""
    keys: dict[str, set[str]] = {}
    for side in sides:
        for mapping, touched in side.touched().items():
            keys.setdefault(mapping, set()).update(touched.keys)
    found, complete = {}, True
    for mapping, wanted in keys.items():
        shapes = operator.shapes(mapping)
        asked = sorted(wanted)[:MOST_KEYS] if shapes else []
        complete &= len(wanted) <= MOST_KEYS
        documents = {key: operator.contributions(mapping, key) for key in asked}
        found[mapping] = Kept(shapes, {key: document for key, document in documents.items() if document})
    return found, complete


# -- where they differ


def _words(old: Replay, new: Replay) -> tuple[tuple[str, str, int, int], ...]:
    sides = [Counter((mapping, each.word) for (mapping, _, _), each in side.decided.items()) for side in (old, new)]
    kinds = sorted({*sides[0], *sides[1]})
    return tuple((mapping, word, sides[0][mapping, word], sides[1][mapping, word]) for mapping, word in kinds)


def _differences(old: Replay, new: Replay) -> tuple[Difference, ...]:
    found: dict[tuple[str, str, str], list[Example]] = {}
    numbers: Counter[tuple[str, str, str]] = Counter()
    for place in dict.fromkeys((*old.decided, *new.decided)):
        before, after = old.decided.get(place), new.decided.get(place)
        kind = place[0], _said(before), _said(after)
        if kind[1] == kind[2]:
            continue
        numbers[kind] += 1
        examples = found.setdefault(kind, [])
        if len(examples) < EXAMPLES:
            columns = (after.columns if after else ()) or (before.columns if before else ())
            examples.append(Example(place[1], place[2], columns))
    return tuple(Difference(*kind, number, tuple(found[kind])) for kind, number in numbers.most_common())


def _said(decided: Decided | None) -> str:
    return "-" if decided is None else decided.word


def _rows(old: Replay, new: Replay, values: bool) -> list[Rows]:
    found = []
    for mapping in sorted({*old.tables, *new.tables}):
        before = old.rows(mapping) if mapping in old.tables else {}
        after = new.rows(mapping) if mapping in new.tables else {}
        differing = [key for key in dict.fromkeys((*before, *after)) if before.get(key) != after.get(key)]
        if differing:
            examples = [_row(hold_of(key), before.get(key), after.get(key), values) for key in differing[:EXAMPLES]]
            found.append(Rows(mapping, len(differing), tuple(examples)))
    return found


def _row(key: str, old: Mapping[str, Any] | None, new: Mapping[str, Any] | None, values: bool) -> RowExample:
    told = seen(old, new, old if new is None else new)
    columns = tuple(dict.fromkeys((*(told.before or ()), *(told.incoming or ()))))
    return RowExample(key, columns, told.before, told.incoming) if values else RowExample(key, columns)
