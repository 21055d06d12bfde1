"""A business partner's REST API, with faults it can be told to have: `python -m cdc.stack.partner_server --port N`.

    POST /oauth/token                 a token for client credentials (any, when --secret is not given)
    PUT | PATCH | DELETE /…           one resource: replace, change, remove
    POST /…                           create a resource; /…:batch takes {"items": [{operation, id, key, data}]} and
                                      answers {"results": [{status}]}
    GET /…                            a resource
    GET | PUT | DELETE /_partner      what it holds and was sent; {"faults": […], "refuses": {…}}; forget everything

Every change may carry an Idempotency-Key; one that is known is answered again and not applied again.
"""

from __future__ import annotations

import argparse
import base64
import hmac
import json
import secrets
import socket
import sys
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from .partner_store import Fault, Store

HOST = "127.0.0.1"
CONTROL = "/_partner"
TOKENS = "/oauth/token"
TOKEN_LIVES_S = 300
_OPERATIONS = {"PUT": "upsert", "PATCH": "patch", "DELETE": "delete", "POST": "create"}
_MOST_BYTES = 64 << 20


class Partner(ThreadingHTTPServer):
    """The server. With `secret` every change needs a token, the password of basic authentication, or `X-Api-Key`."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, store: Store, port: int = 0, secret: str = "") -> None:
        self.store = store
        self.secret = secret
        self.pause = threading.Event()  # never set: a wait that nothing ends early but the end
        super().__init__((HOST, port), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away in the middle is nothing to tell; a defect of ours is."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Partner

    def do_GET(self) -> None:
        path = self._path()
        if path == CONTROL:
            self._answer(200, self.server.store.told())
            return
        with self.server.store.held():
            found = self.server.store.resources.get(path)
        self._answer(404 if found is None else 200, found)

    def do_POST(self) -> None:
        body = self._body()
        if self._path() == TOKENS:
            self._token()
        else:
            self._change(body)

    def do_PUT(self) -> None:
        body = self._body()
        if self._path() == CONTROL:
            self._configure(json.loads(body or b"{}"))
        else:
            self._change(body)

    def do_PATCH(self) -> None:
        self._change(self._body())

    def do_DELETE(self) -> None:
        body = self._body()
        store = self.server.store
        if self._path() == CONTROL:
            with store.held():
                for each in (store.resources, store.answers, store.log, store.faults, store.refuses):
                    each.clear()
            self._answer(204)
        else:
            self._change(body)

    # -- changes

    def _change(self, raw: bytes) -> None:
        store, path = self.server.store, self._path()
        with store.held():
            store.requests += 1
        slow = store.fault(("slow",), path)
        if slow is not None:
            self.server.pause.wait(slow.seconds)
        fault = store.fault(("status", "drop_before", "drop_after"), path)
        if fault is not None and fault.kind == "status":
            headers = {} if fault.retry_after is None else {"Retry-After": f"{fault.retry_after:g}"}
            self._answer(fault.status, {"error": "as it was told"}, headers)
        elif fault is not None and fault.kind == "drop_before":
            self._drop()
        elif not self._may():
            self._answer(401, {"error": "who are you?"})
        else:
            status, answer = self._apply(path, raw)
            if fault is not None:
                self._drop()
            else:
                self._answer(status, answer)

    def _apply(self, path: str, raw: bytes) -> tuple[int, Any]:
        try:
            body = json.loads(raw) if raw else None
        except ValueError:
            return 400, {"error": "no JSON"}
        operation = _OPERATIONS[self.command]
        key = self.headers.get("Idempotency-Key", "")
        if path.endswith(":batch"):
            return self._batch(path.removesuffix(":batch"), body)
        if operation == "create":
            if not isinstance(body, dict) or "id" not in body:
                return 400, {"error": "no id"}
            path = f"{path}/{body['id']}"
        status = self.server.store.change(operation, path, body, key)
        return status, {"error": "refused"} if status == 422 else {"path": path}

    def _batch(self, path: str, body: Any) -> tuple[int, Any]:
        results = []
        for item in body["items"]:
            at = f"{path}/{item['id']}"
            operation = {"create": "upsert", "update": "upsert"}.get(item["operation"], item["operation"])
            results.append({"status": self.server.store.change(operation, at, item.get("data"), item["key"])})
        return 200, {"results": results}

    # -- who asks

    def _token(self) -> None:
        user, _, password = self._basic().partition(":")
        if self.server.secret and not hmac.compare_digest(password, self.server.secret):
            self._answer(401, {"error": "invalid_client"})
            return
        token = secrets.token_hex(16)
        with self.server.store.held():
            self.server.store.tokens.add(token)
        self._answer(200, {"access_token": token, "token_type": "Bearer", "expires_in": TOKEN_LIVES_S, "client": user})

    def _may(self) -> bool:
        store, secret = self.server.store, self.server.secret
        if not secret:
            return True
        if store.fault(("expire_tokens",), self._path()):
            with store.held():
                store.tokens.clear()
        given = self.headers.get("Authorization", "")
        if given.startswith("Bearer "):
            with store.held():
                return given.removeprefix("Bearer ") in store.tokens
        known = (self.headers.get("X-Api-Key", ""), self._basic().partition(":")[2])
        return any(hmac.compare_digest(each, secret) for each in known)

    def _basic(self) -> str:
        scheme, _, text = self.headers.get("Authorization", "").partition(" ")
        try:
            return base64.b64decode(text).decode() if scheme == "Basic" else ""
        except ValueError:
            return ""

    # -- HTTP

    def _configure(self, told: dict[str, Any]) -> None:
        store = self.server.store
        with store.held():
            if "faults" in told:
                store.faults[:] = [Fault(**each) for each in told["faults"]]
            if "refuses" in told:
                store.refuses = told["refuses"]
        self._answer(204)

    def _path(self) -> str:
        return urllib.parse.urlsplit(self.path).path

    def _body(self) -> bytes:
        """Raises `ConnectionError` when the client went away before it had sent all: half a change is none."""
        length = min(int(self.headers.get("Content-Length") or 0), _MOST_BYTES)
        body = self.rfile.read(length)
        if len(body) < length:
            raise ConnectionError("cut short")
        return body

    def _answer(self, status: int, content: Any = None, headers: dict[str, str] | None = None) -> None:
        body = b"" if status == 204 or content is None else json.dumps(content).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _drop(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: what came is in the store."""


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    words.add_argument("--port", type=int, required=True)
    words.add_argument("--journal", type=Path, help="keeps what it holds when it ends")
    words.add_argument("--secret", default="", help="a file with the secret that clients must know")
    told = words.parse_args()
    secret = Path(told.secret).read_text(encoding="utf-8").strip() if told.secret else ""
    with Partner(Store(told.journal), told.port, secret) as server:
        server.serve_forever(poll_interval=0.1)


if __name__ == "__main__":
    main()
