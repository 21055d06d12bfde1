"""What all parts of the checker share: places of problems, conversions, agreement on a type."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, NoReturn

from sqlglot import exp

from cdc.mapping import sqltypes
from cdc.mapping.closures import Node, strict
from cdc.mapping.sqltypes import BOOLEAN, COMPARABLE, ORDERED, TEXT, UNKNOWN, Type
from cdc.model import TableSchema

MAX_DEPTH = 100
_NOT_CHAINED = (
    *(exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE),
    *(exp.Like, exp.ILike, exp.In, exp.Between, exp.Is, exp.NullSafeEQ, exp.NullSafeNEQ, exp.Not, exp.And, exp.Or),
)


class Problem(NamedTuple):
    """Why an expression is refused; `start` and `length` are characters of its text."""

    code: str
    message: str
    start: int
    length: int
    help: str | None = None


class Stop(Exception):
    """A problem was noted. Checking goes on in sibling branches."""


class Checking:
    """Types one expression and builds its closures. `problems` holds what was found when a method raised `Stop`."""

    def __init__(self, schema: TableSchema, length: int, *, of_change: bool = False) -> None:
        self.schema = schema
        self.length = length
        self.of_change = of_change  # may the row before the change, and the change itself, be read?
        self.problems: list[Problem] = []
        self.names = {column.name: index for index, column in enumerate(schema.columns)}
        self.depth = 0

    def node(self, tree: exp.Expr) -> Node:
        self.depth += 1
        try:
            if self.depth > MAX_DEPTH:
                self._stop(tree, "sql-too-deep", "too many levels of parentheses and operators")
            return self._dispatch(tree)
        except (ValueError, ArithmeticError) as error:
            self._stop(tree, "sql-value", f"this always fails: {error}")
        finally:
            self.depth -= 1

    def _dispatch(self, tree: exp.Expr) -> Node:
        raise NotImplementedError

    # Conversions

    def _as(self, tree: exp.Expr, node: Node, to: Type, *, compared: bool = False) -> Node:
        """The node converted as PostgreSQL does without being asked."""
        if node.type == UNKNOWN:
            read = sqltypes.reader(to)
            if node.value is None or to == UNKNOWN:
                return Node(to, None)
            if read is None:
                self._no_cast(tree, TEXT, to)
            try:
                return Node(to, None, read(node.value))
            except (ValueError, ArithmeticError) as error:
                self._stop(tree, "sql-value", f"'{node.value}' as {to.name}: {error}")
        if not sqltypes.widens(node.type, to):
            if to == BOOLEAN:
                self._stop(tree, "sql-type", f"a condition is wanted here, not {node.type.name}")
            self._no_cast(tree, node.type, to)
        return self._widen(node, to, compared=compared)

    def _widen(self, node: Node, to: Type, *, compared: bool = False) -> Node:
        convert = (sqltypes.compared if compared else sqltypes.widening)(node.type, to)
        return strict(to, convert, node) if convert else Node(to, node.call, node.value, node.inputs)

    def _unified(self, tree: exp.Expr, parts: list[exp.Expr], *, compared: bool = False) -> tuple[Type, list[Node]]:
        """All parts as the type that they have in common."""
        nodes = self._all(parts, self.node)
        type_ = sqltypes.common([node.type for node in nodes])
        if type_ is None:
            names = ", ".join(dict.fromkeys(node.type.name for node in nodes if node.type != UNKNOWN))
            self._stop(tree, "sql-type", f"these have no type in common: {names}", "cast them to one type")
        return type_, [self._as(part, node, type_, compared=compared) for part, node in zip(parts, nodes, strict=True)]

    def _alike(self, tree: exp.Expr, parts: list[exp.Expr], *, ordered: bool) -> tuple[Type, list[Node]]:
        """The same for parts that are to be compared."""
        compared = not isinstance(tree, (exp.Greatest, exp.Least))
        type_, nodes = self._unified(tree, parts, compared=compared)
        if ordered and type_ == TEXT:
            self._stop(tree, "sql-type", "the order of texts depends on the database's collation and is not available")
        if type_ not in (ORDERED if ordered else COMPARABLE):
            self._stop(tree, "sql-type", f"values of type {type_.name} cannot be compared here", type_.advice)
        return type_, nodes

    def _all(self, parts: list[exp.Expr], check: Callable[[exp.Expr], Node]) -> list[Node]:
        """Check all parts, so that one run shows the problems of each."""
        nodes: list[Node] = []
        stopped = False
        for part in parts:
            try:
                nodes.append(check(part))
            except Stop:
                stopped = True
        if stopped:
            raise Stop
        return nodes

    # Refusals

    def _unchained(self, tree: exp.Expr, *parts: exp.Expr) -> None:
        """Comparisons of comparisons: PostgreSQL refuses some and reads others in its own order."""
        for part in parts:
            if isinstance(part, _NOT_CHAINED):
                self._stop(part, "sql-syntax", "put parentheses around this")

    def _only(self, tree: exp.Expr, *names: str) -> None:
        extra = [name for name, value in tree.args.items() if value not in (None, False, []) and name not in names]
        if extra:
            self._stop(tree, "sql-not-available", f"this form of {spoken(tree)} is not available")

    def _no_cast(self, tree: exp.Expr, from_: Type, to: Type) -> NoReturn:
        if from_.advice:
            self._stop(tree, "sql-type", f"{from_.name} is not available here", from_.advice)
        advice = f"cast it: …::{to.name}" if sqltypes.cast(from_, to) else None
        self._stop(tree, "sql-type", f"{from_.name} does not fit where {to.name} is wanted", advice)

    def _stop(self, tree: exp.Expr, code: str, message: str, help: str | None = None) -> NoReturn:
        start, length = self._place(tree)
        problem = Problem(code, message, start, length, help)
        if problem not in self.problems:
            self.problems.append(problem)
        raise Stop

    def _place(self, tree: exp.Expr) -> tuple[int, int]:
        """From the first to the last character that sqlglot remembers of this part."""
        places = [node.meta for node in tree.walk() if "start" in node.meta]
        if not places:
            return 0, self.length
        start = min(place["start"] for place in places)
        return start, max(place["end"] for place in places) - start + 1


def spoken(tree: exp.Expr) -> str:
    return {"DPipe": "||", "Alias": "a name after an expression"}.get(type(tree).__name__, type(tree).__name__.upper())
