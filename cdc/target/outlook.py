"""What writing a table would mean for the target as it is: asked before a mapping is rolled out; changes nothing."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class Outlook(msgspec.Struct, frozen=True):
    """Of one target table.

    `there`: it exists, with these `columns` and their types; `rows`: how many it has, None where that was not asked
    for or cannot be. `statements`: what `prepare` would run. `retyping`: by column, the statement with which the
    table's owner gives it the type that the mapping wants. `refused`: why `prepare` would refuse the table, and what
    helps; '': it would not.
    """

    there: bool = False
    columns: Mapping[str, str] = {}
    rows: int | None = None
    statements: tuple[str, ...] = ()
    retyping: Mapping[str, str] = {}
    refused: str = ""


UNKNOWN = Outlook()
"""Of a target that makes no tables and shows none (a REST API)."""
