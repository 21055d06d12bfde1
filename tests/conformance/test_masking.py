"""A masked row is parked, shown, and retried after its keys were rotated: nothing of what is masked is anywhere in
clear, in no table of the target and in no line of the log, on every target."""

from __future__ import annotations

import base64
from collections.abc import Iterator, MutableMapping
from contextlib import closing
from typing import Any

import msgspec
import pytest
import structlog

from cdc.control.parked_content import Content, content
from cdc.engine.sealed import Seal
from cdc.errors import Poison
from cdc.keys import Keyring
from cdc.mapping.load import loads
from cdc.mapping.masking import compile_mask
from cdc.mapping.masks import Mask
from cdc.model import ColumnType, Kind, Position, RawRecord, TargetColumn, TargetTable
from cdc.target.base import Owner, Parked
from tests.fix_targets import Bench, MariaDbBench, MemoryBench, PostgresBench, SqliteBench
from tests.masking import NEW, OLD, keys
from tests.simulator import TOPIC, World
from tests.tapes import REFUSED_TEXT

MARK = "Zwölf Geheimnisse 4711"
SECRET_ID = 730_173_017_301
OLD_KEYS, ROTATED = keys("v1", v1=OLD), keys("v2", v1=OLD, v2=NEW)
COLUMNS = """
      id: { mask: { pseudonym: people, version: v1 } }
      name: NAME
      notes: { mask: { hash: notes } }
      shape: { copy: notes, mask: { partial: { last: 2 } } }
      number: { sql: "case when name = 'fails' then notes::integer end", mask: { pseudonym: numbers } }
"""
FIXED = """{ sql: "case when name = 'refused' then 'accepted' else name end" }"""


def pipeline(table: TargetTable, name: str = "name") -> str:
    columns = COLUMNS.replace("NAME", name)
    if name != "name":
        columns = columns.replace("notes::integer", "7")
    return f"""
pipeline: {table.name}
source: crm
target: hub
tables:
  - from: public.people
    to: {table.namespace}.{table.name}
    columns:{columns}"""


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """Every line that is logged, of whatever level."""
    lines: list[str] = []

    def keep(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        lines.append(repr(structlog.processors.format_exc_info(logger, method, dict(event))))
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(processors=[keep], wrapper_class=structlog.make_filtering_bound_logger(0))
    yield lines
    structlog.configure(**before)


def everything(bench: Bench) -> bytes:
    """All that the target stores."""
    match bench:
        case MemoryBench():
            return repr(vars(bench.storage)).encode()
        case PostgresBench():
            bench.reader.execute("SET bytea_output = 'escape'")
            names = bench.reader.execute(
                "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname IN ('cdc', 'hub')"
            ).fetchall()
            rows = [bench.reader.execute(f"SELECT t::text FROM {name} t").fetchall() for (name,) in names]
            return repr(rows).encode()
        case SqliteBench():
            names = bench.reader.rows("SELECT name FROM sqlite_master WHERE type = 'table'")
            return repr([bench.reader.rows(f'SELECT * FROM "{name}"') for (name,) in names]).encode()
        case MariaDbBench():
            names = bench.reader.rows("SHOW TABLES")
            return repr([bench.reader.rows(f"SELECT * FROM `{name}`") for (name,) in names]).encode()
    raise AssertionError(bench)


def assert_hidden(stored: bytes) -> None:
    """Neither as it is, nor in what it looks like as bytes, as JSON's escapes, in base64."""
    for secret in (MARK, "Geheimnisse", "4711", str(SECRET_ID)):
        for form in (secret, repr(secret.encode())[2:-1], ascii(secret)[1:-1], secret.encode().hex()):
            assert form.encode() not in stored
        encoded = base64.b64encode(b"xx" + secret.encode() + b"xx")[4:-8]
        assert len(encoded) < 8 or encoded not in stored


def parked_of(bench: Bench, owner: Owner) -> dict[int, tuple[RawRecord, str, str]]:
    """What is parked: raw record, reason and error, by its number in the order it came."""
    if isinstance(bench, MemoryBench):
        mine = {number for number, by in bench.storage.parked_by.items() if by == owner}
        stored = sorted((number, each) for number, each in bench.storage.parked.items() if number in mine)
        return {number: (each.record, each.reason, each.error) for number, each in stored}
    operator = bench.operator()
    operator.open(owner)
    with closing(operator):
        found = {}
        for entry in operator.parked():
            raw = operator.record(entry.id)
            assert raw is not None
            found[entry.id] = raw, entry.reason, entry.error
        return found


def masked(using: Keyring, spec: dict[str, Any], value: Any, kind: Kind = Kind.TEXT) -> Any:
    made = compile_mask(Mask.model_validate(spec), ColumnType(kind, "x"), True, using).masking
    assert made is not None
    return made(value)


def broken(raw: RawRecord) -> RawRecord:
    """A record that cannot be read, with everything in it."""
    assert raw.value is not None
    return msgspec.structs.replace(raw, value=raw.value.replace(b'"after":{', b'"after":[{'))


def test_nothing_masked_is_stored_or_logged_in_clear(bench: Bench, logged: list[str]) -> None:
    table = bench.table()
    columns = (*table.columns, TargetColumn("shape", ColumnType(Kind.TEXT, "text")))
    table = msgspec.structs.replace(table, mapping=f"{table.name}/{table.namespace}.{table.name}", columns=columns)
    owner = Owner(table.name, "hub")
    world = World(bench.target, pipeline(table))
    world.keys = OLD_KEYS
    world.source.put(1, "first", MARK)
    world.start("one")
    world.settle()
    bench.refuse(table)
    world.source.put(SECRET_ID, REFUSED_TEXT, MARK)
    world.settle()
    world.source.put(SECRET_ID, "later", MARK + "!")
    world.source.put(5, "fails", MARK)
    world.source.put(6, "unreadable", MARK)
    world.source.sent[-1] = broken(world.source.sent[-1])
    world.source.put(2, "fine", MARK)
    world.settle()

    parked = parked_of(bench, owner)
    reasons = [reason for _, reason, _ in parked.values()]
    assert {"expression_failed", "held", "unreadable_record"} < set(reasons)
    assert len(reasons) == 4
    stored = everything(bench)
    assert b"cdc sealed" in stored
    assert b"fine" in stored, "it is the right place that is looked at"
    assert_hidden(stored)
    assert logged
    assert_hidden("".join(logged).encode())

    shown = [content(OLD_KEYS, loads(world.pipeline), table.mapping, raw) for raw, _, _ in parked.values()]
    assert_hidden(repr([*shown, *parked.values()]).encode())
    refused = shown[reasons.index("held")]
    assert refused.masked
    assert refused.key is None
    assert msgspec.json.decode(refused.value or "")["after"] == {
        "id": masked(OLD_KEYS, {"pseudonym": "people"}, SECRET_ID, Kind.INTEGER),
        "name": "later",
        "notes": masked(OLD_KEYS, {"hash": "notes"}, MARK + "!"),
        "shape": "*" * (len(MARK) - 1) + "1!",
        "number": None,
    }

    stop(world)
    world.pipeline, world.keys = pipeline(table, FIXED), ROTATED
    world.start("two")
    world.settle()
    bench.ask(owner)
    world.settle()
    stop(world)
    assert [reason for _, reason, _ in parked_of(bench, owner).values()] == ["unreadable_record"]
    rows = {row[1]: row for row in bench.rows(table, ("id", "name", "notes", "shape"))}
    assert set(rows) == {"first", "fine", "later", "fails"}
    later = rows["later"]
    assert later[0] == masked(OLD_KEYS, {"pseudonym": "people"}, SECRET_ID, Kind.INTEGER), "its version is named"
    assert later[2] == masked(ROTATED, {"hash": "notes"}, MARK + "!"), "made with the current key"
    assert rows["first"][2] == masked(OLD_KEYS, {"hash": "notes"}, MARK), "what is there stays"
    assert_hidden(everything(bench))
    assert_hidden("".join(logged).encode())


def stop(world: World) -> None:
    for name in list(world.workers):
        worker, _, _ = world.workers.pop(name)
        worker._close("stopped", "")


# The seal by itself

RECORD = RawRecord(TOPIC, 1, 7, b"the key", MARK.encode(), (("h", MARK.encode()),), 12)


def sealed(using: Keyring, record: RawRecord = RECORD) -> RawRecord:
    return Seal(using, {TOPIC}).sealed(Parked("m", "[1]", record, Position(0, 1, 1), "held")).record


def test_a_sealed_record_opens_as_it_came_also_after_a_rotation() -> None:
    made = sealed(OLD_KEYS)
    assert_hidden(repr(made).encode())
    assert (made.topic, made.partition, made.offset, made.timestamp_ms) == (TOPIC, 1, 7, 12)
    for using in (OLD_KEYS, ROTATED):
        assert Seal(using, set()).opened(made) == RECORD
    assert Seal(ROTATED, {TOPIC}).sealed_by(sealed(ROTATED)) == "default/v2"
    empty = msgspec.structs.replace(RECORD, key=None, value=None, headers=())
    assert Seal(OLD_KEYS, set()).opened(sealed(OLD_KEYS, empty)) == empty
    assert Seal(OLD_KEYS, {TOPIC}).sealed(Parked("m", "", made, Position(0, 1, 1), "held")).record == made, "once"


def test_a_key_of_its_own_seals_where_there_is_one() -> None:
    using = keys("v1", v1=OLD)
    both = Keyring({"default": using._sets["default"], "parked": keys("p1", p1=NEW)._sets["default"]})
    assert Seal(both, set()).sealed_by(sealed(both)) == "parked/p1"
    assert Seal(both, set()).opened(sealed(using)) == RECORD


def test_records_of_topics_that_nothing_masks_stay_as_they_are() -> None:
    other = msgspec.structs.replace(RECORD, topic="other")
    assert sealed(OLD_KEYS, other) is other
    assert Seal(OLD_KEYS, set()).opened(other) is other


@pytest.mark.parametrize(
    ("using", "record", "message"),
    [
        (keys("v2", v2=NEW), sealed(OLD_KEYS), "has no version 'v1'"),
        (keys("v1", v1=NEW), sealed(OLD_KEYS), "another secret stands under that name now"),
        (OLD_KEYS, msgspec.structs.replace(sealed(OLD_KEYS), offset=8), "another secret"),
        (OLD_KEYS, msgspec.structs.replace(sealed(OLD_KEYS), value=(sealed(OLD_KEYS).value or b"")[:-1]), "another"),
    ],
)
def test_what_does_not_open_is_poison(using: Keyring, record: RawRecord, message: str) -> None:
    with pytest.raises(Poison, match=message) as raised:
        Seal(using, set()).opened(record)
    assert raised.value.reason == "sealed"
    told = content(using, loads(pipeline(MemoryBench().table())), "m", record)
    assert isinstance(told, Content)
    assert message in (told.value or "")
