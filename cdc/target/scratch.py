"""A place of its own in a target: what is tried there touches nobody's tables, and nothing of it is left behind.

PostgreSQL gets schemas of their own (and clears what schema `cdc` remembers of them), MariaDB databases, SQLite another
file. The target itself is opened as always, with the settings that the scratch gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeAlias

from cdc.entries import TargetSettings
from cdc.model import TargetTable

Text: TypeAlias = str | None

PREFIX = "cdc_test_"
"""How names of scratch places begin, so that what a killed process left is known."""


class Scratch(Protocol):
    """Its methods raise `Transient` or `Terminal`."""

    @property
    def settings(self) -> TargetSettings:
        """Of the target to open."""

    def namespace(self, name: str) -> str:
        """The schema or database that stands for this one."""

    def disown(self, table: TargetTable) -> None:
        """Make the rows that are in a prepared table somebody else's."""

    def texts(self, table: TargetTable, columns: Sequence[str]) -> list[tuple[Text, ...]]:
        """All rows, their columns as the database itself writes them."""

    def remove(self) -> None:
        """Leave nothing behind; closes the connection."""
