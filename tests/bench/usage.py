"""CPU time and memory of processes and their descendants, from /proc."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from cdc.stack import process

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Usage:
    """`cpu_s` so far, also of descendants that have ended; `peak_mb`: the largest of them at its largest."""

    cpu_s: float
    peak_mb: float


NONE = Usage(0.0, 0.0)


def of(pid: int) -> Usage:
    family = process.tree(pid)
    ended = sum(_fields(pid)[13:15]) / _TICKS  # of children that were waited for
    return Usage(ended + sum(sum(_fields(each)[11:13]) / _TICKS for each in family), max(map(_peak_mb, family)))


def _fields(pid: int) -> list[int]:
    """/proc/<pid>/stat from the third field on, what is not a number as 0."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return [0] * 15
    return [int(word) if word.lstrip("-").isdigit() else 0 for word in text.rpartition(")")[2].split()]


def _peak_mb(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")), 0.0)
