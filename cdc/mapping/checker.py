"""From sqlglot's tree to typed closures: one method a kind of node, and an error with its place for all others.

Where PostgreSQL would call for a rule that depends on the database (a collation, a time zone, DateStyle) or would leave
exact arithmetic (double precision), the expression is refused and the message says what to write instead.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NoReturn

from sqlglot import exp

from cdc.mapping import change, closures, numeric, sqltypes, temporal, texts
from cdc.mapping.checking import spoken
from cdc.mapping.closures import Node, lazy, strict
from cdc.mapping.diagnostics import did_you_mean
from cdc.mapping.documents import Documents
from cdc.mapping.functions import IGNORED_ARGUMENTS, NODES, SIGNATURES, Signature
from cdc.mapping.operators import ARITHMETIC, COMPARISONS, comparison
from cdc.mapping.sqltypes import (
    BIGINT,
    BOOLEAN,
    DATE,
    INTEGER,
    JSONB,
    LIMIT,
    NUMERIC,
    SMALLINT,
    TEXT,
    TIMESTAMP,
    TIMESTAMPTZ,
    UNKNOWN,
    UUID,
    Type,
)
from cdc.model import ColumnType

CAST_TARGETS = {
    exp.DataType.Type.TEXT: TEXT,
    exp.DataType.Type.VARCHAR: TEXT,
    exp.DataType.Type.BOOLEAN: BOOLEAN,
    exp.DataType.Type.SMALLINT: SMALLINT,
    exp.DataType.Type.INT: INTEGER,
    exp.DataType.Type.BIGINT: BIGINT,
    exp.DataType.Type.DECIMAL: NUMERIC,
    exp.DataType.Type.DATE: DATE,
    exp.DataType.Type.TIMESTAMP: TIMESTAMP,
    exp.DataType.Type.TIMESTAMPTZ: TIMESTAMPTZ,
    exp.DataType.Type.UUID: UUID,
    exp.DataType.Type.JSONB: JSONB,
}


class Checker(Documents):
    """The whole language."""

    def result(self, tree: exp.Expr) -> Node:
        """The whole expression. A quoted text or NULL that nothing typed is text."""
        node = self.node(tree)
        if node.type == UNKNOWN:
            return Node(TEXT, None, node.value)
        return node

    def condition(self, tree: exp.Expr) -> Node:
        """The whole expression, where a condition is wanted."""
        return self._condition(tree)

    def column_type(self, tree: exp.Expr, node: Node) -> ColumnType:
        """What a target is told: the precision and length of an outermost cast too."""
        column = node.type.column
        if isinstance(tree, exp.Cast):
            sizes = self._sizes(tree)
            if sizes and node.type == TEXT:
                return ColumnType(column.kind, "varchar", sizes[0])
            if sizes and node.type == NUMERIC:
                return ColumnType(column.kind, column.native, sizes[0], sizes[1] if len(sizes) > 1 else 0)
        return column

    def _dispatch(self, tree: exp.Expr) -> Node:
        kind = type(tree)
        if kind in NODES or kind is exp.Anonymous:
            return self._function(tree)
        if kind in COMPARISONS:
            return self._comparison(tree)
        if kind in ARITHMETIC:
            return self._arithmetic(tree)
        method = _METHODS.get(kind)
        if method is None:
            self._stop(tree, "sql-not-available", f"{spoken(tree)} is not available in expressions")
        return method(self, tree)

    # Leaves

    def _column(self, tree: exp.Expr) -> Node:
        name, scope = tree.this, tree.args.get("table")
        given = [arg for arg in tree.args.values() if arg]
        if not isinstance(name, exp.Identifier) or len(given) > (2 if scope and self.of_change else 1):
            self._stop(tree, "sql-not-available", "columns are named without a table")
        text = _name(name)
        if scope is not None and _name(scope) == change.META:
            return self._fact(tree, text)
        if scope is not None and _name(scope) not in change.ROWS:
            advice = did_you_mean(_name(scope), change.SCOPES)
            self._stop(tree, "unknown-column", "beside columns there are after.…, before.… and meta.…", advice)
        return self._field(tree, text, change.ROWS.index(_name(scope)) if scope else 0)

    def _fact(self, tree: exp.Expr, name: str) -> Node:
        """Something about the change."""
        node = change.fact(self.schema, name)
        if node is None:
            self._stop(tree, "unknown-column", f"there is no meta.{name}", did_you_mean(name, change.NAMES))
        return node

    def _field(self, tree: exp.Expr, text: str, row: int) -> Node:
        """A column of the row as it is (0) or as it was before (1)."""
        index = self.names.get(text)
        if index is None:
            table = f"{self.schema.namespace}.{self.schema.table}"
            advice = did_you_mean(text, list(self.names))
            if text.lower() in {known.lower() for known in self.names} and text not in self.names:
                advice = "a name with capitals needs double quotes"
            self._stop(tree, "unknown-column", f"{table} has no column '{text}'", advice)
        column = self.schema.columns[index]
        type_ = sqltypes.of_column(column, self.schema.kind)
        index += row * len(self.schema.columns)
        field = Node(type_, operator.itemgetter(index), None, frozenset((index,)))
        decode = sqltypes.decoder(column, type_)
        return strict(type_, decode, field) if decode else field

    def _literal(self, tree: exp.Expr) -> Node:
        text = tree.this
        if tree.args.get("is_string"):
            return Node(UNKNOWN, None, text)
        if not text.isdigit():
            return Node(NUMERIC, None, numeric.from_text(text))
        value = int(text)
        for type_ in (INTEGER, BIGINT):
            if value < LIMIT[type_]:
                return Node(type_, None, value)
        return Node(NUMERIC, None, numeric.from_text(text))

    def _boolean(self, tree: exp.Expr) -> Node:
        return Node(BOOLEAN, None, bool(tree.this))

    def _null(self, tree: exp.Expr) -> Node:
        return Node(UNKNOWN, None, None)

    def _paren(self, tree: exp.Expr) -> Node:
        return self.node(tree.this)

    # Choices

    def _coalesce(self, tree: exp.Expr) -> Node:
        self._only(tree, "this", "expressions")
        type_, nodes = self._unified(tree, [tree.this, *tree.expressions])
        return lazy(type_, closures.coalesce, *nodes)

    def _extreme(self, tree: exp.Expr) -> Node:
        self._only(tree, "this", "expressions", "ignore_nulls")
        type_, nodes = self._alike(tree, [tree.this, *tree.expressions], ordered=True)
        before = comparison("<" if isinstance(tree, exp.Greatest) else ">", type_)
        return lazy(type_, partial(closures.extreme, before), *nodes)

    def _nullif(self, tree: exp.Expr) -> Node:
        type_, (left, right) = self._alike(tree, [tree.this, tree.expression], ordered=False)
        if left.call is None and left.value is None:
            return left
        given = self.node(tree.this)
        # PostgreSQL returns the first argument as its = operator saw it: numeric = has no form for integers.
        kept = left if given.type == UNKNOWN or type_ == NUMERIC else given
        return lazy(kept.type, partial(closures.null_if, comparison("=", type_)), kept, left, right)

    def _case(self, tree: exp.Expr) -> Node:
        self._only(tree, "this", "ifs", "default")
        branches = tree.args["ifs"]
        default = tree.args.get("default") or exp.Null()
        conditions = self._all([branch.this for branch in branches], partial(self._when, tree))
        type_, results = self._unified(tree, [*(branch.args["true"] for branch in branches), default])
        parts = [part for pair in zip(conditions, results[:-1], strict=True) for part in pair]
        return lazy(type_, closures.case, *parts, results[-1])

    def _when(self, tree: exp.Expr, condition: exp.Expr) -> Node:
        if tree.this is None:
            return self._condition(condition)
        type_, (subject, value) = self._alike(condition, [tree.this, condition], ordered=False)
        return strict(BOOLEAN, comparison("=", type_), subject, value)

    # Functions, casts, dates

    def _function(self, tree: exp.Expr) -> Node:
        name, parts = self._call(tree)
        if name in _BUILDERS:
            return _BUILDERS[name](self, tree, parts)
        nodes = self._all(parts, self.node)
        given = [node.type for node in nodes]
        for signature in SIGNATURES[name]:
            if _fits(signature, given):
                converted = [
                    self._as(part, node, type_) for part, node, type_ in zip(parts, nodes, signature.takes, strict=True)
                ]
                return strict(signature.gives, signature.call, *converted)
        return self._no_signature(tree, name, parts, nodes)

    def _call(self, tree: exp.Expr) -> tuple[str, list[exp.Expr]]:
        """The name of a function as the allow-list has it, and its arguments."""
        if isinstance(tree, exp.Anonymous):
            return str(tree.this).lower(), tree.expressions
        name, places = NODES[type(tree)]
        self._only(tree, *places, *IGNORED_ARGUMENTS.get(type(tree), ()))
        if isinstance(tree, exp.Trim):
            name = {"LEADING": "ltrim", "TRAILING": "rtrim"}.get(tree.args.get("position") or "", name)
        elif isinstance(tree, exp.Pad):
            name = "lpad" if tree.args.get("is_left") else "rpad"
        elif isinstance(tree, exp.SHA2Digest):
            name = f"sha{tree.args['length'].this}"
        return name, [tree.args[place] for place in places if tree.args.get(place) is not None]

    def _no_signature(self, tree: exp.Expr, name: str, parts: list[exp.Expr], nodes: list[Node]) -> NoReturn:
        for part, node in zip(parts, nodes, strict=True):
            if node.type.advice:
                self._no_cast(part, node.type, TEXT)
        forms = [f"{name}({', '.join(type_.name for type_ in form.takes)})" for form in SIGNATURES[name]]
        written = f"{name}({', '.join(node.type.name for node in nodes)})"
        self._stop(tree, "sql-type", f"{written} is not available", f"cast to fit {' or '.join(forms)}")

    def _cast(self, tree: exp.Expr) -> Node:
        self._only(tree, "this", "to", "format", "safe", "action", "default")
        if any(tree.args.get(extra) for extra in ("format", "safe", "action", "default")):
            self._stop(tree, "sql-not-available", "this form of CAST is not available")
        to = CAST_TARGETS.get(tree.args["to"].this)
        if to is None or type(tree) is not exp.Cast:
            name = tree.args["to"].sql("postgres").lower()
            known = ", ".join(sorted({type_.name for type_ in CAST_TARGETS.values()}))
            self._stop(
                tree, "sql-type", f"casts to {name} are not available", f"types: {known}, varchar(n), numeric(p,s)"
            )
        node = self.node(tree.this)
        if node.call is None and node.value is None:
            return Node(to, None)
        convert = sqltypes.cast(node.type, to)
        if convert is None:
            self._no_cast(tree, node.type, to)
        result = Node(to, node.call, node.value, node.inputs) if node.type == to else strict(to, convert, node)
        return self._sized(tree, to, result)

    def _sized(self, tree: exp.Expr, to: Type, node: Node) -> Node:
        sizes = self._sizes(tree)
        if not sizes:
            return node
        if to == TEXT:
            return strict(TEXT, texts.left, node, Node(INTEGER, None, sizes[0]))
        if to == NUMERIC and 1 <= sizes[0] <= 1000 and (len(sizes) == 1 or 0 <= sizes[1] <= sizes[0]):
            scale = sizes[1] if len(sizes) > 1 else 0
            return strict(NUMERIC, _cut_to(sizes[0], scale), node)
        return self._stop(tree, "sql-type", f"{tree.args['to'].sql('postgres').lower()} is not available")

    def _sizes(self, tree: exp.Expr) -> list[int]:
        sizes: list[int] = []
        for parameter in tree.args["to"].expressions:
            text = str(parameter.this.this) if isinstance(parameter.this, exp.Literal) else ""
            if not text.isdigit() or (int(text) == 0 and not sizes):
                self._stop(tree, "sql-type", "the size of a type is a positive number")
            sizes.append(int(text))
        return sizes

    def _date_trunc(self, tree: exp.Expr) -> Node:
        self._only(tree, "this", "unit")
        unit = _unit(tree.args["unit"])
        if unit not in temporal.TRUNCATIONS:
            advice = did_you_mean(unit, list(temporal.TRUNCATIONS))
            self._stop(tree, "sql-value", f"date_trunc has no unit '{unit}'", advice)
        node = self.node(tree.this)
        if node.type != TIMESTAMP:
            # For a date PostgreSQL chooses timestamptz, and with it the session's time zone.
            self._no_zone(tree, node, f"date_trunc of {node.type.name}")
        return strict(TIMESTAMP, partial(temporal.truncate, unit), node)

    def _to_char(self, tree: exp.Expr) -> Node:
        self._only(tree, "this", "format")
        node, pattern = self.node(tree.this), tree.args["format"]
        parts = temporal.pattern(pattern.this) if isinstance(pattern, exp.Literal) else None
        if parts is None:
            known = "YYYY, MM, DD, HH24, MI, SS with any of - / . : , and blanks between"
            self._stop(tree, "sql-value", "to_char takes a quoted format of these words only", known)
        if node.type not in {DATE, TIMESTAMP}:
            self._no_zone(tree, node, f"to_char of {node.type.name}")
        convert = self._widen(node, TIMESTAMP, compared=True)
        return strict(TEXT, partial(temporal.formatted, parts), convert)

    def _extract(self, tree: exp.Expr) -> Node:
        self._only(tree, "this", "expression")
        field = _unit(tree.this)
        node = self.node(tree.expression)
        fields = temporal.DATE_FIELDS if node.type == DATE else (*temporal.DATE_FIELDS, *temporal.TIME_FIELDS)
        if node.type not in {DATE, TIMESTAMP}:
            self._no_zone(tree, node, f"extract from {node.type.name}")
        if field not in fields:
            advice = did_you_mean(field, list(fields))
            self._stop(tree, "sql-value", f"extract has no field '{field}' of a {node.type.name}", advice)
        call = temporal.extract_date if node.type == DATE else temporal.extract
        return strict(NUMERIC, partial(call, field), node)

    def _at_time_zone(self, tree: exp.Expr) -> Node:
        """A timestamptz as UTC's clocks show it, and the other way round."""
        zone, node = tree.args["zone"], self.node(tree.this)
        if not (isinstance(zone, exp.Literal) and zone.args.get("is_string") and zone.this.upper() == "UTC"):
            self._stop(tree, "sql-value", "the only time zone here is 'UTC'", "rules of others change with the years")
        if node.type not in {TIMESTAMP, TIMESTAMPTZ}:
            advice = "cast it: …::timestamp" if node.type in {DATE, UNKNOWN} else None
            self._stop(tree, "sql-type", f"{node.type.name} at time zone is not available", advice)
        to = TIMESTAMP if node.type == TIMESTAMPTZ else TIMESTAMPTZ
        return Node(to, node.call, node.value, node.inputs)  # both count the same microseconds

    def _no_zone(self, tree: exp.Expr, node: Node, what: str) -> NoReturn:
        advice = "it depends on the session's time zone: write … at time zone 'UTC'"
        if node.type in {DATE, UNKNOWN}:
            advice = "cast to timestamp first: …::timestamp"
        self._stop(tree, "sql-type", f"{what} is not available", advice)


def _fits(signature: Signature, given: list[Type]) -> bool:
    if len(given) != len(signature.takes):
        return False
    pairs = zip(given, signature.takes, strict=True)
    if signature.exactly:
        return all(type_ == wanted for type_, wanted in pairs)
    return all((type_ == UNKNOWN and wanted == TEXT) or sqltypes.widens(type_, wanted) for type_, wanted in pairs)


def _cut_to(precision: int, scale: int) -> Callable[[Any], Any]:
    return lambda value: numeric.truncate_scale(value, precision, scale)


def _name(identifier: exp.Identifier) -> str:
    text: str = identifier.this
    return text if identifier.args.get("quoted") else text.lower()


def _unit(tree: Any) -> str:
    return str(getattr(tree, "this", tree)).lower()


_BUILDERS: dict[str, Callable[[Checker, exp.Expr, Sequence[exp.Expr]], Node]] = {
    "jsonb_build_object": Checker._build_object,
    "jsonb_build_array": Checker._build_array,
    "to_jsonb": Checker._to_jsonb,
}
"""Functions of any number or type of arguments."""

_METHODS: dict[type[exp.Expr], Callable[[Checker, exp.Expr], Node]] = {
    exp.Column: Checker._column,
    exp.Literal: Checker._literal,
    exp.Boolean: Checker._boolean,
    exp.Null: Checker._null,
    exp.Paren: Checker._paren,
    exp.And: Checker._logic,
    exp.Or: Checker._logic,
    exp.Not: Checker._not,
    exp.Is: Checker._is,
    exp.NullSafeEQ: Checker._distinct,
    exp.NullSafeNEQ: Checker._distinct,
    exp.Between: Checker._between,
    exp.In: Checker._in,
    exp.Like: Checker._like,
    exp.ILike: Checker._like,
    exp.Neg: Checker._negative,
    exp.DPipe: Checker._concatenation,
    exp.Concat: Checker._concat,
    exp.ConcatWs: Checker._concat,
    exp.JSONExtract: Checker._member,
    exp.JSONExtractScalar: Checker._member,
    exp.JSONBExtract: Checker._part,
    exp.JSONBExtractScalar: Checker._part,
    exp.JSONBContainsTopKey: Checker._has_key,
    exp.Lambda: Checker._arrow_in_arguments,
    exp.Coalesce: Checker._coalesce,
    exp.Greatest: Checker._extreme,
    exp.Least: Checker._extreme,
    exp.Nullif: Checker._nullif,
    exp.Case: Checker._case,
    exp.Cast: Checker._cast,
    exp.TimestampTrunc: Checker._date_trunc,
    exp.Extract: Checker._extract,
    exp.TimeToStr: Checker._to_char,
    exp.AtTimeZone: Checker._at_time_zone,
}
