"""Compare targets with their sources through the mappings: one pass over all rows, then rounds over what differed.

A difference of the first pass may just be a change on its way. Its key is read again from both sides, until the target
shows something that the source held since the comparison began (it was in flight), or the source row has stood still
for `settle_s` and the target has not come to it (confirmed), or the deadline passes while the source row keeps changing
(unsettled). So a comparison is right for every key that settles, while everything goes on.

`settle_s` must be longer than a change needs from source to target. It is enough to start when the pipeline has caught
up; a pipeline that is further behind than `settle_s`, or does not run, shows as differences.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from cdc.db import postgres
from cdc.errors import Poison, Usage
from cdc.mapping.compile import compile_table
from cdc.mapping.model import Pipeline, TableMapping
from cdc.mapping.plan import Plan
from cdc.model import UNAVAILABLE, ChangeEvent, Column, DeletePolicy, MappedRow, Op, Position, RawRecord, TableSchema
from cdc.reconcile.columns import POSTGRES_SESSION
from cdc.reconcile.report import CompareReport, Progress, Report, TableReport, What
from cdc.reconcile.source_rows import KEY_KINDS, Image, SourceRows, open_source, reading
from cdc.reconcile.staging import Refused, Staging
from cdc.settings import Settings
from cdc.source.refusals import refusal

SETTLE_S = 10.0
PATIENCE = 3
"""A key whose source row keeps changing is given up after so many times `settle_s`."""
FIRST_WAIT_S, LONGEST_WAIT_S = 0.1, 2.0
_RECORD = RawRecord("", 0, 0, None, None)
_NOWHERE = Position(0, 0, 0)


@dataclass(frozen=True)
class Options:
    """`examples`: most rows that are named for each table; `values`: with what they hold."""

    examples: int = 10
    values: bool = False
    settle_s: float = SETTLE_S


def compare(
    settings: Settings,
    pipelines: Iterable[Pipeline],
    *,
    tables: Sequence[str] = (),
    options: Options | None = None,
    report: Report = lambda progress: None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> CompareReport:
    """Compare all mappings of `pipelines`, or those from or to one of `tables` ('schema.table').

    Raises `Usage` for an unknown table, `MappingError` for a mapping that does not fit the source, `Terminal` for a
    table that is not there or may not be read, `Transient` for a server that does not answer.
    """
    began = clock()
    chosen = _chosen(list(pipelines), tables)
    found: list[TableReport] = []
    with _Connections(settings) as connections:
        for pipeline, mapping in chosen:
            target, where = connections.target(pipeline.target)
            rows = connections.source(mapping)
            with reading(target, where):
                one = _Comparison(pipeline, mapping, rows, target, where, options or Options(), report, clock, sleep)
                found.append(one.run())
    return CompareReport(tuple(found), clock() - began)


def _chosen(pipelines: Sequence[Pipeline], tables: Sequence[str]) -> list[tuple[Pipeline, TableMapping]]:
    every = [(pipeline, mapping) for pipeline in pipelines for mapping in pipeline.tables]
    if not tables:
        return every
    names = {(str(mapping.to), str(mapping.from_)) for _, mapping in every}
    for table in tables:
        if not any(table in pair for pair in names):
            hint = f"there are {', '.join(sorted(to for to, _ in names))}"
            raise Usage(f"no mapping reads or writes {table}", hint=hint)
    return [(pipeline, each) for pipeline, each in every if str(each.to) in tables or str(each.from_) in tables]


class _Connections:
    """One connection to each source and target, opened when first asked for."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stack = ExitStack()
        self._sources: dict[str, Callable[[str, str], SourceRows]] = {}
        self._targets: dict[str, tuple[postgres.Connection, str]] = {}

    def __enter__(self) -> _Connections:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def source(self, mapping: TableMapping) -> SourceRows:
        name = mapping.source_name
        if name not in self._sources:
            self._sources[name] = self._stack.enter_context(open_source(self._settings.source(name)))
        return self._sources[name](mapping.from_.namespace, mapping.from_.name)

    def target(self, name: str) -> tuple[postgres.Connection, str]:
        if name not in self._targets:
            settings = self._settings.target(name)
            connection = postgres.connect(settings, application_name=f"{settings.application_name} compare")
            self._stack.callback(connection.close)
            connection.execute(POSTGRES_SESSION.encode())
            self._targets[name] = connection, settings.where
        return self._targets[name]


class _Comparison:
    """One mapping."""

    def __init__(
        self,
        pipeline: Pipeline,
        mapping: TableMapping,
        rows: SourceRows,
        target: postgres.Connection,
        where: str,
        options: Options,
        report: Report,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self._pipeline = pipeline
        self._mapping = mapping
        self._rows = rows
        self._options = options
        self._report = report
        self._clock = clock
        self._sleep = sleep
        self._plan = compile_table(mapping, rows.schema, refuse=_refuser(rows.schema))
        self._keeps = mapping.on_delete is DeletePolicy.IGNORE or mapping.on_truncate == "ignore"
        self._staging = Staging(target, self._plan.target, where, keeps=self._keeps)
        self._source_key = source_key_of(mapping, self._plan)
        self._source_rows = self._unchecked = 0

    def run(self) -> TableReport:
        began = self._clock()
        self._read_all(0)
        self._tell("comparing")
        differing = self._staging.first_pass()
        target_rows, soft_deleted = self._staging.target_counts()
        kept = self._staging.kept() if self._keeps else 0
        parked, without_key = self._staging.read_parked(self._pipeline.name, self._pipeline.target)
        if differing:
            self._settle(differing)
            parked, without_key = self._staging.read_parked(self._pipeline.name, self._pipeline.target)
        totals = self._staging.totals()
        self._tell("done")
        counts = totals.confirmed
        return TableReport(
            mapping=self._mapping.id,
            pipeline=self._pipeline.name,
            source=self._mapping.source_name,
            source_table=str(self._mapping.from_),
            target=self._pipeline.target,
            target_table=str(self._mapping.to),
            source_rows=self._source_rows,
            target_rows=target_rows,
            soft_deleted=soft_deleted,
            missing=counts.get(What.MISSING, 0),
            surplus=counts.get(What.SURPLUS, 0),
            different=counts.get(What.DIFFERENT, 0),
            unmapped=counts.get(What.UNMAPPED, 0) + max(0, self._staging.refused_without_key - without_key),
            unsettled=totals.unsettled,
            in_flight=differing - sum(counts.values()) - totals.excused - totals.unsettled,
            kept=kept,
            parked=parked,
            parked_without_key=without_key,
            excused=totals.excused,
            unchecked=self._unchecked,
            columns=totals.columns,
            examples=self._staging.examples(self._options.examples, values=self._options.values),
            seconds=self._clock() - began,
        )

    # --- reading

    def _read_all(self, number: int) -> None:
        for page in self._rows.all():
            self._stage(page, number)
            if number == 0:
                self._source_rows += len(page)
                self._tell("reading", self._source_rows)

    def _stage(self, page: Sequence[Image], number: int) -> None:
        rows = list(self._expected(page))
        if number == 0:
            self._unchecked += sum(
                row.values.count(UNAVAILABLE) for row in rows if isinstance(row, MappedRow) and row.values is not None
            )
        self._staging.expect(rows, number)

    def _expected(self, page: Sequence[Image]) -> Iterator[MappedRow | Refused]:
        """What the mapping makes of source rows. What it refuses (the pipeline parks it) keeps its key."""
        schema = self._rows.schema
        events = [ChangeEvent(_RECORD, schema, Op.READ, _NOWHERE, None, image) for image in page]
        for image, mapped in zip(page, self._plan.map_batch(events), strict=True):
            if isinstance(mapped, MappedRow):
                yield mapped
            elif isinstance(mapped, Poison):
                yield Refused(self._key_of(image), mapped.what)

    def _key_of(self, image: Image) -> Image | None:
        columns = self._rows.schema.columns
        try:
            return self._plan.key_of_source(
                tuple(value for value, column in zip(image, columns, strict=True) if column.key)
            )
        except Poison:
            return None

    # --- settling

    def _settle(self, differing: int) -> None:
        """Rounds over the keys that differ, until each is decided."""
        staging, options = self._staging, self._options
        staging.take_images(0)
        deadline = self._clock() + PATIENCE * options.settle_s
        left, number, wait = differing, 0, FIRST_WAIT_S
        while left:
            self._tell("settling", left)
            number += 1
            self._read_open(number)
            staging.take_images(number)
            staging.read_parked(self._pipeline.name, self._pipeline.target)
            now = self._clock()
            left = staging.settle(number, now, options.settle_s)
            if left and now >= deadline:
                staging.give_up()
                return
            if left:
                self._sleep(wait)
                wait = min(wait * 2, LONGEST_WAIT_S)

    def _read_open(self, number: int) -> None:
        """Stage the undecided keys' rows anew: by key where the target's key tells the source's, else all rows."""
        places = self._source_key
        if places is None:
            self._read_all(number)
            return
        for keys in self._staging.open_keys():
            pages = self._rows.of_keys([tuple(key[place] for place in places) for key in keys])
            if pages is None:
                # A key that the source's types cannot even hold: certainly not there. Its neighbours may be.
                self._read_all(number)
                return
            for page in pages:
                self._stage(page, number)

    def _tell(self, stage: str, rows: int = 0) -> None:
        settling = stage == "settling"
        self._report(Progress(self._mapping.id, stage, 0 if settling else rows, rows if settling else None))


def source_key_of(mapping: TableMapping, plan: Plan) -> tuple[int, ...] | None:
    """Where the columns of the source's key stand in the target's key; None when a target key does not tell the source
    row, or not as a text that the source reads back."""
    target = [plan.target.columns[index] for index in plan.target.key_indexes]
    copies = {_origin(mapping, column.name): place for place, column in enumerate(target) if column.sql_type is None}
    kinds = KEY_KINDS[plan.schema.kind]
    key = [column for column in plan.schema.columns if column.key]
    if not key or any(column.name not in copies or column.type.kind not in kinds for column in key):
        return None
    return tuple(copies[column.name] for column in key)


def _origin(mapping: TableMapping, name: str) -> str | None:
    """The source column that the target column `name` copies."""
    spec = mapping.columns.named.get(name)
    if spec is not None:
        return spec.copy_
    everything = mapping.columns.everything
    renamed = {} if everything is None else {target: source for source, target in everything.rename.items()}
    return renamed.get(name, name)


def _refuser(schema: TableSchema) -> Callable[[Column], str | None]:
    def refuse(column: Column) -> str | None:
        found = refusal(column.type, schema.kind)
        return None if found is None else found.reason

    return refuse
