"""YAML files with the place of every key and value: what connections and mappings are read with.

The text goes through libyaml's events, not through PyYAML's constructors, so that it means exactly what it shows:

* plain scalars follow YAML 1.2's core schema: `NO` and `1:30` are strings, `0o17` is an integer, `010` is ten;
* keys are always strings; a key written twice is an error that shows both places;
* anchors, aliases, tags, merge keys and several documents are refused: a reader sees the whole text in its place;
* a number with a point becomes a `Decimal`, so `1.10` keeps its zero.

What a file may hold is for its reader to check, with `Document.span` (or `where`) for the place.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import yaml

from cdc.errors import Usage

ValuePath: TypeAlias = tuple[str | int, ...]
"""Keys and list indexes from the top of a document to a value."""

MAX_DEPTH = 32
MAX_NUMBER = 1000
"""Digits; longer numbers stay text."""

_INTEGER = re.compile(r"[-+]?[0-9]+")
_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_ENDLESS = re.compile(r"([-+]?)\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_WORDS: dict[str, Any] = {
    "": None,
    "~": None,
    **dict.fromkeys(("null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Span(NamedTuple):
    """A stretch of a file: lines and columns count from 1, the end is exclusive."""

    line: int
    column: int
    end_line: int
    end_column: int


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file's name as the user gave it, and its text."""

    name: str
    text: str = field(repr=False)

    def line(self, number: int) -> str:
        lines = self.text.splitlines()
        return lines[number - 1] if 0 < number <= len(lines) else ""

    def where(self, span: Span) -> str:
        """file:line:column, as errors name a place."""
        return f"{self.name}:{span.line}:{span.column}"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a file as YAML. `first`: for a key written twice, where it was written before."""

    code: str
    message: str
    span: Span
    help: str | None = None
    first: Span | None = None


class YamlError(Usage):
    """The file is no plain YAML 1.2. All findings are in `problems`, in file order; `where` is the first one's."""

    def __init__(self, file: SourceFile, problems: list[Problem]) -> None:
        self.file = file
        self.problems = tuple(sorted(problems, key=lambda problem: problem.span))
        found = self.problems[0]
        what = found.message if found.first is None else f"{found.message}, first in line {found.first.line}"
        super().__init__(what, where=file.where(found.span), hint=found.help)


@dataclass(frozen=True, slots=True)
class Document:
    """The value of a YAML file (dict, list, str, int, Decimal, bool, None) and where each part of it stands."""

    file: SourceFile
    value: Any
    keys: dict[ValuePath, Span] = field(repr=False)
    values: dict[ValuePath, Span] = field(repr=False)

    @property
    def name(self) -> str:
        return self.file.name

    def span(self, path: ValuePath = (), *, key: bool = False) -> Span:
        """The place of the value (or of its key) at `path`, or of the nearest thing above it that exists."""
        places = self.keys if key else self.values
        while path and path not in places:
            path = path[:-1]
            places = self.values
        return places.get(path, Span(1, 1, 1, 1))

    def where(self, path: ValuePath = (), *, key: bool = False) -> str:
        """file:line:column of the value (or of its key) at `path`, for errors."""
        return self.file.where(self.span(path, key=key))

    def place_in(self, path: ValuePath, start: int, length: int) -> Span:
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

    def _value(self, path: ValuePath) -> str:
        value = self.value
        for step in path:
            value = value[step]
        return str(value)


def read(path: str | os.PathLike[str]) -> Document:
    """The document in a file. Raises `Usage` when it cannot be read, `YamlError` when it is no plain YAML."""
    return parse(read_text(path), str(path))


def read_text(path: str | os.PathLike[str]) -> str:
    """A file's text, without a byte order mark. Raises `Usage`."""
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise Usage(f"cannot read the file: {error.strerror}", where=str(path)) from error
    except UnicodeDecodeError as error:
        raise Usage("the file is not UTF-8 text", where=str(path)) from error


def parse(text: str, name: str) -> Document:
    """The document in `text`; `name` is shown in errors. Raises `YamlError` with every finding."""
    return _Composer(SourceFile(name, text)).document()


class _Composer:
    """Builds values from libyaml's events and collects findings on the way."""

    def __init__(self, file: SourceFile) -> None:
        self.file = file
        self.keys: dict[ValuePath, Span] = {}
        self.values: dict[ValuePath, Span] = {}
        self.found: list[Problem] = []
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
                        self._problem("yaml-documents", "a file holds one document", _span(event))
                elif isinstance(event, yaml.NodeEvent):
                    value = self._node(event, ())
        except yaml.YAMLError as error:
            self.found.append(self._syntax(error))
        if self.found:
            raise YamlError(self.file, self.found)
        return Document(self.file, value, self.keys, self.values)

    def _node(self, event: Any, path: ValuePath) -> Any:
        self._refuse_surprises(event)
        span = _span(event)
        self.values.setdefault(path, span)
        if len(path) > MAX_DEPTH:
            self._problem("yaml-depth", f"more than {MAX_DEPTH} levels", span)
            raise YamlError(self.file, self.found)
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(path)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(path)
        return None if isinstance(event, yaml.AliasEvent) else _scalar(event)

    def _mapping(self, path: ValuePath) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for event in self.events:
            if isinstance(event, yaml.MappingEndEvent):
                self._close(path, event)
                break
            key = self._key(event)
            below = (*path, key)
            first = self.keys.get(below)
            if first is not None:
                self.found.append(Problem("duplicate-key", f"'{key}' is written twice", _span(event), first=first))
            self.keys[below] = _span(event)
            self.values.pop(below, None)
            result[key] = self._node(next(self.events), below)
        return result

    def _key(self, event: Any) -> str:
        if isinstance(event, yaml.ScalarEvent):
            self._refuse_surprises(event)
            return str(event.value)
        self._problem("yaml-key", "a key must be a word", _span(event), "put a text with a leading * in quotes")
        raise YamlError(self.file, self.found)

    def _sequence(self, path: ValuePath) -> list[Any]:
        result: list[Any] = []
        for event in self.events:
            if isinstance(event, yaml.SequenceEndEvent):
                self._close(path, event)
                break
            result.append(self._node(event, (*path, len(result))))
        return result

    def _close(self, path: ValuePath, event: Any) -> None:
        """The end of a collection in brackets. (One in lines ends where the next thing begins: its start is enough.)"""
        start, end = self.values[path], _span(event)
        if start.end_column > start.column:
            self.values[path] = Span(start.line, start.column, end.end_line, end.end_column)

    def _refuse_surprises(self, event: Any) -> None:
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            kind = "aliases (*name)" if isinstance(event, yaml.AliasEvent) else "anchors (&name)"
            self._problem("yaml-anchor", f"{kind} are not used here", _span(event), "write the text out, or quote it")
        elif event.tag is not None:
            self._problem("yaml-tag", f"the tag '{event.tag}' is not used here", _span(event), "put text in quotes")

    def _syntax(self, error: yaml.YAMLError) -> Problem:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error)
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        near = self.file.line(line)[column - 1 : column]
        advice = None
        before = self.file.line(line)[max(0, column - 2) : column]
        if near == "\t":
            problem, advice = "a tab where YAML wants blanks", "indent with blanks, not tabs"
        elif "*" in before:
            problem, advice = "a * without quotes means something else in YAML", "put '*' in quotes"
        elif near in {"%", "@", "`", "{", "}", "[", "]", ","}:
            advice = f"text that holds {near} needs quotes"
        return Problem("yaml-syntax", problem, Span(line, column, line, column + 1), advice)

    def _problem(self, code: str, message: str, span: Span, help: str | None = None) -> None:
        self.found.append(Problem(code, message, span, help))


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
    if _ENDLESS.fullmatch(text):
        return Decimal(text.replace(".", ""))
    return Decimal(text) if _FLOAT.fullmatch(text) else text


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
