"""`cdc demo`: a small telephone company to try everything on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter
from cyclopts.validators import Number
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cdc.cli.common import Connections, Mappings
from cdc.demo import seed as demo_seed
from cdc.demo.golden import GoldenReport
from cdc.demo.golden import Shown as GoldenLine
from cdc.demo.load import Load, Report
from cdc.demo.prepare import prepare as prepare_demo
from cdc.demo.show import Shown, show
from cdc.settings import DEFAULT_PATH
from cdc.settings import load as load_settings

app = App(
    name="demo", help="The demo world: CRM and self-care portal in PostgreSQL, billing in MariaDB, and people at work."
)

Output = Annotated[Literal["table", "json"], Parameter(name=["--output", "-o"], help="For people or for programs.")]
Seed = Annotated[int, Parameter(help="Names the world: the same seed gives the same rows and transactions.")]


@app.command
def prepare(
    *,
    customers: Annotated[int, Parameter(help="Customers to begin with; there are 16 rows for each.")] = (
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
    rate: Annotated[
        float | None, Parameter(help="Transactions a second, all databases together.", validator=Number(gt=0))
    ] = 50.0,
    seconds: Annotated[float | None, Parameter(help="How long; without it until Ctrl-C.")] = None,
    seed: Seed = 1,
    connections: Connections = DEFAULT_PATH,
    output: Output = "table",
) -> None:
    """Inserts, updates, deletes, key changes and rollbacks in all three databases at once.

    The same seed on the same rows runs the same transactions. Writes only to databases that `prepare` made.
    """
    settings = load_settings(connections)
    work = Load(*(settings.source(name) for name in ("crm", "billing", "portal")), seed=seed)
    try:
        work.run(rate=rate, seconds=seconds)
    except KeyboardInterrupt:
        work.stop()
    if output == "json":
        _print_json({name: report.to_dict() for name, report in work.reports.items()})
        return
    for name, report in work.reports.items():
        _print_report(name, report)


@app.command
def run(
    *,
    home: Annotated[Path, Parameter(help="The folder of the stack that the demo runs on.")] = Path(".stack"),
    rate: Annotated[
        float, Parameter(help="Transactions a second, all databases together.", validator=Number(gt=0))
    ] = 100.0,
    seconds: Annotated[float, Parameter(help="How long the load runs.")] = 20.0,
    seed: Seed = 1,
    mappings: Mappings = Path("mappings"),
    connections: Connections = DEFAULT_PATH,
    output: Output = "table",
) -> int:
    """Everything once, from nothing to a checked synchronization. Exit code 1 when anything differs."""
    console = Console(stderr=output == "json", highlight=False, soft_wrap=True)
    with console.status("") as spinner:

        def say(line: str) -> None:
            console.print(f"[dim]·[/dim] {line}")
            spinner.update(line)

        shown = show(home, mappings, connections, rate=rate, seconds=seconds, seed=seed, say=say)
    if output == "json":
        _print_json(shown.to_dict())
    else:
        _print_shown(console, shown, home)
    return 0 if shown.well else 1


def _print_shown(console: Console, shown: Shown, home: Path) -> None:
    headers = ("mapping", "at source", "in hub", "missing", "surplus", "different")
    table = Table(*headers, box=SIMPLE_HEAD, show_edge=False)
    for each in shown.compared.tables:
        numbers = (each.source_rows, each.target_rows, each.missing, each.surplus, each.different)
        table.add_row(each.mapping, *(f"{number:,}" for number in numbers))
    console.print(table)
    _print_golden(console, shown.golden)
    console.print(
        f"load      {shown.loaded_transactions:,} transactions, {shown.loaded_rows:,} rows in {shown.seconds:g} s"
    )
    console.print(f"caught up {shown.caught_up_s:.1f} s after the last of them; lag {shown.lag}, parked {shown.parked}")
    for pipeline, latency in shown.latency_ms.items():
        if latency:
            console.print(
                f"latency   {pipeline}: p50 {latency['p50']:.0f} ms, p99 {latency['p99']:.0f} ms"
                f" (commit at the source to commit in the {shown.targets[pipeline]})"
            )
    if "billing" in shown.latency_ms:
        console.print("          MariaDB tells commit times in whole seconds: up to 1,000 ms of its figures are that")
    verdict, style = ("equals its sources", "green") if shown.well else ("differs from its sources", "red")
    console.print(f"result    the hub {verdict}", style=style)
    if shown.well:
        console.print(
            f"\nThe stack still runs. Try:\n  export CDC_STACK_HOME={home}\n  cdc run &              # live again\n"
            "  cdc demo load --seconds 60\n  cdc status --watch\n  cdc compare\n"
            "  cdc explain hub.golden_customers C0000001\n"
            f"  cdc stack down --home {home}"
        )


def _print_golden(console: Console, golden: GoldenReport) -> None:
    for customer_no in dict.fromkeys(line.customer_no for line in golden.examples):
        _print_customer(console, customer_no, [each for each in golden.examples if each.customer_no == customer_no])
    console.print()
    for wrong in golden.wrong:
        console.print(f"golden    {wrong.customer_no} {wrong.column}: must be {wrong.expected}, is {wrong.actual}")
    outcome = "as the rules say" if golden.equal else f"{golden.differences:,} values are not as the rules say"
    console.print(f"golden    {golden.customers:,} customers, {golden.contested:,} of them contested: {outcome}")


def _print_customer(console: Console, customer_no: str, lines: Sequence[GoldenLine]) -> None:
    """What each source says, bold where the hub took it, and by which rule."""
    table = Table(box=SIMPLE_HEAD, show_edge=False)
    table.add_column(customer_no, no_wrap=True, min_width=17)
    for header in ("CRM says", "portal says", "golden"):
        table.add_column(header, no_wrap=True, width=max(13, (console.width - 40) // 3))
    table.add_column("rule", no_wrap=True, min_width=10)
    for line in lines:
        told = (Text(line.said.get(name, ""), "bold" if name == line.source else "dim") for name in ("crm", "portal"))
        table.add_row(line.column, *told, Text(line.hub), line.rule.partition(":")[0])
    console.print()
    console.print(table)
    for line in lines:
        if "billing" in line.said:
            console.print(f" {line.column} {line.hub}: billing says {line.said['billing']}")


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
