"""Where a rewind shall go: from the words of a command line, or from an undo file."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from cdc.errors import Usage
from cdc.model import TopicPartition

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


def read_time(text: str, option: str = "--to-datetime") -> datetime:
    """An ISO 8601 date and time; without a zone it is UTC. Raises `Usage`."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise Usage(f"{option} {text!r} is no time", hint="2026-11-23T09:58:02Z, or with +01:00") from error
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
