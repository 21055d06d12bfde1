"""From names in files to a running worker: settings, mapping and connections put together, in the worker's process."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import msgspec

from cdc.db.catalog import SourceIdentity
from cdc.db.source import connect_source
from cdc.engine import failpoints
from cdc.engine.deployed import Adopted, cannot_run, newest, read
from cdc.engine.merging_target import MergingTarget
from cdc.engine.targets import open_operator, open_state, open_target
from cdc.engine.worker import Parts
from cdc.entries import KafkaSettings, RestSettings
from cdc.errors import Usage
from cdc.mapping.diagnostics import MappingError
from cdc.mapping.load import load
from cdc.mapping.mask_checks import key_problems
from cdc.mapping.model import Pipeline
from cdc.settings import Settings
from cdc.settings import load as load_settings
from cdc.source.consumer import ConsumerOptions, KafkaConnection, open_consumer
from cdc.source.positions import SourceKind
from cdc.target.base import Owner, Target
from cdc.target.contributions import ContributingTarget
from cdc.target.rest import RestTarget
from cdc.target.rest_requests import Requests
from cdc.target.versions import Deployed


@dataclass(frozen=True)
class WorkerSpec:
    """What a worker process is told; plain values, so that it can be sent to it. `target`: which of the pipeline's;
    may be left out when there is one."""

    mapping_file: Path
    connections_file: Path
    placeholder: str
    target: str = ""
    pipeline: str = ""  # its name; with it the file is only read where no version of the mappings was deployed
    log_level: str = "info"
    session_timeout_s: float = 30.0  # a worker that is silent for as long loses its partitions to the others
    environment: dict[str, str] = field(default_factory=dict)  # added to the worker's, for tests (CDC_FAILPOINT)


def parts(spec: WorkerSpec) -> Parts:
    """Everything a worker needs; asks which version is deployed. Raises `Usage` for wrong files, `Terminal` for a
    version that cannot be run, `Transient`."""
    settings = load_settings(spec.connections_file)
    deployed = _deployed(settings, spec)
    if deployed is None:
        whole = load(spec.mapping_file)
        pipeline = whole.part(spec.target or whole.target)
    else:
        pipeline = read(deployed, spec.target)
    check_keys(settings, pipeline)
    options = ConsumerOptions(
        session_timeout_s=spec.session_timeout_s, heartbeat_s=min(3.0, spec.session_timeout_s / 4)
    )
    failpoint = failpoints.from_environment()
    return Parts(
        pipeline=pipeline,
        consumer=open_consumer(pipeline.client, kafka_connection(settings.kafka), options),
        target=target_of(settings, pipeline, failpoint),
        control=open_target(settings.state(pipeline.target)),
        source_kinds=_source_kinds(settings, pipeline),
        ask_identity=lambda name: ask_identity(settings, name),
        placeholder=spec.placeholder,
        version=0 if deployed is None else deployed.number,
        adopt=lambda deployed: _adopted(settings, deployed, pipeline.target, failpoint),
        failpoint=failpoint,
        keys=settings.keys,
    )


def check_keys(settings: Settings, pipeline: Pipeline) -> None:
    """Raise `MappingError` when a mask has no key, or one that cannot be looked up: nothing runs without."""
    found = list(key_problems([pipeline], settings.keys, settings.name))
    if found:
        raise MappingError(replace(each, severity="error") for each in found)


def _deployed(settings: Settings, spec: WorkerSpec) -> Deployed | None:
    if not (spec.pipeline and spec.target):
        return None  # the worker looks when it takes partitions
    operator = open_operator(settings.state(spec.target))
    operator.open(Owner(spec.pipeline, spec.target))
    with closing(operator):
        return newest(operator)


def _adopted(settings: Settings, deployed: Deployed, target: str, failpoint: failpoints.Failpoint) -> Adopted:
    pipeline = read(deployed, target)
    check_keys(settings, pipeline)
    try:
        return Adopted(pipeline, target_of(settings, pipeline, failpoint), _source_kinds(settings, pipeline))
    except Usage as error:
        raise cannot_run(deployed, error) from error


def _source_kinds(settings: Settings, pipeline: Pipeline) -> dict[str, SourceKind]:
    return {name: settings.source(name).kind for name in {table.source_name for table in pipeline.tables}}


def target_of(settings: Settings, pipeline: Pipeline, failpoint: failpoints.Failpoint = failpoints.nothing) -> Target:
    """The target of a pipeline's part, of whatever kind; it connects when it is opened."""
    return with_rules(pipeline, _plain_target(settings, pipeline, failpoint))


def with_rules(pipeline: Pipeline, target: Target) -> Target:
    """The target, and around it what makes rows of several sources where the pipeline has such tables. Raises `Usage`
    for rules that this target does not follow."""
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
