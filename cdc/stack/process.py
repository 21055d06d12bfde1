"""Processes that outlive the command that started them, found again without ever mistaking another one for them.

A pid alone names whoever holds it now. A pid with the time it was born names one process: nothing here sends a signal
before both match. Linux only: everything is read from /proc.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from .account import Account
from .errors import StackError
from .patience import Patience

PROC = Path("/proc")
_DEAD = "ZX"


class Stat(NamedTuple):
    """What /proc says about a process: state letter (T = stopped, Z = dead but not reaped), parent, start in ticks."""

    state: str
    parent: int
    start: int


@dataclass(frozen=True)
class Launch:
    """One program to start: nothing in it is secret, for other users can read a process's arguments."""

    argv: tuple[str, ...]
    cwd: Path
    account: Account | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    inherit_environment: bool = False


def stat(pid: int) -> Stat | None:
    """None when there is no such process."""
    try:
        text = (PROC / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text[text.rindex(")") + 2 :].split()  # the name in parentheses may itself hold spaces and parentheses
    return Stat(fields[0], int(fields[1]), int(fields[19]))


def birth(pid: int) -> str | None:
    """What makes the pid unique: the boot and the tick it started at. None when it is dead, its ports free again."""
    now = stat(pid)
    if now is None:
        return None
    if now.state in _DEAD and not _has_other_threads(pid):
        _reap(pid, now)
        return None
    boot = (PROC / "sys/kernel/random/boot_id").read_text().strip()
    return f"{boot}/{now.start}"


def frozen(pid: int) -> bool:
    """Whether the process was stopped by SIGSTOP."""
    now = stat(pid)
    return now is not None and now.state == "T"


def spawn(launch: Launch, log: Path) -> int:
    """Start it in a session of its own, so that a Ctrl-C at our terminal does not reach it; output goes to `log`."""
    child = _popen(launch, log)
    child.returncode = 0  # let go of it: from here on pid and birth name it, and it may well outlive us
    return child.pid


def run(launch: Launch, log: Path, *, deadline_s: float) -> int:
    """Run it to its end, output to `log`; the exit code. Killed after `deadline_s` (the code is then negative)."""
    child = _popen(launch, log)
    try:
        return child.wait(deadline_s)
    except subprocess.TimeoutExpired:
        send(tree(child.pid), signal.SIGKILL)
        return child.wait()


def tree(pid: int) -> list[int]:
    """The process and its living descendants, parents first (PostgreSQL gives each backend a session of its own)."""
    children: dict[int, list[int]] = {}
    for other in _all():
        now = stat(other)
        if now is not None and (now.state not in _DEAD or _has_other_threads(other)):
            children.setdefault(now.parent, []).append(other)
    found = [pid]
    for parent in found:
        found.extend(children.get(parent, ()))
    return found


def inside(folder: Path) -> list[int]:
    """The processes whose working directory is `folder`: what a killed server may have left behind."""
    found = []
    for pid in _all():
        try:
            at = os.readlink(PROC / str(pid) / "cwd")
        except OSError:
            continue  # gone meanwhile, or another user's
        if at == str(folder.resolve()):
            found.append(pid)
    return found


def send(pids: list[int], number: signal.Signals) -> None:
    """Signal each; one that is gone already is what the caller wanted."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def stop(pid: int, born: str, number: signal.Signals, patience: Patience, *, deadline_s: float) -> bool:
    """End the process named by `pid` and `born`: `number`, then SIGKILL to all of it after `deadline_s`.

    Returns True if it ended by itself, False if it had to be killed. Does nothing to another holder of the pid.
    """

    def gone() -> bool:
        return birth(pid) != born

    if gone():
        return True
    family = tree(pid)
    send([pid], number)
    send(family, signal.SIGCONT)  # a frozen process acts on its signals only when thawed
    if patience.until(gone, deadline_s=deadline_s):
        return True
    send(tree(pid), signal.SIGKILL)
    patience.until(gone, deadline_s=deadline_s)
    return False


def memory_mb(pid: int) -> int:
    """Memory of the process and its descendants, shared pages counted once where the system tells them apart."""
    return round(sum(_memory_kb(each) for each in tree(pid)) / 1024)


def _memory_kb(pid: int) -> int:
    for file, label in (("smaps_rollup", "Pss:"), ("status", "VmRSS:")):
        try:
            lines = (PROC / str(pid) / file).read_text().splitlines()
        except OSError:
            continue
        for line in lines:
            if line.startswith(label):
                return int(line.split()[1])
    return 0


def _all() -> list[int]:
    return [int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit()]


def _popen(launch: Launch, log: Path) -> subprocess.Popen[bytes]:
    account = launch.account
    inherited = os.environ if launch.inherit_environment else {"PATH": os.environ.get("PATH", os.defpath)}
    try:
        with log.open("ab") as output:
            return subprocess.Popen(
                launch.argv,
                cwd=launch.cwd,
                env={**inherited, "LANG": "C.UTF-8", "TZ": "UTC", **launch.environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=account.uid if account else None,
                group=account.gid if account else None,
                extra_groups=() if account else None,
            )
    except OSError as error:
        raise StackError(f"could not start a program: {error.strerror}", where=launch.argv[0]) from error


def _has_other_threads(pid: int) -> bool:
    """A killed JVM's first thread may be dead while others still go, and with them the ports it listens on."""
    try:
        return len(os.listdir(PROC / str(pid) / "task")) > 1
    except OSError:
        return False


def _reap(pid: int, now: Stat) -> None:
    """Only its parent can take a dead process off the table."""
    if now.parent == os.getpid():
        with suppress(ChildProcessError):  # another thread was faster
            os.waitpid(pid, os.WNOHANG)
