"""`cdc source load`: read a table again while changes go on."""

from __future__ import annotations

from pathlib import Path

from cdc.cli import shown
from cdc.cli.common import Connections, Mappings
from cdc.cli.shown import Execute, Output, Reason
from cdc.control.load import Load, begin_load, plan_load
from cdc.control.run import find_pipelines
from cdc.ops.audit import audited, check_reason
from cdc.settings import DEFAULT_PATH, load


def load_table(
    source: str,
    table: str,
    /,
    *,
    execute: Execute = False,
    reason: Reason = "",
    output: Output = "table",
    mappings: Mappings = Path("mappings"),
    connections: Connections = DEFAULT_PATH,
) -> int:
    """Read a captured table (schema.table) again, in chunks between the changes that go on: repairs a history that was
    lost, fills columns that came later. Nothing newer is overwritten. Only says what it would do unless --execute.

    Rows that are gone at the source stay until `cdc sweep`, which waits until the load is over.
    """
    check_reason(execute, reason)
    settings, pipelines = load(connections), find_pipelines(mappings, [])
    done = plan_load(settings, pipelines, source, table)
    if execute:
        planned = done
        action = lambda: begin_load(settings, pipelines, planned)  # noqa: E731
        done = audited(settings, f"source load {source} {table}", reason, planned, action)
    if output == "json":
        shown.print_json(done.to_dict())
    else:
        _print(done)
    return 0


def _print(done: Load) -> None:
    console = shown.console()
    rows = "" if done.rows is None else f", about {done.rows:,} rows"
    console.print(f"connector {done.source} {'reads' if done.executed else 'would read'} {done.table} again{rows}")
    if not done.executed:
        console.print(f"it is asked through {done.signal_table}; mappings: {', '.join(done.mappings) or 'none'}")
        console.print(shown.NOT_DONE)
    for mapping in done.mappings if done.executed else ():
        pipeline, _, name = mapping.partition("/")
        console.print(f"then, for rows that it does not meet: cdc sweep {pipeline} {name}")
