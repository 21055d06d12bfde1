"""JSON on texts as PostgreSQL keeps it: parts come out exactly as they stand; what is built is written as jsonb is.

jsonb's own form: a key once (the last wins), shorter keys first, then by bytes; numbers as numeric writes them; ", "
and ": " between. Raises `ValueError` for what PostgreSQL refuses.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, NoReturn

import msgspec

from cdc.mapping import numeric

_OBJECT: msgspec.json.Decoder[dict[str, msgspec.Raw]] = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ARRAY: msgspec.json.Decoder[list[msgspec.Raw]] = msgspec.json.Decoder(list[msgspec.Raw])
_TEXT = msgspec.json.Decoder(str)
_BLANK = " \t\n\r"
_ESCAPES = {
    **{chr(code): f"\\u{code:04x}" for code in range(32)},
    '"': '\\"',
    "\\": "\\\\",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
}
_KINDS = {"{": "object", "[": "array", '"': "string", "t": "boolean", "f": "boolean", "n": "null"}
_ESCAPED = re.compile(r'[\x00-\x1f"\\]')
_SURROGATE = re.compile(r"[\ud800-\udfff]")


def member(text: str, key: str | int) -> str | None:
    """JSON text of a member or an element (`->`): None when there is none or `text` has none of this kind."""
    text = text.lstrip(_BLANK)
    if isinstance(key, str):
        found = _OBJECT.decode(text).get(key) if text[:1] == "{" else None
        return None if found is None else bytes(found).decode()
    if text[:1] != "[":
        return None
    elements = _ARRAY.decode(text)
    return bytes(elements[key]).decode() if -len(elements) <= key < len(elements) else None


def member_text(text: str, key: str | int) -> str | None:
    """The same as text (`->>`): strings without quotes, JSON null as NULL, anything else as it stands."""
    return _as_text(member(text, key))


def member_of_jsonb(text: str, key: str | int) -> str | None:
    """`->` of jsonb, to which a number or text alone is an array of one."""
    return text if key in (0, -1) and text[:1] not in ("{", "[") else member(text, key)


def member_of_jsonb_text(text: str, key: str | int) -> str | None:
    return _as_text(member_of_jsonb(text, key))


def part(text: str, path: Sequence[str]) -> str | None:
    """`#>`: down the path; a step into an array is a number."""
    found: str | None = text
    for step in path:
        if found is None:
            return None
        inside = found.lstrip(_BLANK)[:1]
        if inside == "[":
            found = member(found, int(step)) if re.fullmatch(r"[+-]?[0-9]{1,9}", step) else None
        else:
            found = member(found, step)
    return found


def part_text(text: str, path: Sequence[str]) -> str | None:
    """`#>>`."""
    return _as_text(part(text, path))


def path_of(text: str) -> tuple[str, ...]:
    """The steps of a path as it is written: '{a,0,b}'. Raises `ValueError` for those that need quotes."""
    inner = text[1:-1]
    steps = tuple(inner.split(","))
    if text[:1] != "{" or text[-1:] != "}" or not all(re.fullmatch(r"[^\s{}\"\\,]+", step) for step in steps):
        raise ValueError("a path is written '{key,0,key}'")
    if "null" in (step.lower() for step in steps):
        raise ValueError("a step of the path is NULL")
    return steps


def has_key(text: str, key: str) -> bool:
    """jsonb `?`: a key of the object, a string of the array, or the string itself."""
    value = parsed(text)
    if isinstance(value, list):
        return key in [each for each in value if isinstance(each, str)]
    return key in value if isinstance(value, dict) else isinstance(value, str) and value == key


def kind(text: str) -> str:
    """json_typeof, jsonb_typeof."""
    return _KINDS.get(text.lstrip(_BLANK)[:1], "number")


def length(text: str) -> int:
    """json_array_length, jsonb_array_length."""
    if kind(text) != "array":
        raise ValueError("cannot get array length of a value that is no array")
    return len(_ARRAY.decode(text.lstrip(_BLANK)))


# What is built


def normal(text: str) -> str:
    """JSON text as jsonb writes it."""
    return _written(parsed(text))


def parsed(text: str) -> Any:
    """JSON text as Python values, numbers as Decimals; strict as jsonb's input is."""
    try:
        value = _DECODER.decode(text.strip(_BLANK))
    except RecursionError as error:
        raise ValueError("JSON that is nested too deeply") from error
    except json.JSONDecodeError as error:
        raise ValueError("not JSON") from error
    _check(value)
    return value


def string(text: str) -> str:
    """A text as a JSON string."""
    return f'"{_ESCAPED.sub(lambda found: _ESCAPES[found[0]], text)}"'


def number(value: Decimal) -> str:
    """A number; what JSON has no number for is a string."""
    return numeric.text(value) if value.is_finite() else string(numeric.text(value))


def built_object(keys: Sequence[str], values: Iterable[str]) -> str:
    """jsonb_build_object: `values` are texts in jsonb's form."""
    return _object(dict(zip(keys, values, strict=True)))


def built_array(values: Iterable[str]) -> str:
    return f"[{', '.join(values)}]"


def _written(value: Any) -> str:
    if isinstance(value, dict):
        return _object({key: _written(each) for key, each in value.items()})
    if isinstance(value, list):
        return built_array(map(_written, value))
    if isinstance(value, str):
        return string(value)
    if isinstance(value, Decimal):
        return numeric.text(value)
    return {True: "true", False: "false", None: "null"}[value]


def _object(members: dict[str, str]) -> str:
    ordered = sorted((len(key.encode()), key.encode(), key) for key in members)
    return "{" + ", ".join(f"{string(key)}: {members[key]}" for _, _, key in ordered) + "}"


def _as_text(found: str | None) -> str | None:
    if found is None or found == "null":
        return None
    if found[0] != '"':
        return found
    value = _TEXT.decode(found)
    if "\0" in value:
        raise ValueError("\\u0000 cannot be converted to text")
    return value


def _checked(text: str) -> None:
    if "\0" in text or _SURROGATE.search(text):
        raise ValueError("\\u0000 or half a character cannot be converted to text")


def _no_constant(text: str) -> NoReturn:
    raise ValueError("not JSON")


def _check(value: Any) -> None:
    if isinstance(value, str):
        _checked(value)
    elif isinstance(value, list):
        for each in value:
            _check(each)
    elif isinstance(value, dict):
        for key, each in value.items():
            _checked(key)
            _check(each)


_DECODER = json.JSONDecoder(parse_float=numeric.from_text, parse_int=Decimal, parse_constant=_no_constant)
