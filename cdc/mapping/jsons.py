"""`->` and `->>` with a text key, on JSON text as PostgreSQL keeps it: parts come out exactly as they stand."""

from __future__ import annotations

import msgspec

_OBJECT: msgspec.json.Decoder[dict[str, msgspec.Raw]] = msgspec.json.Decoder(dict[str, msgspec.Raw])
_TEXT = msgspec.json.Decoder(str)


def member(text: str, key: str) -> str | None:
    """JSON text of a member (`->`): None when there is none or `text` is no object. Raises `ValueError` on bad JSON."""
    if text.lstrip()[:1] != "{":
        return None
    found = _OBJECT.decode(text).get(key)
    return None if found is None else bytes(found).decode()


def member_text(text: str, key: str) -> str | None:
    """A member as text (`->>`): strings without quotes, JSON null as NULL, anything else as it stands."""
    found = member(text, key)
    if found is None or found == "null":
        return None
    if found[0] != '"':
        return found
    value = _TEXT.decode(found)
    if "\0" in value:
        raise ValueError("\\u0000 cannot be converted to text")
    return value
