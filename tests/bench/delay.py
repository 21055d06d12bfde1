"""A target that is far away: a TCP proxy that holds back everything for a while, in both directions."""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_CHUNK = 1 << 16
_ON_THE_WAY = 256
"""Chunks that a line holds at most in one direction: more than it carries in a few milliseconds."""


@contextmanager
def delayed(host: str, port: int, seconds: float) -> Iterator[int]:
    """A port of this machine by which `port` is reached, `seconds` later in each direction."""
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=_accept, args=(listener, (host, port), seconds), daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)  # wakes the accepting thread
        listener.close()


def _accept(listener: socket.socket, there: tuple[str, int], seconds: float) -> None:
    """Lines end when one of their ends closes."""
    with suppress(OSError):
        while True:
            client, _ = listener.accept()
            server = socket.create_connection(there)
            for each in (client, server):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for one, other in ((client, server), (server, client)):
                way: queue.Queue[tuple[float, bytes]] = queue.Queue(_ON_THE_WAY)
                threading.Thread(target=_take, args=(one, way, seconds), daemon=True).start()
                threading.Thread(target=_bring, args=(other, way), daemon=True).start()


def _take(one: socket.socket, way: queue.Queue[tuple[float, bytes]], seconds: float) -> None:
    data = b"first"
    while data:
        try:
            data = one.recv(_CHUNK)
        except OSError:
            data = b""
        way.put((time.monotonic() + seconds, data))


def _bring(other: socket.socket, way: queue.Queue[tuple[float, bytes]]) -> None:
    """Until nothing more comes; what cannot be delivered is thrown away."""
    while True:
        due, data = way.get()
        time.sleep(max(0.0, due - time.monotonic()))
        with suppress(OSError):
            if not data:
                other.shutdown(socket.SHUT_RDWR)
                return
            other.sendall(data)
