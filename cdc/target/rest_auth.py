"""How we make ourselves known to a REST target. Secrets are looked up when they are used and never shown."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator

import httpx
import msgspec

from cdc.entries import OAuth2, RestSettings
from cdc.errors import Terminal, Transient

_EARLY_S = 30.0
"""A token is renewed so long before it expires (or at half its life, when that is shorter)."""


class _Token(msgspec.Struct):
    access_token: str
    expires_in: float = 300.0


def authentication(settings: RestSettings, token_client: httpx.Client) -> httpx.Auth | None:
    """For the entry's `auth`; None without one."""
    auth = settings.auth
    if auth.oauth2 is not None:
        return _ClientCredentials(auth.oauth2, token_client)
    if auth.basic is not None:
        password = auth.basic.password
        return httpx.BasicAuth(auth.basic.user, "" if password is None else password.resolve().get_secret_value())
    if auth.key is not None:
        return _Header(auth.key.header, auth.key.api_key.resolve().get_secret_value())
    return None


class _Header(httpx.Auth):
    def __init__(self, name: str, value: str) -> None:
        self._name, self._value = name, value

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers[self._name] = self._value
        yield request


class _ClientCredentials(httpx.Auth):
    """One token for all threads. One that is refused (401) is renewed once; a second refusal is the answer."""

    def __init__(self, settings: OAuth2, client: httpx.Client, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings, self._client, self._clock = settings, client, clock
        self._lock = threading.Lock()
        self._token, self._until = "", 0.0

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        token = self._current(refused=None)
        request.headers["Authorization"] = f"Bearer {token}"
        response = yield request
        if response.status_code == httpx.codes.UNAUTHORIZED:
            request.headers["Authorization"] = f"Bearer {self._current(refused=token)}"
            yield request

    def _current(self, refused: str | None) -> str:
        with self._lock:
            if self._token == refused or self._clock() >= self._until:
                self._renew()
            return self._token

    def _renew(self) -> None:
        where = self._settings.token_url
        form = {"grant_type": "client_credentials"} | ({"scope": self._settings.scope} if self._settings.scope else {})
        account = (self._settings.client_id, self._settings.client_secret.resolve().get_secret_value())
        try:
            answer = self._client.post(where, data=form, auth=account)
        except httpx.TransportError as error:
            raise Transient(f"no token: {type(error).__name__}", where=where) from error
        if answer.status_code >= 500 or answer.status_code == httpx.codes.TOO_MANY_REQUESTS:
            raise Transient(f"no token: HTTP {answer.status_code}", where=where)
        if not answer.is_success:
            hint = "check auth.oauth2 of the target's entry: client_id, client_secret, scope"
            raise Terminal(f"no token: HTTP {answer.status_code}", where=where, hint=hint)
        try:
            token = msgspec.json.decode(answer.content, type=_Token)
        except msgspec.DecodeError as error:  # (its text may hold the token)
            raise Terminal("no token: the answer is none (RFC 6749, 5.1)", where=where) from error
        self._token = token.access_token
        self._until = self._clock() + max(token.expires_in - _EARLY_S, token.expires_in / 2)
