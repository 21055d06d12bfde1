"""`cdc source`: captured databases and their connectors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Column, Table

from cdc.cli.common import Connections
from cdc.control import sources
from cdc.control.connect import Connect, ConnectorStatus
from cdc.control.findings import Finding, errors
from cdc.control.registration import Registration
from cdc.control.registration import register as run_registration
from cdc.settings import DEFAULT_PATH, load

app = App(name="source", help="Captured databases: check, register and look at them.")

Output = Annotated[Literal["table", "json"], Parameter(name=["--output", "-o"], help="For people or for programs.")]
_STYLES = {"RUNNING": "green", "FAILED": "bold red", "absent": "dim"}


@app.command(name="list")
def list_(*, connections: Connections = DEFAULT_PATH, output: Output = "table") -> None:
    """The sources that connections.yaml names. Asks nobody."""
    settings = load(connections)
    shown = settings.describe()["sources"]
    if output == "json":
        _print_json(shown)
        return
    table = _table("source", "kind", "database", "user", "password", "connector")
    for name, entry in shown.items():
        if entry is None:
            table.add_row(name, "", "its references can't be looked up here")
            continue
        address = f"{entry['host']}:{entry['port']}/{','.join(entry['databases'])}"
        table.add_row(name, entry["kind"], address, entry["user"], entry.get("password", ""), entry["connector"])
    Console().print(table)


@app.command
def status(*names: str, connections: Connections = DEFAULT_PATH, output: Output = "table") -> int:
    """Connector, tasks and distance from the database, of the named sources (all). Exit code 1 unless all is well."""
    settings = load(connections)
    with Connect(settings.connect) as connect:
        found = sources.statuses(settings, connect, names)
    if output == "json":
        _print_json([each.to_dict() for each in found])
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
    with Connect(settings.connect) as connect:
        for name in names or settings.sources:
            found += sources.check(settings, settings.source(name), connect)
    if output == "json":
        _print_json([each.to_dict() for each in found])
    else:
        _print_findings(found)
    return 1 if errors(found) else 0


@app.command
def register(
    name: str,
    /,
    *,
    execute: Annotated[bool, Parameter(help="Do it, rather than only say what would change.")] = False,
    reason: Annotated[str, Parameter(help="Why, for whoever reads the record later.")] = "",
    deadline: Annotated[float, Parameter(help="Seconds that the connector has to run.")] = 60.0,
    connections: Connections = DEFAULT_PATH,
    output: Output = "table",
) -> int:
    """Create the source's connector, or change it to what its JSON says. Only says what it would do unless --execute.

    Refused (exit code 1) while a check finds an error: settings that would lose or change data, a database that can't
    be captured.
    """
    settings = load(connections)
    source = settings.source(name)
    with Connect(settings.connect) as connect:
        planned = sources.plan_registration(settings, source, connect)
        running = None
        if execute and not planned.refused:
            running = run_registration(planned, connect, deadline_s=deadline)
    if output == "json":
        _print_json(_plan_as_data(planned, running, reason))
    else:
        _print_plan(planned, running, execute=execute)
    return 1 if planned.refused else 0


def _plan_as_data(planned: Registration, running: ConnectorStatus | None, reason: str) -> dict[str, Any]:
    return {
        "source": planned.name,
        "exists": planned.before is not None,
        "changes": [change._asdict() for change in planned.changes],
        "findings": [each.to_dict() for each in planned.findings],
        "refused": planned.refused,
        "executed": running is not None,
        "state": running.state if running else None,
        "reason": reason,
    }


def _print_plan(planned: Registration, running: ConnectorStatus | None, *, execute: bool) -> None:
    console = Console(highlight=False, soft_wrap=True)
    _print_findings(planned.findings, quiet=True)
    word = "change" if planned.before is not None else "create"
    console.print(f"{word} connector {planned.name}: {len(planned.changes)} settings", markup=False)
    if planned.before is not None:
        for key, before, after in planned.changes:
            console.print(f"  {key}: {before} -> {after}", markup=False)
    if planned.refused:
        console.print(f"refused: {len(errors(planned.findings))} errors")
    elif running is not None:
        console.print(f"done: {planned.name} is {running.state}")
    elif not execute:
        console.print("nothing was changed; with [bold]--execute[/] it is done")


def _print_statuses(found: list[sources.SourceStatus]) -> None:
    table = _table("source", "database", "connector", "tasks", "behind", "position", "slot keeps")
    for each in found:
        state = f"[{_STYLES.get(each.state, 'yellow')}]{each.state}[/]"
        behind, keeps = _size(each.behind_bytes), _size(each.slot.retained_bytes if each.slot else None)
        table.add_row(each.name, each.address, state, " ".join(each.tasks), behind, each.position, keeps)
    console = Console(highlight=False, soft_wrap=True)
    console.print(table)
    for each in found:
        if each.problem:
            console.print(f"{each.name}: {each.problem}", markup=False)


def _size(size: int | None) -> str:
    """Bytes as people read them; '' when they are not known."""
    if size is None:
        return ""
    return f"{size / 1e6:,.1f} MB" if size >= 100_000 else f"{size:,} B"


def _table(*names: str) -> Table:
    """Columns that break rather than lose text in a narrow window."""
    return Table(*(Column(name, overflow="fold") for name in names), box=SIMPLE_HEAD)


def _print_findings(found: list[Finding] | tuple[Finding, ...], *, quiet: bool = False) -> None:
    console = Console(highlight=False, soft_wrap=True)
    for each in found:
        console.print(str(each), markup=False)
    if not found and not quiet:
        console.print("nothing is wrong")


def _print_json(content: object) -> None:
    Console(soft_wrap=True).print_json(json.dumps(content, default=_plain))


def _plain(value: object) -> str:
    return str(value) if isinstance(value, Path) else repr(value)
