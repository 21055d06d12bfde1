"""What a database says about itself, the same for every kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

ReplicaIdentity = Literal["default", "full", "index", "nothing"]


@dataclass(frozen=True)
class CatalogColumn:
    """`native`: the type's own name without modifiers, as `cdc.model.ColumnType.native` has it: PostgreSQL's internal
    ones ('int4', '_text' for text[]; a domain goes by the type it is made of), MariaDB's 'bigint unsigned'.
    `declared`: as a definition would write it ('numeric(12,2)').

    `large`: the server may store it apart from the row, so that an unchanged value does not reach the log
    (PostgreSQL's TOAST, with a replica identity other than FULL)."""

    name: str
    native: str
    declared: str
    nullable: bool
    comment: str = ""
    generated: bool = False
    large: bool = False


@dataclass(frozen=True)
class CatalogTable:
    """`key`: the primary key's columns in its order, empty without one. `rows`: the server's estimate, None when it has
    none. `replica_identity` is PostgreSQL's; MariaDB's binlog holds whole rows: 'full'."""

    namespace: str
    name: str
    columns: tuple[CatalogColumn, ...]
    key: tuple[str, ...]
    comment: str = ""
    replica_identity: ReplicaIdentity = "full"
    rows: int | None = None

    @property
    def full_name(self) -> str:
        return f"{self.namespace}.{self.name}"

    def column(self, name: str) -> CatalogColumn | None:
        return next((each for each in self.columns if each.name == name), None)


class LogPosition(NamedTuple):
    """A place in a source's log, comparable within one log: (lsn, lsn) for PostgreSQL, (binlog file number, pos) for
    MariaDB: the first two numbers of `cdc.model.Position` for a change that is committed there."""

    major: int
    minor: int


@dataclass(frozen=True)
class SourceIdentity:
    """Whose log this is, and where it ends now.

    When positions fall, a redelivery comes from the same `identity` and `timeline` with `position` not before the
    newest position seen; anything else is another log (restored, re-created, failed over with a loss): a new epoch.
    `position_text` is the position in the server's own notation.
    """

    identity: str
    timeline: str
    position: LogPosition
    position_text: str


@dataclass(frozen=True)
class Slot:
    """A logical replication slot of PostgreSQL. `retained_bytes`: log that the server keeps for it; `wal_status` as the
    server says it: reserved, extended, unreserved (about to be lost), lost. `reader`: a process id, None when nobody
    reads it."""

    name: str
    database: str
    reader: int | None
    confirmed: int | None
    retained_bytes: int
    wal_status: str
