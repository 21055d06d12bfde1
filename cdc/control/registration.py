"""From connect-configs/NAME.json to a running connector.

The JSON is an ordinary Kafka Connect configuration, and nothing is added to it: what is registered is what it says,
with the places of our own filled in. References are written the same way for both sides:

    ${source:host} :port :user :database :name   this source's entry in connections.yaml
    ${kafka:bootstrap}                           its kafka entry
    ${stack:…}                                   see cdc/settings.py
    ${file:…} ${env:…} and any other             kept: Connect's worker resolves them

Ours may stand inside one of the worker's: `${file:${stack:secrets}:postgres.password}`.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from cdc.control.connect import Config, Connect, ConnectorStatus
from cdc.control.findings import Finding, RefusedError, errors
from cdc.control.required import check_connector, connector_kind
from cdc.entries import SourceSettings
from cdc.errors import Terminal, Usage
from cdc.settings import Settings

SETTLE_S = 3.0
"""A connector that must fail because of what it is told mostly does so within this time of running."""


IDENTITY = ("connector.class", "topic.prefix", "slot.name", "database.dbname", "schema.history.internal.kafka.topic")
"""Settings under which a connector keeps where it stands. Changed in a running one, it starts from nowhere: a slot or
an offset of before stays behind, and changes in between are lost or come as a new snapshot."""


class Change(NamedTuple):
    """One setting that registering would change; None where it is not there before, or not after."""

    key: str
    before: str | None
    after: str | None


@dataclass(frozen=True)
class Registered:
    """What registering did: the connector's state, after it had kept running for `SETTLE_S`."""

    name: str
    state: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Registration:
    """What registering a source would do. `before` is None when there is no such connector yet."""

    name: str
    config: Config
    before: Config | None
    findings: tuple[Finding, ...]

    @property
    def changes(self) -> tuple[Change, ...]:
        """Settings that differ, by name; `name` itself is Connect's own."""
        old, new = self.before or {}, self.config
        keys = sorted((old.keys() | new.keys()) - {"name"})
        return tuple(Change(key, old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key))

    @property
    def refused(self) -> bool:
        return bool(errors(self.findings))

    def to_dict(self) -> dict[str, Any]:
        """JSON data; secrets are references, here as in the file."""
        return {
            "source": self.name,
            "exists": self.before is not None,
            "changes": [change._asdict() for change in self.changes],
            "findings": [each.to_dict() for each in self.findings],
            "refused": self.refused,
        }


def read_config(settings: Settings, source: SourceSettings) -> Config:
    """The connector's configuration as it would be registered. `Usage` with file:line for what is no configuration."""
    path = source.connector
    text = _text(path)
    given = written_config(path)
    values = {
        "name": source.name,
        "host": source.host,
        "port": str(source.port),
        "user": source.user,
        "database": ",".join(source.databases),
    }
    providers = {
        "source": lambda key: _one_of(values, "source", key),
        "kafka": lambda key: _one_of({"bootstrap": settings.kafka.bootstrap}, "kafka", key),
    }
    config: Config = {}
    for key, value in given.items():
        try:
            config[key] = settings.references.fill_only(value, providers)
        except Usage as error:
            raise Usage(error.what, where=_place(path, text, key), hint=error.hint) from error
    kind = connector_kind(config)
    if kind is not None and kind != source.kind:
        where = _place(path, text, "connector.class")
        raise Usage(f"a connector for {kind}, but source {source.name} is {source.kind}", where=where)
    return config


def written_config(path: Path) -> Config:
    """The file's settings as they stand there, references not filled in. `Usage` for what is no configuration."""
    return _parse(_text(path), path)


def check_source(settings: Settings, source: SourceSettings) -> tuple[Config, tuple[Finding, ...]]:
    """The configuration and what is wrong with it, each finding with the line of the JSON where its setting stands."""
    config = read_config(settings, source)
    text = _text(source.connector)
    return config, tuple(
        replace(found, where=_place(source.connector, text, found.code.removeprefix("setting:")))
        for found in check_connector(config)
    )


def plan(settings: Settings, source: SourceSettings, connect: Connect) -> Registration:
    """What registering would do, as far as the JSON and the other connectors tell; `sources.plan_registration` also
    asks the database."""
    config, findings = check_source(settings, source)
    running = connect.configs()
    before = running.pop(source.name, None)
    found = [*findings, *_identity_changes(source, config, before), *_collisions(source, config, running)]
    return Registration(source.name, config, before, tuple(found))


_EXCLUSIVE = {
    "topic.prefix": ((), "their topics and offsets would be one"),
    "slot.name": (("database.hostname", "database.port"), "a slot serves one reader: the second one waits for ever"),
    "database.server.id": (("database.hostname", "database.port"), "readers of a binlog throw out others of their id"),
    "schema.history.internal.kafka.topic": ((), "each would read the other's table history as its own"),
}
"""What two connectors must not share, among those that agree in the settings named first; and why."""


def _collisions(source: SourceSettings, config: Config, others: dict[str, Config]) -> list[Finding]:
    text = _text(source.connector)
    return [
        Finding(
            f"shared:{key}",
            "error",
            _place(source.connector, text, key),
            f"{key} is {config[key]}, as in connector {name}",
            why,
            f"give {source.name} a {key} of its own",
        )
        for key, (scope, why) in _EXCLUSIVE.items()
        for name, other in others.items()
        if key in config and all(other.get(each) == config.get(each) for each in (key, *scope))
    ]


def _identity_changes(source: SourceSettings, config: Config, before: Config | None) -> list[Finding]:
    if before is None:
        return []
    why = "the connector keeps where it stands under it: changes made meanwhile would be lost or come as a new snapshot"
    text = _text(source.connector)
    return [
        Finding(
            f"identity:{key}",
            "error",
            _place(source.connector, text, key),
            f"{key} of the running connector is {before[key]}",
            why,
            f'"{key}": "{before[key]}", or register it under another name in connections.yaml',
        )
        for key in IDENTITY
        if key in before and before[key] != config.get(key)
    ]


def register(registration: Registration, connect: Connect, *, deadline_s: float = 60.0) -> ConnectorStatus:
    """Create or change the connector, or restart one that is as it should be but does not run; wait until it and its
    task run, and have kept running for `SETTLE_S`.

    Raises `RefusedError` when checks found errors (nothing is changed then), `Terminal` with the worker's reason when
    the connector does not stand. A connector that failed is left there, to be looked at.
    """
    if registration.refused:
        raise RefusedError(f"source {registration.name} is not registered", registration.findings)
    for error in connect.validate({**registration.config, "name": registration.name}):
        raise Terminal(
            f"Kafka Connect refuses {error.name}: {'; '.join(error.messages)}", where=f"source {registration.name}"
        )
    if registration.before is None or registration.changes:  # putting what is there would restart the task
        connect.put_config(registration.name, registration.config)
    elif not connect.status(registration.name).running:
        connect.restart(registration.name)
    return connect.wait_running(registration.name, deadline_s, settle_s=SETTLE_S)


def check_running(connect: Connect, name: str) -> list[Finding]:
    """What is wrong with the connector that runs now: asked when a pipeline starts, whoever registered it."""
    found = check_connector(connect.config(name), f"connector {name}")
    problem = connect.status(name).problem
    if problem is not None:
        fix = f"mend the cause, then: cdc source register {name} --execute --reason …"
        found.append(Finding("failed", "error", f"connector {name}", problem, "it captures nothing until it runs", fix))
    return found


def _one_of(values: dict[str, str], provider: str, key: str) -> str:
    try:
        return values[key]
    except KeyError:
        known = ", ".join(f"${{{provider}:{each}}}" for each in values)
        raise Usage(f"there is no ${{{provider}:{key}}}", hint=f"known here: {known}") from None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise Usage("cannot read the connector's configuration", where=str(path), hint=str(error)) from error


def _parse(text: str, path: Path) -> dict[str, str]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        seen: dict[str, Any] = {}
        for key, value in pairs:
            if key in seen:
                raise Usage(f"'{key}' is written twice", where=_place(path, text, key))
            seen[key] = value
        return seen

    try:
        found = json.loads(text, object_pairs_hook=unique)
    except ValueError as error:
        where = f"{path}:{error.lineno}:{error.colno}" if isinstance(error, json.JSONDecodeError) else str(path)
        raise Usage(f"this is no JSON: {error}", where=where) from error
    if not isinstance(found, dict):
        raise Usage("a connector's configuration is one JSON object", where=str(path))
    return {key: _plain(value, key, path, text) for key, value in found.items()}


def _plain(value: Any, key: str, path: Path, text: str) -> str:
    """Connect takes texts only; a number or true is what it looks like."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    hint = 'the file is the flat configuration, without "name" and "config"' if key == "config" else None
    raise Usage(f"{key} must be a text", where=_place(path, text, key), hint=hint)


def _place(path: Path, text: str, key: str) -> str:
    """file:line where the key stands; the file's name when it does not."""
    match = re.search(rf'"{re.escape(key)}"\s*:', text)
    return f"{path}:{text.count(chr(10), 0, match.start()) + 1}" if match else str(path)
