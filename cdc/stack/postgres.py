"""PostgreSQL, set up to be captured: logical WAL, slots, passwords over TCP only."""

from __future__ import annotations

import shutil
import signal
from typing import Final

import psycopg

from . import components, process
from .components import Component
from .part import HOST, NotReady, Setting, data_folder, empty_folder, pinned, private_file, run_once
from .patience import Patience
from .process import Launch

USER = "postgres"
_LEFTOVER_DEADLINE_S = 10.0


class Postgres:
    """The server. `fast` trades what only a power failure can take; a killed process still loses nothing."""

    name: Final = "postgres"
    stop_signal: Final = signal.SIGINT  # SIGTERM would wait for the clients to leave

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._data = data_folder(setting, self.name)
        self._programs = setting.program(components.POSTGRES, "bin")
        self.port = setting.choices.ports["postgres"]
        self.version = pinned("postgresql")

    @staticmethod
    def needs(*, jdbc_sink: bool) -> tuple[Component, ...]:
        return (components.POSTGRES,)

    def prepare(self) -> None:
        if self._data.exists():
            self._clear_after_a_kill(self._setting.patience)
            return
        part = self._data.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        password = part.with_suffix(".password")
        private_file(self._setting, password, self._setting.choices.postgres_password)
        command = (
            str(self._programs / "initdb"),
            f"--pgdata={empty_folder(self._setting, part)}",
            f"--username={USER}",
            f"--pwfile={password}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--no-sync",
        )
        try:
            run_once(self._setting, self.name, Launch(command, cwd=part.parent, account=self._setting.account))
        finally:
            password.unlink()
        part.rename(self._data)

    def launch(self) -> Launch:
        fast = self._setting.choices.fast
        settings: dict[str, object] = {
            "listen_addresses": HOST,
            "port": self.port,
            "unix_socket_directories": "",
            "max_connections": 200,
            "shared_buffers": "256MB",
            "max_wal_size": "2GB",
            "wal_level": "logical",
            "max_replication_slots": 40,
            "max_wal_senders": 40,
            # A forgotten slot then costs this much disk, and is reported as lost, rather than filling the disk.
            "max_slot_wal_keep_size": "8GB",
            "fsync": "off" if fast else "on",
            "full_page_writes": "off" if fast else "on",
            "synchronous_commit": "on",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "log_line_prefix": "%m [%p] %q%u@%d %a ",
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        command = (str(self._programs / "postgres"), "-D", str(self._data), *options)
        return Launch(command, cwd=self._data, account=self._setting.account)

    def configuration(self) -> str:
        return ""  # all of it is on the command line

    def probe(self) -> None:
        password = self._setting.choices.postgres_password
        try:
            with psycopg.connect(
                host=HOST, port=self.port, user=USER, password=password, dbname="postgres", connect_timeout=3
            ) as connection:
                connection.execute("SELECT 1")
        except psycopg.Error as error:
            raise NotReady(f"no SQL at {HOST}:{self.port}: {error}") from error

    def _clear_after_a_kill(self, patience: Patience) -> None:
        """Backends outlive a killed postmaster for a moment, and the lock file may name a pid that is another's now."""
        left = process.inside(self._data)
        process.send(left, signal.SIGKILL)
        patience.until(lambda: not process.inside(self._data), deadline_s=_LEFTOVER_DEADLINE_S)
        (self._data / "postmaster.pid").unlink(missing_ok=True)
