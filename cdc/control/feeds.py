"""Whether anything feeds a mapping: its source and target are known, its table is captured and exists.

`unknown_names` reads files only; `unfed` asks Kafka, and Connect and the source database where a topic is missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

from cdc.control.connect import ANSWERS_WITHIN_S, Config, Connect
from cdc.control.fitness import is_captured
from cdc.control.operate import topic_of, topics, topics_of
from cdc.control.registration import written_config
from cdc.db.source import connect_source
from cdc.engine.targets import decides, keeps_history
from cdc.errors import CdcError
from cdc.mapping.diagnostics import Diagnostic, did_you_mean
from cdc.mapping.mask_checks import key_problems
from cdc.mapping.model import Pipeline, TableMapping
from cdc.settings import Settings
from cdc.yamlfile import ValuePath


def unknown_names(settings: Settings, pipelines: Sequence[Pipeline]) -> list[Diagnostic]:
    """Sources and targets that connections.yaml does not name, and tables that a connector's file does not capture."""
    found = list(key_problems(pipelines, settings.keys, settings.name))
    path: ValuePath
    for pipeline in pipelines:
        for place, target in enumerate(pipeline.targets):
            if target not in settings.targets:
                path = ("targets", place) if pipeline.targets_ else ("target",)
                found.append(_of_pipeline(pipeline, "target", path, target, settings.targets, settings.name))
            else:
                found += _without_requests(pipeline, target) if target in settings.rest_targets else []
                found += _without_rules(settings, pipeline, target)
                found += _without_history(settings, pipeline, target)
        if pipeline.source is not None and pipeline.source not in settings.sources:
            path = ("source",)
            found.append(_of_pipeline(pipeline, "source", path, pipeline.source, settings.sources, settings.name))
        for table in pipeline.tables:
            if table.source is not None and table.source not in settings.sources:
                message = f"{settings.name} names no source '{table.source}'"
                help_ = did_you_mean(table.source, settings.sources)
                found.append(table.finding("unknown_source", message, ("source",), help=help_))
            elif table.source_name in settings.sources:
                found += _not_captured(settings, table)
    return found


def unfed(settings: Settings, pipelines: Sequence[Pipeline]) -> list[Diagnostic]:
    """Mappings whose topic does not exist and never will as things are: the running connector does not capture the
    table, or the source has no such table. A captured table without a topic yet is fine: it has had no rows.

    What cannot be asked is not found: raises `Transient` only when Kafka does not answer.
    """
    found = []
    for pipeline in pipelines:
        with topics(settings, pipeline) as consumer:
            known = consumer.partitions(topics_of(pipeline))
        for table in pipeline.tables:
            if topic_of(table) not in known:
                found += _missing(settings, table)
    return found


def _missing(settings: Settings, table: TableMapping) -> list[Diagnostic]:
    name, source = str(table.from_), table.source_name
    try:
        with Connect(settings.connect, retry_for_s=ANSWERS_WITHIN_S) as connect:
            config = connect.config(source)
        if not is_captured(name, config):
            return [_uncaptured(table, config, f"connector {source}")]
        with closing(connect_source(settings.source(source))) as database:
            tables = [each.full_name for each in database.catalog([table.from_.namespace])]
    except CdcError:
        return []
    if name in tables:
        return []
    message = f"source {source} has no table {name}"
    return [table.finding("no_such_table", message, ("from",), help=did_you_mean(name, tables))]


def _not_captured(settings: Settings, table: TableMapping) -> list[Diagnostic]:
    """By the connector's file; settings with references in them are not known here."""
    path = settings.connector_file(table.source_name)
    config = {key: value for key, value in written_config(path).items() if "${" not in value}
    return [] if is_captured(str(table.from_), config) else [_uncaptured(table, config, str(path))]


def _uncaptured(table: TableMapping, config: Config, where: str) -> Diagnostic:
    words = config.get("table.include.list", "").split(",")
    listed = [word.strip().replace("\\.", ".") for word in words if word.strip()]
    help_ = did_you_mean(str(table.from_), listed) or "add it to table.include.list and register the source again"
    return table.finding("not_captured", f"{where} does not capture {table.from_}", ("from",), help=help_)


def _without_requests(pipeline: Pipeline, target: str) -> list[Diagnostic]:
    message = f"'{target}' is a REST target: say by which requests this table's rows are written"
    advice = "rest: {upsert: {method: PUT, url: /…/{id}}, delete: {method: DELETE, url: /…/{id}}}"
    return [
        table.finding("missing-key", message, ("to",), help=advice)
        for table in pipeline.part(target).tables
        if table.rest is None
    ]


def _without_history(settings: Settings, pipeline: Pipeline, target: str) -> list[Diagnostic]:
    """Histories of tables that go to a target that keeps none."""
    if keeps_history(settings.target_kind(target)):
        return []
    message, advice = f"target '{target}' keeps no histories", "leave it out, or write the table to a target that does"
    return [
        table.finding("target-without-history", message, ("history",), help=advice, key=True)
        for table in pipeline.part(target).tables
        if table.history is not None
    ]


def _without_rules(settings: Settings, pipeline: Pipeline, target: str) -> list[Diagnostic]:
    """Rules of tables that go to a target that does not know what they ask for."""
    kind, found = settings.target_kind(target), []
    for table in pipeline.part(target).tables:
        if table.rules is None or decides(kind, sources=bool(table.rules.sources)):
            continue
        what = "keeps no contributions of several sources" if table.rules.sources else "decides no conflicts by rules"
        advice = f"leave the rules of {table.to} out, or write it to a target that does"
        found.append(table.rule_finding("target-without-rules", f"target '{target}' {what}", (), help=advice, key=True))
    return found


def _of_pipeline(
    pipeline: Pipeline, word: str, path: ValuePath, name: str, known: Sequence[str], file: str
) -> Diagnostic:
    document = pipeline.document
    assert document is not None, "pipelines of files have one"
    message, help_ = f"{file} names no {word} '{name}'", did_you_mean(name, known)
    return Diagnostic(f"unknown_{word}", message, document.file, document.span(path), help_)
