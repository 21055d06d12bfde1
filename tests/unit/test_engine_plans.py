"""Plans: topics of a pipeline, and its mappings compiled once a schema version."""

from __future__ import annotations

import pytest
import structlog.testing

from cdc.engine.plans import Plans
from cdc.errors import Poison, Terminal
from cdc.mapping.diagnostics import MappingError
from cdc.mapping.load import loads
from cdc.mapping.plan import KeylessPlan, Plan
from cdc.model import (
    ChangeEvent,
    Column,
    ColumnType,
    Contributes,
    Decision,
    Kind,
    MappedRow,
    Op,
    Position,
    RawRecord,
    TableSchema,
)

PIPELINE = """
pipeline: two
source: crm
target: hub
tables:
  - {from: public.people, to: hub.people}
  - {from: public.people, to: hub.copies, on_truncate: ignore}
  - {from: billing.invoices, to: hub.invoices, source: erp}
"""
KEYED = (Column("id", ColumnType(Kind.INTEGER, "int8"), nullable=False, key=True),)


def schema(*columns: Column, version: int = 1, table: str = "people") -> TableSchema:
    return TableSchema("crm", "postgresql", "public", table, columns, version)


def event(of: TableSchema, op: Op) -> ChangeEvent:
    image = (1,) * len(of.columns) if op is not Op.TRUNCATE else None
    return ChangeEvent(RawRecord("crm.public.people", 0, 7, None, b"{}"), of, op, Position(1, 2, 3), None, image)


@pytest.fixture
def plans() -> Plans:
    return Plans(loads(PIPELINE))


def test_topics_and_what_reads_them(plans: Plans) -> None:
    assert plans.topics == ["crm.public.people", "erp.billing.invoices"]
    assert plans.sources == ["crm", "erp"]
    assert plans.source_of("erp.billing.invoices") == "erp"
    assert plans.mappings_of("crm.public.people") == ["two/hub.people", "two/hub.copies"]
    assert plans.mappings_of("unheard.of") == []


def test_compiled_once_for_each_schema_version(plans: Plans) -> None:
    first = plans.of(schema(*KEYED))
    assert [type(plan) for plan in first] == [Plan, Plan]
    assert plans.of(schema(*KEYED)) is first
    assert plans.of(schema(*KEYED, version=2)) is not first


def test_a_topic_that_no_mapping_reads(plans: Plans) -> None:
    with pytest.raises(Terminal, match="no mapping reads"):
        plans.of(schema(*KEYED, table="others"))


def test_a_type_that_cannot_be_exact_is_refused(plans: Plans) -> None:
    with pytest.raises(MappingError, match="zone is not sent"):
        plans.of(schema(*KEYED, Column("at", ColumnType(Kind.TIME, "timetz"))))


def test_truncates_come_without_a_key_and_get_plans_of_their_own(plans: Plans) -> None:
    keyless = schema(Column("id", ColumnType(Kind.INTEGER, "int8")))
    people, copies = plans.of(keyless)
    assert isinstance(people, KeylessPlan)
    assert people.target.mapping == "two/hub.people"
    (row,) = people.map_batch([event(keyless, Op.TRUNCATE)])
    assert isinstance(row, MappedRow)
    assert (row.op, row.key, row.position) == ("truncate", (), Position(1, 2, 3))
    (ignored,) = copies.map_batch([event(keyless, Op.TRUNCATE)])
    assert isinstance(ignored, Decision)
    assert ignored.reason == "ignored_truncate"


def test_a_truncate_of_one_of_several_sources_is_about_its_words_only() -> None:
    keyless = schema(Column("id", ColumnType(Kind.INTEGER, "int8")))
    mine = PIPELINE.replace("target: hub\n", "target: hub\nrules: {hub.people: {sources: [crm, erp]}}\n")
    mine += "  - {from: billing.people, to: hub.people, source: erp}\n"
    people = Plans(loads(mine)).of(keyless)[0]
    assert people.target.mapping == "two/hub.people@crm"
    assert people.target.contributes == Contributes("two/hub.people", "crm", 0)


def test_a_row_without_a_key_is_poison(plans: Plans) -> None:
    keyless = schema(Column("id", ColumnType(Kind.INTEGER, "int8")))
    plan = plans.of(keyless)[0]
    (poison,) = plan.map_batch([event(keyless, Op.CREATE)])
    assert isinstance(poison, Poison)
    assert (poison.reason, poison.where) == ("missing_key", "crm.public.people:0:7")
    with pytest.raises(Poison):
        plan.key_of_source((1,))


def test_columns_that_come_and_go_are_told(plans: Plans, monkeypatch: pytest.MonkeyPatch) -> None:
    log = structlog.testing.CapturingLogger()
    monkeypatch.setattr("cdc.engine.plans._log", log)
    text, number = ColumnType(Kind.TEXT, "text"), ColumnType(Kind.INTEGER, "int4")
    plans.of(schema(*KEYED, Column("name", text), Column("age", number)))
    plans.of(schema(*KEYED, Column("name", text), Column("age", number), Column("city", text), version=2))
    plans.of(schema(*KEYED, Column("age", text), Column("city", text), version=3))
    told = [(call.method_name, *(call.kwargs[word] for word in ("new", "gone", "retyped"))) for call in log.calls]
    assert told == [("info", ["city"], [], []), ("warning", [], ["name"], ["age"])]


def test_another_version_with_the_same_columns_is_not_told(plans: Plans, monkeypatch: pytest.MonkeyPatch) -> None:
    log = structlog.testing.CapturingLogger()
    monkeypatch.setattr("cdc.engine.plans._log", log)
    plans.of(schema(*KEYED))
    plans.of(schema(*KEYED, version=2))
    assert log.calls == []
