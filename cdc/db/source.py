"""One captured database, whatever its kind: what the rooms above need to know of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from cdc.db import mariadb, postgres
from cdc.db.catalog import CatalogTable, LogPosition, SourceIdentity
from cdc.errors import Transient
from cdc.settings import SourceSettings


class SourceDatabase(Protocol):
    """A connection to a captured database. Reads only. A lost connection is `Transient`; use it on one thread."""

    settings: SourceSettings

    def identity(self) -> SourceIdentity:
        """Whose log this is and where it ends now."""

    def current_position(self) -> LogPosition:
        """Where the log ends now: every change that anybody can see stands before it."""

    def mark_position(self) -> LogPosition:
        """As `current_position`, and sees to it that the log goes on beyond, if the kind of database can do that
        without a table, so that a capture of an idle source passes the position."""

    def catalog(self, namespaces: Sequence[str], tables: Sequence[str] | None = None) -> tuple[CatalogTable, ...]:
        """Tables of PostgreSQL schemas or MariaDB databases."""

    def close(self) -> None: ...


def connect_source(settings: SourceSettings) -> SourceDatabase:
    """Raises `Transient` or `Terminal` as `connect` of its kind does."""
    return PostgresSource(settings) if settings.kind == "postgresql" else MariadbSource(settings)


@contextmanager
def _readable(where: str) -> Iterator[None]:
    """A connection that breaks in use is an outage."""
    try:
        yield
    except (postgres.LOST, *mariadb.LOST) as error:
        text = str(error.args[-1] if error.args else error).strip() or type(error).__name__
        raise Transient(text, where=where, hint="is the server up and reachable from here?") from error


class PostgresSource:
    def __init__(self, settings: SourceSettings) -> None:
        self.settings = settings
        self.connection = postgres.connect(settings, application_name="cdc source")

    def identity(self) -> SourceIdentity:
        with _readable(self.settings.where):
            return postgres.identity(self.connection)

    def current_position(self) -> LogPosition:
        with _readable(self.settings.where):
            return postgres.current_position(self.connection)

    def mark_position(self) -> LogPosition:
        with _readable(self.settings.where):
            return postgres.mark_position(self.connection)

    def catalog(self, namespaces: Sequence[str], tables: Sequence[str] | None = None) -> tuple[CatalogTable, ...]:
        with _readable(self.settings.where):
            return postgres.catalog(self.connection, namespaces, tables)

    def close(self) -> None:
        self.connection.close()


class MariadbSource:
    def __init__(self, settings: SourceSettings) -> None:
        self.settings = settings
        self.connection = mariadb.connect(settings)

    def identity(self) -> SourceIdentity:
        with _readable(self.settings.where):
            return mariadb.identity(self.connection)

    def current_position(self) -> LogPosition:
        with _readable(self.settings.where):
            return mariadb.current_position(self.connection)

    def mark_position(self) -> LogPosition:
        return self.current_position()

    def catalog(self, namespaces: Sequence[str], tables: Sequence[str] | None = None) -> tuple[CatalogTable, ...]:
        with _readable(self.settings.where):
            return mariadb.catalog(self.connection, namespaces, tables)

    def close(self) -> None:
        if self.connection.open:
            self.connection.close()
