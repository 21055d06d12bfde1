"""Texts with places for column values: `/customers/{id}`. Parsed once; what is put in depends on where it stands.

`{name}` is a column, `{$word}` something that the engine knows (`{$key}`), `{{` and `}}` are braces. Nothing here
escapes: who fills a place knows whether it stands in a path, in a query or in a JSON string.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


class Place(NamedTuple):
    """Where a value goes; `start` and `length` are characters of the template's text."""

    name: str
    start: int
    length: int


class TemplateError(Exception):
    """The text is no template."""

    def __init__(self, message: str, start: int, length: int) -> None:
        super().__init__(message)
        self.message = message
        self.start = start
        self.length = length


@lru_cache(maxsize=1000)
def parse(text: str) -> tuple[str | Place, ...]:
    """The parts of a template, in order. Raises `TemplateError`."""
    parts: list[str | Place] = []
    plain, at = "", 0
    for found in _TOKEN.finditer(text):
        plain += text[at : found.start()]
        at = found.end()
        if found[0] in ("{{", "}}"):
            plain += found[0][0]
        elif not found[1]:
            message = "a place names no column" if found[1] == "" else f"a single '{found[0]}'"
            raise TemplateError(f"{message}; braces themselves are written {{{{ and }}}}", found.start(), len(found[0]))
        else:
            parts += [plain] if plain else []
            parts.append(Place(found[1], found.start(), len(found[0])))
            plain = ""
    plain += text[at:]
    return (*parts, plain) if plain or not parts else tuple(parts)


def names(text: str) -> list[Place]:
    """The places of a template. Raises `TemplateError`."""
    return [part for part in parse(text) if isinstance(part, Place)]
