"""Events through compiled mappings: values, keys, deletes, key changes, values that were not sent."""

from __future__ import annotations

from typing import Any

import pytest

from cdc.errors import Poison
from cdc.mapping.compile import compile_table, may_be_unavailable
from cdc.mapping.diagnostics import Diagnostic, MappingError
from cdc.mapping.load import loads
from cdc.mapping.plan import IGNORED_DELETE, IGNORED_TRUNCATE, SAME_KEY, Plan
from cdc.model import (
    UNAVAILABLE,
    ChangeEvent,
    Column,
    ColumnType,
    DeletePolicy,
    Kind,
    MappedRow,
    Op,
    Position,
    RawRecord,
    RowOp,
    TableSchema,
)

TEXT, BIGINT = ColumnType(Kind.TEXT, "text"), ColumnType(Kind.INTEGER, "int8")
SCHEMA = TableSchema(
    "crm",
    "postgresql",
    "public",
    "customers",
    (
        Column("id", BIGINT, nullable=False, key=True),
        Column("region", TEXT, nullable=False, key=True),
        Column("name", TEXT),
        Column("email", TEXT),
        Column("tags", ColumnType(Kind.ARRAY, "_text", element=TEXT)),
    ),
    1,
)
POSITION = Position(0, 1, 2)
ROW = (1, "eu", "Ann", "A@x.de", ["a"])
NULLS = (None, None, None)


def plan_of(body: str, schema: TableSchema = SCHEMA, **options: Any) -> Plan:
    text = "pipeline: crm\nsource: crm\ntarget: hub\ntables:\n  - from: public.customers\n    to: hub.customers\n"
    text += "".join(f"    {line}\n" for line in body.splitlines())
    return compile_table(loads(text, "m.yaml").tables[0], schema, **options)


def refused(body: str, schema: TableSchema = SCHEMA, **options: Any) -> list[tuple[str, str, str | None]]:
    """Code, the text that is pointed at, help."""
    with pytest.raises(MappingError) as raised:
        plan_of(body, schema, **options)
    return [(found.code, pointed(found), found.help) for found in raised.value.diagnostics]


def pointed(found: Diagnostic) -> str:
    return found.file.line(found.span.line)[found.span.column - 1 : found.span.end_column - 1]


def event(op: Op, before: Any = None, after: Any = None, **more: Any) -> ChangeEvent:
    return ChangeEvent(RawRecord("t", 0, 7, None, None), SCHEMA, op, POSITION, before, after, time_us=5, **more)


def row(mapped: Any) -> MappedRow:
    assert isinstance(mapped, MappedRow)
    return mapped


def names(plan: Plan) -> list[str]:
    return [column.name for column in plan.target.columns]


# Columns


def test_without_columns_all_are_copied() -> None:
    plan = plan_of("")
    mapped = row(plan.map(event(Op.CREATE, after=ROW, snapshot="initial")))
    assert mapped == MappedRow(
        RowOp.UPSERT, (1, "eu"), ROW, POSITION, event(Op.CREATE).record, "initial", None, None, 5
    )
    assert mapped.values is ROW
    assert (names(plan), plan.target.key, plan.target.mapping) == (
        ["id", "region", "name", "email", "tags"],
        ("id", "region"),
        "crm/hub.customers",
    )
    assert [column.nullable for column in plan.target.columns] == [False, False, True, True, True]


def test_star_keeps_places_and_named_columns_follow() -> None:
    plan = plan_of(
        "columns:\n  '*': {except: [tags], rename: {name: full_name}}\n  email: {sql: lower(email), type: citext}\n"
        "  twin: id\n  kind: {value: person}\n  since: {value: 2024-02-29, type: date}"
    )
    assert names(plan) == ["id", "region", "full_name", "email", "twin", "kind", "since"]
    assert row(plan.map(event(Op.READ, after=ROW))).values == (1, "eu", "Ann", "a@x.de", 1, "person", 19782)
    assert plan.target.columns[3].sql_type == "citext"
    assert plan.target.columns[6].type.kind is Kind.DATE


def test_without_star_only_what_is_written() -> None:
    plan = plan_of("columns: {region: region, id: id, email: email}")
    assert names(plan) == ["region", "id", "email"]
    mapped = row(plan.map(event(Op.UPDATE, after=ROW)))
    assert (mapped.key, mapped.values) == ((1, "eu"), ("eu", 1, "A@x.de"))


def test_a_single_column() -> None:
    schema = TableSchema("crm", "postgresql", "public", "customers", SCHEMA.columns[:1], 2)
    plan = plan_of("columns: {number: id}", schema)
    mapped = row(plan.map(event(Op.CREATE, after=(5,))))
    assert (mapped.key, mapped.values) == ((5,), (5,))


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("columns: {id: id, region: region, mail: emial}", ("unknown-column", "emial", "did you mean 'email'?")),
        ("columns: {'*': {}, mail: {copy: emial}}", ("unknown-column", "emial", "did you mean 'email'?")),
        (
            "columns: {'*': {}, mail: lower(email)}",
            ("unknown-column", "lower(email)", "for an expression write {sql: lower(email)}"),
        ),
        ("columns: {'*': {except: [emial]}}", ("unknown-column", "emial", "did you mean 'email'?")),
        ("columns: {'*': {rename: {emial: mail}}}", ("unknown-column", "emial", "did you mean 'email'?")),
        ("columns: {'*': {}, mail: {sql: lower(emial)}}", ("unknown-column", "emial", "did you mean 'email'?")),
        ("columns: {'*': {}, mail: {sql: name + 1}}", ("sql-type", "name + 1", None)),
        ("columns: {'*': {rename: {name: email}}}", ("duplicate-column", "{rename: {name: email}}", None)),
        ("key: [nmae]", ("unknown-key-column", "nmae", "did you mean 'name'?")),
        ("key: [id, id]", ("duplicate-column", "[id, id]", None)),
        ("key: [tags]", ("bad-key", "tags", None)),
        (
            "columns: {'*': {except: [id]}}",
            ("no-key", "{'*': {except: [id]}}", "copy it, or name the target's key columns: key: […]"),
        ),
        ("columns: {'*': {}, x: {value: abc, type: date}}", ("bad-constant", "abc", None)),
    ],
)
def test_mistakes_point_at_their_place(body: str, found: tuple[str, str, str | None]) -> None:
    assert found in refused(body)


def test_the_column_that_marks_deletes_is_not_a_copy() -> None:
    body = "on_delete: soft\nsoft_delete_column: name"
    assert refused(body)[0][0] == "duplicate-column"


def test_columns_that_the_source_cannot_carry() -> None:
    def refuse(column: Column) -> str | None:
        return "it arrives as null" if column.name == "tags" else None

    (found,) = refused("", refuse=refuse)
    assert (found[0], found[2]) == ("refused-column", "leave it out: '*': {except: [tags]}")
    assert names(plan_of("columns: {'*': {except: [tags]}}", refuse=refuse))[-1] == "email"


def test_a_table_without_a_key_needs_one() -> None:
    columns = tuple(Column(column.name, column.type) for column in SCHEMA.columns)
    schema = TableSchema("crm", "mariadb", "public", "customers", columns, 3)
    assert refused("", schema)[0][0] == "no-key"
    assert plan_of("key: [id]", schema).target.key == ("id",)


# Values that were not sent


def test_unavailable_passes_through_copies_and_single_inputs() -> None:
    plan = plan_of("columns:\n  '*': {}\n  email: {sql: lower(email)}\n  label: {sql: name || '!'}")
    after = (1, "eu", "Ann", UNAVAILABLE, UNAVAILABLE)
    mapped = row(plan.map(event(Op.UPDATE, after=after)))
    assert mapped.values == (1, "eu", "Ann", UNAVAILABLE, UNAVAILABLE, "Ann!")
    assert mapped.partial


def test_an_expression_that_needs_what_was_not_sent() -> None:
    plan = plan_of("columns: {'*': {}, label: {sql: name || email}}")
    good, bad = event(Op.UPDATE, after=ROW), event(Op.UPDATE, after=(1, "eu", "Ann", UNAVAILABLE, None))
    first, second, third = plan.map_batch([good, bad, good])
    assert row(first).values == row(third).values == (*ROW, "AnnA@x.de")
    assert isinstance(second, Poison)
    assert (second.reason, second.where) == ("expression_needs_unavailable", "t:0:7")
    assert "REPLICA IDENTITY FULL" in (second.hint or "")
    nothing = row(plan.map(event(Op.UPDATE, after=(1, "eu", UNAVAILABLE, UNAVAILABLE, None))))
    assert nothing.values == (1, "eu", UNAVAILABLE, UNAVAILABLE, None, UNAVAILABLE)


def test_an_expression_that_fails_parks_its_row_only() -> None:
    plan = plan_of("columns: {'*': {}, ratio: {sql: 10 / id}}")
    first, second = plan.map_batch([event(Op.CREATE, after=(0, *ROW[1:])), event(Op.CREATE, after=(3, *ROW[1:]))])
    assert isinstance(first, Poison)
    assert (first.reason, row(second).values) == ("expression_failed", (3, *ROW[1:], 3))
    with pytest.raises(Poison, match="division by zero"):
        plan.map(event(Op.CREATE, after=(0, *ROW[1:])))


@pytest.mark.parametrize("missing", [None, UNAVAILABLE])
def test_keys_are_never_missing(missing: Any) -> None:
    (found,) = plan_of("").map_batch([event(Op.CREATE, after=(1, missing, *NULLS))])
    assert isinstance(found, Poison)
    assert (found.reason, found.what) == ("missing_key", "no value for target key column region")


@pytest.mark.parametrize(
    ("type_", "may"),
    [
        (TEXT, True),
        (ColumnType(Kind.TEXT, "varchar", 3), False),
        (ColumnType(Kind.DECIMAL, "numeric"), True),
        (ColumnType(Kind.DECIMAL, "numeric", 12, 2), False),
        (ColumnType(Kind.JSON, "jsonb"), True),
        (ColumnType(Kind.DATE, "date"), False),
        (BIGINT, False),
    ],
)
def test_what_postgresql_may_leave_out(type_: ColumnType, may: bool) -> None:
    assert may_be_unavailable(type_) is may


def test_partials() -> None:
    maria = TableSchema("crm", "mariadb", "public", "customers", SCHEMA.columns, 4)
    assert plan_of("").target.partials
    assert not plan_of("", maria).target.partials
    assert not plan_of("columns: {id: id, region: region}").target.partials
    assert plan_of("columns: {id: id, region: region, size: {sql: length(name)}}").target.partials


# Deletes, truncates, key changes


def test_deletes() -> None:
    delete = event(Op.DELETE, before=(1, "eu", *NULLS))
    mapped = row(plan_of("").map(delete))
    assert (mapped.op, mapped.key, mapped.values) == (RowOp.DELETE, (1, "eu"), None)
    soft = plan_of("on_delete: soft")
    assert (soft.target.on_delete, soft.target.soft_delete) == (DeletePolicy.SOFT, "is_deleted")
    assert row(soft.map(delete)).op is RowOp.DELETE
    assert plan_of("on_delete: ignore").map(delete) is IGNORED_DELETE
    with pytest.raises(Poison, match="no value for target key"):
        plan_of("").map(event(Op.DELETE))


def test_truncates() -> None:
    mapped = row(plan_of("").map(event(Op.TRUNCATE)))
    assert (mapped.op, mapped.key, mapped.values) == (RowOp.TRUNCATE, (), None)
    assert plan_of("on_truncate: ignore").map(event(Op.TRUNCATE)) is IGNORED_TRUNCATE


def test_the_halves_of_a_key_change_know_one_another() -> None:
    plan = plan_of("columns: {region: region, id: id}\nkey: [region, id]")
    gone = row(plan.map(event(Op.DELETE, before=(1, "eu", *NULLS), moved_to=(2, "us"))))
    came = row(plan.map(event(Op.CREATE, after=(2, "us", *NULLS), moved_from=(1, "eu"))))
    assert (gone.key, gone.moved_to) == (("eu", 1), ("us", 2))
    assert (came.key, came.moved_from) == (("us", 2), ("eu", 1))
    assert plan.key_of_source((1, "eu")) == ("eu", 1)


def test_a_key_change_inside_one_target_row_deletes_nothing() -> None:
    plan = plan_of("key: [id]")
    assert [found.code for found in plan.warnings] == ["narrow-key"]
    assert plan.map(event(Op.DELETE, before=(1, "eu", *NULLS), moved_to=(1, "us"))) is SAME_KEY
    assert row(plan.map(event(Op.CREATE, after=(1, "us", *NULLS), moved_from=(1, "eu")))).moved_from is None


def test_an_update_of_a_key_from_other_columns_is_two_rows() -> None:
    plan = plan_of("key: [name]", full_before=True)
    assert plan.warnings == ()
    before, after = ROW, (1, "eu", "Bea", *ROW[3:])
    pair = plan.map(event(Op.UPDATE, before=before, after=after))
    assert isinstance(pair, tuple)
    gone, came = pair
    assert (gone.op, gone.key, gone.moved_to) == (RowOp.DELETE, ("Ann",), ("Bea",))
    assert (came.op, came.key, came.values, came.moved_from) == (RowOp.UPSERT, ("Bea",), after, ("Ann",))
    assert row(plan.map(event(Op.UPDATE, before=before, after=before))).op is RowOp.UPSERT
    with pytest.raises(Poison, match="no value for target key"):
        plan.key_of_source((1, "eu"))


def test_a_key_from_other_columns_needs_old_rows() -> None:
    assert refused("key: [name]", full_before=False)[0][0] == "key-needs-old-row"
    plan = plan_of("key: [name]")  # not known: a warning, and what cannot be told is parked
    assert [found.code for found in plan.warnings] == ["key-needs-old-row"]
    for unknown in (event(Op.UPDATE, after=ROW), event(Op.DELETE, before=(1, "eu", *NULLS))):
        (found,) = plan.map_batch([unknown])
        assert isinstance(found, Poison)
        assert found.reason == "missing_key"


def test_a_computed_key_from_other_columns_is_refused_unless_old_rows_come() -> None:
    body = "key: [mail]\ncolumns: {'*': {}, mail: {sql: \"coalesce(email, 'none')\"}}"
    assert refused(body)[0][0] == "key-needs-old-row"
    assert plan_of(body, full_before=True).target.key == ("mail",)


def test_batches_keep_their_order() -> None:
    plan = plan_of("columns: {'*': {}, label: {sql: upper(name)}}")
    events = [
        event(Op.DELETE, before=ROW),
        event(Op.CREATE, after=ROW),
        event(Op.TRUNCATE),
        event(Op.UPDATE, after=(2, *ROW[1:])),
    ]
    assert [row(mapped).key for mapped in plan.map_batch(events)] == [(1, "eu"), (1, "eu"), (), (2, "eu")]
    assert plan.map_batch([]) == []
