"""The local stack itself: it starts, says how it is, survives kill -9 with its data, and leaves others alone."""

from __future__ import annotations

import os
import random
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import psycopg
import pymysql
import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from cdc.stack import PARTS, Endpoints, PartName, Server, Stack, StackError
from cdc.stack.process import inside
from tests.fix_stack import Database, new_mariadb_database, new_postgres_database

pytestmark = pytest.mark.stack


@pytest.fixture(scope="module")
def own_of_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    stack = Stack(tmp_path_factory.mktemp("stack"))  # in pytest's folder, which no other account can enter
    try:
        yield stack
    finally:
        stack.reset(execute=True)


@pytest.fixture
def own(own_of_module: Stack) -> Stack:
    """A second stack, to be broken. What an earlier test broke is up again."""
    own_of_module.up(fast=True)
    return own_of_module


def pids(stack: Stack) -> dict[str, int | None]:
    return {each.part: each.pid for each in stack.status()}


def states(stack: Stack) -> dict[str, str]:
    return {each.part: each.state for each in stack.status()}


ALL_READY = dict.fromkeys(PARTS, "ready")


def pg(at: Endpoints, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(at.postgres_dsn(), autocommit=True) as connection:
        done = connection.execute(query)
        return done.fetchall() if done.description else []


def maria(at: Server, query: str) -> list[tuple[object, ...]]:
    login = {"host": at.host, "port": at.port, "user": at.user, "password": at.password}
    with pymysql.connect(**login, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute(query)
        return list(cursor.fetchall())


def first_message(at: Endpoints, topic: str) -> bytes:
    consumer = KafkaConsumer(bootstrap_servers=at.kafka, auto_offset_reset="earliest", consumer_timeout_ms=20_000)
    try:
        consumer.assign([TopicPartition(topic, 0)])
        return bytes(next(iter(consumer)).value)
    finally:
        consumer.close()


def test_everything_answers(stack: Stack) -> None:
    at = stack.endpoints
    assert states(stack) == ALL_READY
    offered = {each["class"] for each in httpx.get(f"{at.connect_url}/connector-plugins", trust_env=False).json()}
    assert {
        "io.debezium.connector.postgresql.PostgresConnector",
        "io.debezium.connector.mariadb.MariaDbConnector",
    } <= offered


def test_postgres_can_be_captured(stack: Stack) -> None:
    wanted = {"wal_level": "logical", "TimeZone": "UTC", "max_replication_slots": "40", "server_encoding": "UTF8"}
    told = pg(stack.endpoints, f"SELECT name, setting FROM pg_settings WHERE name IN {tuple(wanted)}")
    assert dict(told) == wanted
    at = stack.endpoints.postgres
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(host=at.host, port=at.port, user=at.user, password="wrong", dbname="postgres")


def test_mariadb_can_be_captured(stack: Stack) -> None:
    at = stack.endpoints.mariadb
    names = "log_bin", "binlog_format", "binlog_row_image", "binlog_legacy_event_pos", "time_zone", "local_infile"
    (told,) = maria(at, "SELECT " + ", ".join(f"@@{name}" for name in names))
    assert told == (1, "ROW", "FULL", 1, "+00:00", 1)
    assert maria(at, "SELECT user FROM mysql.global_priv WHERE user = ''") == []
    with pytest.raises(pymysql.OperationalError, match="denied"):
        pymysql.connect(host=at.host, port=at.port, user=at.user, password="wrong")


def test_up_again_changes_nothing(own: Stack) -> None:
    before = pids(own)
    own.up()
    assert pids(own) == before


def test_two_stacks_share_nothing(stack: Stack, own: Stack) -> None:
    ports = [each.port for either in (stack, own) for each in either.status()]
    assert len(set(ports)) == 2 * len(PARTS)
    # A MariaDB that starts removes other servers' files from its temporary folder, and their start fails.
    assert maria(own.endpoints.mariadb, "SELECT @@tmpdir") != maria(stack.endpoints.mariadb, "SELECT @@tmpdir")
    before = pids(stack)
    pg(own.endpoints, "CREATE TABLE of_own ()")
    assert pg(stack.endpoints, "SELECT to_regclass('of_own')") == [(None,)]

    assert set(own.down()) == set(PARTS)

    assert states(own) == dict.fromkeys(PARTS, "down")
    assert inside(own.home.choices().database_data / "postgres") == []
    assert pids(stack) == before
    assert states(stack) == ALL_READY
    own.up()
    assert pg(own.endpoints, "SELECT to_regclass('of_own') IS NOT NULL") == [(True,)]


def test_killed_postgres_keeps_its_data(own: Stack) -> None:
    pg(own.endpoints, "CREATE TABLE kept AS SELECT 1 AS a")
    kill_and_start_again(own, "postgres")
    assert pg(own.endpoints, "SELECT a FROM kept") == [(1,)]


def test_killed_mariadb_keeps_its_data(own: Stack) -> None:
    maria(own.endpoints.mariadb, "CREATE OR REPLACE TABLE mysql.kept AS SELECT 1 AS a")
    kill_and_start_again(own, "mariadb")
    assert maria(own.endpoints.mariadb, "SELECT a FROM mysql.kept") == [(1,)]


def test_killed_kafka_keeps_its_data(own: Stack) -> None:
    producer = KafkaProducer(bootstrap_servers=own.endpoints.kafka)
    producer.send("kept", b"1").get(timeout=20)
    producer.close()
    kill_and_start_again(own, "kafka")
    assert first_message(own.endpoints, "kept") == b"1"


def test_killed_connect_keeps_its_connectors(own: Stack) -> None:
    url = f"{own.endpoints.connect_url}/connectors/kept/config"
    config = {
        "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
        "topic.prefix": "kept",
        "database.hostname": own.endpoints.postgres.host,
        "database.port": str(own.endpoints.postgres.port),
        "database.user": own.endpoints.postgres.user,
        "database.password": f"${{file:{own.endpoints.secrets_file}:postgres.password}}",
        "database.dbname": "postgres",
    }
    httpx.put(url, json=config, timeout=30, trust_env=False).raise_for_status()
    kill_and_start_again(own, "connect")
    assert httpx.get(url, timeout=30, trust_env=False).json()["topic.prefix"] == "kept"


def kill_and_start_again(own: Stack, part: PartName) -> None:
    before = pids(own)
    own.kill(part)
    assert [name for name, state in states(own).items() if state == "died"] == [part]
    own.up()
    after = pids(own)
    assert states(own) == ALL_READY
    assert after.pop(part) != before.pop(part)
    assert after == before


def test_frozen_part_is_seen_and_thaws(own: Stack) -> None:
    own.kill("postgres", signal.SIGSTOP)
    assert states(own)["postgres"] == "frozen"
    own.kill("postgres", signal.SIGCONT)
    assert pg(own.endpoints, "SELECT 1") == [(1,)]


def test_frozen_part_is_stopped_in_order(own: Stack) -> None:
    own.kill("mariadb", signal.SIGSTOP)
    own.down(["mariadb"])
    end = "\n".join(own.log_lines("mariadb", 3))
    assert "Shutdown complete" in end


def test_taken_port_is_replaced(own: Stack) -> None:
    own.down(["postgres"])
    old = own.endpoints.postgres.port
    with socket.create_server(("127.0.0.1", old)):
        own.up(["postgres"])
    assert own.endpoints.postgres.port != old
    assert pg(own.endpoints, "SELECT 1") == [(1,)]


def test_failed_start_shows_the_log(own: Stack) -> None:
    own.down(["postgres"])
    marker = own.home.choices().database_data / "postgres" / "PG_VERSION"
    marker.write_text("9.6\n")
    try:
        with pytest.raises(StackError, match=r"ended while starting(.|\n)*incompatible with server") as caught:
            own.up(["postgres"])
        assert str(own.home.log("postgres")) == caught.value.where
    finally:
        marker.write_text("17\n")
    own.up(["postgres"])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the databases as somebody else")
def test_home_that_the_databases_cannot_enter(own: Stack) -> None:
    data = own.home.choices().database_data
    assert own.home.path not in data.parents
    assert (data / "postgres").stat().st_uid != 0


def test_cluster_id_may_begin_with_a_dash(tmp_path: Path) -> None:
    stack = Stack(tmp_path / "home")
    stack.home.make(None, random.Random(1))
    stack.home.save(stack.home.choices().model_copy(update={"cluster_id": "-" + "A" * 21}))
    try:
        stack.up(["kafka"])
        assert states(stack)["kafka"] == "ready"
    finally:
        stack.reset(execute=True)


def test_reset_rehearses_and_then_removes(tmp_path: Path) -> None:
    stack = Stack(tmp_path / "home")
    stack.up(["postgres"], fast=True)
    try:
        told = stack.reset(execute=False)
        assert states(stack)["postgres"] == "ready"
    finally:
        assert stack.reset(execute=True) == told
    assert not any(path.exists() for path in (*told, stack.home.path))


def test_each_test_has_its_own_databases(stack: Stack, database: Database, mariadb_database: Database) -> None:
    assert database.server == stack.endpoints.postgres
    with psycopg.connect(database.dsn) as connection:
        assert connection.execute("SELECT current_database()").fetchone() == (database.name,)
    with pymysql.connect(**mariadb_database.arguments) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE t (a int)")


def test_databases_of_a_test_go_with_their_slots_and_sessions(postgres: Server, mariadb: Server) -> None:
    with new_postgres_database(postgres) as made:
        session = psycopg.connect(made.dsn, autocommit=True)
        session.execute("SELECT pg_create_logical_replication_slot(current_database(), 'pgoutput')")
    with pytest.raises(psycopg.OperationalError):
        session.execute("SELECT 1")
    session.close()
    with psycopg.connect(postgres.url("postgresql", "postgres")) as admin:
        left = admin.execute("SELECT FROM pg_replication_slots WHERE slot_name = %s", [made.name]).fetchall()
        assert left == []
        assert admin.execute("SELECT FROM pg_database WHERE datname = %s", [made.name]).fetchall() == []

    with new_mariadb_database(mariadb) as other:
        pass
    assert maria(mariadb, f"SHOW DATABASES LIKE '{other.name}'") == []
