"""Servers of the user's own that ask for TLS and SASL: the settings of connections.yaml reach every client, and what is
wrong with them is one clear error in bounded time, without the password in it."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from kafka import KafkaProducer

from cdc.db import postgres as database
from cdc.engine.build import kafka_connection
from cdc.errors import CdcError, Terminal
from cdc.model import TopicPartition
from cdc.settings import Settings, load
from cdc.source.consumer import Client, Consumer, ConsumerOptions, open_consumer
from cdc.source.times import offsets_at, times_of
from cdc.stack import Server
from tests.stack.secured import PASSWORD, USER, Certificates, broker, certificates
from tests.waiting import eventually

pytestmark = pytest.mark.stack
TOPIC, RECORDS = "secured.public.things", 10
CLIENTS: list[Client] = ["kafka-python", "librdkafka"]
MECHANISMS = ["SCRAM-SHA-512", "PLAIN"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return certificates(tmp_path_factory.mktemp("certificates"))


@dataclass(frozen=True)
class Secured:
    """A broker's address and what it takes to be let in."""

    address: str
    made: Certificates

    def settings(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, mechanism: str = "SCRAM-SHA-512", ca: Path | None = None
    ) -> Settings:
        monkeypatch.setenv("KAFKA_PASSWORD", PASSWORD)
        path = folder / "connections.yaml"
        path.write_text(
            f"kafka:\n  bootstrap: {self.address}\n  tls: {{mode: verify-full, ca: {ca or self.made.authority}}}\n"
            f'  sasl: {{mechanism: {mechanism}, user: {USER}, password: "${{env:KAFKA_PASSWORD}}"}}\n'
        )
        return load(path)


@pytest.fixture(scope="module")
def secured(postgres: Server, made: Certificates, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """A broker with a topic of ten records. (The stack's fixture sees to it that Kafka's programs are there.)"""
    with broker(tmp_path_factory.mktemp("broker"), made) as (address, plain):
        with closing(KafkaProducer(bootstrap_servers=plain)) as producer:
            for number in range(RECORDS):
                producer.send(TOPIC, str(number).encode(), partition=0)
        yield Secured(address, made)


def opened(settings: Settings, client: Client) -> Consumer:
    return open_consumer(client, kafka_connection(settings.kafka), ConsumerOptions(request_timeout_s=5.0))


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_a_broker_that_asks_for_both(
    secured: Secured, client: Client, mechanism: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = secured.settings(tmp_path, monkeypatch, mechanism)
    place = TopicPartition(TOPIC, 0)
    with closing(opened(settings, client)) as consumer:
        assert consumer.partitions([TOPIC]) == {TOPIC: 1}
        assert consumer.ends([place]) == {place: RECORDS}
        assert consumer.retention_s([TOPIC]) == {TOPIC: 7 * 86_400.0}
        consumer.subscribe([TOPIC], f"secured.{client}.{mechanism}")
        found: list[bytes | None] = []

        def read() -> bool:
            found.extend(record.value for record in consumer.poll(100, 1 << 20, 0.2))
            for partition in consumer.changes().assigned:
                consumer.seek(partition, 0)
            return len(found) == RECORDS

        eventually(read, 30, "all records")
    assert found == [str(number).encode() for number in range(RECORDS)]
    connection = kafka_connection(settings.kafka)
    assert offsets_at(connection, [place], 0, 5.0) == {place: 0}
    assert times_of(connection, {place: 5}, 5.0).keys() == {place}


# kafka-python leaves the sockets of brokers that refuse it to the garbage collector
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("wrong", ["password", "authority"])
def test_what_is_wrong_is_said_in_time(
    secured: Secured, client: Client, wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = secured.settings(
        tmp_path, monkeypatch, ca=secured.made.stranger if wrong == "authority" else secured.made.authority
    )
    if wrong == "password":
        monkeypatch.setenv("KAFKA_PASSWORD", "something-else")
    began = time.monotonic()
    with closing(opened(settings, client)) as consumer, pytest.raises(CdcError) as raised:
        consumer.partitions([TOPIC])
    assert time.monotonic() - began < 30
    assert "something-else" not in str(raised.value)
    assert secured.address in str(raised.value)
    assert raised.value.hint is not None
    assert "kafka.sasl" in raised.value.hint
    assert "kafka.tls" in raised.value.hint
    gc.collect()


@pytest.fixture(scope="module")
def encrypted(postgres: Server, made: Certificates) -> Iterator[Server]:
    """The stack's PostgreSQL with TLS switched on, and off again at the end."""
    with psycopg.connect(postgres.url("postgresql", "postgres"), autocommit=True) as connection:
        for name, path in (("secured.crt", made.certificate), ("secured.key", made.key)):
            lines = "SELECT unnest(string_to_array(trim({}), chr(10)))"
            text = psycopg.sql.SQL(lines).format(psycopg.sql.Literal(path.read_text()))
            program = psycopg.sql.Literal(f"umask 077; cat > {name}")
            connection.execute(psycopg.sql.SQL("COPY ({}) TO PROGRAM {}").format(text, program))
        for setting, value in (("ssl_cert_file", "secured.crt"), ("ssl_key_file", "secured.key"), ("ssl", "on")):
            connection.execute(f"ALTER SYSTEM SET {setting} = '{value}'")
        connection.execute("SELECT pg_reload_conf()")
        yield postgres
        for setting in ("ssl", "ssl_key_file", "ssl_cert_file"):
            connection.execute(f"ALTER SYSTEM RESET {setting}")
        connection.execute("SELECT pg_reload_conf()")


def target(server: Server, tls: str, folder: Path, monkeypatch: pytest.MonkeyPatch, host: str = "") -> Settings:
    monkeypatch.setenv("TARGET_PASSWORD", server.password)
    path = folder / "connections.yaml"
    path.write_text(
        f"targets:\n  hub:\n    {{kind: postgresql, host: {host or server.host}, port: {server.port},"
        f' database: postgres, user: {server.user}, password: "${{env:TARGET_PASSWORD}}", tls: {tls}}}\n'
    )
    return load(path)


def test_a_database_over_tls(
    encrypted: Server, made: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = target(encrypted, f"{{mode: verify-full, ca: {made.authority}}}", tmp_path, monkeypatch)

    def over_tls() -> bool:
        """The server takes a moment to read its settings again."""
        try:
            with closing(database.connect(settings.target("hub"))) as connection:
                asked = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
                return connection.execute(asked).fetchone() == (True,)
        except CdcError:
            return False

    eventually(over_tls, 10, "a connection over TLS")


@pytest.mark.parametrize(
    ("ca", "host", "password", "said"),
    [
        ("stranger", "", "", "certificate verify failed"),
        ("authority", "localhost", "", "does not match host name"),
        ("authority", "", "something-else", "password authentication failed"),
    ],
)
def test_a_database_over_tls_with_something_wrong(
    encrypted: Server,
    made: Certificates,
    ca: str,
    host: str,
    password: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    test_a_database_over_tls(encrypted, made, tmp_path, monkeypatch)
    settings = target(encrypted, f"{{mode: verify-full, ca: {getattr(made, ca)}}}", tmp_path, monkeypatch, host)
    if password:
        monkeypatch.setenv("TARGET_PASSWORD", password)
    with pytest.raises(Terminal, match=said) as raised:
        database.connect(settings.target("hub"))
    assert raised.value.hint
    assert password not in str(raised.value) or not password
