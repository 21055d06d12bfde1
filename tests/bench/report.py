"""What was measured, as a table, as JSON and as a plot."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from rich.table import Table

from tests.bench.clock import Measured
from tests.bench.contenders import APPLIER, KAFKA_PYTHON, LIMIT, SINK, SINK_TUNED
from tests.bench.latency import Latency

_COLOURS = {"applier": "#2f6f9f", "JDBC": "#b5651d", "limit": "#777777", "reading": "#aaaaaa"}


@dataclass
class Results:
    """`runs`: workload → contender → its rounds. `latencies`: (contender, transactions a second asked for) → it."""

    records: dict[str, int] = field(default_factory=dict)
    record_bytes: dict[str, int] = field(default_factory=dict)
    runs: dict[str, dict[str, list[Measured]]] = field(default_factory=dict)
    latencies: dict[tuple[str, int], Latency] = field(default_factory=dict)

    def add(self, workload: str, contender: str, measured: Measured) -> None:
        self.runs.setdefault(workload, {}).setdefault(contender, []).append(measured)

    def rate(self, workload: str, contender: str) -> float | None:
        """Median rows/s."""
        rounds = self.runs.get(workload, {}).get(contender)
        return statistics.median(each.rows_per_s for each in rounds) if rounds else None

    def ratio(self, workload: str, contender: str, other: str) -> float | None:
        mine, others = self.rate(workload, contender), self.rate(workload, other)
        return round(mine / others, 2) if mine and others else None

    def summary(self) -> dict[str, float | None]:
        """The ratios and latencies that are asked for; None where a contender did not run."""
        mine = next((each for (name, _), each in reversed(self.latencies.items()) if name == APPLIER), None)
        sink = next((each for (name, _), each in reversed(self.latencies.items()) if name == SINK), None)
        return {
            "ratio_vs_jdbc_default": self.ratio("snapshot", APPLIER, SINK),
            "ratio_vs_jdbc_tuned": self.ratio("snapshot", APPLIER, SINK_TUNED),
            "ratio_vs_limit": self.ratio("existing", APPLIER, LIMIT),
            "ratio_kafka_python_vs_jdbc_default": self.ratio("snapshot", KAFKA_PYTHON, SINK),
            "existing_ratio_vs_jdbc_default": self.ratio("existing", APPLIER, SINK),
            "existing_ratio_vs_jdbc_tuned": self.ratio("existing", APPLIER, SINK_TUNED),
            "mixed_ratio_vs_jdbc_default": self.ratio("mixed", APPLIER, SINK),
            "latency_p50_ms": mine.commit_ms.get("p50") if mine else None,
            "latency_p99_ms": mine.commit_ms.get("p99") if mine else None,
            "jdbc_latency_p50_ms": sink.commit_ms.get("p50") if sink else None,
            "jdbc_latency_p99_ms": sink.commit_ms.get("p99") if sink else None,
            "latency_from_topic_p99_ms": mine.topic_ms.get("p99") if mine else None,
        }

    def to_dict(self) -> dict[str, Any]:
        return {
            "machine": machine(),
            "summary": self.summary(),
            "records": self.records,
            "record_bytes": self.record_bytes,
            "runs": {w: {c: [asdict(m) for m in rounds] for c, rounds in per.items()} for w, per in self.runs.items()},
            "latencies": [
                {"contender": c, "asked": rate, **asdict(each)} for (c, rate), each in self.latencies.items()
            ],
        }


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
    }


def table(results: Results) -> Table:
    """Every contender of every workload: rows/s, min to max, and what it used."""
    found = Table(title="rows a second (median of the rounds)", title_justify="left")
    for name in ("workload", "contender", "rows/s", "min – max", "× sink", "CPU s/M", "database CPU s/M", "peak MB"):
        found.add_column(name, justify="left" if name in ("workload", "contender") else "right")
    for workload, per in results.runs.items():
        for contender, rounds in per.items():
            rates = [each.rows_per_s for each in rounds]
            ratio = results.ratio(workload, contender, SINK)
            found.add_row(
                workload,
                contender,
                f"{statistics.median(rates):,.0f}",
                f"{min(rates):,.0f} – {max(rates):,.0f}",
                "" if ratio is None else f"{ratio:.1f}",
                _number(each.cpu_s_per_million for each in rounds),
                _number(each.database_cpu_s_per_million for each in rounds),
                _number(each.peak_mb for each in rounds),
            )
        found.add_section()
    return found


def latency_table(results: Results) -> Table:
    found = Table(title="milliseconds until visible in the target", title_justify="left")
    for name in ("contender", "tx/s asked", "taken", "from commit p50", "p95", "p99", "from topic p50", "p99"):
        found.add_column(name, justify="left" if name == "contender" else "right")
    for (contender, asked), each in results.latencies.items():
        commit, topic = each.commit_ms, each.topic_ms
        figures = (commit.get("p50"), commit.get("p95"), commit.get("p99"), topic.get("p50"), topic.get("p99"))
        found.add_row(
            contender, str(asked), f"{each.rate:.0f}", *(f"{x:,.0f}" if x is not None else "" for x in figures)
        )
    return found


def plot(results: Results) -> str:
    """An SVG: one group of bars a workload."""
    bars = [(w, c, results.rate(w, c) or 0.0) for w, per in results.runs.items() for c in per]
    most = max((rate for *_, rate in bars), default=1.0)
    lines, y, before = list[str](), 34, ""
    for workload, contender, rate in bars:
        if workload != before:
            y += 14
            lines.append(f'<text x="12" y="{y + 4}" font-weight="bold">{escape(workload)}</text>')
            before, y = workload, y + 12
        width = 470 * rate / most
        lines.append(f'<text x="200" y="{y + 11}" text-anchor="end">{escape(contender)}</text>')
        lines.append(f'<rect x="208" y="{y}" width="{width:.1f}" height="14" rx="2" fill="{_colour(contender)}"/>')
        lines.append(f'<text x="{214 + width:.1f}" y="{y + 11}">{rate:,.0f}</text>')
        y += 19
    size = f'width="760" height="{y + 12}"'
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">'
        f'<rect {size} fill="#ffffff"/>'
        '<text x="12" y="24" font-size="15" font-weight="bold">Rows a second into PostgreSQL (one machine, one run)'
        "</text>"
    )
    return "\n".join([head, *lines, "</svg>"]) + "\n"


def _colour(contender: str) -> str:
    return next((colour for word, colour in _COLOURS.items() if contender.startswith(word)), "#444444")


def _number(values: Iterable[float]) -> str:
    found: Sequence[float] = [value for value in values if value]
    return f"{statistics.median(found):,.0f}" if found else ""
