"""How operator commands show things: tables for people, JSON for programs, a live view."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Column, Table

Output = Annotated[Literal["table", "json"], Parameter(name=["--output", "-o"], help="For people or for programs.")]
Execute = Annotated[bool, Parameter(help="Do it, rather than only say what would be done.", negative="")]
Reason = Annotated[str, Parameter(help="Why: goes into the audit record. Needed with --execute.")]

NOT_DONE = "nothing was changed; with --execute --reason … it is done"


def console() -> Console:
    """Prints text as it is: no markup in it is obeyed, no number coloured, no line broken."""
    return Console(highlight=False, soft_wrap=True, markup=False, emoji=False)


def table(*columns: str, right: Sequence[str] = ()) -> Table:
    """Columns that break rather than lose text in a narrow window; those in `right` hold numbers. What people copy from
    it (keys, places) belongs in `print_entries`."""
    return Table(
        *(Column(name, overflow="fold", justify="right" if name in right else "left") for name in columns),
        box=SIMPLE_HEAD,
    )


def print_entries(
    columns: Sequence[str], entries: Sequence[tuple[Sequence[str], Sequence[str]]], right: Sequence[str] = ()
) -> None:
    """Entries of a line of short cells each, and below it what is long: places, keys, errors, each in a line of its own
    that nothing breaks, however narrow the window is. Only the last cell may be longer than a window."""
    widths = [max(map(len, column)) for column in zip(columns, *(cells for cells, _ in entries), strict=True)]

    def line(cells: Sequence[str]) -> str:
        aligned = (
            cell.rjust(width) if name in right else cell.ljust(width)
            for name, cell, width in zip(columns, cells, widths, strict=True)
        )
        return "  ".join(aligned).rstrip()

    show = console()
    show.print(line(columns))
    show.print("─" * min(80, len(line(columns))))
    for cells, below in entries:
        show.print(line(cells))
        for text in filter(None, below):
            show.print(f"    {text}")


def print_json(content: object) -> None:
    Console(soft_wrap=True, highlight=False).print_json(json.dumps(content, default=_plain), highlight=False)


def number(value: float | None, unknown: str = "?") -> str:
    """12,345 or 0.3; `unknown` for None."""
    return unknown if value is None else f"{value:,}"


def counts(by_reason: Mapping[str, int]) -> str:
    """'12 stale, 3 filtered'."""
    return ", ".join(f"{count:,} {reason}" for reason, count in by_reason.items())


def _plain(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
