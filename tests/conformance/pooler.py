"""What a connection pooler does to PostgreSQL's protocol: clients share sessions, by the transaction or for life."""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from queue import LifoQueue
from select import select

import psycopg

_CHUNK = 1 << 16
_ENCRYPTION = (80877103, 80877104)  # requests for TLS and GSSAPI
_PARAMETERS = {"client_encoding": "UTF8", "server_version": "17.0", "standard_conforming_strings": "on"}


class Pooler:
    """Listens on `port`. With `transactions`, a client has one of `size` sessions until its transaction ends; without,
    until it goes. As pgbouncer does it, the session that became free last is given away first, and the process ids that
    clients are told are made up."""

    def __init__(self, dsn: str, *, transactions: bool, size: int) -> None:
        self._transactions = transactions
        self._servers = [psycopg.connect(dsn, sslmode="disable", gssencmode="disable") for _ in range(size)]
        self._idle: LifoQueue[socket.socket | None] = LifoQueue()
        self._wires = [socket.socket(fileno=os.dup(server.fileno())) for server in self._servers]
        for wire in self._wires:
            wire.setblocking(True)
            self._idle.put(wire)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._clients: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._begin(self._accept)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for client in self._clients:
            self._idle.put(None)  # for those that wait
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        for each in (*self._wires, *self._servers):
            each.close()

    def _begin(self, work: Callable[..., None], *arguments: socket.socket) -> None:
        self._threads.append(threading.Thread(target=work, args=arguments, daemon=True))
        self._threads[-1].start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._clients.append(client)
                self._begin(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        """In session mode the session stays taken: another client would need a clean one."""
        with closing(client), suppress(OSError):
            _greet(client)
            server, unread = None, b""
            while True:
                ready = select([client, server] if server else [client], [], [])[0]
                if client in ready:
                    data = client.recv(_CHUNK)
                    if not data or data[:1] == b"X":
                        break
                    server = server or self._idle.get()
                    if server is None:
                        break
                    server.sendall(data)
                elif server is not None:
                    data = server.recv(_CHUNK)
                    client.sendall(data)
                    unread, done = _answers(unread + data)
                    if done and self._transactions:
                        self._idle.put(server)
                        server = None


def _greet(client: socket.socket) -> None:
    while True:
        (length, code) = struct.unpack("!II", client.recv(8, socket.MSG_WAITALL))
        client.recv(length - 8, socket.MSG_WAITALL) if length > 8 else b""
        if code not in _ENCRYPTION:
            break
        client.sendall(b"N")
    told = b"".join(_message(b"S", f"{name}\0{value}\0".encode()) for name, value in _PARAMETERS.items())
    key = _message(b"K", struct.pack("!II", 1, 1))
    client.sendall(_message(b"R", struct.pack("!I", 0)) + told + key + _message(b"Z", b"I"))


def _message(kind: bytes, content: bytes) -> bytes:
    return kind + struct.pack("!I", len(content) + 4) + content


def _answers(data: bytes) -> tuple[bytes, bool]:
    """What is left behind the last whole message, and whether that one says that no transaction is open."""
    done = False
    while len(data) >= 5:
        end = 1 + struct.unpack("!I", data[1:5])[0]
        if len(data) < end:
            break
        done = data[:1] == b"Z" and data[5:6] == b"I"
        data = data[end:]
    return data, done


@contextmanager
def pooler_to(dsn: str, *, transactions: bool, size: int) -> Iterator[Pooler]:
    pooler = Pooler(dsn, transactions=transactions, size=size)
    try:
        yield pooler
    finally:
        pooler.close()
