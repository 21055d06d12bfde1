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


@dataclass(frozen=True)
class Contender:
    """`only`: its workloads; empty: all. `slow`: one round is enough of it (it takes longest, and varies least)."""

    name: str
    run: Run
    only: tuple[str, ...] = ()
    slow: bool = False

    def takes(self, workload: Workload) -> bool:
        return (not self.only or workload.name in self.only) and (workload.sink or not self.slow)


def contenders(*, quick: bool) -> list[Contender]:
    """Those of one round, in the order in which they take turns."""
    found = [
        Contender(APPLIER, applier("librdkafka")),
        Contender(KAFKA_PYTHON, applier("kafka-python")),
        Contender(LIMIT, by_hand, only=("snapshot",)),
        Contender(SINK, sink(DEFAULTS), slow=True),
        Contender(SINK_TUNED, sink(TUNED), slow=True),
    ]
    if not quick:
        found += [
            Contender("applier, 2 workers", applier("librdkafka", 2)),
            Contender("applier, 4 workers", applier("librdkafka", 4)),
            Contender("reading librdkafka", reading("librdkafka"), only=("snapshot",)),
            Contender("reading kafka-python", reading("kafka-python"), only=("snapshot",)),
        ]
    return found
