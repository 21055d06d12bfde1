"""A REST target on the real stack: killed, frozen, its partner away. Every change gets there, none under two keys.

One pipeline writes to two targets, a hub and a partner's API; each has workers and watermarks of its own.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from cdc.control.status import PipelineStatus, status
from cdc.engine.failpoints import DELIVERY_POINTS
from cdc.mapping.load import load
from cdc.stack.partner_store import Fault
from tests.faults import checks
from tests.faults.pipeline import KILLED, Pipeline
from tests.faults.source import Source, Writer
from tests.fix_pipeline import Maker
from tests.partner import Running, running_partner
from tests.waiting import eventually

pytestmark = pytest.mark.stack
POINTS = (*DELIVERY_POINTS, "mapped", "rows_written", "watermark_set", "pre_commit", "post_commit")
_REST = """
    rest:
      upsert: {{method: PUT, url: "/{name}/{{id}}"}}
      patch: {{method: PATCH, url: "/{name}/{{id}}"}}
      delete: {{method: DELETE, url: "/{name}/{{id}}"}}
"""
Both = tuple[Pipeline, Pipeline]


@pytest.fixture
def partner() -> Iterator[Running]:
    with running_partner() as running:
        yield running


@pytest.fixture
def both(pipelines: Maker, partner: Running) -> Iterator[Callable[[], Both]]:
    """Makes a pipeline of items into a hub and the partner; (its part of the hub, its part of the partner)."""
    with ExitStack() as stopped:

        def make(rows: int = 40) -> Both:
            hub = pipelines(tables=("items",), rows=rows)
            text = hub.mapping_file.read_text(encoding="utf-8").partition("tables:")[0]
            text = text.replace("target: hub", "targets: [hub, partner]")
            table = f"{hub.source.namespace}.items"
            text += f"tables:\n  - {{from: {table}, to: hub.items, targets: [hub]}}\n"
            text += f"  - from: {table}\n    to: partner.items\n    targets: [partner]" + _REST.format(name=hub.name)
            hub.mapping_file.write_text(text, encoding="utf-8")
            entry = f"  partner: {{kind: rest, url: '{partner.url}', retry_for_s: 1, breaker_s: 0.5}}\n"
            connections = hub.connections_file.read_text(encoding="utf-8")
            hub.connections_file.write_text(connections + entry, encoding="utf-8")
            away = replace(hub, target="partner", workers=[])
            stopped.callback(away.kill_all)
            return hub, away

        yield make


def delivered(source: Source, pipeline: Pipeline, partner: Running) -> int:
    """The partner holds the source's rows, but for parked keys; no delivery is open, no change came under two keys."""
    parked = {key for _, key in checks.parked_keys(pipeline)}
    with psycopg.connect(source.database.dsn) as connection:
        rows = connection.execute("SELECT id, name, amount::text, big, rev FROM items").fetchall()
    wanted = {row[0]: row for row in rows if (row[0],) not in parked}
    held: dict[int, Any] = {body["id"]: body for body in partner.resources(f"/{pipeline.name}/").values()}
    found = {
        key: tuple(body[name] for name in ("id", "name", "amount", "big", "rev"))
        for key, body in held.items()
        if (key,) not in parked
    }
    assert found == wanted, pipeline.logs()
    assert pipeline.rows("SELECT * FROM cdc.delivery WHERE state = 'sent'") == []
    twice = "SELECT key_hash, position FROM cdc.delivery GROUP BY 1, 2 HAVING count(DISTINCT idempotency_key) > 1"
    assert pipeline.rows(twice) == []
    assert partner.applied_twice() == []
    checks.counted(pipeline)
    return len(wanted)


def test_killed_while_delivering(source: Source, both: Callable[[], Both], partner: Running) -> None:
    """At every step, with somebody writing; then started again."""
    dying = {point: both()[1] for point in POINTS}
    with Writer(source, seed=3) as writer:
        for point, pipeline in dying.items():
            pipeline.start(f"{point}:{60 if point == 'requested' else 3}:kill")
        writer.wrote(100)
        for point, pipeline in dying.items():
            assert pipeline.workers[0].ends() == KILLED, f"{point}: {pipeline.logs()}"
        open_ones = dying["recorded"].rows("SELECT count(*) FROM cdc.delivery WHERE state = 'sent'")
        assert open_ones > [(0,)], "something was on record and unanswered"
        for pipeline in dying.values():
            pipeline.start()
        writer.wrote(50)
    source.captured()
    for pipeline in dying.values():
        pipeline.catches_up()
        assert delivered(source, pipeline, partner) > 100
        pipeline.stop()
    for point in DELIVERY_POINTS:
        again = dying[point].rows("SELECT count(*) FROM cdc.delivery WHERE attempts > 1")
        assert again > [(0,)], f"what was left open by {point} left again"


@pytest.mark.parametrize("point", ["mapped", "recorded", "answered"])
def test_a_frozen_worker_sends_too_late(source: Source, both: Callable[[], Both], partner: Running, point: str) -> None:
    """Its successor has sent the same under the same keys; what was not on record does not leave any more."""
    _, pipeline = both()
    frozen = pipeline.start(f"{point}:2:stop")
    eventually(lambda: frozen.frozen, 60, f"{point} is reached")
    pipeline.start()
    with Writer(source, seed=5) as writer:
        writer.wrote(60)
    source.captured()
    pipeline.catches_up()
    before = delivered(source, pipeline, partner)
    frozen.signal(signal.SIGCONT)
    told = len(frozen.said("partitions assigned"))
    eventually(
        lambda: len(frozen.said("partitions assigned")) > told or frozen.code is not None,
        60,
        lambda: f"the thawed worker takes part again:\n{frozen.tail()}",
    )
    source.run("UPDATE items SET rev = rev + 1 WHERE id % 5 = 0")
    source.captured()
    pipeline.catches_up()
    assert delivered(source, pipeline, partner) == before


def test_a_partner_that_is_down_holds_nobody_else(source: Source, both: Callable[[], Both], partner: Running) -> None:
    """The hub goes on and catches up; the partner gets everything when it is back."""
    hub, away = both()
    partner.fault(Fault("drop_before"))
    hub.start()
    worker = away.start()
    with Writer(source, seed=9) as writer:
        writer.wrote(60)
    source.captured()
    hub.catches_up()
    checks.equal(source, hub)
    assert sum(away.watermarks().values()) == 0
    assert partner.resources(f"/{away.name}/") == {}
    assert worker.code is None, away.logs()
    whole = load(hub.mapping_file)
    parts = [whole.part(target) for target in whole.targets]

    def seen() -> dict[str, PipelineStatus]:
        return {part.name: part for part in status(hub.settings, parts).pipelines}

    eventually(lambda: seen()[f"{hub.name}:partner"].error, 20, "the status says why the partner's part waits")
    steady, late = (seen()[f"{hub.name}:{target}"] for target in ("hub", "partner"))
    assert (steady.state, steady.lag, steady.problems) == ("running", 0, ())
    assert (late.state, (late.lag or 0) > 300) == ("running", True)
    assert "the target" in late.problems[0]
    partner.fault(Fault("status", times=3, status=429, retry_after=0.2))
    away.catches_up()
    assert delivered(source, away, partner) > 100
