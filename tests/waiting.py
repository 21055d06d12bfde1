"""Waiting without guessing: a condition, a deadline, and what was waited for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
POLL_S = 0.05
PATIENCE = 3
"""Deadlines are those of a quiet machine; on a busy one everything may take three times as long."""


def eventually(condition: Callable[[], T], deadline_s: float, what: str | Callable[[], str]) -> T:
    """What `condition` returns once it is true; an error that says what was waited for after `deadline_s` (× PATIENCE)."""
    pause = threading.Event()
    end = time.monotonic() + deadline_s * PATIENCE
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() >= end:
            raise AssertionError(f"not within {PATIENCE} × {deadline_s:.0f} s: {what if isinstance(what, str) else what()}")
        pause.wait(POLL_S)
