"""Settle a repeated snapshot, or a load that was asked for (load.py): rows that it did not meet were deleted at the
source while nobody captured it.

When a sweep is due: the connector is past the snapshot (its committed offset has passed a place in the source's log
that was taken after the snapshot was found), and the watermarks of all partitions have reached the ends that the topic
had then. From there on every row of the table that the source still had is positioned at the snapshot or later.

Why no worker needs to stop: `Transaction.sweep` holds the table's advisory lock, which every writer shares until it
commits, so none is half-way. What is written afterwards meets the guard: swept rows leave tombstones at the snapshot's
position, so a change from before it (a rewind, a retried record) is stale, and a newer one brings its row back. The
watermarks therefore need no compare, and a rewind in between does no harm. Parked keys stay: what the snapshot said of
them has not been applied yet.
"""

from __future__ import annotations

import threading
import time
import uuid
from base64 import b64decode
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any

import msgspec
import structlog

from cdc.control.caught_up import wait_captured
from cdc.control.connect import Connect
from cdc.control.load import loading
from cdc.control.operate import begun, opened, owner_of, partitions_of, table_of, topic_of, topics
from cdc.db.source import connect_source
from cdc.engine.build import target_of
from cdc.engine.plans import Plans
from cdc.errors import Poison, Terminal, Transient
from cdc.keys import Keyring
from cdc.mapping.model import Pipeline, TableMapping
from cdc.model import ChangeEvent, DeletePolicy, Kind, TargetTable, TopicPartition, Value
from cdc.settings import Settings
from cdc.source.consumer import Consumer
from cdc.source.envelope import Decoder
from cdc.target.base import RepeatedSnapshot, SweepReport, Target
from cdc.target.operator import OpenSnapshot, Operator

_log = structlog.get_logger(__name__)

DUE_WITHIN_S = 2.0
"""How long `sweep_due` lets a connector take to pass a new place in its source's log."""
TAIL_RECORDS = 50
"""How far from its end a topic is read to learn the table's present columns."""
READ_WITHIN_S = 30.0
_POLL_S = 0.2


@dataclass(frozen=True)
class Sweep:
    """What a sweep removes, or would: `rows` by number, `examples` of their keys as text. `kept_keys`: parked ones.

    `snapshots`: when those that it settles were found; none: there is nothing to sweep.
    """

    pipeline: str
    mapping: str
    topic: str
    snapshots: tuple[str, ...]
    rows: int = 0
    examples: tuple[str, ...] = ()
    kept_keys: int = 0
    executed: bool = False

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def sweep(settings: Settings, pipeline: Pipeline, name: str, *, execute: bool, deadline_s: float) -> Sweep:
    """Sweep the table whose target or source table is called `name`; without `execute` the very same statements run
    and are taken back.

    Waits up to `deadline_s` for the sweep to be due. Raises `Usage` for an unknown table, `Transient` when it is not
    due by then (saying what is behind), `Terminal` when the connector has failed or parked records have no key.
    """
    table = table_of(pipeline, name)
    with opened(settings, pipeline) as operator:
        snapshots = [each for each in operator.open_snapshots() if each.mapping == table.id]
        if not snapshots:
            return Sweep(pipeline.label, table.id, topic_of(table), ())
        end = time.monotonic() + deadline_s
        ends = _ends(settings, pipeline, table, operator, snapshots[-1], deadline_s)
        _wait_past(operator, topic_of(table), ends, end)
        return _run(settings, pipeline, table, operator, snapshots, execute)


def sweep_due(settings: Settings, pipeline: Pipeline) -> list[Sweep]:
    """Sweep what is due, for a pipeline with `snapshot.repeat: sweep`; to be called every few seconds.

    Costs one query while no repeated snapshot is open; with one, each call may take `DUE_WITHIN_S` and a little more.
    What is not due yet, or cannot be reached now, is left for a later call. Raises `Terminal` when a person must act.
    """
    if pipeline.snapshot.repeat != "sweep":
        return []
    done = []
    try:
        with opened(settings, pipeline) as operator:
            found = operator.open_snapshots()
            for table in pipeline.tables:
                snapshots = [each for each in found if each.mapping == table.id]
                if not snapshots:
                    continue
                ends = _ends(settings, pipeline, table, operator, snapshots[-1], DUE_WITHIN_S)
                if not _behind(operator, topic_of(table), ends):
                    done.append(_run(settings, pipeline, table, operator, snapshots, execute=True))
    except Transient as error:
        _log.info("a sweep waits", pipeline=pipeline.label, reason=error.what)
    for each in done:
        _log.warning("swept after a repeated snapshot", mapping=each.mapping, rows=each.rows)
    return done


# -- when


def _ends(
    settings: Settings,
    pipeline: Pipeline,
    table: TableMapping,
    operator: Operator,
    snapshot: OpenSnapshot,
    deadline_s: float,
) -> dict[int, int]:
    """Where the topic's partitions ended at a moment when the snapshot was over: asked once, then remembered, because
    a busy topic's watermarks never stand at its present ends."""
    if snapshot.ends is not None:
        return snapshot.ends
    with closing(connect_source(settings.source(table.source_name))) as database, Connect(settings.connect) as connect:
        wait_captured(database, connect, table.source_name, deadline_s=deadline_s)
        if loading(connect.offsets(table.source_name)):
            hint = "wait until it is over, then sweep again"
            raise Transient(f"connector {table.source_name} is still loading", where=snapshot.topic, hint=hint)
    with topics(settings, pipeline) as consumer:
        partitions = partitions_of(consumer, [snapshot.topic])
        starts, found = consumer.starts(partitions), consumer.ends(partitions)
    ends = {each.partition: end for each, end in found.items() if end > starts[each]}
    operator.note_ends(snapshot, ends)
    return ends


def _behind(operator: Operator, topic: str, ends: dict[int, int]) -> int:
    """Records that are still to be applied before `ends`."""
    at = {each.partition: each.next or 0 for each in operator.partitions()}
    return sum(max(0, end - at.get(TopicPartition(topic, partition), 0)) for partition, end in ends.items())


def _wait_past(operator: Operator, topic: str, ends: dict[int, int], deadline: float) -> None:
    pause = threading.Event()
    while behind := _behind(operator, topic, ends):
        if time.monotonic() > deadline:
            raise Transient(
                f"the pipeline has {behind} records of the snapshot (or before it) still to apply",
                where=topic,
                hint="is the pipeline running? See its lag in cdc status; then sweep again",
            )
        pause.wait(_POLL_S)


# -- doing it


def _run(
    settings: Settings,
    pipeline: Pipeline,
    mapping: TableMapping,
    operator: Operator,
    snapshots: Sequence[OpenSnapshot],
    execute: bool,
) -> Sweep:
    """Sweep to the newest of the open snapshots, which settles the older ones."""
    with topics(settings, pipeline) as consumer:
        table = present_table(consumer, pipeline, mapping, settings.keys)
    target = target_of(settings, pipeline)
    target.open(owner_of(pipeline))
    try:
        target.prepare(table)
        keep = _parked_keys(operator, table)
        report = _sweep(target, table, snapshots, keep, execute)
    finally:
        target.close()
    found_at = tuple(each.found_at.isoformat(timespec="seconds") for each in snapshots)
    topic = topic_of(mapping)
    return Sweep(pipeline.label, mapping.id, topic, found_at, report.rows, report.examples, len(keep), execute)


def _sweep(
    target: Target,
    table: TargetTable,
    snapshots: Sequence[OpenSnapshot],
    keep: Iterable[tuple[Value, ...]],
    execute: bool,
) -> SweepReport:
    report = SweepReport(0, ())
    with begun(target.begin(), execute) as transaction:
        if table.on_delete is not DeletePolicy.IGNORE:  # a mapping that ignores deletes ignores these too
            report = transaction.sweep(table, snapshots[-1].position, keep)
        for each in snapshots:
            transaction.repeated_snapshot(RepeatedSnapshot(each.mapping, each.topic, each.position, swept=True))
    return report


def _parked_keys(operator: Operator, table: TargetTable) -> list[tuple[Value, ...]]:
    mine = [entry for entry in operator.parked() if entry.mapping == table.mapping]
    keyless = [entry for entry in mine if not entry.hold]
    if keyless:
        raise Terminal(
            f"{len(keyless)} parked records have no readable key: it cannot be told which rows must stay",
            where=keyless[0].where,
            hint=f"cdc parked show {keyless[0].id}; retry or discard them, then sweep",
        )
    return [key_of(hold, table) for hold in sorted({entry.hold for entry in mine})]


def key_of(hold: str, table: TargetTable) -> tuple[Value, ...]:
    """The key whose canonical text is `hold` (see `cdc.target.base.hold_of`)."""
    kinds = [table.columns[index].type.kind for index in table.key_indexes]
    known = msgspec.json.decode(hold)
    key = tuple(
        b64decode(value) if kind is Kind.BYTES and value is not None else value
        for value, kind in zip(known, kinds, strict=False)
    )
    return (*key, *(None for _ in kinds[len(key) :]))  # a change that no mapping could read is known by its row's key


# -- the table as it is now


def present_table(
    consumer: Consumer,
    pipeline: Pipeline,
    mapping: TableMapping,
    keys: Keyring,
    clock: Callable[[], float] = time.monotonic,
) -> TargetTable:
    """The target table of a mapping, as the newest records of its topic describe the source's table.

    Reads the end of the topic as a group of its own that leaves nothing behind. Raises `Terminal` when no record there
    can be read, `MappingError` when the mapping does not fit.
    """
    topic, plans = topic_of(mapping), Plans(pipeline, keys)
    newest = max(_tail(consumer, topic, clock), key=lambda event: event.record.timestamp_ms, default=None)
    if newest is None:
        raise Terminal(
            "no record of the topic's end can be read: the table's columns are not known",
            where=topic,
            hint="change any row of the table at the source, then try again",
        )
    return next(plan.target for plan in plans.of(newest.schema) if plan.target.mapping == mapping.id)


def _tail(consumer: Consumer, topic: str, clock: Callable[[], float]) -> list[ChangeEvent]:
    """The row events among the last records of each partition."""
    decoder = Decoder(standalone=True)
    partitions = partitions_of(consumer, [topic])
    starts, ends = consumer.starts(partitions), consumer.ends(partitions)
    waiting = {each for each in partitions if ends[each] > starts[each]}
    found: list[ChangeEvent] = []
    deadline = clock() + READ_WITHIN_S
    consumer.subscribe([topic], f"cdc.look.{uuid.uuid4().hex}")
    while waiting and clock() < deadline:
        for record in consumer.poll(1000, 8 << 20, _POLL_S):
            try:
                event = decoder.decode(record)
            except Poison:
                continue  # it is (or will be) parked by the pipeline; others describe the table as well
            if isinstance(event, ChangeEvent) and event.schema.key:
                found.append(event)
        for partition in consumer.changes().assigned:
            if partition in ends:
                consumer.seek(partition, max(starts[partition], ends[partition] - TAIL_RECORDS))
        waiting -= {each for each in waiting if (consumer.position(each) or 0) >= ends[each]}
    return found
