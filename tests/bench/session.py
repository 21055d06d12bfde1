"""One run of the benchmark: its parts one after the other, each kept as soon as it is measured."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from rich.console import Console

from tests.bench.backlog import Backlog
from tests.bench.contenders import APPLIER, SINK, Contender
from tests.bench.latency import HIGHER, Pulse
from tests.bench.plot import plot
from tests.bench.results import Results, Topics, keep
from tests.bench.startup import STARTED, startup
from tests.bench.workloads import Workload, customers
from tests.bench.world import Source, World

_STARTUPS = 3


@dataclass
class Session:
    """`folder`: where results.json and results.svg are written after each step; None: nowhere. `rounds`: at most.

    What fails is told and kept with its reason, and the rest goes on.
    """

    world: World
    results: Results
    console: Console
    folder: Path | None
    contenders: list[Contender]
    rounds: int

    def workloads(self, found: list[Workload]) -> None:
        """Those that share topics follow one another: topics are removed after their last use."""
        for each, after in pairwise([*found, None]):
            assert each is not None
            with self._attempt(each.name):
                self._workload(each)
            source = self.world.sources.get(each.source)
            if source is not None and (after is None or after.source != each.source):
                with self._attempt(each.name):
                    self.world.drop(source)

    def latencies(self, *, quick: bool) -> None:
        """At fixed rates; unless `quick`, for each contender at higher and higher ones until it cannot follow."""
        with self._attempt("latency"), Pulse(self.world) as pulse:
            left = {APPLIER: pulse.applier, SINK: pulse.sink}
            for rate in (1000,) if quick else (100, 1000, *HIGHER):
                for name, measure in list(left.items()):
                    with self._attempt("latency", name):
                        self.results.latencies[name, rate] = found = measure(rate, 10.0 if quick else 15.0)
                        self.console.print(f"  {name:22} {found.rate:,.0f} of {rate:,} tx/s: {found.commit_ms} ms")
                        if not found.sustained:
                            del left[name]

    def backlog(self, changes: int) -> None:
        with self._attempt("backlog"), Backlog(self.world, changes) as made:
            self.console.print(f"backlog: {made.source.records:,} changes")
            for name, drain in ((APPLIER, made.applier), (SINK, made.sink)):
                with self._attempt("backlog", name):
                    self.results.backlogs[name] = found = drain()
                    self.console.print(f"  {name:22} {found.applied:,} records in {found.seconds:.1f} s")

    def startups(self) -> None:
        with self._attempt("startup"):
            tables, fill = customers(1000)
            source = Source(self.world, "bench_startup", tables)
            source.fill(fill, ())
            source.stop()
            for name in list(STARTED) * _STARTUPS:
                with self._attempt("startup", name):
                    self.results.startups.setdefault(name, []).append(seconds := startup(self.world, source, name))
                    self.console.print(f"  {name:22} first row visible after {seconds:.1f} s")
            self.world.drop(source)

    def _workload(self, workload: Workload) -> None:
        source = self.world.source_of(workload)
        for name in filter(None, (workload.name, workload.again)):
            self.results.topics[name] = Topics(workload.what, source.records, source.record_bytes, source.stored_bytes)
            if workload.grows:
                self.results.grown[name] = workload.grows
        what = (
            f"{source.records:,} records of {source.record_bytes:,} bytes ({source.stored_bytes / 1e6:,.0f} MB packed)"
        )
        self.console.print(f"{workload.name}: {workload.what}; {what}")
        for number in range(min(self.rounds, workload.rounds)):
            for each in self.contenders:
                if each.takes(workload) and number < each.rounds:
                    with self._attempt(workload.name, each.name):
                        self._turn(each, workload, source)

    def _turn(self, contender: Contender, workload: Workload, source: Source) -> None:
        with self.world.target() as target:
            for name in filter(None, (workload.name, workload.again if contender.writes else "")):
                turn = replace(workload, name=name, existing=name == workload.again)
                found = contender.run(self.world, source, turn, target)
                self.results.add(name, contender.name, found)
                used = f"{found.cpu_s_per_million:6.1f} CPU s/M {found.peak_mb:5.0f} MB"
                self.console.print(f"  {contender.name:22} {name:24} {found.rows_per_s:>9,.0f} rows/s {used}")

    @contextmanager
    def _attempt(self, what: str, contender: str = "") -> Iterator[None]:
        failures = len(self.results.failures)
        with self.results.surviving(what, contender):
            yield
        for _, _, reason in self.results.failures[failures:]:
            self.console.print(f"  FAILED {what} {contender}: {reason}", markup=False)
        if self.folder is not None:
            suffix = "-durable" if self.results.durable else ""
            keep(self.folder / f"results{suffix}.json", self.results.to_dict())
            (self.folder / f"results{suffix}.svg").write_text(plot(self.results), encoding="utf-8")
