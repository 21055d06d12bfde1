"""What a test of a mapping may say: the models of mappings/tests/*.yaml, and how they are read.

A test is played on its own: rows that are there, events that come, what was decided about each, rows that must be there
afterwards. Shape only; values meet the columns' types in script.py.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr
from pydantic.json_schema import WithJsonSchema

from cdc import yamlfile
from cdc.errors import Usage
from cdc.mapping import schema_json
from cdc.mapping.diagnostics import Diagnostic, MappingError, Note
from cdc.mapping.load import files_in, parsed, validated
from cdc.yamlfile import Document, ValuePath

FOLDER = "tests"
"""Beside the pipeline files: a folder of its own, so that no command takes a test for a pipeline."""
SCHEMA_FILE = ".test.schema.json"
MODELINE = f"# yaml-language-server: $schema=../{SCHEMA_FILE}"

Name: TypeAlias = Annotated[str, Field(min_length=1)]
Row: TypeAlias = Annotated[dict[Name, Any], WithJsonSchema({"type": "object"})]
Rows: TypeAlias = dict[Name, Annotated[tuple[Row, ...], Field(strict=False)]]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)


class SourceTable(_Part):
    """A source table of the events: what its database would say of it."""

    key: Annotated[tuple[Name, ...], Field(strict=False)] | None = None
    """Its key columns. Default: `id`, where it has one."""
    columns: dict[Name, Name] = Field(default_factory=dict)
    """Types as the source's database writes them: `numeric(12,2)`, `text[]`, `bigint unsigned`. A column that is not
    named here has the type that its values in the events look like."""
    kind: Literal["postgresql", "mariadb"] | None = None
    """Default: what connections.yaml says of the source, else postgresql."""


class Event(_Part):
    """One change of a source row."""

    table: Name
    """The source table, as the mapping's `from` names it; `source.schema.table` where several sources have one."""
    op: Literal["create", "update", "delete", "read", "truncate"]
    """`read`: a snapshot met the row."""
    before: Row | None = None
    """The row before the change, where the source sends it: PostgreSQL with REPLICA IDENTITY FULL, MariaDB always.
    With another key than `after` it is a change of key."""
    after: Row | None = None
    """The row after the change. Columns that are not named are NULL."""
    key: Row | None = None
    """In place of `before`: only the key of the row before, as PostgreSQL sends it of a delete or a change of key."""
    unavailable: tuple[Name, ...] = Field(default=(), strict=False)
    """Columns of `after` that the source does not send, because a large value did not change."""
    snapshot: Literal["initial", "incremental"] = "initial"
    """Of a `read`: which kind of snapshot met the row."""
    time: Name | None = None
    """When it was committed: `2026-11-25T10:00:00Z`. Default: a second after the event before it."""
    position: int | None = Field(default=None, ge=1)
    """Where it stands in the source's log. Default: 100 for the first event, 200 for the second, and so on."""
    transaction: Name | None = None
    """The source's transaction."""
    decision: Name | dict[Name, Name] | None = None
    """What is decided about it: `applied`, `skipped:REASON`, `parked:REASON`, `TYPE:ACTION` of a conflict, or `stopped`
    (the pipeline); by target table where it goes to several. Not said: anything but parked or stopped."""


class Case(_Part):
    """One test."""

    name: Name
    """What it shows."""
    target: Name | None = None
    """Of a pipeline with several targets: which of them."""
    given: Rows = Field(default_factory=dict)
    """By target table: rows that this pipeline wrote before the first event."""
    foreign: Rows = Field(default_factory=dict)
    """By target table: rows that somebody else made there."""
    events: tuple[Event, ...] = Field(min_length=1, strict=False)
    """What comes, in this order."""
    rows: Rows = Field(default_factory=dict)
    """By target table: all rows that are there afterwards. Columns that a row does not name are not compared."""
    parked: dict[Name, Annotated[tuple[Name, ...], Field(strict=False)]] | None = None
    """By target table: why records are still parked at the end, in the order in which they came."""


class CaseFile(_Part):
    """A file of tests of one pipeline."""

    pipeline: Name
    """The pipeline file, relative to this one: `../crm.yaml`."""
    sources: dict[Name, SourceTable] = Field(default_factory=dict)
    """The source tables of the events, named as the events name them. What is not said follows from the values."""
    tests: tuple[Case, ...] = Field(min_length=1, strict=False)
    """The tests."""

    _document: Document | None = PrivateAttr(default=None)

    @property
    def document(self) -> Document:
        assert self._document is not None, "a test is read from a file"
        return self._document

    @property
    def pipeline_file(self) -> Path:
        return Path(os.path.normpath(Path(self.document.name).parent / self.pipeline))

    def finding(
        self, code: str, message: str, path: ValuePath, *, help: str | None = None, notes: tuple[Note, ...] = ()
    ) -> Diagnostic:
        return Diagnostic(code, message, self.document.file, self.document.span(path), help, notes=notes)


def load_cases(path: str | os.PathLike[str]) -> CaseFile:
    """The tests in a file. Raises `MappingError`, `Usage` when it cannot be read."""
    return parse_cases(yamlfile.read_text(path), str(path))


def parse_cases(text: str, name: str) -> CaseFile:
    document = parsed(text, name)
    cases = validated(document, CaseFile)
    cases._document = document
    if not cases.pipeline_file.is_file():
        message = f"there is no file {cases.pipeline_file}"
        raise MappingError([cases.finding("no-pipeline", message, ("pipeline",), help="relative to this file")])
    return cases


def find_cases(paths: Iterable[Path]) -> list[Path]:
    """The files of tests among these: files as they are, folders with what they or their tests/ hold."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inner = path / FOLDER
            found += files_in(inner if inner.is_dir() else path)
        elif path.parent.name == FOLDER or not (path.parent / FOLDER / path.name).exists():
            found.append(path)
        else:  # a pipeline file: its tests
            found.append(path.parent / FOLDER / path.name)
    if not found:
        where = ", ".join(str(path) for path in paths)
        raise Usage("there are no tests here", where=where, hint=f"write {FOLDER}/NAME.yaml beside the pipeline file")
    return found


def schema_text() -> str:
    """The JSON Schema of a file of tests, for editors."""
    return schema_json.text(CaseFile, "Tests of a pipeline: one file in mappings/tests/")
