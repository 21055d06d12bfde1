"""Records of JsonConverter, made by hand: what the decoder does with schemas, keys, headers and bad records."""

from __future__ import annotations

import base64
import json
import math
from typing import Any

import pytest

from cdc.errors import Terminal
from cdc.model import UNAVAILABLE, ChangeEvent, Kind, Op, Position, RawRecord, TopicPartition
from cdc.source.envelope import PLACEHOLDER, Decoder, PoisonRecord, Skip
from cdc.source.positions import restore

Json = dict[str, Any]


def column(name: str, connect: str, native: str = "", semantic: str = "", **more: Any) -> Json:
    made: Json = {"type": connect, "optional": True, "field": name, **more}
    if semantic:
        made["name"] = semantic
    if native:
        made.setdefault("parameters", {})["__debezium.source.column.type"] = native
    return made


ID = column("id", "int32", "INT4")
SOURCE = {"type": "struct", "name": "io.debezium.connector.postgresql.Source", "field": "source"}


def value_schema(*columns: Json) -> Json:
    row = {"type": "struct", "optional": True, "fields": [ID, *columns]}
    return {
        "type": "struct",
        "name": "s.public.t.Envelope",
        "fields": [{**row, "field": "before"}, {**row, "field": "after"}, SOURCE, {"type": "string", "field": "op"}],
    }


KEY_SCHEMA = {"type": "struct", "name": "s.public.t.Key", "fields": [ID]}


def source(**more: Any) -> Json:
    block = {"name": "s", "schema": "public", "table": "t", "ts_ms": 1, "ts_us": 1500, "snapshot": None, "txId": 7}
    return block | {"sequence": '["100","200"]', "lsn": 200} | more


def payload(op: str = "c", before: Json | None = None, after: Json | None = None, **block: Any) -> Json:
    return {"before": before, "after": after, "source": source(**block), "op": op}


def compact(schema: Json, content: Any) -> bytes:
    return json.dumps({"schema": schema, "payload": content}, separators=(",", ":")).encode()


def record(content: Json, *columns: Json, key: Json | None = None, **more: Any) -> RawRecord:
    row = content["after"] or content["before"] or {}
    wanted = key if key is not None else {"id": row.get("id")}
    raw_key = compact(KEY_SCHEMA, wanted) if wanted else None
    return RawRecord("s.public.t", 0, 5, raw_key, compact(value_schema(*columns), content), **more)


def decoded(raw: RawRecord, decoder: Decoder | None = None) -> ChangeEvent:
    found = (decoder or Decoder(standalone=True)).decode(raw)
    assert isinstance(found, ChangeEvent)
    return found


def test_an_event() -> None:
    name = column("name", "string", "VARCHAR", parameters={"__debezium.source.column.length": "20"})
    event = decoded(record(payload(after={"id": 1, "name": "a"}), name))
    assert (event.op, event.before, event.after) == (Op.CREATE, None, (1, "a"))
    assert event.position == Position(0, 100, 200)
    assert (event.time_us, event.transaction, event.snapshot) == (1500, "7", "")
    assert (event.schema.source, event.schema.namespace, event.schema.table) == ("s", "public", "t")
    assert event.schema.key == ("id",)
    assert event.schema.columns[1].type.length == 20


def test_schema_versions_are_told_apart_and_remembered() -> None:
    decoder = Decoder(standalone=True)
    name, extra = column("name", "string", "TEXT"), column("extra", "int64", "INT8")
    old = record(payload(after={"id": 1, "name": "a"}), name)
    new = record(payload(after={"id": 1, "name": "a", "extra": 2}), name, extra)
    versions = [decoded(raw, decoder).schema.version for raw in (old, new, old, new)]
    assert versions[0] == versions[2] != versions[1] == versions[3]


def test_defaults_in_the_schema_are_never_applied() -> None:
    name = column("name", "string", "TEXT", default="d")
    assert decoded(record(payload(after={"id": 1, "name": None}), name)).after == (1, None)


def test_bytes_that_are_not_written_as_expected_are_still_read() -> None:
    raw = record(payload(after={"id": 1}))
    assert raw.value is not None
    document = json.loads(raw.value)
    spaced = json.dumps(document).encode()
    turned = json.dumps({"payload": document["payload"], "schema": document["schema"]}).encode()
    decoder = Decoder(standalone=True)
    for value in (raw.value, spaced, raw.value + b"\n", turned):
        assert decoded(RawRecord("s.public.t", 0, 1, raw.key, value), decoder).after == (1,)


@pytest.mark.parametrize("name", ['quo"te', "back\\slash", "ünï", "class", "a b", "new\nline", "c0"])
def test_any_column_name(name: str) -> None:
    text = column(name, "string", "TEXT")
    event = decoded(record(payload(after={"id": 1, name: "v"}), text))
    assert event.after == (1, "v")
    assert event.schema.columns[1].name == name


def test_records_that_are_no_row_events() -> None:
    decoder = Decoder(standalone=True)
    key = compact(KEY_SCHEMA, {"id": 1})
    assert decoder.decode(RawRecord("t", 0, 0, key, None)) == Skip("tombstone")
    beat = {"type": "struct", "name": "io.debezium.connector.common.Heartbeat", "fields": []}
    assert decoder.decode(RawRecord("t", 0, 0, key, compact(beat, {"ts_ms": 1}))) == Skip("heartbeat")
    bounds = {"type": "struct", "name": "io.debezium.connector.common.TransactionMetadataValue", "fields": []}
    assert decoder.decode(RawRecord("t", 0, 0, key, compact(bounds, {}))) == Skip("transaction")


def test_truncates_have_no_key() -> None:
    decoder = Decoder(standalone=True)
    truncate = RawRecord("s.public.t", 0, 1, None, compact(value_schema(), payload("t")))
    before, after = decoded(truncate, decoder), decoded(record(payload(after={"id": 1})), decoder)
    again = decoded(truncate, decoder)
    assert (before.op, before.before, before.after) == (Op.TRUNCATE, None, None)
    assert after.schema.key == again.schema.key == ("id",)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"{", "unreadable_record"),
        (b'{"schema":null,"payload":{}}', "schemaless"),
        (b'{"id":1}', "schemaless"),
        (b"\xff", "unreadable_record"),
        (compact(value_schema(), payload("x", after={"id": 1})), "unknown_op"),
        (compact(value_schema(), payload(after={"id": "one"})), "unreadable_record"),
        (compact(value_schema(), payload(after={})), "unreadable_record"),
        (compact(value_schema(), payload(after={"id": 1}, sequence="x", lsn=None)), "unreadable_record"),
    ],
)
def test_bad_records_are_poison(value: bytes, reason: str) -> None:
    with pytest.raises(PoisonRecord) as caught:
        Decoder(standalone=True).decode(RawRecord("s.public.t", 3, 9, compact(KEY_SCHEMA, {"id": 1}), value))
    assert (caught.value.reason, caught.value.where) == (reason, "s.public.t:3:9")


def test_a_row_without_a_key_is_poison() -> None:
    raw = record(payload(after={"id": 1}))
    with pytest.raises(PoisonRecord) as caught:
        Decoder(standalone=True).decode(RawRecord(raw.topic, 0, 0, None, raw.value))
    assert caught.value.reason == "missing_key"


def test_key_changes_carry_the_other_key() -> None:
    content = compact(KEY_SCHEMA, {"id": 8})
    moved = record(payload(after={"id": 9}), headers=(("__debezium.oldkey", content), ("other", b"x")))
    gone = record(payload("d", before={"id": 8}), headers=(("__debezium.newkey", b'{"id":9}'),))
    assert decoded(moved).moved_from == (8,)
    assert decoded(gone).moved_to == (9,), "Connect's default header converter writes JSON without a schema"
    bad = record(payload(after={"id": 9}), headers=(("__debezium.oldkey", b"Struct{id=8}"),))
    with pytest.raises(Terminal, match=r"header\.converter"):
        decoded(bad)


def test_unchanged_large_values() -> None:
    columns = [
        column("a", "string", "TEXT"),
        column("b", "bytes", "BYTEA"),
        column("c", "array", "_INT4", items={"type": "int32", "optional": True}),
        column("d", "array", "_FLOAT8", items={"type": "double", "optional": True}),
        column("e", "int32", "INT4"),
    ]
    coded = base64.b64encode(PLACEHOLDER.encode()).decode()
    row = {"id": 1, "a": PLACEHOLDER, "b": coded, "c": list(PLACEHOLDER.encode()), "d": [1.5], "e": None}
    event = decoded(record(payload("u", after=row), *columns))
    assert event.after == (1, UNAVAILABLE, UNAVAILABLE, UNAVAILABLE, [1.5], None)
    with pytest.raises(PoisonRecord, match="null in d"):
        decoded(record(payload("u", after=row | {"d": None}), *columns))
    assert decoded(record(payload("c", after=row | {"d": None}), *columns)).after is not None
    other = Decoder(standalone=True, placeholder="<gone>")
    assert decoded(record(payload("u", after=row | {"a": "<gone>", "b": "", "c": [1]}), *columns), other).after == (
        *(1, UNAVAILABLE, b"", [1], [1.5], None),
    )


def test_a_before_image_of_only_the_key_says_nothing_of_other_columns() -> None:
    text = column("a", "string", "TEXT")
    assert decoded(record(payload("d", before={"id": 1, "a": None}), text)).before == (1, UNAVAILABLE)
    assert decoded(record(payload("d", before={"id": 1, "a": "x"}), text)).before == (1, "x")


def test_values_that_are_not_exact_park_their_record_with_its_key() -> None:
    day = column("day", "int32", "DATE", "io.debezium.time.Date")
    old = {"id": 4, "day": -200000}
    assert decoded(record(payload(after=old), day)).after == (4, -200000)
    with pytest.raises(PoisonRecord) as caught:
        decoded(record(payload("r", after=old, snapshot="true", sequence='[null,"90"]'), day))
    assert (caught.value.reason, caught.value.key) == ("value_not_exact", (4,))
    assert caught.value.position == Position(0, 90, 0)
    assert "-200000" not in str(caught.value)


def test_types_that_cannot_be_exact_are_never_read() -> None:
    zone = column("z", "string", "TIMETZ", "io.debezium.time.ZonedTime")
    event = decoded(record(payload(after={"id": 1, "z": {"any": "thing"}}), zone))
    assert event.after == (1, UNAVAILABLE)


def test_a_wrong_setting_stops() -> None:
    numeric = column("n", "bytes", "NUMERIC", "org.apache.kafka.connect.data.Decimal")
    with pytest.raises(Terminal, match=r"decimal\.handling\.mode=string"):
        decoded(record(payload(after={"id": 1, "n": "AQ=="}), numeric))
    milliseconds = column("m", "int64", "", "io.debezium.time.Timestamp")
    with pytest.raises(Terminal, match=r"time\.precision\.mode=microseconds"):
        decoded(record(payload(after={"id": 1, "m": 1}), milliseconds))


def test_without_propagated_names_types_follow_from_the_schema() -> None:
    columns = [
        column("a", "int64"),
        column("b", "string"),
        column("c", "string", "", "io.debezium.data.Json"),
        column("d", "double"),
        column("e", "array", items={"type": "string", "optional": True}),
    ]
    row = {"id": 1, "a": 1, "b": "t", "c": "{}", "d": "NaN", "e": ["x"]}
    event = decoded(record(payload(after=row), *columns))
    assert [one.type.native for one in event.schema.columns[1:]] == ["int8", "text", "json", "float8", "_text"]
    assert event.after is not None
    assert math.isnan(event.after[4])
    assert event.schema.columns[5].type.kind is Kind.ARRAY


def test_trackers_belong_to_partitions() -> None:
    decoder, partition = Decoder(), TopicPartition("s.public.t", 0)
    raw = record(payload(after={"id": 1}))
    with pytest.raises(Terminal, match="no position tracker"):
        decoder.decode(raw)
    assert decoded(raw, Decoder(standalone=True)).position.epoch == 0
    decoder.follow(partition, restore("postgresql", 5))
    assert decoded(raw, decoder).position == Position(5, 100, 200)
    older = record(payload(after={"id": 1}, sequence='["50","60"]', lsn=60))
    for _ in range(3):
        decoded(older, decoder)
    assert [(notice.what, notice.partition) for notice in decoder.notices()] == [("fell", partition)]
    assert decoder.notices() == []
    tracker = decoder.tracker(partition)
    assert tracker is not None
    state = tracker.state()
    again = decoder.decode(older, Position(1, 2, 3))
    assert isinstance(again, ChangeEvent)
    assert (again.position, tracker.state()) == (Position(1, 2, 3), state)
    decoder.follow(partition, restore("mariadb", 5))
    with pytest.raises(Terminal, match="stored positions are of mariadb"):
        decoder.decode(raw)
