"""`cdc metrics`: the pipelines for Prometheus, and the files that go with it."""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from cdc.cli.common import Connections, Mappings, Target
from cdc.control.run import find_pipelines
from cdc.control.status import Status, status
from cdc.ops.endpoint import ANSWERS_WITHIN_S, Watch, make_server, text
from cdc.settings import DEFAULT_PATH, load

app = App(name="metrics", help="Prometheus metrics, health and readiness of the pipelines; a dashboard and alerts.")

_ONCE_WITHIN_S = 60.0  # nobody scrapes: better late than without what takes long


@app.default
def serve(
    *,
    host: Annotated[str, Parameter(help="The address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, Parameter(help="The port to listen on.")] = 9188,
    once: Annotated[bool, Parameter(help="Print the metrics instead, once.", negative="")] = False,
    target: Target = None,
    mappings: Mappings = Path("mappings"),
    connections: Connections = DEFAULT_PATH,
) -> int:
    """Serve /metrics, /healthz (this process answers) and /readyz (503 and the reasons while something failed or does
    not answer) for all pipelines of the mappings folder, until Ctrl-C. Each request asks the targets, Kafka and
    Connect: no worker needs a port. Changes nothing.
    """

    def look() -> Status:
        return status(load(connections), find_pipelines(mappings, (), target))

    load(connections)
    find_pipelines(mappings, (), target)  # what is wrong from the beginning is told at once
    watch = Watch(look, _ONCE_WITHIN_S if once else ANSWERS_WITHIN_S)
    if once:
        sys.stdout.write(text(watch))
        return 0
    with make_server(watch, host, port) as server:
        sys.stdout.write(f"http://{host}:{server.server_port}/metrics\n")
        sys.stdout.flush()
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return 0
    return 0


@app.command
def dashboard() -> None:
    """Print the Grafana dashboard (JSON), to be imported there."""
    _print("dashboard.json")


@app.command
def alerts() -> None:
    """Print alert rules for Prometheus (YAML), for its `rule_files`."""
    _print("alerts.yaml")


def _print(name: str) -> None:
    sys.stdout.write(files("cdc.ops").joinpath(name).read_text(encoding="utf-8"))
