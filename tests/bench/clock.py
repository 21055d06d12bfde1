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


class Clock:
    """Times from the first visible progress to the last, and the CPU spent between start and end."""

    def __init__(self, world: World, pid: int | None, records: int) -> None:
        """`pid`: of the contender; None when it is this process, whose use is not measured."""
        self._postgres = next(part.pid or 0 for part in world.stack.status() if part.part == "postgres")
        self._pid, self._records = pid, records
        self._before = self._own().cpu_s, usage.of(self._postgres).cpu_s
        self._began = time.monotonic()
        self._first: tuple[float, int] | None = None

    def follow(self, done: Callable[[], int], alive: Callable[[], bool], pause_s: float = 0.02) -> Measured:
        """Ask `done` until it says that all records are applied."""
        while time.monotonic() - self._began < _DEADLINE_S and alive():
            now_done = done()
            now = time.monotonic()
            if now_done and self._first is None:
                self._first = now, now_done
            if now_done >= self._records:
                return self._measured(now)
            time.sleep(pause_s)
        raise AssertionError(f"{self._records} records were to be applied; it stopped at {done()}")

    def _measured(self, end: float) -> Measured:
        assert self._first is not None
        own = self._own()
        first, already = self._first
        if already >= self._records:  # too few of them: there was no beginning to be seen
            first, already = self._began, 0
        millions = self._records / 1e6
        return Measured(
            rows_per_s=(self._records - already) / max(end - first, 1e-6),
            started_s=first - self._began,
            cpu_s_per_million=(own.cpu_s - self._before[0]) / millions,
            database_cpu_s_per_million=(usage.of(self._postgres).cpu_s - self._before[1]) / millions,
            peak_mb=own.peak_mb,
        )

    def _own(self) -> usage.Usage:
        return usage.NONE if self._pid is None else usage.of(self._pid)
