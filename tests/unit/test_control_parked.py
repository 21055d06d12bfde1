"""Parked records: queues by key, and which records a command line means."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from cdc.control.parked import ParkedRecord, choose, described, grouped, read_where
from cdc.errors import Usage
from cdc.model import TopicPartition
from cdc.target.operator import ParkedEntry


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
    assert sorted(grouped(RECORDS, "table"))[-1] == ("crm", "crm/hub.b", 1)
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
