"""The command `cdc`: each group of commands is one module; here they come together and errors become exit codes.

Exit codes: 0 done, 1 findings or refused, 2 usage.
"""

from __future__ import annotations

import sys

from cyclopts import App
from rich.console import Console

from cdc.cli import demo, mapping, source, stack
from cdc.cli.run import run
from cdc.errors import CdcError, Usage

app = App(
    name="cdc",
    help="Change-data-capture synchronization: Debezium's change streams in, mapped and guarded rows out.",
)
app.command(run)
app.command(stack.app)
app.command(mapping.app)
app.command(source.app)
app.command(demo.app)


def main() -> None:
    """Entry point. Errors of ours are shown as what, where and what to do next, without a traceback."""
    try:
        result = app()
    except CdcError as error:
        console = Console(stderr=True, highlight=False, soft_wrap=True)
        console.print("error:", style="bold red", end=" ")
        console.print(str(error), markup=False)
        sys.exit(2 if isinstance(error, Usage) else 1)
    sys.exit(result if isinstance(result, int) else 0)
