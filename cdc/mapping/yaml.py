"""YAML with the place of every key and value.

The text goes through libyaml's events, not through PyYAML's constructors, so that it means exactly what it shows:

* plain scalars follow YAML 1.2's core schema: `NO` and `1:30` are strings, `0o17` is an integer, `010` is ten;
* keys are always strings; a key written twice is an error that shows both places;
* anchors, aliases, tags, merge keys and several documents are refused: a reader sees the whole text in its place;
* a number with a point becomes a `Decimal`, so `1.10` keeps its zero.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, TypeAlias

import yaml

from cdc.mapping.diagnostics import Diagnostic, MappingError, Note, SourceFile, Span

Path: TypeAlias = tuple[str | int, ...]
"""Keys and list indexes from the top of a document to a value."""

_INTEGER = re.compile(r"[-+]?[0-9]+")
_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: dict[str, Any] = {
    "": None,
    "~": None,
    **dict.fromkeys(("null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
MAX_DEPTH = 32
MAX_NUMBER = 1000  # longer numbers stay text


@dataclass(frozen=True, slots=True)
class Document:
    """The value of a YAML file and where each part of it stands."""

    file: SourceFile
    value: Any
    keys: dict[Path, Span] = field(repr=False)
    values: dict[Path, Span] = field(repr=False)

    def span(self, path: Path, *, key: bool = False) -> Span:
        """The place of the value (or of its key) at `path`, or of the nearest thing above it that exists."""
        places = self.keys if key else self.values
        while path and path not in places:
            path = path[:-1]
            places = self.values
        return places.get(path, Span(1, 1, 1, 1))

    def place_in(self, path: Path, start: int, length: int) -> Span:
        """The place of `length` characters from index `start` of the string value at `path`.

        Exact for plain, quoted and literal (`|`) scalars; where the text cannot be followed (escapes, folding), the
        place of the whole value.
        """
        whole = self.span(path)
        index = _follow(self._raw(whole), self._value(path), start)
        if index is None:
            return whole
        before = self._raw(Span(1, 1, whole.line, whole.column)) + self._raw(whole)[:index]
        line = before.count("\n") + 1
        column = len(before) - (before.rfind("\n") + 1) + 1
        return Span(line, column, line, column + max(1, length))

    def _raw(self, span: Span) -> str:
        lines = self.file.text.splitlines(keepends=True)[span.line - 1 : span.end_line]
        if span.end_line - span.line < len(lines):
            lines[-1] = lines[-1][: span.end_column - 1]
        if lines:
            lines[0] = lines[0][span.column - 1 :]
        return "".join(lines)

    def _value(self, path: Path) -> str:
        value = self.value
        for step in path:
            value = value[step]
        return str(value)


def _follow(raw: str, value: str, start: int) -> int | None:
    """Index in `raw` of the character `value[start]`, when every character of `value` shows up in `raw` in order."""
    at = 0
    if raw[:1] in {"|", ">"}:
        at = raw.find("\n") + 1  # past the header and its comment
    elif raw[:1] in {"'", '"'}:
        at = 1
        if "\\" in raw or "''" in raw[1:-1]:
            return None
    for index, char in enumerate(value):
        while at < len(raw) and raw[at] != char and raw[at].isspace():
            at += 1
        if at >= len(raw) or raw[at] != char:
            # A folded line break shows as a blank in the value.
            if char.isspace():
                continue
            return None
        if index == start:
            return at
        at += 1
    return at if start >= len(value) else None


def parse(text: str, name: str) -> Document:
    """The document in `text`; `name` is shown in errors. Raises `MappingError` with every finding."""
    return _Composer(SourceFile(name, text)).document()


class _Composer:
    """Builds values from libyaml's events and collects findings on the way."""

    def __init__(self, file: SourceFile) -> None:
        self.file = file
        self.keys: dict[Path, Span] = {}
        self.values: dict[Path, Span] = {}
        self.found: list[Diagnostic] = []
        self.events: Iterator[Any] = iter(())

    def document(self) -> Document:
        value: Any = None
        documents = 0
        try:
            self.events = iter(yaml.parse(self.file.text, Loader=_LOADER))
            for event in self.events:
                if isinstance(event, yaml.DocumentStartEvent):
                    documents += 1
                    if documents > 1:
                        self._error("yaml-documents", "a file holds one document", _span(event))
                elif isinstance(event, yaml.NodeEvent):
                    value = self._node(event, ())
        except yaml.YAMLError as error:
            self.found.append(self._syntax(error))
        if self.found:
            raise MappingError(self.found)
        return Document(self.file, value, self.keys, self.values)

    def _node(self, event: Any, path: Path) -> Any:
        self._refuse_surprises(event)
        span = _span(event)
        self.values.setdefault(path, span)
        if len(path) > MAX_DEPTH:
            raise MappingError([Diagnostic("yaml-depth", f"more than {MAX_DEPTH} levels", self.file, span)])
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(path)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(path)
        return None if isinstance(event, yaml.AliasEvent) else _scalar(event)

    def _mapping(self, path: Path) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for event in self.events:
            if isinstance(event, yaml.MappingEndEvent):
                self._close(path, event)
                break
            key = self._key(event)
            below = (*path, key)
            first = self.keys.get(below)
            if first is not None:
                notes = (Note("first written here", self.file, first),)
                self._error("duplicate-key", f"'{key}' is written twice", _span(event), notes=notes)
            self.keys[below] = _span(event)
            self.values.pop(below, None)
            result[key] = self._node(next(self.events), below)
        return result

    def _key(self, event: Any) -> str:
        if isinstance(event, yaml.ScalarEvent):
            self._refuse_surprises(event)
            return str(event.value)
        self._error("yaml-key", "a key must be a word", _span(event), help="put a text with a leading * in quotes")
        raise MappingError(self.found)

    def _sequence(self, path: Path) -> list[Any]:
        result: list[Any] = []
        for event in self.events:
            if isinstance(event, yaml.SequenceEndEvent):
                self._close(path, event)
                break
            result.append(self._node(event, (*path, len(result))))
        return result

    def _close(self, path: Path, event: Any) -> None:
        """The end of a collection in brackets. (One in lines ends where the next thing begins: its start is enough.)"""
        start, end = self.values[path], _span(event)
        if start.end_column > start.column:
            self.values[path] = Span(start.line, start.column, end.end_line, end.end_column)

    def _refuse_surprises(self, event: Any) -> None:
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            kind = "aliases (*name)" if isinstance(event, yaml.AliasEvent) else "anchors (&name)"
            self._error(
                "yaml-anchor", f"{kind} are not used here", _span(event), help="write the text out, or quote it"
            )
        elif event.tag is not None:
            self._error("yaml-tag", f"the tag '{event.tag}' is not used here", _span(event), help="put text in quotes")

    def _syntax(self, error: yaml.YAMLError) -> Diagnostic:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error)
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        near = self.file.line(line)[column - 1 : column]
        advice = None
        before = self.file.line(line)[max(0, column - 2) : column]
        if near == "\t":
            problem, advice = "a tab where YAML wants blanks", "indent with blanks"
        elif "*" in before:
            problem, advice = "a * without quotes means something else in YAML", "put '*' in quotes"
        elif near in {"%", "@", "`", "{", "}", "[", "]", ","}:
            advice = f"text that holds {near} needs quotes"
        return Diagnostic("yaml-syntax", problem, self.file, Span(line, column, line, column + 1), advice)

    def _error(
        self, code: str, message: str, span: Span, *, help: str | None = None, notes: tuple[Note, ...] = ()
    ) -> None:
        self.found.append(Diagnostic(code, message, self.file, span, help, notes=notes))


def _span(event: Any) -> Span:
    start, end = event.start_mark, event.end_mark
    return Span(start.line + 1, start.column + 1, end.line + 1, end.column + 1)


def _scalar(event: Any) -> Any:
    text: str = event.value
    if not event.implicit[0]:  # quoted or a block: always text
        return text
    if text in _WORDS:
        return _WORDS[text]
    if len(text) > MAX_NUMBER:
        return text
    if _INTEGER.fullmatch(text):
        return int(text)
    if _BASED.fullmatch(text):
        return int(text, 0)
    return Decimal(text) if _FLOAT.fullmatch(text) else text
