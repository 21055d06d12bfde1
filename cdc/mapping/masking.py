"""Masks at work: functions from canonical values to canonical values, compiled for the type of a column.

Values a second of CPU: hash 370,000, pseudonym of a phone number 29,000, of an integer 72,000, partial 1,600,000, date
570,000; of values that came before, of any kind, 50 million. So a column with few distinct values costs nothing, and
one of unique phone numbers a worker that writes 50,000 rows/s two thirds of its speed.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import msgspec

from cdc.keys import Keyring
from cdc.mapping import constants, pseudonyms, temporal
from cdc.mapping.masks import Mask, Partial, keeps
from cdc.model import UNAVAILABLE, ColumnType, Kind, Value

_REMEMBERED = 50_000  # values of a column, and…
_LONGEST = 256  # …their longest text: longer ones are rarely seen twice
_HASHED = ColumnType(Kind.TEXT, "varchar", 64)
_STAR = "*"


class MaskError(Exception):
    """A mask does not fit its column, or has no key. `help`: what to write instead."""

    def __init__(self, message: str, help: str | None = None, *, code: str = "mask-type") -> None:
        super().__init__(message)
        self.message = message
        self.help = help
        self.code = code


class _Remembered(dict[Value, Value]):
    """Values with what they became. NULL stays NULL, and what was not sent stays unsent."""

    def __init__(self, function: Callable[[Any], Value]) -> None:
        super().__init__()
        self._function = function
        self._begin()

    def _begin(self) -> None:
        self.clear()
        self[None], self[UNAVAILABLE] = None, UNAVAILABLE

    def __missing__(self, value: Value) -> Value:
        made = self._function(value)
        if isinstance(value, str | bytes) and len(value) > _LONGEST:
            return made
        if len(self) > _REMEMBERED:
            self._begin()
        self[value] = made
        return made


class Masking:
    """The mask of one column. `keeps_uniqueness`: different values stay different.

    Raises `ValueError` or `ArithmeticError`, without the value, for one that has no masked form.
    """

    def __init__(self, function: Callable[[Any], Value], *, keeps_uniqueness: bool, hashable: bool = True) -> None:
        self.keeps_uniqueness = keeps_uniqueness
        self._function = function
        self._remembered = _Remembered(function) if hashable else None

    def __call__(self, value: Value) -> Value:
        if self._remembered is not None:
            return self._remembered[value]
        return value if value is None or value is UNAVAILABLE else self._function(value)

    def column(self, values: Iterable[Value]) -> list[Value]:
        """A whole column at once."""
        return list(map(self if self._remembered is None else self._remembered.__getitem__, values))


class Masked(NamedTuple):
    """A column under its mask. Without `masking` every value is the `constant`, whatever the source says."""

    type: ColumnType
    nullable: bool
    masking: Masking | None
    constant: Value = None


def compile_mask(mask: Mask | None, type_: ColumnType, nullable: bool, keys: Keyring) -> Masked:
    """`mask` for a column of this type. Raises `MaskError`; `Usage` where a key's reference leads nowhere."""
    if mask is None:
        return Masked(type_, True, None)
    if mask.kind == "constant":
        return _constant(mask, type_)
    make = {"partial": _partial, "hash": _hash, "pseudonym": _pseudonym, "date": _date}[mask.kind]
    function = make(mask, type_, keys)
    hashable = type_.kind is not Kind.ARRAY
    masking = Masking(function, keeps_uniqueness=keeps(mask).uniqueness, hashable=hashable)
    return Masked(_HASHED if mask.hash is not None else type_, nullable, masking)


def _constant(mask: Mask, type_: ColumnType) -> Masked:
    try:
        value = constants.of_type(mask.constant, type_)
    except (ValueError, ArithmeticError) as error:
        raise MaskError(f"the constant is no value of the column's type {type_.native}: {error}") from None
    return Masked(type_, False, None, value)


def _partial(mask: Mask, type_: ColumnType, keys: Keyring) -> Callable[[str], str]:
    if type_.kind is not Kind.TEXT:
        raise MaskError(f"'partial' is for texts, not for {type_.native}", _OTHERS)
    partial = mask.partial
    assert partial is not None
    return _domain_only if partial.email else _ends_only(partial)


def _domain_only(value: str) -> str:
    local, at, domain = value.rpartition("@")
    return _STAR * len(local) + at + domain if at else _STAR * len(value)


def _ends_only(partial: Partial) -> Callable[[str], str]:
    first, last = partial.first, partial.last

    def make(value: str) -> str:
        hidden = len(value) - first - last
        return _STAR * len(value) if hidden <= 0 else value[:first] + _STAR * hidden + value[len(value) - last :]

    return make


def _key(mask: Mask, keys: Keyring, purpose: str) -> bytes:
    if not keys.versions(mask.key):
        message = f"there is no masking key '{mask.key}'"
        raise MaskError(message, "add it under masking: in connections.yaml", code="no-masking-key")
    return keys.key(mask.key, mask.version, purpose)


# -- hash


def _hash(mask: Mask, type_: ColumnType, keys: Keyring) -> Callable[[Any], str]:
    key, written = _key(mask, keys, f"hash {mask.hash}"), _WRITTEN.get(type_.kind, _text)
    return lambda value: hmac.digest(key, written(value), "sha256").hex()


def _text(value: Any) -> bytes:
    return str(value).encode("utf-8", "surrogatepass")


def _decimal(value: str) -> bytes:
    return (value.rstrip("0").rstrip(".") if "." in value else value).encode()


def _instant(value: str) -> bytes:
    """Snapshot reads and the stream write the digits of a second differently."""
    whole, point, fraction = value.removesuffix("Z").partition(".")
    fraction = fraction.rstrip("0")
    return (whole + (point + fraction if fraction else "")).encode()


_WRITTEN: dict[Kind, Callable[[Any], bytes]] = {
    Kind.DECIMAL: _decimal,
    Kind.TIMESTAMPTZ: _instant,
    Kind.BYTES: bytes,
    Kind.BOOLEAN: lambda value: b"true" if value else b"false",
    Kind.FLOAT32: lambda value: repr(value + 0.0).encode(),  # -0.0 is 0.0
    Kind.FLOAT64: lambda value: repr(value + 0.0).encode(),
    Kind.ARRAY: msgspec.json.encode,
}
"""What is hashed: equal values of a type have the same bytes."""


# -- pseudonym


def _pseudonym(mask: Mask, type_: ColumnType, keys: Keyring) -> Callable[[Any], Value]:
    maker: Callable[[bytes], Callable[[Any], Value]] | None = _PSEUDONYMS.get(type_.kind)
    if type_.kind is Kind.DECIMAL and type_.scale != 0:
        raise MaskError("'pseudonym' is for whole numbers, not for decimals with a fraction", _OTHERS)
    if maker is None or type_.native == "year":
        raise MaskError(f"'pseudonym' is for texts, whole numbers and UUIDs, not for {type_.native}", _OTHERS)
    return maker(_key(mask, keys, f"pseudonym {mask.pseudonym}"))


_PSEUDONYMS: dict[Kind, Callable[[bytes], Callable[[Any], Value]]] = {
    Kind.TEXT: pseudonyms.text,
    Kind.INTEGER: pseudonyms.integer,
    Kind.DECIMAL: pseudonyms.whole_decimal,
    Kind.UUID: pseudonyms.uuid,
}
_OTHERS = "null, constant and hash fit every type"


# -- date


def _date(mask: Mask, type_: ColumnType, keys: Keyring) -> Callable[[Any], Value]:
    unit = mask.date
    assert unit is not None
    if type_.kind is Kind.DATE and unit not in ("hour", "day"):
        return lambda days: temporal.to_date(temporal.truncate(unit, temporal.to_timestamp(days)))
    if type_.kind is Kind.TIMESTAMP:
        return lambda micros: temporal.truncate(unit, micros)
    if type_.kind is Kind.TIMESTAMPTZ:
        return lambda text: _truncated_instant(unit, text)
    if type_.kind is Kind.DATE:
        raise MaskError(f"a date has no {unit} to be cut to", "week, month, quarter, year or decade")
    raise MaskError(f"'date' is for dates and timestamps, not for {type_.native}", _OTHERS)


_INSTANT = re.compile(r"([+-]?\d{4,})-(\d\d)-(\d\d)T(\d\d):\d\d:\d\d(\.\d+)?Z")


def _truncated_instant(unit: str, text: str) -> str:
    """In UTC, with as many digits of a second as it had."""
    match = _INSTANT.fullmatch(text)
    if match is None:
        return text  # infinity
    year, month, day, hour = (int(part) for part in match.groups()[:4])
    micros = (temporal.days_of(year, month, day) * 24 + hour) * 3_600_000_000
    days, within = divmod(temporal.truncate(unit, micros), temporal.DAY)
    year, month, day = temporal.civil(days)
    sign = "+" if year > 9999 else "-" if year < 0 else ""
    fraction = "" if match[5] is None else "." + "0" * (len(match[5]) - 1)
    return f"{sign}{abs(year):04}-{month:02}-{day:02}T{within // 3_600_000_000:02}:00:00{fraction}Z"
