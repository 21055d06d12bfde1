"""Rules to test with, random scripts for them, and the comparison with the oracle."""

from __future__ import annotations

from hypothesis import strategies as st

from cdc.model import UNAVAILABLE, Action, Combine, ConflictType, Detect, Rules, TargetTable, Unit
from cdc.target.base import hold_of
from tests.fix_targets import Bench
from tests.rules import NAME, NOTES, NUMBER, VERSION, Change, Foreign, Step, expected, of_oracle, play, rows_of

_ROW = (ConflictType.INSERT_EXISTS, ConflictType.UPDATE_DIFFERING, ConflictType.UPDATE_ORIGIN_DIFFERS)
_ALL = (*_ROW, ConflictType.KEY_EXISTS)


def on(action: Action, *types: ConflictType) -> tuple[tuple[ConflictType, Action], ...]:
    return tuple((type_, action) for type_ in types)


_COMPARED = (NAME, NOTES, NUMBER, VERSION)
_COLUMNS = (
    Unit(Combine.KEEP_IF_NULL, (NAME,)),
    Unit(Combine.FILL_NULLS, (NOTES,)),
    Unit(Combine.MAX, (NUMBER,)),
    Unit(Combine.TARGET_WINS, (VERSION,)),
)
_GROUP = (Unit(Combine.NEWEST, (NAME, NOTES), VERSION), Unit(Combine.MAX, (VERSION,)), Unit(Combine.MIN, (NUMBER,)))
_DELETES = (ConflictType.DELETE_RECENTLY_UPDATED,)

RULE_SETS: dict[str, Rules] = {
    "nothing said": Rules(),
    "columns of each kind": Rules(units=_COLUMNS),
    "a group by its version": Rules(units=_GROUP),
    "an oldest group, and groups as a unit": Rules(
        units=(
            Unit(Combine.OLDEST, (NAME,), VERSION),
            Unit(Combine.MIN, (VERSION,)),
            Unit(Combine.KEEP_IF_NULL, (NOTES, NUMBER)),
        )
    ),
    "rows of others stay": Rules(on=on(Action.TARGET_WINS, *_ALL, *_DELETES), units=_COLUMNS[:2]),
    "a part of it is parked": Rules(on=on(Action.PARK, ConflictType.INSERT_EXISTS, ConflictType.DELETE_MISSING)),
    "what is missing is skipped": Rules(
        on=on(Action.SKIP, ConflictType.UPDATE_MISSING, ConflictType.UPDATE_RECENTLY_DELETED)
    ),
    "what is missing is parked": Rules(
        on=on(Action.PARK, ConflictType.UPDATE_MISSING, ConflictType.UPDATE_RECENTLY_DELETED)
    ),
    "changed columns, the row stays": Rules(
        Detect.CHANGED_COLUMNS, compared=_COMPARED, on=on(Action.TARGET_WINS, *_ALL, *_DELETES)
    ),
    "changed columns, with a rule": Rules(
        Detect.CHANGED_COLUMNS, compared=(NAME, NOTES, VERSION), units=(Unit(Combine.MAX, (NUMBER,)),)
    ),
    "all columns, parked": Rules(Detect.ALL_COLUMNS, compared=_COMPARED, on=on(Action.PARK, *_ROW)),
    "all columns, as it is": Rules(
        Detect.ALL_COLUMNS,
        compared=(NAME, NUMBER, VERSION),
        units=(Unit(Combine.KEEP_IF_NULL, (NOTES,)),),
        on=on(Action.SOURCE_WINS, *_ALL),
    ),
    "version, newest": Rules(Detect.VERSION, VERSION, on=on(Action.NEWEST, *_ALL, *_DELETES)),
    "version, if newer": Rules(Detect.VERSION, VERSION, on=on(Action.UPDATE_IF_NEWER, *_ALL, *_DELETES)),
    "version, oldest": Rules(Detect.VERSION, VERSION, on=on(Action.OLDEST, *_ALL, *_DELETES), units=_COLUMNS[:2]),
    "commit time, newest": Rules(Detect.COMMIT_TIME, on=on(Action.NEWEST, *_ALL, *_DELETES)),
    "commit time, parked": Rules(Detect.COMMIT_TIME, on=on(Action.PARK, *_ROW), units=_COLUMNS),
}


def check(bench: Bench, table: TargetTable, steps: list[Step], *, single: bool, blocks: bool) -> None:
    """The script leaves on the target what it leaves on the oracle."""
    assert table.rules is not None
    rows = rows_of(table.rules, steps)
    oracle, decisions = expected(table, rows)
    played = play(bench, table, rows, single=single, blocks=blocks)
    assert (played.rows, played.positions) == of_oracle(oracle)
    assert set(played.parked) == {hold_of(key) for key in oracle.parked}
    assert played.tallies.total() == len(decisions)
    assert min(played.tallies.values(), default=0) >= 0


def scripts() -> st.SearchStrategy[list[Step]]:
    """Two keys, few positions, few values: everything meets everything. Half of the changes know what was before them,
    as a source would; the others claim anything."""
    texts = st.sampled_from(["a", "b", None])
    number = st.sampled_from([1, 2, None])
    values = st.tuples(texts, texts, number, number)
    partial = st.tuples(texts, st.just(UNAVAILABLE), number, number)
    key, at, time = st.integers(1, 2), st.integers(1, 9), st.sampled_from([1, 2, 3])
    changes = [
        st.builds(Change, st.sampled_from("cru"), key, values, at, st.none(), time),
        st.builds(Change, st.just("u"), key, values, at, values, time),
        st.builds(Change, st.just("u"), key, partial, at, st.none(), time),
        st.builds(Change, st.just("d"), key, st.none(), at, st.none() | values, time),
        st.builds(Change, st.just("c"), key, values, at, st.none(), time, st.integers(3, 4)),
    ]
    foreign = [
        st.builds(Foreign, st.sampled_from(["theirs", "edited"]), key, values),
        st.builds(Foreign, st.just("gone"), key),
    ]
    step: st.SearchStrategy[Step] = st.one_of(*changes, *foreign)
    return st.lists(step, max_size=10).flatmap(lambda steps: st.booleans().map(lambda true: _truthful(steps, true)))


def _truthful(steps: list[Step], truthful: bool) -> list[Step]:
    """`truthful`: in the order of the source, each update with the values that the change before left there."""
    if not truthful:
        return steps
    known: dict[int, tuple[object, ...]] = {}
    found: list[Step] = []
    for number, step in enumerate(steps):
        if isinstance(step, Foreign):
            found.append(step)
            continue
        before = None if step.before is None else known.get(step.key)
        op = step.op if step.op == "d" or step.key in known else "c"
        if op == "c" and UNAVAILABLE in (step.values or ()):
            continue
        found.append(Change(op, step.key, step.values, 10 + number, before, step.time))
        known.pop(step.key, None)
        if step.values is not None and UNAVAILABLE not in step.values:
            known[step.key] = step.values
    return found
