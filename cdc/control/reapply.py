"""After a change of rules: the rows that several sources make are worked out anew from what is kept of them.

A change of any source does that by itself for its row; this does it for all rows, while workers go on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from cdc.control.operate import begun, owner_of
from cdc.engine.build import target_of
from cdc.engine.merged import known_shapes
from cdc.engine.merging_target import MergingTarget
from cdc.errors import Usage
from cdc.mapping.model import Pipeline, TableMapping
from cdc.model import Contributes, TargetTable
from cdc.settings import Settings


@dataclass(frozen=True)
class Table:
    """One target table. `looked`: rows that are kept; `rows`: those of them that other rules made, worked out anew (or
    to be)."""

    pipeline: str
    table: str
    looked: int = 0
    rows: int = 0


@dataclass(frozen=True)
class Reapplication:
    tables: tuple[Table, ...]
    executed: bool

    @property
    def rows(self) -> int:
        return sum(table.rows for table in self.tables)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def reapply(
    settings: Settings,
    pipelines: Sequence[Pipeline],
    tables: Sequence[str],
    *,
    execute: bool,
) -> Reapplication:
    """`tables`: only these ('schema.table'); none: all. Without `execute` every portion is written and taken back, so
    that it is known that the rules can make every row. Raises `Usage` when there is nothing to do it for."""
    found = [
        (pipeline.part(target), mapping)
        for pipeline in pipelines
        for target in pipeline.targets
        for mapping in _first_of_each(pipeline.part(target))
        if not tables or str(mapping.to) in tables
    ]
    if not found:
        raise Usage("no such table has rules with several sources", hint="see 'rules:' in the mapping files")
    done = tuple(_one(settings, pipeline, mapping, execute) for pipeline, mapping in found)
    return Reapplication(done, execute)


def _first_of_each(pipeline: Pipeline) -> list[TableMapping]:
    """One mapping of each target table that several sources make."""
    return list({mapping.to: mapping for mapping in pipeline.tables if mapping.contributor is not None}.values())


def _one(settings: Settings, pipeline: Pipeline, mapping: TableMapping, execute: bool) -> Table:
    target = target_of(settings, pipeline)
    assert isinstance(target, MergingTarget), "the mapping has a contributor"
    done = Table(pipeline.label, str(mapping.to))
    target.open(owner_of(pipeline))
    try:
        table = _contribution(target, mapping)
        if table is None:
            return done
        target.prepare(table)
        after: str | None = ""
        while after is not None:
            with begun(target.begin(), execute) as transaction:
                portion = transaction.reapply(table, after)
            after = portion.after
            done = replace(done, looked=done.looked + portion.looked, rows=done.rows + portion.rows)
        return done
    finally:
        target.close()


def _contribution(target: MergingTarget, mapping: TableMapping) -> TargetTable | None:
    """A table of contributions as it is known from what is kept; None when nothing is."""
    shapes = known_shapes(target.inner.shapes.all(mapping.target_id))
    for shape in shapes.values():
        soft = mapping.contributes(len(shape.key))
        assert soft is not None
        way = Contributes(mapping.target_id, shape.contributor, len(shape.key), soft.soft_delete)
        return TargetTable(
            mapping=f"{mapping.target_id}@{shape.contributor}",
            namespace=mapping.to.namespace,
            name=mapping.to.name,
            columns=shape.columns,
            key=shape.key,
            contributes=way,
        )
    return None
