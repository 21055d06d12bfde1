"""Conflict rules in mapping files: errors at their place with the nearest right thing, the compiled form, and what a
plan tells of each change where rules ask for it."""

from __future__ import annotations

from typing import Any

import pytest

from cdc.mapping.compile import compile_table
from cdc.mapping.diagnostics import Diagnostic, MappingError
from cdc.mapping.load import loads
from cdc.mapping.plan import Plan
from cdc.model import (
    UNAVAILABLE,
    Action,
    ChangeEvent,
    Column,
    ColumnType,
    Combine,
    ConflictType,
    Detect,
    Kind,
    MappedRow,
    Op,
    Position,
    RawRecord,
    Rules,
    TableSchema,
    Unit,
    Value,
)

TEXT, NUMBER = ColumnType(Kind.TEXT, "text"), ColumnType(Kind.INTEGER, "int8")
SCHEMA = TableSchema(
    "crm",
    "postgresql",
    "public",
    "customers",
    (
        Column("id", NUMBER, nullable=False, key=True),
        Column("name", TEXT),
        Column("email", TEXT),
        Column("points", NUMBER),
        Column("updated", ColumnType(Kind.TIMESTAMP, "timestamp", scale=6)),
        Column("profile", ColumnType(Kind.JSON, "jsonb")),
    ),
    1,
)
NAMES = "columns: {id: id, name: name, email: email, points: points, updated: updated, profile: profile}"
NAME, EMAIL, POINTS, UPDATED, PROFILE = 1, 2, 3, 4, 5


def text(rules: str, table: str = "") -> str:
    lines = "".join(f"    {line}\n" for line in rules.splitlines())
    more = f", {table}" if table else ""
    return (
        f"pipeline: crm\nsource: crm\ntarget: hub\nrules:\n  hub.customers:\n{lines}"
        f"tables:\n  - {{from: public.customers, to: hub.customers{more}}}\n"
    )


def pointed(found: Diagnostic) -> str:
    return found.file.line(found.span.line)[found.span.column - 1 : found.span.end_column - 1]


def found(rules: str, table: str = NAMES) -> list[tuple[str, str, str | None]]:
    """Code, the text that is pointed at, help; of reading the file."""
    with pytest.raises(MappingError) as raised:
        loads(text(rules, table), "m.yaml")
    return [(each.code, pointed(each), each.help) for each in raised.value.diagnostics]


def plan_of(rules: str, table: str = "", **options: Any) -> Plan:
    return compile_table(loads(text(rules, table), "m.yaml").tables[0], SCHEMA, **options)


def refused(rules: str, **options: Any) -> list[tuple[str, str, str | None]]:
    """The same, of meeting the schema."""
    with pytest.raises(MappingError) as raised:
        plan_of(rules, **options)
    return [(each.code, pointed(each), each.help) for each in raised.value.diagnostics]


def rules_of(rules: str) -> Rules:
    made = plan_of(rules).target.rules
    assert made is not None
    return made


# -- reading a file


def test_names_of_tables_and_columns() -> None:
    file = text("resolve: keep_if_null").replace("hub.customers:\n", "hub.custommers:\n")
    with pytest.raises(MappingError) as raised:
        loads(file, "m.yaml")
    (unknown,) = raised.value.diagnostics
    assert (unknown.code, pointed(unknown), unknown.help) == (
        "unknown-table",
        "hub.custommers",
        "did you mean 'hub.customers'?",
    )
    assert unknown.where == "m.yaml:5:3"
    assert found("columns: {emial: keep_if_null}") == [("unknown-column", "emial", "did you mean 'email'?")]
    assert found("groups: {g: {columns: [name, emial], resolve: target_wins}}") == [
        ("unknown-column", "emial", "did you mean 'email'?")
    ]
    assert found("columns: {email: {newest: updatd}}") == [("unknown-column", "updatd", "did you mean 'updated'?")]
    assert found("detect: {version: updatd}") == [("unknown-column", "updatd", "did you mean 'updated'?")]


def test_words() -> None:
    assert found("on: {insert_exits: skip}") == [
        ("bad-value", "insert_exits", "did you mean 'insert_exists'?"),
    ]
    assert found("on: {insert_exists: target_win}")[0][0:2] == ("bad-value", "target_win")


@pytest.mark.parametrize(
    ("rule", "code", "at"),
    [
        ("on: {delete_missing: newest}", "bad-action", "newest"),
        ("on: {stale: source_wins}", "bad-action", "source_wins"),
        ("on: {update_missing: target_wins}", "bad-action", "target_wins"),
        ("on: {delete_recently_updated: merge}", "bad-action", "merge"),
        ("on: {second_unique_violation: source_wins}", "bad-action", "source_wins"),
        ("on: {target_table_missing: skip}", "bad-action", "skip"),
        ("on: {update_differing: newest}", "bad-action", "newest"),
        ("{detect: all_columns, on: {update_differing: update_if_newer}}", "bad-action", "update_if_newer"),
    ],
)
def test_actions_that_make_no_sense(rule: str, code: str, at: str) -> None:
    ((found_code, pointed_at, help_),) = found(rule)
    assert (found_code, pointed_at) == (code, at)
    assert help_ is not None


@pytest.mark.parametrize(
    "rule",
    [
        "columns: {points: delta}",
        "columns: {profile: union}",
        "columns: {profile: merge}",
        "resolve: {priority: [crm, portal]}",
        "columns: {email: {sql: 'coalesce(crm.email, portal.email)'}}",
        "groups: {g: {columns: [name], resolve: {fill_nulls: [crm, portal]}}}",
    ],
)
def test_what_takes_several_sources(rule: str) -> None:
    ((code, _, help_),) = found(rule)
    assert code == "needs-sources"
    assert "sources: [" in (help_ or "")


def test_newest_needs_a_column() -> None:
    assert found("resolve: newest") == [("bad-resolver", "newest", "{newest: …}, or add sources: […]")]
    assert found("exists: all") == [("bad-value", "exists", "add sources: […], or leave it out")]


def test_what_makes_no_sense_with_sources() -> None:
    assert found("{sources: [crm], detect: all_columns}") == [("bad-value", "detect", "leave it out")]
    assert found("sources: [crm, portl]") == [("unknown-source", "portl", "known here: crm")]


def test_groups() -> None:
    assert found("{columns: {name: max}, groups: {g: {columns: [name], resolve: target_wins}}}") == [
        ("duplicate-column", "name", "a column is in one group, or has one rule of its own")
    ]
    twice = "groups: {g: {columns: [name], resolve: target_wins}, h: {columns: [name], resolve: target_wins}}"
    assert found(twice)[0][0] == "duplicate-column"
    ((code, at, help_),) = found("groups: {g: {columns: [points, updated], resolve: max}}")
    assert (code, at, help_) == ("bad-resolver", "max", "{newest: …}, the column that decides")


# -- meeting a schema


def test_kinds_that_do_not_fit() -> None:
    ((code, at, help_),) = refused("columns: {profile: max}")
    assert (code, at) == ("bad-resolver", "max")
    assert "keep_if_null" in (help_ or "")
    assert refused("columns: {name: {newest: email}}")[0][0:2] == ("bad-version", "email")
    assert refused("detect: {version: profile}")[0][0:2] == ("bad-version", "profile")
    assert refused("columns: {id: max}") == [("bad-resolver", "max", "leave it out")]
    assert refused("columns: {emial: max}") == [("unknown-column", "emial", "did you mean 'email'?")]


def test_a_column_that_decides_for_others_has_no_other_rule() -> None:
    rule = "columns: {name: {newest: updated}, updated: keep_if_null}"
    assert refused(rule) == [("bad-resolver", "updated", "leave the rule of 'updated' out")]
    assert refused("columns: {name: {newest: updated}, email: {oldest: updated}}")[0][0] == "bad-resolver"


def test_before_images_take_a_source_that_sends_them() -> None:
    ((code, at, help_),) = refused("detect: changed_columns", full_before=False)
    assert (code, at) == ("detect-needs-old-row", "changed_columns")
    assert "REPLICA IDENTITY FULL" in (help_ or "")
    (warning,) = plan_of("detect: all_columns").warnings
    assert (warning.code, warning.severity) == ("detect-needs-old-row", "warning")
    assert plan_of("detect: all_columns", full_before=True).warnings == ()


def test_the_compiled_form() -> None:
    made = rules_of(
        "detect: all_columns\n"
        "on: {insert_exists: park, delete_missing: skip}\n"
        "columns: {points: max, email: keep_if_null}\n"
        "groups: {who: {columns: [name, profile], resolve: {newest: updated}}}\n"
        "max_skew_s: 5"
    )
    assert made.detect is Detect.ALL_COLUMNS
    assert made.compared == ()
    assert set(made.units) == {
        Unit(Combine.MAX, (POINTS,)),
        Unit(Combine.KEEP_IF_NULL, (EMAIL,)),
        Unit(Combine.NEWEST, (NAME, PROFILE), UPDATED),
        Unit(Combine.MAX, (UPDATED,)),
    }
    assert dict(made.on) == {ConflictType.INSERT_EXISTS: Action.PARK, ConflictType.DELETE_MISSING: Action.SKIP}
    assert made.max_skew_us == 5_000_000
    assert plan_of("{sources: [crm], resolve: newest}").target.rules is None


def test_a_default_is_for_the_columns_that_nothing_else_is_said_of() -> None:
    made = rules_of("{resolve: keep_if_null, columns: {points: source_wins, name: {newest: updated}}}")
    assert set(made.units) == {
        Unit(Combine.NEWEST, (NAME,), UPDATED),
        Unit(Combine.MAX, (UPDATED,)),
        Unit(Combine.KEEP_IF_NULL, (EMAIL,)),
        Unit(Combine.KEEP_IF_NULL, (PROFILE,)),
    }
    row = rules_of("resolve: {newest: updated}")
    assert set(row.units) == {
        Unit(Combine.NEWEST, (NAME, EMAIL, POINTS, PROFILE), UPDATED),
        Unit(Combine.MAX, (UPDATED,)),
    }


def test_rules_for_all_tables() -> None:
    file = text("columns: {email: keep_if_null, other: max}").replace("hub.customers:\n", "'*':\n")
    made = compile_table(loads(file, "m.yaml").tables[0], SCHEMA).target.rules
    assert made is not None
    assert made.units == (Unit(Combine.KEEP_IF_NULL, (EMAIL,)),)


def test_a_source_column_that_is_gone() -> None:
    table = "columns: {id: id, name: nickname}"
    assert refused_columns("resolve: source_wins", table) == ["unknown-column"]
    plan = plan_of("on: {source_column_missing: skip}", table)
    assert [column.name for column in plan.target.columns] == ["id"]
    assert [warning.code for warning in plan.warnings] == ["source-column-missing"]


def refused_columns(rules: str, table: str) -> list[str]:
    with pytest.raises(MappingError) as raised:
        plan_of(rules, table)
    return [each.code for each in raised.value.diagnostics]


# -- what a plan tells of a change

ROW = (1, "Ann", "a@x", 5, 100, "{}")


def event(op: Op, before: tuple[Value, ...] | None, after: tuple[Value, ...] | None) -> ChangeEvent:
    return ChangeEvent(
        RawRecord("crm.public.customers", 0, 7, b"k", b"v"), SCHEMA, op, Position(0, 1, 2), before, after
    )


def mapped(rules: str, op: Op, before: tuple[Value, ...] | None, after: tuple[Value, ...] | None) -> MappedRow:
    row = plan_of(rules).map(event(op, before, after))
    assert isinstance(row, MappedRow)
    return row


def test_creates_are_told_from_updates() -> None:
    assert mapped("resolve: source_wins", Op.CREATE, None, ROW).created
    assert mapped("resolve: source_wins", Op.READ, None, ROW).created
    assert not mapped("resolve: source_wins", Op.UPDATE, None, ROW).created


def test_before_images() -> None:
    old = (1, "Anna", "a@x", 4, 100, UNAVAILABLE)
    rules = "columns: {points: max}\ndetect: "
    assert mapped(rules + "all_columns", Op.UPDATE, old, ROW).before == (
        *(UNAVAILABLE, "Anna", "a@x", UNAVAILABLE, 100, UNAVAILABLE),
    )
    assert mapped(rules + "changed_columns", Op.UPDATE, old, ROW).before == (
        *(UNAVAILABLE, "Anna", UNAVAILABLE, UNAVAILABLE, UNAVAILABLE, UNAVAILABLE),
    )
    assert mapped(rules + "all_columns", Op.UPDATE, None, ROW).before is None
    assert mapped("detect: position", Op.UPDATE, old, ROW).before is None
    only_key = (1, None, None, None, None, None)
    assert mapped(rules + "all_columns", Op.DELETE, only_key, None).before is None
    assert mapped("detect: {version: updated}", Op.DELETE, old, None).before == (
        *(UNAVAILABLE, UNAVAILABLE, UNAVAILABLE, UNAVAILABLE, 100, UNAVAILABLE),
    )
