"""What every operator command needs: a pipeline's state in its target, its topics in Kafka."""

from __future__ import annotations

import getpass
import socket
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

from cdc.engine.build import kafka_connection
from cdc.engine.targets import open_operator
from cdc.errors import Usage
from cdc.mapping.model import Pipeline, TableMapping
from cdc.model import TopicPartition
from cdc.settings import Settings
from cdc.source.consumer import Consumer, ConsumerOptions, open_consumer
from cdc.target.base import Owner
from cdc.target.operator import Operator

T = TypeVar("T")

KAFKA_ANSWERS_WITHIN_S = 5.0
"""A person waits for the answer: shorter than what a worker grants."""

FRESH_S = 10.0
"""A worker reports every 2 s; one that was silent this long is gone or hangs."""


def who() -> str:
    """Who runs this command, for the records it leaves."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


def owner_of(pipeline: Pipeline) -> Owner:
    return Owner(pipeline.name, pipeline.target)


@contextmanager
def opened(settings: Settings, pipeline: Pipeline) -> Iterator[Operator]:
    """The state of a pipeline, where its target keeps it. Raises `Transient`, `Terminal`, and `Usage` for an unknown
    target."""
    operator = open_operator(settings.state(pipeline.target))
    operator.open(owner_of(pipeline))
    try:
        yield operator
    finally:
        operator.close()


class _TakenBackError(Exception):
    """Ends a rehearsal's transaction."""


@contextmanager
def begun(transaction: AbstractContextManager[T], execute: bool) -> Iterator[T]:
    """A target's transaction, which is taken back at its end when this is only a rehearsal."""
    try:
        with transaction as open_one:
            yield open_one
            if not execute:
                raise _TakenBackError
    except _TakenBackError:
        pass


@contextmanager
def topics(settings: Settings, pipeline: Pipeline) -> Iterator[Consumer]:
    """A client that asks about topics and joins no group by itself. Asking raises `Transient` while Kafka is away."""
    options = ConsumerOptions(client_id="cdc-operator", request_timeout_s=KAFKA_ANSWERS_WITHIN_S)
    consumer = open_consumer(pipeline.client, kafka_connection(settings.kafka), options)
    try:
        yield consumer
    finally:
        consumer.close()


def topic_of(table: TableMapping) -> str:
    """Debezium names a table's topic source.namespace.table."""
    return f"{table.source_name}.{table.from_.namespace}.{table.from_.name}"


def topics_of(pipeline: Pipeline) -> dict[str, list[TableMapping]]:
    """The pipeline's topics by name, each with the mappings that read it."""
    found: dict[str, list[TableMapping]] = {}
    for table in pipeline.tables:
        found.setdefault(topic_of(table), []).append(table)
    return dict(sorted(found.items()))


def partitions_of(consumer: Consumer, names: Iterable[str]) -> list[TopicPartition]:
    """All partitions of those of the topics that exist."""
    counts = consumer.partitions(names)
    return [TopicPartition(topic, number) for topic, count in sorted(counts.items()) for number in range(count)]


def table_of(pipeline: Pipeline, name: str) -> TableMapping:
    """The mapping whose target or source table is called `name`; of a table that several sources make, the one that
    table@source names. Raises `Usage` unless there is exactly one."""
    names = {table.id.removeprefix(f"{pipeline.name}/"): table for table in pipeline.tables}
    if name in names:
        return names[name]
    found = [table for table in pipeline.tables if name in (str(table.to), str(table.from_))]
    if len(found) == 1:
        return found[0]
    known = ", ".join(names)
    what = f"{len(found)} mappings of {name}" if found else f"no table {name}"
    raise Usage(f"{what} in pipeline {pipeline.name}", where=pipeline.file, hint=f"give one of {known}")


def is_running(operator: Operator) -> bool:
    """Whether a worker reported lately: without one nothing asked for happens now."""
    return any(each.age_s <= FRESH_S and each.report.state in ("running", "waiting") for each in operator.workers())
