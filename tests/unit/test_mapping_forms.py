"""Maps of values and defaults: what comes out, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from cdc.errors import Poison
from cdc.model import UNAVAILABLE, Column, ColumnType, Kind, Op, TableSchema
from tests.unit.test_mapping_load import _found
from tests.unit.test_mapping_plan import event, plan_of, refused, row

COLUMNS = (
    Column("id", ColumnType(Kind.INTEGER, "int8"), nullable=False, key=True),
    Column("status", ColumnType(Kind.TEXT, "varchar", 3)),
    Column("level", ColumnType(Kind.INTEGER, "int2")),
    Column("vip", ColumnType(Kind.BOOLEAN, "bool")),
    Column("price", ColumnType(Kind.DECIMAL, "numeric", 12, 2)),
    Column("at", ColumnType(Kind.TIMESTAMPTZ, "timestamptz")),
    Column("tags", ColumnType(Kind.ARRAY, "_text", element=ColumnType(Kind.TEXT, "text"))),
)
SCHEMA = TableSchema("crm", "postgresql", "public", "customers", COLUMNS, 1)
ROW = (1, "A", 2, True, "1.50", None, None)


def made(form: str, after: tuple[Any, ...] = ROW) -> Any:
    (found,) = plan_of(f"columns: {{id: id, x: {form}}}", SCHEMA).map_batch([event(Op.UPDATE, after=after)])
    if isinstance(found, Poison):
        return found.reason
    values = row(found).values
    assert values is not None
    return values[1]


def status(value: object) -> tuple[Any, ...]:
    return (1, value, *ROW[2:])


@pytest.mark.parametrize(
    ("form", "after", "value"),
    [
        ("{copy: status, map: {A: active, X: null}}", status("A"), "active"),
        ("{copy: status, map: {A: active, X: null}}", status("X"), None),
        ("{copy: status, map: {A: active, X: null}}", status("Q"), "expression_failed"),
        ("{copy: status, map: {A: active}}", status(None), None),
        ("{copy: status, map: {A: active}, default: none}", status(None), "none"),
        ("{copy: status, map: {X: null}, default: none}", status("X"), None),
        ("{copy: status, map: {A: active}}", status(UNAVAILABLE), UNAVAILABLE),
        ("{copy: status, map: {A: active}, else: keep}", status("Q"), "Q"),
        ("{copy: status, map: {A: active}, else: null}", status("Q"), None),
        ("{copy: status, map: {A: active}, else: other}", status("Q"), "other"),
        ("{copy: status, map: {A: active}, else: {value: keep}}", status("Q"), "keep"),
        ("{copy: status, map: {A: 1, B: 2.5}}", status("A"), "1"),
        ("{copy: status, map: {A: 2024-01-01}, type: date}", status("A"), 19723),
        ("{copy: level, map: {2: two, '3': three}}", ROW, "two"),
        ("{copy: level, map: {2: 20}, else: keep}", (1, "A", 7, *ROW[3:]), 7),
        ("{copy: vip, map: {true: yes please, false: never}}", ROW, "yes please"),
        ("{copy: price, default: 0}", (*ROW[:4], None, None, None), "0"),
        ("{copy: price, default: 0}", ROW, "1.50"),
        ("{copy: at, default: 2024-01-01 00:00:00Z}", ROW, "2024-01-01T00:00:00.000000Z"),
    ],
)
def test_values(form: str, after: tuple[Any, ...], value: object) -> None:
    assert made(form, after) == value


def test_types_in_the_target() -> None:
    plan = plan_of("columns: {id: id, a: {copy: status, map: {A: 1}}, b: {copy: level, default: 0}}", SCHEMA)
    kinds = [(column.type.kind, column.type.native) for column in plan.target.columns]
    assert kinds == [(Kind.INTEGER, "int8"), (Kind.INTEGER, "int4"), (Kind.INTEGER, "int2")]


def test_keys_may_be_computed_and_have_several_columns() -> None:
    body = "key: [code, id]\ncolumns: {id: id, code: {sql: \"'C' || lpad(id::text, 4, '0')\"}}"
    plan = plan_of(body, SCHEMA)
    assert plan.warnings == ()
    assert row(plan.map(event(Op.UPDATE, after=ROW))).key == ("C0001", 1)
    assert row(plan.map(event(Op.DELETE, before=(1, *(None,) * 6)))).key == ("C0001", 1)
    assert plan.key_of_source((7,)) == ("C0007", 7)


@pytest.mark.parametrize(
    ("form", "found"),
    [
        ("{copy: level, map: {two: 2}}", ("bad-form", "two", None)),
        ("{copy: vip, map: {maybe: 1}}", ("bad-form", "maybe", None)),
        ("{copy: price, map: {1: 2}}", ("bad-form", "{1: 2}", "write a CASE in sql: …")),
        ("{copy: level, map: {1: a}, else: keep}", ("bad-form", "a", None)),
        ("{copy: level, default: none}", ("bad-form", "none", None)),
        ("{copy: tags, default: none}", ("bad-form", "none", None)),
        (
            "{copy: status, map: {A: 1, B: b}}",
            ("bad-form", "{A: 1, B: b}", "write all of them alike, or give the column a 'type'"),
        ),
    ],
)
def test_mistakes_point_at_their_place(form: str, found: object) -> None:
    assert found in refused(f"columns: {{id: id, x: {form}}}", SCHEMA)


@pytest.mark.parametrize(
    "form",
    [
        "{sql: lower(a), default: b}",
        "{value: 1, map: {a: b}}",
        "{copy: a, else: keep}",
        "{copy: a, map: {}}",
        "{copy: a, map: {b: c}, mask: null}",
    ],
)
def test_mistakes_that_need_no_schema(form: str) -> None:
    head = "pipeline: crm\nsource: crm\ntarget: hub\ntables:\n  - from: public.t\n    to: hub.t\n    "
    assert len(_found(f"{head}columns: {{x: {form}}}")) == 1
