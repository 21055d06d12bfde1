"""Load a table again while changes go on: what repairs a history that was lost, and fills a column that came later.

The connector is asked for an incremental snapshot through its signal table. It reads the table in chunks between the
changes that it streams, and every row read is positioned after the request, so the guard keeps what is newer. Rows that
it does not meet were deleted in the lost part of the history: each mapping of the table gets an open sweep at the place
where the source's log ended before the request (see sweep.py), once the connector has begun to read.
"""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from typing import Any

from cdc.control.connect import ANSWERS_WITHIN_S, Config, Connect, Offset
from cdc.control.fitness import is_captured
from cdc.control.operate import owner_of, topic_of
from cdc.db.catalog import LogPosition
from cdc.db.source import SourceDatabase, connect_source
from cdc.engine.targets import open_target
from cdc.errors import Terminal, Transient, Usage
from cdc.mapping.diagnostics import nearest
from cdc.mapping.model import Pipeline, TableMapping
from cdc.model import Position
from cdc.settings import Settings
from cdc.target.base import RepeatedSnapshot

BEGINS_WITHIN_S = 60.0
"""How long a connector may take to begin what its signal table asks for."""
_POLL_S = 0.05
_WINDOW = "snapshot-window-open"
"""The connector writes one such line into its signal table before each chunk that it reads."""


@dataclass(frozen=True)
class Load:
    """What loading a table again does. `rows`: the server's estimate. `mappings`: 'pipeline/target table' of those that
    read it; when it is `executed`, those that can be swept afterwards."""

    source: str
    table: str
    rows: int | None
    signal_table: str
    mappings: tuple[str, ...]
    executed: bool = False

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def plan_load(settings: Settings, pipelines: Sequence[Pipeline], source: str, table: str) -> Load:
    """What would be done. Raises `Usage` for a table that is not captured or not there, `Terminal` for one that cannot
    be loaded, or while the connector does not run or loads something already."""
    with Connect(settings.connect, retry_for_s=ANSWERS_WITHIN_S) as connect:
        config = connect.config(source)
        status = connect.status(source)
        if not status.running:
            hint = f"cdc source status {source}"
            raise Terminal(status.problem or f"connector {source} is {status.state}", where=connect.url, hint=hint)
        if loading(connect.offsets(source)):
            hint = "wait until it is over; `cdc sweep` says when"
            raise Terminal(f"connector {source} is loading a table already", where=connect.url, hint=hint)
    signal_table = _signal_table(config, source)
    rows = _rows(settings, source, table, config)
    return Load(source, table, rows, signal_table, tuple(each.id for _, each in _readers(pipelines, source, table)))


def begin_load(settings: Settings, pipelines: Sequence[Pipeline], planned: Load) -> Load:
    """Ask the connector, wait until it has begun, open the sweeps. Raises `Transient` when it does not begin in
    `BEGINS_WITHIN_S`: then nothing can be swept, and the request still stands in the signal table."""
    with closing(connect_source(settings.source(planned.source))) as database:
        at = database.current_position()
        windows = database.signals(planned.signal_table, _WINDOW)
        # A list of regular expressions over whole names
        request = {"type": "incremental", "data-collections": [re.escape(planned.table)]}
        database.signal(planned.signal_table, str(uuid.uuid4()), "execute-snapshot", json.dumps(request))
        _wait_begun(settings, database, planned, windows)
        kind = database.settings.kind
    swept = [
        mapping.id
        for pipeline, mapping in _readers(pipelines, planned.source, planned.table)
        if _open_sweep(settings, pipeline, mapping, at, kind)
    ]
    return replace(planned, mappings=tuple(swept), executed=True)


def loading(offsets: Sequence[Offset]) -> bool:
    """Whether a connector's committed offsets stand inside an incremental snapshot."""
    return any(key.startswith("incremental_snapshot") for each in offsets for key in each.offset or {})


def _wait_begun(settings: Settings, database: SourceDatabase, planned: Load, windows: int) -> None:
    deadline = time.monotonic() + BEGINS_WITHIN_S
    with Connect(settings.connect) as connect:
        while database.signals(planned.signal_table, _WINDOW) <= windows:
            if loading(connect.offsets(planned.source)):
                return
            if time.monotonic() > deadline:
                raise Transient(
                    f"connector {planned.source} has not begun to load {planned.table} in {BEGINS_WITHIN_S:.0f} s",
                    where=planned.signal_table,
                    hint="an empty table is not read at all; else see cdc source check and the worker's log",
                )
            time.sleep(_POLL_S)


def _open_sweep(settings: Settings, pipeline: Pipeline, mapping: TableMapping, at: LogPosition, kind: str) -> bool:
    """False for a pipeline that has never run: there is nothing to sweep."""
    target = open_target(settings.state(pipeline.target))
    target.open(owner_of(pipeline))
    try:
        numbers = [epoch.number for epoch in target.epochs() if epoch.source == mapping.source_name]
        if numbers:
            position = Position(max(numbers), at.major, at.minor if kind == "mariadb" else 0)
            with target.begin() as transaction:
                transaction.repeated_snapshot(RepeatedSnapshot(mapping.id, topic_of(mapping), position))
    finally:
        target.close()
    return bool(numbers)


def _readers(pipelines: Sequence[Pipeline], source: str, table: str) -> list[tuple[Pipeline, TableMapping]]:
    return [
        (pipeline, each)
        for pipeline in pipelines
        for each in pipeline.tables
        if each.source_name == source and str(each.from_) == table
    ]


def _signal_table(config: Config, source: str) -> str:
    found = config.get("signal.data.collection")
    if found is None:
        raise Terminal(
            f"connector {source} has no signal table",
            where=f"connector {source}",
            hint="CREATE TABLE debezium_signal (id varchar(42) PRIMARY KEY, type varchar(32) NOT NULL,"
            " data varchar(2048)); and signal.data.collection in its JSON: cdc source check says what else",
        )
    return found


def _rows(settings: Settings, source: str, name: str, config: Config) -> int | None:
    """The table's estimated rows."""
    with closing(connect_source(settings.source(source))) as database:
        tables = {each.full_name: each for each in database.catalog([name.partition(".")[0]])}
    captured = sorted(each for each in tables if is_captured(each, config))
    if name not in captured:
        close = nearest(name, captured)
        what = f"source {source} does not capture {name}" if name in tables else f"source {source} has no table {name}"
        raise Usage(what, hint=f"did you mean {close}?" if close else f"captured: {', '.join(captured)}")
    if not tables[name].key:
        raise Terminal(f"{name} has no primary key: it cannot be read in chunks", where=f"source {source}")
    return tables[name].rows
