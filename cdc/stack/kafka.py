"""Kafka: one node that is broker and controller (KRaft)."""

from __future__ import annotations

import signal
import socket
from typing import Final

from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from . import components
from .components import Component
from .part import HOST, NotReady, Setting, java_command, pinned, properties, run_once
from .process import Launch

LARGEST_MESSAGE_BYTES = 20 * 1024 * 1024
_RETENTION_HOURS = 10 * 365 * 24  # a local stack that rests for months must not come back with its topics emptied


class Kafka:
    """The broker. Topics may be created by use; everything is replicated once."""

    name: Final = "kafka"
    stop_signal: Final = signal.SIGTERM

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._config = setting.home.config("kafka.properties")
        self._classes = setting.program(components.KAFKA)
        self.port = setting.choices.ports["kafka"]
        self.version = pinned("kafka")

    @staticmethod
    def needs(*, jdbc_sink: bool) -> tuple[Component, ...]:
        return (components.KAFKA,)

    def prepare(self) -> None:
        self._config.write_text(self.configuration())
        data = self._setting.home.kafka_data
        if (data / "meta.properties").exists():
            return
        # With "=", for an id may begin with a dash.
        format_storage = ("format", f"--cluster-id={self._setting.choices.cluster_id}", f"--config={self._config}")
        command = java_command(self._setting, self._classes, "256m", "kafka.tools.StorageTool", *format_storage)
        run_once(self._setting, self.name, Launch(command, cwd=self._setting.home.path))

    def launch(self) -> Launch:
        command = java_command(self._setting, self._classes, "512m", "kafka.Kafka", str(self._config))
        return Launch(command, cwd=self._setting.home.path)

    def configuration(self) -> str:
        controller = self._setting.choices.ports["controller"]
        return properties(
            {
                "process.roles": "broker,controller",
                "node.id": 1,
                "listeners": f"PLAINTEXT://{HOST}:{self.port},CONTROLLER://{HOST}:{controller}",
                "advertised.listeners": f"PLAINTEXT://{HOST}:{self.port}",
                "controller.listener.names": "CONTROLLER",
                "controller.quorum.voters": f"1@{HOST}:{controller}",
                "log.dirs": self._setting.home.kafka_data,
                "log.retention.hours": _RETENTION_HOURS,
                "auto.create.topics.enable": True,
                "message.max.bytes": LARGEST_MESSAGE_BYTES,
                "replica.fetch.max.bytes": LARGEST_MESSAGE_BYTES,
                # After kill -9 the controller takes the broker back only when its old session is over (default 9 s).
                "broker.session.timeout.ms": 4_000,
                "broker.heartbeat.interval.ms": 1_000,
                "group.initial.rebalance.delay.ms": 0,
                "group.min.session.timeout.ms": 1_000,  # for clients that want a dead member noticed soon
                "offsets.retention.minutes": _RETENTION_HOURS * 60,
                "offsets.topic.replication.factor": 1,
                "offsets.topic.num.partitions": 4,
                "transaction.state.log.replication.factor": 1,
                "transaction.state.log.min.isr": 1,
                "transaction.state.log.num.partitions": 4,
            }
        )

    def probe(self) -> None:
        try:
            # A plain connection first: the client would write a warning for each attempt that is refused.
            socket.create_connection((HOST, self.port), timeout=1).close()
            client = KafkaAdminClient(bootstrap_servers=f"{HOST}:{self.port}", request_timeout_ms=3_000)
        except (OSError, KafkaError) as error:
            raise NotReady(f"no answer at {HOST}:{self.port}: {error}") from error
        try:
            brokers = client.describe_cluster()["brokers"]
        except KafkaError as error:
            raise NotReady(f"no metadata from {HOST}:{self.port}: {error}") from error
        finally:
            client.close()
        if not brokers:
            raise NotReady("the controller has no live broker yet")
