"""Conflicts for people: how many there were, by type, table and rule, and between which values the first were decided.

Row values, the key's text among them, stay out of everything here but `Detail`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal

from cdc.control.operate import opened
from cdc.errors import Usage
from cdc.mapping.model import Pipeline
from cdc.model import Position
from cdc.settings import Settings
from cdc.target.operator import ConflictEntry, ConflictFilter

By = Literal["type", "table", "rule"]


@dataclass(frozen=True)
class KnownConflict:
    """A conflict that was kept. `action`: what the rule said; `columns`: those that differed; `where`: the record."""

    pipeline: str
    id: int
    at: str
    mapping: str
    type: str
    action: str
    columns: tuple[str, ...]
    position: str
    where: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Detail:
    """With values, by column: the row before, the change, the row afterwards; None where there is no such row, where
    nobody looked, and (`key` too) where they are hidden."""

    conflict: KnownConflict
    key: str | None
    before: dict[str, str | None] | None
    incoming: dict[str, str | None] | None
    resulting: dict[str, str | None] | None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Asked:
    """Which conflicts. `table`: a target table, or a whole mapping's name; None: all."""

    table: str | None = None
    type: str | None = None
    since: datetime | None = None
    limit: int = 100


def conflicts(settings: Settings, pipelines: Sequence[Pipeline], asked: Asked) -> list[KnownConflict]:
    """The newest of those that were kept, of each pipeline, the oldest first."""
    found: list[KnownConflict] = []
    for pipeline, wanted in _asked(pipelines, asked):
        with opened(settings, pipeline) as operator:
            found += [known(pipeline.label, entry) for entry in reversed(operator.conflicts(wanted))]
    return found


def counted(settings: Settings, pipelines: Sequence[Pipeline], asked: Asked, by: By) -> list[tuple[str, str, int]]:
    """(pipeline, what, number), the largest first; a rule is told as 'type:action'. All that were met, also those that
    were not kept."""
    numbers: Counter[tuple[str, str]] = Counter()
    for pipeline, wanted in _asked(pipelines, asked):
        with opened(settings, pipeline) as operator:
            for each in operator.conflict_counts(wanted):
                what = {
                    "type": each.counted.type.value,
                    "table": each.counted.mapping,
                    "rule": f"{each.counted.type}:{each.counted.action}",
                }[by]
                numbers[pipeline.label, what] += each.number
    return [(pipeline, what, number) for (pipeline, what), number in numbers.most_common()]


def detail(settings: Settings, pipelines: Sequence[Pipeline], conflict_id: int, *, values: bool) -> Detail:
    """One conflict. Raises `Usage` when no pipeline has it, or several do (their targets count each for itself)."""
    found: list[tuple[Pipeline, ConflictEntry]] = []
    for pipeline in pipelines:
        with opened(settings, pipeline) as operator:
            found += [(pipeline, entry) for entry in operator.conflicts(ConflictFilter(id=conflict_id))]
    if len(found) != 1:
        names = ", ".join(pipeline.label for pipeline, _ in found)
        if names:
            raise Usage(f"several pipelines have a conflict {conflict_id}: {names}", hint="say which: --pipeline NAME")
        raise Usage(f"no conflict {conflict_id}", hint="cdc conflicts list shows those that are kept")
    ((pipeline, entry),) = found
    seen = entry.kept.conflict.seen
    shown = known(pipeline.label, entry)
    if seen is None or not values:
        return Detail(shown, None, None, None, None)
    return Detail(shown, entry.kept.hold, seen.before, seen.incoming, seen.resulting)


def known(pipeline: str, entry: ConflictEntry) -> KnownConflict:
    kept, conflict = entry.kept, entry.kept.conflict
    return KnownConflict(
        pipeline,
        entry.id,
        entry.at.isoformat(timespec="seconds"),
        kept.mapping,
        conflict.type.value,
        conflict.action.value,
        conflict.columns,
        position_text(kept.position),
        f"{kept.partition.topic}:{kept.partition.partition}:{kept.offset}",
    )


def position_text(position: Position) -> str:
    """As the source's log counts: 'epoch 1, 123/456'."""
    text = f"{position.major}/{position.minor}" + (f"/{position.row}" if position.row else "")
    return f"epoch {position.epoch}, {text}"


def _asked(pipelines: Sequence[Pipeline], asked: Asked) -> list[tuple[Pipeline, ConflictFilter]]:
    """The pipelines that have the table, each with its filter. Raises `Usage` for a table that none has."""
    found = []
    for pipeline in pipelines:
        mappings = None
        if asked.table is not None:
            names = [(each.id, str(each.to)) for each in pipeline.tables]
            mappings = tuple(sorted(id_ for id_, to in names if asked.table in (to, id_, id_.partition("/")[2])))
            if not mappings:
                continue
        found.append((pipeline, ConflictFilter(mappings, asked.type, asked.since, limit=asked.limit)))
    if not found:
        raise Usage(f"no pipeline writes a table {asked.table}", hint="cdc status shows the tables")
    return found
