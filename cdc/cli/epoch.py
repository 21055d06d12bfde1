"""`cdc epoch`: which incarnation of a source the stored positions are of, and beginning the next one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from cdc.cli import shown
from cdc.cli.common import Connections, Mappings
from cdc.cli.shown import Execute, Output, Reason
from cdc.control import epoch
from cdc.control.run import find_pipelines
from cdc.ops.audit import audited, check_reason
from cdc.settings import DEFAULT_PATH, load

app = App(name="epoch", help="Incarnations of sources, as pipelines know them.")


@app.command
def show(
    *pipelines: Annotated[str, Parameter(help="Only these; default: all of the mappings folder.")],
    output: Output = "table",
    mappings: Mappings = Path("mappings"),
    connections: Connections = DEFAULT_PATH,
) -> int:
    """Stored and present identity of every source. Exit code 1: they differ, or a source could not be asked."""
    found = epoch.epochs(load(connections), find_pipelines(mappings, pipelines))
    if output == "json":
        shown.print_json([each.to_dict() for each in found])
    else:
        table = shown.table("pipeline", "source", "epoch", "stored", "now", "problem", right=("epoch",))
        for each in found:
            table.add_row(each.pipeline, each.source, str(each.number), each.stored, each.now, each.problem)
        shown.console().print(table)
    return 1 if any(each.problem for each in found) else 0


@app.command
def new(
    source: str,
    /,
    *,
    execute: Execute = False,
    reason: Reason = "",
    output: Output = "table",
    mappings: Mappings = Path("mappings"),
    connections: Connections = DEFAULT_PATH,
) -> int:
    """Begin a source's next epoch in all pipelines that read it: what comes from now on is newer than all there is.

    For a source that was restored or re-created, after which a pipeline stopped. Only says what it would do unless
    --execute.
    """
    check_reason(execute, reason)
    settings, pipelines = load(connections), find_pipelines(mappings, [])
    done = epoch.plan(settings, pipelines, source)
    if execute and done.numbers:
        done = audited(
            settings, f"source new-epoch {source}", reason, done, lambda: epoch.begin(settings, pipelines, source)
        )
    if output == "json":
        shown.print_json(done.to_dict())
    else:
        _print(done)
    return 0


def _print(done: epoch.NewEpoch) -> None:
    console = shown.console()
    console.print(f"source {done.source} is now {done.identity}")
    for doubt in done.doubts:
        console.print(f"are you sure? {doubt}", style="yellow")
    for pipeline, number in done.numbers.items():
        console.print(f"pipeline {pipeline}: epoch {number} {'began' if done.executed else 'would begin'}")
    if not done.numbers:
        console.print("no pipeline that reads it has run yet: there is nothing to begin")
    elif done.executed:
        console.print("rows deleted before the restore may still be in the target: load the tables again, then compare")
    else:
        console.print(shown.NOT_DONE)
