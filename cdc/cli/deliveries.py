"""`cdc deliveries`: what was sent to REST targets, and what they answered."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter
from cyclopts.validators import Number

from cdc.cli import shown
from cdc.cli.common import Connections, Mappings, Target
from cdc.cli.shown import Output
from cdc.control import deliveries
from cdc.control.deliveries import Delivered, Wanted
from cdc.control.run import find_pipelines
from cdc.settings import DEFAULT_PATH, load
from cdc.target.delivery import State

app = App(name="deliveries", help="Deliveries to REST targets: sent, acknowledged, refused. Row values are not shown.")

_MAPPINGS = Path("mappings")


@app.command(name="list")
def list_(
    *pipelines: Annotated[str, Parameter(help="Only these; default: all of the mappings folder.")],
    target: Target = None,
    state: Annotated[State | None, Parameter(help="Only those in this state.")] = None,
    key: Annotated[str | None, Parameter(help="Only of the row with this key hash (or its beginning).")] = None,
    since: Annotated[float | None, Parameter(help="Only those of the last so many seconds.")] = None,
    limit: Annotated[int, Parameter(help="At most so many.", validator=Number(gte=1))] = 50,
    output: Output = "table",
    mappings: Mappings = _MAPPINGS,
    connections: Connections = DEFAULT_PATH,
) -> None:
    """The newest deliveries first."""
    found = deliveries.deliveries(
        load(connections), find_pipelines(mappings, pipelines, target), Wanted(state, key, since, limit)
    )
    if output == "json":
        shown.print_json([_masked(each, answer=False) for each in found])
        return
    if not found:
        shown.console().print("no deliveries")
        return
    columns = ("sent (UTC)", "state", "status", "attempts", "operation", "row")
    entries = []
    for each in found:
        one = each.recorded
        status = "" if one.status is None else str(one.status)
        cells = (
            f"{one.sent_at:%m-%d %H:%M:%S}",
            one.state,
            status,
            str(one.attempts),
            one.operation,
            one.key_hash[:12],
        )
        entries.append((cells, (f"{one.idempotency_key}  {each.target} {one.mapping}",)))
    shown.print_entries(columns, entries, right=("status", "attempts"))


@app.command
def show(
    idempotency_key: Annotated[str, Parameter(name="KEY")],
    /,
    *,
    answer: Annotated[
        bool, Parameter(help="Show what the target answered: it may hold row values.", negative="")
    ] = False,
    output: Output = "table",
    mappings: Mappings = _MAPPINGS,
    connections: Connections = DEFAULT_PATH,
) -> None:
    """One delivery, by its idempotency key."""
    found = deliveries.delivery(load(connections), find_pipelines(mappings, []), idempotency_key)
    if output == "json":
        shown.print_json(_masked(found, answer))
        return
    for name, value in _masked(found, answer).items():
        if value not in ("", None):
            shown.console().print(f"{name.replace('_', ' '):18}{value}")


def _masked(found: Delivered, answer: bool) -> dict[str, Any]:
    told: dict[str, Any] = found.to_dict()
    if not answer and told["excerpt"]:
        told["excerpt"] = f"({len(told['excerpt'])} characters, hidden: --answer shows them)"
    return told
