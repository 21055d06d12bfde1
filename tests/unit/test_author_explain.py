"""`cdc mapping explain`: origins, types and lineage, both ways."""

from __future__ import annotations

from cdc.author.explain import explain_table
from cdc.db.catalog import CatalogColumn, CatalogTable
from cdc.mapping.load import loads

PEOPLE = CatalogTable(
    "public",
    "people",
    (
        CatalogColumn("id", "int8", "bigint", False),
        CatalogColumn("name", "text", "text", False),
        CatalogColumn("fee", "numeric", "numeric(10,2)", True),
        CatalogColumn("notes", "text", "text", True),
    ),
    ("id",),
)
TEXT = """
pipeline: p
source: crm
target: hub
tables:
  - from: public.people
    to: hub.people
    columns:
      "*": {except: [notes], rename: {name: full_name}}
      label: {sql: "upper(name) || ' ' || fee::text"}
      origin: {value: crm}
      yearly: {sql: fee * 12, type: "numeric(12,2)"}
"""


def test_every_column_has_its_origin_and_its_types() -> None:
    found = explain_table(loads(TEXT, "p.yaml").tables[0], PEOPLE, "postgresql")
    by_name = {each.name: each for each in found.columns}
    assert list(by_name) == ["id", "full_name", "fee", "label", "origin", "yearly"]
    assert {name: (each.origin, each.by) for name, each in by_name.items()} == {
        "id": ("copy", "id"),
        "full_name": ("copy", "name"),
        "fee": ("copy", "fee"),
        "label": ("expression", "upper(name) || ' ' || fee::text"),
        "origin": ("constant", "crm"),
        "yearly": ("expression", "fee * 12"),
    }
    assert by_name["fee"].types == {"postgresql": "numeric(10,2)", "mariadb": "decimal(10,2)", "sqlite": "TEXT"}
    assert (by_name["yearly"].declared, by_name["yearly"].types["postgresql"]) == ("numeric(12,2)", "numeric(12,2)")
    assert [(each.name, each.key, each.nullable) for each in found.columns][:3] == [
        ("id", True, False),
        ("full_name", False, False),
        ("fee", False, True),
    ]


def test_the_way_back_from_each_source_column() -> None:
    found = explain_table(loads(TEXT, "p.yaml").tables[0], PEOPLE, "postgresql")
    assert found.used == {"id": ("id",), "name": ("full_name", "label"), "fee": ("fee", "label", "yearly"), "notes": ()}
    assert (found.where, found.to_dict()["columns"][3]["reads"]) == ("p.yaml:7:9", ("name", "fee"))
