"""What Kafka Connect says of the pipelines' sources, in a word and a line each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cdc.control.connect import ANSWERS_WITHIN_S, Connect, ConnectorStatus
from cdc.errors import CdcError
from cdc.settings import Settings


@dataclass(frozen=True)
class ConnectorState:
    """The connector of one source: the worst state of it and its tasks, 'absent', or 'unknown'."""

    source: str
    state: str
    tasks: tuple[str, ...]
    problem: str


def connector_states(settings: Settings, names: Sequence[str]) -> tuple[tuple[ConnectorState, ...], str]:
    """The sources' states, and why Connect does not answer ('' when it does)."""
    try:
        with Connect(settings.connect, retry_for_s=ANSWERS_WITHIN_S) as connect:
            known = connect.statuses()
    except CdcError as error:
        unknown = tuple(ConnectorState(name, "unknown", (), "") for name in names)
        return unknown, f"Kafka Connect: {error.what}"
    return tuple(connector_state(name, known.get(name)) for name in names), ""


def connector_state(source: str, found: ConnectorStatus | None) -> ConnectorState:
    """A failed task fails the connector, whatever the connector says of itself."""
    if found is None:
        return ConnectorState(
            source, "absent", (), f"not registered: cdc source register {source} --execute --reason …"
        )
    problem = found.problem or ""
    if not problem and found.state == "RUNNING" and not found.tasks:
        problem = f"connector {source} has no task: it captures nothing"
    elif not problem and found.state in ("PAUSED", "STOPPED"):
        problem = f"connector {source} is {found.state}: it captures nothing"
    return ConnectorState(source, found.state, tuple(task.state for task in found.tasks), problem)
