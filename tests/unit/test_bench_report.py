"""The benchmark's sums: what it reports must be what was measured."""

from __future__ import annotations

import json
import os
import xml.etree.ElementTree as ElementTree

from tests.bench import usage
from tests.bench.clock import Measured
from tests.bench.contenders import APPLIER, LIMIT, SINK
from tests.bench.latency import Latency, quantiles
from tests.bench.report import Results, plot, table
from tests.bench.workloads import workloads


def results() -> Results:
    found = Results(records={"snapshot": 10})
    for workload, contender, rates in (
        ("snapshot", APPLIER, (30.0, 50.0, 40.0)),
        ("snapshot", SINK, (4.0,)),
        ("existing", APPLIER, (30.0,)),
        ("existing", LIMIT, (40.0,)),
    ):
        for rate in rates:
            found.add(workload, contender, Measured(rate, 1.0, 2.0, 3.0, 4.0))
    found.latencies[APPLIER, 100] = Latency(100.0, {"p50": 1.0, "p99": 2.0}, {"p99": 1.5})
    found.latencies[APPLIER, 1000] = Latency(999.0, {"p50": 5.0, "p99": 9.0}, {"p99": 8.5})
    return found


def test_ratios_are_of_medians_and_latencies_of_the_highest_rate() -> None:
    summary = results().summary()
    assert summary["ratio_vs_jdbc_default"] == 10.0
    assert summary["ratio_vs_limit"] == 0.75
    assert summary["ratio_vs_jdbc_tuned"] is None
    assert (summary["latency_p50_ms"], summary["latency_p99_ms"], summary["jdbc_latency_p50_ms"]) == (5.0, 9.0, None)


def test_everything_can_be_written() -> None:
    found = results()
    assert json.loads(json.dumps(found.to_dict()))["runs"]["snapshot"][SINK][0]["rows_per_s"] == 4.0
    assert table(found).row_count == 4
    drawn = ElementTree.fromstring(plot(found))
    assert len(drawn.findall("{http://www.w3.org/2000/svg}rect")) == 1 + 4


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
