"""A pipeline file tried on recorded changes: what it would decide about each, on targets in memory.

Each change is decided by itself, in the order of its topic, as the oracle does: nothing is folded. A key that is
parked keeps its later changes waiting, unless one brings what was missing. Tables are empty at first; of a row that was
there before, the before image of its first change tells, where it has one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import NamedTuple

import msgspec

from cdc.conflict.contributions import Document, decode, encode
from cdc.decisions import word
from cdc.engine.merging_target import MergingTarget
from cdc.engine.oracle import HEALING
from cdc.engine.plans import Plans
from cdc.engine.ruled import dated_ahead, now_us
from cdc.errors import Poison, Terminal
from cdc.keys import NO_KEYS, Keyring
from cdc.mapping.model import Pipeline
from cdc.model import (
    APPLIED,
    Action,
    ChangeEvent,
    Decision,
    MappedRow,
    Op,
    Outcome,
    Position,
    RowOp,
    TargetTable,
    Value,
    Write,
)
from cdc.target.base import Advance, Owner, Transaction, hold_of
from cdc.target.memory import Contributions, MemoryTarget, MemoryTransaction

Key = tuple[Value, ...]


class Decided(NamedTuple):
    """What was decided about a record for a mapping. `word`: applied, type:action, parked:reason, skipped:reason."""

    word: str
    key: str
    columns: tuple[str, ...]
    event: ChangeEvent


class Kept(NamedTuple):
    """What a target keeps of one table of several sources: shapes by number, documents by the text of the key."""

    shapes: Mapping[int, str]
    documents: Mapping[str, bytes]


class Touched(NamedTuple):
    """Whose words come up, in a table of several sources: target keys, and (target key, contributor, source key)."""

    keys: set[str]
    words: set[tuple[str, str, str]]


class Replay:
    """One pipeline file's decisions. `mapped`: what it makes of the changes, before any is played."""

    def __init__(self, pipeline: Pipeline, events: Sequence[ChangeEvent], keys: Keyring = NO_KEYS) -> None:
        self._pipeline = pipeline
        self._plans = Plans(pipeline, keys)
        self._topics = set(self._plans.topics)
        self._inner = _Unshared()
        rules = {each.target_id: each.rules for each in pipeline.tables if each.contributor and each.rules}
        self.target = MergingTarget(self._inner, rules)
        self.decided: dict[tuple[str, str, str], Decided] = {}
        self.mapped = [found for event in events for found in self._mapped(event)]
        self._held: dict[tuple[str, str], str] = {}

    @property
    def tables(self) -> Mapping[str, TargetTable]:
        """The target tables that were written, by mapping."""
        return self._inner.tables

    def rows(self, mapping: str) -> dict[Key, dict[str, Value]]:
        """What is there at the end."""
        names = [column.name for column in self._inner.tables[mapping].columns]
        stored = self._inner.storage.tables[mapping].rows
        return {key: dict(zip(names, row.values, strict=False)) for key, row in stored.items() if not row.deleted}

    def touched(self) -> dict[str, Touched]:
        """Of tables of several sources, by mapping of the target table."""
        found: dict[str, Touched] = {}
        for table, row, _ in self.mapped:
            way = table.contributes
            if way is not None and isinstance(row, MappedRow) and row.op is not RowOp.TRUNCATE:
                keys, words = found.setdefault(way.mapping, Touched(set(), set()))
                key = hold_of(row.key[: way.width])
                keys.add(key)
                words.add((key, way.contributor, hold_of(row.key[way.width :])))
        return found

    def begin_with(self, kept: Mapping[str, Kept]) -> None:
        """What sources said that do not come up; of those that do, nothing is known of the time before."""
        for mapping, touched in self.touched().items():
            if mapping not in kept:
                continue
            stored = self._inner.storage.contributions.setdefault(mapping, Contributions())
            numbers = {}
            for number, text in kept[mapping].shapes.items():
                numbers[number] = len(stored.shapes)
                stored.shapes.append(text)
            for key, bytes_ in kept[mapping].documents.items():
                stored.documents[key] = encode(_untouched(decode(bytes_), key, touched, numbers))

    def play(self) -> None:
        with closing(self.target):
            self.target.open(Owner(self._pipeline.name, self._pipeline.target))
            met: set[tuple[str, str]] = set()
            with self.target.begin() as transaction:
                for table, row, event in self.mapped:
                    key, decision = "", row
                    if isinstance(row, MappedRow):
                        key = hold_of(row.key)
                        self.target.prepare(table)
                        if (table.mapping, key) not in met:
                            met.add((table.mapping, key))
                            self._remember(table, row, event)
                        decision = self._decide(transaction, table, row)
                    assert isinstance(decision, Decision)
                    columns = decision.conflict.columns if decision.conflict is not None else ()
                    self.decided[table.mapping, event.record.where, key] = Decided(
                        word(decision.outcome, decision.reason), key, columns, event
                    )

    def _remember(self, table: TargetTable, row: MappedRow, event: ChangeEvent) -> None:
        """A row's first change says by its before image that it was there, and how."""
        if event.before is None or event.op is Op.CREATE or table.contributes is not None or row.moved_from is not None:
            return
        past = msgspec.structs.replace(
            event, op=Op.READ, before=None, after=event.before, moved_to=None, position=_before_all(event.position)
        )
        for found, said, _ in self._mapped(past):
            if found.mapping == table.mapping and isinstance(said, MappedRow) and said.key == row.key:
                assert said.values is not None
                self._inner.storage.tables[table.mapping].put(said.key, said.values, said.position)

    def _mapped(self, event: ChangeEvent) -> Iterator[tuple[TargetTable, MappedRow | Decision, ChangeEvent]]:
        if event.record.topic not in self._topics:
            return  # this file does not map it
        for plan in self._plans.of(event.schema):
            (mapped,) = plan.map_batch([event])
            if isinstance(mapped, Poison):
                yield plan.target, Decision(Outcome.PARKED, mapped.reason), event
            elif isinstance(mapped, MappedRow | Decision):
                yield plan.target, mapped, event
            else:
                for row in mapped:
                    yield plan.target, row, event

    def _decide(self, transaction: Transaction, table: TargetTable, row: MappedRow) -> Decision:
        if row.op is RowOp.TRUNCATE:
            return transaction.truncate(table, row.position, row.time_us)
        held = table.mapping, hold_of(row.key)
        waits = self._held.get(held)
        if waits is not None and waits not in HEALING:
            return Decision(Outcome.PARKED, "held")
        decision = self._write(transaction, table, row)
        self._held.pop(held, None)
        if decision.outcome is Outcome.PARKED:
            self._held[held] = decision.reason
        return decision

    def _write(self, transaction: Transaction, table: TargetTable, row: MappedRow) -> Decision:
        write = Write(row, row.position)
        ahead = dated_ahead(table, [write], now_us())
        if ahead:
            return ahead[0]
        try:
            return transaction.write(table, [write]).get(0, APPLIED)
        except Terminal:
            return Decision(Outcome.PARKED, Action.ERROR)


class _Unshared(MemoryTarget):
    """One transaction for everything: nothing is copied, and nothing is taken back."""

    def __init__(self) -> None:
        super().__init__()
        self.tables: dict[str, TargetTable] = {}

    def prepare(self, table: TargetTable) -> None:
        super().prepare(table)
        self.tables[table.mapping] = table

    @contextmanager
    def begin(self, moves: Sequence[Advance] = ()) -> Iterator[MemoryTransaction]:
        yield MemoryTransaction(self, self.storage)


def _before_all(position: Position) -> Position:
    """Of a row of ours: not the beginning, which is nobody's."""
    return Position(position.epoch, 0, 1)


def _untouched(document: Document, key: str, touched: Touched, numbers: Mapping[int, int]) -> Document:
    by = {}
    for contributor, rows in document.by.items():
        by[contributor] = {
            source_key: msgspec.structs.replace(said, shape=numbers[said.shape])
            for source_key, said in rows.items()
            if said.values is not None and (key, contributor, source_key) not in touched.words
        }
    return Document(0, "", {contributor: rows for contributor, rows in by.items() if rows})
