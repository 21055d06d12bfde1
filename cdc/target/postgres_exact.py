"""Narrower columns: PostgreSQL rounds or cuts some values in silence where a column holds less than what arrives.

Those are told here before they are written, so that the row is parked: 1.25 for numeric(9,1), a time with microseconds
for timestamp(0), 19 digits for double precision. Everything else that does not fit, the server itself refuses. Columns
of the type that a source's type becomes by default never come here.
"""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite
from struct import pack, unpack
from typing import TYPE_CHECKING

from cdc.model import POS_INFINITY, ColumnType, Kind, Value

if TYPE_CHECKING:
    from cdc.target.postgres_types import SqlType

Fits = Callable[[Value], bool]

_DAY = 86_400_000_000
_DIGITS = {"real": 6, "double precision": 15}
"""So many decimal digits come out of the type as they went in."""
_NAME_BYTES = 63


def narrower(column: ColumnType, target: SqlType) -> Fits | None:
    """Tells values that `target` would round or cut in silence (False); None when there are none."""
    if column.kind in (Kind.DECIMAL, Kind.INTEGER, Kind.FLOAT32, Kind.FLOAT64):
        return _number(column, target)
    if column.kind in (Kind.TIME, Kind.TIMESTAMP):
        return _micros(column, target)
    if column.kind in (Kind.TIMESTAMPTZ, Kind.INTERVAL):
        return _time_text(column, target)
    if column.kind is Kind.TEXT and target.name == "name" and column.native != "name":
        return lambda value: len(value.encode()) <= _NAME_BYTES
    return None


def _number(column: ColumnType, target: SqlType) -> Fits | None:
    floating = column.kind in (Kind.FLOAT32, Kind.FLOAT64)
    if target.name == "numeric" and target.length is not None and column.kind is not Kind.INTEGER:
        scale = target.scale or 0
        if not floating and column.length is not None and (column.scale or 0) <= scale:
            return None
        return lambda value: _places(str(value)) <= scale
    if target.name not in _DIGITS or column.kind is Kind.FLOAT32:
        return None
    if floating:
        return _is_real if target.name == "real" else None
    digits = _DIGITS[target.name]
    return lambda value: _significant(str(value)) <= digits


def _places(number: str) -> int:
    """Digits behind the point that are not trailing zeros. 1e-07 has seven, NaN has none."""
    mantissa, _, exponent = number.partition("e")
    return len(mantissa.partition(".")[2].rstrip("0")) - int(exponent or 0)


def _significant(number: str) -> int:
    return len(number.replace(".", "").strip("-0")) if number[-1].isdigit() else 0


def _is_real(value: float) -> bool:
    if not isfinite(value):
        return True
    try:
        return bool(unpack("f", pack("f", value))[0] == value)
    except OverflowError:
        return False


def _micros(column: ColumnType, target: SqlType) -> Fits | None:
    """Times and timestamps, both integers of microseconds."""
    if target.name == "date":
        return lambda value: abs(value) >= POS_INFINITY or value % _DAY == 0
    if target.name == "time" and column.kind is Kind.TIMESTAMP:
        return lambda value: False
    unit = _unit(column, target)
    return None if unit is None else lambda value: value % unit == 0 or abs(value) >= POS_INFINITY


def _unit(column: ColumnType, target: SqlType) -> int | None:
    """Microseconds that the column tells apart; None when it tells all that arrive."""
    if target.name not in ("time", "timestamp", "timestamptz", "interval") or target.length is None:
        return None
    arriving = 6 if column.scale is None else column.scale
    return 10 ** (6 - target.length) if target.length < min(arriving, 6) else None


def _time_text(column: ColumnType, target: SqlType) -> Fits | None:
    """Timestamps with a zone and intervals, both ISO 8601."""
    if target.name == "date":
        return lambda value: "T" not in value or value.endswith("T00:00:00Z")
    if target.name == "time":
        return lambda value: False
    unit, digits = _unit(column, target), target.length or 0
    if unit is None:
        return None
    return lambda value: len(value.partition(".")[2].rstrip("ZS").rstrip("0")) <= digits
