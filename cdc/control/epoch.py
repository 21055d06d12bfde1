"""Epochs of sources: which incarnation of a source the stored positions belong to, and beginning the next one.

A restored or re-created source, or a promoted standby that lost its last changes, may give positions that were used
before: only a person can say that what comes now is newer than all there is. `begin` says it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cdc.control.operate import is_running, opened
from cdc.engine.build import ask_identity
from cdc.engine.epochs import Identity, next_epoch
from cdc.errors import CdcError, Terminal, Usage
from cdc.mapping.model import Pipeline
from cdc.settings import Settings
from cdc.source.positions import restore
from cdc.target.base import Epoch
from cdc.target.operator import Operator


@dataclass(frozen=True)
class EpochStatus:
    """A source as one pipeline knows it. `number` 0: the pipeline never ran. `now`: what the source calls itself, ''
    when it could not be asked; `problem`: what is wrong, '' when the stored positions are the source's."""

    pipeline: str
    source: str
    number: int
    stored: str
    now: str
    problem: str
    running: bool

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class NewEpoch:
    """Pipelines in which a source's next epoch begins (or would). `doubts`: what speaks against it."""

    source: str
    identity: str
    numbers: dict[str, int]  # the next epoch by pipeline
    doubts: tuple[str, ...]
    executed: bool = False

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


Ask = Callable[[Settings, str], Identity]


def epochs(settings: Settings, pipelines: Sequence[Pipeline], ask: Ask = ask_identity) -> list[EpochStatus]:
    """Every source of every pipeline, stored and now. A source that does not answer is a problem of its line."""
    answers: dict[str, Identity | CdcError] = {}
    found = []
    for pipeline in pipelines:
        with opened(settings, pipeline) as operator:
            for source in sources_of(pipeline):
                if source not in answers:
                    answers[source] = _asked(settings, source, ask)
                found.append(_status(settings, pipeline, source, operator, answers[source]))
    return found


def sources_of(pipeline: Pipeline) -> list[str]:
    return sorted({table.source_name for table in pipeline.tables})


def plan(settings: Settings, pipelines: Sequence[Pipeline], source: str, ask: Ask = ask_identity) -> NewEpoch:
    """What `begin` would do, for all of `pipelines` that read the source and ran before.

    Raises `Usage` for a source that none of them reads, `Transient` when it can't be asked, `Terminal` while one of
    them runs: its workers stamp what they read with the old epoch.
    """
    readers = [pipeline for pipeline in pipelines if source in sources_of(pipeline)]
    if not readers:
        known = sorted({name for pipeline in pipelines for name in sources_of(pipeline)})
        raise Usage(f"no pipeline reads a source {source}", hint=f"they read {', '.join(known)}")
    answer = ask(settings, source)
    found = epochs(settings, readers, lambda settings, name: answer)
    running = [each.pipeline for each in found if each.source == source and each.running]
    if running:
        raise Terminal(
            f"pipeline {', '.join(running)} is running: it stamps what it reads with the old epoch",
            where=f"source {source}",
            hint="stop it, begin the epoch, start it again",
        )
    mine = [each for each in found if each.source == source and each.number > 0]
    doubts = tuple(
        f"pipeline {each.pipeline}: the source is the incarnation that the stored positions are of"
        for each in mine
        if not each.problem
    )
    return NewEpoch(source, identity_text(answer), {each.pipeline: each.number + 1 for each in mine}, doubts)


def begin(settings: Settings, pipelines: Sequence[Pipeline], source: str, ask: Ask = ask_identity) -> NewEpoch:
    """Begin the source's next epoch in all pipelines that read it: what comes from now on is newer than all there is.

    Raises as `plan` does.
    """
    planned = plan(settings, pipelines, source, ask)
    answer = ask(settings, source)
    for pipeline in pipelines:
        if pipeline.label not in planned.numbers:
            continue
        with opened(settings, pipeline) as operator:
            (stored,) = (each for each in operator.epochs() if each.source == source)
            operator.begin_epoch(next_epoch(stored, answer))
    return NewEpoch(source, identity_text(answer), planned.numbers, planned.doubts, executed=True)


def identity_text(answer: Identity) -> str:
    """As epochs store it."""
    return next_epoch(Epoch("", 0, ""), answer).identity


def _asked(settings: Settings, source: str, ask: Ask) -> Identity | CdcError:
    try:
        return ask(settings, source)
    except CdcError as error:
        return error


def _status(
    settings: Settings, pipeline: Pipeline, source: str, operator: Operator, answer: Identity | CdcError
) -> EpochStatus:
    stored = next((each for each in operator.epochs() if each.source == source), Epoch(source, 0, ""))
    now, problem = "", ""
    if isinstance(answer, CdcError):
        problem = f"not reached: {answer.what}"
    else:
        now = identity_text(answer)
        problem = _difference(settings, pipeline, operator, stored, answer) if stored.number else ""
    return EpochStatus(pipeline.label, source, stored.number, stored.identity, now, problem, is_running(operator))


def _difference(settings: Settings, pipeline: Pipeline, operator: Operator, stored: Epoch, answer: Identity) -> str:
    if identity_text(answer) != stored.identity:
        return "another incarnation than the stored positions are of"
    kind = settings.source(stored.source).kind
    topics = {
        f"{table.source_name}.{table.from_.namespace}.{table.from_.name}"
        for table in pipeline.tables
        if table.source_name == stored.source
    }
    reached = max(
        (
            restore(kind, stored.number, state.tracker).reached
            for state in operator.partitions()
            if state.partition.topic in topics and state.tracker
        ),
        default=(0, 0),
    )
    if tuple(answer.position) < reached:
        return f"its log ends at {tuple(answer.position)}, before {reached} which was already read from it"
    return ""
