"""Positions against a small simulated PostgreSQL and Debezium: the guard must always end with the true rows.

The simulation knows what the real ones do and what makes ordering hard: transactions that interleave and commit in
another order than they wrote; one that is open across a snapshot; an INSERT logged before the DELETE it waits for;
redelivery from any flushed point with identical blocks; offsets lost, so a new snapshot; incremental reads; and a
consumer that is rewound and restarted (its tracker's state goes through text).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Literal

from hypothesis import given, settings
from hypothesis import strategies as st

from cdc.model import Position
from cdc.source.positions import PositionTracker, PostgresTracker, restore

KEYS = ("a", "b", "c", "d")
PARTITION = {"a": 0, "b": 0, "c": 0, "d": 1}


@dataclass
class Block:
    sequence: str | None
    lsn: int | None
    txId: int | None


@dataclass
class Event:
    key: str
    value: int | None  # None: a delete
    block: Block
    snapshot: Literal["", "initial", "incremental"] = ""


@dataclass
class Change:
    key: str
    value: int | None
    lsn: int


@dataclass
class Transaction:
    id: int
    early: int  # an lsn taken before others wrote: an INSERT that waits for a DELETE in the unique index
    changes: list[Change] = field(default_factory=list)
    end: int = 0


class Simulation:
    """PostgreSQL's log and Debezium's topic."""

    def __init__(self) -> None:
        self.lsn = 1000
        self.rows: dict[str, int] = {}
        self.open: dict[int, Transaction] = {}
        self.committed: list[Transaction] = []
        self.transactions = 0
        self.values = 0
        self.topic: list[Event] = []
        self.snapshot_at = 0  # the connector streams transactions that commit after this
        self.delivered = 0  # events of the current stream that are on the topic
        self.untold: set[str] = set()
        self.snapshot()

    def tick(self) -> int:
        self.lsn += 10
        return self.lsn

    def write(self, slot: int, key: str, delete: bool) -> None:
        transaction = self.open.get(slot)
        if transaction is None:
            self.transactions += 1
            transaction = self.open[slot] = Transaction(self.transactions, self.tick())
        for other in self.open.values():  # row locks
            if other is not transaction and any(change.key == key for change in other.changes):
                return
        state = self.rows.get(key)
        for change in transaction.changes:
            if change.key == key:
                state = change.value
        if delete and state is None:
            return
        self.values += 1
        lsn = self.tick()
        if state is None and not any(change.key == key for change in transaction.changes) and transaction.early:
            lsn, transaction.early = transaction.early, 0
        transaction.changes.append(Change(key, None if delete else self.values, lsn))

    def commit(self, slot: int) -> None:
        transaction = self.open.pop(slot, None)
        if transaction is None:
            return
        transaction.end = self.tick()
        self.committed.append(transaction)
        for change in transaction.changes:
            if change.value is None:
                self.rows.pop(change.key, None)
            else:
                self.rows[change.key] = change.value

    def stream(self) -> list[Event]:
        """Everything the connector streams since its last snapshot, as it always looks."""
        events: list[Event] = []
        previous: int | None = None
        for transaction in self.committed:
            if transaction.end <= self.snapshot_at:
                continue
            first = "null" if previous is None else f'"{previous}"'
            for change in transaction.changes:
                block = Block(f'[{first},"{change.lsn}"]', change.lsn, transaction.id)
                events.append(Event(change.key, change.value, block))
            previous = transaction.end
        return events

    def deliver(self, number: int) -> None:
        events = self.stream()[self.delivered : self.delivered + number]
        self.topic += events
        self.delivered += len(events)

    def kill(self, back: int) -> None:
        self.delivered = max(0, self.delivered - back)

    def snapshot(self) -> None:
        """The first one, or another because the offsets were lost: then deletes not yet delivered are never told."""
        self.untold = set(KEYS) - set(self.rows)
        self.snapshot_at, self.delivered = self.tick(), 0
        block = Block(f'[null,"{self.snapshot_at}"]', self.snapshot_at, 0)
        self.topic += [Event(key, value, block, "initial") for key, value in sorted(self.rows.items())]

    def incremental(self) -> None:
        """Reads as of now; Debezium sends them when it has streamed up to the closing signal, a transaction itself."""
        self.transactions += 1
        self.committed.append(Transaction(self.transactions, 0, end=self.tick()))
        self.deliver(len(self.stream()))
        block = Block(f'["{self.lsn}","{self.lsn}"]', None, None)
        self.topic += [Event(key, value, block, "incremental") for key, value in sorted(self.rows.items())]


def script(seed: int) -> list[tuple[str, tuple[int, ...]]]:
    """A busy random history. Hypothesis' own lists are too short and even for the rare cases: 600 of them did not find
    the naive rule's error, while 1 of 40 of these does; 1 of 170 finds the error of remembering no transactions."""
    random = Random(seed)
    weights = {"write": 40, "commit": 25, "deliver": 20, "kill": 6, "snapshot": 2, "incremental": 3, "rewind": 4}
    names = random.choices(list(weights), list(weights.values()), k=random.randint(20, 150))
    highest = {"deliver": 5, "kill": 25, "rewind": 60}
    return [
        (name, (random.randint(0, 2), random.randint(0, 3), random.randint(0, 2)))
        if name in ("write", "commit")
        else (name, (random.randint(0, highest[name]),) if name in highest else ())
        for name in names
    ]


class Reader:
    """The target's guard for one partition, reading the topic from where it stands."""

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.tracker: PositionTracker = PostgresTracker()
        self.at = 0
        self.rows: dict[str, tuple[int | None, Position]] = {}
        self.floor: dict[str, Position] = {}

    def read(self, topic: list[Event]) -> None:
        while self.at < len(topic):
            event = topic[self.at]
            self.at += 1
            if PARTITION[event.key] != self.partition:
                continue
            position = self.tracker.step(event.block, event.snapshot).position
            stored = self.rows.get(event.key)
            if stored is None or position >= stored[1]:
                self.rows[event.key] = (event.value, position)

    def rewind(self, by: int) -> None:
        self.at = max(0, self.at - by)
        self.tracker = restore("postgresql", 0, self.tracker.state())

    def values(self) -> dict[str, int]:
        return {key: value for key, (value, _) in self.rows.items() if value is not None}


@settings(max_examples=1500, deadline=None)
@given(st.integers(0, 1 << 40))
def test_the_guard_ends_with_the_true_rows(seed: int) -> None:
    source = Simulation()
    readers = (Reader(0), Reader(1))
    for name, numbers in script(seed):
        if name == "rewind":
            for reader in readers:
                reader.read(source.topic)
                reader.rewind(*numbers)
        elif name == "write":
            source.write(numbers[0], KEYS[numbers[1]], delete=numbers[2] == 0)
        elif name == "commit":
            source.commit(numbers[0])
        else:
            getattr(source, name)(*numbers)
    for slot in list(source.open):
        source.commit(slot)
    source.deliver(len(source.stream()))
    found: dict[str, int] = {}
    for reader in readers:
        reader.read(source.topic)
        found |= reader.values()
    told = {event.key for event in source.stream()}
    swept = source.untold - told  # deleted while the offsets were lost: the sweep's business, not the position's
    assert {key: value for key, value in found.items() if key not in swept} == source.rows


def _read(text: str) -> Block:
    return Block(text, None, None)


def test_a_redelivered_first_transaction_does_not_outrank_newer_rows() -> None:
    """The naive rule (take the newest commit part) fails here: 900 would come back as (2000, 900) over (1000, 1100)."""
    tracker = PostgresTracker()
    tracker.step(_read('[null,"800"]'), "initial")
    first = tracker.step(Block('[null,"900"]', 900, 7), "")
    second = tracker.step(Block('["1000","1100"]', 1100, 8), "")
    third = tracker.step(Block('["2000","2100"]', 2100, 9), "")
    again = tracker.step(Block('[null,"900"]', 900, 7), "")
    assert again.position == first.position < second.position < third.position
    assert again.fell
    assert not third.fell


def test_a_transaction_open_across_the_slots_creation_outranks_the_snapshot() -> None:
    """e1: the snapshot read has lsn 26506176, the later committed update of the row 26506000."""
    tracker = PostgresTracker()
    read = tracker.step(_read('[null,"26506176"]'), "initial")
    update = tracker.step(Block('[null,"26506000"]', 26506000, 3), "")
    assert update.position > read.position
    assert not update.fell


def test_a_transaction_open_across_a_repeated_snapshot_that_read_nothing_here() -> None:
    """A base that only genuinely higher lsns may raise would put 850 below the delete at (1000, 900)."""
    tracker = PostgresTracker()
    tracker.step(_read('[null,"500"]'), "initial")
    delete = tracker.step(Block('["1000","900"]', 900, 5), "")
    insert = tracker.step(Block('[null,"850"]', 850, 6), "")
    assert insert.position > delete.position
    assert insert.fell, "it may also be an old transaction after lost offsets: somebody must look"


def test_two_first_transactions_after_snapshots_that_read_nothing_here() -> None:
    """Found by the simulation, 1 of 20,000 histories: both had the first snapshot's part, and were compared by lsn."""
    tracker = PostgresTracker()
    tracker.step(_read('[null,"1100"]'), "initial")
    delete = tracker.step(Block('[null,"1090"]', 1090, 3), "")
    insert = tracker.step(Block('[null,"1060"]', 1060, 2), "")
    assert insert.position > delete.position


def test_a_repeated_snapshot_is_seen_once_and_not_after_a_rewind() -> None:
    tracker = PostgresTracker()
    steps = [tracker.step(_read('[null,"500"]'), "initial") for _ in range(2)]
    tracker.step(Block('[null,"600"]', 600, 5), "")
    repeated = [tracker.step(_read('[null,"700"]'), "initial") for _ in range(2)]
    rewound = tracker.step(_read('[null,"500"]'), "initial")
    assert [step.repeated_snapshot for step in (*steps, *repeated, rewound)] == [False, False, True, False, False]
    assert repeated[0].position == Position(0, 700, 0)


def test_a_first_snapshot_after_streaming_is_a_repeated_one() -> None:
    tracker = PostgresTracker()
    tracker.step(Block('["400","450"]', 450, 5), "")
    assert tracker.step(_read('[null,"700"]'), "initial").repeated_snapshot


def test_state_goes_through_text_and_ends_with_the_epoch() -> None:
    tracker = PostgresTracker(3)
    tracker.step(_read('[null,"500"]'), "initial")
    tracker.step(Block('[null,"450"]', 450, 5), "")
    same = restore("postgresql", 3, tracker.state())
    assert same.state() == tracker.state()
    assert restore("postgresql", 4, tracker.state()).state() == PostgresTracker(4).state()


@dataclass
class Coordinates:
    file: str | None
    pos: int | None
    row: int | None


def test_mariadb_coordinates() -> None:
    tracker = restore("mariadb", 1)
    read = tracker.step(Coordinates("mariadb-bin.000009", 300, 0), "initial")
    rows = [tracker.step(Coordinates("mariadb-bin.000009", 400, row), "") for row in (0, 1)]
    flushed = tracker.step(Coordinates("mariadb-bin.000010", 4, 0), "")
    again = tracker.step(Coordinates("mariadb-bin.000009", 400, 1), "")
    assert read.position == Position(1, 9, 300, 0)
    assert read.position < rows[0].position < rows[1].position < flushed.position
    assert again.position == rows[1].position
    assert [again.fell, flushed.fell] == [True, False]
    assert restore("mariadb", 1, tracker.state()).step(Coordinates("b.000011", 5, 0), "initial").repeated_snapshot
