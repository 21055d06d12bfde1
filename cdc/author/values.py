"""Values as people write them in a test's YAML, and the canonical values (`cdc.model`) that they stand for.

`read` takes what `cdc.yamlfile` gives for a scalar, list or mapping; `written` is the way back, for tests that are
recorded and for rows that are shown. A value that cannot be meant is refused, never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec

from cdc.mapping import numeric, temporal
from cdc.mapping.sqltypes import boolean_from_text, uuid_from_text
from cdc.model import UNAVAILABLE, ColumnType, Kind, Value

_decode = msgspec.json.Decoder(float_hook=Decimal).decode
_encode = msgspec.json.Encoder(decimal_format="number").encode
_TIME = re.compile(r"(-?)(\d+):(\d\d)(?::(\d\d)(?:\.(\d{1,6}))?)?")


def read(value: Any, type_: ColumnType) -> Value:
    """The canonical value. Raises `ValueError` or `ArithmeticError`, whose text says what is wanted."""
    if value is None:
        return None
    if type_.kind is Kind.JSON:
        return _json(value)
    if type_.kind is Kind.ARRAY:
        if not isinstance(value, list):
            raise ValueError("a list is wanted here")
        element = type_.element
        return [each if element is None else read(each, element) for each in value]
    if isinstance(value, dict | list):
        raise ValueError(f"a single value is wanted here: the column is {type_.native}")
    return _READERS[type_.kind](_text(value))


def written(value: Value, type_: ColumnType) -> Any:
    """What `read` takes for a canonical value, as plain as YAML allows; of UNAVAILABLE there is nothing to write."""
    assert value is not UNAVAILABLE
    if value is None or isinstance(value, bool):
        return value
    kind = type_.kind
    if kind is Kind.ARRAY:
        return [each if type_.element is None else written(each, type_.element) for each in value]
    if kind is Kind.JSON:
        return _plain_json(value)
    if kind is Kind.DECIMAL:
        number = Decimal(value)
        return number if number.is_finite() else value
    writer = _WRITERS.get(kind)
    return writer(value) if writer else value


def shown(value: Value, type_: ColumnType) -> str:
    """The same as a text for a table: NULL, and texts as they are."""
    if value is None:
        return "NULL"
    if value is UNAVAILABLE:
        return "(not sent)"
    plain = value if type_.kind is Kind.JSON else written(value, type_)
    if isinstance(plain, str):
        return plain
    if isinstance(plain, bool):
        return "true" if plain else "false"
    return _encode(plain).decode() if isinstance(plain, list) else str(plain)


def same(one: Value, other: Value, type_: ColumnType) -> bool:
    """Whether two canonical values mean the same: 1.1 and 1.10, a JSON object in another order, one instant."""
    if one is None or other is None or one is UNAVAILABLE or other is UNAVAILABLE:
        return one is other
    comparable = _COMPARABLE.get(type_.kind)
    try:
        return bool(comparable(one) == comparable(other)) if comparable else bool(one == other)
    except (ValueError, ArithmeticError, msgspec.DecodeError):
        return bool(one == other)


def same_text(one: str | None, other: str | None, type_: ColumnType) -> bool:
    """The same of what a database shows of two values: one that has no such type keeps its text."""
    if type_.kind is Kind.ARRAY:
        type_ = ColumnType(Kind.JSON, "json")
    return one == other or (type_.kind in (Kind.DECIMAL, Kind.JSON) and same(one, other, type_))


# -- reading


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return numeric.text(value) if isinstance(value, Decimal) else str(value)


def _json(value: Any) -> str:
    if isinstance(value, str):
        try:
            msgspec.json.decode(value)
        except msgspec.DecodeError as error:
            raise ValueError("JSON is wanted here: a mapping, a list, a number, or a text that holds JSON") from error
        return value
    return _encode(value).decode()


def _integer(text: str) -> int:
    if not re.fullmatch(r"[-+]?\d+", text):
        raise ValueError("a whole number is wanted here")
    return int(text)


def _decimal(text: str) -> str:
    return numeric.text(numeric.from_text(text))


def _bytes(text: str) -> bytes:
    if not text.startswith("\\x"):
        raise ValueError("bytes are written in hexadecimal: '\\x00ff'")
    return bytes.fromhex(text[2:])


def _bits(text: str) -> str:
    if set(text) - {"0", "1"}:
        raise ValueError("bits are written as 0 and 1, in quotes")
    return text


def _time(text: str) -> int:
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError("a time is written HH:MM:SS.ffffff")
    sign, hours, minutes, seconds, fraction = match.groups()
    micros = ((int(hours) * 60 + int(minutes)) * 60 + int(seconds or 0)) * 1_000_000
    micros += int((fraction or "").ljust(6, "0"))
    return -micros if sign else micros


def _instant(text: str) -> str:
    """As Debezium writes it: in UTC, with six digits of a second."""
    if text in ("infinity", "-infinity"):
        return text
    return instant(text).isoformat(timespec="microseconds").replace("+00:00", "Z")


def instant(text: str) -> datetime:
    """A moment, in UTC when it names no zone."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("a moment is written 2026-11-25T10:00:00Z") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)


_READERS: dict[Kind, Callable[[str], Value]] = {
    Kind.BOOLEAN: boolean_from_text,
    Kind.INTEGER: _integer,
    Kind.DECIMAL: _decimal,
    Kind.FLOAT32: float,
    Kind.FLOAT64: float,
    Kind.TEXT: str,
    Kind.BYTES: _bytes,
    Kind.BITS: _bits,
    Kind.DATE: temporal.date_from_text,
    Kind.TIME: _time,
    Kind.TIMESTAMP: temporal.timestamp_from_text,
    Kind.TIMESTAMPTZ: _instant,
    Kind.INTERVAL: str,
    Kind.UUID: uuid_from_text,
    Kind.LITERAL: str,
}


# -- writing


def _plain_json(text: str) -> Any:
    """The structure, where reading it gives the same JSON again; else the text."""
    try:
        plain = _decode(text)
    except msgspec.DecodeError:
        return text
    return plain if isinstance(plain, dict | list) and _same_json(_json(plain)) == _same_json(text) else text


def _time_text(micros: int) -> str:
    seconds, fraction = divmod(abs(micros), 1_000_000)
    text = f"{'-' if micros < 0 else ''}{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return text + (f".{fraction:06}".rstrip("0") if fraction else "")


_WRITERS: dict[Kind, Callable[[Any], Any]] = {
    Kind.FLOAT32: str,
    Kind.FLOAT64: str,
    Kind.BYTES: lambda value: f"\\x{value.hex()}",
    Kind.DATE: temporal.date_text,
    Kind.TIME: _time_text,
    Kind.TIMESTAMP: temporal.timestamp_text,
}


# -- comparing


def _same_json(text: str) -> Any:
    return _decode(text)


def _same_instant(text: str) -> Any:
    try:
        return instant(text)
    except ValueError:
        return text  # infinity, a year that Python does not know


_COMPARABLE: dict[Kind, Callable[[Any], Any]] = {
    Kind.DECIMAL: Decimal,
    Kind.JSON: _same_json,
    Kind.TIMESTAMPTZ: _same_instant,
    Kind.FLOAT32: repr,  # NaN is itself, -0.0 is not 0.0
    Kind.FLOAT64: repr,
}
FLAG = ColumnType(Kind.BOOLEAN, "bool")
"""The type of marks that the engine itself keeps."""
