"""`cdc demo`: a small telephone company to try everything on."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from cdc.cli.common import Connections
from cdc.demo import seed as demo_seed
from cdc.demo.load import Load, Report
from cdc.demo.prepare import prepare as prepare_demo
from cdc.settings import DEFAULT_PATH
from cdc.settings import load as load_settings

app = App(name="demo", help="The demo world: a CRM in PostgreSQL, billing in MariaDB, and people at work in both.")

Output = Annotated[Literal["table", "json"], Parameter(name=["--output", "-o"], help="For people or for programs.")]
Seed = Annotated[int, Parameter(help="Names the world: the same seed gives the same rows and transactions.")]


@app.command
def prepare(
    *,
    customers: Annotated[int, Parameter(help="Customers to begin with; there are 15 rows for each.")] = (
        demo_seed.CUSTOMERS
    ),
    seed: Seed = 1,
    connections: Connections = DEFAULT_PATH,
    output: Output = "table",
) -> None:
    """Make the demo's databases, accounts, publication and first rows. Running it again changes nothing.

    Writes only to databases of its own making: one that exists already and is not is refused.
    """
    console = Console(stderr=output == "json", highlight=False, soft_wrap=True)
    made = prepare_demo(
        load_settings(connections),
        customers=customers,
        number=seed,
        report=lambda line: console.print(f"preparing {line}", markup=False),
    )
    if output == "json":
        _print_json(asdict(made))
        return
    total = sum(made.rows.values())
    console.print(f"{total:,} rows in {len(made.rows)} tables" if total else "the rows were there already")


@app.command
def load(
    *,
    rate: Annotated[float | None, Parameter(help="Transactions a second, both databases together.")] = 50.0,
    seconds: Annotated[float | None, Parameter(help="How long; without it until Ctrl-C.")] = None,
    seed: Seed = 1,
    connections: Connections = DEFAULT_PATH,
    output: Output = "table",
) -> None:
    """Inserts, updates, deletes, key changes and rollbacks in both databases at once.

    The same seed on the same rows runs the same transactions. Writes only to databases that `prepare` made.
    """
    settings = load_settings(connections)
    work = Load(settings.source("crm"), settings.source("billing"), seed=seed)
    try:
        work.run(rate=rate, seconds=seconds)
    except KeyboardInterrupt:
        work.stop()
    if output == "json":
        _print_json({name: report.to_dict() for name, report in work.reports.items()})
        return
    for name, report in work.reports.items():
        _print_report(name, report)


def _print_report(name: str, report: Report) -> None:
    table = Table("table", "insert", "update", "delete", "key change", title=name, box=SIMPLE_HEAD)
    for row_table, done in report.to_dict()["rows"].items():
        table.add_row(
            row_table, *(str(done.get(operation, "")) for operation in ("insert", "update", "delete", "key change"))
        )
    console = Console(highlight=False)
    console.print(table)
    console.print(
        f"{report.transactions.total():,} transactions in {report.seconds:.1f} s ({report.rate:.0f} a second),"
        f" {report.rows.total():,} rows, {report.rolled_back} rolled back, {report.interrupted} interrupted"
    )


def _print_json(content: Any) -> None:
    Console(soft_wrap=True).print_json(json.dumps(content))
