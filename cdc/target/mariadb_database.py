"""MariaDB and MySQL as `Database` of sqlstate.py: one connection, its transactions, its bulk load, its errors as ours.

Rows arrive by LOAD DATA LOCAL from memory: this connection answers the server's request for "the file" with the rows it
was about to send, and never opens any. PyMySQL's own answer, which opens the file that the *server* names, stays
switched off, so that a server that asks for a file on its own gets none.

LOAD DATA LOCAL turns errors into warnings, strict mode or not: values are cut and rows left out in silence. So one
warning (or note: a decimal that was rounded is only a note) refuses the load.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import pymysql
from pymysql.constants import CLIENT, COMMAND
from pymysql.cursors import SSCursor
from pymysql.protocol import OKPacketWrapper

from cdc.db import mariadb
from cdc.entries import DatabaseSettings
from cdc.errors import CdcError, Poison, Terminal, Transient
from cdc.target.base import PoisonRow
from cdc.target.mariadb_errors import refused, translated
from cdc.target.sqlstate import Row, Savepoints

FLAGS = CLIENT.LOCAL_FILES | CLIENT.FOUND_ROWS
"""What a connection must ask for: loads of our own, and row counts that include rows an update left as they were."""

READ_TIMEOUT_S = 150
"""Longer than any statement may take: a server that vanished says no goodbye."""

_SESSION = {
    "lc_messages": "'en_US'",  # names are read from messages
    "sql_notes": "1",  # a rounded decimal is a note
    "innodb_lock_wait_timeout": "10",
    "lock_wait_timeout": "10",
    "net_read_timeout": "10",  # a worker that froze inside a load
}
# A frozen worker must not keep its locks. MySQL has neither timeout: there they stay until the connection ends.
_MARIADB_SESSION = {
    "idle_transaction_timeout": "5",
    "max_statement_time": "120",
    "optimizer_switch": "'exists_to_in=off'",  # it would read a whole table for a few keys
}
_OLDEST = {"MariaDB": (10, 5), "MySQL": (8, 0)}
_LOCK = "cdc.tables"
_LOCK_WAIT_S = 60
_STATEMENT_BYTES = 1 << 20
_INSERT = re.compile(r"(INSERT .*? VALUES )(\(.*?\))( ON DUPLICATE KEY UPDATE .*)?", re.DOTALL)


class MariaDbDatabase(Savepoints):
    """`connect` opens a connection in autocommit mode with `FLAGS`, in UTC and strict mode, whose current database is
    the state's (see `cdc.db.mariadb`). `session`: server variables (SQL literals) that differ from ours."""

    now = "CAST(UNIX_TIMESTAMP(NOW(6)) * 1000000 AS SIGNED)"
    for_update = " FOR UPDATE"
    for_share = " LOCK IN SHARE MODE"
    id_type = "BIGINT AUTO_INCREMENT PRIMARY KEY"
    counts_upserts = True

    def __init__(
        self, connect: Callable[[], pymysql.Connection[Any]], session: Mapping[str, str] | None = None
    ) -> None:
        self._session = session or {}
        self._connection = connect()
        try:
            self._prepare_session()
        except CdcError:
            self.close()
            raise

    def _prepare_session(self) -> None:
        ((version, name),) = self.rows("SELECT VERSION(), DATABASE()")
        self.is_mariadb = "mariadb" in version.lower()
        self.name = str(name)
        # Compares texts exactly: neither case nor accents nor trailing blanks are equal.
        self.collation = "utf8mb4_nopad_bin" if self.is_mariadb else "utf8mb4_0900_bin"
        self.table_options = f"ENGINE=InnoDB ROW_FORMAT=DYNAMIC CHARACTER SET utf8mb4 COLLATE {self.collation}"
        product = "MariaDB" if self.is_mariadb else "MySQL"
        numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
        if numbers < _OLDEST[product]:
            wanted = ".".join(map(str, _OLDEST[product]))
            raise Terminal(f"the target is {product} {version}", hint=f"{wanted} or newer is needed")
        session = {**_SESSION, **(_MARIADB_SESSION if self.is_mariadb else {}), **self._session}
        self.run("SET SESSION " + ", ".join(f"{variable} = {value}" for variable, value in session.items()))
        # Without the gap locks of REPEATABLE READ, which make writers of neighbouring keys wait for each other.
        self.run("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")

    @property
    def thread_id(self) -> int:
        """The connection's number at the server (KILL takes it)."""
        return int(self.rows("SELECT CONNECTION_ID()")[0][0])

    def rows(self, statement: str, parameters: Sequence[Any] = ()) -> list[Row]:
        with translated(), self._connection.cursor() as cursor:
            self._execute(cursor, statement, parameters)
            return cast(list[Row], list(cursor.fetchall()))

    def run(self, statement: str, parameters: Sequence[Any] = ()) -> int:
        with translated(), self._connection.cursor() as cursor:
            return self._execute(cursor, statement, parameters)

    @staticmethod
    def _execute(cursor: Any, statement: str, parameters: Sequence[Any]) -> int:
        """Without parameters nothing in the statement is looked at: names may hold any character."""
        return int(cursor.execute(_marked(statement), parameters) if parameters else cursor.execute(statement))

    def run_many(self, statement: str, rows: Iterable[Sequence[Any]]) -> int:
        insert = _INSERT.fullmatch(statement)
        with translated(), self._connection.cursor() as cursor:
            if insert is None:
                return sum(cursor.execute(_marked(statement), row) for row in rows)
            head, values, end = insert[1], _marked(insert[2]), insert[3] or ""
            return sum(
                cursor.execute(head + ", ".join(portion) + end)
                for portion in _portions(cursor.mogrify(values, row) for row in rows)
            )

    def stream(self, statement: str, page: int) -> Iterator[list[Row]]:
        """All rows of a query in pages, however many there are; nothing else may be asked meanwhile."""
        with translated(), self._connection.cursor(SSCursor) as cursor:
            cursor.execute(statement)
            while rows := cursor.fetchmany(page):
                yield cast(list[Row], list(rows))

    def load(self, statement: str, rows: Iterable[bytes]) -> int:
        """LOAD DATA LOCAL with `rows` as the file; the number of rows. Raises `PoisonRow` with the row's index for
        what the server would have cut, rounded or left out; what is loaded then must be rolled back or cleared."""
        with translated():
            loaded, warned = self._send(statement, rows)
            if warned:
                raise self._warning()
        return loaded

    def _send(self, statement: str, rows: Iterable[bytes]) -> tuple[int, int]:
        """PyMySQL has no public way to answer with anything but a file."""
        connection: Any = self._connection
        connection._execute_command(COMMAND.COM_QUERY, statement)
        answer = connection._read_packet()
        if not answer.is_load_local_packet():
            raise Terminal("the target took a load without asking for its rows")
        try:
            for portion in rows:
                connection.write_packet(portion)
        finally:
            connection.write_packet(b"")
            done = OKPacketWrapper(connection._read_packet())
        return int(done.affected_rows), int(done.warning_count)

    def _warning(self) -> PoisonRow:
        for _, number, text in self.rows("SHOW WARNINGS LIMIT 1"):
            return refused(number, text, known_row=True)
        return PoisonRow("the target warned of a row and did not say why", reason="refused")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        self.run("START TRANSACTION")
        try:
            yield
            self.run("COMMIT")
        except BaseException:
            self._undo("ROLLBACK")
            raise

    def roll_back_to(self, savepoint: str, error: BaseException) -> None:
        statement = f"ROLLBACK TO SAVEPOINT {savepoint}"
        if isinstance(error, Poison):
            self.run(statement)
        else:  # a deadlock has ended the transaction
            self._undo(statement)

    def _undo(self, statement: str) -> None:
        """After an error that says more than this one would: what is not undone ends with the connection."""
        try:
            self.run(statement)
        except (Transient, Terminal):
            if statement == "ROLLBACK":
                self._connection._force_close()  # type: ignore[attr-defined]

    @contextmanager
    def exclusively(self) -> Iterator[None]:
        """A CREATE can't be rolled back here, and commits what is open: never inside a transaction."""
        if self.rows(f"SELECT GET_LOCK('{_LOCK}', {_LOCK_WAIT_S})") != [(1,)]:
            raise Transient("another worker is preparing its tables", hint="it is retried")
        try:
            yield
        finally:
            self._undo(f"DO RELEASE_LOCK('{_LOCK}')")

    def has_table(self, name: str) -> bool:
        return self.has_table_in(self.name, name)

    def has_table_in(self, database: str, name: str) -> bool:
        query = "SELECT 1 FROM information_schema.tables WHERE table_schema = ? AND table_name = ?"
        return bool(self.rows(query, (database, name)))

    def on_conflict(self, key: Sequence[str], assign: Mapping[str, str] | None = None) -> str:
        texts = {column: text.format(new=f"VALUES({column})") for column, text in (assign or {}).items()}
        assignments = texts or {key[0]: key[0]}
        return " ON DUPLICATE KEY UPDATE " + ", ".join(f"{column} = {text}" for column, text in assignments.items())

    def close(self) -> None:
        if self._connection.open:
            self._connection.close()


def open_database(
    settings: DatabaseSettings, database: str, session: Mapping[str, str] | None = None
) -> MariaDbDatabase:
    """A connection with the entry's account; `database`: that of the state; `session`: see there. Raises `Transient`
    or `Terminal`."""
    return MariaDbDatabase(
        lambda: mariadb.connect(settings, database=database, flags=FLAGS, read_timeout_s=READ_TIMEOUT_S), session
    )


def is_duplicate_key(error: PoisonRow, key: str) -> bool:
    """Whether a row met another one of its key in the index `key`, by the place that mariadb_errors.py read."""
    return error.reason == "unique_violation" and (error.where or "").rpartition(".")[2] == key


def _marked(statement: str) -> str:
    return statement.replace("%", "%%").replace("?", "%s")


def _portions(rows: Iterable[str]) -> Iterator[list[str]]:
    """Rows for one statement each: far below max_allowed_packet, unless a single row is not."""
    portion: list[str] = []
    size = 0
    for row in rows:
        portion.append(row)
        size += len(row)
        if size > _STATEMENT_BYTES:
            yield portion
            portion, size = [], 0
    if portion:
        yield portion
