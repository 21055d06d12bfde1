"""The whole thing once, from nothing: stack, sources, load, applier, and the proof that both sides agree."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from cdc.author.deployment import as_deployed
from cdc.control.caught_up import Progress
from cdc.control.connect import Connect
from cdc.control.goal import wait_pipelines
from cdc.control.registration import register
from cdc.control.run import find_pipelines, worker_specs
from cdc.control.sources import plan_registration
from cdc.control.status import status
from cdc.demo.golden import GoldenReport, check
from cdc.demo.load import Load
from cdc.demo.prepare import prepare
from cdc.engine.build import WorkerSpec
from cdc.engine.logs import configure_logs
from cdc.engine.supervisor import Supervisor
from cdc.errors import Terminal
from cdc.mapping.model import Pipeline
from cdc.reconcile.compare import compare
from cdc.reconcile.report import CompareReport
from cdc.references import STACK_HOME_VARIABLE
from cdc.settings import Settings, load
from cdc.stack import Stack

CAUGHT_UP_WITHIN_S = 120.0
SOURCES = ("billing", "crm", "portal")
PIPELINES = ("billing", "crm", "golden", "partner")


@dataclass(frozen=True)
class Shown:
    """What the demo found. `latency_ms`: by pipeline, p50 and p99 from commit at the source to commit in the target
    (`targets`: its name, by pipeline)."""

    loaded_transactions: int
    loaded_rows: int
    seconds: float
    caught_up_s: float
    latency_ms: dict[str, dict[str, float]]
    targets: dict[str, str]
    lag: int
    parked: int
    compared: CompareReport
    golden: GoldenReport

    @property
    def well(self) -> bool:
        return self.compared.equal and self.golden.equal and self.lag == 0 and self.parked == 0

    def to_dict(self) -> dict[str, Any]:
        plain = {key: value for key, value in asdict(self).items() if key not in ("compared", "golden")}
        return {**plain, "well": self.well, "compared": self.compared.to_dict(), "golden": self.golden.to_dict()}


def show(
    home: Path,
    mappings: Path,
    connections: Path,
    *,
    rate: float,
    seconds: float,
    seed: int = 1,
    say: Callable[[str], None] = lambda line: None,
) -> Shown:
    """Run the demo on the stack in `home`, which is started when needed and left running.

    Raises what any of its parts raises; the applier is stopped in every case.
    """
    os.environ[STACK_HOME_VARIABLE] = str(home)
    say("starting the stack: Kafka, Connect with Debezium, PostgreSQL, MariaDB")
    Stack(home).up()
    settings = load(connections)
    say("making the demo's databases: CRM and self-care portal in PostgreSQL, billing in MariaDB, an empty hub")
    prepare(settings, number=seed)
    _register(settings, say)
    pipelines = as_deployed(settings, find_pipelines(mappings, PIPELINES))
    with _applier(worker_specs(settings, pipelines, 1, connections, "warning")) as applier:

        def watch(progress: Progress) -> None:
            if not applier.is_alive():
                raise Terminal("the applier ended by itself", hint="its last words are above")

        say("the applier is live: loading what is there already")
        wait_pipelines(settings, pipelines, deadline_s=CAUGHT_UP_WITHIN_S, report=watch)
        say(f"{rate:g} transactions a second for {seconds:g} s in all three sources")
        work = Load(*(settings.source(name) for name in ("crm", "billing", "portal")), seed=seed)
        work.run(rate=rate, seconds=seconds)
        say("waiting until everything committed at the sources is in the hub")
        began = time.monotonic()
        wait_pipelines(settings, pipelines, deadline_s=CAUGHT_UP_WITHIN_S, report=watch)
        caught_up_s = time.monotonic() - began
        found = _settled(settings, pipelines)
        say("comparing the hub with its sources through the mappings, both ways")
        compared = compare(settings, pipelines)
        say("working out every golden customer anew from the three databases")
        golden = check(settings, next(each for each in pipelines if each.name == "golden"))
    reports = list(work.reports.values())
    return Shown(
        loaded_transactions=sum(report.transactions.total() for report in reports),
        loaded_rows=sum(report.rows.total() for report in reports),
        seconds=seconds,
        caught_up_s=caught_up_s,
        latency_ms={each.name: _latency(each.workers) for each in found.pipelines},
        targets={each.name: each.target for each in found.pipelines},
        lag=sum(each.lag or 0 for each in found.pipelines),
        parked=sum(each.parked for each in found.pipelines),
        compared=compared,
        golden=golden,
    )


def _register(settings: Settings, say: Callable[[str], None]) -> None:
    with Connect(settings.connect) as connect:
        for name in SOURCES:
            say(f"registering source {name} with Kafka Connect")
            register(plan_registration(settings, settings.source(name), connect), connect)


def _settled(settings: Settings, pipelines: Sequence[Pipeline]) -> Any:
    """The status once the workers' reports are newer than the catching up (they come every two seconds)."""
    deadline = time.monotonic() + 10
    while True:
        found = status(settings, pipelines)
        if all(_latency(each.workers) for each in found.pipelines) or time.monotonic() > deadline:
            return found
        time.sleep(0.5)


def _latency(workers: Sequence[Any]) -> dict[str, float]:
    return next((each.latency_ms for each in workers if each.fresh and each.latency_ms), {})


@contextmanager
def _applier(specs: list[WorkerSpec]) -> Iterator[BaseProcess]:
    """`cdc run` beside the block."""
    process = multiprocessing.get_context("spawn").Process(target=_supervise, args=(specs,), name="applier")
    process.start()
    try:
        yield process
    finally:
        process.terminate()
        process.join()


def _supervise(specs: list[WorkerSpec]) -> None:
    configure_logs("warning")
    raise SystemExit(Supervisor(specs).run())
