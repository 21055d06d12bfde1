"""Kafka Connect, distributed, with the Debezium connectors as plugins."""

from __future__ import annotations

import signal
from typing import Final

import httpx

from . import components
from .components import Component
from .kafka import LARGEST_MESSAGE_BYTES
from .part import HOST, NotReady, Setting, java_command, pinned, properties
from .process import Launch

_CLASSES = {
    components.PLUGIN_POSTGRES: "io.debezium.connector.postgresql.PostgresConnector",
    components.PLUGIN_MARIADB: "io.debezium.connector.mariadb.MariaDbConnector",
    components.PLUGIN_JDBC: "io.debezium.connector.jdbc.JdbcSinkConnector",
}
_PROBE_TIMEOUT_S = 3.0


def _plugins(*, jdbc_sink: bool) -> tuple[Component, ...]:
    """The connector plugins a worker offers."""
    sources = (components.PLUGIN_POSTGRES, components.PLUGIN_MARIADB)
    return (*sources, components.PLUGIN_JDBC) if jdbc_sink else sources


class Connect:
    """One worker. Its JVM starts together with Kafka's and waits for it."""

    name: Final = "connect"
    stop_signal: Final = signal.SIGTERM

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._config = setting.home.config("connect.properties")
        self._plugins = _plugins(jdbc_sink=setting.choices.jdbc_sink)
        self.port = setting.choices.ports["connect"]
        self.version = pinned("kafka") + ", Debezium " + pinned("debezium")

    @staticmethod
    def needs(*, jdbc_sink: bool) -> tuple[Component, ...]:
        return (components.KAFKA, *_plugins(jdbc_sink=jdbc_sink))

    def prepare(self) -> None:
        self._config.write_text(self.configuration())

    def launch(self) -> Launch:
        main = "org.apache.kafka.connect.cli.ConnectDistributed"
        classes = self._setting.program(components.KAFKA)
        command = java_command(self._setting, classes, "768m", main, str(self._config))
        # The environment of whoever starts the stack is what ${env:...} in a connector's configuration reads.
        return Launch(command, cwd=self._setting.home.path, inherit_environment=True)

    def configuration(self) -> str:
        return properties(
            {
                "bootstrap.servers": f"{HOST}:{self._setting.choices.ports['kafka']}",
                "group.id": "connect",
                "listeners": f"http://{HOST}:{self.port}",
                "rest.advertised.host.name": HOST,
                "rest.advertised.port": self.port,
                "plugin.path": [self._setting.program(each) for each in self._plugins],
                "plugin.discovery": "service_load",
                "key.converter": "org.apache.kafka.connect.json.JsonConverter",
                "key.converter.schemas.enable": True,
                "value.converter": "org.apache.kafka.connect.json.JsonConverter",
                "value.converter.schemas.enable": True,
                # true would write a column's DEFAULT in the place of every NULL.
                "value.converter.replace.null.with.default": False,
                "config.storage.topic": "connect-configs",
                "config.storage.replication.factor": 1,
                "offset.storage.topic": "connect-offsets",
                "offset.storage.partitions": 1,
                "offset.storage.replication.factor": 1,
                "status.storage.topic": "connect-status",
                "status.storage.partitions": 1,
                "status.storage.replication.factor": 1,
                "offset.flush.interval.ms": 1_000,
                "scheduled.rebalance.max.delay.ms": 0,
                # A killed worker holds its connectors until its session is over (default 10 s).
                "session.timeout.ms": 4_000,
                "heartbeat.interval.ms": 1_000,
                "connector.client.config.override.policy": "All",
                "producer.compression.type": "lz4",
                "producer.max.request.size": LARGEST_MESSAGE_BYTES,
                "consumer.max.partition.fetch.bytes": LARGEST_MESSAGE_BYTES,
                "config.providers": "file,env",
                "config.providers.file.class": "org.apache.kafka.common.config.provider.FileConfigProvider",
                "config.providers.env.class": "org.apache.kafka.common.config.provider.EnvVarConfigProvider",
            }
        )

    def probe(self) -> None:
        base = f"http://{HOST}:{self.port}"
        try:
            # trust_env=False: a proxy configured for the outer world must not be asked for our own worker.
            with httpx.Client(base_url=base, timeout=_PROBE_TIMEOUT_S, trust_env=False) as client:
                health = client.get("/health")
                offered = client.get("/connector-plugins")
        except httpx.HTTPError as error:
            raise NotReady(f"no answer at {base}: {error}") from error
        for answer in (health, offered):
            if answer.status_code != httpx.codes.OK:
                raise NotReady(f"{answer.url} says {answer.status_code}: {answer.text}")
        missing = {_CLASSES[each] for each in self._plugins} - {each["class"] for each in offered.json()}
        if missing:
            raise NotReady(f"{base}/connector-plugins does not list {', '.join(sorted(missing))}")
