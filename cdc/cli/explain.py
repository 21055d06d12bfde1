"""`cdc explain`: why a row of several sources is what it is."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from cdc.cli import shown
from cdc.cli.common import Connections, Mappings
from cdc.cli.shown import Output
from cdc.control.explain import ColumnOrigin, Explanation, has_sources
from cdc.control.explain import explain as explained
from cdc.control.explain_row import RowExplanation, explain_row
from cdc.control.run import find_pipelines
from cdc.settings import DEFAULT_PATH, load


def explain(
    table: Annotated[str, Parameter(help="The target table: schema.table.")],
    key: Annotated[str, Parameter(help="The row's key; several values are separated by commas.")],
    /,
    *,
    pipeline: Annotated[tuple[str, ...], Parameter(help="Only this pipeline; may be repeated. Default: all.")] = (),
    output: Output = "table",
    mappings: Mappings = Path("mappings"),
    connections: Connections = DEFAULT_PATH,
) -> None:
    """Why is this value here? Which source each column came from, by which rule, and what the other sources say.

    Where one source row makes the row: which, its position, the conflicts that were decided about it, and whether it is
    parked. Where several sources make the row it shows row values.
    """
    settings, pipelines = load(connections), find_pipelines(mappings, pipeline)
    if not has_sources(pipelines, table):
        rows = explain_row(settings, pipelines, table, key)
        if output == "json":
            shown.print_json([each.to_dict() for each in rows])
        else:
            for each in rows:
                _print_row(each)
        return
    found = explained(settings, pipelines, table, key)
    if output == "json":
        shown.print_json(found.to_dict())
    else:
        _print(found)


def _print_row(found: RowExplanation) -> None:
    console = shown.console()
    lines = {
        "row": f"{found.table} {found.key}: {found.state}",
        "mapping": f"{found.mapping}  ({found.where})",
        "source": f"{found.source}  (topic {found.topic})",
        "position": found.position,
        "": found.meaning,
        "version": _version(found.versions),
    }
    for name, text in lines.items():
        if text:
            console.print(f"{name:12}{text}")
    for parked in found.parked:
        console.print(f"{'parked':12}{parked.id}: {parked.reason}  {parked.where}  (cdc parked show {parked.id})")
    for each in found.conflicts:
        console.print(f"{'conflict':12}{each.id}: {each.type}:{each.action}  {each.at}  {each.where}")
    if found.conflicts:
        console.print("cdc conflicts show ID --values shows what they were between")


def _version(versions: Sequence[int]) -> str:
    """Of the mappings."""
    if not versions or versions == (0,):
        return ""
    return f"{' or '.join(map(str, versions))} of the mapping applied it  (cdc mapping history)"


def _print(found: Explanation) -> None:
    console = shown.console()
    state = "is there" if found.there else "is not there, by the rules"
    console.print(f"{found.table} {found.key} {state}; worked out last at {_time(found.written_at)}")
    if found.stale_rules:
        console.print(
            "it was last written by other rules: what is shown comes with the next change of any source, or now"
        )
        console.print("by cdc conflicts reapply")
    if found.columns:
        table = shown.table("column", "value", "from", "rule", "changed", "others say")
        for each in found.columns:
            table.add_row(
                each.column, _text(each.value), _origin(each), each.rule, _time(each.changed_at), _others(each)
            )
        console.print(table)
    table = shown.table("source", "its key", "position", "last changed", "says")
    for said in sorted(found.said, key=lambda said: (said.source, said.source_key)):
        says = "deleted" if said.values is None else ", ".join(f"{k}={_text(v)}" for k, v in said.values.items())
        key = "" if said.source_key == "[]" else said.source_key
        table.add_row(said.source, key, said.position, _time(said.at) or "read by a snapshot", says)
    console.print(table)


def _origin(column: ColumnOrigin) -> str:
    return f"{column.source or ''} {column.source_key}".strip()


def _others(column: ColumnOrigin) -> str:
    return ", ".join(f"{source}: {_text(value)}" for source, value in column.others.items())


def _text(value: object) -> str:
    return "NULL" if value is None else str(value)


def _time(moment: datetime | None) -> str:
    return "" if moment is None else moment.isoformat(sep=" ", timespec="milliseconds")
