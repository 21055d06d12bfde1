"""How long a contender takes, and what it uses."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.bench import usage
from tests.bench.workloads import Workload
from tests.bench.world import Source, World

_DEADLINE_S = 180.0


@dataclass(frozen=True)
class Measured:
    """One run: see the package's docstring for what the figures mean. `started_s`: until the first record was in."""

    rows_per_s: float
    started_s: float
    cpu_s_per_million: float
    database_cpu_s_per_million: float
    peak_mb: float


Run = Callable[[World, Source, Workload, str], Measured]
"""(world, source with filled topics, workload, target database) → all records applied there."""


@dataclass(frozen=True)
class _Moment:
    """Monotonic seconds, records applied by then, and CPU seconds used by then."""

    at: float
    done: int
    cpu_s: float
    database_cpu_s: float


class Clock:
    """Times from the first visible progress to the last, and the CPU spent between the two."""

    def __init__(self, world: World, pid: int | None, records: int) -> None:
        """`pid`: of the contender; None when it is this process, whose use is not measured."""
        self._postgres = next(part.pid or 0 for part in world.stack.status() if part.part == "postgres")
        self._pid, self._records = pid, records
        self._began = self._moment(0)

    def follow(self, done: Callable[[], int], alive: Callable[[], bool], pause_s: float = 0.02) -> Measured:
        """Ask `done` until it says that all records are applied."""
        first: _Moment | None = None
        while time.monotonic() - self._began.at < _DEADLINE_S and alive():
            now_done = done()
            if now_done and first is None:
                first = self._moment(now_done)
            if first is not None and now_done >= self._records:
                return self._measured(first, self._moment(now_done))
            time.sleep(pause_s)
        raise AssertionError(f"{self._records} records were to be applied; it stopped at {done()}")

    def _measured(self, first: _Moment, last: _Moment) -> Measured:
        started_s = first.at - self._began.at
        if first.done >= self._records:  # too few of them: there was no beginning to be seen
            first = self._began
        records = self._records - first.done
        return Measured(
            rows_per_s=records / (last.at - first.at),
            started_s=started_s,
            cpu_s_per_million=(last.cpu_s - first.cpu_s) / records * 1e6,
            database_cpu_s_per_million=(last.database_cpu_s - first.database_cpu_s) / records * 1e6,
            peak_mb=self._own().peak_mb,
        )

    def _moment(self, done: int) -> _Moment:
        return _Moment(time.monotonic(), done, self._own().cpu_s, usage.of(self._postgres).cpu_s)

    def _own(self) -> usage.Usage:
        return usage.NONE if self._pid is None else usage.of(self._pid)
