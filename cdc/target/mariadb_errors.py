"""PyMySQL's errors as ours, by the server's error number and never by text. Row values (they occur in server messages)
stay out: of a message only the quoted names at its end are read, in the server's English (see mariadb_database.py)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pymysql
from pymysql.constants import CR, ER

from cdc.errors import CdcError, Terminal, Transient
from cdc.target.base import PoisonRow

NO_LOCAL_INFILE = (1148, 3948, 4166)  # MariaDB before 10.5, MySQL, MariaDB

_REASONS = {
    ER.BAD_NULL_ERROR: "not_null_violation",
    1263: "not_null_violation",  # NULL for a NOT NULL column, said by LOAD DATA
    1364: "not_null_violation",  # no default
    ER.DUP_ENTRY: "unique_violation",
    1586: "unique_violation",
    ER.NO_REFERENCED_ROW: "foreign_key_missing",
    ER.NO_REFERENCED_ROW_2: "foreign_key_missing",
    ER.ROW_IS_REFERENCED: "foreign_key_referenced",
    ER.ROW_IS_REFERENCED_2: "foreign_key_referenced",
    4025: "check_violation",  # MariaDB
    3819: "check_violation",  # MySQL
    1644: "raised_by_trigger",
}
_VALUES = frozenset(
    {
        1264,  # out of range
        1265,  # data truncated
        1292,  # truncated wrong value
        1366,  # incorrect value
        1367,  # illegal value
        1406,  # too long
        1411,
        1441,  # datetime function overflow
        1690,  # out of range in an expression
        1977,  # no such character in the column's character set
        3140,
        4038,  # JSON
        1261,
        1262,  # fewer or more fields than columns
    }
)
_TRANSIENT = {
    ER.LOCK_DEADLOCK: "it is retried",
    ER.LOCK_WAIT_TIMEOUT: "somebody holds a lock on what is written; who: SELECT * FROM information_schema.innodb_trx",
    1020: "it is retried",  # a row changed since it was read
    ER.LOCK_TABLE_FULL: "raise innodb_buffer_pool_size",
    ER.CON_COUNT_ERROR: "raise max_connections",
    ER.USER_LIMIT_REACHED: None,
    ER.SERVER_SHUTDOWN: None,
    ER.QUERY_INTERRUPTED: None,
    1927: None,  # connection killed
    1969: "a statement took longer than max_statement_time",
    ER.DISK_FULL: "the server's disk is full",
    1114: "the table or its disk is full",
    ER.OUT_OF_RESOURCES: None,
    ER.OUTOFMEMORY: None,
    ER.OPTION_PREVENTS_STATEMENT: "the server is read-only: a fail-over under way?",
    1836: "the server is read-only: a fail-over under way?",
    4031: None,  # MySQL: disconnected for being idle
}
_CALLED = {ER.LOCK_DEADLOCK: "deadlock", ER.LOCK_WAIT_TIMEOUT: "a lock was not granted in time"}
_TERMINAL = {
    ER.NET_PACKET_TOO_LARGE: "SET GLOBAL max_allowed_packet=67108864; it must be twice the size of the largest record",
    1665: "set binlog_format=ROW (or MIXED) at the target: READ COMMITTED needs it",
    **dict.fromkeys(NO_LOCAL_INFILE, "SET GLOBAL local_infile=ON at the target: rows are loaded that way"),
}
_LOST = (CR.CR_SERVER_GONE_ERROR, CR.CR_SERVER_LOST, CR.CR_CONN_HOST_ERROR, CR.CR_COMMANDS_OUT_OF_SYNC, 0)

_NAMES = (
    re.compile(r"for key '([^']*)'(?: at row \d+)?$"),
    re.compile(r"(?:for )?column ((?:`[^`]*`\.?)+|'[^']*')(?: at row \d+)?$", re.IGNORECASE),
    re.compile(r"^Column ('[^']*') cannot be null", re.IGNORECASE),
    re.compile(r"^Field ('[^']*') doesn't have"),
    re.compile(r"^CONSTRAINT (`[^`]*`) failed"),
    re.compile(r"^Cannot (?:add|delete).* CONSTRAINT (`[^`]*`) FOREIGN KEY"),
    re.compile(r"^Check constraint ('[^']*')"),
)
_ROW = re.compile(r"at row (\d+)$")


@contextmanager
def translated() -> Iterator[None]:
    """Raise `Transient`, `Terminal` or `PoisonRow` in place of PyMySQL's errors."""
    try:
        yield
    except pymysql.Error as error:
        raise translate(error) from error
    except OSError as error:
        raise Transient("the connection to the target was lost", hint="it is retried; is the server up?") from error
    except UnicodeEncodeError as error:
        raise PoisonRow("a text that is no Unicode", reason="value_out_of_range") from error


def translate(error: pymysql.Error) -> CdcError:
    arguments: tuple[Any, ...] = error.args or (0,)
    number, text = arguments[0], str(arguments[1]) if len(arguments) > 1 else ""
    if number in _LOST or isinstance(error, pymysql.InterfaceError) or not isinstance(number, int):
        return Transient("the connection to the target was lost", hint="it is retried; is the server up?")
    if number in _REASONS or number in _VALUES:
        return refused(number, text)
    if number in _TRANSIENT:
        what = f"{_CALLED[number]} ({number})" if number in _CALLED else number
        return Transient(f"the target answered {what}", hint=_TRANSIENT[number])
    hint = _TERMINAL.get(number, "see the table's definition and this user's privileges (SHOW GRANTS)")
    return Terminal(f"the target refuses the statement: {text} ({number})", hint=hint)


def refused(number: int, text: str, *, known_row: bool = False) -> PoisonRow:
    """A row that the target does not take. `known_row`: the message's row number counts the rows that were sent."""
    name = place_of(text)
    reason = _REASONS.get(number, "value_out_of_range")
    row = _ROW.search(text) if known_row else None
    what = f"the target refuses the row: {reason} ({number})" + (f", {name}" if name else "")
    return PoisonRow(what, reason=reason, index=int(row[1]) - 1 if row else None, where=name)


def place_of(text: str) -> str | None:
    """The key, column or constraint that a message of the server names."""
    for pattern in _NAMES:
        found = pattern.search(text)
        if found is not None:
            return re.sub(r"[`']", "", found[1])
    return None
