"""By which version of the mappings a row was applied, told by its position and by what trackers had seen."""

from __future__ import annotations

from pathlib import Path

import pytest

from cdc.control.row_version import applied_by
from cdc.engine.deployed import file_of, read
from cdc.entries import SourceKind
from cdc.model import Position, TopicPartition
from cdc.source.positions import MariadbTracker, PostgresTracker
from cdc.target.versions import Deployed, Switch, in_force, version_at

PLACE = TopicPartition("crm.public.people", 0)


def postgres(commit: int, lsn: int, epoch: int = 1) -> str:
    tracker = PostgresTracker(epoch)
    tracker.commit, tracker.lsn = commit, lsn
    return tracker.state()


def mariadb(*newest: int) -> str:
    tracker = MariadbTracker(1)
    tracker.newest = newest  # type: ignore[assignment]
    return tracker.state()


def told(kind: SourceKind, position: Position, *switches: Switch) -> tuple[int, ...]:
    return applied_by(in_force(switches, 9)[PLACE], position, kind)


@pytest.mark.parametrize(
    ("position", "versions"),
    [
        (Position(1, 100, 0), (1,)),  # a snapshot read from before
        (Position(1, 200, 210), (1,)),
        (Position(1, 200, 220), (2,)),  # of the transaction that the switch went through
        (Position(1, 300, 305), (2,)),
        (Position(1, 400, 410), (3,)),
        (Position(2, 1, 1), (3,)),  # of a later epoch
    ],
)
def test_a_postgresql_row(position: Position, versions: tuple[int, ...]) -> None:
    switches = Switch(PLACE, 2, 50, postgres(200, 215)), Switch(PLACE, 3, 90, postgres(300, 390))
    assert told("postgresql", position, *switches) == versions


def test_a_mariadb_row() -> None:
    switch = Switch(PLACE, 2, 50, mariadb(3, 400, 1))
    assert told("mariadb", Position(1, 3, 400, 1), switch) == (1,)
    assert told("mariadb", Position(1, 3, 400, 2), switch) == (2,)
    assert told("mariadb", Position(1, 4, 4, 0), switch) == (2,)


def test_after_a_rewind_it_may_be_either() -> None:
    read_again = Switch(PLACE, 3, 20, "")
    assert told("postgresql", Position(1, 100, 110), Switch(PLACE, 2, 10, postgres(50, 60)), read_again) == (2, 3)
    versions = in_force([Switch(PLACE, 2, 50, ""), read_again], 3)[PLACE]
    assert [version_at(versions, offset) for offset in (0, 19, 20, 60)] == [1, 1, 3, 3]


def test_a_version_names_the_file_that_it_was_written_in() -> None:
    text = "pipeline: p\nsource: s\ntarget: t\ntables:\n  - {from: public.a, to: hub.a}\n"
    pipeline = read(Deployed(3, text, "mappings/p.yaml", "", ""), "t")
    assert (pipeline.file, file_of(pipeline)) == ("mappings/p.yaml@3", Path("mappings/p.yaml"))
