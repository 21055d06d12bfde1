"""`where:`, and what expressions read of the change: what comes out of single events, and what is refused.

(Whole lives of tables: tests/property/test_filters.py.)
"""

from __future__ import annotations

from typing import Any

import pytest

from cdc.errors import Poison
from cdc.mapping.filters import FILTERED
from cdc.mapping.plan import Mapped, Plan
from cdc.model import UNAVAILABLE, MappedRow, Op, Outcome, RowOp
from tests.unit.test_mapping_load import _found
from tests.unit.test_mapping_plan import NULLS, ROW, event, plan_of, refused, row

EU = "where: \"name = 'Ann'\""
OTHER = (1, "eu", "Bob", *ROW[3:])


def poison(plan: Plan, *args: Any, **more: Any) -> str:
    (found,) = plan.map_batch([event(*args, **more)])
    assert isinstance(found, Poison)
    assert found.where == "t:0:7"
    return found.reason


def said(mapped: Mapped) -> tuple[RowOp, bool] | str:
    if isinstance(mapped, MappedRow):
        return mapped.op, mapped.filtered
    assert not isinstance(mapped, tuple)
    assert mapped.outcome is Outcome.SKIPPED
    return mapped.reason


@pytest.mark.parametrize(
    ("op", "before", "after", "found"),
    [
        (Op.CREATE, None, ROW, (RowOp.UPSERT, False)),
        (Op.CREATE, None, OTHER, "filtered"),
        (Op.READ, None, OTHER, "filtered"),
        (Op.UPDATE, None, ROW, (RowOp.UPSERT, False)),
        (Op.UPDATE, OTHER, ROW, (RowOp.UPSERT, False)),
        (Op.UPDATE, ROW, OTHER, (RowOp.DELETE, False)),
        (Op.UPDATE, None, OTHER, (RowOp.DELETE, True)),
        (Op.UPDATE, OTHER, OTHER, "filtered"),
        (Op.DELETE, (1, "eu", *NULLS), None, (RowOp.DELETE, False)),
        (Op.DELETE, ROW, None, (RowOp.DELETE, False)),
        (Op.DELETE, OTHER, None, "filtered"),
        (Op.TRUNCATE, None, None, (RowOp.TRUNCATE, False)),
    ],
)
def test_in_and_out(op: Op, before: Any, after: Any, found: object) -> None:
    mapped = plan_of(EU).map(event(op, before=before, after=after))
    assert said(mapped) == found
    if isinstance(mapped, MappedRow) and mapped.op is not RowOp.TRUNCATE:
        assert mapped.key == (1, "eu")


def test_what_is_loaded_again_and_outside_goes() -> None:
    loaded = event(Op.READ, after=OTHER, snapshot="incremental")
    assert said(plan_of(EU).map(loaded)) == (RowOp.DELETE, True)
    assert plan_of(EU + "\non_delete: ignore").map(loaded) is FILTERED


def test_null_is_outside() -> None:
    assert plan_of(EU).map(event(Op.CREATE, after=(1, "eu", *NULLS))) is FILTERED


def test_a_filter_that_fails_parks_the_row() -> None:
    assert poison(plan_of('where: "10 / id > 1"'), Op.CREATE, after=(0, *ROW[1:])) == "expression_failed"


def test_expressions_of_rows_outside_are_not_evaluated() -> None:
    plan = plan_of("where: id <> 0\ncolumns: {'*': {}, part: {sql: 10 / id}}")
    assert plan.map(event(Op.CREATE, after=(0, *ROW[1:]))) is FILTERED


def test_what_was_not_sent_leaves_a_row_where_it_was() -> None:
    plan = plan_of(EU)
    left = row(plan.map(event(Op.UPDATE, after=(1, "eu", UNAVAILABLE, "b@x.de", None))))
    assert (left.op, left.partial, left.filtered) == (RowOp.UPSERT, True, True)
    both = plan_of("where: \"name = 'Ann' and email is not null\"")
    assert poison(both, Op.UPDATE, after=(1, "eu", "Ann", UNAVAILABLE, None)) == "expression_needs_unavailable"
    decided = both.map(event(Op.UPDATE, after=(1, "eu", "Bob", UNAVAILABLE, None)))
    assert said(decided) == (RowOp.DELETE, True), "what was sent decides"


def test_a_filter_over_what_is_not_written_needs_it() -> None:
    plan = plan_of(f"{EU}\ncolumns: {{id: id, region: region, email: {{copy: email, type: varchar(10)}}}}")
    assert plan.target.partials
    after = (1, "eu", UNAVAILABLE, "b@x.de", None)
    assert poison(plan, Op.UPDATE, after=after) == "expression_needs_unavailable"
    soft = plan_of(EU + "\non_delete: soft")
    assert poison(soft, Op.UPDATE, after=after) == "filter_needs_old_row"
    assert poison(soft, Op.UPDATE, after=(1, "eu", "Ann", UNAVAILABLE, None)) == "filter_needs_old_row"


def test_keys_of_other_columns_move_in_and_out() -> None:
    plan = plan_of("key: [email]\nwhere: \"name = 'Ann'\"", full_before=True)
    moved = (*ROW[:3], "new@x.de", None)
    gone, came = plan.map(event(Op.UPDATE, before=ROW, after=moved))  # type: ignore[misc]
    assert (gone.key, came.key, came.moved_from) == (("A@x.de",), ("new@x.de",), ("A@x.de",))
    entered = row(plan.map(event(Op.UPDATE, before=OTHER, after=moved)))
    assert (entered.op, entered.key, entered.moved_from) == (RowOp.UPSERT, ("new@x.de",), None)
    left = row(plan.map(event(Op.UPDATE, before=ROW, after=(1, "eu", "Bob", "new@x.de", None))))
    assert (left.op, left.key) == (RowOp.DELETE, ("A@x.de",))


def test_a_shared_target_key_is_not_deleted_by_another_row() -> None:
    body = "key: [id]\nwhere: \"name = 'Ann'\""
    plan = plan_of(body)
    assert {found.code for found in plan.warnings} == {"narrow-key", "filter-needs-old-row"}
    assert poison(plan, Op.UPDATE, after=OTHER) == "filter_needs_old_row"
    assert poison(plan, Op.DELETE, before=(1, "eu", *NULLS)) == "filter_needs_old_row"
    assert plan.map(event(Op.UPDATE, before=OTHER, after=OTHER)) is FILTERED
    assert said(plan.map(event(Op.UPDATE, before=ROW, after=OTHER))) == (RowOp.DELETE, False)
    assert [found[0] for found in refused(body, full_before=False)] == ["filter-needs-old-row"]


def test_a_key_change_inside_of_one_target_row_may_leave_it() -> None:
    plan = plan_of("key: [id]\nwhere: region = 'eu'")
    left = event(Op.CREATE, after=(1, "us", *NULLS), moved_from=(1, "eu"))
    assert said(plan.map(left)) == (RowOp.DELETE, False)
    assert plan.map(event(Op.CREATE, after=(1, "us", *NULLS), moved_from=(1, "ca"))) is FILTERED
    assert plan.map(event(Op.CREATE, after=(1, "us", *NULLS), moved_from=(2, "eu"))) is FILTERED


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("where: nmae = 'a'", ("unknown-column", "nmae", "did you mean 'name'?")),
        ("where: lower(name)", ("sql-type", "lower(name", None)),
        ("where: befor.name = 'a'", ("unknown-column", "befor.name", "did you mean 'before'?")),
        ("where: meta.opration = 'create'", ("unknown-column", "meta.opration", "did you mean 'operation'?")),
        ("columns: {'*': {}, x: {sql: before.nmae}}", ("unknown-column", "before.nmae", "did you mean 'name'?")),
        ("key: [x]\ncolumns: {'*': {}, x: {sql: meta.operation}}", ("bad-key", "x", None)),
        (
            "key: [id]\nwhere: meta.operation = 'create'",
            ("filter-of-change", "meta.operation = 'create'", "choose a key that holds the source's whole key"),
        ),
    ],
)
def test_mistakes_point_at_their_place(body: str, found: tuple[str, str, str | None]) -> None:
    assert found in refused(body)


def test_mistakes_that_need_no_schema() -> None:
    head = "pipeline: crm\nsource: crm\ntarget: hub\ntables:\n  - from: public.t\n    to: hub.t\n    "
    assert _found(head + "where: lowr(a) = 'x'") == [("unknown-function", "lowr", "did you mean 'lower'?")]
    assert [found[0] for found in _found(head + 'where: "a ="')] == ["sql-syntax"]
    assert [found[0] for found in _found(head + "where: 5")] == ["string-type"]


def test_a_history_tells_what_leaves_and_nothing_of_what_was_never_inside() -> None:
    plan = plan_of(f"{EU}\nhistory: append")
    assert "filter-needs-old-row" in {found.code for found in plan.warnings}
    left = row(plan.map(event(Op.UPDATE, before=ROW, after=OTHER)))
    assert (left.op, left.key[:2], left.key[-1]) == (RowOp.UPSERT, (1, "eu"), "d")
    assert row(plan.map(event(Op.UPDATE, before=OTHER, after=ROW))).key[-1] == "u"
    assert plan.map(event(Op.CREATE, after=OTHER)) is FILTERED
    assert plan.map(event(Op.READ, after=OTHER, snapshot="incremental")) is FILTERED
    assert poison(plan, Op.UPDATE, after=OTHER) == "filter_needs_old_row"


# What is read of the change


def test_the_change_and_the_row_before_it() -> None:
    body = (
        "columns:\n  id: id\n  region: region\n  was: {sql: \"coalesce(before.name, 'new') || '>' || after.name\"}\n"
        "  what: {sql: meta.operation}\n  at: {sql: meta.committed_at}\n  tx: {sql: meta.transaction}\n"
        "  read: {sql: meta.snapshot}\n  place: {sql: meta.position}\n"
        "  origin: {sql: \"meta.source || '/' || meta.schema || '/' || meta.table\"}"
    )
    plan = plan_of(body)
    assert [found.code for found in plan.warnings] == ["needs-old-row"]
    assert plan_of(body, full_before=True).warnings == ()
    updated = row(plan.map(event(Op.UPDATE, before=OTHER, after=ROW, transaction="77"))).values
    place = "00000000000000000001000000000000000200000000"
    at = "1970-01-01T00:00:00.000005Z"
    assert updated == (1, "eu", "Bob>Ann", "update", at, "77", False, place, "crm/public/customers")
    read = row(plan.map(event(Op.READ, after=ROW, snapshot="initial"))).values
    assert read == (1, "eu", "new>Ann", "read", None, None, True, place, "crm/public/customers")
    assert plan.of_change == (2, 3, 4, 5, 6, 7)


def test_a_value_of_the_change_is_never_left_as_it_was() -> None:
    plan = plan_of("columns: {'*': {}, x: {sql: \"email || meta.operation\"}}")
    assert poison(plan, Op.UPDATE, after=(*ROW[:3], UNAVAILABLE, None)) == "expression_needs_unavailable"


def test_a_filter_over_the_change() -> None:
    plan = plan_of("where: meta.snapshot = false")
    assert said(plan.map(event(Op.CREATE, after=ROW))) == (RowOp.UPSERT, False)
    assert said(plan.map(event(Op.READ, after=ROW, snapshot="incremental"))) == (RowOp.DELETE, True)
