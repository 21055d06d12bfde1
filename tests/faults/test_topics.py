"""Topics that are no longer what the watermarks speak of: nothing is lost without a word."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from kafka import TopicPartition

from tests.faults import checks
from tests.faults.forge import Forger, forging, row
from tests.faults.pipeline import TEMPORARY, Pipeline
from tests.faults.source import Source
from tests.faults.test_bad_input import refused
from tests.faults.topics import PLACEHOLDER
from tests.fix_pipeline import Maker
from tests.waiting import eventually

pytestmark = pytest.mark.stack


@pytest.fixture
def forger(source: Source) -> Iterator[Forger]:
    with forging(source) as made:
        yield made


def applied(forger: Forger, pipelines: Maker, rows: int) -> Pipeline:
    """A pipeline that has applied so many forged rows and was stopped."""
    for number in range(rows):
        forger.put(number)
    pipeline = pipelines(of=forger.source, tables=("items",))
    pipeline.start()
    pipeline.catches_up()
    pipeline.stop()
    return pipeline


def test_a_topic_was_created_again(forger: Forger, pipelines: Maker) -> None:
    """Under its old name and with more records than before: offsets alone would look fine."""
    forger.create()
    pipeline = applied(forger, pipelines, 5)
    forger.delete()
    forger.create()
    for number in range(100, 110):
        forger.put(number)
    line = refused(pipeline, pipeline.start())
    assert "created again" in line["error"]
    assert line["where"] == f"{forger.topic}:0"
    assert "rewind" in line["hint"]
    assert pipeline.rows("SELECT max(id) FROM hub.items") == [(4,)]


def test_a_topic_is_created_again_under_a_running_pipeline(forger: Forger, pipelines: Maker) -> None:
    """The worker does not read on in the new topic at the old one's offset."""
    forger.create()
    pipeline = applied(forger, pipelines, 5)
    worker = pipeline.start()
    eventually(lambda: worker.said("partitions assigned"), 30, "the worker has its partition")
    forger.delete()
    forger.create()
    for number in range(100, 110):
        forger.put(number)
    line = refused(pipeline, worker)
    assert "created again" in line["error"] or "offset" in line["error"]
    assert pipeline.rows("SELECT max(id) FROM hub.items") == [(4,)]


def test_retention_passed_the_watermark(forger: Forger, pipelines: Maker) -> None:
    forger.create()
    pipeline = applied(forger, pipelines, 5)
    for number in range(5, 20):
        forger.put(number)
    forger.admin.delete_records({TopicPartition(forger.topic, 0): 12})
    line = refused(pipeline, pipeline.start())
    assert "offsets 5 to 11 are gone" in line["error"]
    assert line["where"] == f"{forger.topic}:0"
    assert "cdc source load" in line["hint"]


def test_a_topic_that_lost_its_end(forger: Forger, pipelines: Maker) -> None:
    """A broker that came back with less: the watermark lies behind the end."""
    forger.create()
    pipeline = applied(forger, pipelines, 5)
    pipeline.rewind({(forger.topic, 0): 9})
    line = refused(pipeline, pipeline.start())
    assert "watermark 9 lies behind the topic's end 5" in line["error"]


def test_a_compacted_topic_is_refused(forger: Forger, pipelines: Maker) -> None:
    forger.create(cleanup_policy="compact")
    forger.put(1)
    pipeline = pipelines(of=forger.source, tables=("items",))
    line = refused(pipeline, pipeline.start())
    assert "compacted" in line["error"]
    assert "cleanup.policy=delete" in line["hint"]
    assert pipeline.watermarks() == {}


def test_partitions_are_added_before_the_old_one_is_drained(forger: Forger, pipelines: Maker) -> None:
    """Keys move to the new partition; their newer changes there wait for the older ones.

    They are partial images: applied too soon they would find no row, or be overtaken by the full one.
    """
    forger.create()
    pipeline = applied(forger, pipelines, 5)
    for number in range(100, 400):
        forger.put(number, big="large")
    forger.admin.create_partitions({forger.topic: 2})
    eventually(lambda: len(forger.producer.partitions_for(forger.topic)) == 2, 30, "the producer knows")
    for number in range(100, 400):
        forger.send(forger.key(number), forger.value("u", row(number, big=PLACEHOLDER, rev=1)), partition=1)
    worker = pipeline.start()
    pipeline.catches_up()
    assert worker.said("the topic grew")
    assert pipeline.parked() == []
    assert ("parked", "update_missing") not in checks.outcomes(pipeline)
    assert pipeline.rows("SELECT count(*) FROM hub.items WHERE rev = 1 AND big = 'large'") == [(300,)]
    assert checks.counted(pipeline) == 605


def test_partitions_are_added_under_a_running_pipeline(forger: Forger, pipelines: Maker) -> None:
    forger.create()
    pipeline = applied(forger, pipelines, 5)
    pipeline.start()
    for number in range(100, 200):
        forger.put(number, big="large")
    forger.admin.create_partitions({forger.topic: 2})
    eventually(lambda: len(forger.producer.partitions_for(forger.topic)) == 2, 30, "the producer knows")
    for number in range(100, 200):
        forger.send(forger.key(number), forger.value("u", row(number, big=PLACEHOLDER, rev=1)), partition=1)
    pipeline.catches_up()
    assert pipeline.rows("SELECT count(*) FROM hub.items WHERE rev = 1 AND big = 'large'") == [(100,)]
    assert checks.counted(pipeline) == 205


def test_no_broker_at_the_start(source: Source, pipelines: Maker) -> None:
    """The worker gives up for now and says whom it could not reach; its supervisor starts it again."""
    pipeline = pipelines(kafka="127.0.0.1:9")
    worker = pipeline.start()
    assert worker.ends() == TEMPORARY, pipeline.logs()
    (line,) = worker.said("gives up for now")
    assert line["where"] == "127.0.0.1:9"
    assert "Kafka does not answer" in line["error"]
