"""The demo's golden customer, as it ships, on the real stack: three databases say things of the same customers while
workers are killed; what comes out is what cdc/demo/golden.py works out from the databases alone."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cdc.control import sources
from cdc.control.goal import wait_pipelines
from cdc.control.load import begin_load, plan_load
from cdc.control.parked import Chosen, parked_records, retry
from cdc.control.registration import register
from cdc.control.rewind import rewind
from cdc.control.rewind_request import Request
from cdc.control.status import status
from cdc.control.sweep import sweep
from cdc.demo import golden
from cdc.demo.load import Load
from cdc.errors import Usage
from cdc.mapping.load import load as load_mapping
from cdc.mapping.model import Pipeline
from cdc.reconcile.compare import compare
from cdc.stack import Stack
from tests.faults.pipeline import KILLED, Worker
from tests.stack.control_world import ControlWorld, control_world
from tests.stack.test_takeaway import start
from tests.waiting import eventually

pytestmark = pytest.mark.stack
PARTITIONS = 12  # of three topics
SHIPPED = Path(__file__).parents[2] / "mappings" / "golden.yaml"


@dataclass
class Golden:
    """The golden customers of one world, and the workers that make them."""

    world: ControlWorld
    pipeline: Pipeline
    workers: list[Worker] = field(default_factory=list)

    def start(self, failpoint: str = "") -> Worker:
        self.workers.append(start(self.world, self.pipeline, failpoint))
        return self.workers[-1]

    def start_all(self, number: int) -> None:
        """Workers that have shared the partitions among them."""
        pids = {str(self.start().process.pid) for _ in range(number)}

        def shared() -> bool:
            (found,) = status(self.world.settings, [self.pipeline]).pipelines
            mine = [each.partitions for each in found.workers if each.worker.rpartition(":")[2] in pids]
            return len(mine) == number and all(mine) and sum(mine) == PARTITIONS

        eventually(shared, 40, f"{number} workers share {PARTITIONS} partitions")

    def stop(self) -> None:
        for worker in self.workers:
            if worker.code is None:
                assert worker.stop() == 0, worker.tail()

    def check(self) -> golden.GoldenReport:
        """Once everything committed at the sources is in the hub."""
        wait_pipelines(self.world.settings, [self.pipeline], deadline_s=100)
        return golden.check(self.world.settings, self.pipeline)

    def rows(self) -> dict[str, golden.Row]:
        return golden.read_hub(self.world.settings, self.pipeline)

    def rewind(self) -> None:
        """Everything once more, from the beginning."""
        folder = self.world.folder / "undo"
        done = rewind(self.world.settings, self.pipeline, Request("earliest"), undo_folder=folder, notice_s=60)
        assert done.executed
        assert done.noticed
        assert done.replayed > 100

    def run(self, source: str, statement: str, *places: Any) -> list[tuple[Any, ...]]:
        """In the CRM or the portal, in a transaction of its own."""
        with self.world.admin_pg(f"{source}_{self.world.name}") as admin:
            cursor = admin.execute(statement.encode(), places)
            return cursor.fetchall() if cursor.description else []

    def bill(self, statement: str) -> None:
        with self.world.admin_maria() as connection, connection.cursor() as cursor:
            cursor.execute(f"USE {self.world.maria.database}")
            cursor.execute(statement)

    def hub(self, statement: str) -> None:
        with self.world.admin_pg(self.pipeline.target) as admin:
            admin.execute(statement.encode())


@pytest.fixture(scope="module")
def world(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlWorld]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CDC_STACK_HOME", str(stack.home.path))
        with control_world(stack, tmp_path_factory.mktemp("golden"), customers=80) as made:
            with made.connect() as connect:
                for source in (made.pg, made.portal, made.maria):
                    assert register(sources.plan_registration(made.settings, source, connect), connect).running
            yield made


@pytest.fixture(scope="module")
def pipeline(world: ControlWorld) -> Pipeline:
    """The shipped file with the names of this world; its sources keep theirs in the rules."""
    text = SHIPPED.read_text(encoding="utf-8").replace(
        "target: hub\n", f"target: hub_{world.name}\nbatch: {{rows: 30}}\n"
    )
    for name in ("crm", "portal", "billing"):
        text = text.replace(f"source: {name}\n", f"source: {name}_{world.name}\n    as: {name}\n")
    path = world.folder / "golden.yaml"
    path.write_text(text.replace("from: billing.", f"from: {world.maria.database}."), encoding="utf-8")
    return load_mapping(path)


@pytest.fixture
def made(world: ControlWorld, pipeline: Pipeline) -> Iterator[Golden]:
    """Nothing runs yet; what runs at the end is stopped, and must have been well."""
    one = Golden(world, pipeline)
    try:
        yield one
        one.stop()
    finally:
        for worker in one.workers:
            worker.process.kill()


@contextmanager
def people_at_work(world: ControlWorld) -> Iterator[Load]:
    work = Load(world.pg, world.maria, world.portal, seed=7)
    runner = threading.Thread(target=lambda: work.run(rate=120))
    runner.start()
    try:
        yield work
    finally:
        work.stop()
        runner.join()


def test_snapshots_and_a_conflict_load_while_workers_are_killed(made: Golden) -> None:
    for failpoint in ("pre_commit:3:kill", "rows_written:2:kill"):
        assert made.start(failpoint).ends() == KILLED
    with people_at_work(made.world) as work:
        for failpoint in ("pre_commit:9:kill", "post_commit:5:kill"):
            killed, other = made.start(failpoint), made.start()
            assert killed.ends() == KILLED
            other.signal(signal.SIGKILL)
            assert other.ends() == KILLED
        made.start_all(2)
        done = work.reports["portal"].transactions
        eventually(lambda: done.total() > 250, 30, "the portal's customers have done enough")
    found = made.check()
    assert found.equal, found.wrong
    assert found.contested > 40
    assert parked_records(made.world.settings, [made.pipeline]) == []
    for name, report in work.reports.items():
        assert report.interrupted == 0, name
    assert work.reports["portal"].rows["profiles", "delete"] > 3
    assert work.reports["crm"].rows["customers", "delete"] > 0
    assert work.reports["billing"].rows["accounts", "delete"] > 0


def test_a_rewind_to_the_beginning_changes_nothing(made: Golden) -> None:
    made.start_all(2)
    assert made.check().equal
    before = made.rows()
    made.rewind()
    assert made.check().equal
    assert made.rows() == before


def test_the_newest_is_the_one_who_changed_it_last(made: Golden) -> None:
    made.start_all(1)
    number = shared_customer(made)
    for source, table, email in (
        ("crm", "customers", "one@crm"),
        ("portal", "profiles", "two@portal"),
        ("crm", "customers", "three@crm"),
    ):
        made.run(
            source, f"UPDATE {table} SET email = %s, updated_at = updated_at WHERE customer_no = %s", email, number
        )
        assert made.check().equal
        assert made.rows()[number]["email"] == email
    # A change of something else does not make an email newer.
    made.run("portal", "UPDATE profiles SET last_login = now() WHERE customer_no = %s", number)
    assert made.check().equal
    assert made.rows()[number]["email"] == "three@crm"


def test_a_deleted_source_row_withdraws_its_word(made: Golden) -> None:
    made.start_all(1)
    number = shared_customer(made)
    profile = made.run("portal", "DELETE FROM profiles WHERE customer_no = %s RETURNING id", number)[0][0]
    assert made.check().equal
    row = made.rows()[number]
    assert row["last_login"] is None
    assert row["name"] is not None
    made.run(
        "crm", "DELETE FROM contacts WHERE customer_id = (SELECT id FROM customers WHERE customer_no = %s)", number
    )
    made.run("crm", "DELETE FROM customers WHERE customer_no = %s", number)
    assert made.check().equal
    assert made.rows()[number]["name"] is None
    assert made.rows()[number]["accounts"] > 0
    made.bill(f"DELETE FROM accounts WHERE customer_no = '{number}'")
    assert made.check().equal
    assert number not in made.rows()
    made.run(
        "portal",
        "INSERT INTO profiles (id, customer_no, updated_at) VALUES (%s, %s, '2026-02-01Z')",
        profile,
        number,
    )
    assert made.check().equal
    assert number not in made.rows(), "a profile alone makes no customer"


def test_a_refused_word_is_parked_and_comes_in_later(made: Golden) -> None:
    made.start_all(1)
    number = shared_customer(made)
    made.hub("ALTER TABLE hub.golden_customers ADD CONSTRAINT polite CHECK (phone <> 'rude')")
    made.run("portal", "UPDATE profiles SET phone = 'rude' WHERE customer_no = %s", number)
    made.run("portal", "UPDATE profiles SET language = 'fr' WHERE customer_no = %s", number)
    made.run("crm", "UPDATE customers SET full_name = 'Somebody' WHERE customer_no = %s", number)
    wrong = {each.column for each in made.check().wrong}
    assert wrong == {"phone", "language"}, "the portal's word waits, the CRM's does not"
    parked = parked_records(made.world.settings, [made.pipeline])
    assert [(each.mapping.partition("@")[2], each.reason) for each in parked] == [
        ("portal", "check_violation"),
        ("portal", "held"),
    ]
    made.hub("ALTER TABLE hub.golden_customers DROP CONSTRAINT polite")
    done = retry(made.world.settings, [made.pipeline], Chosen("retry", tuple(parked)), deadline_s=60)
    assert done.done, done
    found = made.check()
    assert found.equal, found.wrong


def test_what_a_new_load_does_not_meet_is_swept(made: Golden) -> None:
    """A delete that nobody captured: its word stays until the table was loaded again and swept."""
    made.start_all(1)
    number = shared_customer(made)
    publication = f"cdc_portal_{made.world.name}"
    made.run("portal", f"ALTER PUBLICATION {publication} SET (publish = 'insert, update, truncate')")
    made.run("portal", "DELETE FROM profiles WHERE customer_no = %s", number)
    made.run("portal", f"ALTER PUBLICATION {publication} SET (publish = 'insert, update, delete, truncate')")
    assert {each.customer_no for each in made.check().wrong} == {number}
    planned = plan_load(made.world.settings, [made.pipeline], made.world.portal.name, "public.profiles")
    assert begin_load(made.world.settings, [made.pipeline], planned).mappings == ("golden/hub.golden_customers@portal",)
    (shown,) = status(made.world.settings, [made.pipeline]).pipelines
    assert "hub.golden_customers@portal" in str(shown)
    found = sweep(made.world.settings, made.pipeline, "hub.golden_customers@portal", execute=True, deadline_s=100)
    assert found.rows == 1
    assert number in found.examples[0]
    assert made.check().equal


def test_a_truncate_withdraws_one_source_s_words(made: Golden) -> None:
    made.start_all(2)
    before = made.rows()
    assert sum(row["last_login"] is not None for row in before.values()) > 20
    made.run("portal", "TRUNCATE profiles")
    made.run(
        "portal",
        "INSERT INTO profiles (id, customer_no, phone, updated_at) VALUES (1, 'C0000001', '+49 1', '2026-03-01Z')",
    )
    found = made.check()
    assert found.equal, found.wrong
    after = made.rows()
    assert after.keys() == before.keys()
    assert {key: row["name"] for key, row in after.items()} == {key: row["name"] for key, row in before.items()}
    assert [key for key, row in after.items() if row["last_login"] is not None] == []
    made.rewind()
    assert made.check().equal
    assert made.rows() == after


def test_comparing_leaves_it_out_and_says_so(made: Golden) -> None:
    with pytest.raises(Usage, match="several sources"):
        compare(made.world.settings, [made.pipeline])


def shared_customer(made: Golden) -> str:
    """Somebody whom all three know, and whom no test before has changed."""
    said = golden.read_sources(made.world.settings, made.pipeline)
    return max(number for number, each in said.items() if each.crm and each.portal and each.accounts)
