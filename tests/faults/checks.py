"""The invariants of the design, asked by SQL and by reading the topics: nothing here is the product's own code."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from tests.faults import topics
from tests.faults.pipeline import Pipeline, key_of, texts
from tests.faults.source import COLUMNS, Source
from tests.faults.topics import PLACEHOLDER, Place, Seen

Row = tuple[Any, ...]
UNKNOWN = object()  # a value that the stream alone does not tell


def equal(source: Source, pipeline: Pipeline, *, but: Iterable[tuple[str, Row]] = ()) -> int:
    """I1: the target's tables hold the source's rows, as text, both ways; returns how many rows were compared.

    `but`: (table, key) that may differ: parked ones.
    """
    compared = 0
    excluded = set(but)
    for table in pipeline.tables:
        left = dict(texts(source.database.dsn, "public", table))
        right = pipeline.texts(table)
        for key in {key for where, key in excluded if where == table}:
            left.pop(tuple(map(str, key)), None)
            right.pop(tuple(map(str, key)), None)
        different = [key for key in left.keys() & right.keys() if left[key] != right[key]]
        assert (sorted(left.keys() - right.keys()), sorted(right.keys() - left.keys()), sorted(different)) == (
            [],
            [],
            [],
        ), f"{pipeline.name}: {table}: missing, too many, different{pipeline.logs()}"
        compared += len(left)
    return compared


def counted(pipeline: Pipeline, starts: Mapping[Place, int] | None = None) -> int:
    """I2: per partition the outcomes add up to the records that were consumed; returns their number.

    Only for pipelines that were never rewound, on topics without transactions: there a record is an offset.
    """
    found = pipeline.tallied()
    assert all(number >= 0 for *_, number in found), f"{pipeline.name}: a negative count: {found}"
    tallied: Counter[Place] = Counter()
    for topic, partition, _, _, number in found:
        tallied[topic, partition] += number
    consumed = {place: at - (starts or {}).get(place, 0) for place, at in pipeline.watermarks().items()}
    assert +tallied == {place: number for place, number in consumed.items() if number}, pipeline.name
    return tallied.total()


def never_fell(pipeline: Pipeline) -> None:
    """I3: no row's position ever became smaller."""
    assert pipeline.falls() == []


def atomic(pipeline: Pipeline) -> int:
    """I5: the target holds exactly what the topics say up to its watermarks; returns how many rows were compared.

    Keys with parked changes are left out, and so are values that came neither with the row nor before it in its
    partition (large ones of a row whose key changed: they come from another partition).
    """
    marks = pipeline.watermarks()
    expected = _played(topics.records(pipeline.stack, marks))
    parked = {(table, tuple(map(str, key or ()))) for table, key, _ in pipeline.parked()}
    compared = 0
    for table in pipeline.tables:
        wanted = {key: row for key, row in expected.get(table, {}).items() if (table, key) not in parked}
        held = pipeline.texts(table)
        held = {key: row for key, row in held.items() if (table, key) not in parked}
        assert wanted.keys() == held.keys(), f"{pipeline.name}: {table} at {marks}"
        wrong = [
            key for key, row in wanted.items() if not _agree(row, dict(zip(COLUMNS[table], held[key], strict=True)))
        ]
        assert wrong == [], f"{pipeline.name}: {table} at {marks}"
        compared += len(wanted)
    return compared


def _played(records: list[Seen]) -> dict[str, dict[Row, dict[str, Any]]]:
    """The rows that the records make, by table and key as text; every key lives in one partition."""
    tables: dict[str, dict[Row, dict[str, Any]]] = {}
    for seen in records:
        if seen.payload is None or seen.key is None:
            continue
        table = seen.place[0].rpartition(".")[2]
        rows = tables.setdefault(table, {})
        key = tuple(map(str, key_of(table, seen.key)))
        after = seen.payload["after"]
        if after is None:
            rows.pop(key, None)
            continue
        before = rows.get(key, {})
        rows[key] = {
            name: before.get(name, UNKNOWN) if value == PLACEHOLDER else value for name, value in after.items()
        }
    return tables


def _agree(wanted: dict[str, Any], held: dict[str, Any]) -> bool:
    return all(
        value is UNKNOWN or held[name] == (None if value is None else str(value)) for name, value in wanted.items()
    )


def flowed(pipeline: Pipeline, at_least: int) -> None:
    """I8: the test was not about nothing."""
    consumed = sum(pipeline.watermarks().values())
    assert consumed >= at_least, f"{pipeline.name}: only {consumed} records"


def parked_keys(pipeline: Pipeline) -> set[tuple[str, Row]]:
    return {(table, key) for table, key, _ in pipeline.parked() if key is not None}


def outcomes(pipeline: Pipeline) -> dict[tuple[str, str], int]:
    """(outcome, reason) → number, over all partitions."""
    found: Counter[tuple[str, str]] = Counter()
    for _, _, outcome, reason, number in pipeline.tallied():
        found[outcome, reason] += number
    return {told: number for told, number in found.items() if number}


def whole(source: Source, pipeline: Pipeline, at_least: int, *, counts: bool = True) -> None:
    """After a fault healed and everything has caught up: equal (but for parked keys), counted, never fallen."""
    assert equal(source, pipeline, but=parked_keys(pipeline)) > 0
    if counts:
        counted(pipeline)
    never_fell(pipeline)
    flowed(pipeline, at_least)


def as_json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
