"""PostgreSQL's text functions on `str`: a character is a code point, as in a UTF-8 database.

Case follows Unicode's simple mappings (one character to one character), which is what PostgreSQL's builtin provider
(`pg_c_utf8`) and C.UTF-8 do; ICU and language-specific collations may differ for a few letters.
"""

from __future__ import annotations

import base64
import hashlib
import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache

from cdc.mapping.numeric import INT4

MAX_LENGTH = 10_000_000  # characters that padding may produce
_ASCII_WORD = re.compile(r"[A-Za-z0-9]+")


class _Lower(dict[int, str]):
    """Filled as characters come; never larger than Unicode."""

    def __missing__(self, point: int) -> str:
        lowered = chr(point).lower()
        # 'İ' alone has a longer full mapping.
        result = self[point] = lowered if len(lowered) == 1 else lowered[0]
        return result


class _Upper(dict[int, str]):
    def __missing__(self, point: int) -> str:
        char = chr(point)
        result = self[point] = next((form for form in (char.upper(), char.title()) if len(form) == 1), char)
        return result


_LOWER, _UPPER = _Lower(), _Upper()


def lower(value: str) -> str:
    return value.lower() if value.isascii() else value.translate(_LOWER)


def upper(value: str) -> str:
    return value.upper() if value.isascii() else value.translate(_UPPER)


def initcap(value: str) -> str:
    """Raises `ValueError` for characters whose being a letter depends on the database's locale."""
    if value.isascii():
        return _ASCII_WORD.sub(lambda word: word[0].capitalize(), value)
    result = []
    inside = False
    for char in value:
        word = _in_word(char)
        if word:
            result.append(lower(char) if inside else _first_letter(char))
        else:
            result.append(char)
        inside = word
    return "".join(result)


def _in_word(char: str) -> bool:
    if char.isascii():
        return char.isalnum()
    category = unicodedata.category(char)
    if category in {"Lu", "Ll", "Lo"}:
        return True
    if category[0] in "PZ" and category != "Pc":
        return False
    raise ValueError("initcap: a character that is a letter in some locales only")


def _first_letter(char: str) -> str:
    if char.title() != char.upper():
        raise ValueError("initcap: a character whose title case depends on the locale")
    return upper(char)


def substring(value: str, start: int, length: int | None = None) -> str:
    if length is None:
        return value[max(start - 1, 0) :]
    if length < 0:
        raise ValueError("negative substring length")
    return value[max(start - 1, 0) : max(start - 1 + length, 0)]


def left(value: str, count: int) -> str:
    return value[:count]


def right(value: str, count: int) -> str:
    if count == -INT4:
        return value  # PostgreSQL cannot negate it
    return value[-count:] if count else ""


def replace(value: str, old: str, new: str) -> str:
    return value.replace(old, new) if old else value


def split_part(value: str, delimiter: str, number: int) -> str:
    if number == 0:
        raise ValueError("split_part: field position must not be zero")
    parts = value.split(delimiter) if delimiter else [value]
    index = number - 1 if number > 0 else number
    return parts[index] if -len(parts) <= index < len(parts) else ""


def position(value: str, part: str) -> int:
    return value.find(part) + 1


def lpad(value: str, length: int, fill: str = " ") -> str:
    return _padding(value, length, fill) + value[: max(length, 0)]


def rpad(value: str, length: int, fill: str = " ") -> str:
    return value[: max(length, 0)] + _padding(value, length, fill)


def _padding(value: str, length: int, fill: str) -> str:
    if length > MAX_LENGTH:
        raise ValueError("requested length too large")
    missing = length - len(value)
    if missing <= 0 or not fill:
        return ""
    return (fill * (missing // len(fill) + 1))[:missing]


def trim(value: str, characters: str = " ") -> str:
    return value.strip(characters) if characters else value


def ltrim(value: str, characters: str = " ") -> str:
    return value.lstrip(characters) if characters else value


def rtrim(value: str, characters: str = " ") -> str:
    return value.rstrip(characters) if characters else value


def reverse(value: str) -> str:
    return value[::-1]


def md5(value: str) -> str:
    return hashlib.md5(value.encode(), usedforsecurity=False).hexdigest()


def digest(name: str) -> Callable[[bytes], bytes]:
    """The function of a hash's name."""
    make = getattr(hashlib, name)
    return lambda value: bytes(make(value).digest())


def convert_to(value: str, encoding: str) -> bytes:
    if encoding.lower() not in {"utf8", "utf-8"}:
        raise ValueError("convert_to: only 'UTF8' is available")
    return value.encode()


def encode(value: bytes, form: str) -> str:
    """As hex or base64, which has lines of 76 characters."""
    if form.lower() == "hex":
        return value.hex()
    if form.lower() != "base64":
        raise ValueError("encode: only 'hex' and 'base64' are available")
    text = base64.b64encode(value).decode()
    return "\n".join(text[start : start + 76] for start in range(0, len(text), 76))


def translate(value: str, characters: str, instead: str) -> str:
    """Each of the characters by the one at its place in `instead`, or by nothing; the first of equals counts."""
    table: dict[int, str | None] = {}
    for place, char in enumerate(characters):
        table.setdefault(ord(char), instead[place : place + 1] or None)
    return value.translate(table)


def repeat(value: str, count: int) -> str:
    if len(value) * count > MAX_LENGTH:
        raise ValueError("requested length too large")
    return value * count


def like(value: str, pattern: str) -> bool:
    return _pattern(pattern).fullmatch(value) is not None


def ilike(value: str, pattern: str) -> bool:
    return like(lower(value), lower(pattern))


@lru_cache(maxsize=512)
def _pattern(pattern: str) -> re.Pattern[str]:
    """LIKE as a regular expression. Raises `ValueError` for a pattern that ends in its escape character.

    Between two % the leftmost match is as good as any, hence the atomic groups: matching never goes back.
    """
    segments = [""]
    characters = iter(pattern)
    for char in characters:
        if char == "%":
            segments.append("")
        elif char == "\\":
            escaped = next(characters, None)
            if escaped is None:
                raise ValueError("LIKE pattern must not end with escape character")
            segments[-1] += re.escape(escaped)
        else:
            segments[-1] += "." if char == "_" else re.escape(char)
    first, *middle = segments
    end = ".*" + middle.pop() if middle else ""
    return re.compile(first + "".join(f"(?>.*?{segment})" for segment in middle if segment) + end, re.DOTALL)
