"""Small functions that become an expression: each takes a source row and returns a value.

SQL's NULL is None. Strict functions are None when an argument is; AND, OR, CASE, COALESCE evaluate only what they need,
from left to right. Arguments that are constants are bound once.

Why closures: four expressions (lower and trim, ||, numeric with round, CASE) over batches of rows that come as tuples
and leave as tuples, on one core, µs a row:

    rows a batch                    1      100    5,000
    these closures                9        4        6
    DuckDB, through Arrow      3,050       34        4
    SQLite, in memory             6        3        5

DuckDB gains a third in large batches and costs 3 ms for each, as many as a batch has tables; both others answer 7/2,
rounding, decimals and text functions in their own way, and would need every entry of the allow-list beside them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

from cdc.mapping.sqltypes import Type

Row: TypeAlias = tuple[Any, ...]
Call: TypeAlias = Callable[[Row], Any]


class Node(NamedTuple):
    """A checked, typed part of an expression. `call` is None for a constant."""

    type: Type
    call: Call | None
    value: Any = None
    inputs: frozenset[int] = frozenset()

    @property
    def run(self) -> Call:
        if self.call is not None:
            return self.call
        value = self.value
        return lambda row: value


def strict(type_: Type, function: Callable[..., Any], *arguments: Node) -> Node:
    """`function` of the arguments' values; NULL when one of them is. Constants are evaluated now (and may raise)."""
    inputs = frozenset[int]().union(*(argument.inputs for argument in arguments))
    if any(argument.call is None and argument.value is None for argument in arguments):
        return Node(type_, None)
    if all(argument.call is None for argument in arguments):
        return Node(type_, None, function(*(argument.value for argument in arguments)))
    if len(arguments) == 1:
        return Node(type_, _strict1(function, arguments[0].run), None, inputs)
    if len(arguments) == 2:
        return Node(type_, _strict2(function, *arguments), None, inputs)
    return Node(type_, _strict_many(function, [argument.run for argument in arguments]), None, inputs)


def _strict1(function: Callable[[Any], Any], argument: Call) -> Call:
    def call(row: Row) -> Any:
        value = argument(row)
        return None if value is None else function(value)

    return call


def _strict2(function: Callable[[Any, Any], Any], left: Node, right: Node) -> Call:
    first, second = left.run, right.run
    if right.call is None:
        constant = right.value

        def call_constant(row: Row) -> Any:
            value = first(row)
            return None if value is None else function(value, constant)

        return call_constant

    def call(row: Row) -> Any:
        one, other = first(row), second(row)  # both, as PostgreSQL: the second may fail
        return None if one is None or other is None else function(one, other)

    return call


def _strict_many(function: Callable[..., Any], arguments: Sequence[Call]) -> Call:
    def call(row: Row) -> Any:
        values = [argument(row) for argument in arguments]
        return None if None in values else function(*values)

    return call


def lazy(type_: Type, function: Callable[..., Call], *arguments: Node) -> Node:
    """A node whose closure is made by `function` from the arguments' closures; folded when all are constants."""
    call = function(*(argument.run for argument in arguments))
    if all(argument.call is None for argument in arguments):
        return Node(type_, None, call(()))
    return Node(type_, call, None, frozenset[int]().union(*(argument.inputs for argument in arguments)))


def both(left: Call, right: Call) -> Call:
    """AND of three values."""

    def call(row: Row) -> Any:
        one = left(row)
        if one is False:
            return False
        other = right(row)
        if other is False:
            return False
        return None if one is None or other is None else True

    return call


def either(left: Call, right: Call) -> Call:
    """OR of three values."""

    def call(row: Row) -> Any:
        one = left(row)
        if one is True:
            return True
        other = right(row)
        if other is True:
            return True
        return None if one is None or other is None else False

    return call


def is_value(expected: Any, argument: Call) -> Call:
    """IS NULL, IS TRUE, IS FALSE."""
    return lambda row: argument(row) is expected


def is_not_value(unexpected: Any, argument: Call) -> Call:
    return lambda row: argument(row) is not unexpected


def distinct(equal: Callable[[Any, Any], bool], differs: bool, left: Call, right: Call) -> Call:
    """IS [NOT] DISTINCT FROM."""

    def call(row: Row) -> bool:
        one, other = left(row), right(row)
        same = one is other if one is None or other is None else equal(one, other)
        return same is not differs

    return call


def coalesce(*arguments: Call) -> Call:
    def call(row: Row) -> Any:
        for argument in arguments:
            value = argument(row)
            if value is not None:
                return value
        return None

    return call


def null_if(equal: Callable[[Any, Any], bool], left: Call, left_compared: Call, right: Call) -> Call:
    """NULLIF: `left_compared` is `left` as the comparison sees it."""

    def call(row: Row) -> Any:
        value, other = left_compared(row), right(row)
        return None if value is not None and other is not None and equal(value, other) else left(row)

    return call


def extreme(before: Callable[[Any, Any], bool], *arguments: Call) -> Call:
    """GREATEST and LEAST: `before(a, b)`: b takes the place of a. NULLs are passed over, of equals the first stays."""

    def call(row: Row) -> Any:
        best = None
        for argument in arguments:
            value = argument(row)
            if value is not None and (best is None or before(best, value)):
                best = value
        return best

    return call


def any_equal(equal: Callable[[Any, Any], bool], subject: Call, *items: Call) -> Call:
    """IN: true, or NULL when a NULL might have been the one, or false."""

    def call(row: Row) -> Any:
        value = subject(row)
        unknown = False
        for item in items:
            other = item(row)
            if value is None or other is None:
                unknown = True
            elif equal(value, other):
                return True
        return None if unknown else False

    return call


def in_constants(values: frozenset[Any], with_null: bool, subject: Call) -> Call:
    """IN a list of constants of a hashable type with plain equality."""
    otherwise = None if with_null else False

    def call(row: Row) -> Any:
        value = subject(row)
        if value is None:
            return None
        return True if value in values else otherwise

    return call


def case(*parts: Call) -> Call:
    """Condition, result, condition, result, …, default."""
    branches = tuple(zip(parts[:-1:2], parts[1:-1:2], strict=True))
    default = parts[-1]

    def call(row: Row) -> Any:
        for condition, result in branches:
            if condition(row) is True:
                return result(row)
        return default(row)

    return call


def joined(texts: Sequence[Callable[[Any], str]], *arguments: Call) -> Call:
    """concat: NULLs count as empty."""
    pairs = tuple(zip(texts, arguments, strict=True))

    def call(row: Row) -> str:
        return "".join([text(value) for text, argument in pairs if (value := argument(row)) is not None])

    return call


def joined_with(texts: Sequence[Callable[[Any], str]], separator: Call, *arguments: Call) -> Call:
    """concat_ws: NULLs are left out, with their separator; NULL when the separator is."""
    pairs = tuple(zip(texts, arguments, strict=True))

    def call(row: Row) -> str | None:
        between = separator(row)
        values: list[str] = [text(value) for text, argument in pairs if (value := argument(row)) is not None]
        return None if between is None else str(between).join(values)

    return call
