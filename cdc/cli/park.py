"""`cdc park`: set one record aside on purpose, before it is applied."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from cdc.cli import shown
from cdc.cli.common import Connections, Mappings
from cdc.cli.shown import Execute, Output, Reason
from cdc.control.park import ParkPlan, perform, read_place, reader_of, rehearse
from cdc.control.run import find_pipelines
from cdc.ops.audit import audited, check_reason
from cdc.settings import DEFAULT_PATH, load


def park(
    record: Annotated[str, Parameter(name="TOPIC:PARTITION:OFFSET")],
    /,
    *,
    pipeline: Annotated[str | None, Parameter(help="NAME or NAME:TARGET, where several read the topic.")] = None,
    cancel: Annotated[bool, Parameter(help="Take it back, while the record has not come.", negative="")] = False,
    execute: Execute = False,
    reason: Reason = "",
    output: Output = "table",
    mappings: Mappings = Path("mappings"),
    connections: Connections = DEFAULT_PATH,
) -> int:
    """Set one record aside before it is applied: one that no worker gets past, or that would do harm.

    It may be in the topic or come later; workers may run or not. Only says what would happen unless --execute. From the
    record on, its key waits in every mapping of the topic, as behind any parked record (reason on_request), until `cdc
    parked retry ID` applies it or `cdc parked discard ID` gives it up. Exit code 1: refused, as it has been applied or
    is gone from the topic.
    """
    check_reason(execute, reason)
    place = read_place(record)
    settings = load(connections)
    found = reader_of(place.topic, find_pipelines(mappings, [pipeline] if pipeline else []))
    plan = rehearse(settings, found, place, "cancel" if cancel else "park")
    if execute and not plan.refused:
        command = f"park {place}" + (" --cancel" if cancel else "")
        plan = audited(settings, command, reason, plan, lambda: perform(settings, found, plan, reason))
    if output == "json":
        shown.print_json(plan.to_dict())
    else:
        _print(plan)
    return 1 if plan.refused else 0


def _print(plan: ParkPlan) -> None:
    console = shown.console()
    console.print(f"record     {plan.place}")
    console.print(f"pipeline   {plan.pipeline}")
    console.print(f"mappings   {', '.join(plan.mappings)}")
    if plan.refused:
        console.print(f"refused    {plan.refused}")
        return
    console.print(f"stands     {_stands(plan)}")
    if plan.action == "cancel":
        console.print(
            "the request is taken back: the record is applied when it comes" if plan.executed else shown.NOT_DONE
        )
    elif plan.executed:
        console.print("it is set aside when it comes: cdc parked list; until then --cancel takes it back")
    else:
        console.print("asked for already; --cancel takes it back" if plan.asked else shown.NOT_DONE)


def _stands(plan: ParkPlan) -> str:
    if plan.ahead:
        return f"not in the topic yet: {plan.ahead:,} more records have to come"
    if plan.before is None:
        return "in the topic; nothing of its partition has been applied yet"
    return f"{plan.before:,} records are applied before it" if plan.before else "the next one of its partition"
