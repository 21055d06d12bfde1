"""Where a target keeps contributions: what several sources said about each row (the words are `cdc.conflict`'s).

To a store they are documents, opaque bytes by the text of the target row's key, under the mapping of the target table.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from cdc.target.base import Advance, Target, Transaction


class ContributionStore(Protocol):
    """Part of an open transaction; fails as a target does."""

    def take(self, mapping: str, keys: Iterable[str]) -> dict[str, bytes]:
        """The documents of these keys, b'' where there is none yet. No other worker can take one of them before this
        transaction ends, whether there was a document or not; none can run `portion` either."""

    def keep(self, mapping: str, documents: Mapping[str, bytes], memories: Mapping[str, int]) -> None:
        """Replace documents that were taken; an empty one goes. `memories`: of those that hold words which were
        withdrawn, since when (seconds since 1970, the oldest)."""

    def forgettable(self, mapping: str, before_s: int, limit: int) -> dict[str, bytes]:
        """Documents with memories from before then, and from before the oldest parked record; taken, but not those that
        others hold."""

    def portion(self, mapping: str, after: str, limit: int) -> dict[str, bytes]:
        """Documents in the order of their keys, behind the key `after` ('': from the first). All of the table's are
        taken by the first call: others wait."""

    def floors(self, mapping: str) -> dict[str, bytes]:
        """By contributor: the packed position of the newest truncate of its table."""

    def raise_floor(self, mapping: str, contributor: str, position: bytes) -> None: ...


class ShapeStore(Protocol):
    """Part of a target, outside transactions: what the values of contributions are, numbered once and for all workers.
    A shape is a text."""

    def number(self, mapping: str, shape: str) -> int:
        """The number of this shape, a new one when nobody has met it."""

    def all(self, mapping: str) -> dict[int, str]: ...


class ContributingTransaction(Transaction, Protocol):
    @property
    def contributions(self) -> ContributionStore: ...


class ContributingTarget(Target, Protocol):
    """A `Target` that can keep contributions; its `Capabilities` say so."""

    @property
    def shapes(self) -> ShapeStore: ...

    def begin(self, moves: Sequence[Advance] = ()) -> AbstractContextManager[ContributingTransaction]: ...
