"""Kafka Connect's REST interface: typed answers, bounded retries, readable errors.

A connector that says RUNNING with a FAILED task captures nothing, so every status here holds the tasks, and
`ConnectorStatus.problem` looks at both.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias, TypeVar
from urllib.parse import quote

import httpx
import msgspec

from cdc.control.traces import meaning
from cdc.entries import ConnectSettings
from cdc.errors import CdcError, Terminal, Transient
from cdc.retry import retrying

RETRY_FOR_S = 60.0
"""How long a worker may be away, or a rebalance last (409), before a call fails. A restarting worker takes 10-30 s."""
ANSWERS_WITHIN_S = 5.0
"""The same for a person who asks and waits."""
SERVER_ERROR_FOR_S = 10.0
"""How long a 500 is asked again. A worker says it while it starts, but also for good: a secret it cannot look up."""
POLL_S = 0.2
"""How often a state is asked for while waiting for it."""
PATIENCE_S = 5.0
"""How long `wait_running` lets a connector be FAILED or unknown before it believes it: right after a change of the
configuration the worker still shows the state of before."""

State: TypeAlias = Literal["UNASSIGNED", "RUNNING", "PAUSED", "STOPPED", "FAILED", "RESTARTING", "DESTROYED"]
Config: TypeAlias = dict[str, str]
Partition: TypeAlias = dict[str, Any]
T = TypeVar("T")


class Info(msgspec.Struct, frozen=True):
    version: str
    commit: str
    kafka_cluster_id: str


class Plugin(msgspec.Struct, frozen=True, rename={"cls": "class"}):
    cls: str
    type: str
    version: str | None = None


class Part(msgspec.Struct, frozen=True):
    """The state of a connector or of one of its tasks. `trace` only when FAILED."""

    state: State
    worker_id: str = ""
    trace: str = ""
    id: int = 0

    @property
    def meaning(self) -> str:
        return meaning(self.trace)


class ConnectorStatus(msgspec.Struct, frozen=True):
    name: str
    connector: Part
    tasks: list[Part]
    type: str = "source"

    @property
    def state(self) -> State:
        """The worst of connector and tasks: FAILED if any is."""
        states: list[State] = [self.connector.state, *(task.state for task in self.tasks)]
        if "FAILED" in states:
            return "FAILED"
        return next((state for state in states if state != self.connector.state), self.connector.state)

    @property
    def running(self) -> bool:
        """The connector and every task run, and there is a task."""
        return bool(self.tasks) and self.state == "RUNNING"

    @property
    def problem(self) -> str | None:
        """What a failed connector or task says, in one line; None when none has failed."""
        for part, name in ((self.connector, "connector"), *((task, f"task {task.id}") for task in self.tasks)):
            if part.state == "FAILED":
                return f"{name} of {self.name} has failed: {part.meaning or 'without a trace'}"
        return None


class Offset(msgspec.Struct, frozen=True):
    """How far a source connector has come for one of its own partitions; both are the connector's own words.
    `offset` None in a patch: forget it."""

    partition: Partition
    offset: dict[str, Any] | None


class ConfigError(msgspec.Struct, frozen=True):
    """What `validate` says about one setting."""

    name: str
    value: str | None
    messages: tuple[str, ...]


class _Offsets(msgspec.Struct):
    offsets: list[Offset]


class Connect:
    """A Connect cluster. Calls retry while the worker is away (refused, 5xx) or rebalances (409), up to
    `retry_for_s`, then raise `Transient`; what the worker refuses is `Terminal` with its words. Unknown connectors are
    `Terminal` too. Safe to use from several threads."""

    def __init__(
        self,
        settings: ConnectSettings,
        *,
        retry_for_s: float = RETRY_FOR_S,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.url = settings.url.rstrip("/")
        self._retry_for_s = retry_for_s
        self._clock = clock
        self._sleep = sleep
        account = settings.account
        auth = None
        if account is not None:
            secret = account.password.resolve().get_secret_value() if account.password else ""
            auth = httpx.BasicAuth(account.user, secret)
        # trust_env=False: a proxy configured for the outer world must not be asked for our own workers.
        self._http = httpx.Client(
            base_url=self.url,
            timeout=settings.timeout_s,
            auth=auth,
            verify=True if settings.tls is None else settings.tls.context(),
            trust_env=False,
        )

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Connect:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- the cluster ---------------------------------------------------------------------------------------------

    def info(self) -> Info:
        return msgspec.convert(self._call("GET", "/"), Info)

    def plugins(self) -> list[Plugin]:
        return msgspec.convert(self._call("GET", "/connector-plugins"), list[Plugin])

    def names(self) -> list[str]:
        return msgspec.convert(self._call("GET", "/connectors"), list[str])

    def configs(self) -> dict[str, Config]:
        """Every connector's configuration, as it was put."""
        found = self._call("GET", "/connectors?expand=info")
        return {name: msgspec.convert(each["info"]["config"], Config) for name, each in found.items()}

    def statuses(self) -> dict[str, ConnectorStatus]:
        """Every connector with its tasks."""
        found = self._call("GET", "/connectors?expand=status")
        return {name: msgspec.convert(each["status"], ConnectorStatus) for name, each in found.items()}

    # -- one connector -------------------------------------------------------------------------------------------

    def status(self, name: str) -> ConnectorStatus:
        return msgspec.convert(self._call("GET", _path(name, "status")), ConnectorStatus)

    def config(self, name: str) -> Config:
        """As it was put: references to secrets are still references."""
        return msgspec.convert(self._call("GET", _path(name, "config")), Config)

    def put_config(self, name: str, config: Mapping[str, str]) -> None:
        """Create the connector or change its configuration (which restarts its tasks)."""
        self._call("PUT", _path(name, "config"), dict(config))

    def validate(self, config: Mapping[str, str]) -> list[ConfigError]:
        """What the connector's own check finds. It is no preflight: missing privileges and misspelt keys pass."""
        cls = quote(config["connector.class"], safe="")
        found = self._call("PUT", f"/connector-plugins/{cls}/config/validate", dict(config))
        values = [each["value"] for each in found["configs"]]
        return [
            ConfigError(value["name"], value.get("value"), tuple(value["errors"]))
            for value in values
            if value["errors"]
        ]

    def pause(self, name: str) -> None:
        self._call("PUT", _path(name, "pause"))

    def resume(self, name: str) -> None:
        self._call("PUT", _path(name, "resume"))

    def stop(self, name: str) -> None:
        """Ends the tasks but keeps configuration and offsets; only a stopped connector's offsets may be changed."""
        self._call("PUT", _path(name, "stop"))

    def restart(self, name: str, *, only_failed: bool = False) -> None:
        """Restart the connector and its tasks, or only those that failed."""
        failed = "true" if only_failed else "false"
        self._call("POST", _path(name, f"restart?includeTasks=true&onlyFailed={failed}"))

    def restart_task(self, name: str, task: int) -> None:
        self._call("POST", _path(name, f"tasks/{task}/restart"))

    def delete(self, name: str) -> None:
        """Remove the connector; one that does not exist is removed already. Slots and topics stay, offsets too."""
        self._call("DELETE", _path(name), gone_is_fine=True)

    # -- offsets -------------------------------------------------------------------------------------------------

    def offsets(self, name: str) -> list[Offset]:
        """The committed offsets, at most one flush interval old."""
        return msgspec.convert(self._call("GET", _path(name, "offsets")), _Offsets).offsets

    def patch_offsets(self, name: str, offsets: list[Offset]) -> str:
        """Set offsets of a stopped connector; returns the worker's words.

        The worker accepts partitions that don't exist, so those that `offsets` does not list are refused here. That a
        source can still *serve* the offset is not checked: see STACK.md on PostgreSQL slots.
        """
        known = [each.partition for each in self.offsets(name)]
        for each in offsets:
            if each.partition not in known:
                raise Terminal(
                    f"connector {name} has no partition {each.partition}",
                    where=self.url,
                    hint=f"it has {', '.join(map(str, known)) or 'none yet'}",
                )
        body = msgspec.to_builtins(_Offsets(offsets))
        return str(self._call("PATCH", _path(name, "offsets"), body)["message"])

    def delete_offsets(self, name: str) -> str:
        """Forget all offsets of a stopped connector: it will take its snapshot again."""
        return str(self._call("DELETE", _path(name, "offsets"))["message"])

    # -- waiting -------------------------------------------------------------------------------------------------

    def wait_running(self, name: str, deadline_s: float = 60.0, *, settle_s: float = 0.0) -> ConnectorStatus:
        """Wait until the connector and all its tasks run, and go on doing so for `settle_s`: a task says RUNNING before
        it has opened its connections. Raises `Terminal` with the worker's reason when they have failed for
        `PATIENCE_S`, `Transient` when it takes longer than `deadline_s`."""
        since: float | None = None

        def settled(status: ConnectorStatus) -> bool:
            nonlocal since
            if not status.running:
                since = None
                return False
            since = self._clock() if since is None else since
            return self._clock() - since >= settle_s

        return self.wait_state(name, settled, "running", deadline_s)

    def wait_stopped(self, name: str, deadline_s: float = 60.0) -> ConnectorStatus:
        def stopped(status: ConnectorStatus) -> bool:
            return status.connector.state == "STOPPED" and not status.tasks

        return self.wait_state(name, stopped, "stopped", deadline_s)

    def wait_failed(self, name: str, deadline_s: float = 60.0) -> ConnectorStatus:
        """Wait until the connector or a task has failed: for tests and fault drills."""
        return self.wait_state(name, lambda status: status.problem is not None, "failed", deadline_s)

    def wait_state(
        self, name: str, wanted: Callable[[ConnectorStatus], bool], word: str, deadline_s: float
    ) -> ConnectorStatus:
        start = self._clock()
        while True:
            status = self._status_or_none(name)
            if status is not None and wanted(status):
                return status
            waited = self._clock() - start
            if status is not None and status.problem and waited > min(PATIENCE_S, deadline_s):
                raise Terminal(
                    status.problem, where=self.url, hint="cdc source status shows the whole trace with -o json"
                )
            if waited > deadline_s:
                state = "unknown to the worker" if status is None else status.state
                raise Transient(f"connector {name} is not {word} after {deadline_s:.0f} s: {state}", where=self.url)
            self._sleep(POLL_S)

    def _status_or_none(self, name: str) -> ConnectorStatus | None:
        """A new connector has no status until the cluster has read it back from its own topic."""
        found = self._call("GET", _path(name, "status"), gone_is_fine=True)
        return None if found is None else msgspec.convert(found, ConnectorStatus)

    # -- HTTP ----------------------------------------------------------------------------------------------------

    def _call(self, method: str, path: str, body: Any = None, *, gone_is_fine: bool = False) -> Any:
        failing: float | None = None

        def once() -> Any:
            nonlocal failing
            try:
                return self._once(method, path, body, gone_is_fine)
            except _ServerError as error:
                failing = self._clock() if failing is None else failing
                if self._clock() - failing < SERVER_ERROR_FOR_S:
                    raise
                raise Terminal(error.what, where=error.where, hint="the worker's log says more") from error

        return retrying(once, for_seconds=self._retry_for_s, max_wait=2.0, sleep=self._sleep)

    def _once(self, method: str, path: str, body: Any, gone_is_fine: bool) -> Any:
        where = f"{method} {self.url}{path}"
        try:
            answer = self._http.request(method, path, json=body)
        except httpx.TransportError as error:
            text = str(error) or type(error).__name__
            raise Transient(
                f"Kafka Connect does not answer: {text}", where=where, hint="is the worker up, is connect.url right?"
            ) from error
        if answer.status_code == httpx.codes.NOT_FOUND and gone_is_fine:
            return None
        if answer.is_success:
            return answer.json() if answer.content else None
        raise _refusal(answer, where)


class _ServerError(Transient):
    """A 500: transient only for a while."""


def _refusal(answer: httpx.Response, where: str) -> CdcError:
    try:
        text = str(answer.json()["message"]).strip()
    except (ValueError, KeyError, TypeError):
        text = answer.text.strip()[:500]
    code = answer.status_code
    if code == httpx.codes.CONFLICT:
        return Transient(f"Kafka Connect is rebalancing: {text}", where=where)
    if answer.is_server_error:
        error = _ServerError if code == httpx.codes.INTERNAL_SERVER_ERROR else Transient
        return error(f"Kafka Connect answers {code}: {meaning(text) or text}", where=where)
    if code in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
        return Terminal(f"Kafka Connect lets us not in ({code})", where=where, hint="check connect.account")
    hint = "cdc source list shows the connectors there are" if code == httpx.codes.NOT_FOUND else None
    return Terminal(f"Kafka Connect refuses ({code}): {text}", where=where, hint=hint)


def _path(name: str, rest: str = "") -> str:
    return f"/connectors/{quote(name, safe='')}{'/' + rest if rest else ''}"
