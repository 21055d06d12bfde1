"""The folder of one stack: what was chosen for it once (stack.json), and what runs now (run/<part>.json)."""

from __future__ import annotations

import base64
import hashlib
import os
import random
import secrets
import shutil
import uuid
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from . import ports
from .account import Account, open_temporary_folder
from .errors import StackError

PORT_NAMES = ("kafka", "controller", "connect", "postgres", "mariadb", "partner")
_FOLDERS = ("data", "logs", "run", "config", "tmp")
_LOG_KEPT_BYTES = 20_000_000


class Choices(BaseModel):
    """What was chosen when the stack was made. Only ports and the two flags may change later."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ports: dict[str, int]
    postgres_password: str
    mariadb_password: str
    partner_secret: str = ""
    masking_key: str = ""
    """Both empty only in a home that an older version made, until the next `up`."""
    cluster_id: str
    """Kafka's, 16 bytes in URL-safe base64."""
    server_id: int
    """MariaDB's: two servers of one Debezium worker must not share it."""
    database_data: Path
    """Where PostgreSQL and MariaDB keep their data: below the home, unless their account cannot get there."""
    fast: bool
    """Databases don't wait for the disk: for tests, where the machine does not lose power."""
    jdbc_sink: bool
    """Connect also offers the Debezium JDBC sink."""


class Run(BaseModel):
    """A process that was started, and what names it beyond doubt (see process.py)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pid: int
    born: str
    since: datetime
    port: int
    version: str
    fingerprint: str
    """Hash of the command and its configuration: when it differs from today's, `up` restarts the part."""
    log_from: int
    """Where in the part's log file this run begins, in bytes."""


_Record = TypeVar("_Record", bound=BaseModel)


class Home:
    """Reads and writes the folder. Nothing here starts or signals a process."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.lock = self.path / "stack.lock"
        self._choices_file = self.path / "stack.json"

    def log(self, part: str) -> Path:
        return self.path / "logs" / f"{part}.log"

    def config(self, name: str) -> Path:
        return self.path / "config" / name

    @property
    def kafka_data(self) -> Path:
        return self.path / "data" / "kafka"

    @property
    def temporary(self) -> Path:
        return self.path / "tmp"

    @property
    def secrets(self) -> Path:
        """The passwords as a properties file, for `${file:...}` in connector configs. Mode 600."""
        return self.path / "secrets.properties"

    def exists(self) -> bool:
        return self._choices_file.exists()

    def choices(self) -> Choices:
        """Raises StackError when there is no stack here."""
        found = _read(self._choices_file, Choices)
        if found is None:
            raise StackError("there is no stack here", where=str(self.path), hint="cdc stack up")
        return found

    def save(self, choices: Choices) -> None:
        _write(self._choices_file, choices.model_dump_json(indent=2))
        lines = (
            f"postgres.password={choices.postgres_password}",
            f"mariadb.password={choices.mariadb_password}",
            f"partner.secret={choices.partner_secret}",
            f"masking.key={choices.masking_key}",
        )
        _write(self.secrets, "\n".join(lines) + "\n")

    def run(self, part: str) -> Run | None:
        """What was last started as `part` and not yet stopped; whether it still lives is process.py's to say."""
        return _read(self.path / "run" / f"{part}.json", Run)

    def save_run(self, part: str, run: Run) -> None:
        _write(self.path / "run" / f"{part}.json", run.model_dump_json(indent=2))

    def forget_run(self, part: str) -> None:
        (self.path / "run" / f"{part}.json").unlink(missing_ok=True)

    def make(self, account: Account | None, chance: random.Random) -> None:
        """Create the folders, and on the first call make the choices. Calling it again changes nothing.

        StackError when the home already holds folders of these names that are not ours: a reset would remove them.
        """
        for name in _FOLDERS:
            folder = self.path / name
            folder.mkdir(parents=True, exist_ok=True)
            if any(folder.iterdir()) and not self.exists():
                raise StackError("this folder is in use for something else", where=str(folder), hint="choose a --home")
        if self.exists():
            self._complete(chance)
            return
        taken: list[int] = []
        for _ in PORT_NAMES:
            taken.append(ports.choose(taken, chance))
        self.save(
            Choices(
                ports=dict(zip(PORT_NAMES, taken, strict=True)),
                postgres_password=secrets.token_hex(12),
                mariadb_password=secrets.token_hex(12),
                partner_secret=secrets.token_hex(12),
                masking_key=secrets.token_hex(32),
                cluster_id=base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("="),
                server_id=chance.randint(1_000, 2_000_000_000),
                database_data=self._database_data(account),
                fast=False,
                jdbc_sink=False,
            )
        )

    def _complete(self, chance: random.Random) -> None:
        """Choose what an older version did not know of."""
        choices = self.choices()
        numbers = dict(choices.ports)
        for name in PORT_NAMES:
            numbers.setdefault(name, 0)
            numbers[name] = numbers[name] or ports.choose(set(numbers.values()), chance)
        secret = choices.partner_secret or secrets.token_hex(12)
        key = choices.masking_key or secrets.token_hex(32)
        completed = choices.model_copy(update={"ports": numbers, "partner_secret": secret, "masking_key": key})
        if completed != choices:
            self.save(completed)

    def keep_ports_free(self, idle: Iterable[str], chance: random.Random) -> list[str]:
        """Choose a new port for each of `idle` (of PORT_NAMES) whose port somebody else has taken; returns those."""
        choices = self.choices()
        numbers = dict(choices.ports)
        lost = [name for name in idle if not ports.is_free(numbers[name])]
        for name in lost:
            numbers[name] = ports.choose(set(numbers.values()), chance)
        if lost:
            self.save(choices.model_copy(update={"ports": numbers}))
        return lost

    def start_log(self, part: str) -> int:
        """Where the next run's log begins. A log grown large is set aside as <part>.log.1 first."""
        log = self.log(part)
        if log.exists() and log.stat().st_size > _LOG_KEPT_BYTES:
            log.rename(log.with_suffix(".log.1"))
        return log.stat().st_size if log.exists() else 0

    def contents(self) -> list[Path]:
        """Everything this stack has put on the disk, its home aside: what `wipe` removes, in that order."""
        if not self.exists():
            return []
        folders = [*(self.path / name for name in _FOLDERS), self.choices().database_data]
        files = [self.secrets, self._choices_file]  # last: without the choices a wipe cut short could not be repeated
        return [path for path in dict.fromkeys((*folders, *files)) if path.exists()]

    def wipe(self) -> list[Path]:
        """Remove `contents`, and the home unless files that are not ours are in it; what was removed."""
        found = self.contents()
        for path in found:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        self.lock.unlink(missing_ok=True)
        if not any(self.path.iterdir()):
            self.path.rmdir()
        return found

    def _database_data(self, account: Account | None) -> Path:
        inside = self.path / "data"
        if account is None or account.can_reach(inside / "x"):
            return inside
        name = "cdc-stack-" + hashlib.sha256(str(self.path).encode()).hexdigest()[:12]
        folder = open_temporary_folder() / name
        folder.mkdir(mode=0o755, exist_ok=True)
        if folder.stat().st_uid != os.geteuid():
            raise StackError("the folder for the databases' data belongs to somebody else", where=str(folder))
        return folder


def _read(path: Path, kind: type[_Record]) -> _Record | None:
    try:
        text = path.read_text()
    except FileNotFoundError:
        return None
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        raise StackError(
            f"this file is not what this version of the stack wrote: {error.error_count()} errors",
            where=str(path),
            hint="stop its processes by hand, then: cdc stack reset --execute",
        ) from error


def _write(path: Path, text: str) -> None:
    """Whole or not at all, and readable by nobody else."""
    part = path.with_suffix(path.suffix + ".part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    part.rename(path)
