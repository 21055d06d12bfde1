"""`cdc source`: captured databases and their connectors."""

from __future__ import annotations

from typing import Annotated

from cyclopts import App, Parameter
from rich.text import Text

from cdc.cli import shown
from cdc.cli.common import Connections
from cdc.cli.shown import Execute, Output, Reason
from cdc.control import sources
from cdc.control.connect import ANSWERS_WITHIN_S, Connect
from cdc.control.findings import Finding, errors
from cdc.control.registration import SETTLE_S, Registered, Registration
from cdc.control.registration import register as run_registration
from cdc.ops.audit import audited, check_reason
from cdc.settings import DEFAULT_PATH, load

app = App(name="source", help="Captured databases: check, register and look at them.")

_STYLES = {"RUNNING": "green", "FAILED": "bold red", "absent": "dim"}


@app.command(name="list")
def list_(*, connections: Connections = DEFAULT_PATH, output: Output = "table") -> None:
    """The sources that connections.yaml names. Asks nobody."""
    settings = load(connections)
    entries = settings.describe()["sources"]
    if output == "json":
        shown.print_json(entries)
        return
    table = shown.table("source", "kind", "database", "user", "password", "connector")
    for name, entry in entries.items():
        if entry is None:
            table.add_row(name, "", "its references can't be looked up here")
            continue
        address = f"{entry['host']}:{entry['port']}/{','.join(entry['databases'])}"
        table.add_row(name, entry["kind"], address, entry["user"], entry.get("password", ""), entry["connector"])
    shown.console().print(table)


@app.command
def status(*names: str, connections: Connections = DEFAULT_PATH, output: Output = "table") -> int:
    """Connector, tasks and distance from the database, of the named sources (all). Exit code 1 unless all is well."""
    settings = load(connections)
    with Connect(settings.connect, retry_for_s=ANSWERS_WITHIN_S) as connect:
        found = sources.statuses(settings, connect, names)
    if output == "json":
        shown.print_json([each.to_dict() for each in found])
    else:
        _print_statuses(found)
    return 0 if all(each.well for each in found) else 1


@app.command
def check(*names: str, connections: Connections = DEFAULT_PATH, output: Output = "table") -> int:
    """What is wrong with the connector's JSON, the database, and the connector that runs. Changes nothing.

    Each finding comes with the exact line or statement that mends it. Exit code 1 when there are errors.
    """
    settings = load(connections)
    found: list[Finding] = []
    with Connect(settings.connect, retry_for_s=ANSWERS_WITHIN_S) as connect:
        for name in names or settings.sources:
            found += sources.check(settings, settings.source(name), connect)
    if output == "json":
        shown.print_json([each.to_dict() for each in found])
    else:
        _print_findings(found)
    return 1 if errors(found) else 0


@app.command
def register(
    name: str,
    /,
    *,
    execute: Execute = False,
    reason: Reason = "",
    deadline: Annotated[float, Parameter(help="Seconds that the connector has to run.")] = 60.0,
    connections: Connections = DEFAULT_PATH,
    output: Output = "table",
) -> int:
    """Create the source's connector, or change it to what its JSON says. Only says what it would do unless --execute.

    Refused (exit code 1) while a check finds an error: settings that would lose or change data, a database that can't
    be captured.
    """
    check_reason(execute, reason)
    settings = load(connections)
    source = settings.source(name)
    with Connect(settings.connect, retry_for_s=ANSWERS_WITHIN_S) as connect:
        planned = sources.plan_registration(settings, source, connect)
    done = None
    if execute and not planned.refused:

        def action() -> Registered:
            with Connect(settings.connect) as connect:
                return Registered(name, run_registration(planned, connect, deadline_s=deadline).state)

        done = audited(settings, f"source register {name}", reason, planned, action)
    if output == "json":
        shown.print_json(planned.to_dict() | {"executed": done is not None, "state": done.state if done else None})
    else:
        _print_plan(planned, done, execute=execute)
    return 1 if planned.refused else 0


def _print_plan(planned: Registration, done: Registered | None, *, execute: bool) -> None:
    console = shown.console()
    _print_findings(planned.findings, quiet=True)
    if planned.before is None:
        console.print(f"create connector {planned.name}: {len(planned.changes)} settings")
    elif planned.changes:
        console.print(f"change connector {planned.name}: {len(planned.changes)} settings")
        for key, before, after in planned.changes:
            console.print(f"  {key}: {before} -> {after}")
    else:
        console.print(f"connector {planned.name} is as its file says: nothing to change")
    if planned.refused:
        console.print(f"refused: {len(errors(planned.findings))} errors")
    elif done is not None:
        console.print(f"done: {done.name} is {done.state}, and has been for {SETTLE_S:.0f} s")
    elif not execute and (planned.changes or planned.before is None):
        console.print(shown.NOT_DONE)


def _print_statuses(found: list[sources.SourceStatus]) -> None:
    table = shown.table("source", "database", "connector", "tasks", "behind", "position", "slot keeps")
    for each in found:
        state = Text(each.state, style=_STYLES.get(each.state, "yellow"))
        behind, keeps = _size(each.behind_bytes), _size(each.slot.retained_bytes if each.slot else None)
        table.add_row(each.name, each.address, state, " ".join(each.tasks), behind, each.position, keeps)
    console = shown.console()
    console.print(table)
    for each in found:
        if each.problem:
            console.print(f"{each.name}: {each.problem}")


def _size(size: int | None) -> str:
    """Bytes as people read them; '' when they are not known."""
    if size is None:
        return ""
    return f"{size / 1e6:,.1f} MB" if size >= 100_000 else f"{size:,} B"


def _print_findings(found: list[Finding] | tuple[Finding, ...], *, quiet: bool = False) -> None:
    console = shown.console()
    for each in found:
        console.print(str(each))
    if not found and not quiet:
        console.print("nothing is wrong")
