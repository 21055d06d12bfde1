"""Findings in files that people write: what is wrong, the exact place, and the nearest thing that would be right.

`Diagnostic` is plain data; `render` shows several the way rustc does, `MappingError` carries them through the engine
(it is a `Usage` error: exit code 2, the pipeline does not start or stops).
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from cdc.errors import Usage
from cdc.yamlfile import SourceFile, Span, YamlError

Format: TypeAlias = Literal["full", "concise", "json", "github"]


@dataclass(frozen=True, slots=True)
class Note:
    """A second place that a finding is about ('first written here')."""

    message: str
    file: SourceFile
    span: Span

    @property
    def where(self) -> str:
        return self.file.where(self.span)


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One finding. `code` is a short stable word; `message` holds no row values."""

    code: str
    message: str
    file: SourceFile
    span: Span
    help: str | None = None
    severity: Literal["error", "warning"] = "error"
    notes: tuple[Note, ...] = ()

    @property
    def where(self) -> str:
        return self.file.where(self.span)

    def to_dict(self) -> dict[str, Any]:
        return {
            "severity": self.severity,
            "code": self.code,
            "message": self.message,
            "file": self.file.name,
            **self.span._asdict(),
            "help": self.help,
            "notes": [{"message": note.message, "file": note.file.name, **note.span._asdict()} for note in self.notes],
        }


class MappingError(Usage):
    """One or more findings; all of them are in `diagnostics`, in file order. `where` is the first error's place."""

    def __init__(self, diagnostics: Iterable[Diagnostic]) -> None:
        self.diagnostics: tuple[Diagnostic, ...] = ordered(diagnostics)
        first = self.diagnostics[0]
        more = len(self.diagnostics) - 1
        what = first.message + (f" (and {more} more)" if more else "")
        super().__init__(what, where=first.where, hint=first.help)

    def __str__(self) -> str:
        return render(self.diagnostics)


def from_yaml(error: YamlError) -> MappingError:
    """What is wrong with a file as YAML, told like everything else that is wrong with it."""
    file = error.file
    return MappingError(
        Diagnostic(
            problem.code,
            problem.message,
            file,
            problem.span,
            problem.help,
            notes=() if problem.first is None else (Note("first written here", file, problem.first),),
        )
        for problem in error.problems
    )


def ordered(diagnostics: Iterable[Diagnostic]) -> tuple[Diagnostic, ...]:
    return tuple(sorted(diagnostics, key=lambda found: (found.file.name, found.span)))


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known name that `word` was most likely meant to be, or None."""
    names = list(known)
    folded = {name.lower(): name for name in reversed(names)}
    close = difflib.get_close_matches(word.lower(), folded, n=1, cutoff=0.6)
    return folded[close[0]] if close else None


def did_you_mean(word: str, known: Sequence[str]) -> str | None:
    """Text for `help`: a likely name, else the few that there are."""
    close = nearest(word, known)
    if close is not None:
        return f"did you mean '{close}'?"
    return f"known here: {', '.join(known)}" if 0 < len(known) <= 12 else None


def render(diagnostics: Sequence[Diagnostic], style: Format = "full") -> str:
    """All findings as text, one after the other, without a final newline."""
    if style == "json":
        return to_json(diagnostics)
    one = {"full": _full, "concise": _concise, "github": _github}[style]
    return ("\n\n" if style == "full" else "\n").join(one(found) for found in diagnostics)


def to_json(diagnostics: Sequence[Diagnostic]) -> str:
    return json.dumps([found.to_dict() for found in diagnostics], indent=2, ensure_ascii=False)


def _concise(found: Diagnostic) -> str:
    tail = f" ({found.help})" if found.help else ""
    return f"{found.where}: {found.severity}[{found.code}] {found.message}{tail}"


def _github(found: Diagnostic) -> str:
    """A workflow command: GitHub shows it on the changed line of a pull request."""
    text = found.message + (f" ({found.help})" if found.help else "")
    for plain, escaped in (("%", "%25"), ("\r", "%0D"), ("\n", "%0A")):
        text = text.replace(plain, escaped)
    span = found.span
    place = f"file={found.file.name},line={span.line},col={span.column},endLine={span.end_line}"
    return f"::{found.severity} {place},title={found.code}::{text}"


def _full(found: Diagnostic) -> str:
    places: list[Diagnostic | Note] = [found, *found.notes]
    width = max(len(str(place.span.line)) for place in places)
    lines = [f"{found.severity}[{found.code}]: {found.message}"]
    lines += _excerpt(found.file, found.span, width, "^", found.help and f"help: {found.help}")
    for note in found.notes:
        lines += [f"{' ' * width} = {note.message}:", *_excerpt(note.file, note.span, width, "-", None)]
    return "\n".join(lines)


def _excerpt(file: SourceFile, span: Span, width: int, mark: str, label: str | None) -> list[str]:
    """The place, its line and carets under it. Tabs become one blank each, so that carets stand where they should."""
    text = file.line(span.line).replace("\t", " ")
    start = span.column - 1
    end = span.end_column - 1 if span.end_line == span.line else len(text)
    carets = mark * max(1, min(end, len(text)) - start)
    return [
        f"{' ' * width}--> {file.name}:{span.line}:{span.column}",
        f"{span.line:>{width}} | {text}".rstrip(),
        f"{' ' * width} | {' ' * start}{carets}" + (f" {label}" if label else ""),
    ]
