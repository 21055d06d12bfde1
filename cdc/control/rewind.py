"""Move a pipeline's watermarks on purpose: back, to apply changes again, or forward, to leave some out.

A plan is a pure function of a request, the stored watermarks and what Kafka says of the topics. It is computed once to
be shown, and again under the watermarks' locks when it is executed, so that the undo file holds exactly what was
replaced. Workers may run: their fences rise, so nothing of the old positions can be committed any more.

The position trackers stay when going back: they know the commit parts of transactions that cannot be computed again
(see cdc/source/positions.py). A move forward leaves out changes that the tracker then never sees; taking that back must
bring back the tracker of that time too, or such a transaction met for the first time would pass for newer than it is.
So the undo file holds trackers, and `--from-file` restores them.
"""

from __future__ import annotations

import csv
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cdc.control.operate import KAFKA_ANSWERS_WITHIN_S, is_running, opened, partitions_of, topics, topics_of
from cdc.control.rewind_request import Request
from cdc.engine.build import kafka_connection
from cdc.errors import Terminal, Usage
from cdc.mapping.model import Pipeline
from cdc.model import TopicPartition
from cdc.settings import Settings
from cdc.source.times import offsets_at
from cdc.target.operator import Move, Operator, PartitionState

UNDO_FOLDER = Path(".cdc/undo")
NOTICE_S = 5.0
"""How long a rewind watches whether the running workers notice."""
POLL_S = 0.1


@dataclass(frozen=True)
class Step:
    """One partition's way. `after` None: the topic's beginning. `replayed`: records that come again; `left_out`:
    records that never will. `refused`: why it cannot go there; `note`: what else there is to know."""

    topic: str
    partition: int
    before: int | None
    after: int | None
    moves: bool = False
    replayed: int = 0
    left_out: int = 0
    note: str = ""
    refused: str = ""


@dataclass(frozen=True)
class Rewind:
    """A plan, or what was done (`executed`). `at`: the time that was asked for, in UTC. `undo`: the file that takes it
    back, once written. `noticed`: whether the running workers took the partitions anew; None: none was running."""

    pipeline: str
    steps: tuple[Step, ...]
    at: str = ""
    undo: str = ""
    executed: bool = False
    noticed: bool | None = None

    @property
    def refused(self) -> tuple[Step, ...]:
        return tuple(step for step in self.steps if step.refused)

    @property
    def moving(self) -> tuple[Step, ...]:
        return tuple(step for step in self.steps if step.moves)

    @property
    def replayed(self) -> int:
        return sum(step.replayed for step in self.moving)

    @property
    def left_out(self) -> int:
        return sum(step.left_out for step in self.moving)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"replayed": self.replayed, "left_out": self.left_out, "refused": bool(self.refused)}


@dataclass(frozen=True)
class TopicFacts:
    """What Kafka says. `at`: offsets by time, for a request by time."""

    starts: Mapping[TopicPartition, int]
    ends: Mapping[TopicPartition, int]
    ids: Mapping[str, str]
    at: Mapping[TopicPartition, int | None] = field(default_factory=dict)


# -- the plan


def plan(pipeline: str, request: Request, states: Sequence[PartitionState], facts: TopicFacts) -> Rewind:
    """Every covered partition's step, refusals included. Pure."""
    stored = {state.partition: state for state in states}
    covered = sorted(part for part in {*facts.ends, *stored, *request.places} if request.covers(part))
    at = "" if request.at is None else request.at.astimezone(UTC).isoformat(timespec="milliseconds")
    return Rewind(pipeline, tuple(_step(request, part, stored.get(part), facts) for part in covered), at)


def _step(request: Request, partition: TopicPartition, state: PartitionState | None, facts: TopicFacts) -> Step:
    before = None if state is None else state.next
    stays = Step(*partition, before, before)
    if partition not in facts.ends:
        return _refuse(stays, "the topic does not have this partition (any more)")
    if state is None:
        if request.scenario in ("earliest", "shift"):
            return _note(stays, "never taken by a worker: it starts at the topic's beginning")
        return _refuse(stays, "never taken by a worker: start the pipeline once, then move it")
    if request.scenario == "shift" and before is None:
        return _note(stays, "nothing was applied yet: there is nothing to shift")
    after, note = _aim(request, partition, before, facts)
    start, end = facts.starts[partition], facts.ends[partition]
    place = start if after is None else after
    why = _out_of_reach(request, place, start, end)
    recreated = before is not None and state.topic_id != facts.ids[partition.topic]
    if recreated and request.scenario not in ("earliest", "latest"):
        why = "the topic was created again: its offsets say nothing; --to-earliest or --to-latest"
    if why:
        return _refuse(stays, why)
    came_from = start if before is None or recreated else before
    if place == came_from and not recreated:
        return _note(stays, "is there already")
    note = "the topic was created again" if recreated else note
    replayed, left_out = max(0, came_from - place), max(0, place - came_from)
    return Step(*partition, before, after, True, replayed, left_out, note)


def _out_of_reach(request: Request, place: int, start: int, end: int) -> str:
    """Why the topic does not hold what was asked for; '' when it does. Never the nearest place that it does hold."""
    if place < 0:
        return f"there is no offset {place}"
    if place < start:
        return f"offsets {place} to {start - 1} are gone: retention passed them (--to-earliest: {start})"
    if place > end:
        return f"offset {place} lies behind the topic's end {end} (--to-latest: {end})"
    if request.scenario == "datetime" and place == start and 0 < start < end:
        return f"records of that time may be gone: the topic begins at offset {start} (--to-earliest takes that)"
    return ""


def _aim(request: Request, partition: TopicPartition, before: int | None, facts: TopicFacts) -> tuple[int | None, str]:
    """The offset that the request means for this partition (None: its beginning), and a note."""
    start, end = facts.starts[partition], facts.ends[partition]
    match request.scenario:
        case "earliest":
            return start, ""
        case "latest":
            return end, ""
        case "offset":
            return request.number, ""
        case "shift":
            return (before or 0) + request.number, ""
        case "file":
            return request.places[partition].offset, ""
        case "datetime":
            found = facts.at.get(partition)
            return (end, "no record at or after that time: the topic's end") if found is None else (found, "")


def _refuse(step: Step, why: str) -> Step:
    return Step(step.topic, step.partition, step.before, step.before, refused=why)


def _note(step: Step, note: str) -> Step:
    return Step(step.topic, step.partition, step.before, step.before, note=note)


# -- asking and doing


def _check_scope(request: Request, pipeline: Pipeline, facts: TopicFacts) -> None:
    known = topics_of(pipeline)
    for topic in {*request.scope, *(partition.topic for partition in request.places)}:
        if topic not in known:
            raise Usage(f"pipeline {pipeline.name} reads no topic {topic}", hint=f"it reads {', '.join(known)}")
    for topic, numbers in request.scope.items():
        for number in sorted(numbers or ()):
            if TopicPartition(topic, number) not in facts.ends:
                raise Usage(f"topic {topic} has no partition {number}")


def rehearse(settings: Settings, pipeline: Pipeline, request: Request) -> Rewind:
    """The plan as of now; changes nothing. Raises `Usage` for topics that the pipeline does not read, `Transient`."""
    facts = _facts(settings, pipeline, request)
    with opened(settings, pipeline) as operator:
        return plan(pipeline.label, request, operator.partitions(), facts)


def rewind(
    settings: Settings,
    pipeline: Pipeline,
    request: Request,
    *,
    undo_folder: Path = UNDO_FOLDER,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    notice_s: float = NOTICE_S,
) -> Rewind:
    """Plan again under the watermarks' locks, write the undo file, move all of them in one statement; then watch up to
    `notice_s` whether running workers notice.

    Raises `Terminal` when any partition is refused: then nothing moves.
    """
    facts = _facts(settings, pipeline, request)
    done: list[Rewind] = []
    fences: dict[TopicPartition, int] = {}

    def choose(states: Sequence[PartitionState]) -> list[Move]:
        planned = plan(pipeline.label, request, states, facts)
        if planned.refused:
            raise refusal(planned)
        undo = ""
        if planned.moving:
            name = f"{pipeline.label.replace(':', '-')}-{now():%Y%m%dT%H%M%S%f}.csv"
            undo = str(_write_undo(undo_folder, name, planned, states))
        done.append(replace(planned, undo=undo, executed=bool(planned.moving)))
        moves = [_move(request, step, facts) for step in planned.moving]
        moved = {move.partition for move in moves}
        fences.update({state.partition: state.fence + 1 for state in states if state.partition in moved})
        return moves

    with opened(settings, pipeline) as operator:
        operator.rewind(choose)
        return replace(done[0], noticed=_noticed(operator, fences, notice_s))


def _noticed(operator: Operator, fences: Mapping[TopicPartition, int], notice_s: float) -> bool | None:
    """Whether somebody took all of these partitions since: their fences rose once more."""
    if not fences or not is_running(operator):
        return None
    pause, end = threading.Event(), time.monotonic() + notice_s
    while True:
        now = {state.partition: state.fence for state in operator.partitions()}
        if all(now[partition] > fence for partition, fence in fences.items()):
            return True
        if time.monotonic() > end:
            return False
        pause.wait(POLL_S)


def refusal(planned: Rewind) -> Terminal:
    first = planned.refused[0]
    return Terminal(
        f"{len(planned.refused)} of {len(planned.steps)} partitions cannot go there: {first.refused}",
        where=f"{first.topic}:{first.partition}",
        hint="nothing was moved; see the rehearsal (without --execute) for all of them",
    )


def _move(request: Request, step: Step, facts: TopicFacts) -> Move:
    partition = TopicPartition(step.topic, step.partition)
    place = request.places.get(partition)
    return Move(partition, facts.ids[step.topic], step.after, place.tracker if place else None)


def _facts(settings: Settings, pipeline: Pipeline, request: Request) -> TopicFacts:
    names = list(topics_of(pipeline))
    with topics(settings, pipeline) as consumer:
        partitions = partitions_of(consumer, names)
        facts = TopicFacts(consumer.starts(partitions), consumer.ends(partitions), consumer.topic_ids(names))
    _check_scope(request, pipeline, facts)
    if request.at is None:
        return facts
    connection, time_ms = kafka_connection(settings.kafka), int(request.at.timestamp() * 1000)
    at = offsets_at(connection, partitions, time_ms, KAFKA_ANSWERS_WITHIN_S)
    return TopicFacts(facts.starts, facts.ends, facts.ids, at)


# -- undo files: topic,partition,offset,tracker without a header; an empty offset is the topic's beginning


def _write_undo(folder: Path, name: str, planned: Rewind, states: Sequence[PartitionState]) -> Path:
    stored = {state.partition: state for state in states}
    path = folder / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8", newline="") as file:
            lines = csv.writer(file)
            for step in planned.moving:
                state = stored[TopicPartition(step.topic, step.partition)]
                lines.writerow((step.topic, step.partition, "" if state.next is None else state.next, state.tracker))
    except OSError as error:
        hint = "nothing was moved; --undo-folder names another place"
        raise Terminal(f"the undo file cannot be written: {error.strerror}", where=str(path), hint=hint) from error
    return path
