"""Constants of a mapping (`{value: …}`) as canonical values with a type."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from sqlglot import exp
from sqlglot.errors import SqlglotError

from cdc.mapping import numeric, sqltypes
from cdc.mapping.checker import CAST_TARGETS
from cdc.mapping.sqltypes import BIGINT, BOOLEAN, INTEGER, LIMIT, NUMERIC, TEXT, Type
from cdc.model import ColumnType, Value


def typed(value: Any, sql_type: str | None) -> tuple[ColumnType, Value]:
    """The type and the canonical value of a constant.

    With a `sql_type` of the expression language (date, numeric…) the value is read as that type, and `ValueError` or
    `ArithmeticError` raised when it is none. Any other type is the target's business: the value keeps its own.
    """
    type_ = declared(sql_type) or natural(value)
    return type_.column, read(value, type_)


def read(value: Any, type_: Type) -> Value:
    """The canonical value of a constant as one of a type. Raises `ValueError` or `ArithmeticError` when it is none."""
    if value is None:
        return None
    reader, write = sqltypes.reader(type_), sqltypes.encoder(type_)
    if reader is None:
        raise ValueError("constants of this type are not available")
    canonical = reader(_text(value))
    return write(canonical) if write else canonical


def of_type(value: Any, type_: ColumnType) -> Value:
    """The canonical value of a constant in a column of this type. Raises `ValueError` or `ArithmeticError` when it is
    none, or when the expression language has no such type."""
    own = sqltypes.plain(type_)
    if own is None:
        raise ValueError("constants are for texts, numbers, booleans, dates, timestamps and UUIDs")
    if own == TEXT and type_.length is not None and len(_text(value)) > type_.length:
        raise ValueError(f"it is longer than {type_.length}")
    return read(value, own)


def declared(sql_type: str | None) -> Type | None:
    """The type of the expression language that a target's type is; None: it is the target's business."""
    if sql_type is None:
        return None
    try:
        return CAST_TARGETS.get(exp.DataType.build(sql_type, dialect="postgres").this)
    except (SqlglotError, ValueError):
        return None


def natural(value: Any) -> Type:
    """The type of a constant of which nothing is said."""
    if isinstance(value, bool):
        return BOOLEAN
    if isinstance(value, int):
        return next((each for each in (INTEGER, BIGINT) if -LIMIT[each] <= value < LIMIT[each]), NUMERIC)
    return NUMERIC if isinstance(value, Decimal) else TEXT


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return numeric.text(value) if isinstance(value, Decimal) else str(value)
