"""MariaDB, set up to be captured: full row images in the binlog, a position for each row event."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path
from typing import Final

import pymysql

from . import components
from .components import Component
from .part import HOST, NotReady, Setting, data_folder, empty_folder, pinned, private_file, run_once
from .process import Launch

USER = "root"


class MariaDb:
    """The server. `fast` trades what only a power failure can take; a killed process still loses nothing."""

    name: Final = "mariadb"
    stop_signal: Final = signal.SIGTERM

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._data = data_folder(setting, self.name)
        self._programs = setting.program(components.MARIADB)
        self._passwords = self._data.with_name("mariadb-init.sql")
        self._temporary = self._data.with_name("mariadb-tmp")
        self.port = setting.choices.ports["mariadb"]
        self.version = pinned("mariadb")

    @staticmethod
    def needs(*, jdbc_sink: bool) -> tuple[Component, ...]:
        return (components.MARIADB,)

    def prepare(self) -> None:
        private_file(self._setting, self._passwords, self._init_sql())
        shutil.rmtree(self._temporary, ignore_errors=True)
        empty_folder(self._setting, self._temporary)
        if self._data.exists():
            return
        part = self._data.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        command = (
            str(self._programs / "scripts" / "mariadb-install-db"),
            "--no-defaults",
            f"--basedir={self._programs}",
            f"--datadir={empty_folder(self._setting, part)}",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",  # and with it the anonymous users, who would shadow 'user'@'%'
            "--skip-name-resolve",
            "--cross-bootstrap",
        )
        run_once(self._setting, self.name, self._launch(part.parent, command))
        part.rename(self._data)

    def launch(self) -> Launch:
        fast = self._setting.choices.fast
        settings: dict[str, object] = {
            "basedir": self._programs,
            "datadir": self._data,
            "init_file": self._passwords,
            "bind_address": HOST,
            "port": self.port,
            "socket": "mariadb.sock",  # relative to the data folder: an absolute one may be too long for a socket
            "pid_file": "mariadb.pid",
            "server_id": self._setting.choices.server_id,
            "log_bin": "binlog",
            "binlog_format": "ROW",
            "binlog_row_image": "FULL",
            # OFF gives all rows of a transaction one position, so that older and newer can't be told apart.
            "binlog_legacy_event_pos": "ON",
            "gtid_strict_mode": "ON",
            "sync_binlog": 0 if fast else 1,
            "innodb_flush_log_at_trx_commit": 2 if fast else 1,
            "innodb_buffer_pool_size": "256M",
            "character_set_server": "utf8mb4",
            "default_time_zone": "+00:00",
            "local_infile": "ON",
            "max_allowed_packet": "64M",
            "max_connections": 200,
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        # TLS on the loopback buys nothing, and generating its key takes seconds at every start.
        flags = ("--skip-name-resolve", "--skip-ssl")
        return self._launch(self._data, (str(self._programs / "bin" / "mariadbd"), "--no-defaults", *options, *flags))

    def configuration(self) -> str:
        return ""  # all of it is on the command line

    def probe(self) -> None:
        password = self._setting.choices.mariadb_password
        try:
            connection = pymysql.connect(host=HOST, port=self.port, user=USER, password=password, connect_timeout=3)
        except pymysql.Error as error:
            raise NotReady(f"no SQL at {HOST}:{self.port}: {error}") from error
        with connection, connection.cursor() as cursor:
            cursor.execute("SELECT 1")

    def _launch(self, cwd: Path, command: tuple[str, ...]) -> Launch:
        environment = {
            "LD_LIBRARY_PATH": str(self._programs / "libs"),
            # A server that starts removes all of MariaDB's files from its temporary folder: another stack's too.
            "TMPDIR": str(self._temporary),
        }
        return Launch(command, cwd=cwd, account=self._setting.account, environment=environment)

    def _init_sql(self) -> str:
        """Run by the server at every start; kept out of the binlog, where Debezium would meet it."""
        password = self._setting.choices.mariadb_password
        return (
            "SET sql_log_bin=0;\n"
            f"CREATE OR REPLACE USER {USER}@'127.0.0.1' IDENTIFIED BY '{password}';\n"
            f"GRANT ALL PRIVILEGES ON *.* TO {USER}@'127.0.0.1' WITH GRANT OPTION;\n"
            f"ALTER USER {USER}@localhost IDENTIFIED BY '{password}';\n"
        )
