"""Connections: what connect-configs/connections.yaml says about Kafka, Kafka Connect, sources, targets.

Values may hold references, which are looked up when the file is read:

    ${env:NAME}  ${env:NAME:-value}   an environment variable, and what to take when it is not set
    ${file:/path:key}                 a line `key=value` of a properties file; a path is relative to connections.yaml
    ${stack:postgres.port}            the stack of `cdc stack`, at $CDC_STACK_HOME (default .stack); see cdc.references

Secrets must be references. They are looked up as late as they are used, and everything that shows settings (repr,
errors, -o json) shows the reference. An entry whose references can't be looked up is an error only when it is used: who
tests a mapping needs no password. Everything that is wrong in the file itself is an error at once, a `Usage` with
file:line:column.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from cdc import yamlfile
from cdc.entries import (
    TARGET_KINDS,
    ConnectSettings,
    ControlSettings,
    Entry,
    KafkaSettings,
    MaskingKey,
    RestSettings,
    SourceKind,
    SourceSettings,
    SqliteTargetSettings,
    TargetSettings,
)
from cdc.errors import Usage
from cdc.keys import Keyring, KeySet
from cdc.references import REFERENCE, References, Secret
from cdc.yamlfile import Document, ValuePath

DEFAULT_PATH = Path("connect-configs/connections.yaml")
_SECRET_KEYS = frozenset({"password", "client_secret", "api_key"})


_M = TypeVar("_M", bound=Entry)
_SECTIONS = ("kafka", "connect", "sources", "targets", "masking", "control")


class Settings:
    """connections.yaml, read and checked. Entries are handed out by name; unknown names are `Usage`."""

    def __init__(self, document: Document, references: References) -> None:
        self.references = references
        self._document = document
        self._folder = Path(document.name).parent
        self._late: dict[ValuePath, Usage] = {}
        sections = self._mapping(())
        for word in sections:
            if word not in _SECTIONS:
                hint = f"known here: {', '.join(_SECTIONS)}"
                raise self._wrong(f"unknown section '{word}'", (word,), hint, key=True)
        self._kafka = self._entry(KafkaSettings, ("kafka",)) if "kafka" in sections else None
        self._connect = self._entry(ConnectSettings, ("connect",)) if "connect" in sections else None
        self._sources = {name: self._source(name) for name in self._mapping(("sources",))}
        self._targets: dict[str, TargetSettings | RestSettings | None] = {
            name: self._target(name) for name in self._mapping(("targets",))
        }
        self._masking = {name: self._masking_key(name) for name in self._mapping(("masking",))}
        self._control = self._entry(ControlSettings, ("control",)) if "control" in sections else None

    @property
    def name(self) -> str:
        """The file's name as it was given."""
        return self._document.name

    @property
    def sources(self) -> tuple[str, ...]:
        return tuple(self._sources)

    @property
    def targets(self) -> tuple[str, ...]:
        return tuple(self._targets)

    def target_kind(self, name: str) -> str:
        """The kind that the file says, also where other parts of the entry cannot be read now."""
        return str(self._mapping(("targets", name)).get("kind"))

    def source_kind(self, name: str) -> SourceKind:
        """The same of a source; postgresql where the file does not know it."""
        known = name in self._sources and self._mapping(("sources", name)).get("kind") == "mariadb"
        return "mariadb" if known else "postgresql"

    @property
    def rest_targets(self) -> tuple[str, ...]:
        """Those of the targets that are REST APIs."""
        return tuple(name for name in self.targets if self.target_kind(name) == "rest")

    @property
    def kafka(self) -> KafkaSettings:
        return self._found(self._kafka, ("kafka",), ())

    @property
    def connect(self) -> ConnectSettings:
        return self._found(self._connect, ("connect",), ())

    def connector_file(self, source: str) -> Path:
        """Where a source's connector JSON is; asks for no reference. `Usage` for an unknown source."""
        if source not in self._sources:
            self.source(source)
        return self._folder / str(self._mapping(("sources", source)).get("connector", f"{source}.json"))

    def source(self, name: str) -> SourceSettings:
        return self._found(self._sources.get(name), ("sources", name), self.sources)

    def destination(self, name: str) -> TargetSettings | RestSettings:
        """Whatever kind of target has the name."""
        found = self._targets.get(name)
        if found is None:
            raise self._missing(("targets", name), self.targets)
        return found

    def target(self, name: str) -> TargetSettings:
        """The database of that name. `Usage` when it is no database."""
        found = self.destination(name)
        if isinstance(found, RestSettings):
            raise self._wrong(f"the target {name} is no database that could be read", ("targets", name), key=True)
        return found

    def state(self, name: str) -> TargetSettings:
        """The database that keeps what the engine knows of a target: itself, or of a REST target its `state`."""
        found = self.destination(name)
        if not isinstance(found, RestSettings):
            return found
        return self.control if found.state is None else self.target(found.state)

    @property
    def keys(self) -> Keyring:
        """The keys of masked values and sealed records."""
        sets = {name: KeySet(each.current, each.versions) for name, each in self._masking.items()}
        return Keyring(sets, self._document.name)

    @property
    def control(self) -> TargetSettings:
        """The database that keeps what belongs to no single target: `control: {target: NAME}`, or the only target."""
        if self._control is not None:
            return self.target(self._control.target)
        databases = [name for name in self.targets if name not in self.rest_targets]
        if len(databases) != 1:
            names = ", ".join(databases) or "none"
            raise self._wrong(
                f"which target keeps the control tables? There is not exactly one ({names})", (), "control: {target: …}"
            )
        return self.target(databases[0])

    def describe(self) -> dict[str, Any]:
        """All that could be read as plain JSON data. Secrets show as their references."""

        def plain(model: Entry | None) -> Any:
            return None if model is None else model.model_dump(mode="json", exclude_none=True)

        return {
            "kafka": plain(self._kafka),
            "connect": plain(self._connect),
            "sources": {name: plain(each) for name, each in self._sources.items()},
            "targets": {name: plain(each) for name, each in self._targets.items()},
            "masking": {name: plain(each) for name, each in self._masking.items()},
        }

    def _masking_key(self, name: str) -> MaskingKey:
        path: ValuePath = ("masking", name)
        found = self._found(self._entry(MaskingKey, path), path, ())
        if found.current not in found.versions:
            hint = f"one of {', '.join(found.versions)}"
            raise self._wrong(f"there is no version '{found.current}'", (*path, "current"), hint)
        return found

    def _source(self, name: str) -> SourceSettings | None:
        raw = self._mapping(("sources", name))
        connector = self._folder / raw.get("connector", f"{name}.json")
        found = self._entry(SourceSettings, ("sources", name), name=name, connector=connector)
        if found is not None and found.kind == "postgresql" and len(found.databases) != 1:
            path = ("sources", name, "database")
            raise self._wrong("a PostgreSQL connector captures one database", path, "make one source for each")
        return found

    def _target(self, name: str) -> TargetSettings | RestSettings | None:
        path = ("targets", name)
        kind = self._mapping(path).get("kind")
        if kind is not None and (not isinstance(kind, str) or kind not in TARGET_KINDS):
            raise self._wrong(
                f"there is no target of kind {kind!r}", (*path, "kind"), f"one of {', '.join(TARGET_KINDS)}"
            )
        found: TargetSettings | RestSettings | None = self._entry(TARGET_KINDS[kind or "postgresql"], path, name=name)
        if isinstance(found, SqliteTargetSettings):
            found = found.model_copy(update={"path": self._folder / found.path})
        return found

    def _entry(self, model: type[_M], path: ValuePath, **given: Any) -> _M | None:
        """The checked entry; None when a reference in it can't be looked up now (kept in `_late` for who asks)."""
        raw = self._mapping(path)
        for word in raw.keys() & (given.keys() - {"connector"}):
            raise self._wrong(f"unknown key '{word}'", (*path, word), key=True)
        try:
            filled = {key: self._filled(value, (*path, key)) for key, value in raw.items()}
        except _NotFoundError as error:
            self._late[path] = error.usage
            return None
        try:
            return model.model_validate({**filled, **given})
        except ValidationError as error:
            raise self._invalid(error, path) from None

    def _filled(self, value: Any, path: ValuePath) -> Any:
        """`value` with references replaced, except those of secrets, which become `Secret`s."""
        if isinstance(value, dict):
            return {key: self._filled(each, (*path, key)) for key, each in value.items()}
        if isinstance(value, list):
            return [self._filled(each, (*path, index)) for index, each in enumerate(value)]
        if (path[-1] in _SECRET_KEYS or _is_masking_key(path)) and value is not None:
            return self._secret(value, path)
        return self._fill(value, path) if isinstance(value, str) else value

    def _secret(self, value: Any, path: ValuePath) -> Secret:
        if not isinstance(value, str) or not REFERENCE.fullmatch(value):
            hint = "${env:NAME} or ${file:/path:key}"
            raise self._wrong(f"'{path[-1]}' must be a reference, so that no secret is in the file", path, hint)

        def lookup() -> str:
            try:
                return self._fill(value, path)
            except _NotFoundError as error:
                raise error.usage from None

        return Secret(re.sub(r":-[^}]*", ":-***", value), lookup)

    def _fill(self, text: str, path: ValuePath) -> str:
        try:
            return self.references.fill(text)
        except Usage as error:
            raise _NotFoundError(self._wrong(error.what, path, error.hint)) from error

    def _mapping(self, path: ValuePath) -> dict[str, Any]:
        value = self._document.value
        for step in path:
            value = (value or {}).get(step)
        if value is not None and not isinstance(value, dict):
            raise self._wrong("a mapping (key: value) is wanted here", path)
        return value or {}

    def _found(self, entry: _M | None, path: ValuePath, known: tuple[str, ...]) -> _M:
        if entry is None:
            raise self._missing(path, known)
        return entry

    def _missing(self, path: ValuePath, known: tuple[str, ...]) -> Usage:
        if path in self._late:
            return self._late[path]
        hint = f"known there: {', '.join(known)}" if known else f"add '{path[0]}:' to it"
        return Usage(f"the file has no {' '.join(map(str, path))}", where=self._document.name, hint=hint)

    def _invalid(self, error: ValidationError, path: ValuePath) -> Usage:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        # A misspelt key is two errors, unknown and missing; the unknown one has the place.
        first = next((each for each in found if each["type"] == "extra_forbidden"), found[0])
        below = (*path, *first["loc"])
        name = ".".join(str(step) for step in below)
        if first["type"] == "extra_forbidden":
            return self._wrong(f"unknown key '{name}'", below, key=True)
        return self._wrong(f"{name}: {first['msg']}", below)

    def _wrong(self, what: str, path: ValuePath, hint: str | None = None, *, key: bool = False) -> Usage:
        return Usage(what, where=self._document.where(path, key=key), hint=hint)


def _is_masking_key(path: ValuePath) -> bool:
    return path[0] == "masking" and path[2:3] == ("versions",) and len(path) == 4


class _NotFoundError(Exception):
    """A reference leads nowhere; not wrong as long as nobody needs it."""

    def __init__(self, usage: Usage) -> None:
        super().__init__(usage.what)
        self.usage = usage


def load(path: Path = DEFAULT_PATH, environ: Mapping[str, str] | None = None) -> Settings:
    """The settings in the file. `environ`: for references, the process's environment by default."""
    return Settings(yamlfile.read(path), References(path.parent, environ))
