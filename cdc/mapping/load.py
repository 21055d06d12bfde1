"""Pipeline files -> `Pipeline`. Every finding of all files is raised in one `MappingError`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from cdc import yamlfile
from cdc.errors import Usage
from cdc.mapping import model
from cdc.mapping.diagnostics import Diagnostic, MappingError, Note, did_you_mean, from_yaml
from cdc.mapping.expressions import syntax_problems
from cdc.mapping.history_plan import spec_findings
from cdc.mapping.mask_checks import key_findings
from cdc.mapping.model import Pipeline, TableMapping
from cdc.mapping.request_checks import request_findings
from cdc.mapping.rule_checks import rule_findings
from cdc.yamlfile import Document, Span, ValuePath, YamlError

SUFFIXES = (".yaml", ".yml")
Shape = TypeVar("Shape", bound=BaseModel)
_TEXT_OF_TYPE = {
    "string_type": "text is wanted here",
    "int_type": "a whole number is wanted here",
    "bool_type": "true or false is wanted here",
    "tuple_type": "a list is wanted here",
    "dict_type": "a mapping (key: value) is wanted here",
    "model_type": "a mapping (key: value) is wanted here",
    "too_short": "at least one is wanted here",
    "model_attributes_type": "a mapping (key: value) is wanted here",
}


def load(path: str | os.PathLike[str]) -> Pipeline:
    """The pipeline in the file `path`. Raises `MappingError` (what is wrong in it) or `Usage` (cannot be read)."""
    return loads(yamlfile.read_text(path), str(path))


def loads(text: str, name: str = "<text>") -> Pipeline:
    """The pipeline in `text`; `name` is shown in errors."""
    document = parsed(text, name)
    pipeline = validated(document, Pipeline).bind(document)
    found = [*clashes([pipeline]), *_unknown_targets(pipeline), *rule_findings(pipeline)]
    found += [each for table in pipeline.tables for each in _own_findings(table)]
    if found:
        raise MappingError(found)
    return pipeline


def load_all(folder: str | os.PathLike[str]) -> tuple[Pipeline, ...]:
    """All pipelines of a folder (its *.yaml files), in the order of their file names, checked against one another."""
    return load_files(files_in(folder))


def files_in(folder: str | os.PathLike[str]) -> list[Path]:
    """The mapping files of a folder: visible .yaml and .yml files, sorted."""
    try:
        entries = sorted(Path(folder).iterdir())
    except OSError as error:
        raise Usage(f"cannot read the folder: {error.strerror}", where=str(folder)) from error
    return [entry for entry in entries if entry.suffix in SUFFIXES and not entry.name.startswith(".")]


def load_files(paths: Iterable[str | os.PathLike[str]]) -> tuple[Pipeline, ...]:
    """Several files, checked one by one and against one another."""
    pipelines: list[Pipeline] = []
    found: list[Diagnostic] = []
    for path in paths:
        try:
            pipelines.append(load(path))
        except MappingError as error:
            found += error.diagnostics
    known = set(found)
    found += [clash for clash in clashes(pipelines) if clash not in known]
    if found:
        raise MappingError(found)
    return tuple(pipelines)


def clashes(pipelines: Sequence[Pipeline]) -> list[Diagnostic]:
    """What is wrong only because of something written elsewhere: one name twice, one target table written twice."""
    found: list[Diagnostic] = []
    names: dict[str, Pipeline] = {}
    tables: dict[tuple[str, model.QualifiedName], TableMapping] = {}
    for pipeline in pipelines:
        earlier = names.setdefault(pipeline.name, pipeline)
        if earlier is not pipeline:
            found.append(_twice(f"the pipeline name '{pipeline.name}'", _place(pipeline), _place(earlier)))
        for table in pipeline.tables:
            for target in table.targets or pipeline.targets:
                first = tables.setdefault((target, table.to), table)
                if first is not table and not _contribute(table, first):
                    here, there = table.finding("", "", ("to",)), first.finding("", "", ("to",))
                    found.append(_twice(f"the table {table.to} of target '{target}'", here, there))
    return found


def _contribute(table: TableMapping, other: TableMapping) -> bool:
    """Whether both are sources of one table's rows, by the rules of one pipeline."""
    return table.contributor is not None and table.target_id == other.target_id and table.id != other.id


def _unknown_targets(pipeline: Pipeline) -> Iterable[Diagnostic]:
    """Tables for targets that the pipeline does not name, and targets that no table goes to."""
    for table in pipeline.tables:
        for place, name in enumerate(table.targets or ()):
            if name not in pipeline.targets:
                message, advice = f"'{name}' is none of this pipeline's targets", did_you_mean(name, pipeline.targets)
                yield table.finding("unknown-target", message, ("targets", place), help=advice)
    for place, name in enumerate(pipeline.targets):
        path: ValuePath = ("targets", place) if pipeline.targets_ else ("target",)
        if pipeline.document is not None and not pipeline.part(name).tables:
            span = pipeline.document.span(path)
            yield Diagnostic("bad-value", f"no table goes to the target '{name}'", pipeline.document.file, span)
        if pipeline.document is not None and name in pipeline.targets[:place]:
            span = pipeline.document.span(path)
            yield Diagnostic("bad-value", f"the target '{name}' is named twice", pipeline.document.file, span)


def _place(pipeline: Pipeline) -> Diagnostic:
    assert pipeline.document is not None
    return Diagnostic("", "", pipeline.document.file, pipeline.document.span(("pipeline",)))


def _twice(what: str, here: Diagnostic, there: Diagnostic) -> Diagnostic:
    return Diagnostic(
        "written-twice",
        f"{what} is already written at {there.where}",
        here.file,
        here.span,
        notes=(Note("first", there.file, there.span),),
    )


def parsed(text: str, name: str) -> Document:
    """The document in `text`. Raises `MappingError` for what is no plain YAML."""
    try:
        return yamlfile.parse(text, name)
    except YamlError as error:
        raise from_yaml(error) from None


def validated(document: Document, shape: type[Shape]) -> Shape:
    """The document as a model. Raises `MappingError` with everything that does not fit, each at its place."""
    try:
        return shape.model_validate(document.value)
    except ValidationError as errors:
        # A list whose items are all wrong is "too short" to pydantic as well.
        found = [error for error in errors.errors() if error["type"] != "too_short" or not error["input"]]
        raise MappingError(_diagnostic(document, error, shape) for error in found) from None


def _own_findings(table: TableMapping) -> Iterable[Diagnostic]:
    """What is wrong with one mapping whatever the source's schema is."""
    if not table.source_name:
        message, where = "no source is named for this table", "add 'source:' here or at the top"
        yield table.finding("no-source", message, ("from",), help=where)
    yield from spec_findings(table)
    columns = table.columns
    for problem in syntax_problems(table.where) if table.where is not None else ():
        within = (problem.start, problem.length)
        yield table.finding(problem.code, problem.message, ("where",), help=problem.help, within=within)
    for name, spec in columns.named.items():
        path: ValuePath = ("columns", name, "sql")
        for problem in syntax_problems(spec.sql) if spec.sql is not None else ():
            within = (problem.start, problem.length)
            yield table.finding(problem.code, problem.message, path, help=problem.help, within=within)
    yield from key_findings(table, table.key or ())
    yield from request_findings(table, None if columns.everything is not None else columns.named, table.key)
    if columns.everything is not None:
        below: ValuePath = ("columns", model.EVERYTHING, "rename")
        for name in columns.everything.rename:
            if name in columns.everything.except_:
                yield table.finding("bad-value", f"'{name}' is left out and renamed", (*below, name), key=True)
        return
    for place, name in enumerate(table.key or ()):
        if name not in columns.named:
            advice = did_you_mean(name, list(columns.named))
            message = f"'{name}' is not a column of the target"
            yield table.finding("unknown-key-column", message, ("key", place), help=advice)


def _diagnostic(document: Document, error: ErrorDetails, shape: type[BaseModel]) -> Diagnostic:
    """A pydantic error in the words and the place of the file."""
    kind = error["type"]
    path = _existing(document.value, error["loc"])
    if kind == "extra_forbidden":
        name = str(path[-1])
        known = _keys_at(path[:-1], shape)
        return Diagnostic(
            "unknown-key",
            f"unknown key '{name}'",
            document.file,
            document.span(path, key=True),
            did_you_mean(name, known),
        )
    if kind == "missing":
        name = str(error["loc"][-1])
        return Diagnostic("missing-key", f"'{name}:' is missing", document.file, _opening(document, path))
    if kind in {"literal_error", "enum"}:
        expected = str(error.get("ctx", {}).get("expected", ""))
        choices = [part.strip("' ") for part in expected.replace(" or ", ", ").split(",")]
        text = f"'{error['input']}' is not one of {', '.join(choices)}"
        span = document.span(path, key=error["loc"][-1] == "[key]")  # a key that is none of the words
        return Diagnostic("bad-value", text, document.file, span, did_you_mean(str(error["input"]), choices))
    message = _TEXT_OF_TYPE.get(kind) or error["msg"][:1].lower() + error["msg"][1:]
    return Diagnostic(kind.replace("_", "-"), message, document.file, document.span(path))


def _opening(document: Document, path: ValuePath) -> Span:
    """Where a mapping begins: its key when it has one (the whole block would be underlined otherwise)."""
    if path and isinstance(path[-1], str):
        return document.span(path, key=True)
    whole = document.span(path)
    return Span(whole.line, whole.column, whole.line, whole.column + 1)


def _existing(value: Any, loc: tuple[int | str, ...]) -> ValuePath:
    """The part of pydantic's location that exists in the file (it also names union branches and missing keys)."""
    path: list[str | int] = []
    for step in loc:
        inside = step in value if isinstance(value, dict) else isinstance(value, list) and step in range(len(value))
        if inside:
            value = value[step]
            path.append(step)
    return tuple(path)


def _keys_at(path: ValuePath, kind: type[BaseModel]) -> list[str]:
    """The keys that the language knows at a place below `kind`."""
    for step in path:
        if isinstance(step, int):
            continue
        if kind is model.Columns:
            kind = model.Star if step == model.EVERYTHING else model.ColumnSpec
            continue
        for name, field in kind.model_fields.items():
            if (field.alias or name) == step:
                kind = next(iter(_models_in(field.annotation)), kind)
    return [field.alias or name for name, field in kind.model_fields.items()]


def _models_in(annotation: Any) -> Iterable[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)
