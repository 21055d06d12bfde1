"""A deployed version of the mappings, as a worker runs it.

A version that cannot be run stops the worker with what is wrong: nothing is written by rules that the record says are
no longer in force. `cdc mapping rollback` works while nothing runs, and the workers that start next run what it brought
back.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from cdc.errors import CdcError, Terminal
from cdc.mapping.load import loads
from cdc.mapping.model import Pipeline
from cdc.source.positions import SourceKind
from cdc.target.base import Target
from cdc.target.operator import Operator
from cdc.target.versions import Deployed

_VERSION = re.compile(r"@\d+$")


@dataclass(frozen=True)
class Adopted:
    """What a worker needs of a version. `target` is not open yet."""

    pipeline: Pipeline
    target: Target
    source_kinds: dict[str, SourceKind]


def newest(operator: Operator) -> Deployed | None:
    """What is deployed."""
    return next(iter(operator.versions()), None)


def read(deployed: Deployed, target: str) -> Pipeline:
    """The pipeline's part for a target. Its places are told as FILE@NUMBER:LINE: the file may have changed since.
    Raises `Terminal`."""
    try:
        whole = loads(deployed.text, f"{deployed.file}@{deployed.number}")
    except CdcError as error:
        raise cannot_run(deployed, error) from error
    if target not in whole.targets:
        raise Terminal(f"version {deployed.number} of the mappings has no target {target}", where=deployed.file)
    return whole.part(target)


def file_of(pipeline: Pipeline) -> Path:
    """The file that a pipeline, or a deployed version of it, was written in."""
    return Path(_VERSION.sub("", pipeline.file))


def cannot_run(deployed: Deployed, error: CdcError) -> Terminal:
    """The error of a version that another release took, and this one does not, or that the connections do not fit."""
    return Terminal(
        f"version {deployed.number} of the mappings cannot be run: {error.what}",
        where=error.where or deployed.file,
        hint="cdc mapping rollback brings an older version back; then start it again",
    )
