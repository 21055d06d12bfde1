"""Free ports of 127.0.0.1, from below the range the system gives to outgoing connections (which would take them)."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable, Container

from .errors import StackError

FIRST, LAST = 20_000, 32_000
_TRIES = 1_000


def is_free(port: int) -> bool:
    """Whether a server could listen there now. A connection still dying there (TIME_WAIT) is no obstacle."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def choose(taken: Container[int], chance: random.Random, free: Callable[[int], bool] = is_free) -> int:
    """A free port that is not in `taken`. Drawn by chance, so that two stacks that start at once do not meet."""
    for _ in range(_TRIES):
        port = chance.randint(FIRST, LAST)
        if port not in taken and free(port):
            return port
    raise StackError(f"no free port found between {FIRST} and {LAST} in {_TRIES} tries")
