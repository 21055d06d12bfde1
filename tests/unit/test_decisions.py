"""What is told of conflicts."""

from __future__ import annotations

from cdc.decisions import LONGEST, met, seen
from cdc.model import UNAVAILABLE, Action, Conflict, ConflictType, Decision, Outcome, Seen


def test_only_what_differs_is_seen() -> None:
    before, incoming = {"id": 1, "a": "x", "b": None}, {"id": 1, "a": "y", "b": UNAVAILABLE}
    assert seen(before, incoming, {"id": 1, "a": "x", "b": None}) == Seen({"a": "x"}, {"a": "y"}, {"a": "x"})


def test_all_of_it_where_a_side_is_missing() -> None:
    row = {"id": 1, "b": True, "c": b"\x01"}
    texts = {"id": "1", "b": "true", "c": "01"}
    assert seen(row, None, None) == Seen(texts, None, None)


def test_what_no_target_could_keep_is_escaped_and_long_texts_are_cut() -> None:
    told = seen(None, {"a": "x\0\ud800", "b": "y" * (LONGEST + 1)}, None).incoming
    assert told is not None
    assert told["a"] == "x\\0\\ud800"
    assert told["b"] == "y" * LONGEST + "… (1,001 characters)"


def test_long_texts_are_compared_whole() -> None:
    long = "y" * LONGEST
    assert seen({"a": long + "1"}, {"a": long + "2"}, {"a": long + "2"}).before is not None


def test_the_conflict_of_a_decision() -> None:
    own = Conflict(ConflictType.INSERT_EXISTS, Action.MERGE)
    assert met(Decision(Outcome.APPLIED, conflict=own)) is own
    parked = Conflict(ConflictType.SECOND_UNIQUE_VIOLATION, Action.PARK)
    assert met(Decision(Outcome.PARKED, "unique_violation")) == parked
    assert met(Decision(Outcome.SKIPPED, "stale")) == Conflict(ConflictType.STALE, Action.SKIP)
    for nothing in (Decision(Outcome.PARKED, "held"), Decision(Outcome.SKIPPED, "filtered"), Decision(Outcome.APPLIED)):
        assert met(nothing) is None
