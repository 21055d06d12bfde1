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
    """Columns that break rather than lose text in a narrow window; those in `right` hold numbers."""
    return Table(
        *(Column(name, overflow="fold", justify="right" if name in right else "left") for name in columns),
        box=SIMPLE_HEAD,
    )


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
