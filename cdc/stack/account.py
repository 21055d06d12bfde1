"""Who runs the databases: neither server agrees to be root, so a stack started by root uses an unprivileged account."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass
from pathlib import Path

from .errors import StackError

_NAME = "nobody"


@dataclass(frozen=True)
class Account:
    """A user to run a program as."""

    uid: int
    gid: int

    def own(self, path: Path) -> None:
        """Give `path` (not what is below it) to this account."""
        os.chown(path, self.uid, self.gid)

    def can_reach(self, path: Path) -> bool:
        """Whether every existing folder on the way to `path` lets this account pass."""
        for folder in path.resolve().parents:
            if not folder.exists():
                continue
            now = folder.stat()
            bit = 0o100 if now.st_uid == self.uid else 0o010 if now.st_gid == self.gid else 0o001
            if not now.st_mode & bit:
                return False
        return True


def database_account() -> Account | None:
    """None unless we are root: then the databases run as ourselves."""
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam(_NAME)
    except KeyError:
        raise StackError(
            f"PostgreSQL and MariaDB refuse to run as root, and there is no user {_NAME!r} to run them as",
            hint="run the stack as an ordinary user",
        ) from None
    return Account(entry.pw_uid, entry.pw_gid)


def open_temporary_folder() -> Path:
    """A folder that every account can reach and that outlives a reboot, if there is one."""
    return next(path for path in (Path("/var/tmp"), Path("/tmp")) if path.is_dir())
