"""Reading a target's rows back, to compare them with what they should be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, TypeAlias

from cdc.errors import Terminal
from cdc.model import Value
from cdc.target.base import Owner

Cell: TypeAlias = int | float | str | bytes | None
Cells: TypeAlias = tuple[Cell, ...]


class NoTable(Terminal):
    """The target table is not there: its mapping has never run."""


class TargetRows(Protocol):
    """The rows of one target table in comparable form: a row is right when its cells are those that `encode` makes of
    its canonical values. Raises `Transient` or `Terminal`; what is read is not locked and may change at any moment."""

    def encode(self, values: Sequence[Value]) -> Cells:
        """Of all columns, NULL for UNAVAILABLE. Raises `Poison` for a value that the target cannot hold."""

    def all(self) -> Iterator[list[Cells]]:
        """Every row that is not marked as deleted, in pages."""

    def of_keys(self, keys: Sequence[Cells]) -> list[Cells]:
        """Those of the rows that have these keys, a bounded number."""

    def soft_deleted(self) -> int:
        """How many rows are marked as deleted."""

    def holds(self, owner: Owner) -> dict[str, int]:
        """What `Parked.hold` says of this table's parked records, with their number."""

    def close(self) -> None: ...
