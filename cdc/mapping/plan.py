"""A compiled mapping at work: change events of one schema version in, mapped rows out. No checks of names here.

Speed: a plan of plain copies costs one `itemgetter` call a row (nothing when source and target columns are the same
list), and expressions run column by column over a batch, so that a row pays no interpretation, only its own functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from operator import itemgetter
from typing import Any, TypeAlias

import msgspec

from cdc.blocks import EventBlock, Image, RowBlock, picker
from cdc.errors import CdcError, Poison
from cdc.mapping import change
from cdc.mapping.diagnostics import Diagnostic
from cdc.mapping.masking import Masking
from cdc.mapping.model import TableMapping
from cdc.model import (
    UNAVAILABLE,
    ChangeEvent,
    Decision,
    DeletePolicy,
    Detect,
    MappedRow,
    Op,
    Outcome,
    RowOp,
    Rules,
    TableSchema,
    TargetTable,
    TruncatePolicy,
    Value,
)

Mapped: TypeAlias = MappedRow | tuple[MappedRow, MappedRow] | Decision
"""What one event becomes. A pair is the delete of the old target key and the upsert of the new one, in this order."""

IGNORED_DELETE = Decision(Outcome.SKIPPED, "ignored_delete")
IGNORED_TRUNCATE = Decision(Outcome.SKIPPED, "ignored_truncate")
SAME_KEY = Decision(Outcome.SKIPPED, "same_target_key")
_NEEDS_KEY = "give the table a primary key, or set message.key.columns in the connector's configuration"
NEEDS_FULL = "set REPLICA IDENTITY FULL on the source table, so that changes carry every column"


class Maker(msgspec.Struct, frozen=True):
    """How one target column gets its value from a source row: copy `source`, evaluate `call`, or else `constant`; and
    what masks it then.

    `inputs` are the indexes of the source columns that are read. `call` gets the whole row, never sees UNAVAILABLE
    among its inputs, and raises `ValueError` or `ArithmeticError` for a row that it cannot compute exactly.
    `of_change`: it reads more of the change than the row as it is, and gets a wide row (change.py).
    """

    column: str
    source: int | None = None
    call: Callable[[Image], Value] | None = None
    constant: Value = None
    inputs: tuple[int, ...] = ()
    of_change: bool = False
    masking: Masking | None = None

    @property
    def copies(self) -> int | None:
        """The source column whose values it has as they are."""
        return None if self.masking is not None else self.source

    @property
    def tells(self) -> int | None:
        """The source column whose values it tells apart: as they are, or under a mask that keeps uniqueness."""
        return self.source if self.masking is None or self.masking.keeps_uniqueness else None

    def column_of(self, images: Sequence[Image], failed: dict[int, Poison]) -> Iterable[Value]:
        """This column's values of a batch. Rows that fail go to `failed`, by their place in the batch."""
        if self.masking is None:
            return self._clear_column(images, failed)
        try:
            return self.masking.column(self._clear_column(images, failed))
        except (ValueError, ArithmeticError):
            return [self._one(image, index, failed) for index, image in enumerate(images)]

    def _clear_column(self, images: Sequence[Image], failed: dict[int, Poison]) -> Iterable[Value]:
        if self.source is not None:
            return map(itemgetter(self.source), images)
        call = self.call
        if call is None:
            return (self.constant,) * len(images)
        if not self.inputs or not _any_unavailable(images, self.inputs):
            try:
                return [call(image) for image in images]
            except (ValueError, ArithmeticError):
                pass  # some row fails: find out which
        return [self._one(image, index, failed, self._clear) for index, image in enumerate(images)]

    def value_of(self, image: Image) -> Value:
        """The value for one row. Raises `Poison` without a place."""
        value = self._clear(image)
        if self.masking is None:
            return value
        try:
            return self.masking(value)
        except (ValueError, ArithmeticError) as error:
            raise Poison(f"column '{self.column}', its mask: {error}", reason="expression_failed") from error

    def _clear(self, image: Image) -> Value:
        """The value before it is masked."""
        if self.source is not None:
            return image[self.source]
        if self.call is None:
            return self.constant
        missing = [index for index in self.inputs if image[index] is UNAVAILABLE]
        if missing:
            if len(missing) == len(self.inputs) and not self.of_change:
                return UNAVAILABLE  # nothing that it reads has changed, so it has not
            raise Poison(
                f"column '{self.column}' needs values that the source did not send",
                reason="expression_needs_unavailable",
                hint=NEEDS_FULL,
            )
        try:
            return self.call(image)
        except (ValueError, ArithmeticError) as error:
            raise Poison(f"column '{self.column}': {error}", reason="expression_failed") from error

    def value_before(self, image: Image) -> Value:
        """The value of a before image; UNAVAILABLE where that cannot be told: then it is not compared."""
        if self.of_change:
            return UNAVAILABLE
        try:
            return self.value_of(image)
        except Poison:
            return UNAVAILABLE

    def _one(
        self,
        image: Image,
        index: int,
        failed: dict[int, Poison],
        value_of: Callable[[Image], Value] | None = None,
    ) -> Value:
        try:
            return (value_of or self.value_of)(image)
        except Poison as error:
            failed.setdefault(index, error)
            return None


class Keys(msgspec.Struct, frozen=True):
    """How the target key follows from source rows.

    `source_key`: indexes of the source table's key columns. `moves`: the target key reads other columns too, so an
    update may change it and a key change at the source says nothing about it.
    """

    makers: tuple[Maker, ...]
    source_key: tuple[int, ...]
    width: int
    moves: bool

    def of_image(self, image: Image) -> Image:
        """The target key of a source row. Raises `Poison` when the row does not hold what the key needs."""
        key = tuple([maker.value_of(image) for maker in self.makers])
        if None in key or UNAVAILABLE in key:
            raise missing_key(self.makers, key)
        return key

    def of_source_key(self, values: Image) -> Image:
        """The target key that belongs to a source key (in the order of `TableSchema.key`)."""
        if self.moves:
            raise missing_key(self.makers, (None,) * len(self.makers))
        return self.of_image(self.source_image(values))

    def source_image(self, values: Image) -> Image:
        """A source row of which only the key is known."""
        image: list[Value] = [None] * self.width
        for index, value in zip(self.source_key, values, strict=True):
            image[index] = value
        return tuple(image)


def missing_key(makers: Sequence[Maker], key: Image) -> Poison:
    names = [maker.column for maker, value in zip(makers, key, strict=True) if value is None or value is UNAVAILABLE]
    return Poison(
        f"no value for target key column {', '.join(names)}",
        reason="missing_key",
        hint=f"choose a key whose columns are never NULL, or {NEEDS_FULL}",
    )


class Plan:
    """One mapping, compiled for one schema version. Made by `compile_table`; holds no state, safe to share."""

    def __init__(
        self,
        mapping: TableMapping,
        schema: TableSchema,
        target: TargetTable,
        makers: Sequence[Maker],
        keys: Keys,
        warnings: tuple[Diagnostic, ...] = (),
    ) -> None:
        self.mapping = mapping
        self.schema = schema
        self.target = target
        self.warnings = warnings
        self._makers = tuple(makers)
        self._keys = keys
        self._computes = any(maker.copies is None for maker in makers)
        self._values = self._value_maker()
        self.of_change = tuple(index for index, maker in enumerate(makers) if maker.of_change)
        """Target columns whose values are the change's, not the row's: they cannot be told from the row later."""
        self._widen = change.widener(schema, chain.from_iterable(maker.inputs for maker in makers))
        self._rules = target.rules
        self._key_of = picker(target.key_indexes)

    @property
    def makers(self) -> tuple[Maker, ...]:
        """How the values of `target.columns` are made, in their order."""
        return self._makers

    def map(self, event: ChangeEvent) -> Mapped:
        """What `event` (of this plan's schema version) says about the target. Raises `Poison`: the event is parked."""
        (mapped,) = self.map_batch((event,))
        if isinstance(mapped, Poison):
            raise mapped
        return mapped

    def map_batch(self, events: Sequence[ChangeEvent]) -> list[Mapped | Poison]:
        """The same for many events of this plan's schema version: one entry an event, in order, never raises Poison."""
        made = iter(self._values(self._images(events)))
        key_of, moves = self._key_of, self._keys.moves
        upsert = RowOp.UPSERT
        result: list[Mapped | Poison] = []
        append = result.append
        for event in events:
            if event.after is None:
                append(self._without_after(event))
                continue
            values = next(made)
            if isinstance(values, Poison):
                append(placed(values, event))
                continue
            key = key_of(values)
            if None in key or UNAVAILABLE in key:
                append(placed(missing_key(self._keys.makers, key), event))
            elif self._rules is not None:
                append(self._with_expectations(event, self._moved(event, key, values)))
            elif event.moved_from is not None or (moves and event.op is Op.UPDATE):
                append(self._moved(event, key, values))
            else:
                append(
                    MappedRow(
                        upsert, key, values, event.position, event.record, event.snapshot, None, None, event.time_us
                    )
                )
        return result

    def map_block(self, events: EventBlock) -> RowBlock | None:
        """The same for a block, or None when some event of it needs more than a row: map them one by one then."""
        images = [image for image in events.after if image is not None]
        deletes = len(images) < len(events)
        if self._widen is not None:
            try:
                images = self._images(events)
            except Poison:
                return None
        ignores = self.target.on_delete is DeletePolicy.IGNORE and deletes
        if self._keys.moves or ignores or (self._rules is not None and expects(self._rules, deletes=deletes)):
            return None
        made = list(self._values(images))
        if self._computes and Poison in map(type, made):
            return None
        values: list[Any] = made
        if len(made) == len(events):
            keys = list(map(self._key_of, values))
        else:
            upserts = iter(made)
            values = [None if image is None else next(upserts) for image in events.after]
            try:
                keys = [
                    self._key_of(after) if before is None else self._keys.of_image(before)
                    for after, before in zip(values, events.before, strict=True)
                ]
            except Poison:
                return None
        if any(value is None or value is UNAVAILABLE for value in chain.from_iterable(keys)):
            return None
        return RowBlock(events, keys, values)

    def _images(self, events: Iterable[ChangeEvent]) -> list[Image]:
        """The rows as they are after these events, those of deletes left out; wide where something reads more."""
        if self._widen is None:
            return [event.after for event in events if event.after is not None]
        return [self._widen(event) for event in events if event.after is not None]

    def told(self, image: Image) -> dict[str, Value]:
        """What a source row, whole or not, tells through this mapping: the target's columns that can be worked out."""
        columns = zip(self.target.columns, self._makers, strict=True)
        values = {column.name: maker.value_before(image) for column, maker in columns if column.name[:1] != "@"}
        return {name: value for name, value in values.items() if value is not UNAVAILABLE}

    def key_of_source(self, values: Image) -> Image:
        """The target key of a source key (order of `TableSchema.key`). Raises `Poison` if it needs other columns."""
        return self._keys.of_source_key(values)

    def key_of_image(self, image: Image) -> Image:
        """The target key of a whole source row. Raises `Poison` when it does not hold what the key needs."""
        return self._keys.of_image(image)

    def origin(self, column: str) -> str | None:
        """The source column that a target column copies as it is."""
        sources = (maker.source for maker in self._makers if maker.column == column)
        return next((self.schema.columns[source].name for source in sources if source is not None), None)

    def _value_maker(self) -> Callable[[list[Image]], Iterable[Image | Poison]]:
        makers = self._makers
        sources = [maker.copies for maker in makers]
        copies = [source for source in sources if source is not None]
        if len(copies) < len(makers):
            return self._computed
        if copies == list(range(len(self.schema.columns))):
            return lambda images: images
        pick = picker(copies)
        return lambda images: map(pick, images)

    def _computed(self, images: list[Image]) -> Iterable[Image | Poison]:
        if not images:
            return []
        failed: dict[int, Poison] = {}
        rows = zip(*[maker.column_of(images, failed) for maker in self._makers], strict=True)
        if not failed:
            return rows
        return [failed.get(index, row) for index, row in enumerate(list(rows))]

    def _moved(self, event: ChangeEvent, key: Image, values: Image) -> Mapped | Poison:
        """An upsert whose row may have stood under another target key before."""
        try:
            if event.op is Op.UPDATE and self._keys.moves and self._stood_there(event):
                return self._update(event, key, values)
            old = None if self._keys.moves or event.moved_from is None else self._keys.of_source_key(event.moved_from)
        except Poison as error:
            return placed(error, event)
        return made_row(event, RowOp.UPSERT, key, values, moved_from=None if old == key else old)

    def _stood_there(self, event: ChangeEvent) -> bool:
        """Whether the row that an update changes may be in the target."""
        return True

    def _update(self, event: ChangeEvent, key: Image, values: Image) -> Mapped:
        if event.before is None:
            raise missing_key(self._keys.makers, (None,) * len(key))
        old = self._keys.of_image(event.before)
        if old == key:
            return made_row(event, RowOp.UPSERT, key, values)
        return (
            made_row(event, RowOp.DELETE, old, None, moved_to=key),
            made_row(event, RowOp.UPSERT, key, values, moved_from=old),
        )

    def _without_after(self, event: ChangeEvent) -> Mapped | Poison:
        if event.op is Op.TRUNCATE:
            return _truncated(self.mapping, event)
        # An ignored delete that is half of a key change still lends its row's values to the other half.
        if self.target.on_delete is DeletePolicy.IGNORE and (event.moved_to is None or not self.target.partials):
            return IGNORED_DELETE
        try:
            mapped = self._delete(event)
        except Poison as error:
            return placed(error, event)
        return mapped if self._rules is None else self._with_expectations(event, mapped)

    def _with_expectations(self, event: ChangeEvent, mapped: Mapped | Poison) -> Mapped | Poison:
        """What the rules of the table look at: whether the row is new, and what it was before."""
        if isinstance(mapped, tuple):
            old, new = mapped
            return self._expecting(event, old), self._expecting(event, new)
        return self._expecting(event, mapped) if isinstance(mapped, MappedRow) else mapped

    def _expecting(self, event: ChangeEvent, row: MappedRow) -> MappedRow:
        moved = row.moved_from is not None
        before = None if moved or self._rules is None else self._before(self._rules, event, row.values)
        return msgspec.structs.replace(row, created=event.created, before=before)

    def _before(self, rules: Rules, event: ChangeEvent, after: Image | None) -> Image | None:
        """The row before the change, in the columns that the rules compare; None where the source did not send it."""
        compared = rules.compared
        if rules.version is not None and after is None:
            compared = (rules.version,)
        image = event.before
        if image is None or not compared or self._holds_the_key_only(image):
            return None
        before: list[Value] = [UNAVAILABLE] * len(self._makers)
        for index in compared:
            value = self._makers[index].value_before(image)
            unchanged = after is not None and (after[index] is UNAVAILABLE or after[index] == value)
            if rules.detect is not Detect.CHANGED_COLUMNS or not unchanged:
                before[index] = value
        return tuple(before)

    def _holds_the_key_only(self, image: Image) -> bool:
        """PostgreSQL without REPLICA IDENTITY FULL sends a deleted row's key, and NULL for the rest."""
        if self.schema.kind != "postgresql":
            return False
        return all(column.key or value is None for column, value in zip(self.schema.columns, image, strict=True))

    def _delete(self, event: ChangeEvent) -> Mapped:
        keys = self._keys
        if event.before is None:
            raise missing_key(keys.makers, (None,) * len(keys.makers))
        key = keys.of_image(event.before)
        to = None if keys.moves or event.moved_to is None else keys.of_source_key(event.moved_to)
        # The other half, a create, writes the same target row: deleting it here could come after that.
        return SAME_KEY if to == key else made_row(event, RowOp.DELETE, key, None, moved_to=to)


class KeylessPlan:
    """The plan for records without a key, which is how a truncate comes: its schema tells no key column.

    Has the face of a `Plan`. Its target table is known by name only; anything but a truncate is poison.
    """

    def __init__(self, mapping: TableMapping) -> None:
        self.mapping = mapping
        self.target = TargetTable(
            mapping=mapping.id,
            namespace=mapping.to.namespace,
            name=mapping.to.name,
            columns=(),
            key=(),
            on_delete=mapping.on_delete,
            soft_delete=mapping.soft_delete_column if mapping.on_delete is DeletePolicy.SOFT else None,
            on_truncate=mapping.on_truncate,
            supersede=mapping.supersede,
            contributes=mapping.contributes(0),
            history=None if mapping.history is None else mapping.history.compiled,
        )

    def map_batch(self, events: Sequence[ChangeEvent]) -> list[Mapped | Poison]:
        return [self._one(event) for event in events]

    def map_block(self, events: EventBlock) -> RowBlock | None:
        return None

    def key_of_source(self, values: Image) -> Image:
        raise Poison("the record has no key", reason="missing_key")

    def key_of_image(self, image: Image) -> Image:
        raise Poison("the record has no key", reason="missing_key")

    def _one(self, event: ChangeEvent) -> Mapped | Poison:
        if event.op is not Op.TRUNCATE:
            return Poison("the record has no key", reason="missing_key", where=event.record.where, hint=_NEEDS_KEY)
        return _truncated(self.mapping, event)


def expects(rules: Rules, *, deletes: bool) -> bool:
    """Whether rules look at more of an event than its row and whether that is new."""
    return rules.reads_before or rules.detect is Detect.COMMIT_TIME or (deletes and rules.version is not None)


def made_row(
    event: ChangeEvent,
    op: RowOp,
    key: Image,
    values: Image | None,
    *,
    moved_from: Image | None = None,
    moved_to: Image | None = None,
) -> MappedRow:
    return MappedRow(op, key, values, event.position, event.record, event.snapshot, moved_from, moved_to, event.time_us)


def _truncated(mapping: TableMapping, event: ChangeEvent) -> MappedRow | Decision:
    """A truncate that counts, whatever is done about it when its turn comes (`TargetTable.on_truncate`)."""
    ignored = mapping.on_truncate is TruncatePolicy.IGNORE
    return IGNORED_TRUNCATE if ignored else made_row(event, RowOp.TRUNCATE, (), None)


def placed(error: CdcError, event: ChangeEvent) -> Poison:
    assert isinstance(error, Poison)
    return Poison(error.what, reason=error.reason, where=event.record.where, hint=error.hint)


def _any_unavailable(images: Sequence[Image], inputs: Sequence[int]) -> bool:
    return any(image[index] is UNAVAILABLE for index in inputs for image in images)
