"""Conflict rules from the record to the row: a real worker on a simulated source, decoded in blocks."""

from __future__ import annotations

from cdc.target.memory import StoredRow, Table
from tests.simulator import PIPELINE, World

RULES = """
rules:
  hub.people:
    on: {insert_exists: target_wins, update_missing: skip, update_origin_differs: target_wins}
    columns: {notes: keep_if_null}
"""
MAPPING = "simulated/hub.people"


def test_a_worker_tells_creates_from_updates() -> None:
    world = World(pipeline=PIPELINE + RULES)
    world.storage.tables[MAPPING] = Table(rows={(1,): StoredRow((1, "theirs", "x"))})
    for key in range(1, 5):
        world.source.put(key, "created", "y")
    world.start("one")
    world.settle()
    world.storage.tables[MAPPING].rows.pop((2,))  # somebody removes one
    for key in range(1, 5):
        world.source.put(key, "updated", None)
    world.settle()
    assert world.target_rows() == {1: ("theirs", "x"), 3: ("updated", "y"), 4: ("updated", "y")}
    told = {(outcome, reason): number for (_, _, outcome, reason), number in world.storage.tallies.items() if reason}
    assert told == {
        ("skipped", "insert_exists:target_wins"): 1,
        ("skipped", "update_origin_differs:target_wins"): 1,
        ("skipped", "update_missing:skip"): 1,
    }
