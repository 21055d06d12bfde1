"""What the entries of connections.yaml may say; settings.py reads them.

Another kind of target: a model here, its line in `TARGET_KINDS`, and in `TargetSettings` where it keeps state.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from cdc.references import Secret

SourceKind = Literal["postgresql", "mariadb"]


class Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Tls(Entry):
    """TLS of a connection. The modes are libpq's: `require` encrypts, `verify-ca` and `verify-full` also check the
    server's certificate (against `ca`, a PEM file, else the system's) and its name. `certificate`/`key`: a client's."""

    mode: Literal["disable", "require", "verify-ca", "verify-full"] = "verify-full"
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def context(self) -> ssl.SSLContext:
        """For HTTP clients."""
        context = ssl.create_default_context(cafile=self.ca)
        context.check_hostname = self.mode == "verify-full"
        if self.mode in {"require", "disable"}:
            context.verify_mode = ssl.CERT_NONE
        if self.certificate is not None:
            context.load_cert_chain(self.certificate, self.key)
        return context


class Sasl(Entry):
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]
    user: str
    password: Secret


class KafkaSettings(Entry):
    """`bootstrap`: host:port, several with commas. With `tls`, `sasl` or both the protocol is SSL, SASL_…"""

    bootstrap: str
    tls: Tls | None = None
    sasl: Sasl | None = None

    @property
    def protocol(self) -> str:
        encrypted = self.tls is not None and self.tls.mode != "disable"
        if self.sasl is not None:
            return "SASL_SSL" if encrypted else "SASL_PLAINTEXT"
        return "SSL" if encrypted else "PLAINTEXT"


class Account(Entry):
    user: str
    password: Secret | None = None


class ConnectSettings(Entry):
    """Kafka Connect's REST interface. `account`: HTTP basic authentication."""

    url: Annotated[str, Field(pattern="^https?://")]
    account: Account | None = None
    tls: Tls | None = None
    timeout_s: float = Field(default=10.0, gt=0, le=120)


class DatabaseSettings(Entry):
    """A database and the account to reach it with. `admin`: an account that may create roles and databases; only
    `cdc demo prepare` uses it."""

    host: str
    port: int = Field(ge=1, le=65535)
    user: str
    password: Secret | None = None
    tls: Tls | None = None
    connect_timeout_s: int = Field(default=10, ge=1, le=300)
    admin: Account | None = None


def _as_tuple(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


class SourceSettings(DatabaseSettings):
    """A captured database. `name` and the connector's name are its key in the file; `connector` is the connector's
    JSON, relative to connections.yaml (default <name>.json). PostgreSQL has exactly one database."""

    name: str
    kind: SourceKind
    databases: Annotated[tuple[str, ...], BeforeValidator(_as_tuple), Field(alias="database", min_length=1)]
    connector: Path

    @property
    def database(self) -> str:
        return self.databases[0]

    @property
    def where(self) -> str:
        return f"source {self.name}: {self.kind}://{self.host}:{self.port}/{self.database}"


class PostgresTargetSettings(DatabaseSettings):
    """A PostgreSQL database that pipelines write to. `session`: server parameters of the applier's connections
    (`synchronous_commit: "off"`, `work_mem: 64MB`)."""

    name: str
    kind: Literal["postgresql"]
    database: str
    application_name: str = "cdc"
    session: dict[str, str] = {}

    @property
    def where(self) -> str:
        return f"target {self.name}: {self.kind}://{self.host}:{self.port}/{self.database}"


class SqliteTargetSettings(Entry):
    """A SQLite file that pipelines write to, made when it is not there. `path` is relative to connections.yaml.
    `wait_s`: how long a writer waits for the others, one of which may write at a time. `durable`: a commit survives a
    power cut; without, it survives a crash of the process only."""

    name: str
    kind: Literal["sqlite"]
    path: Path
    wait_s: float = Field(default=30.0, gt=0, le=600)
    durable: bool = True

    @property
    def where(self) -> str:
        return f"target {self.name}: {self.kind}:{self.path}"


class MariaDbTargetSettings(DatabaseSettings):
    """A MariaDB or MySQL server that pipelines write to; `to: hub.people` is the table people of its database hub.
    `database`: where the applier's own tables are; it must be there."""

    name: str
    kind: Literal["mariadb"]
    database: str

    @property
    def where(self) -> str:
        return f"target {self.name}: {self.kind}://{self.host}:{self.port}/{self.database}"


TargetSettings: TypeAlias = (  # databases: they keep state
    PostgresTargetSettings | MariaDbTargetSettings | SqliteTargetSettings
)


class OAuth2(Entry):
    """Client credentials (RFC 6749, 4.4). The token is kept until shortly before it expires."""

    token_url: Annotated[str, Field(pattern="^https?://")]
    client_id: str
    client_secret: Secret
    scope: str | None = None


class ApiKey(Entry):
    """A key in a header."""

    header: str = "X-Api-Key"
    api_key: Secret


class RestAuth(Entry):
    """How a REST target knows us: one of these. A client's certificate is in `tls`, and may be all."""

    oauth2: OAuth2 | None = None
    basic: Account | None = None
    key: ApiKey | None = None


Answer = Literal["acknowledged", "transient", "poison", "terminal"]


class RestSettings(Entry):
    """A REST API that pipelines write to. Everything the engine must remember about it is kept in the database of the
    target that `state` names (default: the control database).

    `rate`: most requests a second; `concurrency`: most at a time, never two of one row. A request is tried for
    `retry_for_s`; after `breaker_failures` failures in a row nothing is sent for `breaker_s`. `statuses` says what HTTP
    statuses mean where the table in README.md does not fit. `ledger_days`: how long settled deliveries are kept.
    """

    name: str
    kind: Literal["rest"]
    url: Annotated[str, Field(pattern=r"^https?://[^@?#]+$")]
    state: str | None = None
    auth: RestAuth = RestAuth()
    tls: Tls | None = None
    headers: dict[str, str] = {}
    idempotency_header: str = "Idempotency-Key"
    timeout_s: float = Field(default=10.0, gt=0, le=300)
    concurrency: int = Field(default=8, ge=1, le=256)
    rate: float | None = Field(default=None, gt=0)
    retry_for_s: float = Field(default=10.0, ge=0, le=600)
    breaker_failures: int = Field(default=5, ge=1)
    breaker_s: float = Field(default=5.0, gt=0, le=600)
    statuses: dict[int, Answer] = {}
    ledger_days: int = Field(default=90, ge=1)

    @property
    def where(self) -> str:
        return f"target {self.name}: {self.url}"


TARGET_KINDS: dict[str, type[TargetSettings] | type[RestSettings]] = {
    "postgresql": PostgresTargetSettings,
    "mariadb": MariaDbTargetSettings,
    "sqlite": SqliteTargetSettings,
    "rest": RestSettings,
}
"""What an entry of `targets` may be, by its `kind`. Another kind of database has its settings here and in the alias."""


class MaskingKey(Entry):
    """A set of keys that masked values and sealed records are made with: its versions, and the current one."""

    current: str
    versions: Annotated[dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")], Secret], Field(min_length=1)]


class ControlSettings(Entry):
    target: str
