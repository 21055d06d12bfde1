"""Every type of conflict with every action that makes sense: what must come out is written here by hand, and the
oracle, the memory target and real PostgreSQL must all say the same.

Values are (name, notes, number, version); without another word, `notes` is keep_if_null and `number` is max.
"""

from __future__ import annotations

import itertools
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from cdc.errors import Terminal
from cdc.model import (
    Action,
    Combine,
    ConflictType,
    DeletePolicy,
    Detect,
    MappedRow,
    Position,
    Rules,
    TargetTable,
    Unit,
    Write,
)
from cdc.rules import ALLOWED
from cdc.target.base import Owner
from cdc.target.postgres import PostgresTarget
from tests.fix_targets import Bench
from tests.rules import (
    NAME,
    NOTES,
    NUMBER,
    VERSION,
    Change,
    Foreign,
    Step,
    expected,
    new_table,
    of_oracle,
    play,
    rows_of,
)
from tests.rules_cases import check
from tests.tapes import PARTITION

UNITS = (Unit(Combine.KEEP_IF_NULL, (NOTES,)), Unit(Combine.MAX, (NUMBER,)))


# -- types and actions

THEIRS = ("t", "t", 5, 5)
COMING = ("s", None, 3, 9)
WRITTEN, MERGED = ("s", None, 3, 9), ("s", "t", 5, 9)
PARKED, STOPS = "parked", "stops"
_STAYS, _MERGES = (THEIRS, None), (MERGED, 20)


@dataclass(frozen=True)
class Scene:
    """A conflict on key 1 (or the key that `at` says), and by action what is there then: values and position (None:
    somebody else's), None for no row, PARKED, STOPS. `before`: what is there when nothing is written."""

    steps: list[Step]
    outcomes: dict[Action, Any]
    before: Any
    rules: Rules = field(default_factory=lambda: Rules(Detect.VERSION, VERSION, units=UNITS))
    policy: DeletePolicy = DeletePolicy.DELETE
    at: int = 1


_ONTO_THEIRS: dict[Action, Any] = {
    Action.SOURCE_WINS: (WRITTEN, 20),
    Action.MERGE: _MERGES,
    Action.TARGET_WINS: _STAYS,
    Action.SKIP: _STAYS,
    Action.NEWEST: _MERGES,
    Action.UPDATE_IF_NEWER: _MERGES,
    Action.OLDEST: _STAYS,
    Action.PARK: PARKED,
    Action.ERROR: STOPS,
}
_OURS = Change("c", 1, ("a", "n", 1, 1), 10)
_EDITED = ("t", "t", 5, 20)
_COMPARED = (NAME, VERSION)
_INSERTED = ((("s", None, 3, 9)), 20)

SCENES: dict[tuple[ConflictType, str], Scene] = {
    (ConflictType.INSERT_EXISTS, "a create"): Scene(
        [Foreign("theirs", 1, THEIRS), Change("c", 1, COMING, 20)],
        {**_ONTO_THEIRS, Action.UPDATE_OR_INSERT: _MERGES, Action.INSERT_OR_SKIP: _STAYS},
        _STAYS,
    ),
    (ConflictType.INSERT_EXISTS, "a snapshot read"): Scene(
        [Foreign("theirs", 1, THEIRS), Change("r", 1, COMING, 20)],
        {**_ONTO_THEIRS, Action.UPDATE_OR_INSERT: _MERGES, Action.INSERT_OR_SKIP: _STAYS},
        _STAYS,
    ),
    (ConflictType.UPDATE_ORIGIN_DIFFERS, "an update"): Scene(
        [Foreign("theirs", 1, THEIRS), Change("u", 1, COMING, 20)], _ONTO_THEIRS, _STAYS
    ),
    (ConflictType.KEY_EXISTS, "a row of somebody else"): Scene(
        [
            Change("c", 2, ("a", "n", 1, 1), 10),
            Foreign("theirs", 1, THEIRS),
            Change("d", 2, None, 20, moved_to=1),
            Change("c", 1, COMING, 20, moved_from=2),
        ],
        {**_ONTO_THEIRS, Action.UPDATE_OR_INSERT: _MERGES, Action.INSERT_OR_SKIP: _STAYS},
        _STAYS,
    ),
    (ConflictType.UPDATE_DIFFERING, "by version"): Scene(
        [_OURS, Foreign("edited", 1, _EDITED), Change("u", 1, COMING, 20)],
        {
            Action.SOURCE_WINS: (WRITTEN, 20),
            Action.MERGE: _MERGES,
            Action.TARGET_WINS: (_EDITED, 20),
            Action.SKIP: (_EDITED, 20),
            Action.NEWEST: (_EDITED, 20),
            Action.UPDATE_IF_NEWER: (_EDITED, 20),
            Action.OLDEST: _MERGES,
            Action.PARK: PARKED,
            Action.ERROR: STOPS,
        },
        (_EDITED, 10),
    ),
    (ConflictType.UPDATE_DIFFERING, "by all columns"): Scene(
        [_OURS, Foreign("edited", 1, ("t", "t", 5, 1)), Change("u", 1, ("a", None, 3, 9), 20, ("a", "n", 1, 1))],
        {
            Action.SOURCE_WINS: (("a", None, 3, 9), 20),
            Action.MERGE: (("a", "t", 5, 9), 20),
            Action.TARGET_WINS: (("t", "t", 5, 1), 20),
            Action.SKIP: (("t", "t", 5, 1), 20),
            Action.PARK: PARKED,
            Action.ERROR: STOPS,
        },
        (("t", "t", 5, 1), 10),
        Rules(Detect.ALL_COLUMNS, compared=_COMPARED, units=UNITS),
    ),
    (ConflictType.UPDATE_DIFFERING, "by changed columns"): Scene(
        [_OURS, Foreign("edited", 1, ("t", "t", 5, 7)), Change("u", 1, ("a", None, 3, 9), 20, ("a", "n", 1, 1))],
        {
            Action.SOURCE_WINS: (("t", None, 3, 9), 20),  # the name was not changed: the row keeps its own
            Action.MERGE: (("t", "t", 5, 9), 20),
            Action.TARGET_WINS: (("t", "t", 5, 7), 20),
            Action.SKIP: (("t", "t", 5, 7), 20),
            Action.PARK: PARKED,
            Action.ERROR: STOPS,
        },
        (("t", "t", 5, 7), 10),
        Rules(Detect.CHANGED_COLUMNS, compared=_COMPARED, units=UNITS),
    ),
    (ConflictType.UPDATE_DIFFERING, "by commit time"): Scene(
        [
            Change("u", 1, ("a", "n", 1, 1), 10, time=200),
            Change("u", 1, COMING, 20, time=100),
        ],
        {
            Action.SOURCE_WINS: (WRITTEN, 20),
            Action.MERGE: (("s", "n", 3, 9), 20),
            Action.TARGET_WINS: (("a", "n", 1, 1), 20),
            Action.SKIP: (("a", "n", 1, 1), 20),
            Action.NEWEST: (("a", "n", 1, 1), 20),
            Action.UPDATE_IF_NEWER: (("a", "n", 1, 1), 20),
            Action.OLDEST: (("s", "n", 3, 9), 20),
            Action.PARK: PARKED,
            Action.ERROR: STOPS,
        },
        (("a", "n", 1, 1), 10),
        Rules(Detect.COMMIT_TIME, units=UNITS),
    ),
    (ConflictType.UPDATE_MISSING, "no row, no memory"): Scene(
        [Change("u", 1, COMING, 20)],
        {Action.UPDATE_OR_INSERT: _INSERTED, Action.SKIP: None, Action.PARK: PARKED, Action.ERROR: STOPS},
        None,
    ),
    (ConflictType.UPDATE_MISSING, "somebody removed it"): Scene(
        [_OURS, Foreign("gone", 1), Change("u", 1, COMING, 20)],
        {Action.UPDATE_OR_INSERT: _INSERTED, Action.SKIP: None, Action.PARK: PARKED, Action.ERROR: STOPS},
        None,
    ),
    (ConflictType.UPDATE_RECENTLY_DELETED, "a tombstone"): Scene(
        [_OURS, Change("d", 1, None, 15, ("a", "n", 1, 1)), Change("u", 1, COMING, 20)],
        {
            Action.UPDATE_OR_INSERT: _INSERTED,
            Action.SOURCE_WINS: _INSERTED,
            Action.SKIP: None,
            Action.TARGET_WINS: None,
            Action.PARK: PARKED,
            Action.ERROR: STOPS,
        },
        None,
    ),
    (ConflictType.UPDATE_RECENTLY_DELETED, "marked as deleted"): Scene(
        [_OURS, Change("d", 1, None, 15, ("a", "n", 1, 1)), Change("u", 1, COMING, 20)],
        {
            Action.UPDATE_OR_INSERT: (("s", "n", 3, 9, False), 20),
            Action.SOURCE_WINS: ((*WRITTEN, False), 20),
            Action.SKIP: (("a", "n", 1, 1, True), 20),
            Action.TARGET_WINS: (("a", "n", 1, 1, True), 20),
            Action.PARK: PARKED,
            Action.ERROR: STOPS,
        },
        (("a", "n", 1, 1, True), 15),
        policy=DeletePolicy.SOFT,
    ),
    (ConflictType.DELETE_MISSING, "somebody removed it"): Scene(
        [_OURS, Foreign("gone", 1), Change("d", 1, None, 20, ("a", "n", 1, 1))],
        {Action.SOURCE_WINS: None, Action.SKIP: None, Action.PARK: PARKED, Action.ERROR: STOPS},
        None,
    ),
    (ConflictType.DELETE_RECENTLY_UPDATED, "by version"): Scene(
        [_OURS, Foreign("edited", 1, _EDITED), Change("d", 1, None, 20, ("a", "n", 1, 1))],
        {
            Action.SOURCE_WINS: None,
            Action.TARGET_WINS: (_EDITED, 20),
            Action.SKIP: (_EDITED, 20),
            Action.NEWEST: (_EDITED, 20),
            Action.UPDATE_IF_NEWER: (_EDITED, 20),
            Action.OLDEST: None,
            Action.PARK: PARKED,
            Action.ERROR: STOPS,
        },
        (_EDITED, 10),
    ),
    (ConflictType.DELETE_RECENTLY_UPDATED, "a row of somebody else"): Scene(
        [Foreign("theirs", 1, THEIRS), Change("d", 1, None, 20, ("a", "n", 1, 9))],
        {
            Action.SOURCE_WINS: None,
            Action.TARGET_WINS: _STAYS,
            Action.SKIP: _STAYS,
            Action.NEWEST: None,
            Action.UPDATE_IF_NEWER: None,
            Action.OLDEST: _STAYS,
            Action.PARK: PARKED,
            Action.ERROR: STOPS,
        },
        _STAYS,
    ),
    (ConflictType.DELETE_RECENTLY_UPDATED, "by all columns"): Scene(
        [_OURS, Foreign("edited", 1, ("t", "n", 1, 1)), Change("d", 1, None, 20, ("a", "n", 1, 1))],
        {
            Action.SOURCE_WINS: None,
            Action.TARGET_WINS: (("t", "n", 1, 1), 20),
            Action.SKIP: (("t", "n", 1, 1), 20),
            Action.PARK: PARKED,
            Action.ERROR: STOPS,
        },
        (("t", "n", 1, 1), 10),
        Rules(Detect.ALL_COLUMNS, compared=_COMPARED, units=UNITS),
    ),
    (ConflictType.DELETE_RECENTLY_UPDATED, "marked instead"): Scene(
        [_OURS, Foreign("edited", 1, _EDITED), Change("d", 1, None, 20, ("a", "n", 1, 1))],
        {
            Action.SOURCE_WINS: ((*_EDITED, True), 20),
            Action.TARGET_WINS: ((*_EDITED, False), 20),
            Action.PARK: PARKED,
        },
        ((*_EDITED, False), 10),
        policy=DeletePolicy.SOFT,
    ),
}

_CASES = [(type_, name, action) for (type_, name), scene in SCENES.items() for action in scene.outcomes]


@pytest.mark.parametrize(
    ("type_", "name", "action"), _CASES, ids=[f"{t}-{n}-{a}".replace(" ", "_") for t, n, a in _CASES]
)
def test_types_and_actions(ruled: Bench, type_: ConflictType, name: str, action: Action) -> None:
    scene = SCENES[type_, name]
    given = msgspec.structs.replace(scene.rules, on=((type_, action),))
    wanted = scene.outcomes[action]
    for single, blocks in itertools.product((True, False), repeat=2):
        table = new_table(given, scene.policy)
        tape = rows_of(given, scene.steps)
        if wanted == STOPS:
            with pytest.raises(Terminal, match=type_):
                expected(table, tape)
            with pytest.raises(Terminal, match=type_) as raised:
                play(ruled, table, tape, single=single, blocks=blocks)
            assert "on: {" in (raised.value.hint or "")
            continue
        there = scene.before if wanted == PARKED else wanted
        oracle, decisions = expected(table, tape)
        played = play(ruled, table, tape, single=single, blocks=blocks)
        for rows, positions in (of_oracle(oracle), (played.rows, played.positions)):
            assert rows.get(scene.at) == (there and there[0])
            if there:
                assert positions[scene.at] == (there[1] and Position(1, there[1], 0))
        if wanted == PARKED:
            assert decisions[-1].reason == type_
            assert played.parked == {f"[{scene.at}]": type_}
        else:
            assert decisions[-1].conflict is not None
            assert (decisions[-1].conflict.type, decisions[-1].conflict.action) == (type_, action)
            assert f"{decisions[-1].outcome} {type_}:{action}" in played.told


def test_every_type_and_action_has_a_case() -> None:
    """What the targets decide on rows; the engine decides the others when a row is refused or a table prepared."""
    refused = {ConflictType.SECOND_UNIQUE_VIOLATION, ConflictType.MULTIPLE_UNIQUE_CONFLICTS}
    refused |= {ConflictType.FOREIGN_KEY_MISSING, ConflictType.VALUE_OUT_OF_RANGE, ConflictType.STALE}
    refused |= {ConflictType.SOURCE_COLUMN_MISSING, ConflictType.TARGET_COLUMN_MISSING}
    refused |= {ConflictType.TARGET_TABLE_MISSING}
    allowed = {(type_, action) for type_, actions in ALLOWED.items() if type_ not in refused for action in actions}
    assert {(type_, action) for type_, _, action in _CASES} == allowed


def test_a_replay_changes_nothing(ruled: Bench) -> None:
    """Also where somebody changed the rows since, and whatever was decided on them."""
    for action in (Action.MERGE, Action.SOURCE_WINS, Action.TARGET_WINS):
        given = Rules(
            Detect.ALL_COLUMNS, compared=_COMPARED, units=UNITS, on=((ConflictType.UPDATE_DIFFERING, action),)
        )
        changes: list[Step] = [
            _OURS,
            Change("u", 1, ("b", "n", 2, 2), 20, ("a", "n", 1, 1)),
            Change("c", 2, ("a", "n", 1, 1), 30),
            Change("d", 2, None, 40, ("a", "n", 1, 1)),
        ]
        steps = [*changes, Foreign("edited", 1, ("t", "t", 0, 0)), Foreign("theirs", 2, THEIRS), *changes]
        table = new_table(given)
        played = play(ruled, table, rows_of(given, steps), single=False, blocks=False)
        assert played.rows == {1: ("t", "t", 0, 0), 2: THEIRS}
        assert played.told == set()
        check(ruled, new_table(given), steps, single=True, blocks=True)


def test_without_a_before_image_nothing_is_compared(ruled: Bench) -> None:
    given = Rules(Detect.ALL_COLUMNS, compared=_COMPARED, on=((ConflictType.UPDATE_DIFFERING, Action.PARK),))
    steps = [_OURS, Foreign("edited", 1, _EDITED), Change("u", 1, COMING, 20)]
    played = play(ruled, new_table(given), rows_of(given, steps), single=True, blocks=True)
    assert (played.rows, played.parked) == ({1: COMING}, {})


def test_what_a_change_did_not_change_keeps_what_somebody_wrote(ruled: Bench) -> None:
    given = Rules(Detect.CHANGED_COLUMNS, compared=(NAME, NOTES, NUMBER, VERSION))
    steps: list[Step] = [
        _OURS,
        Foreign("edited", 1, ("a", "theirs", 1, 1)),
        Change("u", 1, ("b", "n", 1, 1), 20, ("a", "n", 1, 1)),
        Change("u", 1, ("c", "n", 2, 1), 30, ("b", "n", 1, 1)),
    ]
    for single in (True, False):
        played = play(ruled, new_table(given), rows_of(given, steps), single=single, blocks=False)
        assert (played.rows, played.told) == ({1: ("c", "theirs", 2, 1)}, set())


def test_a_change_dated_in_the_future_is_parked(ruled: Bench) -> None:
    given = Rules(Detect.COMMIT_TIME, max_skew_us=60_000_000)
    beyond = 4_102_444_800_000_000  # the year 2100
    steps = [
        Change("c", 1, THEIRS, 10, time=beyond),
        Change("c", 2, THEIRS, 20, time=1),
        Change("u", 2, COMING, 30, time=2),
        Change("u", 2, COMING, 40, time=beyond),
    ]
    for single in (True, False):
        played = play(ruled, new_table(given), rows_of(given, steps), single=single, blocks=False)
        assert played.rows == {2: COMING}
        assert played.parked == {"[1]": "clock_skew", "[2]": "clock_skew"}


def test_updates_into_an_empty_table_are_decided(ruled: Bench) -> None:
    """A table that is empty is loaded directly, but not with what should be there: in no batch, and in no other way."""
    skip = ((ConflictType.UPDATE_MISSING, Action.SKIP),)
    for given in (Rules(on=skip), Rules(Detect.ALL_COLUMNS, units=UNITS, on=skip)):
        for single, blocks in itertools.product((True, False), repeat=2):
            steps = [Change("u", 1, COMING, 10), Change("c", 2, COMING, 20), Change("c", 3, COMING, 30)]
            played = play(ruled, new_table(given), rows_of(given, steps), single=single, blocks=blocks)
            assert played.rows == {2: COMING, 3: COMING}
            assert played.told == {"skipped update_missing:skip"}
            assert played.tallies.total() == 3


def test_conflicts_never_cost_a_statement_a_row(ruled: Bench) -> None:
    """As many statements for one conflict of each kind as for fifty."""
    if not isinstance(ruled.target(), PostgresTarget):
        pytest.skip("counts PostgreSQL's statements")
    assert _statements(ruled, 50) == _statements(ruled, 1)


def _statements(bench: Bench, number: int) -> int:
    given = Rules(Detect.VERSION, VERSION, units=UNITS, on=((ConflictType.UPDATE_ORIGIN_DIFFERS, Action.TARGET_WINS),))
    table = new_table(given)
    keys = [range(kind * 100, kind * 100 + number) for kind in range(4)]
    before: list[Step] = [Change("c", key, ("a", "n", 1, 1), 10) for key in (*keys[0], *keys[1])]
    before += [Foreign("edited", key, _EDITED) for key in keys[0]]
    before += [Foreign("theirs", key, THEIRS) for key in keys[2]]
    play(bench, table, rows_of(given, before), single=False, blocks=True)
    changes: list[Step] = [Change("u", key, COMING, 20) for key in itertools.chain(*keys)]
    rows = [row for row in rows_of(given, changes) if isinstance(row, MappedRow)]
    target = bench.target()
    assert isinstance(target, PostgresTarget)
    with closing(target):
        return counted(target, table, rows)


def counted(target: PostgresTarget, table: TargetTable, rows: list[MappedRow]) -> int:
    """Statements of one round."""
    target.open(Owner(table.name, "target"))
    target.take({PARTITION: "topic-id"})
    target.prepare(table)
    seen = 0
    execute = target.connection.execute

    def counting(*args: Any, **more: Any) -> Any:
        nonlocal seen
        seen += 1
        return execute(*args, **more)

    target.connection.execute = counting  # type: ignore[method-assign]
    with target.begin() as transaction:
        decisions = transaction.write(table, [Write(row, row.position) for row in rows])
    target.connection.execute = execute  # type: ignore[method-assign]
    assert len(decisions) == len(rows) * 3 // 4
    return seen
