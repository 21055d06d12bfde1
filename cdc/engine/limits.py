"""How much may be parked: how many records, how long, what share of those read lately. Beyond it the pipeline stops.

Cheap: a batch only adds to what the worker counts for itself; the target is asked when that passes the limit, when
partitions are taken, and every few seconds (other workers park too, and records get older).

A stopped pipeline can always go on: while a retry is asked for, no limit counts what is there, so a worker that starts
does the retry first; what the limits forbid is to apply more while too much is parked and nobody has done anything.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from cdc.engine.apply import Applied
from cdc.errors import Terminal
from cdc.mapping.model import Parked, Pipeline
from cdc.model import Outcome
from cdc.target.base import Target

_PIECES = 60
"""The window of `max_share` moves in so many steps."""


def exceeded(limits: Parked, records: int, oldest_s: float | None) -> str | None:
    """What is too much about so many parked records, of which the oldest has been there for so long."""
    if records > limits.max:
        return f"{records:,} records are parked, more than the {limits.max:,} this pipeline allows (parked.max)"
    if limits.max_age is not None and oldest_s is not None and oldest_s > limits.max_age:
        return (
            f"a record has been parked for {oldest_s:,.0f} s, longer than the {limits.max_age:,.0f} s"
            " this pipeline allows (parked.max_age)"
        )
    return None


class Share:
    """Which share of the records of the last minutes was parked and still is, as far as this worker did it."""

    def __init__(self, limits: Parked, clock: Callable[[], float]) -> None:
        self._limits = limits
        self._clock = clock
        self._pieces: deque[tuple[float, int, int]] = deque()  # when it began, records, parked ones among them

    def add(self, records: int, parked: int) -> None:
        """`parked` is negative when records are parked no more."""
        now, window = self._clock(), self._limits.share_minutes * 60.0
        if self._pieces and now - self._pieces[-1][0] < window / _PIECES:
            began, before, parked_before = self._pieces.pop()
            self._pieces.append((began, before + records, parked_before + parked))
        else:
            self._pieces.append((now, records, parked))
        while self._pieces and now - self._pieces[0][0] > window:
            self._pieces.popleft()

    def exceeded(self) -> str | None:
        limits = self._limits
        records = sum(piece[1] for piece in self._pieces)
        parked = sum(piece[2] for piece in self._pieces)
        if limits.max_share is None or parked < limits.share_least or parked <= records * limits.max_share:
            return None
        return (
            f"{parked:,} of the {records:,} records of the last {limits.share_minutes} minutes were parked, a greater"
            f" share than the {limits.max_share} this pipeline allows (parked.max_share)"
        )


class ParkedLimits:
    """A pipeline's limits, as one of its workers watches them. `target`: a connection that only this thread uses."""

    def __init__(self, pipeline: Pipeline, target: Target, clock: Callable[[], float]) -> None:
        self._pipeline = pipeline
        self._target = target
        self._share = Share(pipeline.parked, clock)
        self._known = 0  # records that are parked: those there at the last look and what this worker did since

    def wrote(self, applied: Applied) -> None:
        """A commit happened. Raises `Terminal` when it was too much."""
        records = sum(applied.tallies.values())
        parked = applied.number(Outcome.PARKED)
        self._share.add(records, parked)
        self._known += parked
        if parked > 0:
            self._refuse(self._share.exceeded())
        if self._known > self._pipeline.parked.max:
            self.look()

    def look(self) -> None:
        """Ask the target. Raises `Terminal` when too much is parked and no retry is asked for."""
        there = self._target.standing()
        self._known = there.records
        if not there.asked:
            self._refuse(exceeded(self._pipeline.parked, there.records, there.oldest_s))

    def _refuse(self, problem: str | None) -> None:
        if problem is not None:
            raise Terminal(
                problem,
                where=f"pipeline {self._pipeline.label}",
                hint="cdc parked list says why; mend the mapping or the target, then `cdc parked retry` (the next"
                " worker does it before anything else) or `cdc parked discard`, or raise the limit",
            )
