"""What all worlds share: a transaction as data, the choice of hot rows, the calendar."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

T = TypeVar("T")

BEGINNING = datetime(2026, 1, 5, 8, 0, 0)
"""When the calendar of a fresh world starts. It never follows the real clock: the same seed gives the same rows."""

Operation = Literal["insert", "update", "delete", "key change"]


class Statement(NamedTuple):
    """One SQL statement with `%s` places. It may touch several rows, or none."""

    table: str
    operation: Operation
    sql: str
    values: tuple[Any, ...]


@dataclass(frozen=True)
class Transaction:
    """Statements that belong together. `kind`: a short name for reports. `rollback`: run, then taken back."""

    kind: str
    statements: tuple[Statement, ...]
    rollback: bool = False


class World(Protocol):
    """An endless sequence of transactions; each call moves the world on. Never ends, never fails."""

    def next(self) -> Transaction: ...


class Calendar:
    """Time that goes on by a few seconds with every look, from where the world stopped last."""

    def __init__(self, chance: Random, now: datetime | None) -> None:
        self._chance = chance
        self._now = now or BEGINNING

    def now(self) -> datetime:
        self._now += timedelta(microseconds=self._chance.randrange(1, 5_000_000))
        return self._now


def hot(chance: Random, rows: Sequence[T]) -> T:
    """One of `rows`, the first ones far more often: Zipf's law with exponent 1."""
    return rows[min(len(rows), int((len(rows) + 1) ** chance.random())) - 1]


def remove(rows: list[T], row: T) -> None:
    """Take `row` out; the last one takes its place, so nothing is shifted."""
    index = rows.index(row)
    rows[index] = rows[-1]
    rows.pop()


def pick(chance: Random, weighted: Sequence[tuple[int, Callable[[], T]]]) -> T:
    """Call one of the functions, chosen by weight."""
    weights = [weight for weight, _ in weighted]
    return chance.choices([call for _, call in weighted], weights)[0]()
