"""The REST target, against a partner that answers, with its state in PostgreSQL or SQLite, equals the oracle.

Declared differences, all because a REST target keeps no values: it lends none to a row's next key (such a change is
parked as `partial_image` and waits for a whole row), it marks no rows (soft deletes are a request of the mapping's),
and changes of one row at one position that say the same are one delivery.
"""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Collection, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, cast

import msgspec
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cdc.engine.oracle import Oracle
from cdc.entries import RestSettings
from cdc.errors import Fenced, Transient
from cdc.model import Decision, DeletePolicy, MappedRow, Outcome, Position, RowOp, TargetTable, TruncatePolicy, Write
from cdc.stack.partner_store import Fault
from cdc.target.base import Advance, Owner, hold_of
from cdc.target.delivery import LedgerReader
from cdc.target.postgres import PostgresTarget
from cdc.target.rest import RestTarget
from cdc.target.rest_delivery import StateStore
from cdc.target.rest_requests import BatchRequest, Request, Requests
from cdc.target.sqlite import SqliteTarget
from cdc.target.sqlite_database import SqliteDatabase
from tests import tapes
from tests.fix_stack import Database
from tests.partner import Running, running_partner
from tests.tapes import REFUSED_TEXT, build, named_cases, play, rows_strategy

pytestmark = pytest.mark.database
CUTS = st.lists(st.integers(1, 20), max_size=4)
_numbers = itertools.count(1)
POLICIES = [DeletePolicy.DELETE, DeletePolicy.IGNORE]


class KeepsNoValues(Oracle):
    """The oracle with the declared difference: nothing is lent to a row's next key."""

    def _delete(self, row: MappedRow) -> Decision:
        decision = super()._delete(row)
        self.moved.clear()
        return decision

    def _upsert(self, row: MappedRow) -> Decision:
        current = self.rows.get(row.key)
        again = current is not None and current.position == row.position
        if row.partial and row.moved_from is not None and not again:
            return Decision(Outcome.PARKED, "partial_image")
        return super()._upsert(row)


def single(name: str) -> Requests:
    at = f"/{name}/{{id}}"
    return Requests(upsert=Request("PUT", at), patch=Request("PATCH", at), delete=Request("DELETE", at))


def batched(name: str) -> Requests:
    data = {"id": "{id}", "name": "{name}", "notes": "{notes}"}
    item = {"operation": "{$operation}", "key": "{$key}", "id": "{id}", "data": data}
    return Requests(batch=BatchRequest("POST", f"/{name}:batch", 3, "items", item, "results", "status"), patches=True)


class Bench:
    """A partner and a state store: a PostgreSQL database, or a SQLite file."""

    def __init__(self, partner: Running, dsn: str = "", file: Path = Path()) -> None:
        self.partner = partner
        self.dsn = dsn
        self.file = file

    def state(self) -> StateStore:
        if self.dsn:
            return PostgresTarget(lambda: psycopg.connect(self.dsn, autocommit=True))
        return SqliteTarget(lambda create: SqliteDatabase(self.file, wait_s=30, durable=False, create=create))

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Of the state tables, named as in PostgreSQL."""
        if self.dsn:
            with psycopg.connect(self.dsn) as reader:
                return reader.execute(query.encode(), values).fetchall()
        with closing(sqlite3.connect(self.file)) as file:
            return file.execute(query.replace("cdc.", "cdc_").replace("%s", "?"), values).fetchall()

    def target(self, table: TargetTable, requests: Requests, **changed: Any) -> RestTarget:
        told: dict[str, Any] = {
            "name": "partner",
            "kind": "rest",
            "url": self.partner.url,
            "retry_for_s": 5.0,
        } | changed
        return RestTarget(RestSettings.model_validate(told | changed), self.state(), {table.mapping: requests})

    def check(
        self,
        tape: list[MappedRow],
        cuts: list[int],
        policy: DeletePolicy = DeletePolicy.DELETE,
        make: Any = single,
        refused: bool = False,
        faults: tuple[Fault, ...] = (),
        aside: Collection[int] = (),
        asked: bool = False,
        **rules: Any,
    ) -> None:
        name = f"customers_{next(_numbers)}"
        table = tapes.table(name, policy, **rules)
        with self.partner.store.held():
            self.partner.store.refuses = {"name": [REFUSED_TEXT]} if refused else {}
            self.partner.store.log.clear()
        accepts = (lambda values: values[1] != REFUSED_TEXT) if refused else (lambda values: True)
        oracle = KeepsNoValues(table, accepts=accepts, aside=set(aside))
        oracle.play(tape)
        target = self.target(table, make(name))
        self.partner.fault(*faults)
        try:
            applier = play(target, table, tape, cuts, Owner(name, "target"), aside=aside)
            if asked:
                self.ask(name)
                tapes.retry_asked(target, table, tape, applier)
                tapes.retry_everything(oracle)
            stored = target.parked([tapes.PARTITION])
        finally:
            target.close()
            self.partner.fault()
        found = self.partner.resources(f"/{name}/")
        assert {(body["id"],): tuple(body.values()) for body in found.values()} == oracle.visible()
        assert set(applier.held) == {(table.mapping, hold_of(key)) for key in oracle.parked}
        assert set(stored) == set(applier.held)
        assert self.partner.applied_twice() == []
        self._counted(name, len(tape))

    def ask(self, pipeline: str) -> None:
        """A person asks for the retry of everything that is parked."""
        if self.dsn:
            with psycopg.connect(self.dsn) as writer:
                writer.execute("UPDATE cdc.parked SET retry_requested_at = now() WHERE pipeline = %s", (pipeline,))
        else:
            with closing(sqlite3.connect(self.file)) as file, file:
                file.execute("UPDATE cdc_parked SET retry_requested_us = 1 WHERE pipeline = ?", (pipeline,))

    def _counted(self, pipeline: str, records: int) -> None:
        ((total, least),) = self.rows("SELECT sum(number), min(number) FROM cdc.tally WHERE pipeline = %s", pipeline)
        assert (total or 0) == records
        assert (least or 0) >= 0
        left = self.rows("SELECT count(*) FROM cdc.delivery WHERE state = 'sent'")
        assert left == [(0,)], "no delivery without an answer is left"


@pytest.fixture(scope="module", params=["postgresql", "sqlite"])
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with running_partner() as partner:
        if request.param == "sqlite":
            yield Bench(partner, file=tmp_path_factory.mktemp("state") / "state.db")
        else:
            database: Database = request.getfixturevalue("module_database")
            yield Bench(partner, database.dsn)


def without_same_ties(tape: list[MappedRow]) -> list[MappedRow]:
    """Without changes that say, at one position of one row, what another one said before a third: declared."""
    seen: set[tuple[Any, ...]] = set()
    kept = []
    for row in tape:
        said = (row.op, row.key, row.position, repr(row.values))
        if row.op is RowOp.TRUNCATE or said not in seen:
            kept.append(row)
        seen.add(said)
    return kept


@pytest.mark.parametrize("make", [single, batched])
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", named_cases())
def test_named_cases(bench: Bench, name: str, policy: DeletePolicy, make: Any) -> None:
    tape = named_cases()[name]
    bench.check(tape, [], policy, make)
    bench.check(tape, list(range(1, len(tape))), policy, make)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(specification=rows_strategy(), cuts=CUTS, policy=st.sampled_from(POLICIES))
def test_random_tapes(
    bench: Bench, specification: list[tuple[object, ...]], cuts: list[int], policy: DeletePolicy
) -> None:
    bench.check(without_same_ties(build(specification)), cuts, policy)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(specification=rows_strategy(moves=False, refused=True))
def test_refused_rows_park_their_key(bench: Bench, specification: list[tuple[object, ...]]) -> None:
    tape = without_same_ties(build(specification))
    bench.check(tape, list(range(1, len(tape))), refused=True)
    bench.check(tape, list(range(1, len(tape))), refused=True, make=batched)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    specification=rows_strategy(moves=False, refused=True),
    aside=st.frozensets(st.integers(0, 13), max_size=3),
    supersede=st.booleans(),
    asked=st.booleans(),
    on_truncate=st.sampled_from([TruncatePolicy.APPLY, TruncatePolicy.PARK]),
)
def test_parked_keys_by_rule(
    bench: Bench,
    specification: list[tuple[object, ...]],
    aside: frozenset[int],
    supersede: bool,
    asked: bool,
    on_truncate: TruncatePolicy,
) -> None:
    """Superseded, set aside on request, truncates that wait: as on every target (test_parked_keys.py)."""
    tape = without_same_ties(build(specification))
    rules = {"supersede": supersede, "on_truncate": on_truncate}
    bench.check(tape, list(range(1, len(tape))), refused=True, aside=aside, asked=asked, **rules)


@pytest.mark.parametrize(
    "fault",
    [
        Fault("status", times=2, status=500),
        Fault("status", times=2, status=429, retry_after=0),
        Fault("drop_before", times=2),
        Fault("drop_after", times=3),
    ],
    ids=lambda fault: f"{fault.kind}{fault.status if fault.kind == 'status' else ''}",
)
def test_a_faulty_partner_gets_everything_once(bench: Bench, fault: Fault) -> None:
    tape = tapes.Tape()
    rows = [tape.full(key % 7, f"name {key}", "x", (1, key)) for key in range(40)]
    bench.check([*rows, tape.delete(3, (2, 0)), *tape.again(rows[20:])], [5, 11, 30], faults=(fault,))


def test_a_batch_that_failed_half_way_goes_on_under_the_same_keys(bench: Bench) -> None:
    """Some were answered, some not, the worker comes again: those left leave as they were, the others not at all."""
    name = f"customers_{next(_numbers)}"
    table, owner, tape = tapes.table(name), Owner(name, "target"), tapes.Tape()
    rows = [tape.full(key, "a", "x", (1, key)) for key in range(30)]
    with bench.partner.store.held():
        bench.partner.store.log.clear()
        bench.partner.store.refuses = {}
    bench.partner.fault(Fault("drop_after", path=f"/{name}/2"))
    target = bench.target(table, single(name), retry_for_s=0.2)
    try:
        with pytest.raises(Transient):
            play(target, table, rows, [], owner)
    finally:
        target.close()
        bench.partner.fault()
    assert len(bench.partner.resources(f"/{name}/")) > 0
    target = bench.target(table, single(name))
    try:
        play(target, table, rows, [10], owner)
    finally:
        target.close()
    assert len(bench.partner.resources(f"/{name}/")) == 30
    assert bench.partner.applied_twice() == []
    assert bench.partner.under_two_keys() == []
    assert bench.rows("SELECT count(*) FROM cdc.delivery WHERE state = 'sent'") == [(0,)]


def keys(bench: Bench, name: str) -> set[int]:
    return {body["id"] for body in bench.partner.resources(f"/{name}/").values()}


def played(bench: Bench, table: TargetTable, tape: list[MappedRow], **changed: Any) -> None:
    """The tape, by a worker whose watermarks begin anew; the guard is that of all of them."""
    owner, target = Owner(table.name, "target"), bench.target(table, single(table.name), **changed)
    with closing(target):
        target.open(owner)
        mark = target.take({tapes.PARTITION: "topic-id"})[0]
        moves = [Advance(tapes.PARTITION, mark.fence, mark.next, None)]
        with target.begin(moves) as transaction:
            transaction.advance(moves)
        target.close()
        play(target, table, tape, [], owner)


def test_a_truncate_reaches_every_row_in_portions(bench: Bench) -> None:
    tape, table = tapes.Tape(), tapes.table(f"customers_{next(_numbers)}")
    rows = [tape.full(key, "a", "x", (1, key)) for key in range(60)]
    played(bench, table, [*rows, tape.truncate((5, 0)), tape.full(7, "new", "x", (6, 0))], concurrency=1)
    assert keys(bench, table.name) == {7}


def test_a_truncate_comes_before_any_row(bench: Bench) -> None:
    """The worker knows the table by name only: its rows go when the first one shows what they look like."""
    tape, table = tapes.Tape(), tapes.table(f"customers_{next(_numbers)}")
    played(bench, table, [tape.full(key, "a", "x", (1, key)) for key in range(3)])
    played(bench, msgspec.structs.replace(table, columns=(), key=()), [tape.truncate((5, 0))])
    played(bench, table, [tape.full(1, "late", "x", (4, 0)), tape.full(9, "new", "x", (6, 0))])
    assert keys(bench, table.name) == {9}


def test_a_sweep_leaves_only_when_it_is_meant(bench: Bench) -> None:
    tape, table = tapes.Tape(), tapes.table(f"customers_{next(_numbers)}")
    played(bench, table, [*(tape.full(key, "a", "x", (1, key)) for key in range(5)), tape.full(9, "met", "x", (20, 0))])
    target = bench.target(table, single(table.name))
    with closing(target):
        target.open(Owner(table.name, "target"))
        target.prepare(table)
        with suppress(ZeroDivisionError), target.begin() as rehearsed:
            report = rehearsed.sweep(table, Position(1, 20, 0), [(3,)])
            raise ZeroDivisionError
        assert (report.rows, keys(bench, table.name)) == (4, {0, 1, 2, 3, 4, 9})
        with target.begin() as transaction:
            assert transaction.sweep(table, Position(1, 20, 0), [(3,)]).rows == 4
        assert keys(bench, table.name) == {3, 9}
    played(bench, table, [tape.full(0, "older", "x", (5, 0)), tape.full(1, "newer", "x", (30, 0))])
    assert keys(bench, table.name) == {1, 3, 9}


def test_who_lost_the_fence_sends_nothing(bench: Bench) -> None:
    tape, table = tapes.Tape(), tapes.table(f"customers_{next(_numbers)}")
    owner = Owner(table.name, "target")
    zombie, successor = bench.target(table, single(table.name)), bench.target(table, single(table.name))
    with closing(zombie), closing(successor):
        zombie.open(owner)
        zombie.prepare(table)
        old = zombie.take({tapes.PARTITION: "topic-id"})[0]
        successor.open(owner)
        successor.take({tapes.PARTITION: "topic-id"})
        row = tape.full(1, "late", "x", (1, 0))
        moves = [Advance(tapes.PARTITION, old.fence, old.next, 1)]
        with pytest.raises(Fenced), zombie.begin(moves) as transaction:
            transaction.write(table, [Write(row, row.position)])
    assert keys(bench, table.name) == set()
    count = "SELECT count(*) FROM cdc.delivery WHERE pipeline = %s"
    assert bench.rows(count, owner.pipeline) == [(0,)]


def test_what_is_on_record_can_be_asked(bench: Bench) -> None:
    tape, table = tapes.Tape(), tapes.table(f"customers_{next(_numbers)}")
    with bench.partner.store.held():
        bench.partner.store.refuses = {"name": [REFUSED_TEXT]}
    rows = [tape.full(1, "a", "x", (1, 0)), tape.full(2, REFUSED_TEXT, "x", (1, 1)), tape.full(3, "c", "x", (2, 0))]
    played(bench, table, rows)
    target = bench.target(table, single(table.name))
    with closing(target):
        target.open(Owner(table.name, "target"))
        ledger = bench.state()
        ledger.open(Owner(table.name, "target"))
        with closing(ledger):
            reader = cast("LedgerReader", ledger.ledger())
            every = reader.recorded(state=None, key_hash=None, since_s=None, limit=10)
            found = sorted(every, key=lambda each: each.status or 0)
            states = [(each.operation, each.state, each.status) for each in found]
            assert states == [("upsert", "acknowledged", 201)] * 2 + [("upsert", "refused", 422)]
            refused = reader.recorded(state="refused", key_hash=found[2].key_hash[:8], since_s=600, limit=10)
            assert [each.idempotency_key for each in refused] == [found[2].idempotency_key]
            assert reader.one(found[0].idempotency_key) == found[0]
            assert (reader.one("none"), refused[0].excerpt) == (None, '{"error": "refused"}')
            assert target.purge(keep_s=0) in (0, 1)
            assert reader.recorded(state=None, key_hash=None, since_s=None, limit=10) == every
