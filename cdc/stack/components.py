"""The programs of the stack: downloaded once by Maven as pom.xml pins them, shared by every stack of this user."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from xml.etree import ElementTree

from .account import database_account, open_temporary_folder
from .errors import StackError
from .patience import Patience
from .tools import maven

POM = Path(__file__).with_name("pom.xml")
_DOWNLOADED = re.compile(r"Downloaded from .* \(([\d.]+) (B|kB|MB) at ")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")  # Maven's launcher writes some even when told not to
_MEGABYTES = {"B": 1e-6, "kB": 1e-3, "MB": 1.0}
_LOCK_DEADLINE_S = 1_800.0
_TAIL_LINES = 15


class DownloadProgress(Protocol):
    """Told how far the download is, in megabytes. `component` is what is being fetched; done = total at the end."""

    def __call__(self, component: str, done_mb: float, total_mb: float) -> None: ...


@dataclass(frozen=True)
class Component:
    """One folder of the cache = one profile of pom.xml. `megabytes` (about) is only for the progress bar."""

    name: str
    megabytes: float
    arrange: Callable[[Path], None] = lambda folder: None


def _unpack_postgres(folder: Path) -> None:
    archive = next(folder.glob("*.txz"))
    with tarfile.open(archive, "r:xz") as tar:
        # "data": owners and special files of the archive count for nothing. Python before 3.11.4 has no filters.
        tar.extraction_filter = getattr(tarfile, "data_filter", lambda member, path: member)
        tar.extractall(folder)
    archive.unlink()


def _lift_mariadb(folder: Path) -> None:
    """Its jar holds the files seven folders down, and the execute bits depend on the unpacker."""
    server = next(folder.glob("ch/**/bin/mariadbd")).parent.parent
    for entry in server.iterdir():
        entry.rename(folder / entry.name)
    shutil.rmtree(folder / "ch")
    for program in (*folder.glob("bin/*"), *folder.glob("scripts/*")):
        program.chmod(0o755)


KAFKA = Component("kafka", 56)
PLUGIN_POSTGRES = Component("plugin-postgres", 16)
PLUGIN_MARIADB = Component("plugin-mariadb", 10)
PLUGIN_JDBC = Component("plugin-jdbc", 60)
POSTGRES = Component("postgres", 15, _unpack_postgres)
MARIADB = Component("mariadb", 149, _lift_mariadb)


def versions() -> dict[str, str]:
    """The pinned versions by property name of pom.xml (`kafka.version`, ...)."""
    properties = ElementTree.parse(POM).find("{*}properties")
    if properties is None:
        raise StackError("no <properties> in pom.xml", where=str(POM))
    return {entry.tag.rpartition("}")[2]: entry.text or "" for entry in properties}


class Cache:
    """Folders of components under `root`/<hash of pom.xml>. A folder that is there is complete."""

    def __init__(self, root: Path, patience: Patience) -> None:
        self.root = root / hashlib.sha256(POM.read_bytes()).hexdigest()[:12]
        self._patience = patience

    def folder(self, component: Component) -> Path:
        return self.root / component.name

    def missing(self, components: Iterable[Component]) -> list[Component]:
        return [each for each in components if not self.folder(each).is_dir()]

    def fetch(self, components: Iterable[Component], progress: DownloadProgress) -> None:
        """Download what is missing. Each folder appears by one rename, so a reader never sees half of one.

        Raises StackError when Maven is missing or fails; what was complete before stays and is not fetched again.
        """
        for folder in (self.root.parent, self.root):
            _make_own(folder)
        if not self.missing(components):
            return
        program = maven()
        lock = self.root / ".lock"
        with self._patience.holding(lock, deadline_s=_LOCK_DEADLINE_S, what="downloading the stack"):
            missing = self.missing(components)  # another process may have fetched them while we waited
            for abandoned in self.root.glob(".*.part"):
                shutil.rmtree(abandoned)
            total, before = sum(each.megabytes for each in missing), 0.0
            for component in missing:
                self._fetch_one(program, component, _Meter(component, before, total, progress))
                before += component.megabytes
                progress(component.name, before, total)

    def _fetch_one(self, program: Path, component: Component, meter: _Meter) -> None:
        part = self.root / f".{component.name}.part"
        command = [str(program), "-B", "-Dstyle.color=never", "-f", str(POM), "-P", component.name]
        command += ["generate-resources", f"-Dcdc.target={part}"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as running:
            assert running.stdout is not None
            lines = []
            for line in running.stdout:
                lines.append(_COLOUR.sub("", line).rstrip())
                meter.saw(line)
        if running.returncode:
            told = [line for line in lines if line.startswith("[ERROR]")] or lines
            raise StackError(
                f"Maven could not download {component.name}:\n" + "\n".join(told[:_TAIL_LINES]),
                hint="check the network and Maven's settings (a mirror or proxy belongs in ~/.m2/settings.xml)",
            )
        shutil.rmtree(part / ".maven", ignore_errors=True)
        component.arrange(part)
        _let_everyone_read(part)
        part.rename(self.folder(component))


@dataclass
class _Meter:
    """Adds up what Maven says it downloaded, never beyond what the component was said to weigh."""

    component: Component
    before: float
    total: float
    progress: DownloadProgress
    done: float = 0.0

    def saw(self, line: str) -> None:
        match = _DOWNLOADED.search(line)
        if match:
            self.done = min(self.done + float(match[1]) * _MEGABYTES[match[2]], self.component.megabytes)
        self.progress(self.component.name, self.before + self.done, self.total)


def cache_root() -> Path:
    """CDC_STACK_CACHE, or the user's cache folder, or for root (whose home the databases can't enter) /var/tmp."""
    chosen = os.environ.get("CDC_STACK_CACHE")
    if chosen:
        return Path(chosen).absolute()
    own = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cdc-stack"
    account = database_account()
    if account is None or account.can_reach(own / "x"):
        return own
    return open_temporary_folder() / "cdc-stack-cache"


def _make_own(folder: Path) -> None:
    """In a folder that anyone may write to, somebody else could have laid out programs for us to run: refuse it."""
    if not folder.exists():
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)
    now = folder.stat()
    if now.st_uid != os.geteuid() or now.st_mode & 0o022:
        raise StackError(
            "the cache folder belongs to, or can be written by, somebody else",
            where=str(folder),
            hint="set CDC_STACK_CACHE to a folder of your own",
        )


def _let_everyone_read(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | (0o555 if path.is_dir() else 0o444))
