"""Forms of a copied column: a map of its values (`map`, `else`), and what a NULL becomes (`default`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from cdc.mapping import constants, sqltypes
from cdc.mapping.model import ColumnSpec, ElseValue
from cdc.mapping.sqltypes import TEXT, Type
from cdc.model import Column, ColumnType, Kind, Value

_MAPPED: Final = {Kind.TEXT, Kind.INTEGER, Kind.BOOLEAN}
Place = tuple[str, ...]


class FormError(ValueError):
    """What is wrong with a form, and where below the column; of a key of the file when `key`."""

    def __init__(self, what: str, place: Place, *, key: bool = False, help: str | None = None) -> None:
        super().__init__(what)
        self.place = place
        self.key = key
        self.help = help


class Form(NamedTuple):
    """The column's type in the target, and its value from a source row: canonical, or a `ValueError`."""

    type: ColumnType
    call: Callable[[tuple[Value, ...]], Value]


def form_of(spec: ColumnSpec, column: Column, index: int, source: str) -> Form | None:
    """The form of a copied column; None when it is a plain copy. Raises `FormError`."""
    if spec.map is None and spec.default is None:
        return None
    own = _own(column, source)
    given: dict[Place, Value] = {("map", key): value for key, value in (spec.map or {}).items()}
    if spec.default is not None:
        given["default",] = spec.default
    if spec.map is None:
        return Form(column.type, _filled(index, _read(given, own)["default",]))
    if column.type.kind not in _MAPPED:
        what = f"a map is for texts, whole numbers and booleans, not for {column.type.kind} values"
        raise FormError(what, ("map",), help="write a CASE in sql: …")
    if isinstance(spec.else_, ElseValue) or spec.else_ not in ("keep", "park"):
        given["else",] = spec.else_.value if isinstance(spec.else_, ElseValue) else spec.else_
    type_ = own if spec.else_ == "keep" else constants.declared(spec.type) or _common(given)
    values = _read(given, type_)
    table = {_key(column, key): values["map", key] for key in spec.map}
    call = _mapped(index, table, values.get(("default",)), spec.else_, values.get(("else",)))
    return Form(column.type if spec.else_ == "keep" else type_.column, call)


def _own(column: Column, source: str) -> Type:
    type_ = sqltypes.of_column(column, source)
    return TEXT if type_.opaque and column.type.kind is Kind.TEXT else type_  # an enum, char(n)


def _common(given: dict[Place, Value]) -> Type:
    natural = [constants.natural(value) for value in given.values() if value is not None]
    type_ = sqltypes.common(natural)
    if type_ is None:
        names = ", ".join(dict.fromkeys(each.name for each in natural))
        what = f"the values have no type in common: {names}"
        raise FormError(what, ("map",), help="write all of them alike, or give the column a 'type'")
    return type_


def _read(given: dict[Place, Value], type_: Type) -> dict[Place, Value]:
    """The constants as canonical values of the type."""
    values = {}
    for place, value in given.items():
        try:
            values[place] = constants.read(value, type_)
        except (ValueError, ArithmeticError) as error:
            raise FormError(f"the value does not fit the type {type_.name}: {error}", place) from error
    return values


def _key(column: Column, text: str) -> Value:
    """A key of the map as the column's values are."""
    try:
        if column.type.kind is Kind.INTEGER:
            return int(text)
        return sqltypes.boolean_from_text(text) if column.type.kind is Kind.BOOLEAN else text
    except ValueError as error:
        raise FormError(f"'{text}' is no {column.type.kind}", ("map", text), key=True) from error


def _filled(index: int, default: Value) -> Callable[[tuple[Value, ...]], Value]:
    def call(row: tuple[Value, ...]) -> Value:
        value = row[index]
        return default if value is None else value

    return call


def _mapped(
    index: int, table: dict[Any, Value], default: Value, otherwise: object, instead: Value
) -> Callable[[tuple[Value, ...]], Value]:
    keeps, parks = otherwise == "keep", otherwise == "park"

    def call(row: tuple[Value, ...]) -> Value:
        value = row[index]
        if value is None:
            return default
        if value in table:
            return table[value]
        if parks:
            raise ValueError("its value is not in 'map': add it, or say by 'else' what becomes of others")
        return value if keeps else instead

    return call
