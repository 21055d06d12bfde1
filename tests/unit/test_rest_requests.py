"""Rows as requests: values are escaped by where they stand, exact or refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cdc.errors import Poison
from cdc.model import UNAVAILABLE, ColumnType, Kind, MappedRow, Position, RawRecord, RowOp, TargetColumn, TargetTable
from cdc.target.rest_requests import BatchRequest, Message, Renderer, Request, Requests
from cdc.target.rest_values import plain
from cdc.templates import TemplateError, parse

TYPES = {
    "id": Kind.TEXT,
    "name": Kind.TEXT,
    "price": Kind.DECIMAL,
    "born": Kind.DATE,
    "data": Kind.JSON,
    "ok": Kind.BOOLEAN,
}
TABLE = TargetTable(
    "p/crm.people", "crm", "people", tuple(TargetColumn(n, ColumnType(k, "x")) for n, k in TYPES.items()), ("id",)
)
VALUES = ("a/b?c=d&é", 'say "hi"', "1.10", 0, '{"a": [1, 2.50]}', True)


def row(*values: Any, op: RowOp = RowOp.UPSERT) -> MappedRow:
    record = RawRecord("t", 0, 0, None, None)
    return MappedRow(op, (values[0],), None if op is RowOp.DELETE else values, Position(1, 1, 1), record)


def rendered(request: Request, operation: str = "upsert", values: tuple[Any, ...] = VALUES) -> Message:
    requests = Requests(**{operation: request})
    op = RowOp.DELETE if operation == "delete" else RowOp.UPSERT
    return Renderer(TABLE, requests).message(row(*values, op=op), operation, "key")


def body(message: Message) -> Any:
    assert message.body is not None
    return json.loads(message.body)


def test_a_value_stays_one_step_of_the_path_and_one_value_of_the_query() -> None:
    found = rendered(Request("PUT", "/people/{id}/card?who={name}&key={id}"))
    assert found.url == "/people/a%2Fb%3Fc%3Dd%26%C3%A9/card?who=say%20%22hi%22&key=a%2Fb%3Fc%3Dd%26%C3%A9"
    assert found.place == "/people/{id}/card?who={name}&key={id}"


@pytest.mark.parametrize("value", ["", ".", ".."])
def test_a_value_cannot_change_the_shape_of_a_path(value: str) -> None:
    with pytest.raises(Poison, match="step of a URL"):
        rendered(Request("PUT", "/people/{id}"), values=(value, *VALUES[1:]))
    assert rendered(Request("PUT", "/people/x{id}"), values=(value, *VALUES[1:])).url == f"/people/x{value}"


def test_null_cannot_stand_in_a_url() -> None:
    with pytest.raises(Poison, match="column name: NULL"):
        rendered(Request("PUT", "/people/{id}/{name}"), values=(*VALUES[:1], None, *VALUES[2:]))


def test_the_body_is_the_row_when_nothing_is_said() -> None:
    assert body(rendered(Request("PUT", "/p/{id}"))) == {
        "id": "a/b?c=d&é",
        "name": 'say "hi"',
        "price": "1.10",
        "born": "1970-01-01",
        "data": {"a": [1, 2.5]},
        "ok": True,
    }


def test_a_body_is_json_with_typed_values_whatever_they_hold() -> None:
    template = {
        "person": {"names": ["{name}", "x"], "text": "{name} costs {price} {{really}}", "is": "{ok}"},
        "data": "{data}",
        "fixed": 7,
    }
    assert body(rendered(Request("POST", "/p", template), "create")) == {
        "person": {"names": ['say "hi"', "x"], "text": 'say "hi" costs 1.10 {really}', "is": True},
        "data": {"a": [1, 2.5]},
        "fixed": 7,
    }


def test_a_part_of_a_row_brings_only_what_came() -> None:
    values = ("1", UNAVAILABLE, "2", None, UNAVAILABLE, False)
    assert body(rendered(Request("PATCH", "/p/{id}"), "patch", values)) == {
        "id": "1",
        "price": "2",
        "born": None,
        "ok": False,
    }
    template = {"a": {"n": "{name}", "p": "{price}"}, "list": ["{data}"], "t": "{name}!"}
    assert body(rendered(Request("PATCH", "/p/{id}", template), "patch", values)) == {"a": {"p": "2"}}


def test_a_delete_knows_only_its_key() -> None:
    found = rendered(Request("DELETE", "/p/{id}"), "delete")
    assert (found.method, found.body) == ("DELETE", None)
    assert body(rendered(Request("PATCH", "/p/{id}", {"gone": True, "who": "{id}"}), "delete")) == {
        "gone": True,
        "who": "a/b?c=d&é",
    }


def test_an_item_of_a_batch_holds_its_key_and_operation() -> None:
    item = {"op": "{$operation}", "key": "{$key}", "id": "{id}", "data": {"name": "{name}"}}
    batch = BatchRequest("POST", "/p:batch", 10, "items", item, "results", "status")
    found = Renderer(TABLE, Requests(batch=batch)).message(row(*VALUES, op=RowOp.DELETE), "delete", "k1")
    assert body(found) == {"op": "delete", "key": "k1", "id": "a/b?c=d&é", "data": {}}
    assert found.envelope is not None


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_json_cannot_hold_is_refused(value: float) -> None:
    with pytest.raises(Poison):
        plain(ColumnType(Kind.FLOAT64, "float8"), value)


def test_values_as_json() -> None:
    def made(kind: Kind, value: Any) -> Any:
        return plain(ColumnType(kind, "x"), value)

    assert made(Kind.BYTES, b"\0\1") == "AAE="
    assert made(Kind.TIMESTAMP, 1_000_001) == "1970-01-01T00:00:01.000001"
    assert made(Kind.TIME, 3_600_000_000) == "01:00:00"
    array = ColumnType(Kind.ARRAY, "date[]", element=ColumnType(Kind.DATE, "date"))
    assert plain(array, [0, None]) == ["1970-01-01", None]


@pytest.mark.parametrize("text", ["/a/{", "/a/}", "/a/{}", "{a}{"])
def test_what_is_no_template(text: str) -> None:
    with pytest.raises(TemplateError):
        parse(text)
