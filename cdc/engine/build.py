"""From names in files to a running worker: settings, mapping and connections put together, in the worker's process."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import msgspec

from cdc.db.catalog import SourceIdentity
from cdc.db.source import connect_source
from cdc.engine import failpoints
from cdc.engine.merging_target import MergingTarget
from cdc.engine.targets import open_state, open_target
from cdc.engine.worker import Parts
from cdc.errors import Usage
from cdc.mapping.load import load
from cdc.mapping.model import Pipeline
from cdc.settings import KafkaSettings, RestSettings, Settings
from cdc.settings import load as load_settings
from cdc.source.consumer import ConsumerOptions, KafkaConnection, open_consumer
from cdc.target.base import Target
from cdc.target.contributions import ContributingTarget
from cdc.target.rest import RestTarget
from cdc.target.rest_requests import Requests


@dataclass(frozen=True)
class WorkerSpec:
    """What a worker process is told; plain values, so that it can be sent to it. `target`: which of the pipeline's;
    may be left out when there is one."""

    mapping_file: Path
    connections_file: Path
    placeholder: str
    target: str = ""
    log_level: str = "info"
    session_timeout_s: float = 30.0  # a worker that is silent for as long loses its partitions to the others
    environment: dict[str, str] = field(default_factory=dict)  # added to the worker's, for tests (CDC_FAILPOINT)


def parts(spec: WorkerSpec) -> Parts:
    """Everything a worker needs. Opens no connection to a database yet. Raises `Usage` for wrong files."""
    whole = load(spec.mapping_file)
    pipeline = whole.part(spec.target or whole.target)
    settings = load_settings(spec.connections_file)
    sources = {table.source_name for table in pipeline.tables}
    options = ConsumerOptions(
        session_timeout_s=spec.session_timeout_s, heartbeat_s=min(3.0, spec.session_timeout_s / 4)
    )
    failpoint = failpoints.from_environment()
    return Parts(
        pipeline=pipeline,
        consumer=open_consumer(pipeline.client, kafka_connection(settings.kafka), options),
        target=target_of(settings, pipeline, failpoint),
        control=open_target(settings.state(pipeline.target)),
        source_kinds={name: settings.source(name).kind for name in sources},
        ask_identity=lambda name: ask_identity(settings, name),
        placeholder=spec.placeholder,
        failpoint=failpoint,
    )


def target_of(settings: Settings, pipeline: Pipeline, failpoint: failpoints.Failpoint = failpoints.nothing) -> Target:
    """The target of a pipeline's part, of whatever kind; it connects when it is opened."""
    target = _plain_target(settings, pipeline, failpoint)
    _check_rules(pipeline, target)
    _check_history(pipeline, target)
    rules = {table.target_id: table.rules for table in pipeline.tables if table.contributor and table.rules}
    if not rules:
        return target
    if not target.capabilities.contributions:
        raise Usage(
            f"target '{pipeline.target}' cannot keep what several sources say about one row",
            where=f"{pipeline.file}: rules, {', '.join(sorted(rules))}",
            hint="write these tables to a target that can (see the README's table of targets)",
        )
    return MergingTarget(cast(ContributingTarget, target), rules)


def _check_rules(pipeline: Pipeline, target: Target) -> None:
    """Conflict rules for a target that decides none are an error, not silence. (`cdc mapping lint` finds them too.)"""
    ruled = [table for table in pipeline.tables if table.rules is not None and not table.rules.sources]
    if ruled and not target.capabilities.rules:
        raise Usage(
            f"target '{pipeline.target}' decides no conflicts by rules",
            where=f"{pipeline.file}: rules, {ruled[0].rules_name}",
            hint="write this table to a target that does (see the README's table of targets), or leave its rules out",
        )


def _check_history(pipeline: Pipeline, target: Target) -> None:
    """The same of histories."""
    kept = [table for table in pipeline.tables if table.history is not None]
    if kept and not target.capabilities.history:
        raise Usage(
            f"target '{pipeline.target}' keeps no histories",
            where=kept[0].finding("", "", ("history",)).where,
            hint="write this table to a target that does (see the README's table of targets), or leave 'history' out",
        )


def _plain_target(settings: Settings, pipeline: Pipeline, failpoint: failpoints.Failpoint) -> Target:
    destination = settings.destination(pipeline.target)
    if not isinstance(destination, RestSettings):
        return open_target(destination)
    requests = {
        table.id: msgspec.convert(table.rest.model_dump(), Requests)
        for table in pipeline.tables
        if table.rest is not None
    }
    return RestTarget(destination, open_state(settings.state(pipeline.target)), requests, failpoint)


def ask_identity(settings: Settings, name: str) -> SourceIdentity:
    database = connect_source(settings.source(name))
    try:
        return database.identity()
    finally:
        database.close()


def kafka_connection(kafka: KafkaSettings) -> KafkaConnection:
    """Kafka's entry in the words of the client adapters."""
    tls, sasl = kafka.tls, kafka.sasl

    def text(path: Path | None) -> str | None:
        return None if path is None else str(path)

    return KafkaConnection(
        bootstrap=kafka.bootstrap,
        security_protocol=kafka.protocol,
        sasl_mechanism=sasl.mechanism if sasl else None,
        sasl_username=sasl.user if sasl else None,
        sasl_password=sasl.password.resolve().get_secret_value() if sasl else None,
        ssl_cafile=text(tls.ca) if tls else None,
        ssl_certfile=text(tls.certificate) if tls else None,
        ssl_keyfile=text(tls.key) if tls else None,
        ssl_check_hostname=tls is None or tls.mode == "verify-full",
    )
