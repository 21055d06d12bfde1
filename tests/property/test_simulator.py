"""The real worker loop in a simulated world: writes, crashes at every step, rebalances and redelivery in any order."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cdc.model import Position
from tests.simulator import World

KEYS = st.integers(1, 5)
STEPS = st.sampled_from([None, "begin", "write", "advance", "commit", "committed"])


class Simulation(RuleBasedStateMachine):
    """I1 and I2 at the end, I3 and I5 all the time."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.positions: dict[object, Position] = {}
        self.history: list[int] = []

    @initialize(snapshot_rows=st.integers(0, 3))
    def begin(self, snapshot_rows: int) -> None:
        for key in range(1, snapshot_rows + 1):
            self.world.source.rows[key] = (f"initial {key}", "long notes")
        self.world.source.snapshot()
        self.world.start("one")

    @rule(key=KEYS, name=st.sampled_from(["a", "b", "c"]), notes=st.sampled_from(["long notes", "other notes", None]))
    def write(self, key: int, name: str, notes: str | None) -> None:
        self.world.source.put(key, name, notes)

    @rule(key=KEYS)
    def delete(self, key: int) -> None:
        self.world.source.delete(key)

    @rule(key=KEYS, to=KEYS)
    def move(self, key: int, to: int) -> None:
        self.world.source.move(key, to)

    @rule()
    def truncate(self) -> None:
        self.world.source.truncate()

    @rule(number=st.integers(1, 10))
    def deliver(self, number: int) -> None:
        self.world.deliver(number)

    @rule(back=st.integers(1, 6))
    def redeliver(self, back: int) -> None:
        """Connect was killed: the newest records of each partition come again, in order."""
        for log in self.world.broker.logs.values():
            self.world.broker.produce(log[-back:])

    @rule(crash_at=STEPS)
    def turn_one(self, crash_at: str | None) -> None:
        self.world.turn("one", crash_at)

    @precondition(lambda self: "two" in self.world.workers)
    @rule(crash_at=STEPS)
    def turn_two(self, crash_at: str | None) -> None:
        self.world.turn("two", crash_at)

    @precondition(lambda self: "two" not in self.world.workers)
    @rule()
    def a_second_worker_joins(self) -> None:
        self.world.start("two")

    @precondition(lambda self: "two" in self.world.workers)
    @rule()
    def the_second_worker_leaves(self) -> None:
        del self.world.workers["two"]
        self.world.rebalance()

    @invariant()
    def no_position_falls(self) -> None:
        table = self.world.storage.tables.get("simulated/hub.people")
        for key, row in (table.rows if table else {}).items():
            assert row.position >= self.positions.get(key, row.position)
            self.positions[key] = row.position

    def teardown(self) -> None:
        if not self.world.workers:
            return
        self.world.settle()
        assert self.world.drained()
        assert self.world.target_rows() == self.world.source.rows
        assert not self.world.storage.parked
        consumed = sum(mark.next or 0 for mark in self.world.storage.watermarks.values())
        assert sum(self.world.storage.tallies.values()) == consumed


TestSimulation = Simulation.TestCase
TestSimulation.settings = settings(
    max_examples=200, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
