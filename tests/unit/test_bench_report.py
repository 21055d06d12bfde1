"""The benchmark's sums: what it reports must be what was measured."""

from __future__ import annotations

import json
import os
import re
import xml.etree.ElementTree as ElementTree
from itertools import groupby
from pathlib import Path

from tests.bench import usage
from tests.bench.clock import Measured
from tests.bench.contenders import APPLIER, LIMIT, SINK
from tests.bench.latency import Latency, quantiles
from tests.bench.plot import plot
from tests.bench.report import tables
from tests.bench.results import Results, Topics, keep, keep_search
from tests.bench.workloads import backlog, growth, workloads


def results() -> Results:
    found = Results(topics={name: Topics(name, 10, 5000, 4000) for name in ("snapshot", "existing")})
    for workload, contender, rates in (
        ("snapshot", APPLIER, (30.0, 50.0, 40.0)),
        ("snapshot", SINK, (4.0,)),
        ("existing", APPLIER, (30.0,)),
        ("existing", LIMIT, (40.0,)),
    ):
        for rate in rates:
            found.add(workload, contender, Measured(rate, 1.0, 2.0, 3.0, 4.0))
    found.latencies[APPLIER, 100] = Latency(100, 100.0, {"p50": 1.0, "p99": 2.0}, {"p99": 1.5})
    found.latencies[APPLIER, 1000] = Latency(1000, 999.0, {"p50": 5.0, "p99": 9.0}, {"p99": 8.5})
    found.latencies[APPLIER, 2000] = Latency(2000, 1700.0, {"p50": 6.0, "p99": 10.0}, {"p99": 9.5})
    return found


def test_ratios_are_of_medians_and_latencies_of_one_rate() -> None:
    summary = results().summary()
    assert summary["ratio_vs_jdbc_default"] == 10.0
    assert summary["ratio_vs_limit"] == 0.75
    assert summary["ratio_vs_jdbc_tuned"] is None
    assert (summary["latency_p50_ms"], summary["latency_p99_ms"], summary["jdbc_latency_p50_ms"]) == (5.0, 9.0, None)
    assert (summary["highest_tx_per_s"], summary["jdbc_highest_tx_per_s"]) == (1000, None)


def test_everything_can_be_written() -> None:
    found = results()
    kept = json.loads(json.dumps(found.to_dict()))
    assert kept["runs"]["snapshot"][APPLIER]["rows_per_s"] == {"min": 30.0, "median": 40.0, "max": 50.0}
    runs, latencies = tables(found)
    assert (runs.row_count, latencies.row_count) == (4, 3)
    drawn = ElementTree.fromstring(plot(found))
    assert len(drawn.findall("{http://www.w3.org/2000/svg}rect")) == 1 + 4 + 3 * 2


def test_what_fails_is_kept_and_the_rest_goes_on() -> None:
    found = results()
    with found.surviving("snapshot", SINK):
        raise AssertionError("it stopped at 3")
    (failure,) = found.to_dict()["failures"]
    assert failure == {"workload": "snapshot", "contender": SINK, "reason": "AssertionError: it stopped at 3"}
    *_, failures = tables(found)
    assert failures.row_count == 1


def test_the_search_for_settings_is_kept_beside_the_results(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    keep_search(path, [{"name": "defaults"}])
    keep(path, results().to_dict())
    keep(path, results().to_dict())
    kept = json.loads(path.read_text())
    assert [each["name"] for each in kept["sink_search"]["tried"]] == ["defaults"]
    assert kept["summary"]["ratio_vs_limit"] == 0.75


def test_quantiles() -> None:
    assert quantiles([float(n) for n in range(101)]) == {"p50": 50.0, "p95": 95.0, "p99": 99.0}
    assert quantiles([1.0]) == {}


def test_usage_of_this_process() -> None:
    own = usage.of(os.getpid())
    assert own.cpu_s > 0
    assert own.peak_mb > 10


def test_mixed_changes_are_what_they_say() -> None:
    (mixed,) = [each for each in workloads(40_000) if each.name == "mixed"]
    assert len(mixed.tables) == 20
    kinds = [statement.split()[0] for statement in mixed.changes]
    assert {"INSERT", "UPDATE", "DELETE"} == set(kinds)


def test_topics_are_shared_only_by_neighbours() -> None:
    """They are removed after their last use, so whoever uses them must follow at once."""
    sources = [each.source for each in (*workloads(1000), *growth(1000))]
    assert len([source for source, _ in groupby(sources)]) == len(set(sources))
    names = [each.name for each in (*workloads(1000), *growth(1000))]
    assert len(names) == len(set(names))


def test_a_backlog_is_as_long_as_it_says() -> None:
    """35 + 60 + 5 %: counted from its statements, on a table that holds just its rows."""
    statements = backlog(100_000).changes
    number = {"INSERT": 0, "UPDATE": 0, "DELETE": 0}
    for statement in statements:
        low, high = (
            map(int, re.findall(r"(?:series\(|BETWEEN |<= )(\d+)(?:,? (?:AND )?(\d+))?", statement)[0])
            if ("<=" not in statement)
            else (1, int(statement.rpartition(" ")[2]))
        )
        number[statement.split()[0]] += high - low + 1
    assert number == {"INSERT": 35_000, "UPDATE": 60_000, "DELETE": 5_000}
