"""What is deployed of a pipeline, and what `cdc run` makes of a file that says something else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import structlog

from cdc.control.operate import opened, who
from cdc.control.park import Place
from cdc.engine.deployed import file_of, newest, read
from cdc.errors import Transient, Usage
from cdc.mapping.model import Pipeline
from cdc.model import TopicPartition
from cdc.settings import Settings
from cdc.target.versions import Deployed, in_force, version_at

_log = structlog.get_logger(__name__)

FIRST = "the first run"


def text_of(pipeline: Pipeline) -> str:
    """The whole file's text."""
    assert pipeline.document is not None, "a pipeline comes from a text"
    return pipeline.document.file.text


def says_the_same(one: Pipeline, other: Pipeline) -> bool:
    """Whether two texts mean the same for their target; comments, line breaks and the order of things are none."""
    return _meaning(one) == _meaning(other)


def _meaning(pipeline: Pipeline) -> dict[str, Any]:
    return pipeline.model_dump(exclude={"description"}) | {
        "tables": {table.id: table.model_dump() for table in pipeline.tables}
    }


def as_deployed(settings: Settings, pipelines: Sequence[Pipeline]) -> list[Pipeline]:
    """The pipelines as workers run them. One that was never deployed is deployed as it is: version 1. Where the file
    differs from what is deployed, that is said, and what is deployed is run. A target that cannot be asked now is asked
    by its workers. Raises `Terminal` for a version that cannot be run."""
    found = []
    for pipeline in pipelines:
        try:
            found.append(_as_deployed(settings, pipeline))
        except Transient as error:
            _log.warning("it could not be seen which mappings are deployed", pipeline=pipeline.label, error=error.what)
            found.append(pipeline)
    return found


def _as_deployed(settings: Settings, pipeline: Pipeline) -> Pipeline:
    with opened(settings, pipeline) as operator:
        deployed = newest(operator)
        if deployed is None:
            first = Deployed(1, text_of(pipeline), str(file_of(pipeline)), who(), FIRST)
            if operator.deploy(first):
                return pipeline
            deployed = newest(operator)  # somebody else was faster
        assert deployed is not None, "a deployment fails only because of another one"
    running = read(deployed, pipeline.target)
    if not says_the_same(running, pipeline):
        _log.warning(
            f"the file is not what runs: version {deployed.number} is deployed, and is run",
            pipeline=pipeline.label,
            file=pipeline.file,
            see=f"cdc mapping plan {pipeline.label}",
        )
    return running


def history(settings: Settings, pipeline: Pipeline) -> list[Deployed]:
    """All deployed versions, the newest first."""
    with opened(settings, pipeline) as operator:
        return operator.versions()


def version_of(settings: Settings, pipeline: Pipeline, place: Place) -> Deployed:
    """The version that applied a record, or will. Raises `Usage` when none was deployed then."""
    with opened(settings, pipeline) as operator:
        versions = operator.versions()
        last = versions[0].number if versions else 0
        known = in_force(operator.switches(), last).get(TopicPartition(place.topic, place.partition))
    number = last if known is None else version_at(known, place.offset)
    found = next((version for version in versions if version.number == number), None)
    if found is None:
        raise Usage(f"no version was deployed when {place} was applied", hint="a file was run, as it was then")
    return found
