"""The HTTP side of `cdc metrics`: /metrics, /healthz, /readyz. Each request looks at the stored state, with a deadline.

One look is under way at a time; who asks meanwhile waits for the same one. A look that takes too long is not lost: the
next request has what it found, with its age.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import structlog
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import choose_encoder

from cdc.control.status import PipelineStatus, Status
from cdc.errors import CdcError, Usage
from cdc.ops.metrics import Seen, StatusCollector

ANSWERS_WITHIN_S = 8.0
"""Prometheus gives up after 10 s unless told otherwise."""

_ON_PURPOSE = ("PAUSED", "STOPPED")
_TEXT = "text/plain; charset=utf-8"
_log = structlog.get_logger(__name__)


class Watch:
    """Looks for many askers. `look` may raise: then it brought nothing new."""

    def __init__(
        self,
        look: Callable[[], Status],
        answers_within_s: float = ANSWERS_WITHIN_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._look, self._answers_within_s, self._clock = look, answers_within_s, clock
        self._lock = threading.Lock()
        self._done: threading.Event | None = None
        self._last = Seen(None, 0.0, 0.0)
        self._found_at = clock()

    def __call__(self) -> Seen:
        """What is known within the deadline. Never raises."""
        with self._lock:
            if self._done is None:
                self._done = threading.Event()
                threading.Thread(target=self._run, args=(self._done,), daemon=True).start()
            done = self._done
        in_time = done.wait(self._answers_within_s)
        with self._lock:
            last, age_s = self._last, self._clock() - self._found_at
        if in_time:
            return Seen(last.status, age_s if last.error else 0.0, last.seconds, last.error)
        error = f"the state was not there within {self._answers_within_s:g} s"
        return Seen(last.status, age_s, self._answers_within_s, error)

    def _run(self, done: threading.Event) -> None:
        began, status, error = self._clock(), None, ""
        try:
            status = self._look()
        except CdcError as raised:
            error = f"{raised.what}" + (f" (at {raised.where})" if raised.where else "")
        except Exception as raised:  # the endpoint has to go on and say so, whatever it is
            _log.exception("looking at the pipelines failed")
            error = f"{type(raised).__name__}, see the log of cdc metrics"
        with self._lock:
            now = self._clock()
            self._last = Seen(status or self._last.status, 0.0, now - began, error)
            if status is not None:
                self._found_at = now
            self._done = None
        done.set()


def text(look: Callable[[], Seen]) -> str:
    """What /metrics says, once."""
    return generate_latest(_registry(look)).decode()


def not_ready(seen: Seen) -> list[str]:
    """Why the pipelines do not do what they should, a line each. What stands still on purpose and what is only behind
    is no reason: a lag has its alerts."""
    reasons = [seen.error] if seen.error else []
    if seen.status is None:
        return reasons
    reasons += [f"not reached: {each}" for each in seen.status.unreachable]
    reasons += [
        f"source {each.source}: {each.problem}"
        for each in seen.status.sources
        if each.problem and each.state not in _ON_PURPOSE
    ]
    for pipeline in seen.status.pipelines:
        reasons += [f"pipeline {pipeline.name}: {why}" for why in _why(pipeline)]
    return reasons


def _why(pipeline: PipelineStatus) -> list[str]:
    found = [f"not reached: {each}" for each in pipeline.unreachable]
    # 'stopped' with an error: its worker was killed or hangs; 'running' with one: its target takes nothing.
    return found + ([f"{pipeline.state}, {pipeline.error}"] if pipeline.error or pipeline.state == "failed" else [])


def make_server(look: Callable[[], Seen], host: str, port: int) -> ThreadingHTTPServer:
    """Bound, not yet serving; port 0 takes a free one. Raises `Usage` when the address can't be had."""
    registry = _registry(look)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/metrics":
                encode, content_type = choose_encoder(self.headers.get("Accept", ""))
                self._answer(200, content_type, encode(registry))
            elif path == "/healthz":
                self._answer(200, _TEXT, b"ok\n")
            elif path == "/readyz":
                reasons = not_ready(look())
                lines = "\n".join(reasons or ["ok"]) + "\n"
                self._answer(503 if reasons else 200, _TEXT, lines.encode())
            else:
                self._answer(404, _TEXT, b"there are /metrics, /healthz and /readyz\n")

        def _answer(self, code: int, content_type: str, body: bytes) -> None:
            self.send_response(code)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """A scrape every few seconds is no news."""

    try:
        return ThreadingHTTPServer((host, port), Handler)
    except OSError as error:
        what = f"cannot listen on {host}:{port}: {error.strerror}"
        raise Usage(what, hint="give a free one: --host, --port") from error


def _registry(look: Callable[[], Seen]) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(StatusCollector(look))
    return registry
