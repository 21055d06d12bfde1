"""The operator's commands on pipelines whose target is a SQLite file or MariaDB, which also keep the audit trail."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cdc.cli.compare import compare
from cdc.cli.epoch import new as new_epoch
from cdc.cli.epoch import show as show_epochs
from cdc.cli.parked import discard, list_, retry, show
from cdc.cli.rewind import rewind
from cdc.cli.status import status
from cdc.cli.sweep import sweep
from cdc.stack import Stack
from tests.faults import checks
from tests.faults.mariadb_target import new_mariadb_pipeline
from tests.faults.pipeline import Pipeline, unique
from tests.faults.source import REFUSED, Source, captured_source
from tests.faults.sqlite import SqlitePipeline, new_sqlite_pipeline
from tests.fix_stack import new_postgres_database
from tests.stack.operator import Operator, running, touch
from tests.stack.test_operators import forget
from tests.waiting import eventually

pytestmark = pytest.mark.stack
BAD, WORSE = 880_001, 880_002


@pytest.fixture
def source(stack: Stack, tmp_path: Path) -> Iterator[Source]:
    """A source with two rows that the target refuses, the first of them changed once more."""
    with (
        new_postgres_database(stack.endpoints.postgres) as database,
        captured_source(stack, database, unique("s"), tmp_path, items=60) as made,
    ):
        made.run(
            f"INSERT INTO items VALUES ({BAD}, '{REFUSED}', 1, NULL, 0), ({WORSE}, '{REFUSED}', 1, NULL, 0)",
            f"UPDATE items SET rev = 1 WHERE id = {BAD}",
        )
        made.captured()
        yield made


@pytest.fixture
def sqlite(source: Source) -> Iterator[SqlitePipeline]:
    with new_sqlite_pipeline(source, unique("q")) as made:
        yield made


@pytest.fixture(params=[new_sqlite_pipeline, new_mariadb_pipeline], ids=["sqlite", "mariadb"])
def pipeline(request: pytest.FixtureRequest, source: Source) -> Iterator[Pipeline]:
    with request.param(source, unique("q")) as made:
        yield made


@pytest.fixture
def cdc(pipeline: Pipeline, capsys: pytest.CaptureFixture[str]) -> Operator:
    return Operator(pipeline, capsys)


def test_looking_makes_no_file(sqlite: SqlitePipeline, capsys: pytest.CaptureFixture[str]) -> None:
    cdc = Operator(sqlite, capsys)
    sqlite.file.unlink()
    code, found = cdc(status)
    assert (code, found["pipelines"][0]["state"]) == (1, "never run")
    assert cdc(list_)[1] == []
    assert cdc(show_epochs)[0] == 0
    assert not sqlite.file.exists()


def test_a_life_of_a_pipeline(source: Source, pipeline: Pipeline, cdc: Operator, tmp_path: Path) -> None:
    items, lines = (f"{pipeline.schema}.{table}" for table in ("items", "lines"))
    assert cdc(status)[1]["pipelines"][0]["state"] == "never run"
    assert not pipeline.state_exists()
    with running(pipeline):
        eventually(lambda: cdc(status)[1]["pipelines"][0]["lag"] == 0, 10, "status shows no lag")
        code, found = cdc(status)
        assert (found["pipelines"][0]["state"], found["pipelines"][0]["parked"]) == ("running", 3)

        # parked: shown, retried by the owner, discarded
        listed = cdc(list_)[1]
        (first,) = [each for each in listed if each["behind"]]
        (second,) = [each for each in listed if each["id"] in first["behind"]]
        assert (first["reason"], first["head"], second["reason"]) == ("check_violation", True, "held")
        assert REFUSED in cdc(show, first["id"], values=True)[1]["value"]
        code, done = cdc(retry, first["id"], execute=True, reason="does it work now?")
        assert (code, done["records"][0]["state"]) == (1, "parked")
        source.run(f"UPDATE items SET name = 'mended' WHERE id = {BAD}")
        source.captured()
        pipeline.catches_up()
        numbers = cdc(discard, first["id"], second["id"], execute=True, reason="mended at the source")[1]["numbers"]
        assert numbers == {"discarded": 2}
        eventually(lambda: len(cdc(list_)[1]) == 1, 20, "what waited behind them went through")
        assert pipeline.texts("items")[str(BAD),][1] == "mended"
        checks.counted(pipeline)

        # rewind, while the worker runs, and its undo
        before = pipeline.watermarks()
        code, done = cdc(rewind, pipeline.name, to_earliest=True, execute=True, reason="drill", undo_folder=tmp_path)
        assert (code, done["executed"]) == (0, True)
        touch(source)
        touch(source, "lines")
        pipeline.catches_up()
        assert pipeline.workers[0].said("fenced")
        checks.never_fell(pipeline)
    code, _ = cdc(rewind, pipeline.name, from_file=Path(done["undo"]), execute=True, reason="undo the drill")
    assert (code, pipeline.watermarks()) == (0, before)

    # a repeated snapshot is swept, and compare says that both sides are equal
    forget(source, "DELETE FROM lines WHERE item_id < 11", "DELETE FROM items WHERE id < 11")
    with running(pipeline):
        code, found = cdc(compare, settle=0.5)
        assert (code, {each["target_table"]: each["surplus"] for each in found["tables"]}) == (
            *(1, {items: 10, lines: 20}),
        )
        for table in (items, lines):
            assert cdc(sweep, pipeline.name, table)[1]["rows"] in (10, 20)
            assert cdc(sweep, pipeline.name, table, execute=True, reason="slot was lost")[1]["executed"]
        code, found = cdc(compare, settle=0.5)
        assert (code, found["verdict"], found["tables"][0]["excused"]) == (1, "parked", 1)
    checks.equal(source, pipeline, but=checks.parked_keys(pipeline))

    # another incarnation of the source
    pipeline.run("UPDATE cdc_source_epoch SET identity = 'postgresql:1/1'")
    assert pipeline.start().ends() == 1
    code, done = cdc(new_epoch, source.name, execute=True, reason="restored")
    assert (code, done["executed"]) == (0, True)
    with running(pipeline):
        touch(source)
        pipeline.catches_up()
    checks.equal(source, pipeline, but=checks.parked_keys(pipeline))
    assert [each["command"].split()[0] for each in cdc.audits("")][::-1] == [
        *("parked", "parked", "rewind", "rewind", "sweep", "sweep", "source"),
    ]
    assert {each["outcome"] for each in cdc.audits("")} == {"done"}
