"""What the four parts have in common: how `stack.py` sees Kafka, Connect, PostgreSQL and MariaDB."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from . import logs, process, tools
from .account import Account
from .components import Cache, Component, versions
from .errors import StackError
from .home import Choices, Home
from .patience import Patience

PartName = Literal["kafka", "connect", "postgres", "mariadb", "partner"]
HOST = "127.0.0.1"
_FIRST_TIME_DEADLINE_S = 120.0
_SHOWN_LOG_LINES = 40


class NotReady(Exception):
    """A part does not answer yet; the text says what was tried."""


@dataclass(frozen=True)
class Setting:
    """Where a part lives: its home and what was chosen, its programs, whom it may run as."""

    home: Home
    choices: Choices
    cache: Cache
    account: Account | None
    patience: Patience

    def program(self, component: Component, *below: str) -> Path:
        return self.cache.folder(component).joinpath(*below)


class Part(Protocol):
    """One server process of the stack."""

    @property
    def name(self) -> PartName: ...

    @property
    def version(self) -> str: ...

    @property
    def port(self) -> int: ...

    @property
    def stop_signal(self) -> signal.Signals:
        """What makes it end in order, without waiting for its clients."""

    @staticmethod
    def needs(*, jdbc_sink: bool) -> tuple[Component, ...]:
        """The components it runs from; `jdbc_sink` is the choice of that name (home.Choices)."""

    def prepare(self) -> None:
        """Make everything `launch` needs: configuration, and an empty data folder the first time.

        Called only while the part does not run. Calling it again changes nothing; cut short, it starts over.
        """

    def launch(self) -> process.Launch:
        """The server's command line."""

    def configuration(self) -> str:
        """The text besides the command line that decides how it runs; a change of it means a restart."""

    def probe(self) -> None:
        """Return if the part does its real work for a client now, raise NotReady otherwise. Takes at most seconds."""


def run_once(setting: Setting, part: str, launch: process.Launch) -> None:
    """Run a set-up program to its end; StackError with the end of the part's log if it fails."""
    log = setting.home.log(part)
    start = log.stat().st_size if log.exists() else 0
    code = process.run(launch, log, deadline_s=_FIRST_TIME_DEADLINE_S)
    if code:
        raise StackError(
            f"{part}: {Path(launch.argv[0]).name} ended with code {code}:\n{end_of(log, start)}", where=str(log)
        )


def end_of(log: Path, start: int) -> str:
    """The last lines that were written to the log after byte `start`, indented to stand in an error."""
    lines, _ = logs.last(log, _SHOWN_LOG_LINES, start)
    return "\n".join(f"    {line}" for line in lines)


def data_folder(setting: Setting, part: str) -> Path:
    """Where a database keeps its data."""
    return setting.choices.database_data / part


def empty_folder(setting: Setting, path: Path) -> Path:
    """Create the folder for the databases' account."""
    path.mkdir(mode=0o700)
    if setting.account is not None:
        setting.account.own(path)
    return path


def private_file(setting: Setting, path: Path, text: str) -> None:
    """Write a file that only the databases' account (and root) can read."""
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_text(text)
    if setting.account is not None:
        setting.account.own(path)


def properties(entries: Mapping[str, object]) -> str:
    """A Java properties file."""
    return "".join(f"{key}={_text(value)}\n" for key, value in entries.items())


def java_command(setting: Setting, classes: Path, heap: str, main: str, *arguments: str) -> tuple[str, ...]:
    """A JVM with its log on standard error, in UTC, with the collector that leaves a small machine its cores."""
    return (
        str(tools.java()),
        f"-Xmx{heap}",
        "-XX:+UseSerialGC",
        "-XX:+ExitOnOutOfMemoryError",
        "-Duser.timezone=UTC",
        "-Dfile.encoding=UTF-8",
        "-Djava.awt.headless=true",
        f"-Djava.io.tmpdir={setting.home.temporary}",  # a killed JVM leaves its unpacked native libraries there
        "-Dorg.slf4j.simpleLogger.showDateTime=true",
        # All settings of every client, again at each question about a connector: nine tenths of Connect's log.
        "-Dorg.slf4j.simpleLogger.log.org.apache.kafka.common.config=warn",
        "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSS'Z'",
        "-cp",
        f"{classes}/*",
        main,
        *arguments,
    )


def pinned(*names: str) -> str:
    """The versions of pom.xml's properties `<name>.version`, joined."""
    known = versions()
    return " + ".join(known[f"{name}.version"] for name in names)


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Iterable) and not isinstance(value, str):
        return ",".join(str(each) for each in value)
    return str(value)
