"""CPU seconds and memory of processes and of PostgreSQL's backends, sampled from /proc while a run lasts."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import psycopg

_TICKS = os.sysconf("SC_CLK_TCK")
_EVERY_S = 0.2
OWN = "bench"
"""application_name of the bench's own connections: not counted."""


def cpu_seconds(pid: int) -> float | None:
    """User and system time of a living process, its threads included."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return (int(fields[11]) + int(fields[12])) / _TICKS


def peak_mb(pid: int) -> float | None:
    """The most memory the process ever held (VmHWM)."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    except (FileNotFoundError, ProcessLookupError):
        pass
    return None


@dataclass(frozen=True)
class Used:
    """CPU seconds of the contender and of its database backends; peak memory of its largest process."""

    applier_s: float
    database_s: float
    peak_mb: float


class Usage:
    """Samples from `with` to its end. `pids`: the contender's processes, those added later with `watch` too."""

    def __init__(self, dsn: str, database: str) -> None:
        self._dsn = dsn
        self._database = database
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._began: dict[int, float] = {}
        self._seen: dict[int, float] = {}
        self._backends: dict[int, float] = {}
        self._peaks: dict[int, float] = {}

    def watch(self, pid: int, *, from_its_birth: bool = True) -> None:
        """Count this process: all it uses, or (a server that was there before) what it uses from now on."""
        now = cpu_seconds(pid) or 0.0
        self._seen[pid] = now
        self._began[pid] = 0.0 if from_its_birth else now

    def __enter__(self) -> Usage:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def used(self) -> Used:
        return Used(
            sum(self._seen[pid] - self._began[pid] for pid in self._seen),
            sum(self._backends.values()),
            max(self._peaks.values(), default=0.0),
        )

    def look(self) -> None:
        """Sample the contender's processes now: before they end."""
        for pid in list(self._seen):
            seconds, memory = cpu_seconds(pid), peak_mb(pid)
            if seconds is not None:
                self._seen[pid] = max(self._seen[pid], seconds)
            if memory is not None:
                self._peaks[pid] = max(self._peaks.get(pid, 0.0), memory)

    def _sample(self) -> None:
        query = "SELECT pid FROM pg_stat_activity WHERE datname = %s AND application_name <> %s"
        with psycopg.connect(self._dsn, autocommit=True, application_name=OWN) as connection:
            while not self._stop.wait(_EVERY_S):
                self.look()
                for (pid,) in connection.execute(query, (self._database, OWN)).fetchall():
                    seconds = cpu_seconds(pid)
                    if seconds is not None:
                        self._backends[pid] = seconds
