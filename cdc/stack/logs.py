"""Reading a part's log file: its last lines, and what is added to it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

_POLL_S = 0.2


def last(log: Path, count: int, start: int = 0) -> tuple[list[str], int]:
    """The last `count` lines written after byte `start`, and the byte where they end. No file, no lines."""
    if not log.exists():
        return [], 0
    with log.open("rb") as file:
        file.seek(start)
        lines = deque(file, maxlen=count)
        return [_text(line) for line in lines], file.tell()


def follow(log: Path, start: int, sleep: Callable[[float], None]) -> Iterator[str]:
    """What is written after byte `start`, line by line, without end. Begins anew when the file was set aside."""
    rest = b""
    while True:
        size = log.stat().st_size if log.exists() else 0
        if size < start:
            start, rest = 0, b""
        if size == start:
            sleep(_POLL_S)
            continue
        with log.open("rb") as file:
            file.seek(start)
            *whole, rest = (rest + file.read(size - start)).split(b"\n")
        start = size
        yield from (_text(line) for line in whole)


def _text(line: bytes) -> str:
    return line.decode(errors="replace").rstrip("\n")
