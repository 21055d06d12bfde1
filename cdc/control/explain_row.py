"""Why is this row as it is, where one source row makes one row: where it comes from, what its guard compares, which
conflicts were decided about it, and whether its key is parked. Without row values but the key's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cdc.control.conflicts import KnownConflict, known, position_text
from cdc.control.operate import opened, topic_of
from cdc.control.parked import ParkedRecord, described
from cdc.control.row_version import applied_by
from cdc.entries import SourceKind
from cdc.errors import Poison, Usage
from cdc.mapping.model import Pipeline, TableMapping
from cdc.settings import Settings
from cdc.target.base import hold_of
from cdc.target.operator import ConflictFilter, Operator, StoredPosition
from cdc.target.versions import in_force


@dataclass(frozen=True)
class RowExplanation:
    """What one mapping made of a key. `position`: the stored one, as the source's log counts; `meaning`: what it says;
    both empty where the target cannot be asked. `versions`: of the mappings, by which it was applied, as
    its position tells; several: it cannot be told by which of them; 0: by a file that was not deployed."""

    table: str
    key: str
    pipeline: str
    mapping: str
    where: str
    source: str
    topic: str
    state: str
    position: str
    meaning: str
    versions: tuple[int, ...]
    conflicts: tuple[KnownConflict, ...]
    parked: tuple[ParkedRecord, ...]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def explain_row(settings: Settings, pipelines: Sequence[Pipeline], table: str, key: str) -> list[RowExplanation]:
    """One for each mapping that writes the table. `key`: the key columns' values in their order, separated by commas.
    Raises `Usage` for a table that no mapping writes and for a key that does not fit."""
    found = []
    for pipeline in pipelines:
        mappings = [each for each in pipeline.tables if table in (str(each.to), each.id.partition("/")[2])]
        if mappings:
            with opened(settings, pipeline) as operator:
                for mapping in mappings:
                    kind = settings.source(mapping.source_name).kind
                    found.append(_explained(operator, pipeline, mapping, key, kind))
    if not found:
        names = ", ".join(sorted({str(each.to) for pipeline in pipelines for each in pipeline.tables}))
        raise Usage(f"no mapping writes a table {table}", hint=f"there are {names}")
    return found


def _explained(
    operator: Operator, pipeline: Pipeline, mapping: TableMapping, key: str, kind: SourceKind
) -> RowExplanation:
    parts = [part.strip() for part in key.split(",")]
    stored = _stored(operator, mapping, key, parts)
    state, position, meaning = _told(stored)
    holds = tuple(_holds([key] if stored is not None and len(stored.columns) == 1 else parts))
    conflicts = [
        known(pipeline.label, entry)
        for hold in holds
        for entry in operator.conflicts(ConflictFilter((mapping.id,), hold=hold))
    ]
    queue = [entry for entry in operator.parked() if entry.mapping == mapping.id and entry.hold in holds]
    return RowExplanation(
        table=str(mapping.to),
        key=key,
        pipeline=pipeline.label,
        mapping=mapping.id,
        where=f"{pipeline.file}:{mapping.span().line}",
        source=f"{mapping.source_name}: {mapping.from_}",
        topic=topic_of(mapping),
        state=state,
        position=position,
        meaning=meaning,
        versions=_versions(operator, topic_of(mapping), stored, kind),
        conflicts=tuple(conflicts),
        parked=tuple(described(pipeline.label, queue)),
    )


def _stored(operator: Operator, mapping: TableMapping, key: str, parts: list[str]) -> StoredPosition | None:
    try:
        found = operator.stored(mapping.to.namespace, mapping.to.name, [key])
        if found is not None and len(found.columns) > 1:
            found = operator.stored(mapping.to.namespace, mapping.to.name, parts)
            if found is not None and len(found.columns) != len(parts):
                raise Usage(f"the key is {', '.join(found.columns)}: {len(parts)} values are given")
    except Poison as error:
        hint = "as SQL writes the values, several with commas"
        raise Usage(f"'{key}' is no key of {mapping.to}", hint=hint) from error
    return found


def _versions(operator: Operator, topic: str, stored: StoredPosition | None, kind: SourceKind) -> tuple[int, ...]:
    if stored is None or stored.position is None:
        return ()
    newest = max((version.number for version in operator.versions()), default=0)
    known = in_force(operator.switches(), newest)
    partitions = [each for each in known if each.topic == topic]
    found = {version for each in partitions for version in applied_by(known[each], stored.position, kind)}
    return tuple(sorted(found or {newest}))


def _told(stored: StoredPosition | None) -> tuple[str, str, str]:
    """What is there, at which position, and what that means."""
    if stored is None:
        return "this target is not asked for rows", "", ""
    if stored.there and stored.position is not None:
        meaning = "the newest change that was decided for the row; an older one is skipped as stale"
        return "the row is there", position_text(stored.position), meaning
    if stored.there:
        return "the row is there; somebody else made it", "", "no change was written: the next one meets a conflict"
    missing = "there is no such row"
    if stored.buried is not None:
        return missing, position_text(stored.buried), "it was deleted: an older change is skipped as stale"
    if stored.floor is not None:
        return missing, position_text(stored.floor), "the table was truncated then: an older change is skipped as stale"
    return missing, "", "no change of it has come"


def _holds(parts: Sequence[str]) -> Iterator[str]:
    """The text of the key as it is kept: a number may be one, or a text."""
    yield hold_of(tuple(parts))
    numbers = tuple(int(part) if part.lstrip("-").isdigit() else part for part in parts)
    if numbers != tuple(parts):
        yield hold_of(numbers)
