"""What an HTTP status means for the row that was sent.

    acknowledged  2xx; 404 and 410 of a delete: it is gone, as wanted
    transient     408, 425, 429, 5xx (but 501 and 505); no answer at all: the same request leaves again
    terminal      3xx, 401, 403, 405, 407, 501, 505: nothing of this target can work until somebody acts;
                  404 and 410 of create, upsert or a batch: the URL is wrong
    poison        every other 4xx: this row is refused and parked with its key, others go on

`statuses` of the target's entry in connections.yaml changes the meaning of single ones.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Literal

Meaning = Literal["acknowledged", "transient", "poison", "terminal"]
_TRANSIENT = frozenset({408, 425, 429})
_TERMINAL = frozenset({401, 403, 405, 407, 501, 505})
_GONE = frozenset({404, 410})


def meaning(status: int, operation: str, overrides: Mapping[int, Meaning]) -> Meaning:
    """`operation`: create, update, upsert, patch, delete, or batch for a batch as a whole."""
    if status in overrides:
        return overrides[status]
    if 200 <= status < 300:
        return "acknowledged"
    if status in _GONE and operation == "delete":
        return "acknowledged"
    if status in _GONE and operation in ("create", "upsert", "batch"):
        return "terminal"
    if status in _TERMINAL or status < 400:
        return "terminal"
    if status in _TRANSIENT or status >= 500:
        return "transient"
    return "poison"


def retry_after_s(header: str | None, now: float | None = None) -> float | None:
    """Seconds that a Retry-After header asks for; None without one that can be read."""
    if header is None:
        return None
    if header.strip().replace(".", "", 1).isdigit():
        return float(header)
    try:
        at = parsedate_to_datetime(header).timestamp()
    except (TypeError, ValueError):
        return None
    return max(0.0, at - (time.time() if now is None else now))
