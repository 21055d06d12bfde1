"""cdc status: how the pipelines and their sources are."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from cdc.cli import shown
from cdc.cli.common import Connections, Mappings, Target
from cdc.cli.shown import Output
from cdc.control.connector_states import ConnectorState
from cdc.control.run import find_pipelines
from cdc.control.status import PipelineStatus, Status
from cdc.control.status import status as look
from cdc.errors import Usage
from cdc.settings import DEFAULT_PATH, load

_STYLES = {"running": "green", "RUNNING": "green", "failed": "bold red", "FAILED": "bold red", "absent": "bold red"}
_WATCH_S = 2.0
_NUMBERS = ("watermark", "end", "lag", "behind", "applied", "parked")


def status(
    *pipelines: Annotated[str, Parameter(help="Only these; default: all of the mappings folder.")],
    target: Target = None,
    output: Output = "table",
    watch: Annotated[bool, Parameter(help="Show it again every 2 s until Ctrl-C.", negative="")] = False,
    partitions: Annotated[bool, Parameter(help="One line a partition instead of one a topic.", negative="")] = False,
    mappings: Mappings = Path("mappings"),
    connections: Connections = DEFAULT_PATH,
) -> int:
    """What runs, what is behind and by how much, what was set aside, what the connectors say. Changes nothing.

    Exit code 0: healthy. 1: something is failed, stands still with work to do, or could not be reached.
    """
    if watch and output == "json":
        raise Usage("--watch shows a table", hint="leave out one of --watch and -o json")
    settings, found = load(connections), find_pipelines(mappings, pipelines, target)
    if watch:
        return _watch(lambda: _rendered(look(settings, found), partitions))
    now = look(settings, found)
    if output == "json":
        shown.print_json(now.to_dict())
    else:
        Console(highlight=False).print(_rendered(now, partitions))
    return 0 if now.healthy else 1


def _watch(render: Callable[[], RenderableType]) -> int:
    try:
        with Live(render(), console=Console(highlight=False), auto_refresh=False, screen=True) as live:
            while True:
                time.sleep(_WATCH_S)
                live.update(render(), refresh=True)
    except KeyboardInterrupt:
        return 0


def _rendered(found: Status, by_partition: bool) -> RenderableType:
    parts: list[RenderableType] = [_sources(found.sources)] if found.sources else []
    for pipeline in found.pipelines:
        parts += [_headline(pipeline), _partitions(pipeline) if by_partition else _topics(pipeline)]
    for line in _problems(found):
        parts.append(Text(line, style="red"))
    for pipeline in found.pipelines:
        for snapshot in pipeline.snapshots:
            parts.append(
                Text(f"{snapshot.mapping}: its table was read again ({snapshot.found_at}): {snapshot.command}")
            )
    return Group(*parts)


def _headline(pipeline: PipelineStatus) -> Text:
    name = pipeline.name.partition(":")[0]
    text = Text.assemble(
        (name, "bold"),
        f" → {pipeline.target}  ",
        (pipeline.state, _STYLES.get(pipeline.state, "yellow")),
    )
    fresh = [worker for worker in pipeline.workers if worker.fresh]
    if fresh:
        late = max((worker.latency_ms.get("p99", 0.0) for worker in fresh), default=0.0)
        text.append(f"  {len(fresh)} workers, {pipeline.rows_per_second:,} rows/s")
        text.append(f", p99 {late:,} ms" if late else "")
    return text


def _topics(pipeline: PipelineStatus) -> RenderableType:
    table = shown.table("topic", "lag", "behind", "applied", "skipped", "parked", right=_NUMBERS)
    for topic in pipeline.topics:
        counted = (f"{topic.applied:,}", shown.counts(topic.skipped), shown.counts(topic.parked))
        table.add_row(topic.topic, _lag(topic.lag), _seconds(topic.lag, topic.lag_s), *counted)
    return table


def _partitions(pipeline: PipelineStatus) -> RenderableType:
    table = shown.table("topic", "partition", "watermark", "end", "lag", "behind", right=_NUMBERS)
    for topic in pipeline.topics:
        for each in topic.partitions:
            place = (topic.topic, str(each.partition), shown.number(each.watermark, "-"), shown.number(each.end))
            table.add_row(*place, _lag(each.lag), _seconds(each.lag, each.lag_s))
    return table


def _sources(sources: tuple[ConnectorState, ...]) -> RenderableType:
    table = shown.table("source", "connector", "tasks")
    for each in sources:
        state = Text(each.state, style=_STYLES.get(each.state, "yellow"))
        table.add_row(each.source, state, " ".join(each.tasks))
    return table


def _problems(found: Status) -> list[str]:
    lines = [f"not reached: {each}" for each in found.unreachable]
    lines += [f"source {each.source}: {each.problem}" for each in found.sources if each.problem]
    return lines + [f"pipeline {each.name}: {problem}" for each in found.pipelines for problem in each.problems]


def _lag(records: int | None) -> Text:
    return Text(shown.number(records), style="" if records == 0 else "yellow")


def _seconds(records: int | None, seconds: float | None) -> str:
    """Seconds only say something while there is a lag."""
    return "" if records == 0 else "?" if seconds is None else f"{seconds:,.1f} s"
