"""What `cdc run` does before it starts workers: find the pipelines, look at the connectors that feed them."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import structlog

from cdc.control.connect import Connect
from cdc.control.feeds import unfed
from cdc.control.findings import RefusedError, errors
from cdc.control.registration import read_config
from cdc.control.required import check_connector, placeholder_of
from cdc.control.sweep import sweep_due
from cdc.engine.build import WorkerSpec, check_keys
from cdc.engine.deployed import file_of
from cdc.engine.targets import capabilities_of
from cdc.errors import CdcError, Terminal, Transient, Usage
from cdc.mapping.diagnostics import MappingError
from cdc.mapping.load import load_all
from cdc.mapping.model import Pipeline
from cdc.settings import Settings

_log = structlog.get_logger(__name__)


def find_pipelines(folder: Path, names: Sequence[str], target: str | None = None) -> list[Pipeline]:
    """The pipelines of a folder, or the named ones; one with several targets is found once for each of them, or as
    NAME:TARGET only for one. `target`: only what goes there. Raises `Usage` (or `MappingError`) for what is wrong or
    unknown."""
    pipelines = load_all(folder)
    if not pipelines:
        raise Usage("no pipelines", where=str(folder), hint="write mappings/NAME.yaml, or give --mappings FOLDER")
    parts = [pipeline.part(each) for pipeline in pipelines for each in pipeline.targets]
    known = {name for part in parts for name in (part.name, part.label)}
    unknown = [name for name in names if name not in known]
    if unknown:
        there = ", ".join(pipeline.name for pipeline in pipelines)
        raise Usage(f"no pipeline {', '.join(unknown)}", where=str(folder), hint=f"there are {there}")
    wanted = [part for name in names for part in parts if name in (part.name, part.label)] if names else parts
    found = [part for part in wanted if target in (None, part.target)]
    if not found:
        there = ", ".join(sorted({part.target for part in wanted}))
        raise Usage(f"nothing goes to a target {target}", where=str(folder), hint=f"there are {there}")
    return found


def one_pipeline(folder: Path, name: str) -> Pipeline:
    """The one that a command is about: raises `Usage` when it has several targets and none is named."""
    found = find_pipelines(folder, [name])
    if len(found) > 1:
        known = ", ".join(each.label for each in found)
        raise Usage(f"pipeline {name} has several targets", where=found[0].file, hint=f"say which: {known}")
    return found[0]


def worker_specs(
    settings: Settings,
    pipelines: Sequence[Pipeline],
    workers: int,
    connections_file: Path,
    log_level: str = "info",
    environment: dict[str, str] | None = None,
) -> list[WorkerSpec]:
    """One spec a worker. Raises `RefusedError` when a running connector's settings would spoil values, `MappingError`
    when a masking key is missing."""
    specs = []
    for pipeline in pipelines:
        check_keys(settings, pipeline)
        placeholder = pipeline_placeholder(settings, pipeline)
        target = settings.destination(pipeline.target)
        if workers > 1 and capabilities_of(target).one_writer:
            _log.info(
                "workers share the reading; they write one at a time", pipeline=pipeline.label, target=target.where
            )
        spec = WorkerSpec(
            file_of(pipeline),
            connections_file,
            placeholder,
            pipeline.target,
            pipeline.name,
            log_level=log_level,
            environment=environment or {},
        )
        specs += [spec] * workers
    return specs


def check_fed(settings: Settings, pipelines: Sequence[Pipeline], *, refuse: bool) -> None:
    """Say which mappings nothing will ever feed. With `refuse` raises `MappingError`: they are never caught up."""
    try:
        found = unfed(settings, pipelines)
    except Transient as error:
        _log.warning("it could not be seen whether all tables are captured", error=error.what)
        return
    if found and refuse:
        raise MappingError(found)
    for each in found:
        _log.warning("nothing feeds this mapping", problem=each.message, where=each.where, help=each.help)


def keep_swept(settings: Settings, pipelines: Sequence[Pipeline], every_s: float = 5.0) -> None:
    """Settle repeated snapshots of pipelines with `snapshot.repeat: sweep`, in the background, as long as we live."""
    due = [pipeline for pipeline in pipelines if pipeline.snapshot.repeat == "sweep"]
    never = threading.Event()

    def work() -> None:
        while not never.wait(every_s):
            for pipeline in due:
                try:
                    sweep_due(settings, pipeline)
                except CdcError as error:
                    _log.error("not swept", pipeline=pipeline.label, error=error.what, hint=error.hint)

    if due:
        threading.Thread(target=work, name="sweeper", daemon=True).start()


def pipeline_placeholder(settings: Settings, pipeline: Pipeline) -> str:
    """The placeholder of the pipeline's connectors, which must agree on it."""
    found = {name: placeholder_of(_config(settings, name)) for name in {t.source_name for t in pipeline.tables}}
    if len(set(found.values())) > 1:
        raise Terminal(
            f"the sources {', '.join(sorted(found))} use different placeholders for unavailable values",
            where=f"pipeline {pipeline.label}",
            hint="give their connectors the same unavailable.value.placeholder",
        )
    return next(iter(found.values()))


def _config(settings: Settings, source: str) -> dict[str, str]:
    """The connector as it runs; as its file says while Connect does not answer (the topics may hold all we need)."""
    try:
        with Connect(settings.connect) as connect:
            config = dict(connect.config(source))
    except (Transient, Terminal) as error:
        _log.warning("the running connector could not be looked at", source=source, error=error.what)
        return dict(read_config(settings, settings.source(source)))
    findings = check_connector(config, f"connector {source}")
    if errors(findings):
        raise RefusedError(f"the running connector {source} would spoil values", findings, where=f"connector {source}")
    return config
