"""Limits of what is parked: number, age, share; and that none of them keeps a pipeline from being mended."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal

import pytest

from cdc.engine.apply import Applied
from cdc.engine.limits import ParkedLimits, Share, exceeded
from cdc.errors import Terminal
from cdc.mapping.load import loads
from cdc.mapping.model import Parked
from cdc.model import TopicPartition
from cdc.target.base import Standing
from tests.simulator import PIPELINE

P0 = TopicPartition("crm.public.people", 0)


class There:
    """A target that answers what it is told, and counts how often it was asked."""

    def __init__(self) -> None:
        self.now, self.asked = Standing(0, None, False), 0

    def standing(self) -> Standing:
        self.asked += 1
        return self.now


def limits(there: There, text: str = "max: 3") -> ParkedLimits:
    return ParkedLimits(loads(f"{PIPELINE}parked: {{{text}}}\n"), there, lambda: 0.0)  # type: ignore[arg-type]


def wrote(parked: int, applied: int = 0, reason: str = "refused") -> Applied:
    return Applied(Counter({("m", P0, "parked", reason): parked, ("m", P0, "applied", ""): applied}))


@pytest.mark.parametrize(
    ("records", "oldest_s", "told"),
    [
        (3, 59.0, None),
        (4, None, "4 records are parked, more than the 3"),
        (1, 61.0, "parked for 61 s, longer than the 60 s"),
        (1, None, None),
    ],
)
def test_number_and_age(records: int, oldest_s: float | None, told: str | None) -> None:
    found = exceeded(Parked(max=3, max_age=60), records, oldest_s)
    assert (found is None) if told is None else (told in str(found))


def test_a_share_needs_enough_records_and_forgets_old_ones() -> None:
    now = [0.0]
    share = Share(Parked(max_share=Decimal("0.1"), share_minutes=1, share_least=3), lambda: now[0])
    share.add(3, 2)
    assert share.exceeded() is None, "two of three are fewer than the least number"
    share.add(5, 2)
    assert "4 of the 8 records of the last 1 minutes" in str(share.exceeded())
    share.add(0, -2)
    assert share.exceeded() is None, "those that healed count no more"
    share.add(0, 2)
    now[0] = 30.0
    share.add(1000, 0)
    assert share.exceeded() is None, "a tenth is not reached any more"
    now[0] = 61.0
    share.add(20, 3)
    assert share.exceeded() is None, "3 of 1,020"
    now[0] = 95.0
    share.add(1, 1)
    assert "4 of the 21 records" in str(share.exceeded())


def test_a_batch_asks_the_target_only_when_its_own_count_passes_the_limit() -> None:
    there = There()
    watch = limits(there)
    for _ in range(100):
        watch.wrote(wrote(0, 5000))
    watch.wrote(wrote(3))
    assert there.asked == 0
    there.now = Standing(2, 5.0, False)  # one was parked already: a replay
    watch.wrote(wrote(1))
    assert there.asked == 1
    there.now = Standing(4, 5.0, False)
    watch.wrote(wrote(1))
    assert there.asked == 1
    with pytest.raises(Terminal, match="4 records are parked") as stopped:
        watch.wrote(wrote(1))
    assert (stopped.value.where, "cdc parked retry" in str(stopped.value)) == ("pipeline simulated", True)


def test_a_worker_over_the_limit_starts_only_to_retry() -> None:
    there = There()
    there.now = Standing(10, 5.0, False)
    with pytest.raises(Terminal):
        limits(there).look()
    there.now = Standing(10, 5.0, True)
    watch = limits(there)
    watch.look()
    watch.wrote(wrote(1))
    there.now = Standing(9, 5.0, False)  # the retry came to nothing
    with pytest.raises(Terminal):
        watch.look()


def test_an_old_record_stops_the_pipeline() -> None:
    there = There()
    there.now = Standing(1, 7201.0, False)
    with pytest.raises(Terminal, match="longer than the 7,200 s"):
        limits(there, "max_age: 2h").look()


def test_a_share_stops_at_once() -> None:
    watch = limits(There(), "max_share: 0.5, share_least: 2")
    watch.wrote(wrote(1))
    with pytest.raises(Terminal, match="greater share"):
        watch.wrote(wrote(1))
