"""Rows as lines of PostgreSQL's COPY text format (see lines.py).

None and UNAVAILABLE become \\N: a caller that stages partial images keeps a mask beside them. A value that its column
cannot hold raises `Poison`.

Measured on one core, 14 columns (4 texts, a json, 2 timestamps, a date, numbers): 3.2 µs a row line by line, 2.1 in
blocks of 500.
"""

from __future__ import annotations

from collections.abc import Sequence

from cdc.model import Kind, TargetColumn
from cdc.target.lines import Block, Field, Format, Line, block_builder, line_builder
from cdc.target.postgres_types import bytes_as_text, escape, literal_of, parse, sql_type

_FORMAT = Format(escape, special="\r\x00")


def copy_line_builder(columns: Sequence[TargetColumn]) -> Line:
    """One function that makes the line (without its end) of a row's canonical values."""
    return line_builder(_fields(columns), _FORMAT)


def copy_block_builder(columns: Sequence[TargetColumn]) -> Block:
    """One function that makes the lines of many rows (at least one) without UNAVAILABLE."""
    return block_builder(_fields(columns), _FORMAT)


def _fields(columns: Sequence[TargetColumn]) -> list[Field]:
    fields = []
    for column in columns:
        text = literal_of(column.type, parse(column.sql_type or sql_type(column.type)))
        plain = text is None or text is bytes_as_text
        fields.append(Field(column.name, text, column.type.kind is Kind.BYTES and not plain))
    return fields
