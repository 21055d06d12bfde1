"""What the tests of the operator's commands share: commands as the command line calls them, a worker, a change."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cdc.cli.audit import audit
from tests.faults.pipeline import Pipeline
from tests.faults.source import Source

Json = Any


class Operator:
    """Calls commands as the command line does, and reads their JSON."""

    def __init__(self, pipeline: Pipeline, capture: pytest.CaptureFixture[str]) -> None:
        self.pipeline = pipeline
        self._capture = capture
        folder = pipeline.folder / f"mappings_{pipeline.name}"
        folder.mkdir()
        shutil.copy(pipeline.mapping_file, folder)
        self.connections = pipeline.connections_file
        self.mappings = folder

    @property
    def files(self) -> dict[str, Path]:
        return {"mappings": self.mappings, "connections": self.connections}

    def __call__(self, command: Callable[..., int | None], *words: object, **options: object) -> tuple[int, Json]:
        """Exit code and JSON of a command."""
        self._capture.readouterr()
        code = command(*words, **{**self.files, "output": "json", **options})
        return code or 0, json.loads(self._capture.readouterr().out)

    def shown(self, command: Callable[..., int | None], *words: object, **options: object) -> str:
        """What a person sees."""
        self._capture.readouterr()
        command(*words, **{**self.files, **options})
        return self._capture.readouterr().out

    def audits(self, command: str) -> list[Json]:
        self._capture.readouterr()
        audit(command=command, output="json", connections=self.connections)
        found: list[Json] = json.loads(self._capture.readouterr().out)
        return found


@contextmanager
def running(pipeline: Pipeline) -> Iterator[None]:
    """A worker that has caught up; stopped in order at the end."""
    worker = pipeline.start()
    pipeline.catches_up()
    yield
    assert worker.stop() == 0, worker.tail()


def touch(source: Source, table: str = "items") -> None:
    """A change of every row: each partition has something to commit."""
    source.run(f"UPDATE {table} SET " + ("rev = rev + 1" if table == "items" else "body = body || '.'"))
    source.captured()
