"""How fast a REST target is asked, and when not at all: its rate, the pauses it asks for, the circuit breaker."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import structlog

from cdc.errors import Resting, Transient

_log = structlog.get_logger(__name__)

LONGEST_WAIT_S = 30.0
"""A pause that is longer is not sat out inside a request: the batch is tried again later."""


class Pace:
    """Shared by all threads that send. `wait` before each request, then one of `answered`, `failed`."""

    def __init__(
        self,
        rate: float | None,
        breaker_failures: int,
        breaker_s: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._interval = 0.0 if rate is None else 1.0 / rate
        self._most, self._open_s = breaker_failures, breaker_s
        self._clock, self._sleep = clock, sleep
        self._lock = threading.Lock()
        self._next = 0.0  # when the next request may leave, by the rate
        self._paused_until = 0.0  # … because the target asked for a pause
        self._failures = 0
        self._open_until = 0.0

    def wait(self) -> None:
        """Wait for this request's turn. Raises `Resting` while the breaker is open, `Transient` when the pause is too
        long."""
        with self._lock:
            now = self._clock()
            if self._failures >= self._most:
                if now < self._open_until:
                    left = self._open_until - now
                    raise Resting(f"the target failed {self._failures} times in a row: not asked for {left:.1f} s")
                self._open_until = now + self._open_s  # this one is the probe; the others wait for what it finds
            at = max(now, self._next, self._paused_until)
            if at - now > LONGEST_WAIT_S:
                raise Transient(f"the target asked for a pause: {at - now:.0f} s are left of it")
            self._next = at + self._interval
        if at > now:
            self._sleep(at - now)

    def pause(self, seconds: float) -> None:
        """The target asked to be left alone for so long."""
        with self._lock:
            self._paused_until = max(self._paused_until, self._clock() + seconds)

    def answered(self) -> None:
        """It answers: the breaker closes."""
        with self._lock:
            was_open, self._failures = self._failures >= self._most, 0
        if was_open:
            _log.info("the target answers again")

    def failed(self) -> None:
        with self._lock:
            self._failures += 1
            if self._failures >= self._most:
                self._open_until = self._clock() + self._open_s
            opens = self._failures == self._most
        if opens:
            _log.warning(
                "the target fails again and again: asked only now and then until it answers",
                failures=self._most,
                every_s=self._open_s,
            )
