"""Compare targets with their sources through the mappings: one pass over all rows, then rounds over what differed.

A difference of the first pass may just be a change on its way. Its key is read again from both sides, until the target
shows something that the source held since the comparison began (it was in flight), or the source row has stood still
for `settle_s` and the target has not come to it (confirmed), or the deadline passes while the source row keeps changing
(unsettled). So a comparison is right for every key that settles, while everything goes on.

`settle_s` must be longer than a change needs from source to target. It is enough to start when the pipeline has caught
up; a pipeline that is further behind than `settle_s`, or does not run, shows as differences.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import replace
from functools import partial
from typing import Protocol, TypeAlias

from cdc.db import postgres
from cdc.engine.targets import open_rows
from cdc.entries import MariaDbTargetSettings, PostgresTargetSettings, SqliteTargetSettings
from cdc.errors import Usage
from cdc.mapping.expressions import reads_change
from cdc.mapping.model import Pipeline, TableMapping
from cdc.model import TargetTable
from cdc.reconcile.columns import POSTGRES_SESSION
from cdc.reconcile.comparison import Comparison, Options, blank_report
from cdc.reconcile.local_staging import LocalStaging
from cdc.reconcile.report import CompareReport, NotCompared, Report, TableReport
from cdc.reconcile.source_rows import SourceRows, open_source, reading
from cdc.reconcile.staging import Staging
from cdc.settings import Settings
from cdc.target.postgres_pooler import refuse_shared_sessions
from cdc.target.rows import NoTable

_Chosen: TypeAlias = tuple[Pipeline, TableMapping]

PATIENCE = 3
"""A key whose source row keeps changing is given up after so many times `settle_s`."""
FIRST_WAIT_S, LONGEST_WAIT_S = 0.1, 2.0


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

    A mapping whose target table is not there has the verdict 'never run'; REST targets, and tables of which several
    sources make the rows, are `not_compared`.

    Raises `Usage` for an unknown table or when only such are asked for, `MappingError` for a mapping that does not fit
    the source, `Terminal` for a source table that is not there, a table that may not be read, or when no target table
    is there, `Transient` for a server that does not answer.
    """
    began = clock()
    options = options or Options()
    chosen, left_out = _comparable(settings, _chosen(list(pipelines), tables))
    absent: list[NoTable] = []
    done: dict[tuple[str, str], TableReport] = {}
    with _Connections(settings) as connections:
        still: list[tuple[tuple[str, str], Comparison, _Target]] = []
        for pipeline, mapping in chosen:
            target = connections.target(pipeline.target)
            with target.reading():
                rows = connections.source(mapping)
                name = (pipeline.target, mapping.id)
                try:
                    one = Comparison(pipeline, mapping, rows, target.staging, options, report, clock, settings.keys)
                except NoTable as error:
                    absent.append(error)
                    done[name] = replace(blank_report(pipeline, mapping), never_run=True)
                    continue
                one.first_pass()
                if one.open:
                    still.append((name, one, target))
                else:
                    done[name] = one.finish()
        if absent and len(absent) == len(chosen):
            raise absent[0]
        deadline, wait = clock() + PATIENCE * options.settle_s, FIRST_WAIT_S
        while still:
            last = clock() >= deadline
            for name, one, target in still:
                with target.reading():
                    one.round(last=last)
                    if not one.open:
                        done[name] = one.finish()
            still = [each for each in still if each[1].open]
            if still:
                sleep(wait)
                wait = min(wait * 2, LONGEST_WAIT_S)
    found = tuple(done[pipeline.target, mapping.id] for pipeline, mapping in chosen)
    return CompareReport(found, clock() - began, left_out)


def _comparable(settings: Settings, chosen: Sequence[_Chosen]) -> tuple[list[_Chosen], tuple[NotCompared, ...]]:
    """Those whose target rows can be read and follow from one source row, and the names of the others."""
    reasons = [_left_out(settings, *each) for each in chosen]
    left_out = tuple(dict.fromkeys(reason for reason in reasons if reason is not None))
    found = [each for each, reason in zip(chosen, reasons, strict=True) if reason is None]
    if left_out and not found:
        first = left_out[0]
        raise Usage(f"cannot compare: {first.label} {first.reason}", hint="what it did not take: cdc parked list")
    return found, left_out


def _left_out(settings: Settings, pipeline: Pipeline, mapping: TableMapping) -> NotCompared | None:
    if pipeline.target in settings.rest_targets:
        return NotCompared(pipeline.label, "is a REST target, whose rows cannot be read (see cdc deliveries)")
    if mapping.contributor is not None:
        return NotCompared(
            f"{pipeline.label}/{mapping.to}", "has rows that several sources make: no one of them tells all"
        )
    if mapping.where is not None and reads_change(mapping.where):
        return NotCompared(
            f"{pipeline.label}/{mapping.to}", "has a filter over the changes themselves, which the source does not keep"
        )
    if mapping.history is not None:
        return NotCompared(
            f"{pipeline.label}/{mapping.to}", "keeps a history: its rows are changes, not the source's rows"
        )
    return None


def _chosen(pipelines: Sequence[Pipeline], tables: Sequence[str]) -> list[_Chosen]:
    every = [(pipeline, mapping) for pipeline in pipelines for mapping in pipeline.tables]
    if not tables:
        return every
    names = {(str(mapping.to), str(mapping.from_)) for _, mapping in every}
    for table in tables:
        if not any(table in pair for pair in names):
            hint = f"there are {', '.join(sorted(to for to, _ in names))}"
            raise Usage(f"no mapping reads or writes {table}", hint=hint)
    return [(pipeline, each) for pipeline, each in every if str(each.to) in tables or str(each.from_) in tables]


class _Target(Protocol):
    """One target, for all its mappings."""

    def staging(self, table: TargetTable, keeps: bool) -> Staging | LocalStaging: ...

    def reading(self) -> AbstractContextManager[None]:
        """Errors of this target as ours."""


class _OtherTarget:
    """A target whose rows are read and compared here."""

    def __init__(self, settings: SqliteTargetSettings | MariaDbTargetSettings) -> None:
        self._settings = settings

    def staging(self, table: TargetTable, keeps: bool) -> LocalStaging:
        return LocalStaging(open_rows(self._settings, table), table, keeps=keeps)

    def reading(self) -> AbstractContextManager[None]:
        return nullcontext()


class _PostgresTarget:
    """A target that compares by itself: its connection, for the temporary tables of all its mappings."""

    def __init__(self, connection: postgres.Connection, where: str) -> None:
        self._connection = connection
        self._where = where
        self._numbers = itertools.count(1)

    def staging(self, table: TargetTable, keeps: bool) -> Staging:
        return Staging(self._connection, table, self._where, number=next(self._numbers), keeps=keeps)

    def reading(self) -> AbstractContextManager[None]:
        """Errors of this connection as ours."""
        return reading(self._connection, self._where)


class _Connections:
    """One connection to each source and target, opened when first asked for."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stack = ExitStack()
        self._sources: dict[str, Callable[[str, str], SourceRows]] = {}
        self._targets: dict[str, _Target] = {}

    def __enter__(self) -> _Connections:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def source(self, mapping: TableMapping) -> SourceRows:
        name = mapping.source_name
        if name not in self._sources:
            self._sources[name] = self._stack.enter_context(open_source(self._settings.source(name)))
        return self._sources[name](mapping.from_.namespace, mapping.from_.name)

    def target(self, name: str) -> _Target:
        if name not in self._targets:
            settings = self._settings.target(name)
            if not isinstance(settings, PostgresTargetSettings):
                self._targets[name] = _OtherTarget(settings)
                return self._targets[name]
            connect = partial(postgres.connect, settings, application_name=f"{settings.application_name} compare")
            connection = connect()
            self._stack.callback(connection.close)
            refuse_shared_sessions(connection, connect)
            connection.execute(POSTGRES_SESSION.encode())
            self._targets[name] = _PostgresTarget(connection, settings.where)
        return self._targets[name]
