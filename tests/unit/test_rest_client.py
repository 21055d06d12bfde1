"""Requests to a REST target, against a faulty partner: answers and classes, pace, breaker, accounts."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
import structlog.testing

from cdc.entries import RestSettings
from cdc.errors import Terminal, Transient
from cdc.model import Position, TopicPartition
from cdc.references import Secret
from cdc.retry import retrying
from cdc.stack.partner_store import Fault
from cdc.target.delivery import Answered, Delivery
from cdc.target.rest_answers import meaning, retry_after_s
from cdc.target.rest_client import Outcome, RestClient
from cdc.target.rest_pace import Pace
from cdc.target.rest_requests import Envelope, Message
from tests.partner import Running, running_partner

SECRET = "s3cret-of-the-partner"
PARTITION = TopicPartition("t", 0)


@pytest.fixture
def partner() -> Iterator[Running]:
    with running_partner(SECRET) as running:
        yield running


def client(partner: Running, **changed: Any) -> RestClient:
    told: dict[str, Any] = {
        "name": "partner",
        "kind": "rest",
        "url": partner.url,
        "auth": {"key": {"api_key": Secret.of(SECRET)}},
        "retry_for_s": 2.0,
    }
    return RestClient(RestSettings.model_validate(told | changed), lambda point: None)


def delivery(number: int, envelope: Envelope | None = None) -> Delivery:
    name = "refused" if number == 3 else "x"
    content = f'{{"id": {number}, "name": "{name}"}}'
    if envelope is not None:
        content = f'{{"id": {number}, "operation": "upsert", "key": "k{number}", "data": {content}}}'
    message = Message("PUT" if envelope is None else "POST", f"/people/{number}", "/people/{id}", content, envelope)
    if envelope is not None:
        message = Message("POST", envelope.url, envelope.url, content, envelope)
    place = ("p/people", f"[{number}]", f"h{number}", f"k{number}", "upsert", Position(1, 1, number), PARTITION, number)
    return Delivery(*place, message.encode())


def send(client: RestClient, *numbers: int, envelope: Envelope | None = None) -> list[Outcome]:
    with closing(client):
        return [outcome for _, outcome in client.send([delivery(number, envelope) for number in numbers])]


def states(outcomes: list[Outcome]) -> list[str]:
    return [each.state if isinstance(each, Answered) else type(each).__name__ for each in outcomes]


def test_every_row_gets_its_answer(partner: Running) -> None:
    partner.store.refuses = {"name": ["refused"]}
    found = send(client(partner), *range(20))
    assert states(found) == ["acknowledged"] * 3 + ["refused"] + ["acknowledged"] * 16
    refused = found[3]
    assert isinstance(refused, Answered)
    assert (refused.status, refused.excerpt) == (422, '{"error": "refused"}')


def test_every_item_of_a_batch_gets_its_own(partner: Running) -> None:
    partner.store.refuses = {"name": ["refused"]}
    envelope = Envelope("POST", "/people:batch", 8, "items", "results", "status")
    found = send(client(partner), *range(20), envelope=envelope)
    assert states(found) == ["acknowledged"] * 3 + ["refused"] + ["acknowledged"] * 16
    assert partner.store.requests == 3
    wrong = Envelope("POST", "/people:batch", 8, "items", "outcomes", "status")
    assert states(send(client(partner), 1, 2, envelope=wrong)) == ["Terminal", "Terminal"]


def test_a_dropped_answer_is_asked_again_under_its_key(partner: Running) -> None:
    partner.fault(Fault("drop_after", times=1))
    assert states(send(client(partner), 1)) == ["acknowledged"]
    assert [(entry.key, entry.outcome) for entry in partner.log()] == [("k1", "applied"), ("k1", "repeated")]


def test_a_pause_that_is_asked_for_is_kept(partner: Running) -> None:
    partner.fault(Fault("status", times=1, status=429, retry_after=0.5))
    began = time.monotonic()
    (found,) = send(client(partner), 1)
    assert isinstance(found, Answered)
    assert (found.state, found.attempts) == ("acknowledged", 2)
    assert time.monotonic() - began >= 0.5


def test_when_it_is_away_the_rest_does_not_leave(partner: Running) -> None:
    partner.fault(Fault("status", status=503))
    found = send(client(partner, retry_for_s=0.2, concurrency=2), *range(50))
    assert all(isinstance(each, Transient) for each in found), states(found)
    assert partner.store.requests < 20


def test_a_timeout_is_no_answer(partner: Running) -> None:
    partner.fault(Fault("slow", seconds=30))
    assert states(send(client(partner, timeout_s=0.1, retry_for_s=0), 1)) == ["Transient"]
    partner.server.pause.set()


def test_who_is_not_let_in_stops(partner: Running) -> None:
    (found,) = send(client(partner, auth={"key": {"api_key": Secret.of("wrong-one")}}), 1)
    assert isinstance(found, Terminal)
    assert "wrong-one" not in f"{found} {found!r} {found.hint}"


def test_basic(partner: Running) -> None:
    assert states(send(client(partner, auth={"basic": {"user": "u", "password": Secret.of(SECRET)}}), 1)) == [
        "acknowledged"
    ]


def oauth(partner: Running, secret: str = SECRET) -> dict[str, Any]:
    given = {"token_url": f"{partner.url}/oauth/token", "client_id": "us", "client_secret": Secret.of(secret)}
    return {"oauth2": given}


def test_one_token_for_all_renewed_when_it_is_refused(partner: Running) -> None:
    ours = client(partner, auth=oauth(partner))
    assert states([outcome for _, outcome in ours.send([delivery(n) for n in (1, 2, 4)])]) == ["acknowledged"] * 3
    assert len(partner.store.tokens) == 1
    partner.fault(Fault("expire_tokens", times=1))
    assert states(send(ours, 5, 6)) == ["acknowledged"] * 2
    assert len(partner.store.tokens) == 1


def test_no_token(partner: Running) -> None:
    (found,) = send(client(partner, auth=oauth(partner, "wrong-one")), 1)
    assert isinstance(found, Terminal)
    assert "wrong-one" not in str(found)


def test_nothing_shows_a_secret(partner: Running) -> None:
    settings = RestSettings.model_validate(
        {"name": "p", "kind": "rest", "url": partner.url, "auth": {"key": {"api_key": Secret.of(SECRET)}}}
    )
    assert SECRET not in f"{settings!r} {settings.model_dump_json()}"


@pytest.mark.parametrize(
    ("status", "operation", "wanted"),
    [
        (200, "upsert", "acknowledged"),
        (404, "delete", "acknowledged"),
        (404, "upsert", "terminal"),
        (404, "patch", "poison"),
        (422, "upsert", "poison"),
        (409, "create", "poison"),
        (401, "upsert", "terminal"),
        (403, "batch", "terminal"),
        (301, "upsert", "terminal"),
        (408, "upsert", "transient"),
        (429, "upsert", "transient"),
        (500, "upsert", "transient"),
        (501, "upsert", "terminal"),
    ],
)
def test_what_a_status_means(status: int, operation: str, wanted: str) -> None:
    assert meaning(status, operation, {}) == wanted
    assert meaning(status, operation, {status: "acknowledged"}) == "acknowledged"


def test_retry_after() -> None:
    assert retry_after_s("3") == 3.0
    assert retry_after_s("Thu, 01 Jan 1970 00:01:00 GMT", now=20.0) == 40.0
    assert retry_after_s("soon") is None
    assert retry_after_s(None) is None


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def pace(clock: Clock, rate: float | None = None) -> Pace:
    return Pace(rate, 3, 5.0, clock, clock.sleep)


def test_the_rate_is_kept() -> None:
    clock = Clock()
    paced = pace(clock, rate=10)
    for _ in range(21):
        paced.wait()
    assert clock.now == pytest.approx(2.0)


def test_a_long_pause_is_not_sat_out() -> None:
    clock = Clock()
    paced = pace(clock)
    paced.pause(600)
    with pytest.raises(Transient, match="asked for a pause"):
        paced.wait()
    assert clock.now == 0


def test_an_open_breaker_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    log = structlog.testing.CapturingLogger()
    monkeypatch.setattr("cdc.target.rest_pace._log", log)
    monkeypatch.setattr("cdc.retry._log", log)
    clock = Clock()
    paced = pace(clock)
    for _ in range(5):  # probes too
        clock.now += 10
        paced.wait()
        paced.failed()
    with pytest.raises(Transient):
        retrying(paced.wait, for_seconds=0.3)
    clock.now += 10
    paced.wait()
    paced.answered()
    paced.answered()
    told = [call for call in log.calls if call.method_name != "debug"]
    assert len(told) < len(log.calls)
    assert [(call.method_name, call.args[0].split(":")[0]) for call in told] == [
        ("warning", "the target fails again and again"),
        ("info", "the target answers again"),
    ]


def test_the_breaker_opens_probes_and_closes() -> None:
    clock = Clock()
    paced = pace(clock)
    for _ in range(3):
        paced.wait()
        paced.failed()
    with pytest.raises(Transient, match="3 times in a row"):
        paced.wait()
    clock.now = 5.0
    paced.wait()  # the probe
    with pytest.raises(Transient):
        paced.wait()  # only one
    paced.answered()
    paced.wait()
    paced.wait()
