"""A rollout before it is done: what would change against what is deployed, in the mappings and in the target.

The plan is a value: `cdc mapping apply` does exactly it, and refuses when the world it was made for has moved, which
its `fingerprint` tells: the deployed version, the file, and what the target's catalog says of the tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import msgspec

from cdc.author.changes import Change, compare, reloads
from cdc.author.deployment import text_of
from cdc.author.keys import OpenKeys
from cdc.control.operate import opened
from cdc.control.run import pipeline_placeholder
from cdc.engine.build import check_keys
from cdc.engine.deployed import file_of, newest, read
from cdc.engine.plans import refuser
from cdc.engine.targets import Look, opened_outlook
from cdc.errors import CdcError, Terminal, Transient, Usage
from cdc.mapping.compile import compile_table
from cdc.mapping.diagnostics import MappingError
from cdc.mapping.model import Pipeline, TableMapping
from cdc.mapping.plan import Plan
from cdc.model import TableSchema, TargetTable
from cdc.reconcile.source_rows import open_source
from cdc.settings import Settings
from cdc.target.operator import WorkerState
from cdc.target.outlook import Outlook
from cdc.target.versions import Deployed


class Statement(msgspec.Struct, frozen=True):
    """A statement of the target, for one of its tables."""

    table: str
    sql: str


class Reload(msgspec.Struct, frozen=True):
    """A source table to load again. `rows`: of the target table now; `seconds`: what they would take at the highest
    speed that a worker last reported. None: not known."""

    table: str
    source: str
    source_table: str
    rows: int | None
    seconds: float | None

    @property
    def command(self) -> str:
        return f"cdc source load {self.source} {self.source_table}"


class Fingerprint(msgspec.Struct, frozen=True):
    """The world that a plan was made for: the deployed version (0: none), the file's and the catalog's digests."""

    version: int
    file: str
    catalog: str


class RolloutPlan(msgspec.Struct, frozen=True):
    """`number`: the version that it becomes; `restores`: the older one whose text it brings back. `statements`: what is
    run in the target; `by_owner`: what the tables' owner has to run before. `refused`: why it cannot be applied."""

    pipeline: str
    number: int
    file: str
    text: str
    made_for: Fingerprint
    changes: tuple[Change, ...] = ()
    statements: tuple[Statement, ...] = ()
    by_owner: tuple[Statement, ...] = ()
    reloads: tuple[Reload, ...] = ()
    refused: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    restores: int | None = None
    executed: bool = False

    @property
    def needed(self) -> bool:
        """Whether there is anything to do. The first version is, whatever it says: it is to be recorded."""
        return bool(self.changes or self.statements) or self.made_for.version == 0

    def to_dict(self) -> dict[str, Any]:
        """JSON data; the file's text is told by its digest."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        del found["text"]
        for shown, reload in zip(found["reloads"], self.reloads, strict=True):
            shown["command"] = reload.command
        return found | {"needed": self.needed}


def save(plan: RolloutPlan, path: Path) -> None:
    path.write_bytes(msgspec.json.format(msgspec.json.encode(plan)))


def load_plan(path: Path) -> RolloutPlan:
    """A plan as `save` wrote it. Raises `Usage`."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=RolloutPlan)
    except (OSError, msgspec.MsgspecError) as error:
        raise Usage(f"this is no plan: {error}", where=str(path), hint="cdc mapping plan PIPELINE --out FILE") from None


class Prospect(NamedTuple):
    """A plan, and the target tables whose rows the new version writes, where their columns are known."""

    plan: RolloutPlan
    tables: tuple[TargetTable, ...]


def make(settings: Settings, pipeline: Pipeline, restores: int | None = None) -> Prospect:
    """The plan of making `pipeline` the deployed version. Raises `MappingError` when a mapping does not fit its source
    table, `Usage`, `Transient`, `Terminal`."""
    check_keys(settings, pipeline)
    with opened(settings, pipeline) as operator:
        deployed = newest(operator)
        marks = operator.partitions()
        speed = fastest(operator.workers())
    notes: list[str] = []
    old = None if deployed is None else _readable(deployed, pipeline.target, notes)
    with _schemas(settings, notes) as schema_of:
        after = {table.id: _compiled(table, schema_of) for table in pipeline.tables}
        before = {} if old is None else {table.id: _formerly(table, schema_of) for table in old.tables}
    topics = frozenset(mark.partition.topic for mark in marks)
    changes = compare(old, pipeline, before, after, topics)
    with opened_outlook(settings.destination(pipeline.target)) as look:
        outlooks = _outlooks(look, pipeline, after, reloads(changes))
    refused = tuple(f"{table}: {outlook.refused}" for table, outlook in outlooks.items() if outlook.refused)
    plan = RolloutPlan(
        pipeline=pipeline.label,
        number=1 if deployed is None else deployed.number + 1,
        file=str(file_of(pipeline)),
        text=text_of(pipeline),
        made_for=Fingerprint(
            0 if deployed is None else deployed.number, digest(text_of(pipeline)), _catalog_digest(outlooks)
        ),
        changes=changes,
        statements=tuple(Statement(table, sql) for table, outlook in outlooks.items() for sql in outlook.statements),
        by_owner=tuple(_retyping(changes, outlooks)),
        reloads=tuple(_reloads(pipeline, changes, outlooks, speed)),
        refused=(*refused, *_placeholders(settings, pipeline, old)),
        notes=tuple(notes),
        restores=restores,
    )
    return Prospect(plan, tuple(each.target for each in after.values() if each is not None))


def _readable(deployed: Deployed, target: str, notes: list[str]) -> Pipeline | None:
    """What is deployed; None when it cannot be run, which is what a rollback is for."""
    try:
        return read(deployed, target)
    except Terminal as error:
        notes.append(f"{error.what}: all is shown as new")
        return None


def moved(plan: RolloutPlan, now: RolloutPlan) -> tuple[str, ...]:
    """What is not as it was when the plan was made."""
    was, is_ = plan.made_for, now.made_for
    found = []
    if was.version != is_.version:
        found.append(f"version {is_.version} is deployed, the plan was made for {was.version}")
    if was.file != is_.file:
        found.append("the file was changed since the plan was made")
    if was.catalog != is_.catalog:
        found.append("the target's tables were changed since the plan was made")
    return tuple(found)


def digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def fastest(workers: Sequence[WorkerState]) -> float | None:
    """The highest speed that any worker last reported, in rows a second."""
    return max((each.report.rows_per_second for each in workers), default=0.0) or None


# -- the source's side

SchemaOf = Callable[[TableMapping], TableSchema | None]


@contextmanager
def _schemas(settings: Settings, notes: list[str]) -> Iterator[SchemaOf]:
    """The source tables as they are now; of those that cannot be asked for, `notes` say why."""
    with ExitStack() as connections:
        sources: dict[str, Any] = {}
        found: dict[tuple[str, str, str], TableSchema | None] = {}

        def ask(table: TableMapping) -> TableSchema:
            name = table.source_name
            if name not in sources:
                sources[name] = connections.enter_context(open_source(settings.source(name)))
            schema: TableSchema = sources[name](*table.from_).schema
            return schema

        def schema_of(table: TableMapping) -> TableSchema | None:
            place = (table.source_name, *table.from_)
            if place not in found:
                try:
                    found[place] = ask(table)
                except (Transient, Terminal) as error:
                    found[place] = None
                    notes.append(f"{table.from_} of {table.source_name} could not be looked at: {error.what}")
            return found[place]

        yield schema_of


def _compiled(table: TableMapping, schema_of: SchemaOf) -> Plan | None:
    schema = schema_of(table)
    if schema is None:
        return None
    return compile_table(table, schema, refuse=refuser(schema), keys=OpenKeys())  # asked for its types only


def _formerly(table: TableMapping, schema_of: SchemaOf) -> Plan | None:
    """None as well where what is deployed does not fit the source table any more."""
    try:
        return _compiled(table, schema_of)
    except MappingError:
        return None


def _placeholders(settings: Settings, pipeline: Pipeline, old: Pipeline | None) -> Iterator[str]:
    """A source that joins and marks unavailable values otherwise: workers know one word for them."""
    try:
        words = {pipeline_placeholder(settings, each) for each in (pipeline, old) if each is not None}
    except CdcError as error:
        yield error.what
        return
    if len(words) > 1:
        yield "the connectors' unavailable.value.placeholder is another one than that of the sources that are read now"


# -- the target's side


Outlooks: TypeAlias = dict[str, Outlook]


def _outlooks(look: Look, pipeline: Pipeline, plans: Mapping[str, Plan | None], counted: frozenset[str]) -> Outlooks:
    """By target table. Of a table that several sources make, workers work the columns out: only its rows are told."""
    found: dict[str, Outlook] = {}
    for table in pipeline.tables:
        plan, name = plans[table.id], str(table.to)
        if plan is None or name in found:
            continue
        outlook = look(plan.target, name in counted)
        if table.contributor is not None:
            outlook = Outlook(outlook.there, outlook.columns, outlook.rows)
        found[name] = outlook
    return found


def _catalog_digest(outlooks: Outlooks) -> str:
    seen = {table: (each.there, dict(each.columns), each.statements, each.refused) for table, each in outlooks.items()}
    return digest(msgspec.json.encode(seen, order="sorted").decode())


def _retyping(changes: Sequence[Change], outlooks: Outlooks) -> Iterator[Statement]:
    for change in changes:
        outlook = outlooks.get(change.table)
        if outlook is None or change.sign != "~" or not change.column or "breaking" not in change.effects:
            continue
        if outlook.there and change.column in outlook.columns and change.column in outlook.retyping:
            yield Statement(change.table, outlook.retyping[change.column])


def _reloads(
    pipeline: Pipeline, changes: tuple[Change, ...], outlooks: Outlooks, speed: float | None
) -> Iterator[Reload]:
    wanted = reloads(changes)
    for table in pipeline.tables:
        if str(table.to) in wanted:
            rows = outlooks[str(table.to)].rows if str(table.to) in outlooks else None
            seconds = None if rows is None or speed is None else round(rows / speed, 1)
            yield Reload(str(table.to), table.source_name, str(table.from_), rows, seconds)
