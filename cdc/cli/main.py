"""The command `cdc`: each group of commands is one module; here they come together and errors become exit codes.

Exit codes: 0 done, 1 findings or refused, 2 usage.
"""

from __future__ import annotations

import sys

from cyclopts import App
from rich.console import Console

from cdc.cli import conflicts, deliveries, demo, epoch, mapping, metrics, parked, rollout, source, stack
from cdc.cli.audit import audit
from cdc.cli.compare import compare
from cdc.cli.explain import explain
from cdc.cli.load import load_table
from cdc.cli.park import park
from cdc.cli.rewind import rewind
from cdc.cli.run import run
from cdc.cli.status import status
from cdc.cli.sweep import sweep
from cdc.cli.types import types
from cdc.engine.logs import configure_logs
from cdc.errors import CdcError, Usage

app = App(
    name="cdc",
    help="Change-data-capture synchronization: Debezium's change streams in, mapped and guarded rows out.",
)
source.app.command(epoch.new, name="new-epoch")
source.app.command(load_table, name="load")
rollout.register(mapping.app)
for command in (run, status, compare, explain, rewind, park, sweep, audit, types):
    app.command(command)
app.register_install_completion_command(help="Install completion for your shell.")
for group in (parked, conflicts, deliveries, metrics, mapping, source, epoch, stack, demo):
    app.command(group.app)


def main() -> None:
    """Entry point. Errors of ours are shown as what, where and what to do next, without a traceback."""
    configure_logs("error")  # people are told by the commands themselves; `cdc run` turns its log on
    try:
        result = app()
    except CdcError as error:
        console = Console(stderr=True, highlight=False, soft_wrap=True)
        console.print("error:", style="bold red", end=" ")
        console.print(str(error), markup=False)
        sys.exit(2 if isinstance(error, Usage) else 1)
    sys.exit(result if isinstance(result, int) else 0)
