"""The demo's reporting copy, as it ships: billing in another MariaDB database, its worker killed on the way, people at
work. Two workers' state is in the target; a report joins the copy's own tables."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from cdc.control import sources
from cdc.control.goal import wait_pipelines
from cdc.control.registration import register
from cdc.demo.load import Load
from cdc.entries import MariaDbTargetSettings
from cdc.mapping.load import load as load_mapping
from cdc.mapping.model import Pipeline
from cdc.reconcile.compare import compare
from cdc.stack import Stack
from cdc.target.mariadb_database import open_database
from tests.faults.pipeline import KILLED
from tests.stack.control_world import ControlWorld, control_world
from tests.stack.test_takeaway import start

pytestmark = pytest.mark.stack
SHIPPED = Path(__file__).parents[2] / "mappings" / "reporting.yaml"


@pytest.fixture
def world(stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ControlWorld]:
    monkeypatch.setenv("CDC_STACK_HOME", str(stack.home.path))
    with control_world(stack, tmp_path, customers=80) as made:
        with made.connect() as connect:
            assert register(sources.plan_registration(made.settings, made.maria, connect), connect).running
        yield made


def mapping(world: ControlWorld) -> Pipeline:
    """The shipped file with the names of this test's world."""
    text = SHIPPED.read_text(encoding="utf-8").replace("target: reports", f"target: reports_{world.name}")
    text = text.replace("source: billing", f"source: {world.maria.name}\nbatch: {{rows: 30}}")
    text = text.replace("from: billing.", f"from: {world.maria.database}.")
    path = world.folder / "reporting.yaml"
    path.write_text(text.replace("to: reports.", f"to: reports_{world.name}."), encoding="utf-8")
    return load_mapping(path)


def test_the_copy_equals_billing(world: ControlWorld) -> None:
    pipeline = mapping(world)
    target = world.settings.target(pipeline.target)
    assert isinstance(target, MariaDbTargetSettings)
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
    with closing(open_database(target, target.database)) as copy:
        (joined,) = copy.rows(
            "SELECT count(*) FROM accounts a JOIN invoices i ON i.account_id = a.id JOIN invoice_lines l"
            " ON l.invoice_id = i.id"
        )[0]
        assert joined > 0
