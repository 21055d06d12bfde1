"""cdc sweep: remove what a repeated snapshot shows to be gone at the source."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from cdc.cli import shown
from cdc.cli.common import Connections, Mappings
from cdc.cli.shown import Execute, Output, Reason
from cdc.control.run import one_pipeline
from cdc.control.sweep import Sweep
from cdc.control.sweep import sweep as run_sweep
from cdc.ops.audit import audited, check_reason
from cdc.settings import DEFAULT_PATH, load


def sweep(
    pipeline: str,
    table: Annotated[str, Parameter(help="The target table (or the source table): hub.customers.")],
    /,
    *,
    execute: Execute = False,
    reason: Reason = "",
    deadline: Annotated[float, Parameter(help="Seconds to wait for connector and pipeline to pass the snapshot.")] = 30,
    output: Output = "table",
    mappings: Mappings = Path("mappings"),
    connections: Connections = DEFAULT_PATH,
) -> int:
    """Remove the rows that a repeated snapshot did not meet: they were deleted at the source while it was not captured.

    Rows whose key is parked stay. Only says what would go unless --execute.
    """
    check_reason(execute, reason)
    settings, found = load(connections), one_pipeline(mappings, pipeline)
    done = run_sweep(settings, found, table, execute=False, deadline_s=deadline)
    if execute and done.snapshots:
        rehearsed = done

        def action() -> Sweep:
            return run_sweep(settings, found, table, execute=True, deadline_s=deadline)

        done = audited(settings, f"sweep {pipeline} {table}", reason, rehearsed, action)
    if output == "json":
        shown.print_json(done.to_dict())
    else:
        _print(done)
    return 0


def _print(done: Sweep) -> None:
    console = shown.console()
    if not done.snapshots:
        console.print(f"{done.mapping}: no repeated snapshot is open, there is nothing to sweep")
        return
    console.print(f"{done.mapping}: {done.topic} was read again, found or asked for at {', '.join(done.snapshots)}")
    console.print(f"{done.rows:,} rows {'are gone' if done.executed else 'would go'}")
    for key in done.examples:
        console.print(f"  key {key}")
    if done.kept_keys:
        console.print(f"{done.kept_keys:,} parked keys stay")
    if not done.executed:
        console.print(shown.NOT_DONE)
