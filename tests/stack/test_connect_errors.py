"""What a person reads when a connector cannot work: the reason, in one line, from wherever it comes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cdc.control import sources
from cdc.control.caught_up import wait_captured
from cdc.control.connect import Connect
from cdc.control.findings import RefusedError
from cdc.control.registration import Registration, plan, read_config, register
from cdc.db import mariadb, postgres
from cdc.db.source import connect_source
from cdc.entries import SourceSettings
from cdc.errors import Terminal, Transient
from cdc.references import Secret
from cdc.stack import Stack
from tests.stack.control_world import ControlWorld, control_world, remove_connectors, until

pytestmark = pytest.mark.stack


@pytest.fixture(scope="module")
def world(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlWorld]:
    with control_world(stack, tmp_path_factory.mktemp("errors"), customers=20) as made:
        yield made


@pytest.fixture
def connect(world: ControlWorld) -> Iterator[Connect]:
    """Whatever a test registered is gone after it."""
    with world.connect() as made:
        yield made
    remove_connectors(world)


def registration(world: ControlWorld, source: SourceSettings, **settings: str) -> Registration:
    """The shipped configuration with a mistake in it that no check of ours sees (they are left out)."""
    changed = {key.replace("__", "."): value for key, value in settings.items()}
    return Registration(source.name, {**read_config(world.settings, source), **changed}, None, ())


def test_a_wrong_password(world: ControlWorld, connect: Connect) -> None:
    with pytest.raises(Terminal, match=f'password authentication failed for user "{world.pg.user}"'):
        register(registration(world, world.pg, database__password="wrong"), connect)
    with pytest.raises(Terminal, match=f"Access denied for user '{world.maria.user}'"):
        register(registration(world, world.maria, database__password="wrong"), connect)
    assert world.pg.name not in connect.names()


def test_a_secret_that_the_worker_cannot_look_up(world: ControlWorld) -> None:
    wrong = registration(world, world.pg, database__password="${file:/nowhere/secrets.properties:x}")
    with world.connect(retry_for_s=1.0) as connect, pytest.raises(Transient, match="Could not read properties"):
        register(wrong, connect)


def test_a_publication_that_does_not_exist(world: ControlWorld, connect: Connect) -> None:
    """The connector runs, its task has failed: that is a failure, with the task's reason."""
    wrong = registration(world, world.pg, publication__name="nope")
    with pytest.raises(Terminal, match=r"task 0 of .* has failed: Publication autocreation is disabled"):
        register(wrong, connect)
    status = connect.status(world.pg.name)
    assert status.connector.state == "RUNNING"
    assert status.state == "FAILED"
    (shown,) = sources.statuses(world.settings, connect, [world.pg.name])
    assert not shown.well
    assert "Publication autocreation is disabled" in shown.problem
    assert "PostgresReplicationConnection" in shown.traces["task 0"]


def test_a_restart_heals_what_was_mended(world: ControlWorld, connect: Connect) -> None:
    wrong = registration(world, world.pg, publication__name="late")
    with pytest.raises(Terminal):
        register(wrong, connect)
    with world.admin_pg() as admin:
        admin.execute("CREATE PUBLICATION late FOR TABLE customers")
    connect.restart(world.pg.name, only_failed=True)
    assert connect.wait_running(world.pg.name).running


def test_a_slot_in_use(world: ControlWorld, connect: Connect) -> None:
    """Left to itself the second connector takes a whole snapshot and then retries for ever, looking as if it ran. Ours
    is refused before."""
    planned = sources.plan_registration(world.settings, world.pg, connect)
    assert register(planned, connect).running
    other = world.pg.model_copy(update={"name": f"second_{world.name}"})
    second = sources.plan_registration(world.settings, other, connect)
    assert {each.code for each in second.findings} >= {"shared:slot.name", "slot-taken"}
    with pytest.raises(RefusedError):
        register(second, connect)
    assert other.name not in connect.names()


def test_a_task_that_retries_for_ever_says_running_and_is_found_out(world: ControlWorld, connect: Connect) -> None:
    """Debezium retries what may heal without end, and the task says RUNNING meanwhile. It heals by itself, too."""
    assert register(sources.plan_registration(world.settings, world.pg, connect), connect).running

    def problem() -> str:
        (shown,) = sources.statuses(world.settings, connect, [world.pg.name])
        assert shown.state == "RUNNING"
        return shown.problem

    with world.database(world.pg) as database:
        wait_captured(database, connect, world.pg.name, deadline_s=60)
    assert problem() == ""
    with world.admin_pg() as admin:
        admin.execute(f"ALTER ROLE {world.pg.user} NOREPLICATION")
        admin.execute(
            "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE database = %s",
            (world.pg.database,),
        )
        until(lambda: "nobody reads its slot" in problem(), "the missing reader is noticed")
        admin.execute(f"ALTER ROLE {world.pg.user} REPLICATION")
    until(lambda: problem() == "", "the connector has healed")


def test_a_table_that_does_not_exist_is_refused(world: ControlWorld, connect: Connect) -> None:
    """Kafka Connect and Debezium take it without a word."""
    config = read_config(world.settings, world.pg)
    wrong = f"{config['table.include.list']},public.customer"
    world.change(world.pg, table__include__list=wrong)
    try:
        planned = sources.plan_registration(world.settings, world.pg, connect)
    finally:
        world.change(world.pg, table__include__list=config["table.include.list"])
    assert [each.code for each in planned.findings] == ["table-missing"]
    assert connect.validate({**planned.config, "name": planned.name}) == []
    with pytest.raises(RefusedError, match=r"public\.customer"):
        register(planned, connect)


def test_settings_that_spoil_values_are_refused(world: ControlWorld, connect: Connect) -> None:
    world.change(world.pg, decimal__handling__mode="double")
    try:
        planned = plan(world.settings, world.pg, connect)
    finally:
        world.change(world.pg, decimal__handling__mode="string")
    with pytest.raises(RefusedError) as caught:
        register(planned, connect)
    assert '"decimal.handling.mode": "string",' in str(caught.value)
    assert f"{world.pg.connector}:" in str(caught.value)
    assert world.pg.name not in connect.names()


# -- databases -------------------------------------------------------------------------------------------------------


def test_databases_say_what_is_wrong(world: ControlWorld) -> None:
    wrong = {"password": Secret.of("wrong")}
    with pytest.raises(Terminal, match="password authentication failed"):
        connect_source(world.pg.model_copy(update=wrong))
    with pytest.raises(Terminal, match="Access denied"):
        connect_source(world.maria.model_copy(update=wrong))
    with pytest.raises(Terminal, match='database "nope" does not exist'):
        postgres.connect(world.pg, database="nope")
    with pytest.raises(Terminal, match=r"Unknown database|Access denied"):
        mariadb.connect(world.maria, database="nope")
    for source in (world.pg, world.maria):
        with pytest.raises(Transient) as caught:
            connect_source(source.model_copy(update={"port": 1}))
        assert "refused" in caught.value.what
        assert f":{1}/" in str(caught.value.where)
        assert caught.value.hint


def test_a_database_that_is_away_is_a_problem_of_its_source_only(world: ControlWorld, connect: Connect) -> None:
    found = sources.statuses(world.settings, connect)
    assert {each.state for each in found} == {"absent"}
    assert all("not registered" in each.problem for each in found)
