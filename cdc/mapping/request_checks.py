"""What is wrong with a table's `rest:` beyond its shape: templates that are none, columns that cannot stand there."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any

from cdc.mapping.diagnostics import Diagnostic, did_you_mean
from cdc.mapping.model import TableMapping
from cdc.mapping.requests import WORDS, Request
from cdc.model import DeletePolicy
from cdc.templates import TemplateError, names
from cdc.yamlfile import ValuePath

_OPERATIONS = ("upsert", "create", "update", "patch", "delete")


def request_findings(
    table: TableMapping, columns: Collection[str] | None, key: Collection[str] | None
) -> Iterator[Diagnostic]:
    """Every finding. `columns`, `key`: the target's; None while they are not known, then names are not checked."""
    if table.rest is None:
        return
    if table.on_delete is DeletePolicy.SOFT:
        advice = "on_delete: delete, with a delete: request that marks the row"
        yield table.finding("bad-value", "a REST target marks no rows by itself", ("on_delete",), help=advice)
    elif table.on_delete is DeletePolicy.DELETE and not table.rest.deletes:
        advice = "add delete: to rest:, or on_delete: ignore"
        yield table.finding("missing-key", "no request removes rows", ("rest",), help=advice, key=True)
    for operation in _OPERATIONS:
        request: Request | None = getattr(table.rest, operation)
        if request is not None:
            yield from _template(table, request.url, (operation, "url"), key)
            yield from _json(table, request.body, (operation, "body"), key if operation == "delete" else columns)
    if table.rest.batch is not None:
        yield from _template(table, table.rest.batch.url, ("batch", "url"), ())
        known = None if columns is None else (*columns, *WORDS)
        yield from _json(table, table.rest.batch.item, ("batch", "item"), known)


def _json(table: TableMapping, body: Any, path: ValuePath, known: Collection[str] | None) -> Iterator[Diagnostic]:
    if isinstance(body, str):
        yield from _template(table, body, path, known)
    elif isinstance(body, dict | list):
        pairs: Iterable[tuple[Any, Any]] = body.items() if isinstance(body, dict) else enumerate(body)
        for step, value in pairs:
            yield from _json(table, value, (*path, step), known)


def _template(table: TableMapping, text: str, path: ValuePath, known: Collection[str] | None) -> Iterator[Diagnostic]:
    below: ValuePath = ("rest", *path)
    try:
        places = names(text)
    except TemplateError as error:
        yield table.finding("bad-template", error.message, below, within=(error.start, error.length))
        return
    for place in places:
        if known is not None and place.name not in known:
            here = "key columns" if path[-1] == "url" or path[0] == "delete" else "columns"
            message = f"'{place.name}' is none of the {here} that may stand here"
            advice, within = did_you_mean(place.name, list(known)), (place.start, place.length)
            yield table.finding("bad-template", message, below, help=advice, within=within)
