"""cdc run: apply the pipelines' changes to their targets."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from cdc.author.deployment import as_deployed
from cdc.cli import shown
from cdc.cli.common import Connections, Mappings, Target
from cdc.cli.rollout import deploy_all
from cdc.control.goal import Goal
from cdc.control.retention import keep_warned
from cdc.control.run import check_fed, find_pipelines, keep_swept, worker_specs
from cdc.engine.logs import configure_logs
from cdc.engine.meter import Profile
from cdc.engine.supervisor import Supervisor
from cdc.settings import load


def run(
    *pipelines: str,
    target: Target = None,
    workers: Annotated[
        int, Parameter(help="Worker processes for each pipeline and target.", validator=Number(gte=1))
    ] = 1,
    until_caught_up: Annotated[
        bool, Parameter(help="Stop when everything committed at the sources by now is in the targets.")
    ] = False,
    deadline: Annotated[float, Parameter(help="Seconds after which --until-caught-up gives up.")] = 3600.0,
    profile: Annotated[
        bool, Parameter(help="At the end, print where the workers' time went, by stage.", negative="")
    ] = False,
    deploy: Annotated[
        str, Parameter(help="First deploy the files that differ from what is deployed; say why, for the audit record.")
    ] = "",
    log_level: Annotated[Literal["debug", "info", "warning", "error"], Parameter(help="How much is said.")] = "info",
    mappings: Mappings = Path("mappings"),
    connections: Connections = Path("connect-configs/connections.yaml"),
) -> None:
    """Apply changes until stopped (Ctrl-C or SIGTERM finish the batch; a second one leaves at once).

    Without names, all pipelines of the mappings folder run, each with workers of its own for every target. A pipeline
    that never ran is deployed as its file says; later the deployed version runs, and `cdc mapping apply` changes it.
    """
    configure_logs(log_level)
    settings = load(connections)
    found = find_pipelines(mappings, pipelines, target)
    if deploy and not deploy_all(settings, found, deploy):
        sys.exit(1)
    found = as_deployed(settings, found)
    check_fed(settings, found, refuse=until_caught_up)
    specs = worker_specs(settings, found, workers, connections, log_level)
    keep_swept(settings, found)
    keep_warned(settings, found)
    goal = Goal(settings, found, deadline).reached if until_caught_up else None
    supervisor = Supervisor(specs, goal)
    try:
        code = supervisor.run()
    finally:
        if profile:
            print_profiles(supervisor.profiles)
    sys.exit(code)


def print_profiles(found: Iterable[Profile]) -> None:
    """A column a worker: shares of its life that the reading thread spent in each stage and in the rest (reports,
    rebalances); beside them the share in which the writing thread had a batch, and in which it used the CPU for it."""
    profiles = list(found)
    stages = sorted({name for each in profiles for name in each.stages})
    names = [f"{each.pipeline} {each.worker.rpartition(':')[2]}" for each in profiles]
    table = shown.table("", *names, right=names)
    table.add_row("seconds", *(f"{each.seconds:,.1f}" for each in profiles))
    table.add_row("rows", *(f"{each.rows:,}" for each in profiles))
    table.add_row("rows/s", *(f"{each.rows / max(each.seconds, 0.001):,.0f}" for each in profiles))
    for stage in stages:
        table.add_row(stage, *(_share(each.stages.get(stage, 0.0), each) for each in profiles))
    table.add_row("rest", *(_share(each.seconds - sum(each.stages.values()), each) for each in profiles))
    table.add_row("(writing, meanwhile)", *(_share(each.writing_s, each) for each in profiles))
    table.add_row("(… on the CPU)", *(_share(each.writing_cpu_s, each) for each in profiles))
    shown.console().print(table)


def _share(seconds: float, of: Profile) -> str:
    return f"{max(0.0, seconds) / max(of.seconds, 0.001):.0%}"
