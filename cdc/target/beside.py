"""Rows that a mapping makes, beside those that the target has under their keys: looked at for a person."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from cdc.model import Value
from cdc.target.rows import Cells


class Pair(msgspec.Struct, frozen=True):
    """`wanted` as the target would hold it; `there`: what it holds, None: no such row. Equal cells, equal values."""

    wanted: Cells
    there: Cells | None


class Beside(Protocol):
    """Over one connection, for one table. Writes nothing."""

    def pairs(self, rows: Sequence[Sequence[Value]]) -> list[Pair]:
        """One for each of these rows (all columns of the table, NULL for UNAVAILABLE), in one query. Raises `Poison`
        when the target cannot hold one of them; `Transient`, `Terminal`."""

    def close(self) -> None: ...
