"""Requests to a REST target: sent side by side, tried again, their answers told apart. Knows no tables and no state."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from itertools import groupby
from typing import Any, TypeAlias

import httpx
import msgspec

from cdc.entries import RestSettings
from cdc.errors import CdcError, Terminal, Transient
from cdc.retry import retrying
from cdc.target.delivery import EXCERPT, Answered, Delivery
from cdc.target.rest_answers import meaning, retry_after_s
from cdc.target.rest_auth import authentication
from cdc.target.rest_pace import Pace
from cdc.target.rest_requests import Envelope, Message, decode

Outcome: TypeAlias = Answered | CdcError
Failpoint: TypeAlias = Callable[[str], None]


class RestClient:
    """Sends deliveries. What it is given at once are changes of different rows: they leave in any order."""

    def __init__(
        self, settings: RestSettings, failpoint: Failpoint, transport: httpx.BaseTransport | None = None
    ) -> None:
        self._settings = settings
        self._failpoint = failpoint
        limits = httpx.Limits(max_connections=settings.concurrency, max_keepalive_connections=settings.concurrency)
        options: dict[str, Any] = {"timeout": settings.timeout_s, "transport": transport}
        if transport is None:
            options["verify"] = True if settings.tls is None else settings.tls.context()
        self._tokens = httpx.Client(**options)
        self._http = httpx.Client(
            **options,
            limits=limits,
            headers={**settings.headers, "Accept": "application/json"},
            auth=authentication(settings, self._tokens),
        )
        self._pool = ThreadPoolExecutor(settings.concurrency, thread_name_prefix=f"rest {settings.name}")
        self._pace = Pace(settings.rate, settings.breaker_failures, settings.breaker_s)

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._http.close()
        self._tokens.close()

    def send(self, deliveries: Sequence[Delivery]) -> list[tuple[Delivery, Outcome]]:
        """All of them, with what came of each: an answer, or why there is none (`Transient`, `Terminal`).

        Once one has failed for good the rest does not leave: the target is away, and they can wait.
        """
        given_up = threading.Event()

        def one(group: tuple[Delivery, ...]) -> list[tuple[Delivery, Outcome]]:
            if given_up.is_set():
                return [(each, Transient("not sent: the target is away", where=self._settings.url)) for each in group]
            try:
                return self._send(group)
            except CdcError as error:
                given_up.set()
                return [(each, error) for each in group]

        return [pair for pairs in self._pool.map(one, _grouped(deliveries)) for pair in pairs]

    def _send(self, group: tuple[Delivery, ...]) -> list[tuple[Delivery, Outcome]]:
        messages = [decode(each.request) for each in group]
        envelope = messages[0].envelope
        if envelope is None:
            operation, key = group[0].operation, group[0].idempotency_key
            content = messages[0].body
        else:
            operation, key = "batch", _key_of(group)
            items = [msgspec.Raw((message.body or "null").encode()) for message in messages]
            content = msgspec.json.encode({envelope.items: items}).decode()
        attempts = 0

        def attempt() -> httpx.Response:
            nonlocal attempts
            self._pace.wait()
            attempts += 1
            return self._request(messages[0], content, key, operation)

        answer = retrying(attempt, for_seconds=self._settings.retry_for_s, first_wait=0.1, max_wait=2.0)
        self._failpoint("requested")
        if envelope is not None and answer.is_success:
            return list(self._items(group, envelope, answer, attempts))
        return [(each, self._answered(each, answer.status_code, answer.text, attempts)) for each in group]

    def _request(self, message: Message, content: str | None, key: str, operation: str) -> httpx.Response:
        """One attempt. Raises `Transient` or `Terminal` for answers that say nothing about the row."""
        headers = {self._settings.idempotency_header: key}
        if content is not None:
            headers["Content-Type"] = "application/json"
        url = self._settings.url.rstrip("/") + message.url
        where = f"{message.method} {self._settings.url.rstrip('/')}{message.place}"
        try:
            answer = self._http.request(message.method, url, content=content, headers=headers)
        except httpx.TransportError as error:
            self._pace.failed()
            raise Transient(f"the target gave no answer: {type(error).__name__}", where=where) from error
        except httpx.HTTPError as error:
            raise Terminal(f"the target's answer cannot be read: {type(error).__name__}", where=where) from error
        found = meaning(answer.status_code, operation, self._settings.statuses)
        if found == "transient":
            self._fell_short(answer)
            raise Transient(f"the target answered {answer.status_code}", where=where)
        self._pace.answered()
        if found == "terminal":
            raise Terminal(
                f"the target answered {answer.status_code}",
                where=where,
                hint="check its url, auth and the mapping's rest: requests; statuses: gives one another meaning",
            )
        return answer

    def _fell_short(self, answer: httpx.Response) -> None:
        pause = retry_after_s(answer.headers.get("Retry-After"))
        if pause is not None:
            self._pace.pause(pause)
        if answer.status_code == httpx.codes.TOO_MANY_REQUESTS:
            self._pace.answered()  # it is there, and says when to come again
        else:
            self._pace.failed()

    def _answered(self, delivery: Delivery, status: int, text: str, attempts: int) -> Outcome:
        found = meaning(status, delivery.operation, self._settings.statuses)
        excerpt = text[:EXCERPT]
        if found == "acknowledged":
            return Answered(delivery, "acknowledged", status, excerpt, attempts)
        if found == "poison":
            return Answered(delivery, "refused", status, excerpt, attempts)
        if found == "transient":
            return Transient(f"the target answered {status} for a row", where=self._settings.url)
        return Terminal(f"the target answered {status} for a row", where=self._settings.url)

    def _items(
        self, group: Sequence[Delivery], envelope: Envelope, answer: httpx.Response, attempts: int
    ) -> Iterator[tuple[Delivery, Outcome]]:
        """The results of a batch, item by item."""
        results: Any = None
        try:
            results = msgspec.json.decode(answer.content)[envelope.results]
            statuses = [int(result[envelope.status]) for result in results]
        except (msgspec.DecodeError, LookupError, TypeError, ValueError):
            statuses = []
        if len(statuses) != len(group):
            raise Terminal(
                f"the answer to a batch of {len(group)} holds {len(statuses)} results",
                where=f"{envelope.method} {self._settings.url}{envelope.url}",
                hint=f"one for each item, in order, in '{envelope.results}', each with '{envelope.status}':"
                " name the fields in the mapping's batch:",
            )
        for delivery, status, result in zip(group, statuses, results, strict=True):
            text = msgspec.json.encode(result).decode()
            yield delivery, self._answered(delivery, status, text, attempts)


def _grouped(deliveries: Iterable[Delivery]) -> Iterator[tuple[Delivery, ...]]:
    """What leaves in one request: one delivery, or those of one envelope."""
    for envelope, same in groupby(deliveries, lambda each: decode(each.request).envelope):
        together, size = tuple(same), 1 if envelope is None else envelope.size
        yield from (together[start : start + size] for start in range(0, len(together), size))


def _key_of(group: Sequence[Delivery]) -> str:
    """A batch's own idempotency key: the same for the same items. What counts is each item's."""
    return sha256("".join(each.idempotency_key for each in group).encode()).hexdigest()[:32]
