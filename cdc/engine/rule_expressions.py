"""SQL expressions in rules: over what each source says, written `source.column`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import sqlglot
from sqlglot import exp

from cdc.conflict.resolve import Shape
from cdc.errors import Terminal
from cdc.mapping.expressions import ExpressionError, compile_expression
from cdc.model import Column, TableSchema, Value

Said = Mapping[tuple[str, str], Value]


def compile_rule(text: str, shapes: Iterable[Shape]) -> Callable[[Said], Value]:
    """The value of an expression, from (source, column) → value; a source that says nothing has NULLs.

    Raises `Terminal` when it does not fit the columns of the sources that have been met.
    """
    columns = {
        (shape.contributor, column.name): Column(f"{shape.contributor}.{column.name}", column.type)
        for shape in shapes
        for column in shape.columns
    }
    met = {source for source, _ in columns}
    try:
        tree = sqlglot.parse_one(text, dialect="postgres").transform(_named, met)
        schema = TableSchema("", "postgresql", "", "", tuple(columns.values()), 0)
        made = compile_expression(tree.sql(dialect="postgres"), schema)
    except (sqlglot.errors.SqlglotError, ExpressionError) as error:
        raise Terminal(f"the rule {{sql: {text}}} does not fit its sources' columns: {error}") from error
    call, order = made.call, list(columns)
    if call is None:
        return lambda said: made.constant
    return lambda said: call(tuple([said.get(name) for name in order]))


def _named(node: exp.Expression, met: set[str]) -> exp.Expression:
    """`crm.email` as the name of one column; of a source that nobody has met yet all columns are NULL."""
    if not isinstance(node, exp.Column) or not node.table:
        return node
    if node.table not in met:
        return exp.null()
    return exp.column(exp.to_identifier(f"{node.table}.{node.name}", quoted=True))
