"""A table's requests, and a row as one of them. Values are escaped by where they stand: path, query or JSON."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

import msgspec

from cdc.errors import Poison
from cdc.model import UNAVAILABLE, MappedRow, RowOp, TargetTable, Value
from cdc.target.rest_values import plain, text
from cdc.templates import Place, parse

_ENCODER = msgspec.json.Encoder(decimal_format="number")
_DOTS = ("", ".", "..")


class Request(msgspec.Struct, frozen=True):
    """One request of the mapping: see cdc/mapping/requests.py, whose fields these are."""

    method: str
    url: str
    body: Any = None


class BatchRequest(msgspec.Struct, frozen=True):
    method: str
    url: str
    size: int
    items: str
    item: dict[str, Any]
    results: str
    status: str


class Requests(msgspec.Struct, frozen=True):
    """All requests of a table."""

    upsert: Request | None = None
    create: Request | None = None
    update: Request | None = None
    patch: Request | None = None
    delete: Request | None = None
    batch: BatchRequest | None = None
    patches: bool = False

    @property
    def takes_partials(self) -> bool:
        return self.patches if self.batch is not None else self.patch is not None

    @property
    def digest(self) -> str:
        return hashlib.sha256(_ENCODER.encode(self)).hexdigest()

    def operation(self, row: MappedRow, present: bool) -> str:
        """create, update, upsert, patch or delete."""
        if row.op is RowOp.DELETE:
            return "delete"
        if row.partial:
            return "patch"
        if self.upsert is not None:
            return "upsert"
        return "update" if present else "create"


class Envelope(msgspec.Struct, frozen=True):
    """The request that an item travels in, and where the answer holds its result."""

    method: str
    url: str
    size: int
    items: str
    results: str
    status: str


class Message(msgspec.Struct, frozen=True):
    """What leaves for one row: a request of its own, or an item for an envelope. `place`: the URL's template, for
    errors: it holds no values. `body`: JSON text."""

    method: str
    url: str
    place: str
    body: str | None = None
    envelope: Envelope | None = None

    def encode(self) -> bytes:
        return msgspec.json.encode(self)


def decode(request: bytes) -> Message:
    return msgspec.json.decode(request, type=Message)


class Renderer:
    """Makes messages of one table's rows."""

    def __init__(self, table: TargetTable, requests: Requests) -> None:
        self._requests = requests
        self._types = {column.name: column.type for column in table.columns}
        self._names = [column.name for column in table.columns]
        self._key = table.key

    def message(self, row: MappedRow, operation: str, idempotency_key: str) -> Message:
        """Raises `Poison` for a value that cannot stand where its column's place is."""
        values: dict[str, Value] = dict(zip(self._names, row.values or (), strict=False))
        values |= dict(zip(self._key, row.key, strict=True))
        words = {"$key": idempotency_key, "$operation": operation}
        batch = self._requests.batch
        if batch is not None:
            envelope = Envelope(batch.method, batch.url, batch.size, batch.items, batch.results, batch.status)
            return Message(batch.method, batch.url, batch.url, self._json(batch.item, values, words), envelope)
        request: Request | None = getattr(self._requests, operation)
        assert request is not None, operation
        content = None
        if request.body is not None:
            content = self._json(request.body, values, words)
        elif operation != "delete":
            came = {name: value for name, value in values.items() if value is not UNAVAILABLE}
            content = _text_of({name: self._plain(name, value) for name, value in came.items()})
        return Message(request.method, _url(request.url, lambda name: self._text(name, values)), request.url, content)

    def _json(self, template: Any, values: Mapping[str, Value], words: Mapping[str, str]) -> str:
        return _text_of(self._filled(template, values, words))

    def _filled(self, template: Any, values: Mapping[str, Value], words: Mapping[str, str]) -> Any:
        """The template with values in its places. A field or list that needs what did not come is UNAVAILABLE."""
        if isinstance(template, dict):
            filled = {name: self._filled(each, values, words) for name, each in template.items()}
            return {name: each for name, each in filled.items() if each is not UNAVAILABLE}
        if isinstance(template, list):
            items = [self._filled(each, values, words) for each in template]
            return UNAVAILABLE if any(each is UNAVAILABLE for each in items) else items
        if isinstance(template, str):
            return self._filled_text(template, values, words)
        return template

    def _filled_text(self, template: str, values: Mapping[str, Value], words: Mapping[str, str]) -> Any:
        parts = parse(template)
        places = [part.name for part in parts if isinstance(part, Place)]
        if any(values.get(name, UNAVAILABLE) is UNAVAILABLE for name in places if name not in words):
            return UNAVAILABLE
        if len(parts) == 1 and places and places[0] not in words:
            return self._plain(places[0], values[places[0]])
        return "".join(
            part if isinstance(part, str) else words.get(part.name) or self._text(part.name, values) for part in parts
        )

    def _plain(self, name: str, value: Value) -> Any:
        try:
            return plain(self._types[name], value)
        except Poison as error:
            raise Poison(f"column {name}: {error.what}", reason=error.reason) from error

    def _text(self, name: str, values: Mapping[str, Value]) -> str:
        try:
            return text(self._types[name], values[name])
        except Poison as error:
            raise Poison(f"column {name}: {error.what}", reason=error.reason) from error


def _text_of(content: Any) -> str:
    return _ENCODER.encode(content).decode()


def _url(template: str, value: Callable[[str], str]) -> str:
    path, mark, query = template.partition("?")
    segments = [_segment(segment, value) for segment in path.split("/")]
    filled = "".join(part if isinstance(part, str) else quote(value(part.name), safe="") for part in parse(query))
    return "/".join(segments) + mark + filled


def _segment(template: str, value: Callable[[str], str]) -> str:
    """One step of a path. A value may not change the path's shape: no empty steps, no '.', no '..'."""
    parts = parse(template)
    filled = "".join(part if isinstance(part, str) else quote(value(part.name), safe="") for part in parts)
    if filled in _DOTS and any(isinstance(part, Place) for part in parts):
        raise Poison("a value that is empty, '.' or '..' cannot be a step of a URL", reason="value_out_of_range")
    return filled
