"""All contenders, and which workloads they run."""

from __future__ import annotations

from dataclasses import dataclass

from tests.bench.applier import applier
from tests.bench.clock import Run
from tests.bench.limit import by_hand, reading
from tests.bench.sink import DEFAULTS, TUNED, sink
from tests.bench.workloads import Workload

APPLIER, KAFKA_PYTHON = "applier librdkafka", "applier kafka-python"
SINK, SINK_TUNED, LIMIT = "JDBC sink", "JDBC sink tuned", "limit"
TWO_WORKERS = "applier, 2 workers"


@dataclass(frozen=True)
class Contender:
    """`kind`: what a workload's `by` names. `rounds`: fewer for those that take longest, and vary least."""

    name: str
    run: Run
    kind: str
    rounds: int = 3

    @property
    def writes(self) -> bool:
        return self.kind != "reading"

    def takes(self, workload: Workload) -> bool:
        return self.kind in workload.by


def contenders(*, quick: bool) -> list[Contender]:
    """Those of one round, in the order in which they take turns."""
    found = [
        Contender(APPLIER, applier("librdkafka"), "applier"),
        Contender(KAFKA_PYTHON, applier("kafka-python"), "kafka-python"),
        Contender(LIMIT, by_hand, "limit"),
        Contender(SINK, sink(DEFAULTS), "sink", rounds=2),
        Contender(SINK_TUNED, sink(TUNED), "sink", rounds=2),
    ]
    if not quick:
        found += [
            Contender(TWO_WORKERS, applier("librdkafka", 2), "workers"),
            Contender("applier, 4 workers", applier("librdkafka", 4), "workers"),
            Contender("reading librdkafka", reading("librdkafka"), "reading", rounds=1),
            Contender("reading kafka-python", reading("kafka-python"), "reading", rounds=1),
        ]
    return found
