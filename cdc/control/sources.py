"""The sources as they stand: connector, tasks, distance from the database; and all checks at once."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from typing import Any

from cdc.control.caught_up import distance, reached
from cdc.control.connect import Config, Connect, ConnectorStatus, Part
from cdc.control.findings import Finding
from cdc.control.fitness import check_database
from cdc.control.registration import Registration, check_running, check_source, plan
from cdc.db.catalog import LogPosition, Slot
from cdc.db.source import PostgresSource, connect_source
from cdc.entries import SourceSettings
from cdc.errors import CdcError
from cdc.settings import Settings


@dataclass(frozen=True)
class SourceStatus:
    """One source now. `state`: 'absent' when there is no such connector, 'unknown' when Connect does not
    answer, 'FAILED' when it or a task has failed.

    `behind_bytes`: log between the connector's committed offset and the end of the database's log, None when either is
    not known; that includes log of other databases of the server. `slot`: PostgreSQL's, and what it costs. `problem`:
    one line, '' when all is well; `traces`: whole stack traces by part.
    """

    name: str
    kind: str
    address: str
    state: str
    tasks: tuple[str, ...]
    offset: dict[str, Any] | None
    position: str
    behind_bytes: int | None
    slot: Slot | None
    problem: str
    traces: dict[str, str]

    @property
    def well(self) -> bool:
        return not self.problem

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def statuses(settings: Settings, connect: Connect, names: Sequence[str] = ()) -> list[SourceStatus]:
    """The named sources (all). What can't be reached, Kafka Connect or a database, is a problem of its sources."""
    asked = [settings.source(name) for name in names or settings.sources]
    try:
        known = connect.statuses()
    except CdcError as error:
        return [replace(_status(source, connect, None), state="unknown", problem=error.what) for source in asked]
    return [_status(source, connect, known.get(source.name)) for source in asked]


def _status(source: SourceSettings, connect: Connect, connector: ConnectorStatus | None) -> SourceStatus:
    offset, at, slot_name = None, None, ""
    if connector is not None:
        offsets = connect.offsets(source.name)
        offset = offsets[0].offset if offsets else None
        at = reached(source.kind, offset) if offset else None
        slot_name = connect.config(source.name).get("slot.name", "")
    position, at_source, slot, problem = "", None, None, ""
    try:
        with closing(connect_source(source)) as database:
            identity = database.identity()
            position, at_source = identity.position_text, identity.position
            slot = database.slot(slot_name) if isinstance(database, PostgresSource) and slot_name else None
    except CdcError as error:
        problem = error.what
    if connector is None:
        problem = problem or f"not registered: cdc source register {source.name} --execute --reason …"
    else:
        problem = connector.problem or problem or _hidden_problem(connector, at, slot, slot_name)
    return SourceStatus(
        name=source.name,
        kind=source.kind,
        address=f"{source.host}:{source.port}/{source.database}",
        state="absent" if connector is None else connector.state,
        tasks=tuple(task.state for task in connector.tasks) if connector else (),
        offset=offset,
        position=position,
        behind_bytes=distance(at, at_source) if at_source else None,
        slot=slot,
        problem=problem,
        traces={name: part.trace for name, part in _parts(connector).items() if part.trace},
    )


def _hidden_problem(connector: ConnectorStatus, at: LogPosition | None, slot: Slot | None, slot_name: str) -> str:
    """What a RUNNING task does not say: errors that may heal are retried for ever. Before its snapshot is done (`at` is
    None) a connector reads no slot."""
    if not connector.running or at is None or not slot_name:
        return ""
    if slot is None:
        return f"its slot {slot_name} is gone: changes since then are lost to it"
    if slot.wal_status == "lost":
        return f"its slot {slot_name} is lost: the server has removed log that it needs"
    if slot.reader is None:
        return f"nobody reads its slot {slot_name}: the task retries something, see the worker's log"
    return ""


def _parts(connector: ConnectorStatus | None) -> dict[str, Part]:
    if connector is None:
        return {}
    return {"connector": connector.connector} | {f"task {task.id}": task for task in connector.tasks}


def check(settings: Settings, source: SourceSettings, connect: Connect | None = None) -> list[Finding]:
    """Everything that is wrong: with the JSON and the database, and, when `connect` is given, beside other connectors
    and with the connector that runs."""
    if connect is None:
        config, findings = check_source(settings, source)
        return [*findings, *_unfit(source, config, captured_now=True)]
    planned = plan_registration(settings, source, connect)
    running = check_running(connect, source.name) if planned.before is not None else []
    return [*planned.findings, *running]


def plan_registration(settings: Settings, source: SourceSettings, connect: Connect) -> Registration:
    """What registering would do, the database's fitness included."""
    planned = plan(settings, source, connect)
    unfit = _unfit(source, planned.config, captured_now=planned.before is not None)
    return replace(planned, findings=(*planned.findings, *unfit))


def _unfit(source: SourceSettings, config: Config, *, captured_now: bool) -> list[Finding]:
    with closing(connect_source(source)) as database:
        return check_database(database, config, captured_now=captured_now)
