"""Every type of conflict with every action that makes sense, and every way columns combine: what must come out is
written here by hand, and the oracle, the memory target and real PostgreSQL must all say the same.

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
    ColumnType,
    Combine,
    ConflictType,
    DeletePolicy,
    Detect,
    Kind,
    MappedRow,
    Outcome,
    Position,
    Rules,
    TargetColumn,
    TargetTable,
    Unit,
    Write,
)
from cdc.rules import ALLOWED
from cdc.target.base import Owner
from cdc.target.postgres import PostgresTarget
from tests import rules
from tests.fix_targets import Bench, MemoryBench, differs
from tests.rules import (
    NAME,
    NOTES,
    NUMBER,
    VERSION,
    Change,
    Foreign,
    Step,
    Values,
    expected,
    of_oracle,
    play,
    rows_of,
    run,
)
from tests.rules_cases import check
from tests.tapes import PARTITION

_numbers = itertools.count(1)
UNITS = (Unit(Combine.KEEP_IF_NULL, (NOTES,)), Unit(Combine.MAX, (NUMBER,)))


def new_table(given: Rules, policy: DeletePolicy = DeletePolicy.DELETE) -> TargetTable:
    return rules.table(f"rules_{next(_numbers)}", given, policy)


@pytest.fixture
def ruled(bench: Bench) -> Bench:
    """Targets that decide conflicts by rules."""
    with closing(bench.target()) as target:
        if not target.capabilities.rules:
            pytest.skip("decides no conflicts")
    return MemoryBench() if isinstance(bench, MemoryBench) else bench  # which copies all its tables all the time


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


# -- how columns combine: (combine, there, incoming, what comes out) of (number, version)

_N = None
COMBINED = [
    (Combine.SOURCE_WINS, (5, 5), (_N, 6), (_N, 6)),
    (Combine.TARGET_WINS, (5, 5), (7, 6), (5, 6)),
    (Combine.TARGET_WINS, (_N, 5), (7, 6), (_N, 6)),
    (Combine.KEEP_IF_NULL, (5, 5), (7, 6), (7, 6)),
    (Combine.KEEP_IF_NULL, (5, 5), (_N, 6), (5, 6)),
    (Combine.FILL_NULLS, (5, 5), (7, 6), (5, 6)),
    (Combine.FILL_NULLS, (_N, 5), (7, 6), (7, 6)),
    (Combine.MAX, (5, 5), (7, 6), (7, 6)),
    (Combine.MAX, (5, 5), (3, 6), (5, 6)),
    (Combine.MAX, (5, 5), (_N, 6), (5, 6)),
    (Combine.MAX, (_N, 5), (3, 6), (3, 6)),
    (Combine.MIN, (5, 5), (7, 6), (5, 6)),
    (Combine.MIN, (5, 5), (3, 6), (3, 6)),
    (Combine.MIN, (5, 5), (_N, 6), (5, 6)),
    (Combine.MIN, (_N, 5), (3, 6), (3, 6)),
    (Combine.NEWEST, (5, 5), (7, 6), (7, 6)),
    (Combine.NEWEST, (5, 5), (7, 5), (7, 5)),
    (Combine.NEWEST, (5, 5), (7, 4), (5, 5)),
    (Combine.NEWEST, (5, 5), (7, _N), (5, 5)),
    (Combine.NEWEST, (5, _N), (7, 4), (7, 4)),
    (Combine.OLDEST, (5, 5), (7, 6), (5, 5)),
    (Combine.OLDEST, (5, 5), (7, 5), (5, 5)),
    (Combine.OLDEST, (5, 5), (7, 4), (7, 4)),
    (Combine.OLDEST, (5, 5), (7, _N), (5, 5)),
    (Combine.OLDEST, (5, _N), (7, 4), (7, 4)),
]
_VERSIONS = {Combine.NEWEST: (Unit(Combine.MAX, (VERSION,)),), Combine.OLDEST: (Unit(Combine.MIN, (VERSION,)),)}


@pytest.mark.parametrize(("combine", "there", "incoming", "out"), COMBINED)
def test_columns(ruled: Bench, combine: Combine, there: Values, incoming: Values, out: Values) -> None:
    """Two changes one after the other, apart and in one batch, and a row that somebody edited."""
    version = VERSION if combine in _VERSIONS else None
    units = () if combine is Combine.SOURCE_WINS else (Unit(combine, (NUMBER,), version), *_VERSIONS.get(combine, ()))
    first = Change("c", 1, ("a", "x", *there), 10)
    edits: list[Step] = [Change("c", 1, ("a", "x", 9, None), 10), Foreign("edited", 1, ("a", "x", *there))]
    for steps in ([first], edits):
        for single, blocks in itertools.product((True, False), repeat=2):
            table = new_table(Rules(units=units))
            tape = rows_of(table.rules or Rules(), [*steps, Change("u", 1, ("b", "x", *incoming), 20)])
            assert of_oracle(expected(table, tape)[0])[0] == {1: ("b", "x", *out)}
            assert play(ruled, table, tape, single=single, blocks=blocks).rows == {1: ("b", "x", *out)}


GROUPS = [
    (Combine.KEEP_IF_NULL, ("a", "x"), (None, None), ("a", "x")),
    (Combine.KEEP_IF_NULL, ("a", "x"), (None, "y"), (None, "y")),
    (Combine.FILL_NULLS, (None, None), ("b", None), ("b", None)),
    (Combine.FILL_NULLS, ("a", None), ("b", "y"), ("a", None)),
    (Combine.TARGET_WINS, ("a", None), ("b", "y"), ("a", None)),
    (Combine.NEWEST, ("a", "x"), ("b", None), ("b", None)),
    (Combine.OLDEST, ("a", "x"), ("b", None), ("a", "x")),
]


@pytest.mark.parametrize(("combine", "there", "incoming", "out"), GROUPS)
def test_columns_that_belong_together(
    ruled: Bench, combine: Combine, there: Values, incoming: Values, out: Values
) -> None:
    """All of them come from the same side."""
    version = VERSION if combine in _VERSIONS else None
    given = Rules(units=(Unit(combine, (NAME, NOTES), version), *_VERSIONS.get(combine, ())))
    highest = 2 if combine is not Combine.OLDEST else 1
    steps: list[Step] = [Change("c", 1, (*there, 1, 1), 10), Change("u", 1, (*incoming, 2, 2), 20)]
    for single in (True, False):
        table = new_table(given)
        tape = rows_of(given, steps)
        assert of_oracle(expected(table, tape)[0])[0] == {1: (*out, 2, highest)}
        assert play(ruled, table, tape, single=single, blocks=True).rows == {1: (*out, 2, highest)}


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


KINDS: dict[str, tuple[ColumnType, list[Any]]] = {
    "integer": (ColumnType(Kind.INTEGER, "int8"), [-5, 0, 1 << 40]),
    "decimal": (ColumnType(Kind.DECIMAL, "numeric"), ["-10.5", "9.1", "9.10000000000000000000000001", "10", "NaN"]),
    "float": (ColumnType(Kind.FLOAT64, "float8"), [float("-inf"), -0.5, 1e300, float("nan")]),
    "text": (ColumnType(Kind.TEXT, "text"), ["", "B", "a", "ä", "\uffff", "𝔘"]),
    "bytes": (ColumnType(Kind.BYTES, "bytea"), [b"", b"\x00", b"\x00\x01", b"\xff"]),
    "boolean": (ColumnType(Kind.BOOLEAN, "bool"), [False, True]),
    "date": (ColumnType(Kind.DATE, "date"), [-(1 << 70), -800_000, 0, 1 << 70]),
    "time": (ColumnType(Kind.TIME, "time", scale=6), [0, 1, 86_400_000_000]),
    "timestamp": (ColumnType(Kind.TIMESTAMP, "timestamp", scale=6), [-(1 << 70), -1, 0, 1 << 70]),
    "timestamptz": (
        ColumnType(Kind.TIMESTAMPTZ, "timestamptz", scale=6),
        [
            *("-infinity", "-0043-03-15T00:00:00Z", "0999-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
            *("2026-01-01T00:00:00.1Z", "2026-01-01T00:00:00.12Z", "+10000-01-01T00:00:00Z", "infinity"),
        ],
    ),
    "uuid": (
        ColumnType(Kind.UUID, "uuid"),
        ["00000000-0000-0000-0000-000000000001", "a0000000-0000-0000-0000-000000000000"],
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_values_have_one_order(ruled: Bench, kind: str) -> None:
    """The highest of all, in whatever order and batches they come, and the lowest."""
    type_, ascending = KINDS[kind]
    for combine, wanted in ((Combine.MAX, ascending[-1]), (Combine.MIN, ascending[0])):
        for values, single in itertools.product((ascending, ascending[::-1]), (True, False)):
            base = new_table(Rules(units=(Unit(combine, (1,)),)))
            columns = (base.columns[0], TargetColumn("name", type_))
            table = msgspec.structs.replace(base, columns=columns, partials=False)
            changes: list[Step] = [Change("c", 1, (value,), at) for at, value in enumerate(values, 1)]
            run(ruled, table, rows_of(Rules(), changes), single=single, blocks=True)
            alone = msgspec.structs.replace(table, mapping=f"{base.mapping}_", name=f"{base.name}_", rules=None)
            run(ruled, alone, rows_of(Rules(), [Change("c", 1, (wanted,), 1)]), single=True, blocks=True)
            assert _shown(ruled, table) == _shown(ruled, alone)


def _shown(bench: Bench, table: TargetTable) -> str:
    memory = isinstance(bench, MemoryBench)
    return repr(bench.rows(table, ("name",)) if memory else bench.shown(table, "name"))


# -- what PostgreSQL refuses


@pytest.mark.parametrize("action", [None, Action.SKIP, Action.PARK, Action.ERROR])
@pytest.mark.parametrize("type_", [ConflictType.VALUE_OUT_OF_RANGE, ConflictType.SECOND_UNIQUE_VIOLATION])
def test_rows_that_are_refused(ruled: Bench, type_: ConflictType, action: Action | None) -> None:
    differs(ruled, "unique columns")
    table = new_table(Rules(on=() if action is None else ((type_, action),)))
    play(ruled, table, [], single=True, blocks=True)
    ruled.run(f"CREATE UNIQUE INDEX unique_{table.name} ON {{table}} (name)", table=table)
    good, bad = Change("c", 1, ("a", "x", 1, 1), 10), Change("c", 2, ("a", "x", 1, 1), 20)
    if type_ is ConflictType.VALUE_OUT_OF_RANGE:
        bad = Change("c", 2, ("b", "x", 1 << 40, 1), 20)
    tape = rows_of(Rules(), [good, bad, Change("c", 3, ("c", "x", 1, 1), 30)])
    if action is Action.ERROR:
        with pytest.raises(Terminal, match=type_):
            play(ruled, table, tape, single=False, blocks=True)
        return
    played = play(ruled, table, tape, single=False, blocks=True)
    assert set(played.rows) == {1, 3}
    reason = "unique_violation" if type_ is ConflictType.SECOND_UNIQUE_VIOLATION else type_
    assert played.parked == ({} if action is Action.SKIP else {"[2]": reason})
    assert played.told == ({f"{Outcome.SKIPPED} {type_}:{action}"} if action is Action.SKIP else set())


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
