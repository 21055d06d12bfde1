"""cdc compare: does the target hold what its sources hold?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number
from rich.console import Console
from rich.status import Status
from rich.text import Text

from cdc.cli import shown
from cdc.cli.common import Connections, Mappings
from cdc.cli.shown import Output
from cdc.control.goal import wait_pipelines
from cdc.control.run import find_pipelines
from cdc.control.status import standing
from cdc.reconcile.compare import compare as run_compare
from cdc.reconcile.comparison import SETTLE_S, Options
from cdc.reconcile.report import CompareReport, Difference, Progress, TableReport, Verdict, What
from cdc.settings import load

_STYLES: dict[Verdict, str] = {
    "equal": "green",
    "parked": "yellow",
    "unsettled": "yellow",
    "never run": "yellow",
    "differs": "bold red",
}


def compare(
    *pipelines: str,
    table: Annotated[
        tuple[str, ...], Parameter(help="Only this table (schema.table, at either side); may be given again.")
    ] = (),
    limit: Annotated[
        int, Parameter(help="Differing rows that are named for each table.", validator=Number(gte=0))
    ] = 10,
    values: Annotated[bool, Parameter(help="Show what the differing columns hold: row data.", negative="")] = False,
    settle: Annotated[
        float, Parameter(help="Seconds that a row must stay different while its source row stands still.")
    ] = SETTLE_S,
    wait: Annotated[
        float, Parameter(help="First wait until the pipelines have caught up, at most so many seconds.")
    ] = 0.0,
    output: Output = "table",
    mappings: Mappings = Path("mappings"),
    connections: Connections = Path("connect-configs/connections.yaml"),
) -> int:
    """Compare targets with their sources, row by row and both ways, through the mappings. Changes nothing.

    Rows that differ are looked at again until they settle, so that changes on their way are no differences, as long as
    they need less than --settle; --wait is for pipelines that are further behind. Without names, all pipelines are
    compared; parts that go to REST targets cannot be, and are named. Rows that differ because they are parked are told
    apart (verdict "parked"), but are no equality. Exit code 0: all that was compared is equal; 1: differences, parked
    ones too, or a target table that is not there ("never run"); 2: nothing can be compared.
    """
    settings = load(connections)
    found = find_pipelines(mappings, pipelines)
    options = Options(examples=limit, values=values, settle_s=settle)
    with Console(stderr=True, highlight=False).status("") as status:
        if wait:
            status.update("waiting until the pipelines have caught up")
            wait_pipelines(settings, found, deadline_s=wait)
        report = run_compare(
            settings, found, tables=table, options=options, report=lambda progress: _show(status, progress)
        )
    doubts = [] if report.equal else standing(settings, found)
    if output == "json":
        shown.print_json(report.to_dict() | {"doubts": doubts})
    else:
        print_tables(report)
        for doubt in doubts:
            shown.console().print(doubt, style="yellow")
    return 0 if report.equal else 1


def _show(status: Status, progress: Progress) -> None:
    text = f"{progress.mapping}: {progress.stage}"
    if progress.stage == "reading":
        text += f" {progress.rows:,} rows"
    if progress.open is not None:
        text += f", {progress.open:,} rows differ so far"
    status.update(text)


def print_tables(report: CompareReport) -> None:
    """One line a mapping, then the examples of those that differ."""
    console = shown.console()
    numbers = ("source", "target", "missing", "surplus", "differ")
    table = shown.table("mapping", "verdict", *numbers, right=numbers)
    table.columns[0].no_wrap = True
    table.padding = (0, 1, 0, 0)  # so that 80 columns hold it
    for each in report.tables:
        counts = (each.source_rows, each.target_rows, each.missing, each.surplus, each.different)
        verdict = Text(each.verdict, style=_STYLES[each.verdict])
        table.add_row(each.title, verdict, *(f"{count:,}" for count in counts))
    console.print(table)
    for each in report.tables:
        if notes := _notes(each):
            console.print(f"{each.title}: {', '.join(notes)}")
    for each in report.tables:
        _print_examples(console, each)
    rate = report.rows / report.seconds if report.seconds else 0
    word = "equal" if report.equal else "not equal"
    for left_out in report.not_compared:
        console.print(f"not compared: {left_out.label} {left_out.reason}", style="yellow")
    if report.excused:
        word += f", {report.excused:,} rows differ but are parked (cdc parked list)"
    console.print(f"{word}: {report.rows:,} source rows in {report.seconds:.1f} s ({rate:,.0f} rows/s)")


def _notes(table: TableReport) -> list[str]:
    """What a reader of the counts must know besides."""
    if table.never_run:
        return ["never run: the target table is not there, cdc run creates it"]
    notes = (
        (table.unmapped, "refused by the mapping or the target's columns"),
        (table.unsettled, "kept changing"),
        (table.parked + table.parked_without_key, "parked"),
        (table.excused, "differ but are parked"),
        (table.soft_deleted, "marked as deleted"),
        (table.kept, "kept after a delete"),
        (table.in_flight, "on their way at first"),
        (table.unchecked, "values not compared"),
    )
    return [f"{number:,} {text}" for number, text in notes if number]


def _print_examples(console: Console, table: TableReport) -> None:
    if not table.examples:
        return
    console.print(table.title, style="bold")
    if table.columns:
        columns = ", ".join(f"{name} ({number:,})" for name, number in table.columns)
        console.print(f"  differing columns: {columns}")
    for example in table.examples:
        console.print(f"  {_described(example)}")
        for cell in example.cells:
            console.print(
                f"    {cell.column}: expected {_shown(cell.expected)}, is {_shown(cell.actual)}", markup=False
            )
    left = table.differences + table.excused + table.unsettled - len(table.examples)
    if left > 0:
        console.print(f"  and {left:,} more; --limit shows more of them")


def _described(example: Difference) -> str:
    text = f"{example.what.value}: {', '.join('NULL' if part is None else part for part in example.key)}"
    if example.what is What.DIFFERENT:
        text += f" in {', '.join(example.columns)}"
    notes = [example.reason, "" if example.settled else "still changing", "parked" if example.excused else ""]
    said = "; ".join(note for note in notes if note)
    return f"{text} ({said})" if said else text


def _shown(text: str | None) -> str:
    return "NULL" if text is None else json.dumps(text, ensure_ascii=False)
