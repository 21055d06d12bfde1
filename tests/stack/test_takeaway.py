"""The demo's take-away copy, as it ships: the CRM in one SQLite file, its worker killed on the way, people at work."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from cdc.control import sources
from cdc.control.goal import wait_pipelines
from cdc.control.registration import register
from cdc.control.run import worker_specs
from cdc.db.source import PostgresSource, connect_source
from cdc.demo.load import Load
from cdc.mapping.load import load as load_mapping
from cdc.mapping.model import Pipeline
from cdc.ops.audit import audited
from cdc.reconcile.compare import compare
from cdc.stack import Stack
from cdc.target.sqlite_database import SqliteDatabase
from tests.faults.pipeline import KILLED, Worker
from tests.stack.control_world import ControlWorld, control_world

pytestmark = pytest.mark.stack
SHIPPED = Path(__file__).parents[2] / "mappings" / "takeaway.yaml"


@pytest.fixture
def world(stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ControlWorld]:
    monkeypatch.setenv("CDC_STACK_HOME", str(stack.home.path))
    with control_world(stack, tmp_path, customers=80) as made:
        with made.connect() as connect:
            assert register(sources.plan_registration(made.settings, made.pg, connect), connect).running
        yield made


def mapping(world: ControlWorld) -> Pipeline:
    """The shipped file with the names of this test's world."""
    path = world.folder / "takeaway.yaml"
    text = SHIPPED.read_text(encoding="utf-8")
    path.write_text(text.replace("source: crm", f"source: {world.pg.name}\nbatch: {{rows: 30}}"), encoding="utf-8")
    return load_mapping(path)


def start(world: ControlWorld, pipeline: Pipeline, failpoint: str = "") -> Worker:
    (spec,) = worker_specs(world.settings, [pipeline], 1, world.folder / "connections.yaml")
    told = {
        "mapping_file": str(spec.mapping_file),
        "connections_file": str(spec.connections_file),
        "placeholder": spec.placeholder,
        "session_timeout_s": 3.0,
        "environment": {"CDC_FAILPOINT": failpoint},
    }
    log = world.folder / "worker.log"
    with log.open("ab") as output:
        command = [sys.executable, "-m", "tests.faults.run_worker", json.dumps(told)]
        return Worker(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output), log)


def test_the_copy_equals_the_crm(world: ControlWorld) -> None:
    pipeline = mapping(world)
    file = world.settings.target("copy")
    assert file.kind == "sqlite"
    for failpoint in ("pre_commit:4:kill", "post_commit:3:kill", "rows_written:2:kill"):
        assert start(world, pipeline, failpoint).ends() == KILLED
    worker = start(world, pipeline)
    try:
        work = Load(world.pg, world.maria, seed=5)
        work.run(rate=100, seconds=5)
        wait_pipelines(world.settings, [pipeline], deadline_s=60)
        found = compare(world.settings, [pipeline])
    finally:
        assert worker.stop() == 0, worker.tail()
    assert found.equal, found.to_dict()
    assert found.rows > 400
    with closing(SqliteDatabase(file.path, create=False)) as copy:
        (joined,) = copy.rows(
            "SELECT count(*) FROM customers c JOIN subscriptions s ON s.customer_id = c.id JOIN contacts k"
            " ON k.customer_id = c.id"
        )[0]
        assert joined > 0
        assert copy.rows("PRAGMA integrity_check") == [("ok",)]
        shown = copy.rows("SELECT full_name, email FROM customers WHERE email IS NOT NULL")
    with closing(connect_source(world.pg)) as source:
        assert isinstance(source, PostgresSource)
        names = {name for (name,) in source.connection.execute("SELECT full_name FROM customers").fetchall()}
    assert not names & {name for name, _ in shown}
    assert {email.partition("@")[0].strip("*") for _, email in shown} == {""}


def test_another_targets_audit_trail(world: ControlWorld) -> None:
    """`control:` says where commands are written down: the hub, also for what is done to the copy."""
    done = audited(world.settings, "rewind takeaway", "drill", world_change := Change(), lambda: world_change)
    assert done.to_dict() == {"a": 1}


class Change:
    def to_dict(self) -> dict[str, int]:
        return {"a": 1}
