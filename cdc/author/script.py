"""A test made ready to be played: its source tables as schemas, its events as change events, its rows as values.

Everything that the file says meets the columns' types here; what does not fit is a finding at its place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import msgspec

from cdc.author import sources, values
from cdc.author.cases import Case, CaseFile, Event, Row
from cdc.author.keys import OpenKeys
from cdc.engine.plans import Plans
from cdc.entries import SourceKind
from cdc.mapping import constants
from cdc.mapping.diagnostics import Diagnostic, MappingError, Note, did_you_mean
from cdc.mapping.model import Pipeline
from cdc.model import (
    UNAVAILABLE,
    ChangeEvent,
    ColumnType,
    Op,
    Position,
    RawRecord,
    TableSchema,
    TargetTable,
    Value,
)
from cdc.yamlfile import ValuePath

EPOCH = 1
STEP = 100
"""Between the positions of events that do not say theirs."""
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
_OPS = {"create": Op.CREATE, "update": Op.UPDATE, "delete": Op.DELETE, "read": Op.READ, "truncate": Op.TRUNCATE}

KindOf = Callable[[str], SourceKind]
Image = tuple[Value, ...]


@dataclass(frozen=True)
class Expected:
    """A row as the test writes it. `values`: of the columns that it names, by name."""

    key: Image
    values: Mapping[str, Value]
    path: ValuePath


@dataclass
class Script:
    """One test, ready. `events`: of each event the change events that it is (a change of key is two). `tables`: the
    target tables by their name in the file."""

    case: Case
    pipeline: Pipeline
    schemas: dict[str, TableSchema]
    events: list[list[ChangeEvent]]
    given: dict[str, list[Image]] = field(default_factory=dict)
    foreign: dict[str, list[Image]] = field(default_factory=dict)
    expected: dict[str, list[Expected]] = field(default_factory=dict)


def script_of(cases: CaseFile, number: int, pipeline: Pipeline, kind_of: KindOf) -> Script:
    """The test of this number. `pipeline`: the part that runs for one target. Raises `MappingError`."""
    return _Writer(cases, number, pipeline, kind_of).script()


class _Writer:
    def __init__(self, cases: CaseFile, number: int, pipeline: Pipeline, kind_of: KindOf) -> None:
        self.cases = cases
        self.case = cases.tests[number]
        self.path: ValuePath = ("tests", number)
        self.pipeline = pipeline
        self.kind_of = kind_of
        self.found: list[Diagnostic] = []
        self.names = _source_names(pipeline)
        self.schemas: dict[str, TableSchema] = {}
        self.offsets: dict[str, int] = {}

    def script(self) -> Script:
        self._check_names()
        self._stop()
        self._schemas()
        self._stop()
        events = [self._events(number, event) for number, event in enumerate(self.case.events)]
        self._stop()
        script = Script(self.case, self.pipeline, self.schemas, events)
        tables = self._tables()
        script.given = {name: list(self._images("given", name, tables)) for name in self.case.given}
        script.foreign = {name: list(self._images("foreign", name, tables)) for name in self.case.foreign}
        script.expected = {name: list(self._expected(name, tables)) for name in self.case.rows}
        self._check_decisions(tables)
        self._stop()
        return script

    # -- names

    def _check_names(self) -> None:
        for number, event in enumerate(self.case.events):
            if event.table not in self.names:
                message = f"{self.pipeline.file} maps no table {event.table}"
                self._error(message, ("events", number, "table"), did_you_mean(event.table, list(self.names)))
        for name in self.cases.sources:
            if name not in self.names:
                help_ = did_you_mean(name, list(self.names))
                message = f"{self.pipeline.file} maps no table {name}"
                self.found.append(self.cases.finding("unknown-table", message, ("sources", name), help=help_))

    def _check_decisions(self, tables: Mapping[str, TargetTable]) -> None:
        for number, event in enumerate(self.case.events):
            if isinstance(event.decision, dict):
                for name in event.decision:
                    if name not in tables:
                        path = ("events", number, "decision", name)
                        self._error(f"no target table {name}", path, did_you_mean(name, list(tables)))
        for name in self.case.parked or ():
            if name not in tables:
                self._error(f"no target table {name}", ("parked", name), did_you_mean(name, list(tables)))

    # -- source tables

    def _schemas(self) -> None:
        for topic in dict.fromkeys(self.names.values()):
            self._schema(topic)

    def _schema(self, topic: str) -> None:
        names = [name for name, each in self.names.items() if each == topic]
        said = [name for name in names if name in self.cases.sources]
        declared = self.cases.sources[said[0]] if said else None
        source = self.names_of_source[topic]
        kind = (declared.kind if declared else None) or self.kind_of(source)
        rows: dict[str, list[Any]] = {}
        for case in self.cases.tests:
            for event in case.events:
                if self.names.get(event.table) == topic:
                    for column, value in _values_of(event):
                        rows.setdefault(column, []).append(value)
        columns = dict(declared.columns) if declared else {}
        if not columns and not rows:
            return  # this test knows nothing of it
        for column, found in rows.items():
            columns.setdefault(column, sources.guessed(found, kind))
        key = (declared.key if declared else None) or (("id",) if "id" in columns else ())
        path: ValuePath = ("sources", said[0]) if said else self._first(topic)
        if not key or any(name not in columns for name in key):
            help_ = f"sources: {{{names[0]}: {{key: […]}}}}"
            message = f"which columns are the key of {names[0]}?"
            self.found.append(self.cases.finding("no-key", message, path, help=help_))
            return
        self._make_schema(topic, source, kind, columns, key, path)

    def _make_schema(
        self, topic: str, source: str, kind: SourceKind, columns: dict[str, str], key: Sequence[str], path: ValuePath
    ) -> None:
        name = (topic.removeprefix(f"{source}.").partition(".")[0], topic.removeprefix(f"{source}.").partition(".")[2])
        for column, text in columns.items():
            try:
                sources.native_of(text, kind)
            except sources.UnknownType as error:
                place = (*path, "columns", column)
                help_ = did_you_mean(text, error.known)
                self.found.append(self.cases.finding("unknown-type", str(error), place, help=help_))
                return
        self.schemas[topic] = sources.schema_of(source, kind, name, columns, key)

    def _first(self, topic: str) -> ValuePath:
        for index, case in enumerate(self.cases.tests):
            for place, event in enumerate(case.events):
                if self.names.get(event.table) == topic:
                    return ("tests", index, "events", place, "table")
        return ("pipeline",)

    @property
    def names_of_source(self) -> dict[str, str]:
        return {
            f"{table.source_name}.{table.from_.namespace}.{table.from_.name}": table.source_name
            for table in self.pipeline.tables
        }

    # -- events

    def _events(self, number: int, event: Event) -> list[ChangeEvent]:
        topic = self.names[event.table]
        schema = self.schemas.get(topic)
        path: ValuePath = ("events", number)
        if not self._fits(event, path):
            return []
        if schema is None:
            help_ = f"sources: {{{event.table}: {{key: […], columns: {{…}}}}}}"
            self._error(f"no column of {event.table} is known", (*path, "table"), help_)
            return []
        after = self._image(schema, event.after, (*path, "after")) if event.op not in ("delete", "truncate") else None
        if after is not None and event.unavailable:
            after = self._without(schema, after, event.unavailable, path)
        before = self._image(schema, event.before, (*path, "before"))
        if before is None and event.key is not None:
            before = self._image(schema, event.key, (*path, "key"))
        op = _OPS[event.op]
        make = _Maker(schema, topic, self._position(number, event), self._time_us(number, event, path), event)
        if op is Op.UPDATE and before is not None and after is not None:
            old, new = (tuple([image[index] for index in _key_places(schema)]) for image in (before, after))
            if old != new:  # as Debezium sends it: a delete and a create that know of one another
                gone = make.event(Op.DELETE, self._offset(topic), before, None, moved_to=new)
                return [gone, make.event(Op.CREATE, self._offset(topic), None, after, moved_from=old)]
        if event.key is not None and op is not Op.DELETE:
            before = None
        return [make.event(op, self._offset(topic), before, after)]

    def _fits(self, event: Event, path: ValuePath) -> bool:
        """Whether the event has what its operation needs, and nothing else."""
        before = len(self.found)
        wants_after = event.op in ("create", "update", "read")
        if wants_after and event.after is None:
            self._error(f"'after:' is missing: what does the row look like after this {event.op}?", path)
        if event.op == "delete" and event.before is None and event.key is None:
            self._error("'before:' or 'key:' is missing: which row is deleted?", path)
        for name in ("before", "after", "key"):
            unwanted = event.op == "truncate" or (name == "after" and event.op == "delete")
            if unwanted and getattr(event, name) is not None:
                self._error(f"a {event.op} has no '{name}'", (*path, name))
        return len(self.found) == before

    def _without(self, schema: TableSchema, image: Image, names: Sequence[str], path: ValuePath) -> Image:
        columns = [column.name for column in schema.columns]
        found = list(image)
        for place, name in enumerate(names):
            if name in columns:
                found[columns.index(name)] = UNAVAILABLE
            else:
                self._error(f"no column {name}", (*path, "unavailable", place), did_you_mean(name, columns))
        return tuple(found)

    def _image(self, schema: TableSchema, row: Row | None, path: ValuePath) -> Image | None:
        if row is None:
            return None
        types = {column.name: column.type for column in schema.columns}
        return tuple(
            [self._value(row[name], type_, (*path, name)) if name in row else None for name, type_ in types.items()]
        )

    def _offset(self, topic: str) -> int:
        self.offsets[topic] = self.offsets.get(topic, -1) + 1
        return self.offsets[topic]

    def _position(self, number: int, event: Event) -> Position:
        at = (number + 1) * STEP if event.position is None else event.position
        return Position(EPOCH, at, 0 if event.op == "read" else at)

    def _time_us(self, number: int, event: Event, path: ValuePath) -> int:
        moment = BEGAN + timedelta(seconds=number)
        if event.time is not None:
            try:
                moment = values.instant(event.time)
            except ValueError as error:
                self._error(str(error), (*path, "time"))
        return int(moment.timestamp()) * 1_000_000 + moment.microsecond

    # -- rows

    def _tables(self) -> dict[str, TargetTable]:
        """The target tables by name, as the mappings make them of these source tables. Of a table that several sources
        make: with the columns of all of them."""
        plans = Plans(self.pipeline, OpenKeys())
        found: dict[str, TargetTable] = {}
        for schema in self.schemas.values():
            try:
                compiled = plans.of(schema)
            except MappingError as error:
                self.found += [self._explained(each, schema) for each in error.diagnostics if each.severity == "error"]
                continue
            for plan in compiled:
                name = f"{plan.target.namespace}.{plan.target.name}"
                found[name] = _joined(found.get(name), plan.target)
        self._stop()
        return found

    def _explained(self, found: Diagnostic, schema: TableSchema) -> Diagnostic:
        """A column that the mapping wants may only be missing from the test."""
        name = f"{schema.namespace}.{schema.table}"
        path: ValuePath = ("sources", name) if name in self.cases.sources else ("tests",)
        place = self.cases.finding("", "", path)
        text = f"the columns of {name} are those that this test names: under 'sources:' and in its events"
        return Diagnostic(
            found.code,
            found.message,
            found.file,
            found.span,
            found.help,
            notes=(*found.notes, Note(text, place.file, place.span)),
        )

    def _table(self, part: str, name: str, tables: Mapping[str, TargetTable]) -> TargetTable | None:
        table = tables.get(name)
        if table is None:
            self._error(f"no target table {name}", (part, name), did_you_mean(name, list(tables)))
        elif table.contributes is not None and part == "given":
            self._error(
                f"{name} is made of what its sources say",
                (part, name),
                "say it by events that come before the one that you test",
            )
        else:
            return table
        return None

    def _images(
        self, part: Literal["given", "foreign"], name: str, tables: Mapping[str, TargetTable]
    ) -> Iterator[Image]:
        table = self._table(part, name, tables)
        for number, row in enumerate(getattr(self.case, part)[name] if table else ()):
            assert table is not None
            found = self._constants(name) | self._named(table, row, (part, name, number))
            yield tuple([found.get(column.name) for column in table.columns])

    def _constants(self, name: str) -> dict[str, Value]:
        """What a row of this target table holds whatever its source row is."""
        mapping = next(table for table in self.pipeline.tables if str(table.to) == name)
        named = {column: spec for column, spec in mapping.columns.named.items() if "value" in spec.model_fields_set}
        return {column: constants.typed(spec.value, spec.type)[1] for column, spec in named.items()}

    def _expected(self, name: str, tables: Mapping[str, TargetTable]) -> Iterator[Expected]:
        table = self._table("rows", name, tables)
        seen: set[Image] = set()
        for number, row in enumerate(self.case.rows[name] if table else ()):
            assert table is not None
            path: ValuePath = ("rows", name, number)
            found = self._named(table, row, path)
            key = tuple([found.get(column) for column in table.key])
            if key in seen:
                self._error("a row with this key is written above", path)
            seen.add(key)
            yield Expected(key, found, (*self.path, *path))

    def _named(self, table: TargetTable, row: Row, path: ValuePath) -> dict[str, Value]:
        types = {column.name: column.type for column in table.columns}
        if table.soft_delete:
            types[table.soft_delete] = values.FLAG
        found = {}
        for name, value in row.items():
            if name in types:
                found[name] = self._value(value, types[name], (*path, name))
            else:
                self._error(f"no column {name}", (*path, name), did_you_mean(name, list(types)))
        missing = [name for name in table.key if name not in row]
        if missing:
            self._error(f"the key column {missing[0]} is missing: by the key a row is found", path)
        return found

    def _value(self, value: Any, type_: ColumnType, path: ValuePath) -> Value:
        try:
            return values.read(value, type_)
        except (ValueError, ArithmeticError) as error:
            self._error(f"no {type_.native}: {error}", path)
            return None

    # -- findings

    def _error(self, message: str, path: ValuePath, help: str | None = None) -> None:
        self.found.append(self.cases.finding("bad-value", message, (*self.path, *path), help=help))

    def _stop(self) -> None:
        if self.found:
            raise MappingError(self.found)


@dataclass(frozen=True)
class _Maker:
    schema: TableSchema
    topic: str
    position: Position
    time_us: int
    said: Event

    def event(
        self,
        op: Op,
        offset: int,
        before: Image | None,
        after: Image | None,
        moved_from: Image | None = None,
        moved_to: Image | None = None,
    ) -> ChangeEvent:
        # A truncate comes without a key, and so with a schema that knows none.
        schema = _keyless(self.schema) if op is Op.TRUNCATE else self.schema
        return ChangeEvent(
            RawRecord(self.topic, 0, offset, None if op is Op.TRUNCATE else b"{}", b"{}"),
            schema,
            op,
            self.position,
            before,
            after,
            self.said.snapshot if op is Op.READ else "",
            moved_from,
            moved_to,
            self.time_us,
            self.said.transaction,
        )


def _source_names(pipeline: Pipeline) -> dict[str, str]:
    """How events may call the source tables → their topics: schema.table where only one source has it."""
    found: dict[str, str] = {}
    twice: set[str] = set()
    for table in pipeline.tables:
        topic, short = f"{table.source_name}.{table.from_.namespace}.{table.from_.name}", str(table.from_)
        if found.setdefault(short, topic) != topic:
            twice.add(short)
        found[topic] = topic
    return {name: topic for name, topic in found.items() if name not in twice}


def _values_of(event: Event) -> Iterator[tuple[str, Any]]:
    for row in (event.key, event.before, event.after):
        yield from (row or {}).items()


def _key_places(schema: TableSchema) -> list[int]:
    return [index for index, column in enumerate(schema.columns) if column.key]


def _keyless(schema: TableSchema) -> TableSchema:
    columns = tuple(msgspec.structs.replace(column, key=False) for column in schema.columns)
    return msgspec.structs.replace(schema, columns=columns, version=-schema.version - (1 << 40))


def _joined(known: TargetTable | None, table: TargetTable) -> TargetTable:
    """What a test may name of a table: of contributions the target table's own columns, from all its sources."""
    if table.contributes is None:
        return table
    width = table.contributes.width
    columns = [column for column in table.columns if not column.name.startswith("@")]
    there = [] if known is None else list(known.columns)
    columns = there + [each for each in columns if each.name not in {column.name for column in there}]
    return msgspec.structs.replace(
        table, columns=tuple(columns), key=table.key[:width], soft_delete=table.contributes.soft_delete
    )
