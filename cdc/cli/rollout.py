"""`cdc mapping plan`, `apply`, `rollback` and `history`: a changed mapping, step by step into a running pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
from cyclopts import App, Parameter
from cyclopts.validators import Number

from cdc.author.apply import apply as apply_plan
from cdc.author.apply import older
from cdc.author.deployment import history as read_history
from cdc.author.deployment import version_of
from cdc.author.plan import RolloutPlan, load_plan, make, save
from cdc.author.preview import Preview
from cdc.author.preview import preview as run_preview
from cdc.cli import shown
from cdc.cli.common import Connections, Mappings, Target
from cdc.cli.shown import Execute, Output, Reason
from cdc.control.park import read_place
from cdc.control.run import one_pipeline
from cdc.errors import Usage
from cdc.mapping.load import load as load_mapping
from cdc.mapping.model import Pipeline
from cdc.ops.audit import audited, check_reason
from cdc.settings import DEFAULT_PATH, Settings, load

Name = Annotated[str, Parameter(help="The pipeline; NAME:TARGET of one with several targets.")]


def plan(
    pipeline: Name,
    /,
    *,
    out: Annotated[Path | None, Parameter(help="Also write the plan to this file, for `apply --plan`.")] = None,
    output: Output = "table",
    mappings: Mappings = Path("mappings"),
    connections: Connections = DEFAULT_PATH,
) -> int:
    """What the file would change against what is deployed: in the mappings, in the target's tables, for the rows there.

    breaking: readers of the target, or its owner, must know. re-load: rows that are there are right only when they were
    loaded again. forward-only: new changes get it, the rest is right as it is. Exit code 0: nothing to do; 1: there are
    changes, or it would be refused.
    """
    made = make(load(connections), one_pipeline(mappings, pipeline)).plan
    if out is not None:
        save(made, out)
    _show(made, output)
    return 1 if made.needed or made.refused else 0


def apply(
    pipeline: Name,
    /,
    *,
    plan: Annotated[Path | None, Parameter(help="Exactly the plan in this file (`plan --out`).")] = None,
    execute: Execute = False,
    reason: Reason = "",
    output: Output = "table",
    mappings: Mappings = Path("mappings"),
    connections: Connections = DEFAULT_PATH,
) -> int:
    """Deploy the file as the next version; only says what it would do unless --execute. Workers need not be stopped:
    each partition goes on by it from its watermark on.

    Exit code 1: refused, because the deployed version, the file or the target's tables are not what the plan was made
    for, or because the target would not take it.
    """
    check_reason(execute, reason)
    settings, found = load(connections), one_pipeline(mappings, pipeline)
    wanted = make(settings, found).plan if plan is None else load_plan(plan)
    if wanted.pipeline != found.label:
        raise Usage(f"the plan is of pipeline {wanted.pipeline}, not of {found.label}", where=str(plan))
    return _carry_out(settings, found, wanted, f"mapping apply {pipeline}", execute, reason, output)


def deploy_all(settings: Settings, pipelines: Sequence[Pipeline], reason: str) -> bool:
    """For `cdc run --deploy`: whether all of them are deployed as their files say."""
    codes = []
    for each in pipelines:
        wanted = make(settings, each).plan
        if wanted.needed or wanted.refused:
            codes.append(_carry_out(settings, each, wanted, f"run {each.label} --deploy", True, reason, "table"))
    return not any(codes)


def rollback(
    pipeline: Name,
    /,
    *,
    to: Annotated[int | None, Parameter(help="The version to bring back; default: the one before.")] = None,
    execute: Execute = False,
    reason: Reason = "",
    output: Output = "table",
    mappings: Mappings = Path("mappings"),
    connections: Connections = DEFAULT_PATH,
) -> int:
    """Deploy an older version again, as a new one; only says what it would do unless --execute.

    The file is not touched: `plan` shows what it would change until it says the same."""
    check_reason(execute, reason)
    settings, found = load(connections), one_pipeline(mappings, pipeline)
    former, number = older(settings, found, to)
    wanted = make(settings, former, number).plan
    return _carry_out(settings, former, wanted, f"mapping rollback {pipeline}", execute, reason, output)


def _carry_out(
    settings: Settings,
    pipeline: Pipeline,
    wanted: RolloutPlan,
    command: str,
    execute: bool,
    reason: str,
    output: Output,
) -> int:
    if execute and not wanted.refused and wanted.needed:
        wanted = audited(settings, command, reason, wanted, lambda: apply_plan(settings, pipeline, wanted, reason))
    _show(wanted, output)
    if output == "table" and wanted.needed and not wanted.refused:
        line = f"version {wanted.number} is deployed; workers go on by it" if wanted.executed else shown.NOT_DONE
        shown.console().print(line)
    return 1 if wanted.refused else 0


def history(
    pipeline: Name,
    /,
    *,
    text: Annotated[int | None, Parameter(help="Print the file's text in this version.")] = None,
    at: Annotated[
        str | None, Parameter(help="Only the version that applied the record TOPIC:PARTITION:OFFSET.")
    ] = None,
    output: Output = "table",
    mappings: Mappings = Path("mappings"),
    connections: Connections = DEFAULT_PATH,
) -> int:
    """The versions that were deployed, the newest first: when, by whom, why. The first one is deployed."""
    settings, one = load(connections), one_pipeline(mappings, pipeline)
    found = read_history(settings, one) if at is None else [version_of(settings, one, read_place(at))]
    if text is not None:
        wanted = [version for version in found if version.number == text]
        for version in wanted:
            shown.console().print(version.text, end="")
        return 0 if wanted else 1
    if output == "json":
        shown.print_json([_described(msgspec.structs.asdict(version)) for version in found])
        return 0
    table = shown.table("version", "deployed", "by", "why", right=("version",))
    for version in found:
        at = "" if version.at is None else version.at.isoformat(sep=" ", timespec="seconds")
        restored = "" if version.restores is None else f" (as version {version.restores})"
        table.add_row(str(version.number), at, version.who, f"{version.reason}{restored}")
    shown.console().print(table)
    return 0


def _described(version: dict[str, Any]) -> dict[str, Any]:
    del version["text"]
    return version


def preview(
    file: Annotated[Path, Parameter(help="The changed pipeline file.")],
    /,
    *,
    last: Annotated[int, Parameter(help="Events of each topic.", validator=Number(gte=1))] = 1000,
    table: Annotated[tuple[str, ...], Parameter(help="Only this target table; may be repeated.")] = (),
    target: Target = None,
    output: Output = "table",
    connections: Connections = DEFAULT_PATH,
) -> int:
    """What a changed file would make of the last real events, beside what the deployed version makes of them and beside
    the target's rows now. Nothing is written. Exit code 1: some row would be another one, or be parked."""
    whole = load_mapping(file)
    if target is None and len(whole.targets) > 1:
        raise Usage("the pipeline has several targets", where=str(file), hint=f"--target {' or '.join(whole.targets)}")
    found = run_preview(load(connections), whole.part(target or whole.targets[0]), last, table)
    if output == "json":
        shown.print_json(found.to_dict())
    else:
        _print_preview(found)
    return 1 if any(set(diff.rows) - {"same"} for diff in found.running or found.target) else 0


def _print_preview(found: Preview) -> None:
    console = shown.console()
    console.print(
        f"{found.pipeline}: {sum(found.records.values()):,} events of {len(found.records)} topics; nothing is written"
    )
    sides = (
        (f"beside version {found.version}, which is deployed", found.running),
        ("beside the rows there now", found.target),
    )
    kinds = ("same", "different", "new", "gone", "parked")
    for title, diffs in sides:
        if not diffs:
            continue
        table = shown.table(title, *kinds, "columns that differ", right=kinds)
        for diff in diffs:
            numbers = [f"{diff.rows.get(kind, 0):,}" for kind in kinds]
            table.add_row(diff.table, *numbers, shown.counts(diff.columns))
        console.print(table)
        for diff in diffs:
            for each in diff.examples:
                said = "; ".join(f"{name}: {was} -> {now}" for name, (was, now) in each.columns.items())
                console.print(f"  {diff.table} {each.key} {each.kind}  {said or each.reason}".rstrip())
    if found.unreadable:
        console.print(f"{found.unreadable:,} records are no change events")
    for note in found.notes:
        console.print(f"note: {note}")


def _show(made: RolloutPlan, output: Output) -> None:
    if output == "json":
        shown.print_json(made.to_dict())
        return
    console = shown.console()
    version = made.made_for.version
    against = f"version {version} is deployed" if version else "nothing was deployed yet"
    back = "" if made.restores is None else f", as version {made.restores} had it"
    console.print(f"{made.pipeline}: {against}; this would be version {made.number}{back} ({made.file})")
    for change in made.changes:
        place = ".".join(filter(None, (change.table, change.column))) or "pipeline"
        what = "" if change.what in ("table", "column") else f" {change.what}"
        said = " -> ".join(filter(None, (change.before, change.after)))
        console.print(f"  {change.sign} {place}{what}{': ' if said else ''}{said}")
        if change.effects or change.note:
            told = ": ".join(filter(None, (", ".join(change.effects), change.note)))
            console.print(f"      {told}")
    for title, statements in (("the target would run", made.statements), ("the owner has to run", made.by_owner)):
        if statements:
            console.print(f"{title}:")
        for each in statements:
            console.print(f"  {each.sql};")
    for reload in made.reloads:
        rows = "rows not counted" if reload.rows is None else f"{reload.rows:,} rows"
        time = "how long is not known" if reload.seconds is None else f"about {_time(reload.seconds)}"
        console.print(f"re-load {reload.table}: {rows}, {time}: {reload.command} --execute --reason …")
    for note in made.notes:
        console.print(f"note: {note}")
    for why in made.refused:
        console.print(f"refused: {why}", style="red")
    if not made.needed:
        console.print("nothing to do: the file says what is deployed")


def _time(seconds: float) -> str:
    return f"{seconds:,.0f} s" if seconds < 120 else f"{seconds / 60:,.0f} min"


def register(app: App) -> None:
    """These commands, beside the others of `cdc mapping`."""
    for command in (preview, plan, apply, rollback, history):
        app.command(command)
