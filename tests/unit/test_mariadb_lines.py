"""Plain writes as LOAD DATA's text, a block at a time: the same fields as row by row, whatever the values hold."""

from __future__ import annotations

import msgspec
import pytest

from cdc.blocks import RowBlock, Writes, folded
from cdc.model import ColumnType, Kind, TargetColumn, TargetTable, Value
from cdc.target.lines import PORTION
from cdc.target.mariadb_lines import Lines
from cdc.target.mariadb_types import Stored, encode_line, literal
from tests.blocks import in_blocks
from tests.tapes import Tape

COLUMNS = (
    TargetColumn("id", ColumnType(Kind.TEXT, "text")),
    TargetColumn("name", ColumnType(Kind.TEXT, "text")),
    TargetColumn("data", ColumnType(Kind.BYTES, "bytea")),
    TargetColumn("day", ColumnType(Kind.DATE, "date")),
)
TABLE = TargetTable("lines/t", "d", "t", COLUMNS, ("id",))
STORED = {"id": "longtext", "name": "longtext", "data": "longblob", "day": "date"}
STRANGE = ["a\tb", "a\nb", "a\\b", "\\N", "\r\x00", "\\", "é𝔘"]


def stored(name: str) -> Stored:
    return Stored(name, STORED[name], STORED[name], None, None, None, None, "utf8mb4", None, True, False)


@pytest.fixture
def lines() -> Lines:
    return Lines(TABLE, [literal(column, stored(column.name), "t") for column in COLUMNS])


def writes_of(*images: tuple[Value, ...], deleted: tuple[str, ...] = ()) -> Writes:
    tape = Tape()
    rows = [
        msgspec.structs.replace(tape.full(number, "a", "x", (1, number)), key=image[:1], values=image)
        for number, image in enumerate(images)
    ]
    rows += [
        msgspec.structs.replace(tape.full(0, "a", "x", (2, number)), key=(key,), values=None)
        for number, key in enumerate(deleted)
    ]
    writes = folded(TABLE, [block for block in in_blocks(rows) if isinstance(block, RowBlock)])
    assert writes is not None
    return writes


def text_of(lines: Lines, writes: Writes) -> tuple[bytes, bytes]:
    encoded = lines.encode(writes)
    assert encoded is not None
    assert encoded.by is lines
    return b"".join(encoded.upserts), b"".join(encoded.deletes)


def test_plain_rows(lines: Lines) -> None:
    writes = writes_of(("a", None, b"\x01\xff", 0), ("b", "x", None, None), deleted=("c",))
    at = [position.pack().hex().encode() for position in writes.positions]
    upserts, deletes = text_of(lines, writes)
    assert upserts == b"a\t\\N\t\x01\xff\t1970-01-01\t%b\t0\nb\tx\t\\N\t\\N\t%b\t1\n" % (at[0], at[1])
    assert deletes == b"c\t%b\t2\n" % at[2]


@pytest.mark.parametrize("text", STRANGE)
def test_one_strange_value_among_many(lines: Lines, text: str) -> None:
    """In a text, in bytes, in a key, in the key of a delete; in the second portion of a block."""
    images: list[tuple[Value, ...]] = [(f"k{number}", "plain", b"plain", number) for number in range(PORTION + 3)]
    images[1] = ("k1", text, None, None)
    images[PORTION + 1] = (f"{text}k", None, text.encode(), 0)
    writes = writes_of(*images, deleted=("plain", f"{text}d"))
    upserts, deletes = text_of(lines, writes)
    ends = [b"\t%b\t%d\n" % (position.pack().hex().encode(), n) for n, position in enumerate(writes.positions)]
    assert upserts == b"".join(
        encode_line(lines.row(image)[0]) + end for image, end in zip(images, ends[: len(images)], strict=True)
    )
    fields = [encode_line(lines.row((key, None, None, None))[0]).partition(b"\t")[0] for key in ("plain", f"{text}d")]
    assert deletes == b"".join(field + end for field, end in zip(fields, ends[len(images) :], strict=True))


@pytest.mark.parametrize("image", [("a", "x", None, 2932897), ("a", "\ud800", None, None)])
def test_a_value_that_does_not_fit_leaves_all_to_the_general_way(lines: Lines, image: tuple[Value, ...]) -> None:
    assert lines.encode(writes_of(("b", "x", None, None), image)) is None
