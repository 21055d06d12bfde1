"""Rows as lines of LOAD DATA (see lines.py): of plain writes a block at a time and ahead of the transaction, of all
others one by one.

Bytes travel as they are: in a text they stand as surrogates, which `encode_line` turns into the bytes again.

Measured on one core, the 14 columns of tests/bench/mariadb.py, each row with a position of its own: 6.7 µs a row as
staged row by row, 4.5 in blocks (1.1 of them for a timestamp).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any, NamedTuple

from cdc.blocks import Writes
from cdc.errors import Poison
from cdc.model import Position, TargetTable, Value
from cdc.target.lines import PORTION, Field, Format, Text, block_builder, line_builder, portions
from cdc.target.mariadb_types import encode_line, escape, raw

_PACKET = (1 << 20) - 1024
"""Bytes of a packet of a load: below every server's max_allowed_packet."""
_FORMAT = Format(escape)


class Encoded(NamedTuple):
    """Packets of lines: of upserts `columns, position, number`, of deletes `key, position, number`; the position in
    hexadecimal. `by`: who made them: a table that was prepared anew may take other values."""

    upserts: list[bytes]
    deletes: list[bytes]
    by: Lines


class Lines:
    """The lines of one prepared table. `texts`: how its columns take values; None: `str(value)`."""

    def __init__(self, table: TargetTable, texts: Sequence[Text | None]) -> None:
        fields = [Field(column.name, text) for column, text in zip(table.columns, texts, strict=True)]
        self._line = line_builder(fields, _FORMAT)
        self._upserts = block_builder(fields, _FORMAT)
        self._deletes = block_builder([fields[index] for index in table.key_indexes] if fields else [], _FORMAT)

    def row(self, values: Sequence[Value]) -> Sequence[Any]:
        """The line, without its end, as the one field that a `PreparedTable` encodes a row to."""
        return (self._line(values),)

    def encode(self, writes: Writes) -> Encoded | None:
        """None when some value does not fit its column: then the rows must be looked at one by one."""
        number = writes.upserts
        ends = _ends(writes.positions)
        try:
            return Encoded(
                _whole(portions(self._upserts, writes.values, ends[:number])),
                _whole(portions(self._deletes, writes.keys[number:], ends[number:])),
                self,
            )
        except (Poison, UnicodeEncodeError):
            return None


def staged_packets(rows: Iterable[Sequence[Any]]) -> Iterator[bytes]:
    """Rows of the staging table; the last field is a row's line."""
    return _packets(_joined(_staged(rows)))


def move_packets(rows: Iterable[Sequence[Any]]) -> Iterator[bytes]:
    """Staged moves: the place is bytes, all else is a number or needs no escapes."""
    lines = ("\t".join([_packed(field) if isinstance(field, bytes) else str(field) for field in row]) for row in rows)
    return _packets(_joined(f"{line}\n" for line in lines))


def upsert_packets(rows: Iterable[tuple[int, str, Position]]) -> Iterator[bytes]:
    """Numbers, lines and positions, as `Encoded.upserts` has them."""
    return _packets(_joined(f"{line}\t{_hex(position)}\t{number}\n" for number, line, position in rows))


def _staged(rows: Iterable[Sequence[Any]]) -> Iterator[str]:
    for number, op, position, base, mask, text in rows:
        at = _packed(position)
        yield f"{number}\t{op}\t{at}\t{at if base is position else _packed(base)}\t{mask}\t{text}\n"


def _ends(positions: Sequence[Position]) -> list[str]:
    last, text, ends = None, "", []
    for number, position in enumerate(positions):
        if position is not last:  # rows of a snapshot or of one page share their position
            last, text = position, position.pack().hex()
        ends.append(f"{text}\t{number}\n")
    return ends


@lru_cache(maxsize=8)
def _hex(position: Position) -> str:
    return position.pack().hex()


@lru_cache(maxsize=8)
def _packed(position: bytes) -> str:
    """Rows of one page share their position, and a row's base mostly is its position."""
    return escape(raw(position))


def _joined(lines: Iterable[str]) -> Iterator[str]:
    """Portions: the server takes in one while the next is made."""
    lines = iter(lines)
    while portion := "".join(islice(lines, PORTION)):
        yield portion


def _whole(texts: Iterable[str]) -> list[bytes]:
    """Few packets: at each one the sending thread waits until another one, which encodes the next batch, lets it go on
    (Python lets one run at a time)."""
    return list(_packets(["".join(texts)]))


def _packets(texts: Iterable[str]) -> Iterator[bytes]:
    for text in texts:
        portion = encode_line(text)
        for start in range(0, len(portion), _PACKET):
            yield portion[start : start + _PACKET]
