"""Waiting: for a condition, with a deadline; and for a lock that another process holds."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .errors import StackError


@dataclass(frozen=True)
class Patience:
    """How this room waits. Clock (monotonic seconds) and sleep are passed in, so that a test needs no real time."""

    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def until(self, done: Callable[[], bool], *, deadline_s: float, every_s: float = 0.05) -> bool:
        """Ask `done` at once and then every `every_s`; True as soon as it holds, False when the time is over."""
        end = self.clock() + deadline_s
        while not done():
            if self.clock() >= end:
                return False
            self.sleep(every_s)
        return True

    @contextmanager
    def holding(self, lock: Path, *, deadline_s: float, what: str) -> Iterator[None]:
        """Hold the lock file against other processes. The system releases it when its holder dies."""
        held: list[int] = []

        def taken() -> bool:
            file = _try_lock(lock)
            held.extend(() if file is None else (file,))
            return file is not None

        if not self.until(taken, deadline_s=deadline_s):
            raise StackError(
                f"another process has been {what} for more than {deadline_s:.0f} s",
                where=str(lock),
                hint="wait for it or end it, then run the command again",
            )
        try:
            yield
        finally:
            os.close(held[0])


def _try_lock(lock: Path) -> int | None:
    """The locked file, or None if another has it, or has removed it under our hands (after a reset)."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(file).st_ino == lock.stat().st_ino:
            return file
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(file)
    return None
