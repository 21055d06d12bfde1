"""`cdc mapping test`: tests of mappings, played and recorded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from cdc.author.cases import find_cases
from cdc.author.differences import RowDifference
from cdc.author.grounds import DatabaseGround, MemoryGround
from cdc.author.play import Ground
from cdc.author.script import Script
from cdc.author.testing import Result, check_any, run_files
from cdc.cli import shown
from cdc.cli.common import Connections
from cdc.entries import SourceKind
from cdc.mapping.diagnostics import render
from cdc.settings import DEFAULT_PATH, load

app = App(name="test", help="Play the tests of mappings (mappings/tests/*.yaml), in memory or on a real database.")

_FOLDER = Path("mappings")
Output = Annotated[
    Literal["table", "concise", "json", "github"],
    Parameter(name=["--output", "-o"], help="For people, one line a finding, for programs, for pull requests."),
]


@app.default
def play_tests(
    *files: Annotated[Path, Parameter(help="Tests, pipeline files or folders; default: mappings/.")],
    only: Annotated[str, Parameter(name=["--only", "-k"], help="Only tests whose name holds this.")] = "",
    verbose: Annotated[
        bool, Parameter(name=["--verbose", "-v"], help="Say also what was decided about each event.", negative="")
    ] = False,
    target: Annotated[
        str | None,
        Parameter(name=["--target"], help="On this target of connections.yaml, in a scratch place that is removed."),
    ] = None,
    output: Output = "table",
    connections: Connections = DEFAULT_PATH,
) -> int:
    """Play events through the mapping and the engine, and compare rows and decisions with what the tests expect.

    Exit code 0: all passed, 1: some did not.
    """
    paths = find_cases(files or (_FOLDER,))
    settings = None if target is None else load(connections).target(target)

    def ground(script: Script) -> Ground:
        return MemoryGround(script.pipeline) if settings is None else DatabaseGround(script, settings)

    results = run_files(paths, kind_of(connections), ground, only)
    check_any(results, only)
    if output == "json":
        shown.print_json([each.to_dict() for each in results])
    elif output in ("concise", "github"):
        for found in (finding for each in results for finding in each.findings):
            shown.console().print(render([found], output))
    else:
        _print(results, verbose)
    return 0 if all(each.passed for each in results) else 1


def kind_of(connections: Path) -> Callable[[str], SourceKind]:
    """The kind of a source, as connections.yaml says where there is one."""
    settings = load(connections) if connections.exists() else None
    return lambda source: "postgresql" if settings is None else settings.source_kind(source)


def _print(results: list[Result], verbose: bool) -> None:
    console = shown.console()
    for each in results:
        if each.passed and not verbose:
            continue
        console.print(f"{'passed' if each.passed else 'FAILED'}  {each.name or each.file}  ({each.where})")
        if verbose:
            for number, event in enumerate(each.decided, 1):
                for decided in event:
                    detail = f" ({decided.detail})" if decided.detail else ""
                    console.print(f"    event {number}  {decided.table}  {', '.join(decided.words)}{detail}")
        if each.broken:
            console.print(render(each.findings))
            continue
        rows = {"missing-row", "surplus-row", "different-row"}
        others = [found for found in each.findings if found.code not in rows]
        if others:
            console.print(render(others))
        for table in dict.fromkeys(row.table for row in each.rows):
            _print_rows(table, [row for row in each.rows if row.table == table])
    seconds = sum(each.seconds for each in results)
    failed = sum(not each.passed for each in results)
    console.print(f"{len(results) - failed} passed, {failed} failed in {seconds * 1000:,.0f} ms")


def _print_rows(name: str, rows: list[RowDifference]) -> None:
    table = shown.table(f"row of {name}", "", "column", "expected", "actual")
    for row in rows:
        first: tuple[str, str] = (row.key, row.kind)
        for cell in row.cells:
            sides = ("-" if side is None else side for side in (cell.expected, cell.actual))
            table.add_row(*first, cell.column, *sides)
            first = ("", "")
    shown.console().print(table)
