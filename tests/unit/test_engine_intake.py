"""Intake: where batches are cut, what is set aside, and that every record ends in exactly one batch."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from cdc.engine.apply import Applier, Batch
from cdc.engine.holds import Plan, set_aside
from cdc.engine.intake import Intake, Limits, Owned, remapped
from cdc.engine.plans import Plans
from cdc.errors import Poison
from cdc.mapping.load import loads
from cdc.model import MappedRow, Outcome, RawRecord, RowOp, TopicPartition
from cdc.source.envelope import Decoder
from cdc.target.base import Owner, Parked
from cdc.target.memory import MemoryTarget
from tests.simulator import PIPELINE, PLACEHOLDER, TOPIC, Source

MAPPING = "simulated/hub.people"
P0, P1 = TopicPartition(TOPIC, 0), TopicPartition(TOPIC, 1)  # of keys 4, 5, 6, 7 and of keys 1, 2, 3, 8


@dataclass
class Feed:
    """A source's records numbered as a topic numbers them, an intake on them, and what `take` gave so far."""

    limits: Limits = field(default_factory=Limits)
    pipeline: str = PIPELINE
    source: Source = field(default_factory=Source)
    ends: dict[TopicPartition, int] = field(default_factory=lambda: {P0: 0, P1: 0})

    def __post_init__(self) -> None:
        self.plans = Plans(loads(self.pipeline))
        self.decoder = Decoder(placeholder=PLACEHOLDER, standalone=True)
        self.intake = Intake(self.decoder, self.plans.of, self.plans.mappings_of, self.limits)
        self.owned = {each: Owned(each, "crm", fence=1, expected=None, start=0) for each in (P0, P1)}

    def records(self) -> list[RawRecord]:
        """What the source sent since the last call."""
        sent, self.source.sent = self.source.sent, []
        return [self.number(raw) for raw in sent]

    def number(self, raw: RawRecord) -> RawRecord:
        partition = TopicPartition(raw.topic, raw.partition)
        self.ends[partition] += 1
        return msgspec.structs.replace(raw, offset=self.ends[partition] - 1)

    def take(self, positions: dict[TopicPartition, int] | None = None) -> Batch:
        batch = self.intake.take(self.owned, positions or {}, lambda partition: f"tracker {partition.partition}")
        for move in batch.moves:
            assert move.expected == self.owned[move.partition].expected
            self.owned[move.partition].expected = move.next
        return batch

    def take_all(self) -> list[Batch]:
        batches = []
        while not self.intake.empty:
            batches.append(self.take())
        return batches


def offsets(batch: Batch) -> list[tuple[int, int]]:
    """(partition, offset) of everything in the tables of a batch."""
    return [(row.record.partition, row.record.offset) for table in batch.tables for row in table.rows]


def moves(batch: Batch) -> dict[TopicPartition, int | None]:
    return {move.partition: move.next for move in batch.moves}


def reasons(batch: Batch) -> list[str]:
    return [row.reason for table in batch.tables for row in table.rows if isinstance(row, Parked)]


def changed(raw: RawRecord, **payload: Any) -> RawRecord:
    """The record with parts of its payload replaced."""
    assert raw.value is not None
    document = json.loads(raw.value)
    document["payload"].update(payload)
    return msgspec.structs.replace(raw, value=json.dumps(document, separators=(",", ":")).encode())


def widened(raw: RawRecord) -> RawRecord:
    """The record as of a table that got a column `mood`: another schema version."""
    assert raw.value is not None
    document = json.loads(raw.value)
    mood = {
        "type": "string",
        "optional": True,
        "field": "mood",
        "parameters": {"__debezium.source.column.type": "TEXT"},
    }
    for image in document["schema"]["fields"][:2]:
        image["fields"].append(mood)
    for image in ("before", "after"):
        if document["payload"][image] is not None:
            document["payload"][image]["mood"] = None
    return msgspec.structs.replace(raw, value=json.dumps(document, separators=(",", ":")).encode())


def test_a_batch_is_full_at_its_rows() -> None:
    feed = Feed(Limits(rows=3))
    for name in "abcde":
        feed.source.put(4, name, None)
    feed.intake.add(feed.records())
    assert (feed.intake.full, feed.intake.room) == (True, 0)
    first, second = feed.take(), feed.take()
    assert [len(first.tables[0].rows), len(second.tables[0].rows)] == [3, 2]
    assert [moves(first), moves(second)] == [{P0: 3}, {P0: 5}]
    assert feed.intake.empty


def test_a_batch_is_full_at_its_bytes() -> None:
    feed = Feed(Limits(bytes=1))
    feed.source.put(4, "a", None)
    feed.source.put(5, "b", None)
    feed.intake.add(feed.records())
    assert [offsets(batch) for batch in feed.take_all()] == [[(0, 0)], [(0, 1)]]


def test_one_plan_a_batch_and_mapping() -> None:
    feed = Feed()
    for key in (4, 5, 6):
        feed.source.put(key, "x", None)
    old, new, old_again = feed.records()
    feed.intake.add([old, widened(new), old_again])
    assert feed.intake.full
    batches = feed.take_all()
    assert [offsets(batch) for batch in batches] == [[(0, 0)], [(0, 1)], [(0, 2)]]
    assert [len(batch.tables[0].table.columns) for batch in batches] == [3, 4, 3]


def test_a_truncate_begins_a_batch() -> None:
    feed = Feed()
    feed.source.put(1, "a", None)
    feed.source.put(4, "b", None)
    feed.source.truncate()
    feed.source.put(1, "c", None)
    feed.intake.add(feed.records())
    batches = feed.take_all()
    ops = [[row.op for table in batch.tables for row in table.rows if isinstance(row, MappedRow)] for batch in batches]
    assert ops == [[RowOp.UPSERT, RowOp.UPSERT], [RowOp.TRUNCATE, RowOp.UPSERT]]
    assert [moves(batch) for batch in batches] == [{P0: 1, P1: 1}, {P0: 2, P1: 2}]


def test_a_truncate_before_any_row_has_a_batch_of_its_own() -> None:
    feed = Feed()
    feed.source.truncate()
    feed.source.put(4, "a", None)
    feed.intake.add(feed.records())
    assert [[table.table.key for table in batch.tables] for batch in feed.take_all()] == [[()], [("id",)]]


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 100])
@pytest.mark.parametrize("chunk", [1, 4, 100])
def test_every_record_is_in_exactly_one_batch(rows: int, chunk: int) -> None:
    feed = Feed(Limits(rows=rows))
    for number in range(4):
        for key in (1, 4, 2, 5):
            feed.source.put(key, f"name {number}", None)
        if number % 2:
            feed.source.truncate()
    records = feed.records()
    records[5] = widened(records[5])
    records[9] = msgspec.structs.replace(records[9], value=b"garbage")
    batches: list[Batch] = []
    for start in range(0, len(records), chunk):
        feed.intake.add(records[start : start + chunk])
        batches += [feed.take()] if start % 2 else feed.take_all()
    batches += feed.take_all()
    seen = [each for batch in batches for each in offsets(batch)]
    assert seen == [(raw.partition, raw.offset) for raw in records]
    assert {each: own.expected for each, own in feed.owned.items()} == feed.ends


def test_what_was_read_and_not_taken_can_be_forgotten() -> None:
    feed = Feed(Limits(rows=1))
    feed.source.put(4, "a", None)
    feed.source.put(5, "b", None)
    feed.intake.add(feed.records())
    feed.intake.clear()
    assert (feed.intake.empty, feed.intake.full, feed.intake.room) == (True, False, 1)
    assert feed.take().moves == []


def test_control_records_are_passed_where_nothing_waits() -> None:
    feed = Feed(Limits(rows=1))
    feed.source.put(4, "a", None)
    feed.source.put(5, "b", None)
    feed.intake.add(feed.records())
    assert moves(feed.take({P0: 9, P1: 7})) == {P0: 1, P1: 7}  # of P0 a record waits
    assert moves(feed.take({P0: 9, P1: 7})) == {P0: 9}
    assert feed.take({P0: 9, P1: 7}).moves == []


def test_moves_carry_the_tracker_and_the_time_of_the_newest_change() -> None:
    feed = Feed()
    feed.source.put(4, "a", None)
    feed.source.put(4, "b", None)
    feed.intake.add(feed.records())
    (move,) = feed.take().moves
    assert (move.fence, move.tracker, move.time_us) == (1, "tracker 0", 1024 * 1000)


def test_records_that_are_no_events_are_counted_by_reason() -> None:
    feed = Feed()
    feed.source.put(4, "a", None)
    feed.source.put(5, "a", None)
    row, tombstone = feed.records()
    feed.intake.add([row, msgspec.structs.replace(tombstone, value=None)])
    (tally,) = feed.take().skipped
    assert tally == msgspec.structs.replace(tally, mapping=MAPPING, partition=P0, reason="tombstone", number=1)
    assert tally.outcome is Outcome.SKIPPED


def test_what_the_mapping_ignores_is_counted_by_reason() -> None:
    feed = Feed(pipeline=f"{PIPELINE}    on_delete: ignore\n    on_truncate: ignore\n")
    feed.source.put(4, "a", None)
    feed.source.delete(4)
    feed.source.truncate()
    feed.intake.add(feed.records())
    counted = {tally.reason: tally.number for batch in feed.take_all() for tally in batch.skipped}
    assert counted == {"ignored_delete": 1, "ignored_truncate": 1}


def test_an_unreadable_first_record_is_parked_without_a_key() -> None:
    feed = Feed()
    feed.source.put(4, "a", None)
    (record,) = feed.records()
    feed.intake.add([msgspec.structs.replace(record, value=b"garbage")])
    batch = feed.take()
    (parked,) = batch.parked
    assert (parked.mapping, parked.hold, parked.reason) == (MAPPING, "", "unreadable_record")
    assert moves(batch) == {P0: 1}


def test_later_rows_of_a_parked_key_are_held_and_others_flow() -> None:
    feed = Feed()
    feed.source.put(4, "a", None)
    feed.source.delete(4)
    for key in (5, 4):
        feed.source.put(key, "later", None)
    records = feed.records()
    records[1] = changed(records[1], before=None)  # a delete that does not say of what; Kafka's key does
    feed.intake.add(records)
    batch = feed.take()
    assert reasons(batch) == ["value_not_exact"]

    target = MemoryTarget()
    target.open(Owner("simulated", "memory"))
    target.take({P0: "id", P1: "id"})
    for table in batch.tables:
        target.prepare(table.table)
    applied = Applier(target).apply(batch)
    assert applied.parked == {(MAPPING, "[4]"): "value_not_exact"}
    assert [(parked.record.offset, parked.reason) for parked in target.queue(MAPPING, ["[4]"])] == [
        (1, "value_not_exact"),
        (3, "held"),
    ]
    assert {key[0]: row.values[1] for key, row in target.storage.tables[MAPPING].rows.items()} == {4: "a", 5: "later"}


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"{nope", "unreadable_record"),
        (b'{"op":"c","after":{"id":4}}', "schemaless"),
        ({"op": "x"}, "unknown_op"),
        ({"source": {}}, "unreadable_record"),
    ],
)
def test_later_rows_are_held_behind_a_record_that_cannot_be_read(value: bytes | dict[str, Any], reason: str) -> None:
    """Kafka's key says whose record it was."""
    feed = Feed()
    for key, name in ((5, "first"), (4, "bad"), (4, "later"), (5, "later")):
        feed.source.put(key, name, None)
    records = feed.records()
    bad = records[1]
    records[1] = msgspec.structs.replace(bad, value=value) if isinstance(value, bytes) else changed(bad, **value)
    feed.intake.add(records)
    batch = feed.take()
    target = MemoryTarget()
    target.open(Owner("simulated", "memory"))
    target.take({P0: "id", P1: "id"})
    for table in batch.tables:
        target.prepare(table.table)
    assert Applier(target).apply(batch).parked == {(MAPPING, "[4]"): reason}
    assert [(parked.record.offset, parked.reason) for parked in target.queue(MAPPING, ["[4]"])] == [
        (1, reason),
        (2, "held"),
    ]
    assert {key[0]: row.values[1] for key, row in target.storage.tables[MAPPING].rows.items()} == {5: "later"}


def test_a_row_that_cannot_be_mapped_is_parked_with_its_target_key() -> None:
    columns = "    columns: {id: id, name: {sql: 'CAST(notes AS integer)'}}\n"
    feed = Feed(pipeline=PIPELINE.replace("hub.people\n", "hub.people\n" + columns))
    feed.source.put(4, "a", "no number")
    feed.source.put(5, "a", "12")
    feed.intake.add(feed.records())
    parked, mapped = feed.take().tables[0].rows
    assert isinstance(parked, Parked)
    assert (parked.hold, parked.reason) == ("[4]", "expression_failed")
    assert isinstance(mapped, MappedRow)
    assert mapped.values == (5, 12)


def test_so_is_one_whose_target_key_is_not_the_source_s() -> None:
    columns = "    key: [name]\n    columns: {name: name, number: {sql: 'CAST(notes AS integer)'}}\n"
    feed = Feed(pipeline=PIPELINE.replace("hub.people\n", "hub.people\n" + columns))
    feed.source.put(4, "a", "no number")
    feed.intake.add(feed.records())
    (parked,) = feed.take().tables[0].rows
    assert isinstance(parked, Parked)
    assert (parked.hold, parked.reason) == ('["a"]', "expression_failed")


def test_a_parked_record_is_decoded_and_mapped_anew_at_its_old_position() -> None:
    feed = Feed()
    feed.source.put(4, "a", None)
    feed.intake.add(feed.records())
    (row,) = feed.take().tables[0].rows
    assert isinstance(row, MappedRow)
    parked = Parked(MAPPING, "[4]", row.record, row.position._replace(epoch=3), "refused")
    table, again = remapped(parked, Decoder(placeholder=PLACEHOLDER, standalone=True), feed.plans.of)
    assert isinstance(again, MappedRow)
    assert (table.mapping, again.values, again.position) == (MAPPING, row.values, parked.position)


def test_a_parked_record_of_a_mapping_that_is_gone() -> None:
    feed = Feed()
    feed.source.put(4, "a", None)
    (record,) = feed.records()
    parked = Parked("simulated/hub.gone", "[4]", record, feed_position(feed, record), "refused")
    with pytest.raises(Poison) as raised:
        remapped(parked, feed.decoder, feed.plans.of)
    assert raised.value.reason == "unmapped"


def feed_position(feed: Feed, record: RawRecord) -> Any:
    event: Any = feed.decoder.decode(record)
    return event.position


def test_a_requested_record_is_set_aside_whatever_it_says() -> None:
    """Out of the middle of a run, under its key; what stands around it is mapped as always."""
    feed = Feed()
    for number in range(6):
        feed.source.put(4, f"name {number}", None)
    feed.intake.requested = {P0: {2: "me: it does harm", 5: "me: last"}, P1: {0: "other partition"}}
    feed.intake.add(feed.records())
    (batch,) = feed.take_all()
    rows = batch.tables[0].rows
    assert [(row.record.offset, isinstance(row, Parked)) for row in rows] == [
        *((0, False), (1, False), (2, True), (3, False), (4, False), (5, True))
    ]
    aside = [row for row in rows if isinstance(row, Parked)]
    assert [(each.hold, each.reason, each.error) for each in aside] == [
        ("[4]", "on_request", "me: it does harm"),
        ("[4]", "on_request", "me: last"),
    ]
    assert aside[0].position > rows[1].position
    assert moves(batch) == {P0: 6}


def test_a_requested_record_that_nobody_survives() -> None:
    """Unreadable, of no version that the mapping fits, or fatal to the decoder: it is parked for every mapping."""
    feed = Feed(pipeline=f"{PIPELINE}  - {{from: public.people, to: hub.copies}}\n")
    feed.source.put(4, "a", None)
    feed.source.put(4, "b", None)
    raws = feed.records()
    raws[0] = msgspec.structs.replace(raws[0], value=b"{nope")

    def dies(schema: object) -> list[Plan]:
        raise ZeroDivisionError

    feed.intake.requested = {P0: {0: "me: bad"}}
    feed.intake.add(raws[:1])
    (batch,) = feed.take_all()
    found = [row for table in batch.tables for row in table.rows if isinstance(row, Parked)] + batch.parked
    assert sorted((each.mapping, each.reason) for each in found) == [
        ("simulated/hub.copies", "on_request"),
        (MAPPING, "on_request"),
    ]
    monkey = Decoder(placeholder=PLACEHOLDER, standalone=True)
    monkey.decode = dies  # type: ignore[method-assign, assignment]
    found = [parked for _, parked in set_aside(raws[1], "me: bad", monkey, feed.plans.of, feed.plans.mappings_of)]
    assert [(each.hold, each.mapping) for each in found] == [("", MAPPING), ("", "simulated/hub.copies")]


def test_a_requested_truncate_is_of_no_key() -> None:
    feed = Feed(pipeline=f"{PIPELINE}    on_truncate: refuse\n")
    feed.source.truncate()
    feed.intake.requested = {P0: {0: "me: not this"}}
    feed.intake.add(feed.records())
    (batch,) = feed.take_all()
    (parked,) = batch.tables[0].rows
    assert isinstance(parked, Parked)
    assert (parked.hold, parked.reason) == ("", "on_request")


def test_a_requested_change_of_the_target_key_is_held_under_both() -> None:
    feed = Feed(pipeline=f"{PIPELINE}    key: [id, name]\n")
    feed.source.put(4, "a", None)
    feed.intake.add(feed.records())
    feed.take_all()
    raw = feed.source
    raw.put(4, "b", None)
    record = feed.records()[0]
    payload = json.loads(record.value or b"")
    payload["payload"]["before"] = {"id": 4, "name": "a", "notes": None}
    changed = msgspec.structs.replace(record, value=json.dumps(payload, separators=(",", ":")).encode())
    found = set_aside(changed, "me", feed.decoder, feed.plans.of, feed.plans.mappings_of)
    assert [parked.hold for _, parked in found] == ['[4,"a"]', '[4,"b"]']


ROUTES = """
pipeline: simulated
source: crm
target: hub
tables:
  - {from: public.people, to: hub.people, where: "name <> 'z'"}
  - {from: public.people, to: hub.others, where: "name = 'z'", columns: {"*": {}, how: {sql: meta.operation}}}
"""


def test_one_table_goes_two_ways_by_its_rows() -> None:
    """What is plain comes in blocks, and a block of which some rows are outside is taken apart."""
    feed = Feed(pipeline=ROUTES)
    for key, name in ((4, "a"), (5, "z"), (6, "b")):
        feed.source.put(key, name, None)
    feed.intake.add(feed.records())
    people, others = feed.take().tables
    assert [row.key for row in people.rows if isinstance(row, MappedRow)] == [(4,), (6,)]
    assert [row.values for row in others.rows if isinstance(row, MappedRow)] == [(5, "z", None, "create")]
    feed.source.put(4, "c", None)
    feed.source.put(6, "z", None)
    feed.intake.add(feed.records())
    batch = feed.take()
    people, others = batch.tables
    found = [(row.op, row.key) for table in batch.tables for row in table.rows if isinstance(row, MappedRow)]
    gone, came = (RowOp.DELETE, (6,)), (RowOp.UPSERT, (6,))
    assert found == [(RowOp.UPSERT, (4,)), gone, (RowOp.DELETE, (4,)), came]
    feed.source.put(7, "z", None)
    feed.intake.add(feed.records())
    tallies = [(tally.mapping, tally.reason, tally.number) for tally in feed.take().skipped]
    assert tallies == [("simulated/hub.people", "filtered", 1)]


def test_plain_rows_inside_of_a_filter_stay_in_blocks() -> None:
    feed = Feed(pipeline=ROUTES)
    feed.source.put(4, "a", None)
    feed.intake.add(feed.records())
    feed.take()
    for key in (4, 5, 6):
        feed.source.put(key, "z", None)
    feed.source.delete(5)
    feed.intake.add(feed.records())
    others = feed.take().tables[1]
    assert others.writes is not None
    assert [row.values and row.values[-1] for row in others.rows if isinstance(row, MappedRow)] == [
        "update",
        "create",
        "create",
        None,
    ]


def test_an_old_row_that_did_not_come_exactly_parks_its_change_only() -> None:
    """The block does without old rows; this mapping reads them."""
    columns = '{"*": {}, was: {sql: before.name}}'
    feed = Feed(pipeline=PIPELINE.rstrip() + f"\n    columns: {columns}\n")
    for key in (4, 5):
        feed.source.put(key, "a", None)
    feed.intake.add(feed.records())
    feed.take()
    for key in (4, 5):
        feed.source.put(key, "b", None)
    good, bad = feed.records()
    before = {"id": 5, "name": 7, "notes": None}
    feed.intake.add([good, changed(bad, before=before)])
    (table,) = feed.take().tables
    assert [type(row).__name__ for row in table.rows] == ["MappedRow", "Parked"]
