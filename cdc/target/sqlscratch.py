"""Scratch places in MariaDB and SQLite (see scratch.py): databases, and a file, with all state in them."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from cdc.db import mariadb
from cdc.entries import MariaDbTargetSettings, SqliteTargetSettings
from cdc.errors import CdcError, Terminal
from cdc.model import TargetTable
from cdc.target.mariadb_database import MariaDbDatabase, open_database
from cdc.target.scratch import PREFIX, Text
from cdc.target.sqlite_database import SqliteDatabase, quote
from cdc.target.sqlite_statements import table_name
from cdc.target.sqlstate import Database


class MariaDbScratch:
    """A `Scratch`. `name`: of the pipeline that is played there, and of the database that keeps its state."""

    settings: MariaDbTargetSettings

    def __init__(self, settings: MariaDbTargetSettings, name: str) -> None:
        self._made: list[str] = []
        self._database: MariaDbDatabase = open_database(settings, settings.database)
        self._name = name
        self._where, self._user = settings.where, settings.user
        self.settings = settings.model_copy(update={"database": self._make(name)})

    def namespace(self, name: str) -> str:
        return self._make(f"{self._name}_{name}")

    def disown(self, table: TargetTable) -> None:
        """Nothing is decided here by whose a row is; and its position is the lowest."""

    def texts(self, table: TargetTable, columns: Sequence[str]) -> list[tuple[Text, ...]]:
        cells = ", ".join(mariadb.quote(column) for column in columns)
        return _texts(self._database, f"SELECT {cells} FROM {mariadb.quote(table.namespace, table.name)}")

    def remove(self) -> None:
        for name in self._made:
            self._database.run(f"DROP DATABASE IF EXISTS {mariadb.quote(name)}")
        self._database.close()

    def _make(self, name: str) -> str:
        if name not in self._made:
            try:
                self._database.run(f"CREATE DATABASE {mariadb.quote(name)}")
            except CdcError as error:
                self._database.close()
                names = PREFIX.replace("_", "\\_")
                raise Terminal(
                    f"cannot make a database to play the tests in: {error.what}",
                    where=self._where,
                    hint=f"GRANT ALL ON `{names}%`.* TO {self._user}; or test on another target",
                ) from error
            self._made.append(name)
        return name


class SqliteScratch:
    """A `Scratch`: another file."""

    settings: SqliteTargetSettings

    def __init__(self, settings: SqliteTargetSettings) -> None:
        self._folder = Path(mkdtemp(prefix=PREFIX))
        self.settings = settings.model_copy(update={"path": self._folder / "target.db", "durable": False})
        self._reader: SqliteDatabase | None = None

    def namespace(self, name: str) -> str:
        return name

    def disown(self, table: TargetTable) -> None:
        """As in MariaDB."""

    def texts(self, table: TargetTable, columns: Sequence[str]) -> list[tuple[Text, ...]]:
        if self._reader is None:
            self._reader = SqliteDatabase(self.settings.path, create=False, durable=False, wait_s=self.settings.wait_s)
        cells = ", ".join(quote(column) for column in columns)
        return _texts(self._reader, f"SELECT {cells} FROM {quote(table_name(table))}")

    def remove(self) -> None:
        if self._reader is not None:
            self._reader.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def _texts(database: Database, statement: str) -> list[tuple[Text, ...]]:
    return [tuple(map(_text, row)) for row in database.rows(statement)]


def _text(cell: Any) -> Text:
    return None if cell is None else f"\\x{cell.hex()}" if isinstance(cell, bytes) else str(cell)
