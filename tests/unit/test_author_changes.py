"""What a change of a mapping means: each kind of change, told as breaking, re-load, forward-only or restart."""

from __future__ import annotations

import pytest

from cdc.author.changes import Change, Effect, compare, reloads
from cdc.author.deployment import says_the_same
from cdc.mapping.compile import compile_table
from cdc.mapping.load import loads
from cdc.mapping.model import Pipeline
from cdc.mapping.plan import Plan
from cdc.model import Column, ColumnType, Kind, TableSchema

INTEGER, TEXT = ColumnType(Kind.INTEGER, native="int4"), ColumnType(Kind.TEXT, native="text")
PEOPLE = TableSchema(
    "crm",
    "postgresql",
    "public",
    "people",
    (Column("id", INTEGER, False, True), *(Column(name, TEXT, True, False) for name in ("name", "email", "notes"))),
    -1,
)
ORDERS = TableSchema("crm", "postgresql", "public", "orders", (Column("id", INTEGER, False, True),), -2)
BASE = """
pipeline: crm
source: crm
target: hub
tables:
  - from: public.people
    to: hub.people
    columns:
      "*": {except: [notes]}
      email: {sql: lower(email)}
  - from: public.orders
    to: hub.orders
"""
READ = frozenset({"crm.public.people", "crm.public.orders"})


def plans(pipeline: Pipeline) -> dict[str, Plan | None]:
    schemas = {"people": PEOPLE, "orders": ORDERS}
    return {table.id: compile_table(table, schemas[table.from_.name]) for table in pipeline.tables}


def changes(old: str | None, new: str, known: frozenset[str] = READ) -> tuple[Change, ...]:
    before, after = None if old is None else loads(old), loads(new)
    return compare(before, after, {} if before is None else plans(before), plans(after), known)


def told(found: tuple[Change, ...]) -> list[tuple[str, str, str, tuple[Effect, ...]]]:
    return [
        (change.sign, ".".join(filter(None, (change.table, change.column))), change.what, change.effects)
        for change in found
    ]


ONE = [
    ("an expression", "lower(email)", "upper(email)", ("~", "hub.people.email", "sql", ("re-load",))),
    ("a copy instead", "{sql: lower(email)}", "email", ("~", "hub.people.email", "copy", ("re-load",))),
    ("a type", "{sql: lower(email)}", "{sql: lower(email), type: varchar(90)}", (
        *("~", "hub.people.email", "type", ("breaking",)),
    )),
    ("a type and what it holds", "lower(email)", "length(email)", (
        *("~", "hub.people.email", "sql", ("breaking", "re-load")),
    )),
    ("a column more", "{except: [notes]}", "", ("+", "hub.people.notes", "column", ("re-load",))),
    ("a constant more", "      email:", "      origin: {value: crm}\n      email:", (
        *("+", "hub.people.origin", "column", ("re-load",)),
    )),
    ("a column less", "[notes]", "[notes, name]", ("-", "hub.people.name", "column", ("breaking",))),
    ("a key", "  - from: public.orders", "    key: [id, name]\n  - from: public.orders", (
        *("~", "hub.people", "key", ("breaking", "re-load")),
    )),
    ("deletes", "to: hub.people", "to: hub.people\n    on_delete: soft", (
        *("~", "hub.people", "on_delete", ("forward-only",)),
    )),
    ("truncates", "to: hub.people", "to: hub.people\n    on_truncate: park", (
        *("~", "hub.people", "on_truncate", ("forward-only",)),
    )),
    ("conflict rules", "tables:", "rules: {hub.people: {on: {insert_exists: park}}}\ntables:", (
        *("~", "hub.people", "rules", ("forward-only",)),
    )),
    ("another source", "source: crm\n", "source: crm2\n", ("~", "hub.people", "source", ("breaking", "re-load"))),
    ("limits of what is parked", "tables:", "parked: {max: 7}\ntables:", (
        *("~", "", "parked", ("forward-only",)),
    )),
    ("a batch", "tables:", "batch: {rows: 7}\ntables:", ("~", "", "batch", ("forward-only",))),
    ("the client", "tables:", "client: librdkafka\ntables:", ("~", "", "client", ("restart",))),
    ("a description", "tables:", "description: people\ntables:", ("~", "", "description", ())),
    ("a table less", "  - from: public.orders\n    to: hub.orders\n", "", ("-", "hub.orders", "table", ("breaking",))),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "expected"), [each[1:] for each in ONE], ids=[each[0] for each in ONE])
def test_one_change(old: str, new: str, expected: tuple[str, str, str, tuple[Effect, ...]]) -> None:
    assert old in BASE
    found = changes(BASE, BASE.replace(old, new, 1))
    assert told(found)[0] == expected


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("tables:", "# people of the CRM\ntables:"),
        ('"*": {except: [notes]}', "id: id\n      name: name"),
        ("to: hub.people", "to: hub.people\n    key: [id]\n    on_delete: delete"),
        ("    to: hub.orders", "    to: hub.orders\n    columns: '*'"),
    ],
)
def test_what_means_the_same_is_no_change(old: str, new: str) -> None:
    assert changes(BASE, BASE.replace(old, new, 1)) == ()


def test_a_table_more_needs_a_load_only_where_its_topic_is_read_already() -> None:
    without = BASE.replace("  - from: public.orders\n    to: hub.orders\n", "")
    table, column = changes(without, BASE, frozenset({"crm.public.people"}))
    assert told((table, column)) == [("+", "hub.orders", "table", ()), ("+", "hub.orders.id", "column", ())]
    assert "from the beginning" in table.note
    found = changes(without, BASE)
    assert found[0].effects == ("re-load",)
    assert reloads(found) == {"hub.orders"}


def test_a_renamed_table_is_one_less_and_one_more() -> None:
    found = changes(BASE, BASE.replace("hub.orders", "hub.purchases"))
    assert told(found) == [
        ("+", "hub.purchases", "table", ("re-load",)),
        ("+", "hub.purchases.id", "column", ()),
        ("-", "hub.orders", "table", ("breaking",)),
    ]


def test_the_first_version_is_all_new_and_asks_for_nothing() -> None:
    found = changes(None, BASE)
    assert {change.sign for change in found} == {"+"}
    assert {change.effects for change in found} == {()}


def test_without_the_source_columns_the_file_is_compared_as_it_is_written() -> None:
    old, new = loads(BASE), loads(BASE.replace("[notes]", "[name]"))
    found = compare(old, new, {}, {}, READ)
    assert told(found) == [("~", "hub.people.*", "except", ("re-load",))]


def test_a_version_says_the_same_whatever_it_looks_like() -> None:
    tables = BASE.partition("tables:\n")[2].partition("  - from: public.orders")
    turned = BASE.partition("tables:\n")[0] + "tables:\n" + tables[1] + tables[2] + tables[0]
    assert says_the_same(loads(BASE), loads(turned))
    assert says_the_same(loads(BASE), loads(f"# another look\n{BASE}"))
    assert not says_the_same(loads(BASE), loads(BASE.replace("lower", "upper")))
