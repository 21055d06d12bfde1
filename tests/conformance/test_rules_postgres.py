"""Conflict rules where only a database can break them: what a table refuses, lacks or orders otherwise, and somebody
who writes in the middle of a round."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import msgspec
import psycopg
import pytest

from cdc.errors import Terminal, Transient
from cdc.model import Action, Combine, ConflictType, MappedRow, Outcome, Rules, TargetTable, Unit, Write
from cdc.target.base import Owner
from cdc.target.postgres import PostgresTarget
from tests.fix_targets import Bench, differs
from tests.rules import NAME, VERSION, Change, Foreign, new_table, play, rows_of

pytestmark = pytest.mark.database


@pytest.fixture
def strict(ruled: Bench) -> Bench:
    differs(ruled, "unique columns")
    return ruled


def prepared(bench: Bench, rules: Rules, statement: str = "") -> TargetTable:
    """A new table, changed by somebody."""
    table = new_table(rules)
    play(bench, table, [], single=True, blocks=True)
    if statement:
        bench.run(statement.replace("{name}", table.name), table=table)
    return table


@pytest.mark.parametrize("action", [None, Action.SKIP, Action.PARK, Action.ERROR])
@pytest.mark.parametrize(
    ("type_", "reason", "statement", "bad"),
    [
        (
            ConflictType.VALUE_OUT_OF_RANGE,
            "value_out_of_range",
            "",
            Change("c", 2, ("b", "x", 1 << 40, 1), 20),
        ),
        (
            ConflictType.SECOND_UNIQUE_VIOLATION,
            "unique_violation",
            "CREATE UNIQUE INDEX one_{name} ON {table} (name)",
            Change("c", 2, ("a", "x", 1, 1), 20),
        ),
        (
            ConflictType.MULTIPLE_UNIQUE_CONFLICTS,
            "multiple_unique_conflicts",
            "CREATE UNIQUE INDEX one_{name} ON {table} (name);"
            " CREATE UNIQUE INDEX two_{name} ON {table} (notes, version)",
            Change("c", 2, ("a", "x", 1, 1), 20),
        ),
        (
            ConflictType.FOREIGN_KEY_MISSING,
            "foreign_key_missing",
            "ALTER TABLE {table} ADD FOREIGN KEY (number) REFERENCES {table} (id)",
            Change("c", 2, ("b", "x", 77, 1), 20),
        ),
    ],
)
def test_rows_that_are_refused(
    strict: Bench, type_: ConflictType, reason: str, statement: str, bad: Change, action: Action | None
) -> None:
    table = prepared(strict, Rules(on=() if action is None else ((type_, action),)), statement)
    tape = rows_of(Rules(), [Change("c", 1, ("a", "x", 1, 1), 10), bad, Change("c", 3, ("c", "y", 3, 3), 30)])
    if action is Action.ERROR:
        with pytest.raises(Terminal, match=type_):
            play(strict, table, tape, single=False, blocks=True)
        return
    played = play(strict, table, tape, single=False, blocks=True)
    assert set(played.rows) == {1, 3}
    if action is None and type_ is ConflictType.MULTIPLE_UNIQUE_CONFLICTS:
        reason = "unique_violation"  # nobody asked for more
    assert played.parked == ({} if action is Action.SKIP else {"[2]": reason})
    assert played.told == ({f"{Outcome.SKIPPED} {type_}:{action}"} if action is Action.SKIP else set())


@pytest.mark.parametrize(
    ("type_", "statement"),
    [
        (ConflictType.TARGET_COLUMN_MISSING, "ALTER TABLE {table} DROP COLUMN notes"),
        (ConflictType.TARGET_TABLE_MISSING, "DROP TABLE {table}"),
    ],
)
def test_what_is_missing_is_made_or_not(strict: Bench, type_: ConflictType, statement: str) -> None:
    table = prepared(strict, Rules(), statement)
    by_rule = msgspec.structs.replace(table, rules=Rules(on=((type_, Action.ERROR),)))
    with closing(strict.target()) as target:
        target.open(Owner(table.name, "target"))
        with pytest.raises(Terminal, match="missing, where the rule is to stop"):
            target.prepare(by_rule)
        target.prepare(table)  # without the rule it is made
        target.prepare(by_rule)


def test_a_type_with_another_order_is_refused(strict: Bench) -> None:
    """Numbers as texts: '10' would be lower than '9'."""
    text = "ALTER TABLE {table} ALTER COLUMN version TYPE text"
    for rules in (
        Rules(units=(Unit(Combine.MAX, (VERSION,)),)),
        Rules(units=(Unit(Combine.NEWEST, (NAME,), VERSION), Unit(Combine.MAX, (VERSION,)))),
    ):
        table = prepared(strict, rules, text)
        with closing(strict.target()) as target:
            target.open(Owner(table.name, "target"))
            with pytest.raises(Terminal, match="orders integer values in another way"):
                target.prepare(table)


@pytest.mark.parametrize(
    ("before", "change", "statement"),
    [
        (
            [Foreign("theirs", 1, ("t", "t", 1, 1))],
            Change("u", 1, ("s", "s", 2, 2), 20),
            "UPDATE {table} SET name = 'again'",
        ),
        (
            [Change("c", 7, ("a", "a", 1, 1), 5)],
            Change("c", 1, ("s", "s", 2, 2), 20),
            "INSERT INTO {table} (id, name) VALUES (1, 'theirs')",
        ),
        (
            [Foreign("theirs", 1, ("t", "t", 1, 1))],
            Change("d", 1, None, 20),
            "UPDATE {table} SET name = 'again'",
        ),
    ],
    ids=["between facts and update", "between facts and insert", "between facts and delete"],
)
def test_somebody_writes_in_the_middle_of_a_round(
    strict: Bench, before: list[Any], change: Change, statement: str
) -> None:
    """What was decided on a row as it was is not written onto it as it is now: the batch is played again."""
    table = prepared(strict, Rules())
    play(strict, table, rows_of(Rules(), before), single=True, blocks=True)
    rows = [row for row in rows_of(Rules(), [change]) if isinstance(row, MappedRow)]
    target = strict.target()
    assert isinstance(target, PostgresTarget)
    with closing(target):
        target.open(Owner(table.name, "target"))
        target.prepare(table)
        execute = target.connection.execute

        def interrupted(query: Any, *args: Any, **more: Any) -> psycopg.Cursor[Any]:
            found: psycopg.Cursor[Any] = execute(query, *args, **more)
            if "LEFT JOIN" in query.as_string(None) if hasattr(query, "as_string") else False:
                strict.run(statement, table=table)
            return found

        target.connection.execute = interrupted  # type: ignore[method-assign]
        with pytest.raises(Transient, match="changed by somebody else"), target.begin() as transaction:
            transaction.write(table, [Write(row, row.position) for row in rows])
        target.connection.execute = execute  # type: ignore[method-assign]
        with target.begin() as transaction:
            (decision,) = transaction.write(table, [Write(row, row.position) for row in rows]).values()
    assert decision.outcome is Outcome.APPLIED
    assert decision.conflict is not None


def test_a_trigger_that_lets_a_row_vanish_parks_it(strict: Bench) -> None:
    table = prepared(
        strict,
        Rules(),
        "CREATE FUNCTION hub.drop_{name}() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN IF coalesce(new.name, old.name) = 'no' THEN RETURN NULL; END IF; RETURN new; END $$;"
        " CREATE TRIGGER t BEFORE INSERT OR UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION hub.drop_{name}()",
    )
    tape = rows_of(Rules(), [Change("c", key, ("no" if key == 2 else "a", "x", 1, 1), key) for key in (1, 2, 3)])
    played = play(strict, table, tape, single=False, blocks=True)
    assert (set(played.rows), played.parked) == ({1, 3}, {"[2]": "not_kept"})
