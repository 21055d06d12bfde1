"""What is on record about deliveries to REST targets: for people, without row values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import msgspec

from cdc.control.operate import owner_of
from cdc.engine.targets import opened_ledger
from cdc.errors import Usage
from cdc.mapping.model import Pipeline
from cdc.settings import Settings
from cdc.target.delivery import Recorded, State


@dataclass(frozen=True)
class Wanted:
    """Which deliveries. `key_hash`: its beginning; `since_s`: sent in the last so many seconds."""

    state: State | None = None
    key_hash: str | None = None
    since_s: float | None = None
    limit: int = 50


@dataclass(frozen=True)
class Delivered:
    """One delivery and whose it is."""

    pipeline: str
    target: str
    recorded: Recorded

    def to_dict(self) -> dict[str, Any]:
        return {"pipeline": self.pipeline, "target": self.target, **msgspec.to_builtins(self.recorded)}


def deliveries(settings: Settings, pipelines: Sequence[Pipeline], wanted: Wanted) -> list[Delivered]:
    """The newest first. Raises `Transient`, `Terminal`, and `Usage` when no pipeline goes to a REST target."""
    found = [
        Delivered(pipeline.name, pipeline.target, recorded)
        for pipeline in _to_rest(settings, pipelines)
        for recorded in _ask(settings, pipeline, wanted)
    ]
    return sorted(found, key=lambda each: each.recorded.sent_at, reverse=True)[: wanted.limit]


def delivery(settings: Settings, pipelines: Sequence[Pipeline], idempotency_key: str) -> Delivered:
    """The delivery with this idempotency key. Raises `Usage` when there is none."""
    for pipeline in _to_rest(settings, pipelines):
        with opened_ledger(settings.state(pipeline.target), owner_of(pipeline)) as ledger:
            recorded = ledger.one(idempotency_key)
        if recorded is not None:
            return Delivered(pipeline.name, pipeline.target, recorded)
    raise Usage(f"no delivery has the idempotency key {idempotency_key}", hint="cdc deliveries list")


def _ask(settings: Settings, pipeline: Pipeline, wanted: Wanted) -> list[Recorded]:
    with opened_ledger(settings.state(pipeline.target), owner_of(pipeline)) as ledger:
        return ledger.recorded(**asdict(wanted))


def _to_rest(settings: Settings, pipelines: Sequence[Pipeline]) -> list[Pipeline]:
    found = [pipeline for pipeline in pipelines if pipeline.target in settings.rest_targets]
    if not found:
        known = ", ".join(settings.rest_targets) or "none is in connections.yaml"
        raise Usage("none of these pipelines writes to a REST target", hint=f"REST targets: {known}")
    return found
