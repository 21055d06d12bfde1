"""Versions of a pipeline's mappings, as a target keeps them: what is deployed, and from which record on it held.

A version is deployed by one transaction that also raises every fence of the pipeline: what a worker made by the version
before cannot be committed any more, so a partition's watermark at that moment is exactly where the new version begins,
for all its rows at once. Workers read their partitions again from there, and look which version is deployed whenever
they take partitions. A rewind under a version moves its beginning back with the watermark.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime

import msgspec

from cdc.model import TopicPartition


class Deployed(msgspec.Struct, frozen=True):
    """A version of one pipeline's mappings for one target: the pipeline file's `text` and its name, who deployed it and
    why. `number`: 1, 2, 3, …; `restores`: the older version whose text it brings back. `at`: set by the store."""

    number: int
    text: str
    file: str
    who: str
    reason: str
    restores: int | None = None
    at: datetime | None = None


class Switch(msgspec.Struct, frozen=True):
    """From which offset on a partition's records are applied by a version; None: from the topic's beginning.
    `tracker`: the position tracker's state then, '' where it is not known."""

    partition: TopicPartition
    number: int
    next: int | None
    tracker: str


def in_force(switches: Iterable[Switch], newest: int) -> dict[TopicPartition, list[Switch]]:
    """By partition, its versions from the oldest on; the first of them has no beginning of its own.

    Every version has a switch in every partition that was known when it was deployed, so the one before a partition's
    first switch is the one that was deployed when the partition was taken. A version whose records were all read again
    under a later one (a rewind) is not among them. `newest`: of a partition without switches.
    """
    found: dict[TopicPartition, list[Switch]] = defaultdict(list)
    for switch in sorted(switches, key=lambda each: (each.partition, each.number)):
        known = found[switch.partition]
        if not known:
            known.append(Switch(switch.partition, max(switch.number - 1, 0), None, ""))
        while len(known) > 1 and _begins(known[-1]) >= _begins(switch):
            known.pop()
        if switch.next is None:
            known.clear()
        known.append(switch)
    return found


def version_at(versions: Sequence[Switch], offset: int) -> int:
    """Which of a partition's versions (see `in_force`) a record was applied by."""
    return max((each for each in versions if _begins(each) <= offset), key=_begins).number


def _begins(switch: Switch) -> int:
    return -1 if switch.next is None else switch.next
