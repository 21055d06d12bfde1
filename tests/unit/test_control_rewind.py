"""Rewind: the plan is a pure function; every place is what was asked for or refused, never the nearest one."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from cdc.control.rewind import TopicFacts, plan
from cdc.control.rewind_request import Place, Request, read_time, read_undo, request_of
from cdc.errors import Usage
from cdc.model import TopicPartition
from cdc.target.operator import PartitionState

A, B = TopicPartition("crm.public.a", 0), TopicPartition("crm.public.a", 1)
OTHER = TopicPartition("crm.public.b", 0)
FACTS = TopicFacts({A: 10, B: 0, OTHER: 0}, {A: 100, B: 50, OTHER: 7}, {"crm.public.a": "ida", "crm.public.b": "idb"})
ALL = Request("earliest")


def stored(partition: TopicPartition, next_: int | None, topic_id: str = "") -> PartitionState:
    return PartitionState(partition, topic_id or FACTS.ids[partition.topic], next_, 1, "tracker", 5)


STATES = [stored(A, 80), stored(B, 50), stored(OTHER, None)]


def outcome(request: Request, states: list[PartitionState] = STATES) -> dict[tuple[str, int], tuple[object, ...]]:
    """By partition: (from, to, replayed, left out) of those that move; ('refused',) or ('stays',) of the others."""
    return {
        (step.topic[-1], step.partition): (step.before, step.after, step.replayed, step.left_out)
        if step.moves
        else ("refused",)
        if step.refused
        else ("stays",)
        for step in plan("crm", request, states, FACTS).steps
    }


def test_to_the_ends_of_what_the_topics_hold() -> None:
    assert outcome(ALL) == {("a", 0): (80, 10, 70, 0), ("a", 1): (50, 0, 50, 0), ("b", 0): ("stays",)}
    assert outcome(Request("latest")) == {("a", 0): (80, 100, 0, 20), ("a", 1): ("stays",), ("b", 0): (None, 7, 0, 7)}


def test_an_offset_that_is_not_there_is_refused_and_not_clamped() -> None:
    found = plan("crm", Request("offset", number=5), STATES, FACTS)
    assert [bool(step.refused) for step in found.steps] == [True, False, False]
    assert "offsets 5 to 9 are gone: retention passed them" in found.steps[0].refused
    assert outcome(Request("offset", number=60)) == {
        ("a", 0): (80, 60, 20, 0),
        ("a", 1): ("refused",),
        ("b", 0): ("refused",),
    }
    assert outcome(Request("offset", number=7, scope={"crm.public.b": None})) == {("b", 0): (None, 7, 0, 7)}


def test_shift_knows_nothing_of_partitions_without_a_watermark() -> None:
    assert outcome(Request("shift", number=-30)) == {
        ("a", 0): (80, 50, 30, 0),
        ("a", 1): (50, 20, 30, 0),
        ("b", 0): ("stays",),
    }
    below = plan("crm", Request("shift", number=-60, scope={"crm.public.a": frozenset({1})}), STATES, FACTS)
    assert below.steps[0].refused == "there is no offset -10"


def test_a_time_after_the_last_record_is_the_end_and_one_before_the_first_is_refused() -> None:
    at = {A: 10, B: 20, OTHER: None}
    facts = TopicFacts(FACTS.starts, FACTS.ends, FACTS.ids, at)
    request = Request("datetime", at=datetime(2026, 11, 23, 10, 0, tzinfo=UTC))
    found = plan("crm", request, STATES, facts)
    assert found.at == "2026-11-23T10:00:00.000+00:00"
    first, second, third = found.steps
    assert "may be gone: the topic begins at offset 10" in first.refused
    assert (second.before, second.after, second.replayed) == (50, 20, 30)
    assert (third.after, third.note) == (7, "no record at or after that time: the topic's end")


def test_a_topic_that_was_created_again() -> None:
    old = [stored(A, 4000, "another"), *STATES[1:]]
    assert outcome(ALL, old)["a", 0] == (4000, 10, 0, 0)
    assert outcome(Request("latest"), old)["a", 0] == (4000, 100, 0, 90)
    assert outcome(Request("offset", number=50), old)["a", 0] == ("refused",)
    same = [stored(A, 10, "another"), *STATES[1:]]
    assert outcome(ALL, same)["a", 0] == (10, 10, 0, 0)  # the number is the same, the topic is not: it moves


def test_partitions_that_no_worker_took() -> None:
    assert outcome(ALL, STATES[1:])["a", 0] == ("stays",)
    assert outcome(Request("latest"), STATES[1:])["a", 0] == ("refused",)
    gone = TopicPartition("crm.public.a", 9)
    found = plan("crm", Request("file", places={gone: Place(4)}), STATES, FACTS)
    assert [step.partition for step in found.steps if step.refused] == [9]


def test_the_scope_leaves_everything_else_alone() -> None:
    assert set(outcome(Request("earliest", scope={"crm.public.a": frozenset({1})}))) == {("a", 1)}
    assert set(outcome(Request("earliest", scope={"crm.public.a": None}))) == {("a", 0), ("a", 1)}
    assert outcome(Request("file", places={A: Place(None)})) == {("a", 0): (80, None, 70, 0)}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ({}, "no place"),
        ({"to_earliest": True, "to_latest": True}, "several places"),
        ({"to_offset": -1}, "offsets begin at 0"),
        ({"shift_by": 0}, "moves nothing"),
        ({"to_datetime": "yesterday"}, "is no time"),
        ({"to_earliest": True, "topic": ["t:x"]}, "partitions are numbers"),
        ({"to_earliest": True, "topic": ["t", "t:1"]}, "given twice"),
        ({"from_file": Path("no such file")}, "cannot read the file"),
    ],
)
def test_what_a_command_line_cannot_say(words: dict[str, object], told: str) -> None:
    with pytest.raises(Usage, match=told):
        request_of(**words)  # type: ignore[arg-type]


def test_times() -> None:
    assert read_time("2026-11-23T10:00:00") == datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
    assert read_time("2026-11-23T11:00:00+01:00") == datetime(2026, 11, 23, 10, 0, tzinfo=UTC)


def test_undo_files(tmp_path: Path) -> None:
    file = tmp_path / "undo.csv"
    file.write_text('t,0,5,"{""epoch"":1}"\nt,1,,\nt,2,7\n', encoding="utf-8")
    assert read_undo(file) == {
        TopicPartition("t", 0): Place(5, '{"epoch":1}'),
        TopicPartition("t", 1): Place(None, ""),
        TopicPartition("t", 2): Place(7, None),
    }
    for text, line in (("t,0,5\nt,one,5\n", 2), ("t\n", 1), ("t,0,5,x,y\n", 1)):
        file.write_text(text, encoding="utf-8")
        with pytest.raises(Usage) as error:
            read_undo(file)
        assert error.value.where == f"{file}:{line}"
    file.write_text("", encoding="utf-8")
    with pytest.raises(Usage, match="names no place"):
        read_undo(file)
