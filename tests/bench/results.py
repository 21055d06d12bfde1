"""What was measured: kept as it comes, so that a run that breaks off has lost nothing."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.bench.backlog import Drained
from tests.bench.clock import Measured
from tests.bench.contenders import APPLIER, KAFKA_PYTHON, LIMIT, SINK, SINK_TUNED, TWO_WORKERS
from tests.bench.latency import Latency

ASKED = 1000
"""Transactions a second of the latencies in the summary."""
SEARCHED = "sink_search"


@dataclass(frozen=True)
class Topics:
    """What a workload's contenders read. `stored_bytes`: as the broker sends them; `record_bytes`: one, unpacked."""

    what: str
    records: int
    record_bytes: int
    stored_bytes: int


@dataclass
class Results:
    """`runs`: workload → contender → its rounds. `latencies`: (contender, transactions a second asked for) → it.

    `startups`: contender → seconds until its first row is visible, a round each. `grown`: workload → what was varied,
    and its value. `failures`: (workload, contender, reason).
    """

    durable: bool = False
    topics: dict[str, Topics] = field(default_factory=dict)
    runs: dict[str, dict[str, list[Measured]]] = field(default_factory=dict)
    latencies: dict[tuple[str, int], Latency] = field(default_factory=dict)
    backlogs: dict[str, Drained] = field(default_factory=dict)
    startups: dict[str, list[float]] = field(default_factory=dict)
    grown: dict[str, tuple[str, int]] = field(default_factory=dict)
    failures: list[tuple[str, str, str]] = field(default_factory=list)

    @contextmanager
    def surviving(self, workload: str, contender: str) -> Iterator[None]:
        """Whatever fails here is kept with its reason, and the rest goes on."""
        try:
            yield
        except Exception as error:
            self.failures.append((workload, contender, f"{type(error).__name__}: {error}"[:2000]))

    def add(self, workload: str, contender: str, measured: Measured) -> None:
        self.runs.setdefault(workload, {}).setdefault(contender, []).append(measured)

    def rate(self, workload: str, contender: str) -> float | None:
        """Median rows/s."""
        rounds = self.runs.get(workload, {}).get(contender)
        return statistics.median(each.rows_per_s for each in rounds) if rounds else None

    def ratio(self, workload: str, contender: str, other: str) -> float | None:
        mine, others = self.rate(workload, contender), self.rate(workload, other)
        return round(mine / others, 2) if mine and others else None

    def highest(self, contender: str) -> int | None:
        """The most transactions a second, of those asked for, that it sustained."""
        return max(
            (asked for (name, asked), each in self.latencies.items() if name == contender and each.sustained),
            default=None,
        )

    def summary(self) -> dict[str, float | None]:
        """The ratios and latencies that are asked for; None where a contender did not run."""
        mine, sink = self.latencies.get((APPLIER, ASKED)), self.latencies.get((SINK, ASKED))
        peaks = [each.peak_mb for per in self.runs.values() for each in per.get(APPLIER, [])]
        return {
            "ratio_vs_jdbc_default": self.ratio("snapshot", APPLIER, SINK),
            "ratio_vs_jdbc_tuned": self.ratio("snapshot", APPLIER, SINK_TUNED),
            "ratio_vs_limit": self.ratio("existing", APPLIER, LIMIT),
            "ratio_kafka_python_vs_jdbc_default": self.ratio("snapshot", KAFKA_PYTHON, SINK),
            "existing_ratio_vs_jdbc_default": self.ratio("existing", APPLIER, SINK),
            "existing_ratio_vs_jdbc_tuned": self.ratio("existing", APPLIER, SINK_TUNED),
            "mixed_ratio_vs_jdbc_default": self.ratio("mixed", APPLIER, SINK),
            "remote_ratio_2_workers_vs_1": self.ratio("remote", TWO_WORKERS, APPLIER),
            "remote_existing_ratio_2_workers_vs_1": self.ratio("remote_existing", TWO_WORKERS, APPLIER),
            "latency_p50_ms": mine.commit_ms.get("p50") if mine else None,
            "latency_p99_ms": mine.commit_ms.get("p99") if mine else None,
            "jdbc_latency_p50_ms": sink.commit_ms.get("p50") if sink else None,
            "jdbc_latency_p99_ms": sink.commit_ms.get("p99") if sink else None,
            "latency_from_topic_p99_ms": mine.topic_ms.get("p99") if mine else None,
            "highest_tx_per_s": self.highest(APPLIER),
            "jdbc_highest_tx_per_s": self.highest(SINK),
            "peak_worker_mb": round(max(peaks), 1) if peaks else None,
        }

    def to_dict(self) -> dict[str, Any]:
        return {
            "machine": machine(),
            "durable": self.durable,
            "summary": self.summary(),
            "failures": [{"workload": w, "contender": c, "reason": reason} for w, c, reason in self.failures],
            "topics": {workload: asdict(each) for workload, each in self.topics.items()},
            "runs": {w: {c: figures(rounds) for c, rounds in per.items()} for w, per in self.runs.items()},
            "grown": self.grown,
            "latencies": [
                {"contender": c, "asked": asked, "sustained": each.sustained, **asdict(each)}
                for (c, asked), each in self.latencies.items()
            ],
            "backlogs": {contender: asdict(each) for contender, each in self.backlogs.items()},
            "startups_s": self.startups,
        }


def figures(rounds: list[Measured]) -> dict[str, Any]:
    """Of each figure its least, median and most over the rounds; and the rounds."""
    found: dict[str, Any] = {"rounds": [asdict(each) for each in rounds]}
    for name in found["rounds"][0]:
        values = [each[name] for each in found["rounds"]]
        found[name] = {"min": min(values), "median": statistics.median(values), "max": max(values)}
    return found


def keep(path: Path, found: dict[str, Any]) -> None:
    """Write a run's results; those of the search for the sink's settings, which is a run of its own, stay."""
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    searched = {SEARCHED: before[SEARCHED]} if SEARCHED in before else {}
    _write(path, {**found, **searched})


def keep_search(path: Path, found: list[dict[str, Any]]) -> None:
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    _write(path, {**before, SEARCHED: {"machine": machine(), "tried": found}})


def _write(path: Path, found: dict[str, Any]) -> None:
    """A kill in the middle leaves what was there."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    part.replace(path)


def machine() -> dict[str, Any]:
    """What it was measured on."""
    model = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    memory = int(Path("/proc/meminfo").read_text().split()[1]) // (1 << 20)
    return {
        "cpu": model[0].partition(":")[2].strip() if model else platform.processor(),
        "cores": os.cpu_count(),
        "memory_gb": memory,
        "system": platform.platform(),
        "python": platform.python_version(),
        "load_before": os.getloadavg()[2],
    }
