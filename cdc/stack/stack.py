"""One local stack: start, stop, look at and break its five parts."""

from __future__ import annotations

import hashlib
import random
import signal
import threading
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, Protocol, get_args

from . import components, logs, process, tools
from .account import Account, database_account
from .components import Cache
from .connect import Connect
from .endpoints import Endpoints, endpoints_of
from .errors import StackError
from .home import Home, Run
from .kafka import Kafka
from .mariadb import MariaDb
from .part import NotReady, Part, PartName, Setting, end_of
from .partner import PartnerPart
from .patience import Patience
from .postgres import Postgres

PARTS: tuple[PartName, ...] = get_args(PartName)
State = Literal["ready", "starting", "frozen", "died", "down"]

_KINDS: dict[PartName, type[Kafka] | type[Connect] | type[Postgres] | type[MariaDb] | type[PartnerPart]] = {
    "kafka": Kafka,
    "connect": Connect,
    "postgres": Postgres,
    "mariadb": MariaDb,
    "partner": PartnerPart,
}
_LOCK_DEADLINE_S = 600.0
_RESET_DEADLINE_S = 30.0


class Progress(Protocol):
    """Told what happens while a stack starts and stops. Called from several threads."""

    def download(self, component: str, done_mb: float, total_mb: float) -> None:
        """Megabytes fetched so far; not called at all when everything is in the cache."""

    def part(self, part: str, news: str) -> None:
        """One line about a part: "starting", "ready after ... s, port ..., pid ...", "stopped"."""


class Silent:
    """The Progress of a caller who does not want to know."""

    def download(self, component: str, done_mb: float, total_mb: float) -> None: ...

    def part(self, part: str, news: str) -> None: ...


@dataclass(frozen=True)
class PartStatus:
    """A part as it is now.

    `starting` is alive without answering (yet; `detail` says what was tried), `frozen` was stopped by a signal, `died`
    was started and has ended by itself, `down` was never started or was stopped. Memory: with all its descendants.
    """

    part: PartName
    state: State
    pid: int | None
    port: int
    since: datetime | None
    version: str
    memory_mb: int | None
    detail: str = ""


class Stack:
    """The stack whose folder is `home`. Several may live side by side; one of them is run by one caller at a time.

    Everything is read from the home, so that another process may stop what this one started. Errors are StackError.
    """

    def __init__(
        self,
        home: Path,
        *,
        patience: Patience | None = None,
        chance: random.Random | None = None,
        cache: Path | None = None,
    ) -> None:
        self.home = Home(home)
        self._patience = patience or Patience()
        self._chance = chance or random.Random()
        self._cache = Cache(cache or components.cache_root(), self._patience)

    @property
    def endpoints(self) -> Endpoints:
        """Where to reach the parts. StackError when the stack was never made."""
        return endpoints_of(self.home.choices(), self.home.secrets)

    def up(
        self,
        parts: Collection[PartName] | None = None,
        *,
        fast: bool | None = None,
        jdbc_sink: bool | None = None,
        progress: Progress | None = None,
        deadline_s: float = 180.0,
    ) -> Endpoints:
        """Start what of `parts` (all; Connect brings Kafka with it) does not run, and wait until each answers.

        Data of earlier runs is kept. A part that runs is restarted only if what it was started with has changed.
        `fast` and `jdbc_sink` (see home.Choices) are remembered; None leaves them. The deadline begins after the
        download. When a part does not come up the others are left running, and the error shows the end of its log.
        """
        wanted = _with_needed(_checked(parts))
        report = progress or Silent()
        account = database_account()
        tools.check_platform()
        if "kafka" in wanted:
            tools.java()  # its absence is told before anything is downloaded or made
        with self._locked():
            self.home.make(account, self._chance)
            self._remember(fast=fast, jdbc_sink=jdbc_sink)
            self._fetch(wanted, account, report)
            for port in self._renew_ports(wanted):
                report.part(port, "somebody else has taken its port: it gets another one")
            made = self._make_parts(wanted, account)
            enough = threading.Event()
            with ThreadPoolExecutor(len(made)) as threads:
                try:
                    started = [threads.submit(self._start, part, report, deadline_s, enough) for part in made]
                    for each in started:
                        each.result()
                finally:
                    enough.set()  # one failed, or Ctrl-C: the others need not be waited for
        return self.endpoints

    def down(
        self, parts: Collection[PartName] | None = None, *, progress: Progress | None = None, deadline_s: float = 30.0
    ) -> list[PartName]:
        """Stop `parts` (all) if they run: in order, then by force after the deadline. Returns what was running."""
        wanted = _checked(parts)
        if not self.home.exists():
            return []
        with self._locked():
            return self._stop_all(wanted, progress or Silent(), deadline_s)

    def restart(self, part: PartName, *, deadline_s: float = 180.0) -> None:
        """Stop the part in order and start it again."""
        self.down([part])
        self.up([part], deadline_s=deadline_s)

    def kill(self, part: PartName, number: signal.Signals = signal.SIGKILL, *, deadline_s: float = 10.0) -> None:
        """Signal all processes of the part: a fault for tests. Returns, after SIGKILL, when the part is gone.

        SIGSTOP and SIGCONT freeze (it stands still when this returns) and thaw it. StackError when it does not run.
        """
        run = self._alive(part)
        if run is None:
            raise StackError(f"{part} does not run", where=str(self.home.path), hint="cdc stack up")
        family = process.tree(run.pid)
        process.send(family, number)
        if number == signal.SIGKILL:
            gone = self._patience.until(
                lambda: all(process.birth(pid) is None for pid in family), deadline_s=deadline_s
            )
            if not gone:
                raise StackError(f"{part} (pid {run.pid}) lives on {deadline_s:.0f} s after SIGKILL")
        if number == signal.SIGSTOP and not self._patience.until(
            lambda: process.frozen(run.pid), deadline_s=deadline_s
        ):
            raise StackError(f"{part} (pid {run.pid}) goes on {deadline_s:.0f} s after SIGSTOP")

    def status(self) -> list[PartStatus]:
        """Every part, each asked for a real answer. StackError when the stack was never made."""
        made = self._make_parts(PARTS, database_account())
        with ThreadPoolExecutor(len(made)) as threads:
            return list(threads.map(self._status, PARTS, made))

    def log_lines(self, part: PartName, count: int, *, follow: bool = False) -> Iterator[str]:
        """The last `count` lines of the part's log, and with `follow` without end what is added to it."""
        self.home.choices()  # no stack here is an error, an empty log is none
        log = self.home.log(part)
        lines, end = logs.last(log, count)
        yield from lines
        if follow:
            yield from logs.follow(log, end, self._patience.sleep)

    def reset(self, *, execute: bool) -> list[Path]:
        """What a reset removes: all data, logs and choices. With `execute`, stop everything and remove it."""
        if not (execute and self.home.exists()):
            return self.home.contents()
        with self._locked():
            self._stop_all(PARTS, Silent(), deadline_s=_RESET_DEADLINE_S)
            return self.home.wipe()

    # -- the steps of `up` ---------------------------------------------------------------------------------------

    def _locked(self) -> AbstractContextManager[None]:
        return self._patience.holding(
            self.home.lock, deadline_s=_LOCK_DEADLINE_S, what="starting or stopping this stack"
        )

    def _remember(self, *, fast: bool | None, jdbc_sink: bool | None) -> None:
        told = {"fast": fast, "jdbc_sink": jdbc_sink}
        changed = {name: value for name, value in told.items() if value is not None}
        if changed:
            self.home.save(self.home.choices().model_copy(update=changed))

    def _fetch(self, wanted: Iterable[PartName], account: Account | None, report: Progress) -> None:
        if account is not None and not account.can_reach(self._cache.root / "x"):
            raise StackError(
                "the databases' account cannot enter the cache folder",
                where=str(self._cache.root),
                hint="set CDC_STACK_CACHE to a folder that every user can reach",
            )
        jdbc_sink = self.home.choices().jdbc_sink
        needed = [each for name in wanted for each in _KINDS[name].needs(jdbc_sink=jdbc_sink)]
        self._cache.fetch(dict.fromkeys(needed), report.download)

    def _renew_ports(self, wanted: Iterable[PartName]) -> list[str]:
        idle: list[str] = [name for name in wanted if self._alive(name) is None]
        if "kafka" in idle:
            idle.append("controller")
        return self.home.keep_ports_free(idle, self._chance)

    def _make_parts(self, names: Iterable[PartName], account: Account | None) -> list[Part]:
        setting = Setting(
            home=self.home,
            choices=self.home.choices(),
            cache=self._cache,
            account=account,
            patience=self._patience,
        )
        return [_KINDS[name](setting) for name in names]

    def _start(self, part: Part, report: Progress, deadline_s: float, enough: threading.Event) -> None:
        """Bring the part up and wait for its answer, unless `enough` says that nobody waits for it any more."""
        began = self._patience.clock()
        try:
            run = self._alive(part.name)
            if run is not None and run.fingerprint != _fingerprint(part):
                report.part(part.name, "its settings have changed: restarting")
                self._stop(part.name, Silent(), deadline_s)
                run = None
            news = "was running"
            if run is None:
                report.part(part.name, "starting")
                run = self._spawn(part)
                news = "ready"
            if self._answers(part, run, deadline_s, enough):
                took = self._patience.clock() - began
                report.part(part.name, f"{news} after {took:.1f} s, port {part.port}, pid {run.pid}")
        except StackError:
            enough.set()
            raise

    def _spawn(self, part: Part) -> Run:
        log_from = self.home.start_log(part.name)
        part.prepare()
        pid = process.spawn(part.launch(), self.home.log(part.name))
        run = Run(
            pid=pid,
            born=process.birth(pid) or "",
            since=datetime.now(UTC).replace(microsecond=0),
            port=part.port,
            version=part.version,
            fingerprint=_fingerprint(part),
            log_from=log_from,
        )
        self.home.save_run(part.name, run)
        return run

    def _answers(self, part: Part, run: Run, deadline_s: float, enough: threading.Event) -> bool:
        """Wait until the part answers (True) or `enough` is set (False). StackError when it ends or takes too long."""
        problem: str | None = "not asked yet"

        def settled() -> bool:
            nonlocal problem
            if enough.is_set() or process.birth(run.pid) != run.born:
                return True
            problem = _problem(part)
            return problem is None

        self._patience.until(settled, deadline_s=deadline_s)
        if problem is None or enough.is_set():
            return problem is None
        alive = process.birth(run.pid) == run.born
        what = f"did not answer within {deadline_s:.0f} s ({problem})" if alive else "ended while starting"
        log = self.home.log(part.name)
        raise StackError(
            f"{part.name} {what}; the end of its log:\n{end_of(log, run.log_from)}",
            where=str(log),
            hint=f"cdc stack logs {part.name} --home {self.home.path}",
        )

    # -- what runs -----------------------------------------------------------------------------------------------

    def _alive(self, part: PartName) -> Run | None:
        run = self.home.run(part)
        return run if run is not None and process.birth(run.pid) == run.born else None

    def _stop_all(self, names: Collection[PartName], report: Progress, deadline_s: float) -> list[PartName]:
        running = [name for name in names if self._alive(name) is not None]
        first = [name for name in names if name == "connect"]  # it writes its offsets to Kafka on its way out
        then = [name for name in names if name != "connect"]
        with ThreadPoolExecutor(len(PARTS)) as threads:
            for group in (first, then):
                list(threads.map(lambda name: self._stop(name, report, deadline_s), group))
        return running

    def _stop(self, name: PartName, report: Progress, deadline_s: float) -> None:
        run = self._alive(name)
        if run is not None:
            number = _KINDS[name].stop_signal
            gently = process.stop(run.pid, run.born, number, self._patience, deadline_s=deadline_s)
            report.part(name, "stopped" if gently else f"killed: it did not end within {deadline_s:.0f} s")
        self.home.forget_run(name)

    def _status(self, name: PartName, part: Part) -> PartStatus:
        recorded, run = self.home.run(name), self._alive(name)
        if run is None:
            since, version = (recorded.since, recorded.version) if recorded else (None, part.version)
            return PartStatus(name, "died" if recorded else "down", None, part.port, since, version, None)
        frozen = process.frozen(run.pid)
        problem = None if frozen else _problem(part)
        state: State = "frozen" if frozen else "starting" if problem else "ready"
        memory = process.memory_mb(run.pid)
        return PartStatus(name, state, run.pid, run.port, run.since, run.version, memory, problem or "")


def _checked(parts: Collection[PartName] | None) -> tuple[PartName, ...]:
    chosen = PARTS if parts is None else tuple(parts)
    for name in chosen:
        if name not in PARTS:
            raise StackError(f"no part is called {name!r}", hint=f"the parts are {', '.join(PARTS)}")
    return chosen


def _with_needed(parts: Collection[PartName]) -> tuple[PartName, ...]:
    return tuple(name for name in PARTS if name in parts or (name == "kafka" and "connect" in parts))


def _problem(part: Part) -> str | None:
    try:
        part.probe()
    except NotReady as error:
        return str(error)
    return None


def _fingerprint(part: Part) -> str:
    launch = part.launch()
    environment = (f"{name}={value}" for name, value in sorted(launch.environment.items()))
    text = "\0".join((*launch.argv, *environment, part.configuration()))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
