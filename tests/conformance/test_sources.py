"""Rows that several sources make, on every target that keeps contributions: they equal the oracle."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from contextlib import closing
from decimal import Decimal
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cdc.errors import Transient
from cdc.mapping.rules import DetailedRule, TableRules
from cdc.model import MappedRow, TargetColumn, TargetTable, Value
from cdc.target.base import hold_of
from cdc.target.contributions import ContributingTarget
from tests.fix_targets import Bench
from tests.sources import (
    COLUMNS,
    NOW_S,
    PARTITIONS,
    RULES,
    SAYS,
    Player,
    SourceTape,
    expected,
    interleaved,
    tables,
    tapes,
)
from tests.tapes import REFUSED_TEXT

ORDERS = st.lists(st.integers(0, 2), min_size=24, max_size=24)
CUTS = st.lists(st.integers(1, 23), max_size=5)
Tape = Sequence[tuple[str, MappedRow]]
_numbers = itertools.count(1)


@pytest.fixture(autouse=True)
def _keeps_contributions(bench: Bench) -> None:
    if not bench.target().capabilities.contributions:
        pytest.skip("it keeps no contributions")


def contributing(bench: Bench) -> ContributingTarget:
    return cast(ContributingTarget, bench.target())


def new_name() -> str:
    return f"golden_{next(_numbers)}"


def shown(bench: Bench, customers: str) -> dict[tuple[Value, ...], tuple[Value, ...]]:
    """The target's rows in the words of the oracle."""
    columns = tuple(TargetColumn(name, tables(customers)["crm"].columns[0].type) for name in COLUMNS)
    table = TargetTable(f"golden/hub.{customers}", "hub", customers, columns, ("id",))
    return {key: plain(dict(zip(COLUMNS, row, strict=True))) for key, row in bench.visible(table).items()}


def plain(row: dict[str, Any]) -> tuple[Value, ...]:
    balance, tags, said = row["balance"], row["tags"], row["settings"]
    row["balance"] = None if balance is None else Decimal(balance)
    row["tags"] = json.loads(tags) if isinstance(tags, str) else tags
    row["settings"] = json.loads(said) if isinstance(said, str) else said
    return tuple(row.values())


def wanted(tape: Tape, rules: TableRules = RULES) -> dict[tuple[Value, ...], tuple[Value, ...]]:
    rows = expected(tape, rules).visible()
    return {key: plain(dict(zip(COLUMNS, row, strict=True))) for key, row in rows.items()}


@settings(max_examples=40, deadline=None, suppress_health_check=(HealthCheck.function_scoped_fixture,))
@given(tapes(), ORDERS, CUTS, st.booleans(), st.integers(0, 20))
def test_any_interleaving_and_replay(
    bench: Bench, tape: dict[str, list[MappedRow]], order: list[int], cuts: list[int], blocks: bool, start: int
) -> None:
    changes, customers = interleaved(tape, order), new_name()
    player = Player(contributing(bench), customers, blocks=blocks)
    with closing(player.target):
        player.play(changes[:start], cuts)
        player.play(changes, cuts)
        assert shown(bench, customers) == wanted(changes)
        player.play(changes[start:], cuts)
        assert shown(bench, customers) == wanted(changes)
        oracles = expected(changes).oracles
        held = {(f"golden/hub.{customers}@{name}", hold_of(key)) for name, o in oracles.items() for key in o.parked}
        assert set(player.applier.held) == held
        assert set(player.target.parked(list(PARTITIONS.values()))) == held


@pytest.mark.parametrize("blocks", [False, True])
def test_what_a_later_image_of_its_batch_replaces_has_no_say(bench: Bench, blocks: bool) -> None:
    """A partial image that waits for its row, and a change that comes again, are followed by a whole image at once."""
    waits = SourceTape("billing").add("partial", 2, {"city": "x"}).add("full", 2, {"city": "y"}).move(2, 1, {})
    waits.add("read", 1, {"city": "y"})
    again = SourceTape("crm").add("full", 3, {"name": "a"}).add("full", 3, {"name": "b"}).add("full", 3, {"name": "c"})
    portal = SourceTape("portal").add("read", 1, {"name": "older than any that streamed"}).rows
    billing, crm = ([(tape.source, row) for row in tape.rows] for tape in (waits, again))
    customers = new_name()
    player = Player(contributing(bench), customers, blocks=blocks)
    with closing(player.target):
        player.play([("portal", portal[0]), *billing, *crm[:2]])
        player.play(crm)
        assert shown(bench, customers) == wanted([("portal", portal[0]), *billing, *crm])


@pytest.mark.parametrize("exists", ["any", "all", ["crm"]])
def test_when_a_row_is_there(bench: Bench, exists: Any) -> None:
    rules = TableRules.model_validate({"sources": ["crm", "portal", "billing"], "exists": exists})
    crm = SourceTape("crm").add("full", 1, {"name": "a"}).add("full", 2, {"name": "b"}).rows
    portal = (
        SourceTape("portal").add("full", 1, {"phone": "1"}).add("full", 3, {"phone": "3"}).add("delete", 3, {}).rows
    )
    billing = SourceTape("billing").add("full", 1, {"city": "x"}).rows
    changes = [("crm", crm[0]), ("portal", portal[0]), ("billing", billing[0])]
    changes += [("crm", crm[1]), ("portal", portal[1]), ("portal", portal[2])]
    customers = new_name()
    player = Player(contributing(bench), customers, rules)
    with closing(player.target):
        for change in changes:
            player.play([change])
        there = {"any": {1, 2}, "all": {1}}.get(str(exists), {1, 2})
        assert {key for (key,) in shown(bench, customers)} == there
        assert shown(bench, customers) == wanted(changes, rules)


def test_a_value_that_the_table_refuses_parks_that_source_s_word_only(bench: Bench) -> None:
    customers = new_name()
    player = Player(contributing(bench), customers)
    with closing(player.target):
        _refuse_name(bench, customers)
        crm = SourceTape("crm").add("full", 1, {"name": REFUSED_TEXT, "score": 1}).add("full", 2, {"name": "b"}).rows
        portal = SourceTape("portal").add("read", 1, {"name": "a"}).add("full", 2, {"phone": "2"}).rows
        player.play([("portal", portal[0]), ("crm", crm[0]), ("crm", crm[1]), ("portal", portal[1])])
        assert set(player.applier.held) == {(f"golden/hub.{customers}@crm", "[1]")}
        rows = shown(bench, customers)
        assert rows[1,][:2] == (1, "a")
        assert rows[2,][:3] == (2, "b", "2")
        later = SourceTape("portal", clock=2_000, place=9).add("full", 1, {"name": "newer"}).rows
        player.play([("portal", later[0])])
        assert shown(bench, customers)[1,][1] == "newer"


def test_workers_do_not_lose_one_another_s_words(bench: Bench) -> None:
    """Each worker meets only its own sources: the columns of the others come with what they kept."""
    customers = new_name()
    crm, portal = (Player(contributing(bench), customers, only=[name]) for name in ("crm", "portal"))
    said = SourceTape("crm").add("full", 1, {"name": "a", "score": 3}).add("partial", 1, {"score": 5}).rows
    other = SourceTape("portal").add("full", 1, {"phone": "7", "settings": '{"a":1}'}).rows
    with closing(crm.target), closing(portal.target):
        crm.play([("crm", said[0])])
        portal.play([("portal", other[0])])
        with pytest.raises(Transient, match="columns"):
            crm.play([("crm", said[1])])
    again = Player(contributing(bench), customers)
    with closing(again.target):
        again.play([("crm", said[1])])
    assert shown(bench, customers) == wanted([("crm", said[0]), ("portal", other[0]), ("crm", said[1])])


def test_a_source_without_a_column_has_no_say_in_it(bench: Bench) -> None:
    """Also where its other values changed one by one, and in expressions."""
    crm = SourceTape("crm").add("full", 1, {"name": "a", "phone": "1"}).add("full", 1, {"name": "b", "phone": "1"})
    portal = (
        SourceTape("portal").add("full", 1, {"name": "c", "phone": "2"}).add("full", 1, {"name": "c", "phone": "3"})
    )
    billing = SourceTape("billing", clock=5_000).add("full", 1, {"city": "x"}).add("full", 1, {"city": "y"})
    changes = [(tape.source, row) for tape in (crm, portal, billing) for row in tape.rows]
    plain = TableRules.model_validate({"sources": ["crm", "portal", "billing"]})
    spoken = plain.model_copy(update={"columns": {"name": DetailedRule(sql="portal.name || crm.name || crm.phone")}})
    for rules in (plain, spoken):
        customers = new_name()
        player = Player(contributing(bench), customers, rules)
        with closing(player.target):
            for change in changes:
                player.play([change])
            (row,) = shown(bench, customers).values()
        if rules is plain:
            assert {(1,): row} == wanted(changes, rules)
        else:
            assert row[1:3] == ("cb1", "3")


def test_a_truncate_is_the_first_that_a_worker_meets(bench: Bench) -> None:
    """Its record has no key: of its table the worker knows the name, and what others met before."""
    customers = new_name()
    portal = SourceTape("portal").truncate().add("full", 1, {"name": "a"}).add("full", 2, {"phone": "2"}).truncate()
    portal.add("full", 2, {"phone": "3"})
    before = SourceTape("portal", clock=500).add("full", 3, {"name": "older than both"}).rows
    crm = SourceTape("crm").add("full", 1, {"name": "b"}).rows
    Player(contributing(bench), customers).target.close()  # somebody met all columns
    first, *filled, second, last = [("portal", row) for row in portal.rows]
    rest = [("crm", crm[0]), ("portal", before[0]), *filled]
    for changes, keyless in (([first], True), (rest, False), ([second], True), ([last], False)):
        only = ["portal"] if keyless else [*SAYS]
        player = Player(contributing(bench), customers, only=only, keyless=keyless)
        with closing(player.target):
            player.play(changes)
    assert shown(bench, customers) == wanted([first, *rest, second, last])
    assert {key for (key,) in shown(bench, customers)} == {1, 2}


def _refuse_name(bench: Bench, customers: str) -> None:
    table = TargetTable(f"golden/hub.{customers}", "hub", customers, (), ("id",))
    bench.refuse(table)


def test_a_soft_deleted_row_comes_back(bench: Bench) -> None:
    customers = new_name()
    player = Player(contributing(bench), customers, soft_delete="is_deleted")
    tape = SourceTape("crm").add("full", 1, {"name": "a"}).add("delete", 1, {}).add("full", 1, {"name": "b"}).rows
    columns = tables(customers)["crm"].columns[:2]
    table = TargetTable(f"golden/hub.{customers}", "hub", customers, columns, ("id",), soft_delete="is_deleted")
    with closing(player.target):
        seen = []
        for change in tape:
            player.play([("crm", change)])
            seen.append(bench.visible(table)[1,])
    assert [(row[1], bool(row[2])) for row in seen] == [("a", False), ("a", True), ("b", False)]


def test_a_change_from_the_future_is_parked(bench: Bench) -> None:
    customers = new_name()
    player = Player(contributing(bench), customers)
    tape = SourceTape("crm").add("full", 1, {"name": "a"}).add("full", 1, {"name": "b"}, int(NOW_S + 61) * 1_000_000)
    with closing(player.target):
        player.play([("crm", row) for row in tape.rows])
        assert shown(bench, customers)[1,][1] == "a"
        assert player.applier.held == {(f"golden/hub.{customers}@crm", "[1]"): "clock_skew"}


def test_what_was_withdrawn_is_forgotten_and_the_row_can_come_again(bench: Bench) -> None:
    customers, day = new_name(), 86_400
    player = Player(contributing(bench), customers)
    crm = SourceTape("crm").add("full", 1, {"name": "a"}).add("delete", 1, {}).add("full", 2, {"name": "b"})
    crm.add("full", 1, {"name": "c"})
    portal = SourceTape("portal").add("full", 2, {"phone": "2"}).add("delete", 2, {}).rows
    with closing(player.target):
        player.play([*(("crm", row) for row in crm.rows[:3]), *(("portal", row) for row in portal)])
        assert player.target.purge(day) == 0
    later = Player(contributing(bench), customers, now_s=NOW_S + 2 * day)
    with closing(later.target):
        assert later.target.purge(day) >= 2
        assert later.target.purge(day) == 0
        later.play([("crm", crm.rows[3])])
        assert {key: row[1] for key, row in shown(bench, customers).items()} == {(1,): "c", (2,): "b"}


def test_other_rules_make_other_rows_of_what_is_kept(bench: Bench) -> None:
    customers = new_name()
    crm = [("crm", row) for number in range(1, 6) for row in SourceTape("crm").add("full", number, {"name": "c"}).rows]
    portal = SourceTape("portal", clock=2_000)
    for number in range(3, 9):
        portal.add("full", number, {"name": "p"})
    changes = [*crm, *(("portal", row) for row in portal.rows)]
    player = Player(contributing(bench), customers)
    with closing(player.target):
        player.play(changes)
        assert shown(bench, customers) == wanted(changes)
    other = RULES.model_copy(update={"columns": {**RULES.columns, "name": DetailedRule(priority=("crm", "portal"))}})
    again = Player(contributing(bench), customers, other)
    with closing(again.target):
        found = []
        after: str | None = ""
        while after is not None:
            with again.target.begin() as transaction:
                found.append(transaction.reapply(again.tables["crm"], after))
            after = found[-1].after
        assert sum(each.rows for each in found) == 8
        assert shown(bench, customers) == wanted(changes, other) != wanted(changes)
        with again.target.begin() as transaction:
            assert transaction.reapply(again.tables["portal"], "").rows == 0
