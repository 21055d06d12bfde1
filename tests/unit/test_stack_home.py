"""The folder of a stack, its ports, its locks, and waiting: without any server."""

from __future__ import annotations

import json
import random
import socket
import threading
from pathlib import Path

import pytest

from cdc.stack import Stack, StackError, ports
from cdc.stack.home import Home
from cdc.stack.logs import follow, last
from cdc.stack.patience import Patience


class FakeTime:
    """A clock that only `sleep` moves."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    @property
    def patience(self) -> Patience:
        return Patience(self.clock, self.sleep)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "home")
    made.make(None, random.Random(1))
    return made


# -- ports


def test_a_listening_port_is_not_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert not ports.is_free(server.getsockname()[1])


def test_choice_avoids_taken_and_busy_ports() -> None:
    drawn = random.Random(7)
    first, second, third = (drawn.randint(ports.FIRST, ports.LAST) for _ in range(3))
    assert ports.choose({first}, random.Random(7), free=lambda port: port != second) == third


def test_choice_gives_up() -> None:
    with pytest.raises(StackError, match="no free port"):
        ports.choose((), random.Random(7), free=lambda port: False)


# -- home


def test_choices_are_made_once_and_kept(home: Home) -> None:
    first = home.choices()
    home.make(None, random.Random(2))
    assert home.choices() == first
    assert len(set(first.ports.values())) == 6
    assert first.postgres_password != first.mariadb_password


def test_passwords_are_readable_by_the_owner_only(home: Home) -> None:
    for file in (home.path / "stack.json", home.secrets):
        assert file.stat().st_mode & 0o077 == 0
    assert home.choices().postgres_password in home.secrets.read_text()


def test_only_idle_parts_get_another_port(home: Home) -> None:
    before = home.choices().ports
    with socket.create_server(("127.0.0.1", before["kafka"])), socket.create_server(("127.0.0.1", before["connect"])):
        assert home.keep_ports_free(["kafka", "postgres"], random.Random(3)) == ["kafka"]
    after = home.choices().ports
    assert {name for name in before if before[name] != after[name]} == {"kafka"}


def test_a_folder_in_other_use_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    precious = tmp_path / "data" / "precious"
    precious.touch()
    with pytest.raises(StackError, match="in use for something else"):
        Home(tmp_path).make(None, random.Random(1))
    assert Stack(tmp_path).reset(execute=True) == []
    assert precious.exists()


def test_wipe_leaves_what_is_not_ours(home: Home) -> None:
    (home.path / "notes.txt").touch()
    home.wipe()
    assert [path.name for path in home.path.iterdir()] == ["notes.txt"]


def test_no_stack_and_a_foreign_file_are_told(home: Home, tmp_path: Path) -> None:
    with pytest.raises(StackError, match="no stack here"):
        Stack(tmp_path / "elsewhere").status()
    assert Stack(tmp_path / "elsewhere").down() == []
    (home.path / "stack.json").write_text(json.dumps({"ports": {}}))
    with pytest.raises(StackError, match="not what this version"):
        home.choices()


def test_unknown_part_is_told(home: Home) -> None:
    with pytest.raises(StackError, match="no part is called 'mysql'"):
        Stack(home.path).down(["mysql"])  # type: ignore[list-item]


def test_a_large_log_is_set_aside(home: Home) -> None:
    log = home.log("kafka")
    assert home.start_log("kafka") == 0
    log.write_text("few")
    assert home.start_log("kafka") == 3
    with log.open("r+b") as file:
        file.truncate(30_000_000)
    assert home.start_log("kafka") == 0
    assert log.with_name("kafka.log.1").exists()


# -- logs


def test_last_lines(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert last(log, 2) == ([], 0)
    log.write_text("1\n2\n3\n")
    assert last(log, 2) == (["2", "3"], 6)
    assert last(log, 2, start=4) == (["3"], 6)


def test_follow_sees_whole_lines_and_a_log_set_aside(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("old\n")
    writes = iter(["old\nhal", "old\nhalf\n", "n\n"])
    lines = follow(log, 4, sleep=lambda seconds: log.write_text(next(writes)) and None)
    assert [next(lines), next(lines)] == ["half", "n"]


# -- waiting


def test_waiting_ends_with_the_condition_or_the_deadline() -> None:
    time = FakeTime()
    assert time.patience.until(lambda: time.now >= 101, deadline_s=2, every_s=0.25)
    assert time.now == 101
    assert not time.patience.until(lambda: False, deadline_s=2, every_s=0.25)
    assert time.now == 103


def test_a_held_lock_is_waited_for_and_then_told(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    time = FakeTime()
    with (
        Patience().holding(lock, deadline_s=1, what="x"),
        pytest.raises(StackError, match="has been downloading"),
        time.patience.holding(lock, deadline_s=3, what="downloading"),
    ):
        pass
    assert sum(time.slept) == pytest.approx(3, abs=0.1)


def test_a_lock_removed_by_its_holder_is_taken_anew(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    waiting, taken = threading.Event(), threading.Event()

    def wait_and_take() -> None:
        patience = Patience(sleep=lambda seconds: waiting.set())
        with patience.holding(lock, deadline_s=10, what="x"):
            taken.set()

    other = threading.Thread(target=wait_and_take)
    with Patience().holding(lock, deadline_s=1, what="x"):
        other.start()
        assert waiting.wait(10)
        lock.unlink()
        assert taken.wait(10)
    other.join()
    assert lock.exists()
