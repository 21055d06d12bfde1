"""Where a client finds the parts of a stack."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from . import mariadb, postgres
from .home import Choices
from .part import HOST


@dataclass(frozen=True)
class Server:
    """A database server and its administrator (who may do everything, replication included)."""

    host: str
    port: int
    user: str
    password: str

    def url(self, scheme: str, database: str) -> str:
        """`scheme`://user:password@host:port/database. (The passwords hold nothing that a URL would have to escape.)"""
        return f"{scheme}://{self.user}:{self.password}@{self.host}:{self.port}/{database}"


@dataclass(frozen=True)
class Endpoints:
    """The addresses of one stack. They hold passwords: don't print them whole."""

    kafka: str
    """host:port, as `bootstrap_servers`."""
    connect_url: str
    postgres: Server
    mariadb: Server
    partner_url: str
    partner_secret: str
    secrets_file: Path
    """Properties file with `postgres.password`, `mariadb.password` and `partner.secret`, for `${file:...:...}`."""

    def postgres_dsn(self, database: str = "postgres") -> str:
        """A URL that psycopg and libpq accept."""
        return self.postgres.url("postgresql", database)


def endpoints_of(choices: Choices, secrets_file: Path) -> Endpoints:
    ports = choices.ports
    return Endpoints(
        kafka=f"{HOST}:{ports['kafka']}",
        connect_url=f"http://{HOST}:{ports['connect']}",
        postgres=Server(HOST, ports["postgres"], postgres.USER, choices.postgres_password),
        mariadb=Server(HOST, ports["mariadb"], mariadb.USER, choices.mariadb_password),
        partner_url=f"http://{HOST}:{ports.get('partner', 0)}",
        partner_secret=choices.partner_secret,
        secrets_file=secrets_file,
    )
