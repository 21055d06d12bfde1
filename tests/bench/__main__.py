"""`python -m tests.bench`: run the benchmark. See the package's docstring for what it measures."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from cyclopts import App
from rich.console import Console

from tests.bench.contenders import APPLIER, SINK, Contender, contenders
from tests.bench.latency import Pulse
from tests.bench.report import Results, latency_table, plot, table
from tests.bench.workloads import Workload, workloads
from tests.bench.world import World, new_world

app = App(help="How fast the applier is, beside Debezium's JDBC sink and the database's own limit.")
_console = Console(width=120)
_HERE = Path(__file__).parent


@app.default
def main(
    *,
    quick: bool = False,
    rows: int | None = None,
    rounds: int = 3,
    workload: list[str] | None = None,
    contender: list[str] | None = None,
    out: Path | None = None,
) -> None:
    """Run workloads by contenders, in rounds that take turns.

    quick: the main workload only, in under five minutes; the last line is one JSON object. rows: of a workload (100,000
    when quick, else 300,000). workload, contender: only these. out: folder for results.json and results.svg.
    """
    chosen = [each for each in workloads(rows or (100_000 if quick else 300_000)) if _is_wanted(each.name, workload)]
    if quick and not workload:
        chosen = [each for each in chosen if each.name == "snapshot"]
    others = [each for each in contenders(quick=quick) if _is_wanted(each.name, contender)]
    results = Results()
    with new_world() as world:
        for each in chosen:
            _run(world, each, others, 1 if quick else rounds, results)
        if not workload or "latency" in workload:
            _latency(world, (1000,) if quick else (100, 1000, 2000), 10.0 if quick else 20.0, results)
    _console.print(table(results), latency_table(results), soft_wrap=True)
    if out is not None or not quick:
        folder = out or _HERE
        (folder / "results.json").write_text(json.dumps(results.to_dict(), indent=1) + "\n", encoding="utf-8")
        (folder / "results.svg").write_text(plot(results), encoding="utf-8")
    print(json.dumps(results.summary()))  # noqa: T201


def _is_wanted(name: str, chosen: list[str] | None) -> bool:
    return not chosen or name in chosen


def _run(world: World, workload: Workload, others: list[Contender], rounds: int, results: Results) -> None:
    source = world.source_of(workload)
    results.records[workload.name], results.record_bytes[workload.name] = source.records, source.record_bytes
    _console.print(f"{workload.name}: {workload.what}; {source.records:,} records of {source.record_bytes:,} bytes")
    for number in range(rounds):
        for contender in others:
            if not contender.takes(workload) or (contender.slow and number):
                continue
            with world.target() as target:
                for name in filter(None, (workload.name, workload.again)):
                    turn = replace(workload, name=name, existing=name == workload.again)
                    measured = contender.run(world, source, turn, target)
                    results.add(name, contender.name, measured)
                    _console.print(f"  {contender.name:28} {name:12} {measured.rows_per_s:>9,.0f} rows/s")


def _latency(world: World, rates: tuple[int, ...], seconds: float, results: Results) -> None:
    pulse = Pulse(world)
    for rate in rates:
        for name, measure in ((APPLIER, pulse.applier), (SINK, pulse.sink)):
            results.latencies[name, rate] = found = measure(rate, seconds)
            _console.print(f"  {name:28} at {rate} tx/s: {found.commit_ms} ms from commit")


if __name__ == "__main__":
    app()
