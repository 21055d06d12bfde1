"""What was measured, as tables."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Sequence

from rich.table import Table

from tests.bench.contenders import APPLIER, SINK
from tests.bench.results import Results

_LEFT = ("workload", "contender", "varied", "failed", "why")


def tables(results: Results) -> Iterator[Table]:
    """All that have a row."""
    for each in (_runs(results), _growth(results), _latencies(results), _backlogs(results), _failures(results)):
        if each.row_count:
            yield each


def _runs(results: Results) -> Table:
    """Every contender of every workload: rows/s, min to max, and what it used."""
    found = _table(
        "rows a second (median of the rounds; CPU seconds a million records)",
        *("workload", "contender", "rows/s", "min – max", "× sink", "MB/s read", "CPU", "database CPU", "peak MB"),
    )
    for workload, per in results.runs.items():
        if workload in results.grown:
            continue
        topics = results.topics[workload]
        for contender, rounds in per.items():
            rates = [each.rows_per_s for each in rounds]
            ratio = results.ratio(workload, contender, SINK)
            found.add_row(
                workload,
                contender,
                f"{statistics.median(rates):,.0f}",
                f"{min(rates):,.0f} – {max(rates):,.0f}",
                "" if ratio is None else f"{ratio:.1f}",
                f"{statistics.median(rates) * topics.stored_bytes / topics.records / 1e6:,.1f}",
                _median(each.cpu_s_per_million for each in rounds),
                _median(each.database_cpu_s_per_million for each in rounds),
                f"{max(each.peak_mb for each in rounds):,.0f}",
            )
        found.add_section()
    return found


def _growth(results: Results) -> Table:
    found = _table("how the applier grows", "varied", "value", "rows/s, empty", "rows/s, existing", "CPU", "peak MB")
    for workload, (varied, value) in results.grown.items():
        if workload.endswith("_existing") or not results.runs.get(workload):
            continue
        (first, *_) = results.runs[workload][APPLIER]
        again = results.rate(f"{workload}_existing", APPLIER)
        rates = (f"{first.rows_per_s:,.0f}", "" if again is None else f"{again:,.0f}")
        found.add_row(varied, f"{value:,}", *rates, f"{first.cpu_s_per_million:,.1f}", f"{first.peak_mb:,.0f}")
    return found


def _latencies(results: Results) -> Table:
    quantiles = ("p50", "p95", "p99")
    names = [f"{since} {each}" for since in ("from commit", "from topic") for each in quantiles]
    found = _table("milliseconds until visible in the target", "contender", "tx/s asked", "taken", *names, "sustained")
    for (contender, asked), each in results.latencies.items():
        values = [per.get(name) for per in (each.commit_ms, each.topic_ms) for name in quantiles]
        shown = ["" if value is None else f"{value:,.0f}" for value in values]
        found.add_row(contender, f"{asked:,}", f"{each.rate:,.0f}", *shown, "yes" if each.sustained else "no")
    return found


def _backlogs(results: Results) -> Table:
    found = _table(
        "seconds until the first row is visible, and until a backlog is gone while more comes",
        *("contender", "first row", "backlog", "meanwhile/s", "gone after", "changes/s"),
    )
    for contender in dict.fromkeys((*results.startups, *results.backlogs)):
        startup, drained = results.startups.get(contender), results.backlogs.get(contender)
        first = "" if not startup else f"{statistics.median(startup):.1f}"
        rest = (
            ("",) * 4
            if drained is None
            else (
                f"{drained.backlog:,}",
                f"{drained.meanwhile_per_s:,.0f}",
                f"{drained.seconds:,.1f}",
                f"{drained.applied / drained.seconds:,.0f}",
            )
        )
        found.add_row(contender, first, *rest)
    return found


def _failures(results: Results) -> Table:
    found = _table("what failed", "failed", "contender", "why")
    for workload, contender, reason in results.failures:
        found.add_row(workload, contender, reason)
    return found


def _table(title: str, *columns: str) -> Table:
    found = Table(title=title, title_justify="left")
    for name in columns:
        found.add_column(name, justify="left" if name in _LEFT else "right")
    return found


def _median(values: Iterable[float]) -> str:
    found: Sequence[float] = [value for value in values if value]
    return f"{statistics.median(found):,.1f}" if found else ""
