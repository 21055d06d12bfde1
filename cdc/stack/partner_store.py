"""What the partner holds, what it was sent, and how it was told to misbehave."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

Kind = Literal["slow", "status", "drop_before", "drop_after", "expire_tokens"]
FOR_EVER = 1 << 30
LOGGED = 200_000
"""Most requests that are remembered."""


@dataclass
class Fault:
    """A way to misbehave, for the next `times` requests whose path begins with `path`.

    slow: answer `seconds` late. status: answer `status` (with `retry_after` seconds, when given) and do nothing.
    drop_before, drop_after: close the connection without an answer, before or after doing what was asked.
    expire_tokens: the tokens given out so far are refused.
    """

    kind: Kind
    times: int = FOR_EVER
    path: str = ""
    seconds: float = 0.0
    status: int = 500
    retry_after: float | None = None


@dataclass(frozen=True)
class Entry:
    """One change that came, in the order of coming. `outcome`: applied, repeated (its key was known), or refused."""

    key: str
    operation: str
    path: str
    body: Any
    outcome: Literal["applied", "repeated", "refused"]


@dataclass
class Store:
    """Resources by path. A change whose idempotency key is known is answered as it was, and not applied again.

    `refuses`: field → values of it that are refused (422). `journal`: a file that outlives the process.
    """

    journal: Path | None = None
    resources: dict[str, Any] = field(default_factory=dict)
    answers: dict[str, int] = field(default_factory=dict)
    log: list[Entry] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    refuses: dict[str, list[Any]] = field(default_factory=dict)
    tokens: set[str] = field(default_factory=set)
    requests: int = 0
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def __post_init__(self) -> None:
        if self.journal is not None and self.journal.exists():
            for line in self.journal.read_text(encoding="utf-8").splitlines():
                told = json.loads(line)
                self._do(told["operation"], told["path"], told["body"])
                self.answers[told["key"]] = told["status"]

    @contextmanager
    def held(self) -> Iterator[None]:
        with self._lock:
            yield

    def fault(self, kinds: tuple[Kind, ...], path: str) -> Fault | None:
        """The first fault of these kinds that is due for `path`; it is used up by one."""
        with self._lock:
            for each in self.faults:
                if each.kind in kinds and path.startswith(each.path) and each.times > 0:
                    each.times -= 1
                    return each
        return None

    def change(self, operation: str, path: str, body: Any, key: str) -> int:
        """Apply a change once; its HTTP status."""
        with self._lock:
            if key and key in self.answers:
                self._note(Entry(key, operation, path, body, "repeated"))
                return self.answers[key]
            if self._refused(body):
                self._note(Entry(key, operation, path, body, "refused"))
                return 422
            status = self._do(operation, path, body)
            if status >= 400 and status != 404:
                return status
            self._note(Entry(key, operation, path, body, "applied"))
            if key:
                self.answers[key] = status
            if self.journal is not None:
                told = {"key": key, "operation": operation, "path": path, "body": body, "status": status}
                with self.journal.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(told) + "\n")
            return status

    def _do(self, operation: str, path: str, body: Any) -> int:
        there = path in self.resources
        if operation == "create" and there:
            return 409
        if operation in ("create", "upsert"):
            self.resources[path] = body
            return 200 if there else 201
        if not there:
            return 404
        if operation == "delete":
            del self.resources[path]
            return 204
        self.resources[path] = {**self.resources[path], **body}
        return 200

    def _refused(self, body: Any) -> bool:
        return isinstance(body, Mapping) and any(body.get(name) in values for name, values in self.refuses.items())

    def _note(self, entry: Entry) -> None:
        if len(self.log) < LOGGED:
            self.log.append(entry)

    def told(self) -> dict[str, Any]:
        """Everything, as JSON data."""
        with self._lock:
            return {
                "resources": dict(self.resources),
                "log": [asdict(entry) for entry in self.log],
                "requests": self.requests,
                "faults": [asdict(each) for each in self.faults],
            }
