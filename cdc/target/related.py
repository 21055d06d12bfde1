"""What of a round must wait for other rows, and what makes way within it: pure, the same for every target.

A target asks its database which rows lack something (by a few statements for all of them), and this says what follows.
Rows are numbers of writes. An edge (row, other) says that the row can only be written when the other one is; (row,
None) that nothing in this round helps it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from cdc.model import Decision, Outcome, Position, Write
from cdc.target.base import ForeignKey

Edge = tuple[int, int | None]
Text = tuple[Any, ...]

FOREIGN_KEY_REFERENCED = Decision(Outcome.PARKED, "foreign_key_referenced", "other rows still refer to it")


def without_parent(key: ForeignKey) -> Decision:
    """What is decided on a row that this foreign key keeps out."""
    what = f"its parent in {key.parent} is not there yet ({', '.join(key.columns)})"
    return Decision(Outcome.PARKED, "foreign_key_missing", what)


def value_taken(columns: Sequence[str]) -> Decision:
    """What is decided on a row that this unique key keeps out."""
    return Decision(Outcome.PARKED, "unique_violation", f"another row holds its unique {', '.join(columns)}")


def blocked(edges: Iterable[Edge]) -> set[int]:
    """The rows that must wait: those that nothing helps, and those that need one of them. Circles need nobody."""
    needed_by: dict[int, list[int]] = defaultdict(list)
    found: set[int] = set()
    todo: list[int] = []
    for row, other in edges:
        if other is None:
            todo.append(row)
        else:
            needed_by[other].append(row)
    while todo:
        row = todo.pop()
        if row not in found:
            found.add(row)
            todo += needed_by[row]
    return found


def unique_edges(
    held: Iterable[tuple[int, Text]],
    leaving: Mapping[Text, int],
    doubles: Iterable[Sequence[int]],
    rank: Callable[[int], Any],
) -> list[Edge]:
    """Of one unique key: `held` says which rows want a value that another row has now, with that row's key; `leaving`
    which rows of the round give up the value they have, by key; `doubles` which rows want one and the same value: the
    one that has it already, or else the first by `rank`, may have it."""
    edges: list[Edge] = [(row, leaving.get(key)) for row, key in held]
    wanting = {row for row, _ in edges}
    for same in doubles:
        _, *others = sorted(same, key=lambda row: (row in wanting, rank(row)))
        edges += [(row, None) for row in others]
    return edges


def arrival(writes: Sequence[Write]) -> Callable[[int], tuple[Position, int]]:
    """Which write came first: by position, then by offset."""

    def rank(number: int) -> tuple[Position, int]:
        row = writes[number].row
        return row.position, row.record.offset

    return rank
