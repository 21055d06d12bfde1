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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from cdc.control.operate import KAFKA_ANSWERS_WITHIN_S, opened, partitions_of, topics, topics_of
from cdc.engine.build import kafka_connection
from cdc.errors import Terminal, Usage
from cdc.mapping.model import Pipeline
from cdc.model import TopicPartition
from cdc.settings import Settings
from cdc.source.times import offsets_at
from cdc.target.operator import Move, PartitionState

UNDO_FOLDER = Path(".cdc/undo")

Scenario = Literal["earliest", "latest", "offset", "shift", "datetime", "file"]


@dataclass(frozen=True)
class Place:
    """A line of an undo file: where a partition stood. `offset` None: nothing had been applied."""

    offset: int | None
    tracker: str | None = None


@dataclass(frozen=True)
class Request:
    """Where to, and which partitions. `number`: of 'offset' and 'shift'; `at`: of 'datetime', with its time zone;
    `places`: of 'file'. `scope`: partitions by topic, None for all of a topic; empty: everything."""

    scenario: Scenario
    number: int = 0
    at: datetime | None = None
    places: Mapping[TopicPartition, Place] = field(default_factory=dict)
    scope: Mapping[str, frozenset[int] | None] = field(default_factory=dict)

    def covers(self, partition: TopicPartition) -> bool:
        if self.scenario == "file" and partition not in self.places:
            return False
        if not self.scope:
            return True
        numbers = self.scope.get(partition.topic, frozenset())
        return numbers is None or partition.partition in numbers


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
    back, once written."""

    pipeline: str
    steps: tuple[Step, ...]
    at: str = ""
    undo: str = ""
    executed: bool = False

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


# -- the request


def request_of(
    *,
    to_earliest: bool = False,
    to_latest: bool = False,
    to_offset: int | None = None,
    shift_by: int | None = None,
    to_datetime: str | None = None,
    from_file: Path | None = None,
    topic: Sequence[str] = (),
) -> Request:
    """From a command line's words. Raises `Usage` unless exactly one place is given, and for what cannot be read."""
    given: list[tuple[Scenario, bool]] = [
        ("earliest", to_earliest),
        ("latest", to_latest),
        ("offset", to_offset is not None),
        ("shift", shift_by is not None),
        ("datetime", to_datetime is not None),
        ("file", from_file is not None),
    ]
    chosen = [scenario for scenario, is_given in given if is_given]
    if len(chosen) != 1:
        places = "--to-earliest, --to-latest, --to-offset, --shift-by, --to-datetime, --from-file"
        raise Usage(f"{'several places' if chosen else 'no place'} to go to", hint=f"give exactly one of {places}")
    if to_offset is not None and to_offset < 0:
        raise Usage(f"--to-offset {to_offset}: offsets begin at 0")
    if shift_by == 0:
        raise Usage("--shift-by 0 moves nothing")
    return Request(
        chosen[0],
        number=to_offset if to_offset is not None else shift_by or 0,
        at=None if to_datetime is None else read_time(to_datetime),
        places={} if from_file is None else read_undo(from_file),
        scope=_scope(topic),
    )


def read_time(text: str) -> datetime:
    """An ISO 8601 date and time; without a zone it is UTC. Raises `Usage`."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise Usage(f"--to-datetime {text!r} is no time", hint="2026-11-23T09:58:02Z, or with +01:00") from error
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def _scope(topics: Sequence[str]) -> dict[str, frozenset[int] | None]:
    """'topic' or 'topic:0,2', each topic once."""
    scope: dict[str, frozenset[int] | None] = {}
    for text in topics:
        topic, colon, numbers = text.partition(":")
        if topic in scope:
            raise Usage(f"--topic {topic} is given twice", hint=f"--topic {topic}:0,2")
        try:
            scope[topic] = frozenset(int(number) for number in numbers.split(",")) if colon else None
        except ValueError as error:
            raise Usage(f"--topic {text!r}: partitions are numbers", hint=f"--topic {topic}:0,2") from error
    return scope


def _check_scope(request: Request, pipeline: Pipeline, facts: TopicFacts) -> None:
    known = topics_of(pipeline)
    for topic in {*request.scope, *(partition.topic for partition in request.places)}:
        if topic not in known:
            raise Usage(f"pipeline {pipeline.name} reads no topic {topic}", hint=f"it reads {', '.join(known)}")
    for topic, numbers in request.scope.items():
        for number in sorted(numbers or ()):
            if TopicPartition(topic, number) not in facts.ends:
                raise Usage(f"topic {topic} has no partition {number}")


# -- asking and doing


def rehearse(settings: Settings, pipeline: Pipeline, request: Request) -> Rewind:
    """The plan as of now; changes nothing. Raises `Usage` for topics that the pipeline does not read, `Transient`."""
    facts = _facts(settings, pipeline, request)
    with opened(settings, pipeline) as operator:
        return plan(pipeline.name, request, operator.partitions(), facts)


def rewind(
    settings: Settings,
    pipeline: Pipeline,
    request: Request,
    *,
    undo_folder: Path = UNDO_FOLDER,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Rewind:
    """Plan again under the watermarks' locks, write the undo file, move all of them in one statement.

    Raises `Terminal` when any partition is refused: then nothing moves.
    """
    facts = _facts(settings, pipeline, request)
    done: list[Rewind] = []

    def choose(states: Sequence[PartitionState]) -> list[Move]:
        planned = plan(pipeline.name, request, states, facts)
        if planned.refused:
            raise refusal(planned)
        undo = ""
        if planned.moving:
            undo = str(_write_undo(undo_folder, f"{pipeline.name}-{now():%Y%m%dT%H%M%S%f}.csv", planned, states))
        done.append(Rewind(planned.pipeline, planned.steps, planned.at, undo, executed=bool(planned.moving)))
        return [_move(request, step, facts) for step in planned.moving]

    with opened(settings, pipeline) as operator:
        operator.rewind(choose)
    return done[0]


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


def read_undo(path: Path) -> dict[TopicPartition, Place]:
    """The places in an undo file, or in one that a person wrote: the tracker may be left out (it stays as it is).
    Raises `Usage` with the line."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            lines = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise Usage(f"cannot read the file: {type(error).__name__}", where=str(path)) from error
    places: dict[TopicPartition, Place] = {}
    for number, line in enumerate(lines, 1):
        try:
            topic, partition, offset, *tracker = line
            if len(tracker) > 1:
                raise ValueError(line)
            place = Place(int(offset) if offset else None, tracker[0] if tracker else None)
            places[TopicPartition(topic, int(partition))] = place
        except ValueError as error:
            hint = "a line is topic,partition,offset"
            raise Usage("this line names no place", where=f"{path}:{number}", hint=hint) from error
    if not places:
        raise Usage("the file names no place", where=str(path))
    return places
