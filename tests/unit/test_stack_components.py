"""The download: missing tools are told, the cache is whole or not there, two downloads don't collide."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from cdc.stack import StackError, components, tools
from cdc.stack.components import Cache, Component
from cdc.stack.patience import Patience

KAFKA = Component("kafka", 10)
FakeProgram = Callable[[str, str], None]


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeProgram]:
    """Puts a shell script of a name into a PATH that has only the shell's own tools besides."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in ("sh", "mkdir", "touch", "echo", "grep"):
        found = next(path for path in map(Path, ("/bin", "/usr/bin")) if (path / tool).exists())
        (folder / tool).symlink_to(found / tool)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    tools.java.cache_clear()

    def put(name: str, script: str) -> None:
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)

    yield put
    tools.java.cache_clear()


MAVEN = """
for word in "$@"; do case $word in -Dcdc.target=*) target=${word#-Dcdc.target=};; esac; done
echo "run" >> "$RUNS"
mkdir -p "$target/.maven"
touch "$target/a.jar"
echo "Downloaded from central: https://repo/a.jar (4.0 MB at 9 MB/s)"
"""


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One line for each run of the fake Maven."""
    monkeypatch.setenv("RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache", Patience())


def silent(component: str, done_mb: float, total_mb: float) -> None: ...


def test_missing_java_is_told_with_its_remedy(program: FakeProgram) -> None:
    with pytest.raises(StackError, match="no Java in PATH: Kafka needs Java 17") as caught:
        tools.java()
    assert "apt-get install -y openjdk-17-jre-headless maven" in str(caught.value)


def test_java_home_without_java_is_told(program: FakeProgram, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", "/nowhere")
    with pytest.raises(StackError, match="no Java in JAVA_HOME=/nowhere"):
        tools.java()


@pytest.mark.parametrize(("told", "version"), [('openjdk version "1.8.0_392"', 8), ('java version "11.0.2"', 11)])
def test_old_java_is_told(program: FakeProgram, told: str, version: int) -> None:
    program("java", f"echo '{told}' >&2")
    with pytest.raises(StackError, match=f"Java {version} is too old: Kafka needs 17"):
        tools.java()


def test_new_java_is_taken(program: FakeProgram) -> None:
    program("java", "echo 'openjdk version \"21\" 2023-09-19' >&2")
    assert tools.java().name == "java"


def test_missing_maven_is_told_with_its_remedy(program: FakeProgram, cache: Cache) -> None:
    with pytest.raises(StackError, match=r"no Maven \(mvn\) in PATH") as caught:
        cache.fetch([KAFKA], silent)
    assert "apt-get install" in str(caught.value)


def test_download_appears_whole_and_once(program: FakeProgram, cache: Cache, runs: Path) -> None:
    program("mvn", MAVEN)
    seen: list[tuple[str, float, float]] = []
    cache.fetch([KAFKA], lambda *news: seen.append(news))
    assert [path.name for path in cache.folder(KAFKA).iterdir()] == ["a.jar"]
    assert ("kafka", 4.0, 10) in seen
    assert seen[-1] == ("kafka", 10, 10)
    cache.fetch([KAFKA], silent)
    assert runs.read_text() == "run\n"


def test_failed_download_leaves_nothing_and_says_why(program: FakeProgram, cache: Cache, runs: Path) -> None:
    program("mvn", MAVEN + 'echo "[ERROR] no route to host"; exit 1')
    with pytest.raises(StackError, match=r"could not download kafka:\n\[ERROR\] no route to host"):
        cache.fetch([KAFKA], silent)
    assert cache.missing([KAFKA]) == [KAFKA]
    program("mvn", MAVEN)
    cache.fetch([KAFKA], silent)
    assert not list(cache.root.glob("*.part"))


def test_two_downloads_at_once_run_maven_once(program: FakeProgram, cache: Cache, runs: Path) -> None:
    program("mvn", MAVEN)
    threads = [threading.Thread(target=cache.fetch, args=([KAFKA], silent)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert runs.read_text() == "run\n"
    assert cache.folder(KAFKA).is_dir()


def test_a_cache_that_others_can_write_to_is_refused(program: FakeProgram, cache: Cache, runs: Path) -> None:
    program("mvn", MAVEN)
    cache.root.parent.mkdir()
    cache.root.parent.chmod(0o777)
    with pytest.raises(StackError, match="can be written by, somebody else"):
        cache.fetch([], silent)


def test_cache_root_can_be_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CDC_STACK_CACHE", str(tmp_path))
    assert components.cache_root() == tmp_path


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the databases as somebody else")
def test_roots_cache_is_where_the_databases_can_read_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CDC_STACK_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "closed" / "cache"))
    (tmp_path / "closed").mkdir(mode=0o700)
    assert tmp_path not in components.cache_root().parents


def test_every_component_is_a_profile_of_the_pom() -> None:
    profiles = {entry.text for entry in ElementTree.parse(components.POM).findall("{*}profiles/{*}profile/{*}id")}
    constants = (value for value in vars(components).values() if isinstance(value, Component))
    assert {each.name for each in constants} == profiles
