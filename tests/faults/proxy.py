"""A TCP proxy before PostgreSQL that loses replies, goes silent, and refuses: what a network does."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_CHUNK = 1 << 16
BATCH = b" (_n, _op, _position,"  # the COPY that begins a round of a batch
PARKS = b"INSERT INTO cdc.parked"


class Proxy:
    """Listens on `port`; each connection has a thread for either direction.

    `lose_replies`: COMMITs of batches that park something get to the server, but their answers do not come back: the
    connection is cut instead; `lost` counts them. `silence_in_copy`: the next connection that begins the second round
    of a transaction (it holds locks of rows then) is heard no more, but stays open. `refusing`: connections are closed
    at once.
    """

    def __init__(self, host: str, port: int) -> None:
        self._there = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads: list[threading.Thread] = []
        self._sockets: list[socket.socket] = []
        self._closed = False
        self.refusing = False
        self.lose_replies = False
        self.lost = 0
        self.silence_in_copy = False
        self.silenced: list[socket.socket] = []
        self._begin(self._accept)

    def cut(self) -> None:
        """All connections of now."""
        for each in self._sockets:
            _close(each)
        self._sockets.clear()

    def close(self) -> None:
        self._closed = True
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()  # wakes the accepting thread
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(10)

    def _begin(self, work: object, *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)  # type: ignore[arg-type]
        thread.start()
        self._threads.append(thread)

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            if self._closed or self.refusing:
                _close(client)
                if self._closed:
                    return
                continue
            try:
                server = socket.create_connection(self._there)
            except OSError:
                _close(client)
                continue
            self._sockets += [client, server]
            line = _Line(self, client, server)
            self._begin(line.forth)
            self._begin(line.back)


class _Line:
    """One connection."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self.proxy = proxy
        self.client = client
        self.server = server
        self.copies = 0  # since the last COMMIT
        self.parks = False
        self.swallow = False  # the next answer of the server is lost, and the connection with it
        self.silent = False

    def forth(self) -> None:
        with suppress(OSError):
            while data := self.client.recv(_CHUNK):
                if self.silent:
                    continue
                self.copies += data.count(BATCH)
                self.parks = self.parks or PARKS in data
                if b"COMMIT" in data:
                    self.swallow = self.parks and self.proxy.lose_replies
                    self.copies, self.parks = 0, False
                self.server.sendall(data)
                if BATCH in data and self.copies > 1 and self.proxy.silence_in_copy:
                    self.proxy.silence_in_copy, self.silent = False, True
                    self.proxy.silenced.append(self.client)
        if not self.silent:  # a silent line tells the server nothing, not even that its client is gone
            _close(self.server)

    def back(self) -> None:
        with suppress(OSError):
            while data := self.server.recv(_CHUNK):
                if self.swallow:
                    self.proxy.lost += 1
                    break
                self.client.sendall(data)
        _close(self.client)


def _close(which: socket.socket) -> None:
    with suppress(OSError):
        which.shutdown(socket.SHUT_RDWR)
    which.close()


@contextmanager
def proxy_to(host: str, port: int) -> Iterator[Proxy]:
    proxy = Proxy(host, port)
    try:
        yield proxy
    finally:
        proxy.close()
