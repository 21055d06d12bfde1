"""`cdc parked`: records that could not be applied and were set aside."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from cdc.cli import shown
from cdc.cli.common import Connections, Mappings
from cdc.cli.shown import Execute, Output, Reason
from cdc.control import parked
from cdc.control.parked import By, Chosen, Detail, Outcome, ParkedRecord, Requested
from cdc.control.run import find_pipelines
from cdc.errors import Usage
from cdc.mapping.model import Pipeline
from cdc.ops.audit import audited, check_reason
from cdc.settings import DEFAULT_PATH, Settings, load

app = App(name="parked", help="Records that were set aside: look at them, retry or discard them.")

Only = Annotated[
    tuple[str, ...], Parameter(name=["--pipeline"], help="Only this pipeline's; may be repeated. Default: all.")
]
Deadline = Annotated[float, Parameter(help="Seconds to watch what becomes of them.")]
_MAPPINGS = Path("mappings")


@app.command(name="list")
def list_(
    *,
    pipeline: Only = (),
    by: Annotated[By | None, Parameter(help="Only how many, by this.")] = None,
    output: Output = "table",
    mappings: Mappings = _MAPPINGS,
    connections: Connections = DEFAULT_PATH,
) -> None:
    """All parked records, in the order they were parked. Those that are 'held' wait behind another of their key.

    What `cdc park` asked for and has not come yet is listed after them.
    """
    settings, pipelines = load(connections), find_pipelines(mappings, pipeline)
    found = parked.parked_records(settings, pipelines)
    if by is not None:
        _print_groups(parked.grouped(found, by), by, output)
        return
    coming = parked.requested(settings, pipelines)
    if output == "json":
        records = [each.to_dict() | {"state": "parked"} for each in found]
        shown.print_json(records + [each.to_dict() | {"id": None, "state": "requested"} for each in coming])
        return
    if found or not coming:
        _print_records(found)
    if coming:
        _print_requested(coming)


@app.command
def show(
    parked_id: Annotated[int, Parameter(name="ID")],
    /,
    *,
    values: Annotated[
        bool, Parameter(help="Show the record's key and value: they hold row values.", negative="")
    ] = False,
    pipeline: Only = (),
    output: Output = "table",
    mappings: Mappings = _MAPPINGS,
    connections: Connections = DEFAULT_PATH,
) -> None:
    """One parked record: where it stands, why it is parked, what waits behind it."""
    found = parked.detail(load(connections), find_pipelines(mappings, pipeline), parked_id, values=values)
    if output == "json":
        shown.print_json(found.to_dict())
    else:
        _print_detail(found, values)


@app.command
def retry(
    *ids: int,
    where: Annotated[str, Parameter(help="Instead of ids: reason=…,mapping=… (one of them or both).")] = "",
    execute: Execute = False,
    reason: Reason = "",
    deadline: Deadline = 30.0,
    pipeline: Only = (),
    output: Output = "table",
    mappings: Mappings = _MAPPINGS,
    connections: Connections = DEFAULT_PATH,
) -> int:
    """Apply records again, with all that waits behind them, through the mapping as it is now. Needs a running worker.

    Only says which unless --execute. Exit code 1: some are parked still, or no worker has begun.
    """
    settings, pipelines = load(connections), find_pipelines(mappings, pipeline)
    conditions = parked.read_where(where)

    def action(chosen: Chosen) -> Outcome:
        return parked.retry(settings, pipelines, chosen, deadline)

    return _act("retry", settings, pipelines, ids, conditions, execute, reason, output, action)


@app.command
def discard(
    *ids: int,
    execute: Execute = False,
    reason: Reason = "",
    deadline: Deadline = 30.0,
    pipeline: Only = (),
    output: Output = "table",
    mappings: Mappings = _MAPPINGS,
    connections: Connections = DEFAULT_PATH,
) -> int:
    """Give records up: they are removed and counted as skipped (discarded). What waits behind them is applied then.

    Only says which unless --execute. The target will lack these changes.
    """
    if not ids:
        raise Usage("which records?", hint="cdc parked list shows the ids; cdc parked discard ID … --reason …")
    settings, pipelines = load(connections), find_pipelines(mappings, pipeline)

    def action(chosen: Chosen) -> Outcome:
        return parked.discard(settings, pipelines, chosen, deadline)

    return _act("discard", settings, pipelines, ids, {}, execute, reason, output, action)


def _act(
    word: Literal["retry", "discard"],
    settings: Settings,
    pipelines: list[Pipeline],
    ids: tuple[int, ...],
    where: dict[str, str],
    execute: bool,
    reason: str,
    output: str,
    action: Callable[[Chosen], Outcome],
) -> int:
    check_reason(execute, reason)
    chosen = Chosen(word, tuple(parked.choose(parked.parked_records(settings, pipelines), ids, where)))
    if not execute or not chosen.records:
        _print_chosen(chosen, output)
        return 0
    done = audited(settings, f"parked {word}", reason, chosen, lambda: action(chosen))
    if output == "json":
        shown.print_json(done.to_dict())
    else:
        _print_outcome(done)
    return 0 if done.done else 1


def _print_chosen(chosen: Chosen, output: str) -> None:
    if output == "json":
        shown.print_json(chosen.to_dict() | {"executed": False})
        return
    _print_records(list(chosen.records))
    console = shown.console()
    if chosen.records:
        console.print(f"{len(chosen.records):,} records: {chosen.action}")
        console.print(shown.NOT_DONE)


def _print_outcome(done: Outcome) -> None:
    console = shown.console()
    for each in done.records:
        console.print(f"{each.pipeline} {each.id}: {each.state}" + (f" ({each.reason})" if each.reason else ""))
    console.print(shown.counts(done.numbers))
    if "waiting" in done.numbers:
        console.print("no worker has begun: cdc run does it when it starts")


def _print_records(found: list[ParkedRecord]) -> None:
    if not found:
        shown.console().print("nothing is parked")
        return
    columns = ("id", "since (UTC)", "reason", "behind", "mapping")
    entries = []
    for each in found:
        behind = f"{len(each.behind):,}" if each.behind else ""
        cells = (str(each.id), each.parked_at[5:19].replace("T", " "), each.reason, behind, each.mapping)
        entries.append((cells, (each.where, each.error)))
    shown.print_entries(columns, entries, right=("id", "behind"))


def _print_requested(found: list[Requested]) -> None:
    shown.console().print("\nto be set aside when they come (cdc park):")
    entries = []
    for each in found:
        cells = (each.requested_at[5:19].replace("T", " "), each.pipeline)
        passed = "the watermark was moved past it: it comes no more (cdc park … --cancel)" if each.passed else ""
        entries.append((cells, (each.where, f"{each.who}: {each.reason}", passed)))
    shown.print_entries(("since (UTC)", "pipeline"), entries)


def _print_groups(groups: list[tuple[str, str, int]], by: str, output: str) -> None:
    if output == "json":
        shown.print_json([{"pipeline": pipeline, by: name, "number": number} for pipeline, name, number in groups])
        return
    table = shown.table("pipeline", by, "number", right=("number",))
    for pipeline, name, number in groups:
        table.add_row(pipeline, name, f"{number:,}")
    shown.console().print(table)


def _print_detail(found: Detail, values: bool) -> None:
    console, record = shown.console(), found.record
    lines = {
        "mapping": record.mapping,
        "record": record.where,
        "reason": record.reason,
        "error": record.error,
        "parked": record.parked_at,
        "waits behind it": ", ".join(map(str, record.behind)) or ("nothing" if record.head else "(it waits itself)"),
        "headers": ", ".join(found.headers),
        "target key": found.target_key if values else "(hidden)",
        "key": found.key if values else f"({found.key_bytes:,} bytes, hidden)",
        "masked" if found.masked and values else "value": (
            found.value if values else f"({found.value_bytes:,} bytes, hidden)"
        ),
    }
    for name, text in lines.items():
        if text:
            console.print(f"{name:16}{text}")
    if not values:
        console.print("--values shows what is hidden: it holds row values")
