"""JSON in expressions: parts of documents, and documents that are built."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from sqlglot import exp

from cdc.mapping import closures, jsons, sqltypes
from cdc.mapping.closures import Node, lazy, strict
from cdc.mapping.operators import Operators
from cdc.mapping.sqltypes import BOOLEAN, DATE, INTEGERS, JSON, JSONB, NUMERIC, TEXT, TIMESTAMP, UNKNOWN, UUID, Type

_ARROWS = (exp.JSONExtract, exp.JSONExtractScalar)


class Documents(Operators):
    """One method a group of operators and functions."""

    def _member(self, tree: exp.Expr) -> Node:
        """`json -> 'key'` and `json ->> 0`, which bind no tighter than ||."""
        if isinstance(tree.this, (exp.Binary, exp.Neg)) and not isinstance(tree.this, exp.JSONExtract):
            self._stop(tree.this, "sql-syntax", "put parentheses around column->'key' here")
        node = self.node(tree.this)
        key = _key(tree.expression)
        if key is None:
            message, advice = "-> and ->> take a quoted key or a number", "such as preferences->>'language'"
            self._stop(tree, "sql-not-available", message, advice)
        type_ = self._document(tree.this, node, "-> and ->>")
        step = Node(TEXT, None, key)
        if isinstance(tree, exp.JSONExtractScalar):
            return strict(TEXT, jsons.member_of_jsonb_text if type_ == JSONB else jsons.member_text, node, step)
        return strict(type_, jsons.member_of_jsonb if type_ == JSONB else jsons.member, node, step)

    def _part(self, tree: exp.Expr) -> Node:
        """`json #> '{a,0}'` and `json #>> '{a,0}'`."""
        node, path = self.node(tree.this), tree.expression
        if isinstance(tree.this, (exp.Binary, exp.Neg)) and not isinstance(tree.this, exp.JSONExtract):
            self._stop(tree.this, "sql-syntax", "put parentheses around what stands before #> here")
        if not isinstance(path, exp.Literal) or not path.args.get("is_string"):
            self._stop(tree, "sql-not-available", "#> and #>> take a quoted path", "such as '{address,city}'")
        type_ = self._document(tree.this, node, "#> and #>>")
        steps = Node(TEXT, None, jsons.path_of(path.this))
        if isinstance(tree, exp.JSONBExtractScalar):
            return strict(TEXT, jsons.part_text, node, steps)
        return strict(type_, jsons.part, node, steps)

    def _has_key(self, tree: exp.Expr) -> Node:
        node, key = self.node(tree.this), self._as(tree.expression, self.node(tree.expression), TEXT)
        if node.type != JSONB:
            self._stop(tree.this, "sql-type", f"? needs jsonb, not {node.type.name}")
        return strict(BOOLEAN, jsons.has_key, node, key)

    def _document(self, tree: exp.Expr, node: Node, what: str) -> Type:
        if node.type not in {JSON, JSONB}:
            self._stop(tree, "sql-type", f"{what} need json, not {node.type.name}")
        return node.type

    def _arrow_in_arguments(self, tree: exp.Expr) -> Node:
        """`f(column->'key')`, which sqlglot takes for a function of its own: as what it is in PostgreSQL."""
        inner, names = tree.this, tree.expressions
        first = inner
        while isinstance(first, _ARROWS):
            first = first.this
        if len(names) != 1 or not isinstance(names[0], exp.Identifier) or not isinstance(first, exp.Literal):
            self._stop(tree, "sql-syntax", "put parentheses around column->'key' here")
        step = exp.JSONPathKey(this=first.this) if first.is_string else exp.JSONPathSubscript(this=int(first.this))
        path = exp.JSONPath(expressions=[exp.JSONPathRoot(), step])
        extract = exp.JSONExtract(this=exp.Column(this=names[0].copy()), expression=path)
        if first is inner:
            return self.node(extract)
        whole = inner.copy()
        innermost = whole
        while isinstance(innermost.this, _ARROWS):
            innermost = innermost.this
        innermost.set("this", extract)
        return self.node(whole)

    # What is built

    def _build_object(self, tree: exp.Expr, parts: Sequence[exp.Expr]) -> Node:
        if len(parts) % 2:
            self._stop(tree, "sql-type", "jsonb_build_object takes keys and values in turn")
        nodes = self._all(list(parts), self.node)
        keys = [self._key_text(part, node) for part, node in zip(parts[::2], nodes[::2], strict=True)]
        values = [self._jsonb(part, node) for part, node in zip(parts[1::2], nodes[1::2], strict=True)]
        return lazy(JSONB, partial(_object, len(keys)), *keys, *values)

    def _build_array(self, tree: exp.Expr, parts: Sequence[exp.Expr]) -> Node:
        nodes = self._all(list(parts), self.node)
        return lazy(JSONB, _array, *(self._jsonb(part, node) for part, node in zip(parts, nodes, strict=True)))

    def _to_jsonb(self, tree: exp.Expr, parts: Sequence[exp.Expr]) -> Node:
        if len(parts) != 1:
            self._stop(tree, "sql-type", "to_jsonb takes one value")
        node = self.node(parts[0])
        if node.type == UNKNOWN:
            self._stop(parts[0], "sql-type", "the type of this is not known here", "cast it: …::text")
        return strict(JSONB, self._writer_of(parts[0], node.type), node)

    def _key_text(self, tree: exp.Expr, node: Node) -> Node:
        convert = self._writer(tree, node, sqltypes.output_text)
        return Node(TEXT, node.call, node.value, node.inputs) if convert is None else strict(TEXT, convert, node)

    def _jsonb(self, tree: exp.Expr, node: Node) -> Node:
        return strict(JSONB, self._writer_of(tree, node.type), node)

    def _writer_of(self, tree: exp.Expr, type_: Type) -> Callable[[Any], str]:
        writer = _WRITERS.get(type_)
        if writer is None:
            advice = type_.advice or "write it as a text first"
            self._stop(tree, "sql-type", f"{type_.name} as JSON is not available", advice)
        return writer


def _key(path: object) -> str | int | None:
    """A key or a number, as it is written behind an arrow."""
    if isinstance(path, exp.Neg) and isinstance(path.this, exp.Literal) and path.this.this.isdigit():
        return -int(path.this.this)
    steps = path.expressions if isinstance(path, exp.JSONPath) else []
    if len(steps) != 2 or not isinstance(steps[1], (exp.JSONPathKey, exp.JSONPathSubscript)):
        return None
    key = steps[1].this
    return key if isinstance(key, (str, int)) else None


def _object(count: int, *parts: closures.Call) -> closures.Call:
    keys, values = parts[:count], parts[count:]

    def call(row: closures.Row) -> str:
        names = [key(row) for key in keys]
        if None in names:
            raise ValueError("a key of an object is NULL")
        return jsons.built_object(names, [value(row) or "null" for value in values])

    return call


def _array(*values: closures.Call) -> closures.Call:
    return lambda row: jsons.built_array([value(row) or "null" for value in values])


def _timestamp(micros: int) -> str:
    convert = sqltypes.to_text(TIMESTAMP)
    assert convert is not None
    return jsons.string(convert(micros).replace(" ", "T", 1))


def _date(days: int) -> str:
    convert = sqltypes.to_text(DATE)
    assert convert is not None
    return jsons.string(convert(days))


_WRITERS: dict[Type, Callable[[Any], str]] = {
    BOOLEAN: lambda flag: "true" if flag else "false",
    NUMERIC: jsons.number,
    DATE: _date,
    TIMESTAMP: _timestamp,
    JSON: jsons.normal,
    JSONB: lambda text: text,
    **dict.fromkeys(INTEGERS, str),
    **dict.fromkeys((TEXT, UNKNOWN, UUID), jsons.string),
}
"""How a value of a type is written in jsonb."""
