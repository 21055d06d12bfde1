"""`where:`: only some of the source's rows are in the target, and a change may move a row in or out.

    the row is now     and was          becomes
    inside             anything         its row
    outside            inside           a delete of its target key
    outside            outside          nothing: `filtered`
    outside            not known        a delete of its target key, which need not be there (`MappedRow.filtered`)
    not known          whatever it is   a partial image, for a row that is there (the same mark); parked where nothing
                                        that is missing is written

Not known: PostgreSQL sends no old row (without REPLICA IDENTITY FULL), and does not repeat large values that a change
left alone; when all that a filter reads was left alone, the row is where it was. What a snapshot reads is not sent
after a change, so rows that it shows outside are deleted when a table is loaded again, and not looked for by the first
snapshot: what a repeated one finds gone is swept, and so are these.

Where several source rows may meet in one target row (its key does not hold the source's), a delete could remove
another's row: there a change outside of the filter needs its old row, or is parked. So it is for a history, which would
tell of rows that were never inside. Where deleted rows stay (soft, ignore), a partial image is parked: it could bring a
row back with values that changed while it was outside.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from cdc.blocks import EventBlock, Image, RowBlock
from cdc.errors import Poison
from cdc.mapping import change
from cdc.mapping.diagnostics import Diagnostic
from cdc.mapping.model import TableMapping
from cdc.mapping.plan import NEEDS_FULL, Keys, Maker, Mapped, Plan, made_row, placed
from cdc.model import (
    UNAVAILABLE,
    ChangeEvent,
    Decision,
    DeletePolicy,
    MappedRow,
    Op,
    Outcome,
    RowOp,
    TableSchema,
    TargetTable,
    Value,
)

FILTERED = Decision(Outcome.SKIPPED, "filtered")


class _NotSentError(Exception):
    """A value is asked for that the source did not send."""


class _Sent(tuple[Value, ...]):
    """A row of which only what was sent may be read."""

    def __getitem__(self, index: Any) -> Any:
        value = super().__getitem__(index)
        if value is UNAVAILABLE:
            raise _NotSentError
        return value


class Filter(msgspec.Struct, frozen=True):
    """A compiled condition. `call`, `inputs` and `of_change` as in a `Maker`. `narrow`: several source rows may have
    one target key. `by_key`: it reads nothing but the source's key."""

    call: Callable[[Image], Value]
    inputs: tuple[int, ...]
    of_change: bool
    narrow: bool
    by_key: bool

    def admits(self, image: Image) -> bool | None:
        """Whether a row is inside; None: as it was before. Raises `Poison` without a place."""
        missing = [index for index in self.inputs if image[index] is UNAVAILABLE]
        try:
            return self.call(_Sent(image) if missing else image) is True
        except _NotSentError:
            if len(missing) == len(self.inputs) and not self.of_change:
                return None
            raise _not_sent() from None
        except (ValueError, ArithmeticError) as error:
            raise Poison(f"'where': {error}", reason="expression_failed") from error


class FilteredPlan(Plan):
    """A `Plan` for the rows inside of a filter, which takes care of those that are outside."""

    def __init__(
        self,
        mapping: TableMapping,
        schema: TableSchema,
        target: TargetTable,
        makers: Sequence[Maker],
        keys: Keys,
        warnings: tuple[Diagnostic, ...],
        filter: Filter,
    ) -> None:
        super().__init__(mapping, schema, target, makers, keys, warnings)
        self._filter = filter
        self._wide_filter = change.widener(schema, filter.inputs)

    def map_batch(self, events: Sequence[ChangeEvent]) -> list[Mapped | Poison]:
        said: list[Mapped | Poison | bool | None] = [self._said(event) for event in events]
        inside = [index for index, each in enumerate(said) if each is True or each is None]
        mapped = super().map_batch([events[index] for index in inside])
        for index, made in zip(inside, mapped, strict=True):
            said[index] = self._inside(events[index], made, known=said[index] is True)
        return said  # type: ignore[return-value]

    def map_block(self, events: EventBlock) -> RowBlock | None:
        if self._filter.of_change or self._rules is not None:
            return None
        try:
            for after, before in zip(events.after, events.before, strict=True):
                if after is None:
                    if before is None or self._was_inside(before) is False or self._shared(before):
                        return None
                elif not self._filter.admits(after):
                    return None
        except Poison:
            return None
        return super().map_block(events)

    def _said(self, event: ChangeEvent) -> Mapped | Poison | bool | None:
        """True: the row is inside, or the event is about no row of its own; None: where it was; or all that there is to
        say about it."""
        try:
            if event.after is None:
                return True if event.op is Op.TRUNCATE or event.before is None else self._deleted(event, event.before)
            image = event.after if self._wide_filter is None else self._wide_filter(event)
            found = self._filter.admits(image)
            return self._outside(event) if found is False else found
        except Poison as error:
            return placed(error, event)

    def _deleted(self, event: ChangeEvent, before: Image) -> Mapped | bool:
        inside = self._was_inside(before)
        if inside is None and self._shared(before):
            raise needs_old_row()
        return FILTERED if inside is False else True

    def _outside(self, event: ChangeEvent) -> Mapped:
        """What becomes of a row that is outside now."""
        if event.op is Op.CREATE:
            return self._created_outside(event)
        before = event.before if event.op is Op.UPDATE else None
        was = self._was_inside(before) if before is not None else None
        if was is False or self.target.on_delete is DeletePolicy.IGNORE:
            return FILTERED
        unfindable = self._filter.narrow or self._keys.moves  # by the row as it is now
        if event.op is Op.READ and (unfindable or event.snapshot != "incremental"):
            return FILTERED
        if was is None and self._filter.narrow:
            raise needs_old_row()
        assert event.after is not None
        image = before if self._keys.moves and before is not None else event.after
        row = made_row(event, RowOp.DELETE, self._keys.of_image(image), None)
        row = row if self._rules is None else self._expecting(event, row)
        return msgspec.structs.replace(row, filtered=was is None)

    def _created_outside(self, event: ChangeEvent) -> Mapped:
        """Nothing, but for a key change inside of one target row: its delete left the row to this half."""
        assert event.after is not None
        if event.moved_from is None or self._keys.moves or self.target.on_delete is DeletePolicy.IGNORE:
            return FILTERED
        key = self._keys.of_image(event.after)
        if self._keys.of_source_key(event.moved_from) != key:
            return FILTERED
        if not self._filter.by_key:
            raise needs_old_row()
        was = self._filter.admits(self._keys.source_image(event.moved_from))
        return made_row(event, RowOp.DELETE, key, None) if was else FILTERED

    def _inside(self, event: ChangeEvent, made: Mapped | Poison, *, known: bool) -> Mapped | Poison:
        """The mapped row of a change that is inside; `known`: it is, and not only where it was."""
        if event.after is None or isinstance(made, Poison | Decision):
            return made
        partial = isinstance(made, MappedRow) and made.partial
        if partial and self.target.on_delete is not DeletePolicy.DELETE:
            # The row is there whether it was inside or not, and what it lacks may have changed while it was outside.
            return placed(needs_old_row(), event)
        if not known:
            return self._where_it_was(event, made)
        if event.op is Op.UPDATE and isinstance(made, MappedRow) and not self._stood_there(event):
            return msgspec.structs.replace(made, created=True, before=None)
        return made

    def _stood_there(self, event: ChangeEvent) -> bool:
        return event.before is None or self._was_inside(event.before) is not False

    def _where_it_was(self, event: ChangeEvent, made: MappedRow | tuple[MappedRow, MappedRow]) -> MappedRow | Poison:
        if isinstance(made, MappedRow) and made.partial:
            return msgspec.structs.replace(made, filtered=True)
        return placed(_not_sent(), event)

    def _was_inside(self, before: Image) -> bool | None:
        """Whether the old row was inside; None: that cannot be told."""
        if self._filter.of_change or (self._holds_the_key_only(before) and not self._filter.by_key):
            return None
        try:
            return self._filter.admits(before)
        except Poison:
            return None

    def _shared(self, before: Image) -> bool:
        """Whether a deleted row's target row may be another's."""
        return self._filter.narrow and self._was_inside(before) is None


def _not_sent() -> Poison:
    what = "'where' needs values that the source did not send"
    return Poison(what, reason="expression_needs_unavailable", hint=NEEDS_FULL)


def needs_old_row() -> Poison:
    what = "the row is outside of 'where': whether it was inside before, only the old row tells"
    return Poison(what, reason="filter_needs_old_row", hint=NEEDS_FULL)
