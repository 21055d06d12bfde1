"""What each target column becomes: where its values come from, its type in every kind of database, and the way back
from each source column. A mapping is compiled against its source table as the catalog has it; nothing else is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cdc.author.keys import OpenKeys
from cdc.author.scaffold import read_tables
from cdc.author.values import shown
from cdc.db.catalog import CatalogTable
from cdc.engine.plans import refuser
from cdc.entries import SourceKind
from cdc.mapping import change
from cdc.mapping.compile import compile_table
from cdc.mapping.model import Pipeline, TableMapping
from cdc.mapping.plan import Maker
from cdc.model import TableSchema, TargetColumn
from cdc.settings import Settings
from cdc.source.described import table_schema
from cdc.target import mariadb_types, postgres_types, sqlite_types


@dataclass(frozen=True)
class ColumnExplained:
    """One target column. `origin`: copy, expression or constant, with its text in `by`; `reads`: source columns.
    `types`: by kind of target. `declared`: the type that the mapping says, or ''."""

    name: str
    origin: str
    by: str
    reads: tuple[str, ...]
    types: dict[str, str]
    declared: str
    nullable: bool
    key: bool


@dataclass(frozen=True)
class TableExplained:
    """One mapping. `used`: every source column → the target columns that read it, none for what is left out.
    `warnings`: of the compiler."""

    pipeline: str
    source: str
    table: str
    to: str
    where: str
    columns: tuple[ColumnExplained, ...]
    used: dict[str, tuple[str, ...]]
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def explain(settings: Settings, pipeline: Pipeline, names: Sequence[str] = ()) -> list[TableExplained]:
    """The mappings of these target or source tables (all), by the live catalogs. Raises `Usage`, `MappingError`."""
    found = []
    for mapping in pipeline.tables:
        if names and not {str(mapping.to), str(mapping.from_)} & set(names):
            continue
        source = settings.source(mapping.source_name)
        (table,) = read_tables(source, [f"{mapping.from_.namespace}.{mapping.from_.name}"])
        found.append(explain_table(mapping, table, source.kind))
    return found


def explain_table(mapping: TableMapping, table: CatalogTable, kind: SourceKind) -> TableExplained:
    schema = table_schema(mapping.source_name, kind, table)
    full = True if table.replica_identity == "full" else False if kind == "postgresql" else None
    plan = compile_table(mapping, schema, refuse=refuser(schema), full_before=full, keys=OpenKeys())
    columns = tuple(
        _column(mapping, schema, column, maker, plan.target.key)
        for column, maker in zip(plan.target.columns, plan.makers, strict=True)
    )
    used = {
        column.name: tuple(each.name for each in columns if {column.name, f"before.{column.name}"} & set(each.reads))
        for column in schema.columns
    }
    return TableExplained(
        mapping.id.partition("/")[0],
        mapping.source_name,
        str(mapping.from_),
        str(mapping.to),
        mapping.finding("", "", ("to",)).where,
        columns,
        used,
        tuple(f"{found.where}: {found.message}" for found in plan.warnings),
    )


def _column(
    mapping: TableMapping, schema: TableSchema, column: TargetColumn, maker: Maker, key: Sequence[str]
) -> ColumnExplained:
    reads = tuple(change.name_of(schema, index) for index in maker.inputs)
    spec = mapping.columns.named.get(column.name)
    if maker.source is not None:
        origin, by = "copy", reads[0]
    elif spec is not None and (spec.map or spec.default is not None):
        origin, by = "map" if spec.map else "copy", reads[0]
    elif spec is not None and spec.sql is not None:
        origin, by = "expression", " ".join(spec.sql.split())
    else:
        origin, by = "constant", shown(maker.constant, column.type)
    in_key = column.name in key
    return ColumnExplained(
        column.name,
        origin,
        by,
        reads,
        {
            "postgresql": column.sql_type or postgres_types.sql_type(column.type),
            "mariadb": mariadb_types.declared_type(column, mariadb_types.KEY_BYTES // len(key) if in_key else None),
            "sqlite": sqlite_types.declared_type(column.type, column.sql_type),
        },
        column.sql_type or "",
        column.nullable and not in_key,
        in_key,
    )
