"""Servers that ask for TLS and SASL: certificates of an authority of our own, and a broker that lets nobody else in."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from cdc.stack import components, tools
from cdc.stack.components import Cache, cache_root
from cdc.stack.part import HOST, properties
from cdc.stack.patience import Patience
from tests.waiting import eventually

USER, PASSWORD = "cdc", "let-me-in"
_READY_S = 60.0


@dataclass(frozen=True)
class Certificates:
    """PEM files: an authority, a server's key and certificate for the address 127.0.0.1, and a stranger's authority."""

    folder: Path

    @property
    def authority(self) -> Path:
        return self.folder / "ca.pem"

    @property
    def stranger(self) -> Path:
        return self.folder / "stranger.pem"

    @property
    def key(self) -> Path:
        return self.folder / "server.key"

    @property
    def certificate(self) -> Path:
        return self.folder / "server.pem"


def certificates(folder: Path) -> Certificates:
    """Make them, with openssl."""
    for name in ("ca", "stranger"):
        _openssl(
            folder, f"req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={name} -keyout {name}.key -out {name}.pem"
        )
    _openssl(folder, "req -newkey rsa:2048 -nodes -subj /CN=server -keyout server.key -out server.csr")
    (folder / "names").write_text(f"subjectAltName=IP:{HOST}\n")
    signed = "x509 -req -days 2 -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile names -out server.pem"
    _openssl(folder, signed)
    return Certificates(folder)


@contextmanager
def broker(folder: Path, made: Certificates) -> Iterator[tuple[str, str]]:
    """A broker for `USER`: the address that asks for TLS and SASL (SCRAM-SHA-512 or PLAIN), and a plain one for tests
    to write to."""
    classes = Cache(cache_root(), Patience()).folder(components.KAFKA)
    secure, plain, controller = _free_ports(3)
    (folder / "identity.pem").write_text(made.key.read_text() + made.certificate.read_text())
    jaas = f'required username="{USER}" password="{PASSWORD}" user_{USER}="{PASSWORD}";'
    config = folder / "secured.properties"
    config.write_text(
        properties(
            {
                "process.roles": "broker,controller",
                "node.id": 1,
                "listeners": f"SECURE://{HOST}:{secure},PLAIN://{HOST}:{plain},CONTROLLER://{HOST}:{controller}",
                "advertised.listeners": f"SECURE://{HOST}:{secure},PLAIN://{HOST}:{plain}",
                "listener.security.protocol.map": "SECURE:SASL_SSL,PLAIN:PLAINTEXT,CONTROLLER:PLAINTEXT",
                "inter.broker.listener.name": "PLAIN",
                "controller.listener.names": "CONTROLLER",
                "controller.quorum.voters": f"1@{HOST}:{controller}",
                "log.dirs": folder / "log",
                "group.initial.rebalance.delay.ms": 0,
                "offsets.topic.replication.factor": 1,
                "offsets.topic.num.partitions": 1,
                "sasl.enabled.mechanisms": "SCRAM-SHA-512,PLAIN",
                "listener.name.secure.scram-sha-512.sasl.jaas.config": (
                    "org.apache.kafka.common.security.scram.ScramLoginModule required;"
                ),
                "listener.name.secure.plain.sasl.jaas.config": (
                    f"org.apache.kafka.common.security.plain.PlainLoginModule {jaas}"
                ),
                "ssl.keystore.type": "PEM",
                "ssl.keystore.location": folder / "identity.pem",
                "ssl.truststore.type": "PEM",
                "ssl.truststore.location": made.authority,
            }
        )
    )
    java = [str(tools.java()), "-Xmx256m", "-XX:+UseSerialGC", "-cp", f"{classes}/*"]
    account = f"SCRAM-SHA-512=[name={USER},password={PASSWORD}]"
    storage = ["format", "--cluster-id=secured", f"--config={config}", f"--add-scram={account}"]
    subprocess.run([*java, "kafka.tools.StorageTool", *storage], check=True, capture_output=True)
    with (folder / "log.txt").open("wb") as log:
        running = subprocess.Popen([*java, "kafka.Kafka", str(config)], stdout=log, stderr=subprocess.STDOUT)
    try:
        eventually(lambda: _answers(f"{HOST}:{plain}", plain), _READY_S, "the secured broker")
        yield f"{HOST}:{secure}", f"{HOST}:{plain}"
    finally:
        running.kill()
        running.wait()


def _answers(address: str, port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=1).close()
        client = KafkaAdminClient(bootstrap_servers=address, request_timeout_ms=3_000)
    except (OSError, KafkaError):
        return False
    try:
        return bool(client.describe_cluster()["brokers"])
    except KafkaError:
        return False
    finally:
        client.close()


def _free_ports(number: int) -> list[int]:
    taken = [socket.create_server((HOST, 0)) for _ in range(number)]
    ports = [each.getsockname()[1] for each in taken]
    for each in taken:
        each.close()
    return ports


def _openssl(folder: Path, arguments: str) -> None:
    subprocess.run(["openssl", *arguments.split()], cwd=folder, check=True, capture_output=True)
