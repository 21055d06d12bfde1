"""References in files: `${env:NAME}`, `${file:/path:key}`, `${stack:postgres.port}` (see cdc/settings.py), and secrets,
which are references that are looked up late and never shown."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import GetCoreSchemaHandler, SecretStr
from pydantic_core import CoreSchema, core_schema

from cdc.errors import Usage

STACK_HOME_VARIABLE = "CDC_STACK_HOME"
STACK_KEYS = (
    "kafka",  # host:port
    "connect",  # URL
    "partner",  # URL
    "partner.secret",
    "masking.key",
    "home",
    "secrets",  # properties file with the two passwords, partner.secret and masking.key
    *(f"{server}.{part}" for server in ("postgres", "mariadb") for part in ("host", "port", "user", "password")),
)
_STACK_HOST = "127.0.0.1"
_STACK_USERS = {"postgres": "postgres", "mariadb": "root"}
REFERENCE = re.compile(r"\$\{([a-z]+):([^${}]*)\}")


class Secret:
    """A secret by reference. Shows itself as its reference; `resolve` looks it up, each time anew, so that a rotated
    password is used by the next connection."""

    def __init__(self, reference: str, lookup: Callable[[], str]) -> None:
        self.reference = reference
        self._lookup = lookup

    def resolve(self) -> SecretStr:
        """Raises `Usage` (naming the reference and its place) when it leads nowhere."""
        return SecretStr(self._lookup())

    def __repr__(self) -> str:
        return f"Secret({self.reference!r})"

    def __str__(self) -> str:
        return self.reference

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other.reference == self.reference

    def __hash__(self) -> int:
        return hash(self.reference)

    @classmethod
    def of(cls, value: str, name: str = "***") -> Secret:
        """A secret that a program holds already (tests, generated passwords); `name` is shown in its place."""
        return cls(name, lambda: value)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        as_reference = core_schema.plain_serializer_function_ser_schema(str)
        return core_schema.is_instance_schema(cls, serialization=as_reference)


class References:
    """Looks references up: in the environment, in properties files (relative to `folder`) and in the local stack."""

    def __init__(self, folder: Path = Path(), environ: Mapping[str, str] | None = None) -> None:
        self._folder = folder
        self._environ = os.environ if environ is None else environ

    def fill(self, text: str, also: Mapping[str, Callable[[str], str]] | None = None) -> str:
        """`text` with every reference replaced. Raises `Usage` without `where`: the caller knows the place."""
        providers = {"env": self._env, "file": self._file, "stack": self._stack, **(also or {})}

        def one(match: re.Match[str]) -> str:
            provider = providers.get(match[1])
            if provider is None:
                raise Usage(f"there is no reference {match[0]}", hint=f"known here: {', '.join(providers)}")
            return provider(match[2])

        return REFERENCE.sub(one, text)

    def fill_only(self, text: str, providers: Mapping[str, Callable[[str], str]]) -> str:
        """`text` with the references of `stack` and of `providers` replaced and all others kept as they are: those
        are for Kafka Connect's worker. An inner one may stand in an outer: `${file:${stack:secrets}:key}`."""
        known = {"stack": self._stack, **providers}
        return REFERENCE.sub(lambda m: known[m[1]](m[2]) if m[1] in known else m[0], text)

    def _env(self, text: str) -> str:
        name, has_default, default = text.partition(":-")
        value = self._environ.get(name, default if has_default else None)
        if value is None:
            raise Usage(f"the environment variable {name} is not set", hint=f"export {name}=…, or ${{env:{name}:-…}}")
        return value

    def _file(self, text: str) -> str:
        name, _, key = text.rpartition(":")
        path = self._folder / name
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise Usage(f"cannot read ${{file:{text}}}: {type(error).__name__} on {path}") from error
        for line in lines:
            found, equals, value = line.partition("=")
            if equals and found.strip() == key and not line.lstrip().startswith(("#", "!")):
                return value.strip()
        raise Usage(f"${{file:{text}}}: the file has no line {key}=…", hint=f"add it to {path}")

    def _stack(self, key: str) -> str:
        """stack.json is cdc/stack's file; this knows as much of it as a client of the stack needs."""
        if key not in STACK_KEYS:
            raise Usage(f"there is no ${{stack:{key}}}", hint=f"known here: {', '.join(STACK_KEYS)}")
        home = Path(self._environ.get(STACK_HOME_VARIABLE, ".stack")).absolute()
        if key == "home":
            return str(home)
        if key == "secrets":
            return str(home / "secrets.properties")
        try:
            choices = json.loads((home / "stack.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            hint = f"cdc stack up, or {STACK_HOME_VARIABLE}=<its home>"
            raise Usage(f"${{stack:{key}}}: there is no local stack in {home}", hint=hint) from error
        if key == "masking.key":
            if not choices.get("masking_key"):  # an older version made it
                raise Usage(f"${{stack:{key}}}: the stack in {home} has none yet", hint="cdc stack up")
            return str(choices["masking_key"])
        part, _, what = key.partition(".")
        if part not in choices["ports"]:  # an older version made it
            raise Usage(f"${{stack:{key}}}: the stack in {home} has no {part} yet", hint="cdc stack up")
        if key == "partner.secret":
            return str(choices["partner_secret"])
        address = f"{_STACK_HOST}:{choices['ports'][part]}"
        if part in _STACK_USERS:
            port = str(choices["ports"][part])
            values = {"host": _STACK_HOST, "port": port, "user": _STACK_USERS[part]}
            return values.get(what) or str(choices[f"{part}_password"])
        return f"http://{address}" if part in ("connect", "partner") else address
