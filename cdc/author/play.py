"""A test's events through the engine: its own intake, applier and retries, on whatever target is handed in.

Only the decoder is another: what would be decoded is there already. Each event is a batch by itself, so that what is
decided about it can be told; that batches of any size come to the same is what the engine's own tests prove.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import msgspec

from cdc.author.differences import RowDifference
from cdc.author.keys import OpenKeys
from cdc.author.script import EPOCH, Expected, Image, Script
from cdc.decisions import word
from cdc.engine.apply import Applied, Applier
from cdc.engine.build import with_rules
from cdc.engine.intake import Intake, Limits, Owned, remapped
from cdc.engine.merging_target import MergingTarget
from cdc.engine.order import Held
from cdc.engine.parked import retry
from cdc.engine.plans import Plans
from cdc.errors import Terminal
from cdc.mapping.model import Pipeline
from cdc.model import (
    NO_RECORD,
    ChangeEvent,
    MappedRow,
    Outcome,
    Position,
    RawRecord,
    RowOp,
    TargetTable,
    TopicPartition,
    Write,
)
from cdc.source.envelope import Decoder
from cdc.target.base import Advance, Owner, Parked, Target

WRITTEN_BEFORE = Position(EPOCH, 0, 1)
"""Of rows that this pipeline wrote before the first event."""


class Ground(Protocol):
    """Where a test is played, and what it leaves there."""

    pipeline: Pipeline

    def target(self) -> Target:
        """The target, not open yet."""

    def disown(self, table: TargetTable) -> None:
        """Make the rows that are in a prepared table, at the lowest position, somebody else's."""

    def differences(self, name: str, table: TargetTable, expected: Sequence[Expected]) -> list[RowDifference]:
        """Where the table's rows differ from these; `name`: what the test calls it. The target is closed by then."""

    def close(self) -> None:
        """Leave nothing behind."""


class Decided(NamedTuple):
    """What was decided about an event for one target table. `detail`: why it was parked, for people."""

    table: str
    words: tuple[str, ...]
    detail: str = ""


@dataclass
class Played:
    """What came of a test. `decided`: by event; `stopped`: why the pipeline stopped, at the last of them. `parked`:
    reasons by target table, in the order of the records. `tables`: those that were written, by name."""

    decided: list[list[Decided]] = field(default_factory=list)
    stopped: str = ""
    parked: dict[str, list[str]] = field(default_factory=dict)
    tables: dict[str, TargetTable] = field(default_factory=dict)


class _Decoded(Decoder):
    """Hands out events that are there already."""

    def __init__(self, events: Iterable[ChangeEvent]) -> None:
        super().__init__(standalone=True)
        self._events = {event.record.where: event for event in events}

    def cut(self, raws: Sequence[RawRecord]) -> Iterator[RawRecord]:
        return iter(raws)

    def decode(self, raw: RawRecord, position: Position | None = None) -> ChangeEvent:
        return self._events[raw.where]


def play(script: Script, ground: Ground) -> Played:
    """Raises what a defect or a target that is away would raise; a pipeline that stops is an outcome."""
    player = _Player(script, ground)
    with closing(player.target):
        player.begin()
        for events in script.events:
            try:
                player.played.decided.append(player.event(events))
            except Terminal as error:
                player.played.decided.append([Decided("", ("stopped",), error.what)])
                player.played.stopped = str(error)
                break
        player.finish()
    return player.played


class _Player:
    def __init__(self, script: Script, ground: Ground) -> None:
        self.script = script
        self.ground = ground
        pipeline = ground.pipeline
        self.target = with_rules(pipeline, ground.target())
        self.owner = Owner(pipeline.name, pipeline.target)
        self.plans = Plans(pipeline, OpenKeys())
        decoder = _Decoded(event for events in script.events for event in events)
        self.decoder: Decoder = decoder
        self.intake = Intake(decoder, self.plans.of, self.plans.mappings_of, Limits())
        self.applier = Applier(self.target)
        self.played = Played()
        # Where the test says it, and where the mapping as it is played says it: a scratch table has another name.
        self.names = {
            table.id: str(written.to) for table, written in zip(pipeline.tables, script.pipeline.tables, strict=True)
        }

    def begin(self) -> None:
        self.target.open(self.owner)
        self.owned: dict[TopicPartition, Owned] = {}
        partitions = {TopicPartition(topic, 0): "test" for topic in self.plans.topics}
        for mark in self.target.take(partitions):
            source = self.plans.source_of(mark.partition.topic)
            self.owned[mark.partition] = Owned(mark.partition, source, mark.fence, mark.next, 0)
        prepared: dict[str, TargetTable] = {}
        for schema in self.script.schemas.values():
            for plan in self.plans.of(schema):
                self.target.prepare(plan.target)
                prepared[plan.target.mapping] = plan.target
        for mapping, table in prepared.items():
            self.played.tables[self.names[mapping]] = self._written(table)
        self._put_rows()

    def _written(self, table: TargetTable) -> TargetTable:
        return self.target.written(table) if isinstance(self.target, MergingTarget) else table

    def _put_rows(self) -> None:
        for name, rows in self.script.foreign.items():
            self._put(name, rows, Position(0, 0, 0))
            self.ground.disown(self.played.tables[name])
        for name, rows in self.script.given.items():
            self._put(name, rows, WRITTEN_BEFORE)

    def _put(self, name: str, rows: Sequence[Image], position: Position) -> None:
        table = msgspec.structs.replace(self.played.tables[name], rules=None)
        self.target.prepare(table)
        made = [MappedRow(RowOp.UPSERT, key_of(table, row), row, position, NO_RECORD) for row in rows]
        with self.target.begin() as transaction:
            transaction.write(table, [Write(row, position) for row in made])

    def event(self, events: Sequence[ChangeEvent]) -> list[Decided]:
        """Both halves of a change of key are one event here."""
        counts: Counter[tuple[str, str, str]] = Counter()
        details: dict[str, str] = {}
        for event in events:
            done = self._apply(event)
            for (mapping, _, outcome, reason), number in done.tallies.items():
                counts[mapping, outcome, reason] += number
            for parked in self._parked(done.parked):
                if parked.record.where == event.record.where:
                    details[parked.mapping] = parked.error
            self._heal(done)
        said: dict[str, list[str]] = {}
        for (mapping, outcome, reason), number in counts.items():
            if number > 0 and outcome != Outcome.SUPERSEDED:
                said.setdefault(mapping, []).append(word(outcome, reason))
        return [
            Decided(self.names[mapping], tuple(sorted(set(words))), details.get(mapping, ""))
            for mapping, words in said.items()
        ]

    def _apply(self, event: ChangeEvent) -> Applied:
        self.intake.add([event.record])
        batch = self.intake.take(self.owned, {}, lambda partition: "")
        for table in batch.tables:
            self.target.prepare(table.table)
            if table.writes is not None:
                table.writes.encoded = self.target.encode(table.table, table.writes)
        done = self.applier.apply(batch)
        for move in batch.moves:
            self.owned[move.partition].expected = move.next
        return done

    def _heal(self, done: Applied) -> None:
        """As the writer does after a batch, for every key that may heal now."""
        keys = done.may_heal | self.applier.waiting.due(self.applier.held)
        if keys:
            retry(
                self.target,
                keys,
                lambda parked: remapped(parked, self.decoder, self.plans.of),
                self._guard,
                self.applier.held,
                self.applier.waiting,
            )

    def _guard(self, partitions: Iterable[TopicPartition]) -> list[Advance]:
        owned = (self.owned[partition] for partition in partitions)
        return [Advance(each.partition, each.fence, each.expected, each.next) for each in owned]

    def _parked(self, held: Mapping[Held, str]) -> list[Parked]:
        holds: dict[str, list[str]] = {}
        for mapping, hold in held:
            holds.setdefault(mapping, []).append(hold)
        return [each for mapping, keys in holds.items() for each in self.target.queue(mapping, keys)]

    def finish(self) -> None:
        left = self._parked(self.applier.held)
        for parked in sorted(left, key=lambda each: each.id or 0):
            self.played.parked.setdefault(self.names[parked.mapping], []).append(parked.reason)


def key_of(table: TargetTable, values: Image) -> Image:
    return tuple([values[index] for index in table.key_indexes])
