"""The two programs the stack needs on the machine: Java to run it, Maven to download it."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

from .errors import StackError

JAVA_NEEDED = 17
_HINT = "apt-get install -y openjdk-17-jre-headless maven   (or your system's packages of the same)"


@cache
def java() -> Path:
    """The `java` of JAVA_HOME or PATH, checked to be new enough. Asked once per process."""
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=str(Path(home, "bin"))) if home else shutil.which("java")
    if found is None:
        where = f"JAVA_HOME={home}" if home else "PATH"
        raise StackError(f"no Java in {where}: Kafka needs Java {JAVA_NEEDED} or newer", hint=_HINT)
    version = java_version(found)
    if version < JAVA_NEEDED:
        raise StackError(f"Java {version} is too old: Kafka needs {JAVA_NEEDED} or newer", where=found, hint=_HINT)
    return Path(found)


def java_version(program: str) -> int:
    """The feature release of a `java` program (17, 21, ...; 8 for the old style "1.8")."""
    told = subprocess.run([program, "-version"], capture_output=True, text=True, check=False, timeout=60)
    match = re.search(r'version "(?:1\.)?(\d+)', told.stderr + told.stdout)
    if match is None:
        raise StackError("this java does not tell its version", where=program, hint=_HINT)
    return int(match[1])


def maven() -> Path:
    """The `mvn` of PATH."""
    found = shutil.which("mvn")
    if found is None:
        raise StackError("no Maven (mvn) in PATH: the stack's programs are downloaded with it, once", hint=_HINT)
    return Path(found)


def check_platform() -> None:
    """The pinned database binaries exist for one platform only."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise StackError(
            f"the local stack runs on Linux x86_64, not on {platform.system()} {platform.machine()}",
            hint="point the connections at servers of your own instead",
        )
