"""Registration, all settings together, checks of real databases, and being caught up, on the real stack."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cdc.control import sources
from cdc.control.caught_up import wait_captured, wait_caught_up
from cdc.control.connect import Connect
from cdc.control.findings import RefusedError
from cdc.control.fitness import check_database
from cdc.control.registration import check_running, read_config, register
from cdc.db import mariadb
from cdc.demo.load import Load, Report
from cdc.entries import SourceSettings
from cdc.errors import Terminal, Transient
from cdc.model import TopicPartition
from cdc.stack import Stack
from tests.stack.control_world import ControlWorld, control_world, until

pytestmark = pytest.mark.stack


@pytest.fixture(scope="module")
def world(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlWorld]:
    """All sources registered through the same path as `cdc source register --execute`, and their snapshots done."""
    with control_world(stack, tmp_path_factory.mktemp("control"), customers=60) as made:
        with made.connect() as connect:
            for source in (made.pg, made.maria, made.portal):
                planned = sources.plan_registration(made.settings, source, connect)
                assert planned.findings == ()
                assert register(planned, connect).running
                captured(made, source, connect)
        yield made


@pytest.fixture
def connect(world: ControlWorld) -> Iterator[Connect]:
    with world.connect() as made:
        yield made


def captured(world: ControlWorld, source: SourceSettings, connect: Connect) -> None:
    with world.database(source) as database:
        wait_captured(database, connect, source.name, deadline_s=60)


def test_what_runs_is_what_the_file_says(world: ControlWorld, connect: Connect) -> None:
    for source in (world.pg, world.maria):
        assert check_running(connect, source.name) == []
        assert sources.check(world.settings, source, connect) == []
        assert sources.plan_registration(world.settings, source, connect).changes == ()


def test_all_of_the_load_is_captured(world: ControlWorld, connect: Connect) -> None:
    """What the load says it did is what the topics hold, operation by operation: all settings together, both kinds."""
    load = Load(world.pg, world.maria, seed=5)
    reports = load.run(transactions=250)
    for source, report in ((world.pg, reports["crm"]), (world.maria, reports["billing"])):
        captured(world, source, connect)
        records = world.records(source.name)
        records.pop("debezium_signal", None)
        records.pop("message", None)
        assert streamed(records) == expected(report)
    text = str(world.records(world.pg.name))
    assert "rolled back" not in text
    assert "__cdc_unavailable_" in text


def streamed(records: dict[str, list[dict[str, Any]]]) -> dict[str, Counter[str]]:
    found = {table: Counter(str(r["op"]) for r in payloads if r["op"] != "r") for table, payloads in records.items()}
    return {table: counts for table, counts in found.items() if counts}


def expected(report: Report) -> dict[str, Counter[str]]:
    """A key change arrives as a delete and a create."""
    words = {"insert": "c", "update": "u", "delete": "d", "key change": "cd"}
    found: dict[str, Counter[str]] = {}
    for (table, operation), rows in report.rows.items():
        for op in words[operation]:
            found.setdefault(table, Counter())[op] += rows
    return {table: +counts for table, counts in found.items() if +counts}


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
def test_an_idle_source_is_caught_up_within_seconds(world: ControlWorld, connect: Connect, kind: str) -> None:
    """Nothing is written: the mark alone carries the connector's offset past the position. A binlog connector's own
    heartbeats would take the better part of a minute."""
    source = world.pg if kind == "postgresql" else world.maria
    for _ in range(2):
        with world.database(source) as database:
            wait_captured(database, connect, source.name, deadline_s=20)


def test_caught_up_waits_for_the_watermarks(world: ControlWorld, connect: Connect) -> None:
    at: dict[TopicPartition, int] = {}

    def ends() -> dict[TopicPartition, int]:
        return {TopicPartition(*part): end for part, end in world.ends(world.pg.name).items()}

    def watermarks() -> dict[TopicPartition, int]:
        at.update(ends())
        return at

    with world.database(world.pg) as database:
        done = wait_caught_up(database, connect, world.pg.name, ends=ends, watermarks=watermarks, deadline_s=20)
        assert sum(done.ends.values()) > 0
        with pytest.raises(Transient, match="the pipeline is behind"):
            wait_caught_up(database, connect, world.pg.name, ends=ends, watermarks=dict, deadline_s=5)


def test_a_stopped_connector_is_said_at_once(world: ControlWorld, connect: Connect) -> None:
    connect.stop(world.pg.name)
    connect.wait_stopped(world.pg.name)
    with world.database(world.pg) as database, pytest.raises(Terminal, match="STOPPED"):
        wait_captured(database, connect, world.pg.name, deadline_s=60)
    connect.resume(world.pg.name)
    connect.wait_running(world.pg.name)


def test_pause_and_resume(world: ControlWorld, connect: Connect) -> None:
    name = world.maria.name
    connect.pause(name)
    connect.wait_state(name, lambda status: status.state == "PAUSED", "paused", 30)
    connect.resume(name)
    assert connect.wait_running(name).running
    connect.restart_task(name, 0)
    assert connect.wait_running(name).running


def test_a_binlog_source_rewinds_and_refuses_offsets_that_it_does_not_have(
    world: ControlWorld, connect: Connect
) -> None:
    name = world.maria.name
    with world.admin_maria() as admin, admin.cursor() as cursor:
        before = connect.offsets(name)
        cursor.execute(f"UPDATE {world.maria.database}.accounts SET balance = balance + 1 WHERE id = 1")
    captured(world, world.maria, connect)
    count = len(world.records(name)["accounts"])
    connect.stop(name)
    connect.wait_stopped(name)
    connect.patch_offsets(name, before)
    connect.resume(name)
    connect.wait_running(name)
    captured(world, world.maria, connect)
    assert len(world.records(name)["accounts"]) > count


def test_status_tells_state_and_distance(world: ControlWorld, connect: Connect) -> None:
    captured(world, world.maria, connect)
    for status in sources.statuses(world.settings, connect):
        assert status.well, status.problem
        assert status.state == "RUNNING"
        assert status.behind_bytes is not None
        assert status.position


def test_a_source_that_is_not_registered(world: ControlWorld, connect: Connect) -> None:
    other = world.pg.model_copy(update={"name": "nobody"})
    planned = sources.plan_registration(world.settings, other, connect)
    codes = {each.code for each in planned.findings}
    assert codes == {"shared:topic.prefix", "shared:slot.name", "slot-taken"}
    with pytest.raises(RefusedError, match=r"slot\.name"):
        register(planned, connect)
    assert "nobody" not in connect.names()


def test_a_running_connector_keeps_its_identity(world: ControlWorld, connect: Connect) -> None:
    prefix = read_config(world.settings, world.pg)["topic.prefix"]
    world.change(world.pg, topic__prefix="another")
    try:
        planned = sources.plan_registration(world.settings, world.pg, connect)
    finally:
        world.change(world.pg, topic__prefix=prefix)
    (found,) = planned.findings
    assert found.code == "identity:topic.prefix"
    assert prefix in found.fix


# -- fitness ---------------------------------------------------------------------------------------------------------


def test_types_that_need_full_identity_come_with_the_statement(world: ControlWorld) -> None:
    config = read_config(world.settings, world.pg) | {"table.include.list": "public.odd", "publication.name": "odd"}
    with world.admin_pg() as admin, world.database(world.pg) as database:
        admin.execute("CREATE TABLE odd (id int PRIMARY KEY, small smallint[], tags text[], bits varbit)")
        try:
            found = {each.code: each for each in check_database(database, config, captured_now=True)}
            assert set(found) == {"replica-identity", "type", "publication-missing"}
            assert "small smallint[]" in found["replica-identity"].what
            assert "tags" not in found["replica-identity"].what
            assert found["type"].severity == "warning"
            admin.execute(found["replica-identity"].fix)
            admin.execute(found["publication-missing"].fix)
            assert [each.code for each in check_database(database, config, captured_now=True)] == ["type"]
        finally:
            admin.execute("DROP PUBLICATION IF EXISTS odd")
            admin.execute("DROP TABLE odd")


def test_tables_that_are_missing_or_have_no_key(world: ControlWorld) -> None:
    config = read_config(world.settings, world.pg) | {"table.include.list": "public.keyless,public.gone"}
    with world.admin_pg() as admin, world.database(world.pg) as database:
        admin.execute("CREATE TABLE keyless (a int)")
        try:
            found = {each.code: each for each in check_database(database, config, captured_now=True)}
        finally:
            admin.execute("DROP TABLE keyless")
    assert set(found) == {"table-missing", "no-key", "publication-tables"}
    assert "public.gone" in found["table-missing"].what
    assert '"public"."keyless"' in found["no-key"].fix
    assert found["publication-tables"].fix.endswith('ADD TABLE "public"."keyless";')


def test_a_role_without_replication(world: ControlWorld) -> None:
    config = read_config(world.settings, world.pg)
    with world.admin_pg() as admin, world.database(world.pg) as database:
        admin.execute(f"ALTER ROLE {world.pg.user} NOREPLICATION")
        try:
            (found,) = check_database(database, config, captured_now=True)
            assert found.code == "replication"
        finally:
            admin.execute(found.fix)
        assert check_database(database, config, captured_now=True) == []


def test_a_mariadb_without_legacy_positions(world: ControlWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's variable is the whole server's, so it is not changed here."""
    real = mariadb.variables
    monkeypatch.setattr(mariadb, "variables", lambda *args: real(*args) | {"binlog_legacy_event_pos": "OFF"})
    with world.database(world.maria) as database:
        (found,) = check_database(database, read_config(world.settings, world.maria), captured_now=True)
    assert found.fix == "SET GLOBAL binlog_legacy_event_pos = ON;"


# -- databases -------------------------------------------------------------------------------------------------------


def test_identity(world: ControlWorld) -> None:
    for source in (world.pg, world.maria):
        with world.database(source) as first, world.database(source) as second:
            one, two = first.identity(), second.identity()
        assert (one.identity, one.timeline) == (two.identity, two.timeline)
        assert one.identity.startswith(source.kind)
        assert two.position >= one.position


def test_positions_are_those_of_the_changes(world: ControlWorld, connect: Connect) -> None:
    """A change that is committed now carries a position between the ones read before and after it."""
    with world.database(world.pg) as database, world.admin_pg() as admin:
        before = database.current_position()
        admin.execute("UPDATE customers SET segment = 'between' WHERE id = 1")
        after = database.current_position()
    captured(world, world.pg, connect)
    (found,) = [r for r in world.records(world.pg.name)["customers"] if _after(r).get("segment") == "between"]
    assert before.minor <= found["source"]["lsn"] < after.minor
    with world.database(world.maria) as ledger, world.admin_maria() as connection, connection.cursor() as cursor:
        low = ledger.current_position()
        cursor.execute(f"UPDATE {world.maria.database}.accounts SET currency = 'CHF' WHERE id = 2")
        high = ledger.current_position()
    captured(world, world.maria, connect)
    (change,) = [r for r in world.records(world.maria.name)["accounts"] if _after(r).get("currency") == "CHF"]
    block = change["source"]
    assert low <= (mariadb.file_number(block["file"]), block["pos"]) < high


def _after(record: dict[str, Any]) -> dict[str, Any]:
    return record["after"] or {}


def test_the_catalog(world: ControlWorld) -> None:
    with world.database(world.pg) as database:
        tables = {table.name: table for table in database.catalog(["public"])}
        assert tables["subscriptions"].key == ("customer_id", "line_no")
        assert tables["tickets"].replica_identity == "default"
        columns = {column.name: column for column in tables["tickets"].columns}
        assert (columns["tags"].native, columns["tags"].declared, columns["tags"].large) == ("_text", "text[]", True)
        assert (columns["priority"].native, columns["priority"].nullable) == ("int2", False)
        number = tables["customers"].column("customer_no")
        assert number is not None
        assert number.comment.startswith("the number")
        assert [t.name for t in database.catalog(["public"], ["tickets"])] == ["tickets"]
    with world.database(world.maria) as ledger:
        tables = {table.name: table for table in ledger.catalog([world.maria.database])}
        assert tables["invoice_lines"].key == ("invoice_id", "line_no")
        columns = {column.name: column for column in tables["accounts"].columns}
        assert columns["id"].native == "bigint unsigned"
        assert columns["status"].declared == "enum('active','suspended','closed')"
        assert columns["balance"].declared == "decimal(14,2)"


def test_the_load_survives_lost_connections(world: ControlWorld) -> None:
    load = Load(world.pg, world.maria, seed=9)
    done = load.reports["crm"].transactions
    runner = threading.Thread(target=load.run)
    runner.start()
    try:
        until(lambda: done.total() > 20, "the load runs")
        with world.admin_pg() as admin:
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'cdc demo load' AND datname = current_database()"
            )
        until(lambda: load.reports["crm"].interrupted > 0, "the load notices")
        before = done.total()
        until(lambda: done.total() > before + 20, "the load goes on")
    finally:
        load.stop()
        runner.join()


def test_the_demo_writes_only_to_its_own_databases(world: ControlWorld) -> None:
    with world.admin_pg() as admin:
        admin.execute(f"COMMENT ON DATABASE {world.pg.database} IS 'the real one'")
        try:
            with pytest.raises(Exception, match="not of the demo's making"):
                Load(world.pg, None).run(transactions=1)
        finally:
            admin.execute(f"COMMENT ON DATABASE {world.pg.database} IS 'cdc demo'")


def test_the_stack_s_references_are_the_stack_s(world: ControlWorld, stack: Stack, tmp_path: Path) -> None:
    at = stack.endpoints
    assert world.settings.kafka.bootstrap == at.kafka
    assert world.settings.connect.url == at.connect_url
    fill = world.settings.references.fill
    assert fill("${stack:secrets}") == str(at.secrets_file)
    for name, server in (("postgres", at.postgres), ("mariadb", at.mariadb)):
        parts = [fill(f"${{stack:{name}.{part}}}") for part in ("host", "port", "user", "password")]
        assert parts == [server.host, str(server.port), server.user, server.password]
