"""Operators of the expression language: logic, comparisons, arithmetic, `||`."""

from __future__ import annotations

import operator
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from typing import Any

from sqlglot import exp

from cdc.mapping import closures, numeric, sqltypes, temporal, texts
from cdc.mapping.checking import Checking
from cdc.mapping.closures import Node, lazy, strict
from cdc.mapping.sqltypes import (
    BOOLEAN,
    DATE,
    INTEGER,
    INTEGERS,
    JSON,
    JSONB,
    LIMIT,
    NUMERIC,
    SMALLINT,
    TEXT,
    UNKNOWN,
    Type,
)

COMPARISONS: dict[type[exp.Expr], str] = {
    exp.EQ: "=",
    exp.NEQ: "<>",
    exp.LT: "<",
    exp.LTE: "<=",
    exp.GT: ">",
    exp.GTE: ">=",
}
ARITHMETIC: dict[type[exp.Expr], str] = {exp.Add: "+", exp.Sub: "-", exp.Mul: "*", exp.Div: "/", exp.Mod: "%"}


class Operators(Checking):
    """One method a group of operators."""

    # Logic

    def _logic(self, tree: exp.Expr) -> Node:
        left, right = self._all([tree.this, tree.expression], self._condition)
        return self._joined(isinstance(tree, exp.Or), left, right)

    def _joined(self, deciding: bool, left: Node, right: Node) -> Node:
        """OR (true decides) or AND (false decides)."""
        if any(node.call is None and node.value is deciding for node in (left, right)):
            return Node(BOOLEAN, None, deciding)  # PostgreSQL does not evaluate the other side either
        return lazy(BOOLEAN, closures.either if deciding else closures.both, left, right)

    def _not(self, tree: exp.Expr) -> Node:
        return self._negated(self._condition(tree.this))

    def _negated(self, node: Node) -> Node:
        return strict(BOOLEAN, operator.not_, node)

    def _condition(self, tree: exp.Expr) -> Node:
        return self._as(tree, self.node(tree), BOOLEAN)

    def _is(self, tree: exp.Expr) -> Node:
        self._unchained(tree, tree.this)
        what = tree.expression
        if isinstance(what, exp.Null):
            value, node = None, self.node(tree.this)
        elif isinstance(what, exp.Boolean):
            value, node = bool(what.this), self._condition(tree.this)
        else:
            self._stop(what, "sql-not-available", "IS takes NULL, TRUE, FALSE or [NOT] DISTINCT FROM")
        test = closures.is_not_value if tree.args.get("negate") else closures.is_value
        return lazy(BOOLEAN, partial(test, value), node)

    # Comparisons

    def _comparison(self, tree: exp.Expr) -> Node:
        sign = COMPARISONS[type(tree)]
        self._unchained(tree, tree.this, tree.expression)
        type_, (left, right) = self._alike(tree, [tree.this, tree.expression], ordered=sign not in {"=", "<>"})
        return strict(BOOLEAN, comparison(sign, type_), left, right)

    def _distinct(self, tree: exp.Expr) -> Node:
        self._unchained(tree, tree.this, tree.expression)
        type_, (left, right) = self._alike(tree, [tree.this, tree.expression], ordered=False)
        make = partial(closures.distinct, comparison("=", type_), isinstance(tree, exp.NullSafeNEQ))
        return lazy(BOOLEAN, make, left, right)

    def _between(self, tree: exp.Expr) -> Node:
        self._only(tree, "this", "low", "high")
        parts = [tree.this, tree.args["low"], tree.args["high"]]
        self._unchained(tree, *parts)
        type_, (value, low, high) = self._alike(tree, parts, ordered=True)
        above = strict(BOOLEAN, comparison(">=", type_), value, low)
        below = strict(BOOLEAN, comparison("<=", type_), value, high)
        return self._joined(False, above, below)

    def _in(self, tree: exp.Expr) -> Node:
        self._only(tree, "this", "expressions")
        self._unchained(tree, tree.this)
        type_, (value, *items) = self._alike(tree, [tree.this, *tree.expressions], ordered=False)
        equal = comparison("=", type_)
        constants = [item.value for item in items if item.call is None and item.value is not None]
        if value.call is None and (value.value is None or any(equal(value.value, each) for each in constants)):
            # NULL, or found: PostgreSQL does not evaluate the other items either.
            return Node(BOOLEAN, None, None if value.value is None else True)
        if type_ != NUMERIC and value.call is not None and all(item.call is None for item in items):
            with_null = len(constants) < len(items)
            return lazy(BOOLEAN, partial(closures.in_constants, frozenset(constants), with_null), value)
        return lazy(BOOLEAN, partial(closures.any_equal, equal), value, *items)

    def _like(self, tree: exp.Expr) -> Node:
        self._only(tree, "this", "expression", "negate")
        self._unchained(tree, tree.this, tree.expression)
        left, right = (self._as(part, self.node(part), TEXT) for part in (tree.this, tree.expression))
        node = strict(BOOLEAN, texts.ilike if isinstance(tree, exp.ILike) else texts.like, left, right)
        if right.call is None and right.value is not None:
            texts.like("", right.value)  # a bad pattern is found now
        return self._negated(node) if tree.args.get("negate") else node

    # Arithmetic

    def _arithmetic(self, tree: exp.Expr) -> Node:
        sign = ARITHMETIC[type(tree)]
        parts = (tree.this, tree.expression)
        left, right = self._all(list(parts), self.node)
        left, right = self._untyped(tree.this, left, right.type), self._untyped(tree.expression, right, left.type)
        if DATE in {left.type, right.type}:
            return self._date_arithmetic(tree, sign, left, right)
        type_ = sqltypes.common([left.type, right.type])
        if type_ not in {*INTEGERS, NUMERIC}:
            self._stop(tree, "sql-type", f"{left.type.name} {sign} {right.type.name} is not available")
        call = _NUMERIC[sign] if type_ == NUMERIC else _integer_operator(sign, LIMIT[type_])
        return strict(type_, call, self._widen(left, type_), self._widen(right, type_))

    def _untyped(self, tree: exp.Expr, node: Node, other: Type) -> Node:
        if node.type != UNKNOWN:
            return node
        if other == UNKNOWN:
            self._stop(tree, "sql-type", "the type of this is not known here", "cast it: …::integer")
        return self._as(tree, node, other)

    def _date_arithmetic(self, tree: exp.Expr, sign: str, left: Node, right: Node) -> Node:
        if sign == "-" and left.type == right.type == DATE:
            return strict(INTEGER, _days_between, left, right)
        if sign in {"+", "-"} and left.type == DATE and right.type in {SMALLINT, INTEGER}:
            return strict(DATE, temporal.add_days if sign == "+" else _subtract_days, left, right)
        if sign == "+" and right.type == DATE and left.type in {SMALLINT, INTEGER}:
            return strict(DATE, _days_added, left, right)
        return self._stop(tree, "sql-type", f"{left.type.name} {sign} {right.type.name} is not available")

    def _negative(self, tree: exp.Expr) -> Node:
        node = self.node(tree.this)
        if node.type == NUMERIC:
            return strict(NUMERIC, Decimal.copy_negate, node)
        if node.type not in INTEGERS:
            self._stop(tree, "sql-type", f"- {node.type.name} is not available")
        return strict(node.type, partial(_negate_integer, LIMIT[node.type]), node)

    # Text

    def _concatenation(self, tree: exp.Expr) -> Node:
        left, right = self._all([tree.this, tree.expression], self.node)
        if not {left.type, right.type} & {TEXT, UNKNOWN}:
            self._stop(tree, "sql-type", f"{left.type.name} || {right.type.name} is not available", "cast one to text")
        one = self._written(tree.this, left)
        return strict(TEXT, operator.add, one, self._written(tree.expression, right))

    def _written(self, tree: exp.Expr, node: Node) -> Node:
        """The value as `||` writes it."""
        convert = self._writer(tree, node, sqltypes.to_text)
        return Node(TEXT, node.call, node.value, node.inputs) if convert is None else strict(TEXT, convert, node)

    def _writer(
        self, tree: exp.Expr, node: Node, writer: Callable[[Type], Callable[[Any], str] | None]
    ) -> Callable[[Any], str] | None:
        if node.type in {TEXT, UNKNOWN}:
            return None
        convert = None if node.type.opaque or node.type in {JSON, JSONB} else writer(node.type)
        if convert is None:
            self._no_cast(tree, node.type, TEXT)
        return convert

    def _concat(self, tree: exp.Expr) -> Node:
        parts = tree.expressions
        nodes = self._all(parts, self.node)
        writers = [
            self._writer(part, node, sqltypes.output_text) or str for part, node in zip(parts, nodes, strict=True)
        ]
        if isinstance(tree, exp.ConcatWs):
            separator = self._as(parts[0], nodes[0], TEXT)
            return lazy(TEXT, partial(closures.joined_with, writers[1:]), separator, *nodes[1:])
        return lazy(TEXT, partial(closures.joined, writers), *nodes)


def comparison(sign: str, type_: Type) -> Callable[[Any, Any], bool]:
    """The function behind a comparison operator for two values of one type."""
    return (_NUMERIC_ORDER if type_ == NUMERIC else _PLAIN_ORDER)[sign]


def _integer_operator(sign: str, limit: int) -> Callable[[int, int], int]:
    call = _INTEGER[sign]
    return lambda left, right: numeric.in_range(call(left, right), limit)


def _negate_integer(limit: int, value: int) -> int:
    return numeric.in_range(-value, limit)


def _days_between(later: int, earlier: int) -> int:
    return temporal.days_between(later, earlier)


def _subtract_days(days: int, count: int) -> int:
    return temporal.add_days(days, -count)


def _days_added(count: int, days: int) -> int:
    return temporal.add_days(days, count)


_PLAIN_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "<>": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_NUMERIC_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "=": numeric.equal,
    "<>": lambda left, right: not numeric.equal(left, right),
    "<": numeric.less,
    "<=": lambda left, right: not numeric.less(right, left),
    ">": lambda left, right: numeric.less(right, left),
    ">=": lambda left, right: not numeric.less(left, right),
}
_NUMERIC: dict[str, Callable[[Any, Any], Any]] = {
    "+": numeric.add,
    "-": numeric.subtract,
    "*": numeric.multiply,
    "/": numeric.divide,
    "%": numeric.modulo,
}
_INTEGER: dict[str, Callable[[int, int], int]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": numeric.divide_integers,
    "%": numeric.modulo_integers,
}
