"""`python -m tests.bench`: run the benchmark. See the package's docstring for what it measures."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

from cyclopts import App
from rich.console import Console

from tests.bench.contenders import contenders
from tests.bench.report import tables
from tests.bench.results import Results, keep_search
from tests.bench.search import search, search_table
from tests.bench.session import Session
from tests.bench.workloads import growth, workloads
from tests.bench.world import World, new_world

app = App(help="How fast the applier is, beside Debezium's JDBC sink and the database's own limit.")
_console = Console(width=140, highlight=False)
_HERE = Path(__file__).parent


@app.default
def main(
    *,
    quick: bool = False,
    durable: bool = False,
    search_sink: bool = False,
    rows: int | None = None,
    backlog: int = 1_000_000,
    rounds: int = 3,
    workload: list[str] | None = None,
    contender: list[str] | None = None,
    out: Path | None = None,
) -> int:
    """Run workloads by contenders, in rounds that take turns. Exits 1 when something failed; the rest is kept.

    quick: the main workload only, in under five minutes; the last line is one JSON object. durable: databases wait for
    their disk. search_sink: only try settings of the JDBC sink. rows: of a workload (150,000 when quick, 100,000 when
    searching, else 200,000). backlog: changes of it. rounds: at most. workload (also growth, latency, backlog,
    startup), contender: only these. out: folder for results.json and results.svg, written after each workload.
    """
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # its stack is stopped on the way out
    folder = out or (None if quick else _HERE)
    chosen = workload or (["snapshot", "latency"] if quick else [])
    size = rows or (150_000 if quick else 100_000 if search_sink else 200_000)
    results = Results(durable=durable)
    with new_world(durable=durable) as world:
        if search_sink:
            return _search(world, size, rounds, folder or _HERE)
        others = [each for each in contenders(quick=quick) if not contender or each.name in contender]
        session = Session(world, results, _console, folder, others, rounds=1 if quick else rounds)
        found = [each for each in workloads(size) if not chosen or each.name in chosen]
        session.workloads([*found, *(growth(size // 2) if not chosen or "growth" in chosen else ())])
        if not chosen or "startup" in chosen:
            session.startups()
        if not chosen or "latency" in chosen:
            session.latencies(quick=quick)
        if not chosen or "backlog" in chosen:
            session.backlog(backlog)
    _console.print(*tables(results))
    print(json.dumps(results.summary()))  # noqa: T201
    return 1 if results.failures else 0


def _search(world: World, rows: int, rounds: int, folder: Path) -> int:
    for tried in search(world, rows, rounds):
        keep_search(folder / "results.json", [each.to_dict() for each in tried])
        _console.print(search_table(tried))
    return 0


if __name__ == "__main__":
    sys.exit(app())
