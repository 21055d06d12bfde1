"""Tables that somebody else made, for tests of how PostgreSQL targets write to them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from contextlib import closing

import msgspec
import pytest

from cdc.errors import Terminal
from cdc.model import DeletePolicy, MappedRow, TargetColumn, TargetTable
from cdc.target.base import Owner
from tests.fix_targets import PostgresBench
from tests.tapes import play

_numbers = itertools.count(1)


class Made(PostgresBench):
    """A bench whose tables are there before anybody prepares them."""

    def __init__(self, bench: PostgresBench, statements: Sequence[str]) -> None:
        self.dsn, self.reader, self.statements = bench.dsn, bench.reader, statements

    def table(self, policy: DeletePolicy = DeletePolicy.DELETE) -> TargetTable:
        table = super().table(policy)
        make(self, table, *self.statements)
        return table


def make(bench: PostgresBench, table: TargetTable, *statements: str) -> None:
    for statement in statements:
        bench.reader.execute(statement.format(t=f"hub.{table.name}"))


def with_values(row: MappedRow, *values: object) -> MappedRow:
    return msgspec.structs.replace(row, values=values)


def wider(table: TargetTable, *columns: TargetColumn) -> TargetTable:
    return msgspec.structs.replace(table, columns=(*table.columns, *columns))


def held(bench: PostgresBench, table: TargetTable, rows: list[MappedRow], cuts: Sequence[int] = ()) -> dict[str, str]:
    """Play the rows in both ways, each with an owner of its own; what is held afterwards, hold → reason."""
    found: list[dict[str, str]] = []
    for blocks in (True, False):
        target = bench.target()
        with closing(target):
            owner = Owner(f"{table.name} {next(_numbers)}", "target")
            applier = play(target, table, rows, cuts, owner, blocks=blocks)
            found.append({hold: reason for (_, hold), reason in applier.held.items()})
    assert found[0] == found[1]
    return found[0]


def errors(bench: PostgresBench, table: TargetTable) -> list[str]:
    query = "SELECT DISTINCT error FROM cdc.parked WHERE mapping = %s AND error <> ''"
    return [error for (error,) in bench.reader.execute(query, (table.mapping,))]


def prepare(bench: PostgresBench, table: TargetTable) -> None:
    target = bench.target()
    with closing(target):
        target.open(Owner(table.name, "target"))
        target.prepare(table)


def refused(bench: PostgresBench, table: TargetTable) -> Terminal:
    with pytest.raises(Terminal) as caught:
        prepare(bench, table)
    assert caught.value.where == f"{table.namespace}.{table.name}"
    return caught.value
