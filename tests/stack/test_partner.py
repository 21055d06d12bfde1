"""The partner as a part of the stack: it asks for an account, and what it holds outlives a kill."""

from __future__ import annotations

from contextlib import closing

import httpx
import pytest

from cdc.entries import RestSettings
from cdc.model import Position, TopicPartition
from cdc.references import Secret
from cdc.stack import Stack
from cdc.stack.partner_server import CONTROL
from cdc.target.delivery import Answered, Delivery
from cdc.target.rest_client import RestClient
from cdc.target.rest_requests import Message

pytestmark = pytest.mark.stack


def deliver(stack: Stack, key: str) -> str:
    at = stack.endpoints
    token = {
        "token_url": f"{at.partner_url}/oauth/token",
        "client_id": "test",
        "client_secret": Secret.of(at.partner_secret),
    }
    told = {"name": "partner", "kind": "rest", "url": at.partner_url, "auth": {"oauth2": token}}
    message = Message("PUT", "/kept/1", "/kept/{id}", '{"id": 1}')
    place = ("p/kept", "[1]", "h", key, "upsert", Position(1, 1, 1), TopicPartition("t", 0), 0)
    with closing(RestClient(RestSettings.model_validate(told), lambda point: None)) as client:
        ((_, outcome),) = client.send([Delivery(*place, message.encode())])
    assert isinstance(outcome, Answered), outcome
    return outcome.state


def test_it_keeps_what_it_was_sent_and_the_keys(breakable_stack: Stack) -> None:
    stack = breakable_stack
    url = stack.endpoints.partner_url
    assert httpx.put(f"{url}/kept/1", json={}, trust_env=False).status_code == 401
    assert deliver(stack, "kept-1") == "acknowledged"
    stack.kill("partner")
    stack.up(["partner"])
    assert httpx.get(f"{url}/kept/1", trust_env=False).json() == {"id": 1}
    assert deliver(stack, "kept-1") == "acknowledged"
    log = httpx.get(f"{url}{CONTROL}", trust_env=False).json()["log"]
    assert [entry["outcome"] for entry in log if entry["key"] == "kept-1"] == ["repeated"]
