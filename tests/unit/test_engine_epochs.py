"""Epochs: the same source, another one, and one that cannot be asked."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from cdc.engine.epochs import SECONDS_AN_ANSWER_HOLDS, Epochs, next_epoch
from cdc.errors import Terminal, Transient
from cdc.target.base import Epoch, Owner
from cdc.target.memory import MemoryTarget, Storage


@dataclass
class Server:
    """A source that can be restored, or away."""

    identity: str = "7301"
    timeline: str = "1"
    position: tuple[int, int] = (1000, 0)
    away: bool = False
    asked: int = 0

    def ask(self, source: str) -> Server:
        self.asked += 1
        if self.away:
            raise Transient("no answer", where=source)
        return self


class Bench:
    def __init__(self) -> None:
        self.server, self.now = Server(), 100.0
        self.target = MemoryTarget(Storage())
        self.target.open(Owner("people", "hub"))
        self.epochs = Epochs(self.target, self.server.ask, lambda: self.now)


def test_a_new_source_begins_epoch_one() -> None:
    bench = Bench()
    assert bench.epochs.start("crm") == 1
    assert bench.target.epochs() == [Epoch("crm", 1, "7301/1")]
    assert Epochs(bench.target, bench.server.ask, lambda: 0.0).start("crm") == 1


def test_a_new_source_that_is_away_is_not_guessed() -> None:
    bench = Bench()
    bench.server.away = True
    with pytest.raises(Transient):
        bench.epochs.start("crm")
    assert bench.target.epochs() == []


def test_a_known_source_that_is_away_is_believed() -> None:
    bench = Bench()
    bench.target.begin_epoch(Epoch("crm", 3, "7301/1"))
    bench.server.away = True
    assert bench.epochs.start("crm") == 3


@pytest.mark.parametrize("changed", [{"identity": "9999"}, {"timeline": "2"}])
def test_another_identity_stops_at_the_start(changed: dict[str, str]) -> None:
    bench = Bench()
    bench.epochs.start("crm")
    for name, value in changed.items():
        setattr(bench.server, name, value)
    with pytest.raises(Terminal, match="another incarnation") as raised:
        bench.epochs.start("crm")
    assert "cdc source new-epoch crm" in (raised.value.hint or "")


def test_positions_fell_in_the_same_log() -> None:
    bench = Bench()
    bench.epochs.start("crm")
    bench.epochs.check("crm", (1000, 0))


def test_positions_fell_and_the_log_is_shorter_than_what_was_read() -> None:
    bench = Bench()
    bench.epochs.start("crm")
    with pytest.raises(Terminal, match=r"its log ends at \(1000, 0\), before \(1000, 1\)"):
        bench.epochs.check("crm", (1000, 1))


def test_positions_fell_and_the_source_is_away() -> None:
    bench = Bench()
    bench.epochs.start("crm")
    bench.server.away = True
    for _ in range(2):  # no answer is no answer that holds
        with pytest.raises(Transient):
            bench.epochs.check("crm", (1, 0))


def test_one_answer_serves_for_a_run_of_falls() -> None:
    bench = Bench()
    bench.epochs.start("crm")
    bench.epochs.check("crm", (1, 0))
    bench.now += SECONDS_AN_ANSWER_HOLDS
    bench.epochs.check("crm", (1, 0))
    assert bench.server.asked == 2
    bench.now += 0.1
    bench.server.identity = "9999"
    with pytest.raises(Terminal):
        bench.epochs.check("crm", (1, 0))


def test_the_next_epoch_is_of_the_source_as_it_is_now() -> None:
    assert next_epoch(Epoch("crm", 1, "7301/1"), Server(timeline="2")) == Epoch("crm", 2, "7301/2")
