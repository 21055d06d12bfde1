"""SQLite as `Database` of sqlstate.py: one connection to one file, its transactions, its errors as ours.

One writer at a time: a transaction takes the file's write lock when it begins, and waits for it as long as it was told.
Readers see the last commit and wait for nobody (write-ahead log).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote as quote_path

from cdc.errors import CdcError, Terminal, Transient
from cdc.target.base import PoisonRow
from cdc.target.sqlstate import Row, Savepoints

_OLDEST = (3, 38, 0)  # STRICT tables, RETURNING, UPDATE … FROM
_MEMORY = "file::memory:"

_REASONS = {
    "SQLITE_CONSTRAINT_NOTNULL": "not_null_violation",
    "SQLITE_CONSTRAINT_FOREIGNKEY": "foreign_key_missing",
    "SQLITE_CONSTRAINT_UNIQUE": "unique_violation",
    "SQLITE_CONSTRAINT_PRIMARYKEY": "unique_violation",
    "SQLITE_CONSTRAINT_CHECK": "check_violation",
    "SQLITE_CONSTRAINT_TRIGGER": "raised_by_trigger",
    "SQLITE_CONSTRAINT_DATATYPE": "value_out_of_range",
    "SQLITE_MISMATCH": "value_out_of_range",
    "SQLITE_TOOBIG": "value_out_of_range",
}
_TRANSIENT = {
    "SQLITE_BUSY": "somebody else is writing to the file; it is retried",
    "SQLITE_LOCKED": "somebody else is writing to the file; it is retried",
    "SQLITE_FULL": "the disk is full",
    "SQLITE_IOERR": "look at the disk and its file system",
    "SQLITE_NOMEM": "no memory",
    "SQLITE_INTERRUPT": "",
    "SQLITE_PROTOCOL": "is the file on a network file system? SQLite needs a local one",
    "SQLITE_SCHEMA": "",
}
_TERMINAL = {
    "SQLITE_CANTOPEN": "make the folder, and let this user write there",
    "SQLITE_READONLY": "let this user write to the file and to its folder",
    "SQLITE_PERM": "let this user write to the file and to its folder",
    "SQLITE_NOTADB": "the path names a file of another program",
    "SQLITE_CORRUPT": "restore the file from a backup: the stream goes on from what it holds",
}


class SqliteDatabase(Savepoints):
    """`wait_s`: how long to wait for another writer. `durable`: a commit survives a power cut. Without `create` a file
    that is not there looks like an empty database, and is not made."""

    now = "CAST((julianday('now') - 2440587.5) * 86400000.0 AS INTEGER) * 1000"
    for_update = ""
    for_share = ""
    id_type = "INTEGER PRIMARY KEY AUTOINCREMENT"
    table_options = ""
    counts_upserts = True

    def __init__(self, path: Path, *, wait_s: float = 30.0, durable: bool = True, create: bool = True) -> None:
        self._where = str(path)
        if sqlite3.sqlite_version_info < _OLDEST:
            wanted = ".".join(map(str, _OLDEST))
            raise Terminal(f"this Python has SQLite {sqlite3.sqlite_version}", hint=f"{wanted} or newer is needed")
        name = f"file:{quote_path(str(path.absolute()))}?mode={'rwc' if create else 'rw'}"
        with self._translated():
            self._connection = sqlite3.connect(
                name if create or path.exists() else _MEMORY,
                timeout=wait_s,
                isolation_level=None,
                check_same_thread=False,
                uri=True,
                cached_statements=500,
            )
        try:
            if create:
                self.run("PRAGMA journal_mode = WAL")
            self.run(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self.run("PRAGMA foreign_keys = ON")
            self.run("PRAGMA temp_store = MEMORY")
            self.run("PRAGMA cache_size = -65536")  # KiB
        except CdcError:
            self.close()
            raise

    def rows(self, statement: str, parameters: Sequence[Any] = ()) -> list[Row]:
        with self._translated():
            return self._connection.execute(statement, parameters).fetchall()

    def run(self, statement: str, parameters: Sequence[Any] = ()) -> int:
        with self._translated():
            return self._connection.execute(statement, parameters).rowcount

    def run_many(self, statement: str, rows: Iterable[Sequence[Any]]) -> int:
        with self._translated():
            return self._connection.executemany(statement, rows).rowcount

    @contextmanager
    def transaction(self) -> Iterator[None]:
        self.run("BEGIN IMMEDIATE")
        try:
            yield
            self.run("COMMIT")
        except BaseException:
            with suppress(sqlite3.ProgrammingError):  # closed meanwhile, and its transaction undone
                if self._connection.in_transaction:  # some errors end it by themselves
                    self._connection.rollback()
            raise

    exclusively = transaction

    def roll_back_to(self, savepoint: str, error: BaseException) -> None:
        with suppress(sqlite3.ProgrammingError):
            if self._connection.in_transaction:
                self._connection.execute(f"ROLLBACK TO {savepoint}")
                self._connection.execute(f"RELEASE {savepoint}")

    def has_table(self, name: str) -> bool:
        return bool(self.rows("SELECT 1 FROM sqlite_master WHERE type IN ('table', 'view') AND name = ?", (name,)))

    def on_conflict(self, key: Sequence[str], assign: Mapping[str, str] | None = None) -> str:
        if not assign:
            return " ON CONFLICT DO NOTHING"
        assignments = ", ".join(
            f"{column} = {text.format(new=f'excluded.{column}')}" for column, text in assign.items()
        )
        return f" ON CONFLICT ({', '.join(key)}) DO UPDATE SET {assignments}"

    def close(self) -> None:
        self._connection.close()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise translate(error, self._where) from error
        except UnicodeEncodeError as error:
            raise PoisonRow("a text that is no Unicode", reason="value_out_of_range") from error
        except OverflowError as error:
            raise PoisonRow("a number beyond 64 bits, for an INTEGER column", reason="value_out_of_range") from error


def translate(error: sqlite3.Error, where: str) -> CdcError:
    """By SQLite's result code, never by text: row values stay out."""
    name: str = getattr(error, "sqlite_errorname", "") or ""
    if name in _REASONS or name.startswith("SQLITE_CONSTRAINT") or isinstance(error, sqlite3.DataError):
        reason = _REASONS.get(name, "refused")
        return PoisonRow(f"the target refuses the row: {name or type(error).__name__}", reason=reason, where=where)
    primary = "_".join(name.split("_")[:2])
    if primary in _TRANSIENT:
        return Transient(f"SQLite answered {name}", where=where, hint=_TRANSIENT[primary] or None)
    if primary in _TERMINAL:
        return Terminal(f"SQLite answered {name}", where=where, hint=_TERMINAL[primary])
    return Terminal(f"the target refuses the statement: {error} ({name})", where=where)


def quote(name: str) -> str:
    """A quoted identifier."""
    return '"' + name.replace('"', '""') + '"'
