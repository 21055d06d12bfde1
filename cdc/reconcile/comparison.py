"""The comparison of one mapping's source table with its target table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import msgspec

from cdc.errors import Poison
from cdc.keys import Keyring
from cdc.mapping.compile import compile_table
from cdc.mapping.model import Pipeline, TableMapping
from cdc.mapping.plan import Plan
from cdc.model import (
    UNAVAILABLE,
    ChangeEvent,
    Column,
    DeletePolicy,
    MappedRow,
    Op,
    Position,
    RawRecord,
    TableSchema,
    TargetTable,
    TruncatePolicy,
)
from cdc.reconcile.local_staging import LocalStaging
from cdc.reconcile.report import Progress, Report, Stage, TableReport, What
from cdc.reconcile.source_rows import KEY_KINDS, Image, SourceRows
from cdc.reconcile.staging import Refused, Staging
from cdc.source.refusals import refusal

SETTLE_S = 10.0
_RECORD = RawRecord("", 0, 0, None, None)
_NOWHERE = Position(0, 0, 0)


@dataclass(frozen=True)
class Options:
    """`examples`: most rows that are named for each table; `values`: with what they hold. `settle_s`: how long a source
    row must stand still before a difference is believed."""

    examples: int = 10
    values: bool = False
    settle_s: float = SETTLE_S


class Comparison:
    """One mapping: `first_pass`, then `round` while keys are `open`, then `finish`."""

    def __init__(
        self,
        pipeline: Pipeline,
        mapping: TableMapping,
        rows: SourceRows,
        staging: Callable[[TargetTable, bool], Staging | LocalStaging],
        options: Options,
        report: Report,
        clock: Callable[[], float],
        keys: Keyring,
    ) -> None:
        self._pipeline = pipeline
        self._mapping = mapping
        self._rows = rows
        self._options = options
        self._report = report
        self._clock = clock
        self._plan = compile_table(mapping, rows.schema, refuse=_refuser(rows.schema), keys=keys)
        self._keeps = mapping.on_delete is DeletePolicy.IGNORE or mapping.on_truncate is TruncatePolicy.IGNORE
        self._staging = staging(self._plan.target, self._keeps)
        self._source_key = source_key_of(mapping, self._plan)
        self._source_rows = self._unchecked = self._kept = 0
        self._target_rows = self._soft_deleted = 0
        self._differing = self._rounds = 0
        self._seconds = 0.0
        self.open = 0
        """Keys that differ and are not decided yet."""

    def first_pass(self) -> None:
        """Compare everything."""
        with self._timed():
            self._read_all(0)
            self._tell("comparing", self._source_rows)
            self.open = self._differing = self._staging.first_pass()
            self._target_rows, self._soft_deleted = self._staging.target_counts()
            self._kept = self._staging.kept() if self._keeps else 0
            self._staging.take_images(0)

    def round(self, *, last: bool) -> None:
        """Look at the open keys again. After the `last` round none is open."""
        with self._timed():
            self._tell("settling")
            self._rounds += 1
            self._read_open(self._rounds)
            self._staging.take_images(self._rounds)
            self._staging.read_parked(self._pipeline.name, self._pipeline.target)
            self.open = self._staging.settle(self._rounds, self._clock(), self._options.settle_s)
            if last and self.open:
                self._staging.give_up()
                self.open = 0

    def finish(self) -> TableReport:
        """What was found. The temporary tables are gone afterwards."""
        with self._timed():
            parked, without_key = self._staging.read_parked(self._pipeline.name, self._pipeline.target)
            totals = self._staging.totals()
            examples = self._staging.examples(self._options.examples, values=self._options.values)
            self._staging.drop()
        counts = totals.confirmed
        refused = self._staging.refused_without_key
        self._tell("done", self._source_rows)
        return replace(
            blank_report(self._pipeline, self._mapping),
            source_rows=self._source_rows,
            target_rows=self._target_rows,
            soft_deleted=self._soft_deleted,
            missing=counts.get(What.MISSING, 0),
            surplus=counts.get(What.SURPLUS, 0),
            different=counts.get(What.DIFFERENT, 0),
            unmapped=counts.get(What.UNMAPPED, 0) + max(0, refused - without_key),
            unsettled=totals.unsettled,
            in_flight=self._differing - sum(counts.values()) - totals.excused - totals.unsettled,
            kept=self._kept,
            parked=parked,
            parked_without_key=without_key,
            excused=totals.excused + min(refused, without_key),
            unchecked=self._unchecked,
            columns=totals.columns,
            examples=examples,
            seconds=self._seconds,
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
                yield self._comparable(mapped)
            elif isinstance(mapped, Poison):
                yield Refused(self._key_of(image), mapped.what)

    def _comparable(self, row: MappedRow) -> MappedRow:
        """Without what a column took from the change that brought the row: nobody can tell that any more."""
        if not self._plan.of_change or row.values is None:
            return row
        own = [UNAVAILABLE if index in self._plan.of_change else value for index, value in enumerate(row.values)]
        return msgspec.structs.replace(row, values=tuple(own))

    def _key_of(self, image: Image) -> Image | None:
        columns = self._rows.schema.columns
        try:
            return self._plan.key_of_source(
                tuple(value for value, column in zip(image, columns, strict=True) if column.key)
            )
        except Poison:
            return None

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

    def _tell(self, stage: Stage, rows: int = 0) -> None:
        self._report(Progress(self._mapping.id, stage, rows, self.open if stage == "settling" else None))

    @contextmanager
    def _timed(self) -> Iterator[None]:
        began = self._clock()
        yield
        self._seconds += self._clock() - began


def blank_report(pipeline: Pipeline, mapping: TableMapping) -> TableReport:
    """The report of a mapping before anything was found."""
    return TableReport(
        mapping=mapping.id,
        pipeline=pipeline.name,
        source=mapping.source_name,
        source_table=str(mapping.from_),
        target=pipeline.target,
        target_table=str(mapping.to),
        label=pipeline.label,
    )


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
        changed = spec.masked or spec.map is not None or spec.default is not None
        return None if changed else spec.copy_
    everything = mapping.columns.everything
    renamed = {} if everything is None else {target: source for source, target in everything.rename.items()}
    return renamed.get(name, name)


def _refuser(schema: TableSchema) -> Callable[[Column], str | None]:
    def refuse(column: Column) -> str | None:
        found = refusal(column.type, schema.kind)
        return None if found is None else found.reason

    return refuse
