"""`cdc conflicts`: what was decided when a change and a row did not agree, and what other rules would decide."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter, validators

from cdc.cli import shown
from cdc.cli.common import Connections, Mappings
from cdc.cli.shown import Execute, Output, Reason
from cdc.control import conflicts
from cdc.control.conflicts import Asked, Detail, KnownConflict
from cdc.control.reapply import Reapplication
from cdc.control.reapply import reapply as run_reapply
from cdc.control.rewind_request import read_time
from cdc.control.run import find_pipelines, one_pipeline, pipeline_placeholder
from cdc.control.simulate import Simulated
from cdc.control.simulate import simulate as run_simulation
from cdc.errors import Usage
from cdc.mapping.load import load as load_pipeline
from cdc.model import ConflictType
from cdc.ops.audit import audited, check_reason
from cdc.settings import DEFAULT_PATH, load

app = App(name="conflicts", help="Conflicts that rules decided: how many, between which values, and what if.")

Only = Annotated[
    tuple[str, ...], Parameter(name=["--pipeline"], help="Only this pipeline's; may be repeated. Default: all.")
]
_MAPPINGS = Path("mappings")


@app.command(name="list")
def list_(
    *,
    by: Annotated[
        Literal["type", "table", "rule"] | None, Parameter(help="How many there were, by this; also those not kept.")
    ] = None,
    table: Annotated[str | None, Parameter(help="Only of this target table: schema.table.")] = None,
    type_: Annotated[ConflictType | None, Parameter(name="--type", help="Only of this type.")] = None,
    since: Annotated[
        str | None, Parameter(help="Only since then (counts: since that hour); ISO 8601, without a zone UTC.")
    ] = None,
    limit: Annotated[
        int, Parameter(help="At most so many of a pipeline, the newest.", validator=validators.Number(gte=1))
    ] = 100,
    pipeline: Only = (),
    output: Output = "table",
    mappings: Mappings = _MAPPINGS,
    connections: Connections = DEFAULT_PATH,
) -> None:
    """The conflicts that are kept: of every batch the first 20 of each table and type; stale changes are only counted.

    They are kept as long as the pipeline file's `decisions: keep_days` says.
    """
    settings, pipelines = load(connections), find_pipelines(mappings, pipeline)
    at = None if since is None else read_time(since, "--since")
    asked = Asked(table, None if type_ is None else type_.value, at, limit)
    if by is not None:
        groups = conflicts.counted(settings, pipelines, asked, by)
        if output == "json":
            shown.print_json([{"pipeline": name, by: what, "number": number} for name, what, number in groups])
        else:
            _print_groups(groups, by)
        return
    found = conflicts.conflicts(settings, pipelines, asked)
    if output == "json":
        shown.print_json([each.to_dict() for each in found])
    else:
        _print_conflicts(found)


@app.command
def show(
    conflict_id: Annotated[int, Parameter(name="ID")],
    /,
    *,
    values: Annotated[bool, Parameter(help="Show the key and the values of the row.", negative="")] = False,
    pipeline: Only = (),
    output: Output = "table",
    mappings: Mappings = _MAPPINGS,
    connections: Connections = DEFAULT_PATH,
) -> None:
    """One conflict: the record, the rule's word, and the row before, the change, the row afterwards."""
    found = conflicts.detail(load(connections), find_pipelines(mappings, pipeline), conflict_id, values=values)
    if output == "json":
        shown.print_json(found.to_dict())
    else:
        _print_detail(found, values)


@app.command
def simulate(
    *,
    rules: Annotated[Path, Parameter(help="The pipeline file with the rules to try.")],
    since: Annotated[
        str, Parameter(help="From the records that Kafka Connect wrote then or later; ISO 8601, without a zone UTC.")
    ],
    values: Annotated[bool, Parameter(help="Show the values of rows that would differ.", negative="")] = False,
    most: Annotated[int, Parameter(help="Read at most so many records; they are held in memory.")] = 100_000,
    pipeline: Annotated[str | None, Parameter(help="NAME:TARGET, of a pipeline with several targets.")] = None,
    output: Output = "table",
    mappings: Mappings = _MAPPINGS,
    connections: Connections = DEFAULT_PATH,
) -> None:
    """What would a changed pipeline file decide about the changes that came since then? Nothing is written.

    The recorded changes are played through the file as it is and the new one, both on tables in memory.
    """
    settings, changed = load(connections), load_pipeline(rules)
    old = one_pipeline(mappings, pipeline or changed.name)
    if old.target not in changed.targets:
        raise Usage(f"the new file does not write to {old.target}", where=str(rules))
    placeholder = pipeline_placeholder(settings, old)
    at = read_time(since, "--since")
    found = run_simulation(settings, old, changed.part(old.target), placeholder, at, most=most, values=values)
    if output == "json":
        shown.print_json(found.to_dict())
    else:
        _print_simulated(found)


def _print_simulated(found: Simulated) -> None:
    console = shown.console()
    more = ", and there are more (--most)" if found.cut else ""
    console.print(f"{found.records:,} records of {found.pipeline} since {found.since}{more}; nothing was written")
    for note in found.notes:
        console.print(note)
    table = shown.table("table", "decided", "old", "new", right=("old", "new"))
    for mapping, word, old, new in found.words:
        table.add_row(mapping, word, f"{old:,}", f"{new:,}")
    console.print(table)
    for each in found.differences:
        console.print(f"{each.number:,} of {each.table}: {each.old} → {each.new}")
        for example in each.examples:
            console.print(f"    {example.where}  {example.key}  {', '.join(example.columns)}".rstrip())
    for rows in found.rows:
        console.print(f"{rows.number:,} rows of {rows.table} would end otherwise")
        for row in rows.examples:
            console.print(f"    {row.key}  {', '.join(row.columns)}")
            for column in row.columns if row.old is not None or row.new is not None else ():
                console.print(f"        {column}: {_cell(row.old, column)} → {_cell(row.new, column)}")
    if not found.differences and not found.rows:
        kept = "what others wrote to the target is not recorded, so conflicts with that are not replayed"
        same = f"the new rules decide all of these changes alike; {kept}"
        console.print(
            same if any(old or new for _, _, old, new in found.words) else "there are no changes in that time"
        )


def _print_groups(groups: list[tuple[str, str, int]], by: str) -> None:
    table = shown.table("pipeline", by, "number", right=("number",))
    for pipeline, what, number in groups:
        table.add_row(pipeline, what, f"{number:,}")
    shown.console().print(table if groups else "no conflicts were met")


def _print_conflicts(found: list[KnownConflict]) -> None:
    if not found:
        shown.console().print("no conflicts are kept")
        return
    entries = [
        (
            (str(each.id), each.at[5:19], f"{each.type}:{each.action}"),
            tuple(filter(None, (f"{each.mapping}  {each.where}", ", ".join(each.columns)))),
        )
        for each in found
    ]
    shown.print_entries(("id", "at (UTC)", "rule"), entries, right=("id",))


@app.command
def reapply(
    *tables: Annotated[str, Parameter(help="Only these target tables: schema.table.")],
    execute: Execute = False,
    reason: Reason = "",
    pipeline: Only = (),
    output: Output = "table",
    mappings: Mappings = _MAPPINGS,
    connections: Connections = DEFAULT_PATH,
) -> int:
    """After a change of rules: work out anew all rows that several sources make, from what is kept of them.

    A row follows the new rules by itself when one of its sources speaks again; this does it for all, while workers run.
    Without --execute every row is worked out, written and taken back: only says how many there are.
    """
    check_reason(execute, reason)
    settings, pipelines = load(connections), find_pipelines(mappings, pipeline)
    done = run_reapply(settings, pipelines, tables, execute=False)
    if execute and done.rows:
        rehearsed = done

        def action() -> Reapplication:
            return run_reapply(settings, pipelines, tables, execute=True)

        done = audited(settings, f"conflicts reapply {' '.join(tables)}".strip(), reason, rehearsed, action)
    if output == "json":
        shown.print_json(done.to_dict())
        return 0
    table = shown.table(
        "pipeline", "table", "rows kept", "made by other rules", right=("rows kept", "made by other rules")
    )
    for each in done.tables:
        table.add_row(each.pipeline, each.table, f"{each.looked:,}", f"{each.rows:,}")
    shown.console().print(table)
    shown.console().print(f"{done.rows:,} rows were worked out anew" if done.executed else shown.NOT_DONE)
    return 0


def _print_detail(found: Detail, values: bool) -> None:
    console, conflict = shown.console(), found.conflict
    lines = {
        "mapping": conflict.mapping,
        "record": conflict.where,
        "position": conflict.position,
        "decided": conflict.at,
        "conflict": conflict.type,
        "rule": conflict.action,
        "differing": ", ".join(conflict.columns),
        "target key": found.key if values else "(hidden)",
    }
    for name, text in lines.items():
        if text:
            console.print(f"{name:16}{text}")
    if not values:
        console.print("--values shows the key and the values: they are the row's")
        return
    sides = {"before": found.before, "incoming": found.incoming, "resulting": found.resulting}
    table = shown.table("column", *sides)
    for column in dict.fromkeys(name for side in sides.values() for name in side or ()):
        table.add_row(column, *(_cell(side, column) for side in sides.values()))
    console.print(table)


def _cell(side: dict[str, str | None] | None, column: str) -> str:
    if side is None or column not in side:
        return "-"
    value = side[column]
    return "NULL" if value is None else value
