"""A target's write path alone: it is fed with rows that are mapped, in batches of 5,000 with one COMMIT each.

Encoding them is the target's work, in another thread and a batch ahead, as a worker does it.
"""

from __future__ import annotations

import gc
import itertools
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from cdc.blocks import RowBlock, Writes, folded
from cdc.model import (
    ColumnType,
    Kind,
    MappedRow,
    Outcome,
    Position,
    RawRecord,
    RowOp,
    TargetColumn,
    TargetTable,
    Value,
    Write,
)
from cdc.stack import Server, Stack
from cdc.target.base import Owner, Target
from tests.blocks import in_blocks

BATCH = 5000
ROUNDS = 3
_RECORD = RawRecord("topic", 0, 0, None, None)
_TEXT, _SHORT = ColumnType(Kind.TEXT, "text"), ColumnType(Kind.TEXT, "varchar", 100)
COLUMNS = {
    "id": ColumnType(Kind.INTEGER, "int8"),
    "name": _SHORT,
    "email": _SHORT,
    "notes": _TEXT,
    "profile": ColumnType(Kind.JSON, "json"),
    "a": ColumnType(Kind.INTEGER, "int4"),
    "b": ColumnType(Kind.INTEGER, "int4"),
    "amount": ColumnType(Kind.DECIMAL, "numeric", 12, 2),
    "born": ColumnType(Kind.DATE, "date"),
    "created": ColumnType(Kind.TIMESTAMP, "timestamp", 6),
    "updated": ColumnType(Kind.TIMESTAMPTZ, "timestamptz", 6),
    "active": ColumnType(Kind.BOOLEAN, "bool"),
    "state": ColumnType(Kind.TEXT, "varchar", 20),
    "score": ColumnType(Kind.FLOAT64, "float8"),
}


@contextmanager
def server_of(part: Literal["postgres", "mariadb"]) -> Iterator[Server]:
    """The server of a stack of its own, alone, which does not wait for its disk."""
    with tempfile.TemporaryDirectory(prefix="cdc-bench-") as folder:
        Path(folder).chmod(0o755)  # the server runs under an account of its own
        stack = Stack(Path(folder) / "home")
        try:
            endpoints = stack.up([part], fast=True)
            yield endpoints.postgres if part == "postgres" else endpoints.mariadb
        finally:
            stack.reset(execute=True)


def table_of(namespace: str) -> TargetTable:
    columns = tuple(TargetColumn(name, type_, nullable=name != "id") for name, type_ in COLUMNS.items())
    return TargetTable("bench/people", namespace, "people", columns, ("id",))


def values_of(key: int, version: int) -> tuple[Value, ...]:
    return (
        *(
            key,
            f"Name {key} {version}",
            f"u{key}@example.org",
            "some notes " + "x" * 60,
            f'{{"a": {key}}}',
            key,
            version,
        ),
        *("12.50", 20455, 1767323045123456, "2026-01-02T03:04:05.123456Z", True, "active", 1.5),
    )


def batches_of(rows: int) -> Iterator[range]:
    """The keys of each batch."""
    return (range(first, min(first + BATCH, rows)) for first in range(0, rows, BATCH))


def rows_per_s(target: Target, table: TargetTable, rows: int, version: int, *, ahead: bool = True) -> float:
    """The target's transactions; the rows are mapped before the clock starts. `ahead`: encoded in another thread while
    the batch before is written; else in turns with it. The target is closed."""
    batches = [_mapped(table, keys, version) for keys in batches_of(rows)]
    gc.disable()  # as in a worker, also the next line
    sys.setswitchinterval(0.0005)
    target.open(Owner("bench", "target"))
    try:
        with ThreadPoolExecutor(1) as other:
            target.prepare(table)
            began = time.monotonic()
            coming = other.submit(target.encode, table, batches[0])
            for batch, after in itertools.zip_longest(batches, batches[1:]):
                batch.encoded = coming.result()
                if after is not None and ahead:
                    coming = other.submit(target.encode, table, after)
                with target.begin() as transaction:
                    decisions = transaction.write(table, batch).values()
                    assert all(decision.outcome is Outcome.APPLIED for decision in decisions)
                if after is not None and not ahead:
                    coming = other.submit(target.encode, table, after)
            return rows / (time.monotonic() - began)
    finally:
        gc.enable()
        target.close()


def _mapped(table: TargetTable, keys: Sequence[int], version: int) -> Writes:
    rows = [
        MappedRow(RowOp.UPSERT, (key,), values_of(key, version), Position(1, version, key), _RECORD, created=True)
        for key in keys
    ]
    writes = folded(table, [block for block in in_blocks(rows) if isinstance(block, RowBlock)])
    assert writes is not None
    return writes


def single_rows_per_s(target: Target, table: TargetTable, rows: int, version: int) -> float:
    """The same for rows that are carried one by one, updates with before images of the version before."""
    batches = [[*_updates(keys, version)] for keys in batches_of(rows)]
    target.open(Owner("bench", "target"))
    try:
        target.prepare(table)
        began = time.monotonic()
        for batch in batches:
            with target.begin() as transaction:
                assert transaction.write(table, batch) == {}
        return rows / (time.monotonic() - began)
    finally:
        target.close()


def _updates(keys: Sequence[int], version: int) -> Iterator[Write]:
    for key in keys:
        at, before = Position(1, version, key), values_of(key, version - 1)
        yield Write(MappedRow(RowOp.UPSERT, (key,), values_of(key, version), at, _RECORD, before=before), at)
