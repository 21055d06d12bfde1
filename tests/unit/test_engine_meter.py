"""Meter: rates and latencies of the last minute, and where the time went."""

from __future__ import annotations

import itertools
from collections import Counter
from contextlib import suppress

import pytest

from cdc.engine.apply import Applied, Batch
from cdc.engine.meter import WINDOW_SECONDS, Meter
from cdc.engine.writer import Written
from cdc.model import Outcome, TopicPartition
from cdc.target.base import Advance

PARTITION = TopicPartition("crm.public.people", 0)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def now_us(self) -> int:
        return int(self.now * 1_000_000)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def meter(clock: Clock) -> Meter:
    return Meter(clock, clock.now_us)


_offsets = itertools.count(1)


def written(time_us: int | None = None, next_: int | None = None, **outcomes: int) -> Written:
    tallies = Counter({("m", PARTITION, Outcome(outcome), ""): number for outcome, number in outcomes.items()})
    move = Advance(PARTITION, 1, 0, next(_offsets) if next_ is None else next_, "", time_us)
    return Written(Batch(moves=[move]), Applied(tallies))


def test_only_rows_that_took_effect_count(meter: Meter, clock: Clock) -> None:
    clock.now += 10
    meter.wrote(written(applied=70, superseded=30, skipped=1000, parked=5))
    assert meter.rows_per_second() == 10.0


def test_the_rate_is_of_the_last_minute(meter: Meter, clock: Clock) -> None:
    meter.wrote(written(applied=6000))
    clock.now += WINDOW_SECONDS
    meter.wrote(written(applied=600))
    assert meter.rows_per_second() == 110.0
    clock.now += 1
    assert meter.rows_per_second() == 10.0
    clock.now += WINDOW_SECONDS
    assert meter.rows_per_second() == 0.0


def test_latency_is_from_the_source_s_commit_to_ours(meter: Meter, clock: Clock) -> None:
    assert meter.latency_ms() == {}
    for milliseconds in range(1, 101):
        meter.wrote(written(clock.now_us() - milliseconds * 1000, applied=1))
    meter.wrote(written(None, applied=1))  # a move without a change has no age
    assert meter.latency_ms() == {"p50": 51.0, "p99": 100.0}
    clock.now += WINDOW_SECONDS + 1
    assert meter.latency_ms() == {}


def test_shares_of_stages_since_the_last_look(meter: Meter, clock: Clock) -> None:
    with meter.stage("decoding"):
        clock.now += 3
    with suppress(ZeroDivisionError), meter.stage("mapping"):
        clock.now += 1
        raise ZeroDivisionError
    assert meter.shares() == {"decoding": 0.75, "mapping": 0.25}
    assert meter.shares() == {}


def test_what_is_played_again_does_not_count_as_late(meter: Meter, clock: Clock) -> None:
    """After a rewind old changes come again: their age says nothing of how late new ones are."""
    meter.wrote(written(clock.now_us() - 5_000, 1_000_001, applied=1))
    meter.wrote(written(clock.now_us() - 3_600_000_000, 500, applied=1))
    assert meter.latency_ms() == {"p50": 5.0, "p99": 5.0}


def test_a_profile_is_of_the_whole_life(meter: Meter, clock: Clock) -> None:
    for _ in range(2):
        with meter.stage("decoding"):
            clock.now += 2
        meter.shares()
    clock.now += 6
    done = written(applied=3, parked=1)
    done.seconds, done.cpu_s = 5.0, 2.0
    meter.wrote(done)
    found = meter.profile("crm", "host:1")
    assert (found.seconds, found.rows, found.stages) == (10.0, 3, {"decoding": 4.0})
    assert (found.writing_s, found.writing_cpu_s) == (5.0, 2.0)


def test_a_stage_may_turn_out_to_be_another(meter: Meter, clock: Clock) -> None:
    with meter.stage("waiting for broker") as stage:
        clock.now += 2
        stage.name = "idle"
    assert meter.shares() == {"idle": 1.0}
