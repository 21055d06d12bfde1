"""Canonical values as JSON, exact or refused.

BOOLEAN, INTEGER, FLOAT   true, 12, 1.5              NaN and infinities are refused: JSON has none
DECIMAL                   a text: "1.10"             a number would lose digits in most programs that read it
BYTES                     a text in base64
DATE, TIME                "2026-11-25", "09:58:02"
TIMESTAMP, TIMESTAMPTZ    "2026-11-25T09:58:02.000001", "2026-11-25T09:58:02.000001Z"
JSON                      itself, not a text of it
ARRAY                     a list
all others                their canonical text
"""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Callable
from typing import Any

import msgspec

from cdc.errors import Poison
from cdc.model import ColumnType, Kind, Value
from cdc.target.postgres_types import date_as_text, time_literal, timestamp_as_text


def plain(type_: ColumnType, value: Value) -> Any:
    """A value as what msgspec encodes; None stays None. Raises `Poison` for what JSON cannot hold exactly."""
    if value is None:
        return None
    if type_.kind is Kind.ARRAY and type_.element is not None:
        return [plain(type_.element, each) for each in value]
    make = _MAKERS.get(type_.kind)
    return value if make is None else make(value)


def text(type_: ColumnType, value: Value) -> str:
    """A value as it stands inside a text (a URL, a longer string). Raises `Poison` for NULL, JSON and arrays."""
    found = plain(type_, value)
    if isinstance(found, bool):
        return "true" if found else "false"
    if isinstance(found, str | int | float):
        return str(found)
    raise Poison("NULL or a nested value cannot stand inside a text", reason="value_out_of_range")


def _finite(value: float) -> float:
    if math.isfinite(value):
        return value
    raise Poison("a float that is no number: JSON has none", reason="value_out_of_range")


def _json(value: str) -> Any:
    try:
        msgspec.json.decode(value)
    except msgspec.DecodeError:
        raise Poison("a JSON value that is no JSON", reason="value_out_of_range") from None
    return msgspec.Raw(value.encode())


_MAKERS: dict[Kind, Callable[[Any], Any]] = {
    Kind.FLOAT32: _finite,
    Kind.FLOAT64: _finite,
    Kind.BYTES: lambda value: b64encode(value).decode(),
    Kind.DATE: date_as_text,
    Kind.TIME: time_literal,
    Kind.TIMESTAMP: lambda value: timestamp_as_text(value).replace(" ", "T", 1),
    Kind.JSON: _json,
}
