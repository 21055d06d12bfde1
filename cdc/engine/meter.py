"""Where a worker's time goes, how fast rows flow, and how late they are; over a sliding minute."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from cdc.engine.writer import Written
from cdc.model import Outcome, TopicPartition

WINDOW_SECONDS = 60.0
LATENCIES_KEPT = 10_000


@dataclass
class Stage:
    """What is being done; its name may still change while it lasts."""

    name: str


@dataclass(frozen=True)
class Profile:
    """Where the time of one worker's life went. `seconds`: its whole life; `stages`: seconds of the reading thread by
    stage; `writing_s`: seconds in which the writing thread had a batch, which overlaps the stages, and `writing_cpu_s`:
    of those, what it spent on the CPU (folding, COPY text, the driver); the rest is waiting for the target."""

    pipeline: str
    worker: str
    seconds: float
    rows: int
    stages: dict[str, float]
    writing_s: float
    writing_cpu_s: float


class Meter:
    """Fed by one thread. `clock` in seconds, `now_us` wall time in µs since the epoch."""

    def __init__(self, clock: Callable[[], float], now_us: Callable[[], int]) -> None:
        self._clock = clock
        self._now_us = now_us
        self._began = clock()
        self._rows: deque[tuple[float, int]] = deque()
        self._late: deque[tuple[float, float]] = deque(maxlen=LATENCIES_KEPT)
        self._stages: dict[str, float] = defaultdict(float)
        self._totals: dict[str, float] = defaultdict(float)
        self._all_rows = 0
        self._writing_s = self._writing_cpu_s = 0.0
        self._reached: dict[TopicPartition, int] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[Stage]:
        """Count the block's time under `name`."""
        stage, began = Stage(name), self._clock()
        try:
            yield stage
        finally:
            self._stages[stage.name] += self._clock() - began

    def wrote(self, written: Written) -> None:
        """A batch is durable: its rows, and how old each partition's newest change is by now."""
        now, now_us = self._clock(), self._now_us()
        rows = sum(
            number
            for (_, _, outcome, _), number in written.applied.tallies.items()
            if outcome in (Outcome.APPLIED, Outcome.SUPERSEDED)
        )
        self._rows.append((now, rows))
        self._all_rows += rows
        self._writing_s += written.seconds
        self._writing_cpu_s += written.cpu_s
        for move in written.batch.moves:
            if move.next is None or move.next <= self._reached.get(move.partition, -1):
                continue  # played again after a rewind: its age says nothing of how late we are
            self._reached[move.partition] = move.next
            if move.time_us is not None:
                self._late.append((now, (now_us - move.time_us) / 1000))

    def rows_per_second(self) -> float:
        now = self._clock()
        while self._rows and now - self._rows[0][0] > WINDOW_SECONDS:
            self._rows.popleft()
        seconds = min(WINDOW_SECONDS, max(now - self._began, 0.001))
        return round(sum(rows for _, rows in self._rows) / seconds, 1)

    def latency_ms(self) -> dict[str, float]:
        """p50 and p99 of (durable in the target - committed at the source), of the newest change of each batch."""
        now = self._clock()
        late = sorted(value for at, value in self._late if now - at <= WINDOW_SECONDS)
        if not late:
            return {}
        return {
            name: round(late[min(len(late) - 1, int(len(late) * share))], 1)
            for name, share in (("p50", 0.5), ("p99", 0.99))
        }

    def shares(self) -> dict[str, float]:
        """The share of time in each stage since the last call."""
        total = sum(self._stages.values())
        shares = {name: round(seconds / total, 3) for name, seconds in self._stages.items()} if total else {}
        for name, seconds in self._stages.items():
            self._totals[name] += seconds
        self._stages.clear()
        return shares

    def profile(self, pipeline: str, worker: str) -> Profile:
        """Everything since the meter began; ends the present span of `shares`."""
        self.shares()
        seconds = self._clock() - self._began
        written_s = self._writing_s, self._writing_cpu_s
        return Profile(pipeline, worker, seconds, self._all_rows, dict(self._totals), *written_s)
