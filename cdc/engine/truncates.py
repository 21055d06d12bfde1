"""What becomes of a truncate that its table's policy does not let through."""

from __future__ import annotations

from cdc.errors import Terminal
from cdc.model import MappedRow, TargetTable
from cdc.target.base import TRUNCATE, Parked


def parked_truncate(table: TargetTable, row: MappedRow) -> Parked:
    """The truncate as a parked record of the whole table: no key waits behind it."""
    error = "on_truncate: park. The target still has the rows that the source removed; a retry removes them"
    return Parked(table.mapping, "", row.record, row.position, TRUNCATE, error)


def refused_truncate(table: TargetTable, row: MappedRow) -> Terminal:
    """Why the pipeline stops there, and how it gets past."""
    pipeline = table.mapping.partition("/")[0]
    return Terminal(
        f"the source table was truncated, and {table.mapping} refuses that (on_truncate: refuse)",
        where=row.record.where,
        hint=f"`cdc park {row.record.where} --pipeline {pipeline} --execute --reason …` sets it aside, so that the"
        " target's rows stay and others go on; or set on_truncate to apply, ignore or park",
    )
