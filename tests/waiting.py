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
    """What `condition` returns once it is true; after `deadline_s` an error that says what was waited for."""
    pause = threading.Event()
    end = time.monotonic() + deadline_s * PATIENCE
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() >= end:
            waited_for = what if isinstance(what, str) else what()
            raise AssertionError(f"not within {deadline_s * PATIENCE:.0f} s: {waited_for}")
        pause.wait(POLL_S)
