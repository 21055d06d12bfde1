"""SQL expressions: PostgreSQL's meaning, parsed by sqlglot, checked against a schema, compiled to closures.

`compile_expression` refuses with a place in the text whatever is not on the allow-list (functions.py, and the operators
in operators.py), so what compiles means here exactly what it means in PostgreSQL. Nothing of the user's text is ever
evaluated as code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.tokenizer_core import Token, TokenType

from cdc.mapping import change, sqltypes
from cdc.mapping.checker import Checker
from cdc.mapping.checking import Problem, Stop
from cdc.mapping.diagnostics import nearest
from cdc.mapping.functions import ALLOWED
from cdc.model import ColumnType, TableSchema, Value

MAX_TEXT = 10_000
_DIALECT = sqlglot.Dialect.get_or_raise("postgres")
_BEFORE_PAREN = {
    *("and", "or", "not", "in", "like", "ilike", "between", "is", "from", "for", "case", "when", "then", "else"),
    *("as", "both", "leading", "trailing", "numeric", "decimal", "varchar", "varying"),
}
"""Words other than functions that may stand before a parenthesis."""

_AGGREGATES = {
    *("count", "sum", "avg", "min", "max", "array_agg", "string_agg", "json_agg", "jsonb_agg", "bool_and", "bool_or"),
    *("every", "stddev", "variance", "row_number", "rank", "lag", "lead", "first_value", "last_value", "over"),
}

_OPENING = {TokenType.L_PAREN, TokenType.CASE}
_CLOSING = {TokenType.R_PAREN, TokenType.END}
_SEPARATING = {TokenType.AND, TokenType.OR, TokenType.COMMA, TokenType.WHEN, TokenType.THEN, TokenType.ELSE}
_PREDICATES = {
    *(TokenType.EQ, TokenType.NEQ, TokenType.LT, TokenType.LTE, TokenType.GT, TokenType.GTE, TokenType.IS),
    *(TokenType.ISNULL, TokenType.NOTNULL, TokenType.LIKE, TokenType.ILIKE, TokenType.IN, TokenType.BETWEEN),
}


class ExpressionError(Exception):
    """Why an expression is refused. `problems` have places inside its text."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__(problems[0].message)
        self.problems = tuple(problems)


class Expression(NamedTuple):
    """A compiled expression. `call` gets a whole source row (canonical values, no UNAVAILABLE in `inputs`; where the
    change is read too, a wide row, see change.py) and returns a canonical value of `type`, or raises `ValueError` or
    `ArithmeticError`. Without `call` it is the `constant`."""

    type: ColumnType
    inputs: tuple[int, ...]
    call: Callable[[tuple[Value, ...]], Value] | None
    constant: Value = None


def compile_expression(
    text: str, schema: TableSchema, *, of_change: bool = False, condition: bool = False
) -> Expression:
    """`of_change`: it may read `before.…` and `meta.…` too. `condition`: a boolean is wanted. Raises
    `ExpressionError`."""
    tree = _parse(text)
    checker = Checker(schema, len(text), of_change=of_change)
    try:
        node = checker.condition(tree) if condition else checker.result(tree)
    except Stop:
        raise ExpressionError(checker.problems) from None
    encode = sqltypes.encoder(node.type)
    inputs = tuple(sorted(node.inputs))
    if node.call is None:
        constant = node.value if encode is None or node.value is None else encode(node.value)
        return Expression(checker.column_type(tree, node), inputs, None, constant)
    call = node.call if encode is None else _encoded(node.call, encode)
    return Expression(checker.column_type(tree, node), inputs, call)


def columns_read(text: str) -> list[str]:
    """The columns that an expression names; none where it is no expression."""
    try:
        columns = _parse(text).find_all(exp.Column)
        return sorted({column.name for column in columns if column.table.lower() != change.META})
    except ExpressionError:
        return []


def syntax_problems(text: str) -> tuple[Problem, ...]:
    """What can be said without a schema: syntax, and functions that are not available."""
    try:
        _parse(text)
    except ExpressionError as error:
        return error.problems
    return ()


def reads_change(text: str) -> bool:
    """Whether an expression without syntax problems reads the change, and not only the row as it is."""
    columns = _parse(text).find_all(exp.Column)
    return any(change.is_of_change(column.table.lower(), column.name.lower()) for column in columns)


def _encoded(call: Callable[[tuple[Value, ...]], Any], encode: Callable[[Any], Value]) -> Callable[..., Value]:
    def encoded(row: tuple[Value, ...]) -> Value:
        value = call(row)
        return None if value is None else encode(value)

    return encoded


def _parse(text: str) -> exp.Expr:
    if len(text) > MAX_TEXT:
        raise ExpressionError([Problem("sql-too-long", f"more than {MAX_TEXT} characters", 0, 1)])
    try:
        tokens = _DIALECT.tokenize(text)
    except SqlglotError as error:
        raise ExpressionError([Problem("sql-syntax", _plain(error), 0, len(text))]) from None
    refused = [*_unknown_functions(tokens), *_ambiguous(tokens)]
    if refused:
        raise ExpressionError(refused)
    try:
        trees = _DIALECT.parser().parse(tokens, text)
    except (SqlglotError, RecursionError) as error:
        raise ExpressionError([_syntax(error, text, tokens)]) from None
    if len(trees) != 1 or trees[0] is None:
        raise ExpressionError([Problem("sql-syntax", "one expression is wanted here", 0, len(text))])
    return trees[0]


def _unknown_functions(tokens: list[Token]) -> Iterator[Problem]:
    """Checked on tokens: sqlglot reads several names as one function, and forgets where some of them stood."""
    for index, (token, after) in enumerate(pairwise(tokens)):
        word = token.text.lower()
        if after.token_type is not TokenType.L_PAREN or not word[:1].isalpha() or word in _BEFORE_PAREN:
            continue
        if token.token_type is TokenType.STRING:
            continue
        length = token.end - token.start + 1
        if token.token_type is TokenType.IDENTIFIER or word not in ALLOWED:
            close = nearest(word, ALLOWED)
            advice = f"did you mean '{close}'?" if close else "the functions are listed by: cdc mapping functions"
            if word in _AGGREGATES:
                advice = "an expression sees one row; what several rows make is said by rules (max, delta, union)"
            yield Problem(
                "unknown-function", f"the function '{token.text}' is not available", token.start, length, advice
            )
        elif word == "date_trunc" and tokens[index + 2 : index + 3] and not _quoted(tokens[index + 2]):
            unit = tokens[index + 2]
            message = "date_trunc's unit is a quoted word"
            yield Problem("sql-type", message, unit.start, unit.end - unit.start + 1, "such as 'month'")


def _ambiguous(tokens: list[Token]) -> Iterator[Problem]:
    """What sqlglot groups in another way than PostgreSQL: predicates in a row, and `date '…'::type`."""
    seen = [False]  # a predicate at this level since the last word that separates?
    for index, token in enumerate(tokens):
        kind = token.token_type
        if kind in _OPENING:
            seen.append(False)
        elif kind in _CLOSING and len(seen) > 1:
            seen.pop()
        elif kind in _SEPARATING:
            seen[-1] = False
        elif kind in _PREDICATES:
            if seen[-1]:
                message = "put parentheses around the comparison before this"
                yield Problem("sql-syntax", message, token.start, token.end - token.start + 1)
            seen[-1] = True
        elif kind is TokenType.DCOLON and index > 1 and _typed_literal(tokens[index - 2], tokens[index - 1]):
            yield Problem("sql-syntax", "put parentheses around the literal", tokens[index - 2].start, token.start - 1)


def _typed_literal(word: Token, text: Token) -> bool:
    return text.token_type is TokenType.STRING and word.text.lower() in {"date", "timestamp", "numeric", "zone"}


def _quoted(token: Token) -> bool:
    return token.token_type is TokenType.STRING


def _syntax(error: Exception, text: str, tokens: list[Token]) -> Problem:
    details = getattr(error, "errors", None)
    if not details:
        return Problem("sql-syntax", _plain(error), 0, len(text))
    first = details[0]
    message = str(first.get("description") or "not an expression").split(" for <class")[0]
    message = message[:1].lower() + message[1:]
    for token in tokens:
        if (token.line, token.col) == (first.get("line"), first.get("col")):
            return Problem("sql-syntax", message, token.start, token.end - token.start + 1)
    return Problem("sql-syntax", message, 0, len(text))


def _plain(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else "not an expression"
