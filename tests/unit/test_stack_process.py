"""A process is known by pid and birth; nobody else's is ever signalled."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cdc.stack import StackError, process
from cdc.stack.patience import Patience
from cdc.stack.process import Launch

PATIENCE = Patience()
Start = Callable[[str], int]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a shell script and returns its pid; whatever still lives is killed after the test."""
    started: list[tuple[int, str | None]] = []

    def shell(script: str) -> int:
        pid = process.spawn(Launch(("/bin/sh", "-c", script), cwd=tmp_path), tmp_path / "log")
        started.append((pid, process.birth(pid)))
        return pid

    yield shell
    for pid, born in started:
        if process.birth(pid) == born is not None:
            process.send(process.tree(pid), signal.SIGKILL)
            assert PATIENCE.until(lambda pid=pid, born=born: process.birth(pid) != born, deadline_s=10)


def wait_for(condition: Callable[[], bool]) -> None:
    assert PATIENCE.until(condition, deadline_s=10)


def test_birth_names_one_process(start: Start) -> None:
    pid = start("exec tail -f /dev/null")
    assert process.birth(pid) == process.birth(pid) is not None
    assert process.birth(os.getpid()) != process.birth(pid)


def test_a_dead_process_has_no_birth_and_leaves_no_zombie(start: Start) -> None:
    pid = start("exit 0")
    wait_for(lambda: process.birth(pid) is None)
    wait_for(lambda: process.stat(pid) is None)


def test_a_process_lives_until_its_last_thread_has_ended(start: Start) -> None:
    """Its first thread dead, Linux calls it a zombie; its ports are still taken."""
    threads = "import ctypes, threading, time; threading.Thread(target=time.sleep, args=(60,)).start()"
    pid = start(f"exec {sys.executable} -c '{threads}; ctypes.CDLL(None).pthread_exit(None)'")
    born = process.birth(pid)
    wait_for(lambda: process.stat(pid).state == "Z")
    assert process.birth(pid) == born
    process.send([pid], signal.SIGKILL)
    wait_for(lambda: process.birth(pid) is None)


def test_stop_ends_the_process_in_order(start: Start) -> None:
    pid = start("exec tail -f /dev/null")
    born = process.birth(pid)
    assert born is not None
    assert process.stop(pid, born, signal.SIGTERM, PATIENCE, deadline_s=10)
    assert process.birth(pid) is None


def test_stop_leaves_another_holder_of_the_pid_alone(start: Start) -> None:
    pid = start("exec tail -f /dev/null")
    born = process.birth(pid)
    assert process.stop(pid, "another boot/1", signal.SIGKILL, PATIENCE, deadline_s=10)
    assert process.birth(pid) == born


def test_stop_kills_what_does_not_listen(start: Start, tmp_path: Path) -> None:
    pid = start("trap '' TERM; echo deaf; while :; do sleep 60; done")
    born = process.birth(pid)
    assert born is not None
    wait_for(lambda: "deaf" in (tmp_path / "log").read_text())
    family = process.tree(pid)
    assert not process.stop(pid, born, signal.SIGTERM, PATIENCE, deadline_s=0.1)
    wait_for(lambda: all(process.birth(each) is None for each in family))


def test_stop_thaws_a_frozen_process_first(start: Start) -> None:
    pid = start("exec tail -f /dev/null")
    process.send([pid], signal.SIGSTOP)
    wait_for(lambda: process.frozen(pid))
    born = process.birth(pid)
    assert born is not None
    assert process.stop(pid, born, signal.SIGTERM, PATIENCE, deadline_s=10)


def test_tree_holds_the_descendants(start: Start) -> None:
    pid = start("sh -c 'tail -f /dev/null & wait' & wait")
    wait_for(lambda: len(process.tree(pid)) == 3)
    assert process.tree(pid)[0] == pid


def test_inside_finds_by_working_directory(start: Start, tmp_path: Path) -> None:
    pid = start("exec tail -f /dev/null")
    assert process.inside(tmp_path) == [pid]
    assert process.memory_mb(pid) >= 0


def test_run_returns_the_code_and_has_a_deadline(tmp_path: Path) -> None:
    def run(script: str, deadline_s: float) -> int:
        return process.run(Launch(("/bin/sh", "-c", script), cwd=tmp_path), tmp_path / "log", deadline_s=deadline_s)

    assert run("exit 3", 10) == 3
    assert run("tail -f /dev/null", 0.1) == -signal.SIGKILL


def test_environment_is_ours_only_when_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CDC_SECRET", "s3cret")
    log = tmp_path / "log"
    for inherit in (False, True):
        launch = Launch(("/bin/sh", "-c", 'echo "[$CDC_SECRET]$TZ"'), cwd=tmp_path, inherit_environment=inherit)
        process.run(launch, log, deadline_s=10)
    assert log.read_text() == "[]UTC\n[s3cret]UTC\n"


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StackError, match=r"No such file.*/nowhere/postgres"):
        process.spawn(Launch(("/nowhere/postgres",), cwd=tmp_path), tmp_path / "log")
