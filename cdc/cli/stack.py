"""`cdc stack`: the local real stack (Kafka, Connect with Debezium, PostgreSQL, MariaDB)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Column, Table

from cdc.errors import Usage
from cdc.references import STACK_HOME_VARIABLE
from cdc.stack import PARTS, PartName, PartStatus, Stack

app = App(name="stack", help="Start and stop the local real stack: Kafka, Connect with Debezium, PostgreSQL, MariaDB.")

Home = Annotated[
    Path,
    Parameter(
        name=["--home"], help="The folder of the stack: data, logs, ports and passwords.", env_var=STACK_HOME_VARIABLE
    ),
]
Only = Annotated[str | None, Parameter(name=["--only"], help=f"Only these parts, with commas: {','.join(PARTS)}.")]
Output = Annotated[Literal["table", "json"], Parameter(name=["--output", "-o"], help="For people or for programs.")]

_DEFAULT_HOME = Path(".stack")
_STYLES = {"ready": "green", "starting": "yellow", "frozen": "yellow", "died": "red", "down": "dim"}


@app.command
def up(
    *,
    home: Home = _DEFAULT_HOME,
    only: Only = None,
    fast: Annotated[bool | None, Parameter(help="Databases don't wait for the disk (for tests). Remembered.")] = None,
    jdbc_sink: Annotated[bool | None, Parameter(help="Connect also offers the Debezium JDBC sink. Remembered.")] = None,
    deadline: Annotated[float, Parameter(help="Seconds that the parts have to answer, download aside.")] = 180.0,
    output: Output = "table",
) -> None:
    """Start what does not run yet and wait until it answers. Data of earlier runs is kept."""
    stack = Stack(home)
    with _shown(to_stderr=output == "json") as progress:
        stack.up(_parts(only), fast=fast, jdbc_sink=jdbc_sink, progress=progress, deadline_s=deadline)
    _print_status(stack.status(), output)


@app.command
def down(*, home: Home = _DEFAULT_HOME, only: Only = None) -> None:
    """Stop what runs, and nothing that this stack did not start. The data stays."""
    if not home.exists():
        raise Usage("there is no stack", where=str(home), hint="--home FOLDER, or CDC_STACK_HOME, names another one")
    with _shown() as progress:
        stopped = Stack(home).down(_parts(only), progress=progress)
    if not stopped:
        Console().print("nothing was running")


@app.command
def status(*, home: Home = _DEFAULT_HOME, output: Output = "table") -> int:
    """Every part as it is now, each asked for a real answer. Exit code 1 unless all that was started is ready."""
    found = Stack(home).status()
    _print_status(found, output)
    return 0 if all(each.state in ("ready", "down") for each in found) else 1


@app.command
def logs(
    part: PartName,
    /,
    *,
    home: Home = _DEFAULT_HOME,
    lines: Annotated[int, Parameter(name=["--lines", "-n"], help="How many of the last lines.")] = 50,
    follow: Annotated[bool, Parameter(name=["--follow", "-f"], help="Go on with what is written from now on.")] = False,
) -> None:
    """The end of a part's log."""
    console = Console(highlight=False, soft_wrap=True)
    for line in Stack(home).log_lines(part, lines, follow=follow):
        console.print(line, markup=False)


@app.command
def reset(
    *,
    home: Home = _DEFAULT_HOME,
    execute: Annotated[bool, Parameter(help="Do it, rather than only say what would be removed.")] = False,
    output: Output = "table",
) -> None:
    """Stop the stack and remove its data, logs, ports and passwords. Only says what it would do unless --execute."""
    removed = Stack(home).reset(execute=execute)
    if output == "json":
        _print_json({"executed": execute, "removed": [str(path) for path in removed]})
        return
    console = Console(soft_wrap=True)
    for path in removed:
        console.print(f"{'removed' if execute else 'would remove'} {escape(str(path))}")
    if not execute:
        console.print("nothing was changed; with [bold]--execute[/] it is done" if removed else "nothing to remove")


def _print_json(content: object) -> None:
    Console(soft_wrap=True).print_json(json.dumps(content, default=_plain))


def _parts(only: str | None) -> list[PartName] | None:
    if only is None:
        return None
    asked = [word.strip() for word in only.split(",")]
    unknown = [word for word in asked if word not in PARTS]
    if unknown:
        raise Usage(f"--only: no part is called {unknown[0]!r}", hint=f"the parts are {', '.join(PARTS)}")
    return [part for part in PARTS if part in asked]


def _print_status(found: list[PartStatus], output: str) -> None:
    if output == "json":
        _print_json([asdict(each) for each in found])
        return
    table = Table(*("part", "state", "pid", "port"), Column("since (UTC)", no_wrap=True), "memory", "version")
    table.box = SIMPLE_HEAD
    for each in found:
        style = _STYLES[each.state]
        table.add_row(
            each.part,
            f"[{style}]{each.state}[/]",
            str(each.pid or ""),
            str(each.port),
            f"{each.since:%m-%d %H:%M:%S}" if each.since else "",
            f"{each.memory_mb} MB" if each.memory_mb is not None else "",
            each.version,
        )
    console = Console()
    console.print(table)
    for each in found:
        if each.detail:
            console.print(f"{each.part}: {escape(each.detail)}")


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


class _Shown:
    """A bar for the download, a line for each piece of news."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._task: TaskID | None = None

    def download(self, component: str, done_mb: float, total_mb: float) -> None:
        if self._task is None:
            self._task = self._bar.add_task("download")
        done, total = done_mb * 1e6, total_mb * 1e6
        self._bar.update(self._task, description=f"download {component}", completed=done, total=total)

    def part(self, part: str, news: str) -> None:
        self._bar.console.print(f"{part:10}{escape(news)}", highlight=False)


@contextmanager
def _shown(*, to_stderr: bool = False) -> Iterator[_Shown]:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=to_stderr)) as bar:
        yield _Shown(bar)
