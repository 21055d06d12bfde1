"""Caught up to now: everything that is committed at the source at this moment has reached the target.

Three stages, each waiting for the one before: the connector's committed offset passes the source's position, the topics
end where they end then, the pipeline's watermarks reach those ends. A committed offset says that the records before it
are in Kafka; the time a stage takes includes Connect's flush interval (1 s in our workers).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from cdc.control.connect import Connect
from cdc.db.catalog import LogPosition
from cdc.db.mariadb import file_number
from cdc.db.source import SourceDatabase
from cdc.entries import SourceKind
from cdc.errors import Terminal, Transient
from cdc.model import TopicPartition

POLL_S = 0.1
MARK_EVERY_S = 2.0
"""How often the source's log is moved on while the connector's offset stands: a binlog connector commits its last
offset only with the event after it, and at most one a heartbeat interval."""

Offsets = Mapping[TopicPartition, int]
Stage = Literal["connector", "pipeline"]


@dataclass(frozen=True)
class Progress:
    """Where the waiting stands. `behind`: in the source's log units for the connector (bytes; another binlog file
    counts from its beginning), in records for the pipeline; None when that is not known yet."""

    stage: Stage
    source: str
    seconds: float
    behind: int | None


class Report(Protocol):
    def __call__(self, progress: Progress) -> None:
        """Called some times a second."""


@dataclass(frozen=True)
class CaughtUp:
    """The target holds everything up to `position` of the source, which is all up to `ends` of its topics."""

    position: LogPosition
    ends: Offsets
    seconds: float


def wait_caught_up(
    database: SourceDatabase,
    connect: Connect,
    connector: str,
    *,
    ends: Callable[[], Offsets],
    watermarks: Callable[[], Offsets],
    deadline_s: float,
    report: Report = lambda progress: None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> CaughtUp:
    """Wait until what is committed at the source now is in the target.

    `ends` gives the end offsets of all partitions of the topics that matter, asked once; `watermarks` the next offset
    to apply of each (a partition may be missing), asked repeatedly. Raises `Transient` at the deadline, saying which
    stage is behind and by how much; `Terminal` at once when the connector or its task has failed.
    """
    start = clock()
    position = database.current_position()
    wait = _Wait(database.settings.name, start, start + deadline_s, report, clock, sleep)
    _connector_passes(wait, database, connect, connector, position)
    wanted = dict(ends())
    _watermarks_reach(wait, wanted, watermarks)
    return CaughtUp(position, wanted, clock() - start)


def wait_captured(
    database: SourceDatabase,
    connect: Connect,
    connector: str,
    *,
    deadline_s: float,
    report: Report = lambda progress: None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> LogPosition:
    """The first stage alone: what is committed at the source now is in Kafka. Returns the position."""
    start = clock()
    position = database.current_position()
    wait = _Wait(database.settings.name, start, start + deadline_s, report, clock, sleep)
    _connector_passes(wait, database, connect, connector, position)
    return position


def reached(kind: SourceKind, offset: Mapping[str, Any]) -> LogPosition | None:
    """How far a connector's committed offset has come, comparable to the source's position; None while it says nothing:
    during a snapshot."""
    if offset.get("snapshot") and not offset.get("snapshot_completed"):
        return None
    if kind == "mariadb":
        return LogPosition(file_number(offset["file"]), offset["pos"]) if "file" in offset else None
    # Changes come in the order of their commits, and a change's lsn is below its commit's: whichever of the three has
    # passed a position, all commits up to there have been sent. After a snapshot there is only its own lsn.
    lsns = [offset[key] for key in ("lsn_proc", "lsn_commit", "lsn") if offset.get(key) is not None]
    return LogPosition(max(lsns), max(lsns)) if lsns else None


@dataclass(frozen=True)
class _Wait:
    source: str
    start: float
    deadline: float
    report: Report
    clock: Callable[[], float]
    sleep: Callable[[float], None]

    def step(self, stage: Stage, behind: int | None) -> bool:
        """Report and wait a little; False when the deadline has passed."""
        now = self.clock()
        self.report(Progress(stage, self.source, now - self.start, behind))
        if now >= self.deadline:
            return False
        self.sleep(POLL_S)
        return True

    @property
    def waited(self) -> str:
        return f"{self.clock() - self.start:.0f} s"


def _connector_passes(
    wait: _Wait, database: SourceDatabase, connect: Connect, connector: str, position: LogPosition
) -> None:
    settings = database.settings
    signal_table = connect.config(connector).get("signal.data.collection")
    marked = float("-inf")
    at: LogPosition | None = None
    while True:
        if wait.clock() - marked >= MARK_EVERY_S:
            database.mark(signal_table)
            marked = wait.clock()
            _refuse_failed(connect, connector)
        committed = connect.offsets(connector)
        at = reached(settings.kind, committed[0].offset or {}) if committed else None
        if at is not None and at >= position:
            return
        if not wait.step("connector", distance(at, position)):
            break
    raise Transient(
        f"connector {connector} is behind its source after {wait.waited}: at"
        f" {_text(at)}, the source was at {_text(position)}",
        where=settings.where,
        hint=f"cdc source status {settings.name}",
    )


def _refuse_failed(connect: Connect, connector: str) -> None:
    status = connect.status(connector)
    if status.problem is not None:
        raise Terminal(status.problem, where=connect.url, hint=f"mend the cause, then restart {connector}")
    if status.connector.state in {"PAUSED", "STOPPED"}:
        raise Terminal(f"connector {connector} is {status.connector.state}", where=connect.url, hint="resume it")


def _watermarks_reach(wait: _Wait, wanted: Offsets, watermarks: Callable[[], Offsets]) -> None:
    while True:
        at = watermarks()
        behind = {part: end - at.get(part, 0) for part, end in wanted.items() if at.get(part, 0) < end}
        if not behind:
            return
        if not wait.step("pipeline", sum(behind.values())):
            break
    part, records = max(behind.items(), key=lambda item: item[1])
    raise Transient(
        f"the pipeline is behind the topics of {wait.source} after {wait.waited}: {sum(behind.values())} records"
        f" in {len(behind)} partitions, most in {part.topic}:{part.partition} ({records})",
        hint="is the pipeline running, or paused? See its lag in cdc status",
    )


def distance(at: LogPosition | None, position: LogPosition) -> int | None:
    """Bytes of log from `at` to `position`, never below 0; None without `at`. Another binlog file counts from its
    beginning, which is too little."""
    if at is None:
        return None
    same_log = at.major == position.major or at.major == at.minor
    return max(0, position.minor - at.minor) if same_log else position.minor


def _text(position: LogPosition | None) -> str:
    if position is None:
        return "no position yet (a snapshot is running, or nothing is committed)"
    return str(position.minor) if position.major == position.minor else f"file {position.major}, {position.minor}"
