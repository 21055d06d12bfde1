"""Carrying a rollout out: the target's tables are made ready, then the version is deployed, and workers go on by it.

In this order, so that what the target refuses is told to whoever applies, and workers meet tables that are ready. What
was added to the target stays when something fails in between: nothing reads it, and the next attempt finds it there.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

import msgspec

from cdc.author.plan import RolloutPlan, make, moved
from cdc.control.operate import opened, owner_of, who
from cdc.engine.build import target_of
from cdc.engine.deployed import read
from cdc.errors import Usage
from cdc.mapping.model import Pipeline
from cdc.model import TargetTable
from cdc.settings import Settings
from cdc.target.versions import Deployed


def apply(settings: Settings, pipeline: Pipeline, plan: RolloutPlan, reason: str) -> RolloutPlan:
    """Do exactly the plan; it comes back `executed`, or `refused` when the world it was made for has moved, and then
    nothing was done. Raises what `make` raises."""
    now = make(settings, pipeline, plan.restores)
    refused = moved(plan, now.plan) or now.plan.refused
    if refused:
        return msgspec.structs.replace(plan, refused=refused)
    changed = {statement.table for statement in plan.statements}
    _prepare(settings, pipeline, [table for table in now.tables if f"{table.namespace}.{table.name}" in changed])
    with opened(settings, pipeline) as operator:
        version = Deployed(plan.number, plan.text, plan.file, who(), reason, plan.restores)
        if not operator.deploy(version):
            return msgspec.structs.replace(plan, refused=("another version was deployed a moment ago",))
    return msgspec.structs.replace(plan, executed=True)


def _prepare(settings: Settings, pipeline: Pipeline, tables: Sequence[TargetTable]) -> None:
    if not tables:
        return
    target = target_of(settings, pipeline)
    target.open(owner_of(pipeline))
    with closing(target):
        for table in tables:
            target.prepare(table)


def older(settings: Settings, pipeline: Pipeline, to: int | None) -> tuple[Pipeline, int]:
    """The pipeline as an older version has it, and its number; default: the one before what is deployed. Raises
    `Usage` when there is none, `Terminal` for one that cannot be run any more."""
    with opened(settings, pipeline) as operator:
        versions = {version.number: version for version in operator.versions()}
    newest = max(versions, default=0)
    number = newest - 1 if to is None else to
    if number not in versions or number == newest:
        known = ", ".join(str(each) for each in sorted(versions)) or "none"
        raise Usage(
            f"there is no older version {number} of {pipeline.label}" if number > 0 else "there is no older version",
            hint=f"cdc mapping history {pipeline.label} shows them: {known}; {newest} is deployed",
        )
    return read(versions[number], pipeline.target), number
