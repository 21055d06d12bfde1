"""Supervisor: workers that end in every way, with processes that only pretend."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import structlog.testing

from cdc.engine.build import WorkerSpec
from cdc.engine.meter import Profile
from cdc.engine.supervisor import (
    FIRST_WAIT_SECONDS,
    LONGEST_WAIT_SECONDS,
    NEEDS_A_PERSON,
    PROGRESS_SECONDS,
    RESTARTS_WITHOUT_PROGRESS,
    STOP_SECONDS,
    TEMPORARY,
    Supervisor,
    say,
)

RUNS, IGNORES_STOPS = None, "deaf"


class FakeProcess:
    """A process that ends with `status` after `lives` seconds (None: runs until it is stopped)."""

    def __init__(self, world: World, name: str, status: int | str | None, lives: float) -> None:
        self.world, self.name, self.status, self.lives = world, name, status, lives
        self.stopped_by: str | None = None

    def start(self) -> None:
        self.born = self.world.now
        self.world.log.append((self.born, f"start {self.name}"))

    @property
    def exitcode(self) -> int | None:
        if self.stopped_by:
            return -9 if self.stopped_by == "kill" else 0
        alive = not isinstance(self.status, int) or self.world.now - self.born < self.lives
        return None if alive else int(self.status or 0)

    def terminate(self) -> None:
        self.world.log.append((self.world.now, f"terminate {self.name}"))
        if self.status != IGNORES_STOPS:
            self.stopped_by = "terminate"

    def kill(self) -> None:
        self.world.log.append((self.world.now, f"kill {self.name}"))
        self.stopped_by = "kill"

    def join(self, timeout: float | None = None) -> None:
        if self.exitcode is None:
            self.world.now += timeout or 0.0


class World:
    """Time, and what becomes of the processes that are started: `lives[name]` is a list of (status, seconds)."""

    def __init__(self, **lives: list[tuple[int | str | None, float]]) -> None:
        self.now, self.lives, self.log = 0.0, lives, list[tuple[float, str]]()
        self.at: dict[float, Callable[[], None]] = {}
        self.profiled: dict[str, Profile | str] = {}  # last words of workers
        self.specs = [WorkerSpec(Path(name.split("_")[0]), Path("connections.yaml"), "?") for name in lives]
        self._names = {id(spec): name for spec, name in zip(self.specs, lives, strict=True)}

    def Pipe(self, duplex: bool) -> tuple[Connection, Connection]:
        return multiprocessing.Pipe(duplex)

    def Process(self, target: Any, args: tuple[WorkerSpec, int, Connection]) -> FakeProcess:
        name = self._names[id(args[0])]
        if name in self.profiled:
            args[2].send(self.profiled[name])
        left = self.lives[name]
        status, lives = left.pop(0) if len(left) > 1 else left[0]
        return FakeProcess(self, name, status, lives)

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert self.now < 10_000, "it would run for ever"
        self.now = round(self.now + seconds, 3)
        for moment in [moment for moment in self.at if moment <= self.now]:
            self.at.pop(moment)()

    def starts(self, name: str) -> list[float]:
        return [at for at, what in self.log if what == f"start {name}"]


@pytest.fixture(autouse=True)
def _signals_as_they_were() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def run(monkeypatch: pytest.MonkeyPatch, world: World, until: Callable[[], bool] | None = None) -> int:
    monkeypatch.setattr(multiprocessing, "get_context", lambda method: world)
    return Supervisor(world.specs, until, world.clock, world.sleep).run()


def test_workers_that_are_done_are_not_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(a_1=[(0, 1.0)], b_1=[(0, 2.0)])
    assert run(monkeypatch, world) == 0
    assert [what for _, what in world.log] == ["start a_1", "start b_1"]


@pytest.mark.parametrize("status", [TEMPORARY, -9, 70])
def test_a_worker_that_died_is_started_again_later_each_time(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    world = World(a_1=[(status, 0.0)] * 9 + [(0, 0.0)])
    assert run(monkeypatch, world) == 0
    starts = world.starts("a_1")
    waits = [later - earlier for earlier, later in pairwise(starts)]
    wanted = [min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2**number) for number in range(len(waits))]
    assert waits == pytest.approx(wanted, abs=0.35)  # it looks every 0.1 s
    assert max(waits) < LONGEST_WAIT_SECONDS + 1


def test_a_worker_that_made_progress_waits_as_little_as_the_first_time(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(a_1=[*[(TEMPORARY, 0.0)] * 5, (TEMPORARY, PROGRESS_SECONDS + 1), (0, 0.0)])
    run(monkeypatch, world)
    *_, long_lived, last = world.starts("a_1")
    assert last - long_lived == pytest.approx(PROGRESS_SECONDS + 1 + FIRST_WAIT_SECONDS, abs=0.35)


def test_a_worker_that_keeps_failing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(a_1=[(TEMPORARY, 0.0)], a_2=[(RUNS, 0.0)], b_1=[(0, 500.0)])
    assert run(monkeypatch, world) == 1
    assert len(world.starts("a_1")) == RESTARTS_WITHOUT_PROGRESS + 1
    given_up = next(at for at, what in world.log if what == "terminate a_2")
    assert given_up < 500
    assert "terminate b_1" not in [what for _, what in world.log]


def test_a_worker_that_needs_a_person_stops_its_pipeline_only(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(a_1=[(NEEDS_A_PERSON, 1.0)], a_2=[(RUNS, 0.0)], b_1=[(0, 5.0)])
    assert run(monkeypatch, world) == 1
    assert world.log[3] == (pytest.approx(1.0, abs=0.3), "terminate a_2")
    assert {what for _, what in world.log[4:]} == {"terminate a_2"}  # once more when the supervisor leaves: harmless
    assert world.starts("a_1") == world.starts("a_2") == [0.0]
    assert world.now >= 5.0


def test_the_pipeline_s_other_targets_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(a_1=[(NEEDS_A_PERSON, 1.0)], a_2=[(RUNS, 0.0)], a_3=[(0, 5.0)])
    names = world._names
    world.specs = [replace(spec, target="other" if names[id(spec)] == "a_3" else "") for spec in world.specs]
    world._names = {id(spec): name for spec, name in zip(world.specs, names.values(), strict=True)}
    assert run(monkeypatch, world) == 1
    assert {what for _, what in world.log if "terminate" in what} == {"terminate a_2"}
    assert world.now >= 5.0


def test_until_stops_them_all(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(a_1=[(RUNS, 0.0)], b_1=[(RUNS, 0.0)])
    assert run(monkeypatch, world, until=lambda: world.now >= 3) == 0
    assert [what for at, what in world.log if at >= 3] == ["terminate a_1", "terminate b_1"]


def test_what_cannot_come_any_more_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(a_1=[(NEEDS_A_PERSON, 1.0)], b_1=[(RUNS, 0.0)])
    world.profiled = {"a_1": "the topic is compacted"}
    log = structlog.testing.CapturingLogger()
    monkeypatch.setattr("cdc.engine.supervisor._log", log)
    assert run(monkeypatch, world, until=lambda: False) == 1
    assert world.now < 2
    assert "terminate b_1" in [what for _, what in world.log]
    (told,) = log.calls
    assert (told.kwargs["mapping"], told.kwargs["reason"]) == ("a", "the topic is compacted")


def test_a_real_worker_says_why_a_person_is_needed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    log = structlog.testing.CapturingLogger()
    monkeypatch.setattr("cdc.engine.supervisor._log", log)
    spec = WorkerSpec(tmp_path / "gone.yaml", tmp_path / "connections.yaml", "?", "hub")
    assert Supervisor([spec], lambda: False).run() == 1
    (told,) = log.calls
    assert told.kwargs["target"] == "hub"
    assert "connections.yaml" in told.kwargs["reason"]


def test_a_supervisor_that_is_gone_is_no_defect() -> None:
    ours, theirs = multiprocessing.Pipe(duplex=False)
    ours.close()
    say(theirs, "nobody hears it")
    theirs.close()


def test_a_signal_stops_them_and_gives_them_time(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(a_1=[(RUNS, 0.0)], b_1=[(IGNORES_STOPS, 0.0)])
    world.at[2.0] = lambda: signal.raise_signal(signal.SIGTERM)
    assert run(monkeypatch, world) == 0
    assert [what for at, what in world.log if at >= 2] == ["terminate a_1", "terminate b_1", "kill b_1"]
    assert world.now == pytest.approx(2.0 + STOP_SECONDS, abs=0.2)


def test_a_second_signal_kills(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(a_1=[(IGNORES_STOPS, 0.0)])

    def twice() -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    world.at[2.0] = twice
    run(monkeypatch, world)
    assert (world.log[1][1], world.now) == ("kill a_1", 2.0)


def test_last_words_of_workers_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of those that ended by themselves and those that were stopped; one that was killed said nothing."""
    world = World(a=[(0, 5.0)], b=[(RUNS, 0.0)], c=[(-9, 1.0), (0, 1.0)])
    world.profiled = {name: Profile(name, "host:1", 1.0, 2, {}, 0.5, 0.2) for name in "ab"}
    monkeypatch.setattr(multiprocessing, "get_context", lambda method: world)
    supervisor = Supervisor(world.specs, lambda: world.now > 20, world.clock, world.sleep)
    assert supervisor.run() == 0
    assert [each.pipeline for each in supervisor.profiles] == ["a", "b"]
