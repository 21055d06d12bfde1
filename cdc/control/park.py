"""Setting one record aside on purpose, before it is applied: asked for here, done by the owner of its partition.

The request is kept beside the watermarks and raises the partition's fence, so a worker that has read the record already
commits nothing of it, reads the partition again and sets the record aside then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from cdc.control.operate import opened, topics, topics_of, who
from cdc.errors import Usage
from cdc.mapping.model import Pipeline
from cdc.model import TopicPartition
from cdc.settings import Settings
from cdc.target.operator import Operator

Action = Literal["park", "cancel"]


@dataclass(frozen=True)
class Place:
    """A record's place. Reads as TOPIC:PARTITION:OFFSET."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}:{self.partition}:{self.offset}"


@dataclass(frozen=True)
class ParkPlan:
    """What is asked for, or was. `before`: records that are applied before it, None when nothing was applied of the
    partition yet; `ahead`: how many must still be written to the topic until it is there (0: it is). `asked`: somebody
    has asked for it already. `refused`: why it cannot be done."""

    action: Action
    pipeline: str
    topic: str
    partition: int
    offset: int
    mappings: tuple[str, ...]
    before: int | None = None
    ahead: int = 0
    asked: bool = False
    refused: str = ""
    executed: bool = False

    @property
    def place(self) -> Place:
        return Place(self.topic, self.partition, self.offset)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def read_place(text: str) -> Place:
    """TOPIC:PARTITION:OFFSET, as errors and lists show it. Raises `Usage`."""
    topic, *numbers = text.rsplit(":", 2)
    if not topic or len(numbers) != 2 or not all(each.isdecimal() for each in numbers):
        raise Usage(f"{text!r} is no record", hint="TOPIC:PARTITION:OFFSET, as in crm.public.customers:0:4711")
    return Place(topic, int(numbers[0]), int(numbers[1]))


def reader_of(topic: str, pipelines: Sequence[Pipeline]) -> Pipeline:
    """The one of these pipelines that reads a topic. Raises `Usage` when none or several do."""
    found = [each for each in pipelines if topic in topics_of(each)]
    if len(found) == 1:
        return found[0]
    if found:
        labels = " or ".join(each.label for each in found)
        raise Usage(f"several pipelines read {topic}", hint=f"say which: --pipeline {labels}")
    known = ", ".join(sorted({name for each in pipelines for name in topics_of(each)}))
    raise Usage(f"no pipeline reads the topic {topic}", hint=f"they read {known}")


def rehearse(settings: Settings, pipeline: Pipeline, place: Place, action: Action) -> ParkPlan:
    """What would happen. Raises `Usage` for a partition that is not there, `Transient`, `Terminal`."""
    mappings = tuple(table.id for table in topics_of(pipeline)[place.topic])
    plan = ParkPlan(action, pipeline.label, place.topic, place.partition, place.offset, mappings)
    partition = TopicPartition(place.topic, place.partition)
    with topics(settings, pipeline) as consumer:
        count = consumer.partitions([place.topic]).get(place.topic, 0)
        if place.partition >= count:
            raise Usage(f"{place.topic} has no partition {place.partition}", hint=f"it has {count}, from 0 on")
        start, end = consumer.starts([partition])[partition], consumer.ends([partition])[partition]
    with opened(settings, pipeline) as operator:
        asked = any((each.partition, each.offset) == (partition, place.offset) for each in operator.park_requests())
        mark = next((each.next for each in operator.partitions() if each.partition == partition), None)
        plan = replace(plan, asked=asked, ahead=max(0, place.offset - end + 1))
        if action == "cancel":
            return plan if asked else replace(plan, refused=_not_asked(operator, partition, place))
        if mark is not None and place.offset < mark:
            return replace(plan, refused=_applied(operator, partition, place, mark))
    if place.offset < start:
        return replace(plan, refused=f"the topic does not hold it any more: it begins at {start}")
    return plan if mark is None else replace(plan, before=place.offset - mark)


def perform(settings: Settings, pipeline: Pipeline, plan: ParkPlan, reason: str) -> ParkPlan:
    """Do it. What was applied since the rehearsal comes back `refused`."""
    partition = TopicPartition(plan.topic, plan.partition)
    with opened(settings, pipeline) as operator:
        if plan.action == "cancel":
            done = operator.cancel_park(partition, plan.offset)
            return replace(plan, executed=done, refused="" if done else _not_asked(operator, partition, plan.place))
        passed = operator.request_park(partition, plan.offset, who(), reason)
        if passed is not None:
            return replace(plan, refused=_applied(operator, partition, plan.place, passed))
    return replace(plan, executed=True)


def _applied(operator: Operator, partition: TopicPartition, place: Place, watermark: int) -> str:
    for entry in operator.parked():
        if (entry.partition, entry.offset) == (partition, place.offset):
            return f"it is parked already: cdc parked show {entry.id}"
    return (
        f"it has been applied (or skipped): the watermark is {watermark}. What is in the target is put right by a newer"
        " change only"
    )


def _not_asked(operator: Operator, partition: TopicPartition, place: Place) -> str:
    for entry in operator.parked():
        if (entry.partition, entry.offset) == (partition, place.offset):
            return f"it has come and is parked: cdc parked retry {entry.id} applies it"
    return "nobody asked for it to be set aside"
