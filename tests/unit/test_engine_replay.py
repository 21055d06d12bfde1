"""Recorded changes played through pipeline files in memory."""

from __future__ import annotations

from typing import Any

import msgspec

from cdc.conflict.contributions import Contribution, Document, encode
from cdc.engine.replay import Kept, Replay
from cdc.mapping.load import loads
from cdc.model import (
    ChangeEvent,
    Column,
    ColumnType,
    Kind,
    Op,
    Position,
    RawRecord,
    TableSchema,
    TargetColumn,
)

ID, TEXT = ColumnType(Kind.INTEGER, "int8"), ColumnType(Kind.TEXT, "text")
COLUMNS = (Column("id", ID, nullable=False, key=True), Column("name", TEXT))
SCHEMAS = {
    name: TableSchema(name, "postgresql", "public", "people", COLUMNS, number)
    for number, name in enumerate(("crm", "portal"), 9001)
}


def event(op: Op, number: int, values: tuple[Any, ...] | None, before: Any = None, source: str = "crm") -> ChangeEvent:
    record = RawRecord(f"{source}.public.people", 0, number, b"k", b"v")
    position = Position(1, number, number)
    return ChangeEvent(record, SCHEMAS[source], op, position, before, values, time_us=number * 1_000_000)


def played(rules: str, events: list[ChangeEvent], kept: dict[str, Kept] | None = None) -> Replay:
    tables = "".join(
        f"  - {{from: public.people, to: hub.people, source: {name}}}\n"
        for name in sorted(
            {event.schema.source for event in events} | ({"crm", "portal"} if "sources" in rules else set())
        )
    )
    made = Replay(loads(f"pipeline: p\ntarget: hub\nrules:\n  hub.people: {rules}\ntables:\n{tables}"), events)
    made.begin_with(kept or {})
    made.play()
    return made


def test_each_change_is_decided() -> None:
    events = [
        event(Op.UPDATE, 1, (1, "a")),
        event(Op.UPDATE, 2, (1, "b")),
        event(Op.DELETE, 3, None, before=(2, None)),
        event(Op.CREATE, 4, (3, "c")),
    ]
    words = {rule: [each.word for each in played(rule, events).decided.values()] for rule in _RULES}
    assert words[_RULES[0]] == ["update_missing:skip", "update_missing:skip", "applied", "applied"]
    assert words[_RULES[1]] == ["parked:update_missing", "parked:update_missing", "applied", "applied"]
    assert words[_RULES[2]][:2] == ["update_missing:update_or_insert", "applied"]
    assert played(_RULES[2], events).rows("p/hub.people") == {
        (1,): {"id": 1, "name": "b"},
        (3,): {"id": 3, "name": "c"},
    }


_RULES = (
    "{on: {update_missing: skip}}",
    "{on: {update_missing: park, delete_missing: skip}}",
    "{on: {update_missing: update_or_insert}}",
)


def test_a_row_from_before_is_as_its_first_before_image_says() -> None:
    rules = "{detect: changed_columns, on: {update_differing: target_wins, update_missing: skip}}"
    events = [event(Op.UPDATE, 1, (1, "b"), before=(1, "a")), event(Op.UPDATE, 2, (1, "d"), before=(1, "c"))]
    made = played(rules, events)
    assert [each.word for each in made.decided.values()] == ["applied", "update_differing:target_wins"]
    assert made.rows("p/hub.people") == {(1,): {"id": 1, "name": "b"}}
    gone = played(_RULES[0], [event(Op.DELETE, 1, None, before=(1, "a")), event(Op.DELETE, 2, None, before=(1, "a"))])
    assert [each.word for each in gone.decided.values()] == ["applied", "delete_missing:source_wins"]


def test_what_a_file_does_not_map_is_left_out() -> None:
    events = [event(Op.CREATE, 1, (1, "a")), event(Op.CREATE, 1, (2, "b"), source="portal")]
    text = "pipeline: p\ntarget: hub\ntables:\n  - {from: public.people, to: hub.people, source: crm}\n"
    made = Replay(loads(text), events)
    made.play()
    assert [each.event for each in made.decided.values()] == events[:1]


def test_a_truncate_empties_the_table() -> None:
    events = [event(Op.CREATE, 1, (1, "a")), event(Op.TRUNCATE, 2, None), event(Op.CREATE, 3, (2, "b"))]
    assert list(played(_RULES[0], events).rows("p/hub.people")) == [(2,)]


def test_what_other_sources_said_before_is_known() -> None:
    columns = (TargetColumn("id", ID, None, False), TargetColumn("name", TEXT))
    shapes = {7: msgspec.json.encode(("portal", columns, ("id",))).decode()}
    portal = Contribution(Position(1, 5, 5).pack(), 99_000_000, 7, (1, "portal's"))
    crm = Contribution(Position(1, 9, 9).pack(), 99_000_000, 7, (1, "of later"))
    kept = {
        "p/hub.people": Kept(shapes, {"[1]": encode(Document(3, "", {"portal": {"[]": portal}, "crm": {"[]": crm}}))})
    }
    events = [event(Op.UPDATE, 1, (1, "crm's"))]
    for resolve, name in (("newest", "portal's"), ("{priority: [crm, portal]}", "crm's")):
        rules = f"{{sources: [crm, portal], resolve: {resolve}}}"
        made = played(rules, events, kept)
        assert made.rows("p/hub.people") == {(1,): {"id": 1, "name": name}}
        (decided,) = made.decided.values()
        assert decided.word == ("update_origin_differs:merge" if name == "portal's" else "applied")
        assert decided.columns == (("name",) if name == "portal's" else ())
