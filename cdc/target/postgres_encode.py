"""Plain writes as COPY text, made ahead of the transaction: no connection is needed, so the server can work on the
batch before meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from cdc.blocks import Writes
from cdc.errors import Poison
from cdc.model import Position, Rules, TargetColumn
from cdc.target.lines import Block, portions
from cdc.target.postgres_lines import copy_block_builder
from cdc.target.postgres_ruled_statements import CREATED, UNKNOWN
from cdc.target.postgres_statements import DELETE


class Encoded(NamedTuple):
    """Portions of text: upserts as `columns, position` (also the lines of the table itself), deletes as
    `key, position, op`; both followed by `kind, n` where they are for the staging table of a table with rules
    (`ruled`). Only for a table with these columns as it is found."""

    columns: tuple[TargetColumn, ...]
    upserts: list[bytes]
    deletes: list[bytes]
    ruled: bool = False


class Encoder:
    """For one thread at a time; knows the columns it was asked for."""

    def __init__(self) -> None:
        self._lines: dict[tuple[TargetColumn, ...], tuple[Block, Block]] = {}

    def encode(
        self, columns: tuple[TargetColumn, ...], key_indexes: Sequence[int], writes: Writes, rules: Rules | None = None
    ) -> Encoded | None:
        """None when some value does not fit its column: then the rows must be looked at one by one. `rules`: for the
        staging table of a table that has them."""
        lines = self._lines.get(columns)
        if lines is None:
            keys = [columns[index] for index in key_indexes]
            lines = self._lines[columns] = (copy_block_builder(columns), copy_block_builder(keys))
        number = writes.upserts
        upserts, deletes = _ends(writes.positions[:number], "\n"), _ends(writes.positions[number:], f"\t{DELETE}\n")
        if rules is not None:
            upserts = _numbered(upserts, [CREATED if created else 0 for created in writes.created()], 0)
            unknown = UNKNOWN if rules.version is not None else 0
            deletes = _numbered(deletes, [unknown] * len(deletes), number)
        try:
            return Encoded(
                columns,
                [text.encode() for text in portions(lines[0], writes.values, upserts)],
                [text.encode() for text in portions(lines[1], writes.keys[number:], deletes)],
                rules is not None,
            )
        except (Poison, UnicodeEncodeError):
            return None


def _ends(positions: Sequence[Position], end: str) -> list[str]:
    last, text, ends = None, "", []
    for position in positions:
        if position is not last:  # rows of a snapshot or of one page share their position
            last, text = position, f"\\\\x{position.pack().hex()}{end}"
        ends.append(text)
    return ends


def _numbered(ends: Sequence[str], kinds: Sequence[int], first: int) -> list[str]:
    return [f"{end[:-1]}\t{kind}\t{n}\n" for n, (end, kind) in enumerate(zip(ends, kinds, strict=True), first)]
