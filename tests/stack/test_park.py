"""`cdc park` and the limits of what is parked, on the real stack: before a record comes, at one that stops workers,
while a worker runs; and pipelines that stopped because too much was parked go on."""

from __future__ import annotations

import pytest

from cdc.cli.park import park
from cdc.cli.parked import discard, list_, retry
from cdc.cli.status import status
from cdc.errors import Usage
from tests.faults import checks, topics
from tests.faults.pipeline import Pipeline
from tests.faults.source import REFUSED, Source
from tests.faults.topics import Place
from tests.fix_pipeline import Maker
from tests.stack.operator import Operator, running
from tests.waiting import eventually

pytestmark = pytest.mark.stack
KEY = 880_001


def coming(source: Source, change: str) -> Place:
    """Where the next change of the same row will stand: do this one, and see which partition it came to."""
    topic = source.topic("items")
    before = topics.ends(source.stack, [topic])
    source.run(change)
    source.captured()
    ((place, end),) = ((each, end) for each, end in topics.ends(source.stack, [topic]).items() if end > before[each])
    return (*place, end)  # type: ignore[return-value]


def change(source: Source, pipeline: Pipeline, name: str) -> None:
    """A change of the row, and the pipeline gets past it."""
    source.run(f"UPDATE items SET name = '{name}' WHERE id = {KEY}")
    source.captured()
    pipeline.catches_up()


def name_of(pipeline: Pipeline) -> str:
    ((name,),) = pipeline.rows("SELECT name FROM hub.items WHERE id = %s", KEY)
    return str(name)


def test_a_record_is_set_aside_before_it_comes(
    fresh: Source, pipelines: Maker, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline = pipelines(fresh)
    cdc = Operator(pipeline, capsys)
    with running(pipeline):
        topic, partition, offset = coming(fresh, f"INSERT INTO items VALUES ({KEY}, 'first', 1, NULL, 0)")
        pipeline.catches_up()
        place = f"{topic}:{partition}:{offset}"
        for late in (0, offset - 1):
            code, plan = cdc(park, f"{topic}:{partition}:{late}", execute=True, reason="too late")
            assert (code, plan["executed"], "has been applied" in plan["refused"]) == (1, False, True)
        code, plan = cdc(park, place)
        assert (code, plan["executed"], plan["ahead"], plan["before"]) == (0, False, 1, 0)
        assert cdc(list_)[1] == []

        code, plan = cdc(park, place, execute=True, reason="it would do harm")
        assert (code, plan["executed"]) == (0, True)
        (requested,) = cdc(list_)[1]
        assert (requested["state"], requested["where"], requested["reason"]) == (
            *("requested", place, "it would do harm"),
        )
        assert place in cdc.shown(list_)
        change(fresh, pipeline, "set aside")
        change(fresh, pipeline, "behind")
        first, second = cdc(list_)[1]
        assert [(each["reason"], each["where"], each["state"]) for each in (first, second)] == [
            ("on_request", place, "parked"),
            ("held", f"{topic}:{partition}:{offset + 1}", "parked"),
        ]
        assert first["error"].endswith(": it would do harm")
        assert name_of(pipeline) == "first"
        assert cdc(park, place)[1]["refused"] == f"it is parked already: cdc parked show {first['id']}"

        code, done = cdc(retry, first["id"], execute=True, reason="it does none")
        assert (code, done["numbers"]) == (0, {"settled": 1})
        assert (name_of(pipeline), cdc(list_)[1]) == ("behind", [])
        checks.counted(pipeline)

        # asked for a later one, and taken back before it came
        later = f"{topic}:{partition}:{offset + 2}"
        cdc(park, later, execute=True, reason="perhaps")
        assert cdc(park, later, cancel=True)[1]["executed"] is False
        assert cdc(park, later, cancel=True, execute=True, reason="no")[1]["executed"] is True
        code, plan = cdc(park, later, cancel=True, execute=True, reason="no")
        assert (code, plan["refused"]) == (1, "nobody asked for it to be set aside")
        change(fresh, pipeline, "applied")
        assert (name_of(pipeline), cdc(list_)[1]) == ("applied", [])
    assert [each["command"] for each in cdc.audits("park ")][::-1] == [
        *(f"park {place}", f"park {later}", f"park {later} --cancel"),
    ]
    with pytest.raises(Usage, match="no partition 99"):
        cdc(park, f"{topic}:99:1")
    with pytest.raises(Usage, match="no pipeline reads"):
        cdc(park, "another.public.topic:0:1")


def test_a_record_at_which_the_pipeline_stops(
    fresh: Source, pipelines: Maker, capsys: pytest.CaptureFixture[str]
) -> None:
    """A truncate that the policy refuses: it is set aside on purpose, the rest goes on, and later it is applied."""
    pipeline = pipelines(fresh)
    text = pipeline.mapping_file.read_text(encoding="utf-8")
    text = text.replace("to: hub.lines}", "to: hub.lines, on_truncate: refuse}")
    pipeline.mapping_file.write_text(text, encoding="utf-8")
    cdc = Operator(pipeline, capsys)
    with running(pipeline):
        before = pipeline.texts("lines")
    fresh.run("TRUNCATE lines", "INSERT INTO lines VALUES (1, 7, 'after', NULL)")
    fresh.captured()
    for _ in range(2):
        worker = pipeline.start()
        assert worker.ends() == 1, worker.tail()
        (line,) = worker.said("refuses that")
        code, found = cdc(status)
        assert (code, found["pipelines"][0]["state"]) == (1, "failed")
        assert f"cdc park {line['where']}" in found["pipelines"][0]["error"]
    assert pipeline.texts("lines").keys() >= before.keys()

    code, plan = cdc(park, line["where"], pipeline=pipeline.name, execute=True, reason="the archive keeps them")
    assert (code, plan["executed"], plan["before"]) == (0, True, 0)
    with running(pipeline):
        assert pipeline.texts("lines").keys() == before.keys() | {("1", "7")}
        (parked,) = cdc(list_)[1]
        assert (parked["reason"], parked["where"], parked["behind"]) == ("on_request", line["where"], [])
        assert cdc(list_, by="table")[1] == [{"pipeline": pipeline.name, "table": "hub.lines", "number": 1}]
        code, done = cdc(retry, parked["id"], execute=True, reason="now they may go")
        assert (code, done["numbers"]) == (0, {"settled": 1})
        checks.equal(fresh, pipeline)
    checks.counted(pipeline)


def test_a_pipeline_over_its_limits_goes_on_after_a_retry_a_discard_or_a_higher_limit(
    fresh: Source, pipelines: Maker, capsys: pytest.CaptureFixture[str]
) -> None:
    fresh.run(f"INSERT INTO items VALUES ({KEY}, '{REFUSED}', 1, NULL, 0), ({KEY + 1}, '{REFUSED}', 1, NULL, 0)")
    fresh.captured()
    pipeline = pipelines(fresh, options=("parked: {max: 1, max_age: 1h}",))
    cdc = Operator(pipeline, capsys)

    def stops(told: str) -> None:
        worker = pipeline.start()
        assert worker.ends() == 1, worker.tail()
        assert worker.said(told), worker.tail()
        code, found = cdc(status)
        assert (code, told in str(found["pipelines"][0]["problems"])) == (1, True)

    stops("2 records are parked, more than the 1")
    at = pipeline.watermarks()
    fresh.run("UPDATE items SET rev = rev + 1 WHERE id < 10")
    fresh.captured()
    stops("2 records are parked, more than the 1")
    assert pipeline.watermarks() == at, "a worker over the limit applies nothing"

    # a retry that comes to nothing, one that mends
    first, second = (each["id"] for each in cdc(list_)[1])
    assert cdc(retry, first, execute=True, reason="nothing has changed")[1]["numbers"] == {"waiting": 1}
    stops("2 records are parked, more than the 1")
    assert cdc(discard, first, execute=True, reason="a test row")[1]["numbers"] == {"discarded": 1}
    fresh.run("UPDATE items SET rev = rev + 1 WHERE id < 10")
    fresh.captured()
    with running(pipeline):
        pass
    pipeline.run("UPDATE cdc.parked SET parked_at = now() - interval '2 hours'")
    stops("longer than the 3,600 s")
    pipeline.run("ALTER TABLE hub.items DROP CONSTRAINT items_name_check")
    assert cdc(retry, second, execute=True, reason="the check is gone")[1]["numbers"] == {"waiting": 1}
    with running(pipeline):
        eventually(lambda: cdc(list_)[1] == [], 20, "the worker that started did it")
    checks.counted(pipeline)
