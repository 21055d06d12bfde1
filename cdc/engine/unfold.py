"""Batches taken apart again: when something of a round cannot be written as it was put together."""

from __future__ import annotations

from collections.abc import Sequence

from cdc.errors import Poison
from cdc.model import MappedRow, Position, TopicPartition, Write
from cdc.target.base import PoisonRow


def unfolded(writes: Sequence[Write]) -> list[list[Write]]:
    """Chains taken apart again: round n holds the n-th row of every chain."""
    rounds: list[list[Write]] = []
    for write in writes:
        for number, row in enumerate(write.rows):
            if number == len(rounds):
                rounds.append([])
            rounds[number].append(Write(row, row.position))
    return rounds


def committed_order(writes: Sequence[Write]) -> list[MappedRow]:
    """The rows of the writes in the order of their commits, and never against the order of their topic."""
    newest: dict[TopicPartition, Position] = {}
    clocked: list[tuple[Position, MappedRow]] = []
    rows = [row for write in writes for row in write.rows]
    for row in sorted(rows, key=lambda row: (row.record.topic, row.record.partition, row.record.offset)):
        partition = TopicPartition(row.record.topic, row.record.partition)
        newest[partition] = max(newest.get(partition, row.position), row.position)
        clocked.append((newest[partition], row))
    return [row for _, row in sorted(clocked, key=lambda pair: pair[0])]


def halves(indexes: list[int], poison: Poison) -> list[list[int]]:
    """What to try next: the named bad row alone and the others, or two halves."""
    bad = poison.index if isinstance(poison, PoisonRow) else None
    if bad is not None:
        return [[indexes[bad]], indexes[:bad] + indexes[bad + 1 :]]
    middle = len(indexes) // 2
    return [indexes[middle:], indexes[:middle]]
