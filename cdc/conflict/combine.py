"""What a rule does to the values that several source rows have for one column. Values are canonical (`cdc.model`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from decimal import Context, Decimal
from typing import Any

import msgspec

from cdc.model import Kind, Value

Combine = Callable[[Sequence[Value]], Value]
"""Values that are not NULL, at least one, in the order of the sources' rank → the column's value."""

_EXACT = Context(
    prec=40_000, Emax=200_000, Emin=-200_000, traps=[]
)  # more than PostgreSQL's numeric holds: a sum never rounds
_NUMBERS = {Kind.INTEGER, Kind.DECIMAL, Kind.FLOAT32, Kind.FLOAT64}
_ORDERED = _NUMBERS | {Kind.BOOLEAN, Kind.TEXT, Kind.BYTES, Kind.DATE, Kind.TIME, Kind.TIMESTAMP, Kind.TIMESTAMPTZ}

FITS: dict[str, frozenset[Kind]] = {
    "max": frozenset(_ORDERED),
    "min": frozenset(_ORDERED),
    "delta": frozenset(_NUMBERS),
    "union": frozenset({Kind.ARRAY, Kind.JSON}),
    "merge": frozenset({Kind.JSON}),
}
"""The kinds of columns that a rule can be used for; a rule that is not named here fits all."""


def combiner(rule: str, kind: Kind) -> Combine:
    """The function of `max`, `min`, `delta` or `union` for values of `kind`. Texts compare by code point."""
    if rule in {"max", "min"}:
        key = order(kind)
        return (lambda values: max(values, key=key)) if rule == "max" else (lambda values: min(values, key=key))
    if rule == "delta":
        if kind is Kind.DECIMAL:
            return _decimal_sum
        return sum if kind is Kind.INTEGER else math.fsum
    return _json_union if kind is Kind.JSON else _union


def merged(objects: Sequence[str]) -> str:
    """JSON objects, the oldest first: a later one's keys take the place of an earlier one's, also inside objects that
    both have. Anything but an object stands for itself. Numbers and texts stay as they were written."""
    whole: msgspec.Raw | None = None
    for text in objects:
        whole = _over(whole, msgspec.Raw(text.encode()))
    assert whole is not None
    return bytes(whole).decode()


def _over(under: msgspec.Raw | None, over: msgspec.Raw) -> msgspec.Raw:
    if under is None:
        return over
    try:
        low, high = _object.decode(under), _object.decode(over)
    except msgspec.ValidationError:
        return over
    made = {**low, **{key: _over(low.get(key), value) for key, value in high.items()}}
    return msgspec.Raw(msgspec.json.encode(made))


def _union(lists: Sequence[list[Value]]) -> list[Value]:
    """Each element once, in the order it is first met."""
    found: list[Value] = []
    seen: set[Any] = set()
    for element in (element for each in lists for element in each):
        mark = repr(element) if isinstance(element, list) else element
        if mark not in seen:
            seen.add(mark)
            found.append(element)
    return found


def _json_union(lists: Sequence[str]) -> str:
    """The same for JSON lists; a value that is no list counts as a list of it."""
    found: dict[bytes, msgspec.Raw] = {}
    for text in lists:
        raw = msgspec.Raw(text.encode())
        try:
            elements = _list.decode(raw)
        except msgspec.ValidationError:
            elements = [raw]
        for element in elements:
            found.setdefault(msgspec.json.format(bytes(element), indent=-1), element)
    return msgspec.json.encode(list(found.values())).decode()


def _decimal_sum(values: Sequence[str]) -> str:
    total = Decimal(values[0])
    for value in values[1:]:
        total = _EXACT.add(total, Decimal(value))
    return "NaN" if total.is_nan() else str(total) if total.is_infinite() else format(total, "f")


def order(kind: Kind) -> Callable[[Value], Any]:
    """A key whose order is PostgreSQL's for the kind; NaN is the greatest number there."""
    if kind is Kind.DECIMAL:
        return lambda value: _number(Decimal(value))
    if kind in {Kind.FLOAT32, Kind.FLOAT64}:
        return _number
    if kind is Kind.TIMESTAMPTZ:
        return _moment
    return lambda value: value


def _number(value: Decimal | float) -> tuple[bool, Decimal | float]:
    nan = value != value
    return nan, 0 if nan else value


def _moment(text: str) -> tuple[int, int, str]:
    """Debezium writes UTC with as many digits of a second as it needs; years beyond four digits have a sign."""
    if text.endswith("infinity"):
        return (-1 if text.startswith("-") else 1, 0, "")
    year, rest = text[1:].split("-", 1) if text[0] in "+-" else text.split("-", 1)
    return 0, -int(year) if text[0] == "-" else int(year), rest.rstrip("Z")


_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_list = msgspec.json.Decoder(list[msgspec.Raw])
