"""YAML files with the place of every value, read as YAML 1.2: `NO` and `1:30` are strings, a key written twice is an
error. Small on purpose: what a file may hold is for its reader to check, with `Document.mark` for the place."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from cdc.errors import Usage

ValuePath: TypeAlias = tuple[str | int, ...]
"""Keys and list indexes from the top of a document to a value."""

_TAG = "tag:yaml.org,2002:"
_CORE: dict[str, tuple[str, list[str]]] = {
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    "float": (
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
}


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """PyYAML's parser with the core schema of YAML 1.2 in the place of YAML 1.1's guesses."""

    yaml_implicit_resolvers: dict[str, list[Any]] = {}  # noqa: RUF012  PyYAML wants it on the class


for _name, (_pattern, _first) in _CORE.items():
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(f"(?:{_pattern})$"), _first)


@dataclass(frozen=True)
class Document:
    """The plain value of a file (dict, list, str, int, float, bool, None) and the line:column of its parts."""

    name: str
    data: Any
    _marks: dict[ValuePath, tuple[int, int]] = field(repr=False)
    _keys: dict[ValuePath, tuple[int, int]] = field(repr=False)

    def mark(self, path: ValuePath, *, key: bool = False) -> tuple[int, int]:
        """Line and column, from 1, of the value at `path` (of its key, with `key`), or of the nearest thing above it
        that exists."""
        if key and path in self._keys:
            return self._keys[path]
        while path and path not in self._marks:
            path = path[:-1]
        return self._marks.get(path, (1, 1))

    def where(self, path: ValuePath = (), *, key: bool = False) -> str:
        """file:line:column of the value at `path` (of its key), for errors."""
        line, column = self.mark(path, key=key)
        return f"{self.name}:{line}:{column}"


def read(path: Path) -> Document:
    """The document in the file. Raises `Usage` with file:line:column for whatever is no plain YAML 1.2."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Usage(f"cannot read the file: {error}", where=str(path)) from error
    return parse(text, str(path))


def parse(text: str, name: str) -> Document:
    """The document in `text`; `name` is shown in errors."""
    try:
        node = yaml.compose(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise _syntax(error, text, name) from error
    builder = _Builder(name)
    data = None if node is None else builder.value(node, ())
    return Document(name, data, builder.marks, builder.keys)


class _Builder:
    def __init__(self, name: str) -> None:
        self._name = name
        self.marks: dict[ValuePath, tuple[int, int]] = {}
        self.keys: dict[ValuePath, tuple[int, int]] = {}

    def value(self, node: Any, path: ValuePath) -> Any:
        self.marks[path] = _place(node)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
        return self._scalar(node)

    def _mapping(self, node: Any, path: ValuePath) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise self._error("a key must be a word", key_node)
            key = str(key_node.value)
            if key in result:
                first = self.keys[(*path, key)][0]
                raise self._error(f"'{key}' is written twice, first in line {first}", key_node)
            self.keys[(*path, key)] = _place(key_node)
            result[key] = self.value(value_node, (*path, key))
        return result

    def _scalar(self, node: Any) -> Any:
        text = str(node.value)
        match node.tag.removeprefix(_TAG):
            case "str":
                return text
            case "null":
                return None
            case "bool":
                return text.lower() == "true"
            case "int":
                return int(text, 0) if text[:2] in {"0o", "0x"} else int(text)
            case "float":
                return float(re.sub(r"\.(?=[in])", "", text.lower()))  # Python writes .inf and .nan without the dot
            case _:
                raise self._error(f"the tag {node.tag} is not used here", node)

    def _error(self, what: str, node: Any) -> Usage:
        line, column = _place(node)
        return Usage(what, where=f"{self._name}:{line}:{column}")


def _place(node: Any) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1


def _syntax(error: yaml.YAMLError, text: str, name: str) -> Usage:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error)
    if mark is None:
        return Usage(problem, where=name)
    lines = text.splitlines()
    near = lines[mark.line][mark.column : mark.column + 1] if mark.line < len(lines) else ""
    hint = "indent with blanks, not tabs" if near == "\t" else None
    return Usage(problem, where=f"{name}:{mark.line + 1}:{mark.column + 1}", hint=hint)
