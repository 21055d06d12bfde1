"""Parked records: queues by key, and which records a command line means."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest

from cdc.cli.shown import print_entries
from cdc.control.park import Place, read_place, reader_of
from cdc.control.parked import ParkedRecord, choose, described, grouped, read_where, too_much
from cdc.errors import Usage
from cdc.mapping.load import loads
from cdc.model import TopicPartition
from cdc.target.operator import ParkedEntry
from tests.simulator import PIPELINE, TOPIC


def entry(number: int, hold: str, reason: str = "held", mapping: str = "crm/hub.a") -> ParkedEntry:
    at = datetime(2026, 11, 23, tzinfo=UTC)
    return ParkedEntry(number, mapping, hold, TopicPartition("t", 0), number, reason, "", at, False)


RECORDS = [
    *described(
        "crm",
        [
            entry(1, "[1]", "check_violation"),
            entry(2, "", "unreadable_record"),
            entry(3, "[1]"),
            entry(4, "", "unreadable_record"),
            entry(5, "[1]", "update_missing", "crm/hub.b"),
            entry(6, "[1]"),
        ],
    ),
    *described("billing", [entry(6, "[9]", "check_violation", "billing/hub.c")]),
]


def ids(found: list[ParkedRecord]) -> list[tuple[str, int]]:
    return [(each.pipeline, each.id) for each in found]


def test_only_the_first_of_a_key_has_others_behind_it() -> None:
    heads = {(each.pipeline, each.id): each.behind for each in RECORDS if each.head}
    assert heads == {("crm", 1): (3, 6), ("crm", 2): (), ("crm", 4): (), ("crm", 5): (), ("billing", 6): ()}


def test_groups_count_every_record() -> None:
    assert grouped(RECORDS, "reason")[0] == ("crm", "unreadable_record", 2)
    assert sorted(grouped(RECORDS, "mapping"))[-1] == ("crm", "crm/hub.b", 1)
    assert sorted(grouped(RECORDS, "table"))[-1] == ("crm", "hub.b", 1)
    assert sum(number for *_, number in grouped(RECORDS, "table")) == len(RECORDS)


def test_records_by_condition() -> None:
    assert ids(choose(RECORDS, where={"reason": "check_violation"})) == [("crm", 1), ("billing", 6)]
    assert ids(choose(RECORDS, where={"mapping": "hub.b"})) == [("crm", 5)]
    assert ids(choose(RECORDS, where={"mapping": "crm/hub.b", "reason": "held"})) == []


def test_records_by_id() -> None:
    assert ids(choose(RECORDS, [3, 1, 3])) == [("crm", 1), ("crm", 3)]
    with pytest.raises(Usage, match="no parked record 8, 9"):
        choose(RECORDS, [1, 9, 8])
    with pytest.raises(Usage, match="billing, crm"):
        choose(RECORDS, [6])


def test_something_must_be_chosen_in_one_way() -> None:
    with pytest.raises(Usage, match="either ids or --where"):
        choose(RECORDS)
    with pytest.raises(Usage, match="either ids or --where"):
        choose(RECORDS, [1], {"reason": "held"})


def test_conditions() -> None:
    assert read_where("reason=held,mapping=hub.b") == {"reason": "held", "mapping": "hub.b"}
    assert read_where("") == {}
    for text in ("reason", "reason=", "cause=x", "reason=a,reason=b"):
        with pytest.raises(Usage, match="is no condition"):
            read_where(text)


@pytest.mark.parametrize("text", ["", "t", "t:0", "t:0:x", "t:-1:5", ":0:1"])
def test_what_is_no_place_of_a_record(text: str) -> None:
    with pytest.raises(Usage, match="is no record"):
        read_place(text)


def test_the_place_of_a_record() -> None:
    assert read_place("crm.public.customers:0:4711") == Place("crm.public.customers", 0, 4711)
    assert str(read_place("a:1:2")) == "a:1:2"


def test_who_reads_a_topic() -> None:
    crm = loads(PIPELINE)
    two = loads(PIPELINE.replace("target: memory", "targets: [one, two]"))
    parts = [two.part("one"), two.part("two")]
    assert reader_of(TOPIC, [crm]) is crm
    with pytest.raises(Usage, match="no pipeline reads the topic"):
        reader_of("crm.public.others", [crm])
    with pytest.raises(Usage, match="several pipelines read") as several:
        reader_of(TOPIC, parts)
    assert "simulated:one or simulated:two" in str(several.value)


def test_too_much_is_told_while_no_retry_is_asked_for() -> None:
    pipeline = loads(f"{PIPELINE}parked: {{max: 1, max_age: 1h}}\n")
    first, second = entry(1, "[1]", "refused"), entry(2, "[1]")
    at_us = int(first.parked_at.timestamp() * 1e6)
    assert too_much(pipeline, [first], at_us) == ""
    assert "2 records are parked" in too_much(pipeline, [first, second], at_us)
    assert "longer than the 3,600 s" in too_much(pipeline, [first], at_us + 3_601_000_000)
    asked = msgspec.structs.replace(second, retry_requested=True)
    assert too_much(pipeline, [first, asked], at_us + 3_601_000_000) == ""


def test_keys_are_not_broken_in_a_narrow_window(capsys: pytest.CaptureFixture[str]) -> None:
    long = "crm.public.a_table_with_quite_a_long_name_as_they_come:11:123456789012"
    print_entries(("id", "reason"), [(("7", "refused"), (long, "why")), (("1234", "held"), (long, ""))], right=("id",))
    assert capsys.readouterr().out.splitlines() == [
        "  id  reason",
        "─" * 12,
        "   7  refused",
        f"    {long}",
        "    why",
        "1234  held",
        f"    {long}",
    ]
