"""One captured database, whatever its kind: what the rooms above need to know of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from cdc.db import mariadb, postgres
from cdc.db.catalog import CatalogTable, LogPosition, Slot, SourceIdentity
from cdc.entries import SourceSettings
from cdc.errors import Transient


class SourceDatabase(Protocol):
    """A connection to a captured database. Reads only. A lost connection is `Transient`; use it on one thread."""

    settings: SourceSettings

    def identity(self) -> SourceIdentity:
        """Whose log this is and where it ends now."""

    def current_position(self) -> LogPosition:
        """Where the log ends now: every change that anybody can see stands before it."""

    def mark(self, signal_table: str | None) -> None:
        """See to it that the log goes on after this moment, so that the capture of an idle source passes it.

        MariaDB does that through the connector's signal table and does nothing without one; PostgreSQL needs none.
        """

    def signal(self, signal_table: str, name: str, kind: str, data: str) -> None:
        """Ask the connector for something through its signal table; `name` is the request's. `Terminal` when this
        account may not write there."""

    def signals(self, signal_table: str, kind: str) -> int:
        """How many lines of this kind the signal table holds."""

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

    def mark(self, signal_table: str | None) -> None:
        with _readable(self.settings.where):
            postgres.mark(self.connection)

    def signal(self, signal_table: str, name: str, kind: str, data: str) -> None:
        with _readable(self.settings.where):
            postgres.signal(self.connection, signal_table, name, kind, data)

    def signals(self, signal_table: str, kind: str) -> int:
        with _readable(self.settings.where):
            return postgres.signals(self.connection, signal_table, kind)

    def catalog(self, namespaces: Sequence[str], tables: Sequence[str] | None = None) -> tuple[CatalogTable, ...]:
        with _readable(self.settings.where):
            return postgres.catalog(self.connection, namespaces, tables)

    def slot(self, name: str) -> Slot | None:
        with _readable(self.settings.where):
            return postgres.slot(self.connection, name)

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

    def mark(self, signal_table: str | None) -> None:
        if signal_table is not None:
            with _readable(self.settings.where):
                mariadb.mark(self.connection, signal_table)

    def signal(self, signal_table: str, name: str, kind: str, data: str) -> None:
        with _readable(self.settings.where):
            mariadb.signal(self.connection, signal_table, name, kind, data)

    def signals(self, signal_table: str, kind: str) -> int:
        with _readable(self.settings.where):
            return mariadb.signals(self.connection, signal_table, kind)

    def catalog(self, namespaces: Sequence[str], tables: Sequence[str] | None = None) -> tuple[CatalogTable, ...]:
        with _readable(self.settings.where):
            return mariadb.catalog(self.connection, namespaces, tables)

    def close(self) -> None:
        if self.connection.open:
            self.connection.close()
