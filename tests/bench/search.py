"""What of the JDBC sink's settings makes it faster: each by itself, and what helped together."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from rich.table import Table

from tests.bench.sink import DEFAULTS, SinkSettings, sink
from tests.bench.workloads import workloads
from tests.bench.world import World

_POLL, _BATCH, _FOLD = "consumer.override.max.poll.records", "batch.size", "use.reduction.buffer"
_FETCH = {
    "consumer.override.fetch.min.bytes": "1048576",
    "consumer.override.fetch.max.wait.ms": "100",
    "consumer.override.receive.buffer.bytes": "1048576",
}


def _of(batch: int, **more: str) -> dict[str, str]:
    return {_BATCH: str(batch), _POLL: str(batch), **more}


CANDIDATES: dict[str, SinkSettings] = {
    "defaults": DEFAULTS,
    "no reWriteBatchedInserts": SinkSettings(rewrite=False),
    "poll 5000": SinkSettings({_POLL: "5000"}),
    "batch, poll 2000": SinkSettings(_of(2000)),
    "batch, poll 5000": SinkSettings(_of(5000)),
    "batch, poll 10000": SinkSettings(_of(10_000)),
    "reduction buffer": SinkSettings({_FOLD: "true"}),
    "batch, poll 2000, reduction buffer": SinkSettings(_of(2000, **{_FOLD: "true"})),
    "batch, poll 5000, reduction buffer": SinkSettings(_of(5000, **{_FOLD: "true"})),
    "large fetches": SinkSettings(_FETCH),
    "batch, poll 5000, large fetches": SinkSettings(_of(5000, **_FETCH)),
    "pool of 1": SinkSettings({"connection.pool.min_size": "1", "connection.pool.max_size": "1"}),
    "prepared at once": SinkSettings(url="&prepareThreshold=1"),
    "UNNEST inserts": SinkSettings(_of(5000, **{"dialect.postgres.unnest.insert.enabled": "true"})),
    "2 tasks": SinkSettings({"tasks.max": "2"}),
    "4 tasks": SinkSettings({"tasks.max": "4"}),
    "2 tasks, batch, poll 2000": SinkSettings(_of(2000, **{"tasks.max": "2"})),
    "2 tasks, batch, poll 5000": SinkSettings(_of(5000, **{"tasks.max": "2"})),
    "2 tasks, batch, poll 5000, reduction buffer": SinkSettings(_of(5000, **{"tasks.max": "2", _FOLD: "true"})),
}


@dataclass
class Tried:
    """rows/s into an empty table and onto rows that exist, a round each; or why it does not work."""

    name: str
    settings: SinkSettings
    empty: list[float] = field(default_factory=list)
    existing: list[float] = field(default_factory=list)
    failed: str = ""

    @property
    def worth(self) -> float:
        """By which they are compared: both count the same."""
        return statistics.median(self.empty) * statistics.median(self.existing) if self.existing else 0.0

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def search(world: World, rows: int, rounds: int) -> Iterator[list[Tried]]:
    """After each round what is known so far, the best first."""
    first = next(each for each in workloads(rows) if each.name == "snapshot")
    source, tried = world.source_of(first), [Tried(name, settings) for name, settings in CANDIDATES.items()]
    for _ in range(rounds):
        for each in tried:
            if each.failed:
                continue
            try:
                with world.target() as target:
                    run = sink(each.settings)
                    empty = run(world, source, first, target).rows_per_s
                    existing = run(world, source, replace(first, existing=True), target).rows_per_s
            except Exception as error:  # settings that don't work are a finding
                each.failed = f"{error}"[:300]
            else:
                each.empty.append(empty)
                each.existing.append(existing)
        yield sorted(tried, key=lambda found: -found.worth)


def search_table(tried: list[Tried]) -> Table:
    found = Table(title="the sink's settings: rows a second, median of the rounds", title_justify="left")
    for name in ("settings", "empty", "existing", "failed"):
        found.add_column(name, justify="right" if name in ("empty", "existing") else "left")
    for each in tried:
        rates = [f"{statistics.median(values):,.0f}" if values else "" for values in (each.empty, each.existing)]
        found.add_row(each.name, *rates, each.failed)
    return found
