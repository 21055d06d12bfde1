"""cdc audit: what was changed by commands, when, by whom and why."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from cdc.cli import shown
from cdc.cli.common import Connections
from cdc.cli.shown import Output
from cdc.ops.audit import records, to_dicts
from cdc.settings import DEFAULT_PATH, load


def audit(
    *,
    command: Annotated[str, Parameter(help="Only commands that begin with this: 'rewind', 'sweep crm'.")] = "",
    limit: Annotated[int, Parameter(name=["--limit", "-n"], help="How many of the newest.")] = 20,
    output: Output = "table",
    connections: Connections = DEFAULT_PATH,
) -> None:
    """What commands changed, newest first. With -o json: also what was there before and after."""
    found = records(load(connections), limit, command)
    if output == "json":
        shown.print_json(to_dicts(found))
        return
    table = shown.table("id", "at (UTC)", "who", "command", "reason", "outcome", right=("id",))
    for each in found:
        outcome = f"{each.outcome}: {each.error}" if each.error else each.outcome
        table.add_row(str(each.id), f"{each.at:%m-%d %H:%M:%S}", each.who, each.command, each.reason, outcome)
    shown.console().print(table)
