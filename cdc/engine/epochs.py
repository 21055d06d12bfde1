"""Is the source still the one whose positions we stored? Asked at start and whenever positions fall.

A redelivery (Connect was killed) comes from the same log, which still reaches at least as far as we have read. Anything
else (restored from a backup, re-created, a promoted standby that lost its last changes) is a new epoch: its positions
say nothing about ours, so the pipeline stops and a person decides.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec
import structlog

from cdc.errors import Terminal, Transient
from cdc.target.base import Epoch, Target

_log = structlog.get_logger(__name__)

SECONDS_AN_ANSWER_HOLDS = 5.0
"""A redelivery is a run of many falls; one answer serves for all of it that is read within this time."""


class Identity(Protocol):
    """What a source says of itself (see `cdc.db.catalog.SourceIdentity`)."""

    @property
    def identity(self) -> str: ...

    @property
    def timeline(self) -> str: ...

    @property
    def position(self) -> tuple[int, int]: ...


Ask = Callable[[str], Identity]
"""The identity of a source by name, asked now. Raises `Transient` when the source can't be reached."""


class Epochs:
    """The epoch of each source, as stored in the target."""

    def __init__(self, target: Target, ask: Ask, clock: Callable[[], float]) -> None:
        self._target = target
        self._ask = ask
        self._clock = clock
        self._stored: dict[str, Epoch] = {}
        self._asked: dict[str, float] = {}

    def start(self, source: str) -> int:
        """The epoch to stamp positions with. An unreachable source is believed: Kafka may hold all that is needed."""
        self._stored = {epoch.source: epoch for epoch in self._target.epochs()}
        known = self._stored.get(source)
        if known is None:
            known = Epoch(source, 1, self._text(self._ask(source)))
            self._target.begin_epoch(known)
            self._stored[source] = known
        else:
            try:
                self._compare(source, (0, 0))
            except Transient as error:
                _log.warning("source not reachable, its identity was not checked", source=source, error=error.what)
        return known.number

    def check(self, source: str, newest: tuple[int, int]) -> None:
        """Positions of `source` fell below `newest`. Raises `Terminal` unless it is the same log, `Transient` when the
        source can't be asked: nothing may be skipped as stale before it answered."""
        now = self._clock()
        if now - self._asked.get(source, float("-inf")) > SECONDS_AN_ANSWER_HOLDS:
            self._compare(source, newest)
            self._asked[source] = now

    def _compare(self, source: str, newest: tuple[int, int]) -> None:
        answer, stored = self._ask(source), self._stored[source]
        if self._text(answer) != stored.identity:
            why = f"it calls itself {self._text(answer)}, the stored positions are of {stored.identity}"
        elif tuple(answer.position) < newest:
            why = f"its log ends at {tuple(answer.position)}, before {newest} which was already read from it"
        else:
            return
        raise Terminal(
            f"source {source} is another incarnation than the one in the target: {why}",
            hint=f"find out what was restored; then `cdc source new-epoch {source} --execute --reason …` carries on",
        )

    @staticmethod
    def _text(answer: Identity) -> str:
        return f"{answer.identity}/{answer.timeline}"


def next_epoch(epoch: Epoch, answer: Identity) -> Epoch:
    """The epoch after `epoch`, for the source as it is now."""
    return msgspec.structs.replace(epoch, number=epoch.number + 1, identity=f"{answer.identity}/{answer.timeline}")
