"""A compiled mapping whose rows are changes: what a plan says about a row becomes a row of its own.

A row's key is the row's own and the change's position and operation: two changes of one key at one position are a
delete and a create (a key that changes), or the same change once more. So a replay, in any order, meets its own rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat

import msgspec

from cdc.blocks import EventBlock, Image, RowBlock
from cdc.errors import Poison
from cdc.mapping.diagnostics import Diagnostic
from cdc.mapping.filters import FILTERED, needs_old_row
from cdc.mapping.history import HistoryTable, history_columns
from cdc.mapping.model import TableMapping
from cdc.mapping.plan import NEEDS_FULL, Mapped, Plan, placed
from cdc.model import ChangeEvent, History, MappedRow, Op, RowOp, TargetTable
from cdc.moments import moment


class HistoryPlan(Plan):
    """A `Plan`: `plain` says what a change makes of the row. `table`: the history."""

    def __init__(self, plain: Plan, table: TargetTable) -> None:
        super().__init__(plain.mapping, plain.schema, plain.target, plain._makers, plain._keys, plain.warnings)
        self._plain = plain
        self._width = len(plain.target.columns)
        self._key_places = plain.target.key_indexes
        self.target = table

    def map_batch(self, events: Sequence[ChangeEvent]) -> list[Mapped | Poison]:
        found = self._plain.map_batch(events)
        return [self._changes(event, mapped) for event, mapped in zip(events, found, strict=True)]

    def map_block(self, events: EventBlock) -> RowBlock | None:
        rows = self._plain.map_block(events)
        if rows is None:
            return None
        keys, values = list[Image](), list[Image | None]()
        for key, image, position, (op, time_us) in zip(
            rows.keys, rows.values, events.positions, events.told(), strict=True
        ):
            packed = position.pack()
            keys.append((*key, packed, op))
            values.append((*(self._gone(key) if image is None else image), op, moment(time_us), packed))
        return RowBlock(events, keys, values)

    def _changes(self, event: ChangeEvent, mapped: Mapped | Poison) -> Mapped | Poison:
        if isinstance(mapped, tuple):
            old, new = mapped
            return self._change(event, old), self._change(event, new)
        if not isinstance(mapped, MappedRow):
            return mapped
        if mapped.filtered:  # it may never have been inside of the filter: then its history does not tell of it
            return FILTERED if event.op is Op.READ else placed(needs_old_row(), event)
        if event.moved_from is not None and mapped.partial:  # what it lacks stands in the history of another key
            return Poison(
                "the key changed, and the source did not send every column",
                reason="partial_image",
                where=event.record.where,
                hint=NEEDS_FULL,
            )
        return self._change(event, mapped)

    def _change(self, event: ChangeEvent, row: MappedRow) -> MappedRow:
        if row.op is RowOp.TRUNCATE:
            return row
        op, packed = Op.DELETE.value if row.values is None else event.op.value, row.position.pack()
        image = self._gone(row.key) if row.values is None else row.values
        return msgspec.structs.replace(
            row,
            op=RowOp.UPSERT,
            key=(*row.key, packed, op),
            values=(*image, op, moment(event.time_us or 0), packed),
            moved_from=None,
            moved_to=None,
        )

    def _gone(self, key: Image) -> Image:
        """A row that is not there any more: its key."""
        values = list(repeat(None, self._width))
        for index, value in zip(self._key_places, key, strict=True):
            values[index] = value
        return tuple(values)


def history_table(plain: TargetTable, history: History) -> TargetTable:
    """The table of changes of the rows that `plain` would hold."""
    columns = tuple(msgspec.structs.replace(each, nullable=each.name not in plain.key) for each in plain.columns)
    return msgspec.structs.replace(
        plain,
        columns=(*columns, *history_columns(history)),
        key=(*plain.key, history.position, history.operation),
        history=history,
    )


def history_findings(mapping: TableMapping, columns: Sequence[str]) -> list[Diagnostic]:
    """Columns of a history that have the name of another one."""
    spec = mapping.history
    if spec is None:
        return []
    names, found = spec.names, list[Diagnostic]()
    for number, name in enumerate(names):
        if name in columns or name in names[:number]:
            key = spec.key_of(name)
            message, advice = f"two columns would be named '{name}'", f"choose another name: {key}: …"
            found.append(mapping.finding("duplicate-column", message, ("history",), help=f"history: {advice}"))
    return found


def spec_findings(mapping: TableMapping) -> list[Diagnostic]:
    """What cannot stand beside `history`, whatever the source's schema is."""
    spec: HistoryTable | None = mapping.history
    if spec is None:
        return []
    found = []
    if "on_delete" in mapping.model_fields_set:
        message = f"'on_delete: {mapping.on_delete}' and 'history': a history keeps each delete as a row"
        found.append(mapping.finding("history-with", message, ("on_delete",), help="leave 'on_delete' out"))
    if mapping.rest is not None:
        message = "'rest' and 'history': a REST target is given rows, it keeps no history of them"
        found.append(mapping.finding("history-with", message, ("rest",), help="leave one of them out", key=True))
    if mapping.rules is not None:
        message = f"'rules' and 'history' of {mapping.to}: nothing is overwritten there, so there is no conflict"
        advice = f"leave {mapping.rules_name} out of the rules, or the history"
        found.append(mapping.rule_finding("history-with", message, (), help=advice, key=True))
    return found
