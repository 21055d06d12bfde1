"""Every type of both sources: what is read by SQL is what the decoder gives for the same row, and compares as equal.

One table a type, each value once before the snapshot and once after it, all through one connector. What the decoder
gives is written to a target table; the comparison, which reads the source by SQL, must then find nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest

from cdc.engine.targets import open_target
from cdc.mapping.compile import compile_table
from cdc.mapping.load import loads
from cdc.model import ChangeEvent, Kind, MappedRow, TableSchema, Write
from cdc.reconcile.compare import compare
from cdc.reconcile.comparison import Options
from cdc.reconcile.report import CompareReport
from cdc.reconcile.source_rows import Image, open_source
from cdc.settings import Settings, load
from cdc.source.envelope import Decoder, PoisonRecord
from cdc.stack import Stack
from cdc.target.base import Owner, PoisonRow, Target
from cdc.target.postgres_lines import copy_line_builder
from cdc.target.postgres_state import migrate
from cdc.target.postgres_tables import prepare_table
from tests.conformance import test_types_mariadb, test_types_postgres, types_mariadb_cases, types_postgres_cases
from tests.conformance.types_capture import Capture
from tests.fix_stack import Database, new_mariadb_database, new_postgres_database

pytestmark = pytest.mark.stack
LATER = 1000  # keys of the rows that were written after the snapshot
Case = types_postgres_cases.Case | types_mariadb_cases.Case


@dataclass
class Both:
    """The rows of all cases, read by SQL and decoded, and the comparison of what was written from the latter."""

    cases: Sequence[Case]
    schemas: list[TableSchema]
    images: list[dict[int, Image]]
    events: list[dict[int, ChangeEvent]]
    reports: dict[str, CompareReport]  # by target
    refused: list[int]  # rows that MariaDB cannot hold


def settings_of(folder: Path, kind: str, source: Database, target: Database, reports: Database) -> Settings:
    server, hub, maria = source.server, target.server, reports.server
    text = f"""
sources:
  s: {{kind: {kind}, host: {server.host}, port: {server.port}, database: {source.name}, user: {server.user}, password: "${{env:SOURCE}}"}}
targets:
  hub: {{kind: postgresql, host: {hub.host}, port: {hub.port}, database: {target.name}, user: {hub.user}, password: "${{env:HUB}}"}}
  copy: {{kind: sqlite, path: copy.db}}
  reports: {{kind: mariadb, host: {maria.host}, port: {maria.port}, database: {reports.name}, user: {maria.user}, password: "${{env:REPORTS}}"}}
"""  # noqa: E501
    path = folder / "connections.yaml"
    path.write_text(text)
    return load(path, {"SOURCE": server.password, "HUB": hub.password, "REPORTS": maria.password})


def insert(execute: Callable[[str], Any], cases: Sequence[Case], start: int) -> None:
    for number, case in enumerate(cases):
        for index, value in enumerate((*case.values, "NULL")):
            execute(f"INSERT INTO t{number} VALUES ({start + index}, {value})")


def wait_for_snapshot(running: Capture, namespace: str, cases: Sequence[Case]) -> None:
    for number, case in enumerate(cases):
        running.records(f"{namespace}.t{number}", len(case.values) + 1)


def gathered(
    folder: Path,
    kind: str,
    source: Database,
    target: Database,
    reports: Database,
    running: Capture,
    cases: Sequence[Case],
) -> Both:
    namespace = "public" if kind == "postgresql" else source.name
    settings = settings_of(folder, kind, source, target, reports)
    tables = "".join(f"  - {{from: {namespace}.t{number}, to: public.t{number}}}\n" for number in range(len(cases)))
    pipeline = loads(f"pipeline: p\nsource: s\ntarget: hub\ntables:\n{tables}")
    to_sqlite = loads(f"pipeline: q\nsource: s\ntarget: copy\ntables:\n{tables}")
    to_mariadb = loads(
        f"pipeline: r\nsource: s\ntarget: reports\ntables:\n{tables.replace('to: public.', f'to: {reports.name}.')}"
    )
    copy, maria = open_target(settings.target("copy")), open_target(settings.target("reports"))
    copy.open(Owner("q", "copy"))
    maria.open(Owner("r", "reports"))
    schemas, images, events, refused = [], [], [], []
    with open_source(settings.source("s")) as rows_of, psycopg.connect(target.dsn, autocommit=True) as hub:
        migrate(hub)
        for number, case in enumerate(cases):
            rows = rows_of(namespace, f"t{number}")
            schemas.append(rows.schema)
            images.append({image[0]: image for page in rows.all() for image in page})
            decoded = _decoded(running, f"{namespace}.t{number}", 2 * (len(case.values) + 1))
            events.append(decoded)
            schema = next(iter(decoded.values())).schema
            _write(hub, compile_table(pipeline.tables[number], schema), decoded)
            _write_to(copy, compile_table(to_sqlite.tables[number], schema), decoded)
            refused.append(_write_to(maria, compile_table(to_mariadb.tables[number], schema), decoded))
    copy.close()
    maria.close()
    options = Options(settle_s=0, examples=50, values=True)
    found = {each.target: compare(settings, [each], options=options) for each in (pipeline, to_sqlite, to_mariadb)}
    return Both(cases, schemas, images, events, found, refused)


def _decoded(running: Capture, table: str, number: int) -> dict[int, ChangeEvent]:
    decoder = Decoder(standalone=True)
    found: dict[int, ChangeEvent] = {}
    for record in running.records(table, number):
        try:
            event = decoder.decode(record)
        except PoisonRecord:
            continue  # parked, as tests of the types say it must be
        assert isinstance(event, ChangeEvent)
        assert event.after is not None
        found[event.after[0]] = event
    return found


def _write(hub: psycopg.Connection[Any], plan: Any, events: dict[int, ChangeEvent]) -> None:
    """What the pipeline would make of the events."""
    prepare_table(hub, plan.target)
    line = copy_line_builder(plan.target.columns)
    with hub.cursor() as cursor, cursor.copy(f"COPY public.{plan.target.name} (id, v) FROM STDIN") as copy:
        for row in plan.map_batch(list(events.values())):
            assert isinstance(row, MappedRow)
            assert row.values is not None
            copy.write(line(row.values) + "\n")


def _write_to(target: Target, plan: Any, events: dict[int, ChangeEvent]) -> int:
    """The same through a target's own write path; how many rows it refused."""
    target.prepare(plan.target)
    refused = 0
    for row in plan.map_batch(list(events.values())):
        try:
            with target.begin() as transaction:
                assert transaction.write(plan.target, [Write(row, row.position)]) == {}
        except PoisonRow as poison:
            refused += poison.reason == "value_out_of_range"
    return refused


@pytest.fixture(scope="module")
def postgres_both(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    cases = types_postgres_cases.CASES
    with (
        new_postgres_database(stack.endpoints.postgres) as source,
        new_postgres_database(stack.endpoints.postgres) as target,
        new_mariadb_database(stack.endpoints.mariadb) as reports,
        psycopg.connect(source.dsn, autocommit=True) as connection,
    ):
        for extension in types_postgres_cases.EXTENSIONS:
            connection.execute(f"CREATE EXTENSION {extension}")
        for statement in types_postgres_cases.TYPES:
            connection.execute(statement)
        for number, case in enumerate(cases):
            connection.execute(f"CREATE TABLE t{number} (id integer PRIMARY KEY, v {case.type})")
        insert(connection.execute, cases, 0)
        with test_types_postgres.captured(stack, source) as running:
            wait_for_snapshot(running, "public", cases)
            insert(connection.execute, cases, LATER)
            yield gathered(tmp_path_factory.mktemp("pg"), "postgresql", source, target, reports, running, cases)


@pytest.fixture(scope="module")
def mariadb_both(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    cases = types_mariadb_cases.CASES
    with (
        new_mariadb_database(stack.endpoints.mariadb) as source,
        new_postgres_database(stack.endpoints.postgres) as target,
        new_mariadb_database(stack.endpoints.mariadb) as reports,
        test_types_mariadb.connected(source) as cursor,
    ):
        cursor.execute(f"ALTER DATABASE {source.name} CHARACTER SET utf8mb4")
        for number, case in enumerate(cases):
            null = " NULL" if case.type.startswith("timestamp") else ""
            cursor.execute(f"CREATE TABLE t{number} (id integer PRIMARY KEY, v {case.type}{null})")
        insert(cursor.execute, cases, 0)
        with test_types_mariadb.captured(stack, source) as running:
            wait_for_snapshot(running, source.name, cases)
            insert(cursor.execute, cases, LATER)
            yield gathered(tmp_path_factory.mktemp("maria"), "mariadb", source, target, reports, running, cases)


def both_of(request: pytest.FixtureRequest, kind: str) -> Both:
    found: Both = request.getfixturevalue(f"{kind}_both")
    return found


def cases() -> list[object]:
    found: list[object] = []
    for kind, some in (("postgres", types_postgres_cases.CASES), ("mariadb", types_mariadb_cases.CASES)):
        found += [pytest.param(kind, number, id=f"{kind}-{case.type}") for number, case in enumerate(some)]
    return found


def same_value(mine: Any, theirs: Any, event: ChangeEvent) -> bool:
    """The forms of one value that differ by no meaning, and that the target's own type makes one."""
    type_ = event.schema.columns[1].type
    if type_.native == "hstore":  # Debezium gives no order to the pairs
        return bool(msgspec.json.decode(mine) == msgspec.json.decode(theirs))
    if type_.native in GEOMETRIC:  # 1 and 1.0
        return bool(re.sub(r"\.0\b", "", theirs) == mine)
    if type_.kind is Kind.TIMESTAMPTZ and event.snapshot and event.schema.kind == "mariadb":
        return bool(re.sub(r"\.?0*Z$", "Z", mine) == theirs)  # snapshot reads write no zeros at the end
    return False


GEOMETRIC = ("line", "lseg", "box", "path", "polygon", "circle")


@pytest.mark.parametrize(("kind", "number"), cases())
def test_sql_reads_what_the_decoder_gives(request: pytest.FixtureRequest, kind: str, number: int) -> None:
    both = both_of(request, kind)
    images, events = both.images[number], both.events[number]
    assert len(images) == 2 * (len(both.cases[number].values) + 1)
    wrong = []
    for key, event in events.items():
        assert event.after is not None
        mine, theirs = images[key][1], event.after[1]
        if repr(mine) != repr(theirs) and not same_value(mine, theirs, event):
            wrong.append(f"{key}: SQL {mine!r:.100}, decoder {theirs!r:.100}")
    assert not wrong, "; ".join(wrong)


@pytest.mark.parametrize(("kind", "number"), cases())
def test_the_catalog_gives_the_streams_types(request: pytest.FixtureRequest, kind: str, number: int) -> None:
    both = both_of(request, kind)
    for event in both.events[number].values():
        assert both.schemas[number].columns == event.schema.columns


@pytest.mark.parametrize("target", ["hub", "copy", "reports"])
@pytest.mark.parametrize(("kind", "number"), cases())
def test_what_the_pipeline_writes_compares_as_equal(
    request: pytest.FixtureRequest, kind: str, number: int, target: str
) -> None:
    both = both_of(request, kind)
    found = both.reports[target].tables[number]
    parked = len(both.images[number]) - len(both.events[number])
    refused = both.refused[number] if target == "reports" else 0
    # A row that did not arrive may also be one that the target could not hold.
    absent = found.missing + found.unmapped
    assert (absent, found.surplus, found.different) == (parked + refused, 0, 0), found.examples
    assert found.unmapped >= refused
