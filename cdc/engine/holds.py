"""Under which keys a record is set aside that was not (or cannot be) applied."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from cdc.errors import CdcError, Poison
from cdc.mapping.plan import KeylessPlan
from cdc.mapping.plan import Plan as CompiledPlan
from cdc.model import ChangeEvent, MappedRow, Position, RawRecord, TableSchema, Value
from cdc.source.envelope import Decoder
from cdc.target.base import ON_REQUEST, Parked, hold_of

Plan = CompiledPlan | KeylessPlan
NOWHERE = Position(0, 0, 0)
"""The position of a record that does not tell it."""


def cut_at(records: list[RawRecord], offsets: Mapping[int, str]) -> list[list[RawRecord] | RawRecord]:
    """A partition's records in pieces, those with these offsets by themselves."""
    if not offsets or not any(raw.offset in offsets for raw in records):
        return [records]
    pieces: list[list[RawRecord] | RawRecord] = []
    for raw in records:
        if raw.offset in offsets:
            pieces.append(raw)
        elif pieces and isinstance(pieces[-1], list):
            pieces[-1].append(raw)
        else:
            pieces.append([raw])
    return pieces


def set_aside(
    raw: RawRecord,
    words: str,
    decoder: Decoder,
    plans: Callable[[TableSchema], Sequence[Plan]],
    mappings: Callable[[str], Sequence[str]],
) -> list[tuple[Plan | None, Parked]]:
    """A record that somebody asked for, parked for every mapping of its topic under the keys of its rows, each with the
    mapping's plan; without a plan and a key where that much cannot be told.

    Raises nothing because of the record: it may be asked for because no worker survives it.
    """
    try:
        event = decoder.decode(raw)
    except Poison as poison:
        return _of_poison(raw, words, poison, plans, mappings)
    except Exception:
        event = None
    if not isinstance(event, ChangeEvent):
        return _without_key(raw, words, NOWHERE, mappings)
    planned = _planned(plans, event.schema)
    if planned is None:
        return _without_key(raw, words, event.position, mappings)
    return [
        (plan, Parked(plan.target.mapping, hold, raw, event.position, ON_REQUEST, words))
        for plan in planned
        for hold in _holds(plan, event)
    ]


def _of_poison(
    raw: RawRecord,
    words: str,
    poison: Poison,
    plans: Callable[[TableSchema], Sequence[Plan]],
    mappings: Callable[[str], Sequence[str]],
) -> list[tuple[Plan | None, Parked]]:
    """The decoder may have told the schema, the position and the key of what it could not read."""
    schema: TableSchema | None = getattr(poison, "schema", None)
    position: Position = getattr(poison, "position", None) or NOWHERE
    key: tuple[Value, ...] | None = getattr(poison, "key", None)
    planned = None if schema is None or key is None else _planned(plans, schema)
    if planned is None or key is None:
        return _without_key(raw, words, position, mappings)
    return [
        (plan, Parked(plan.target.mapping, hold_of_source(plan, key), raw, position, ON_REQUEST, words))
        for plan in planned
    ]


def _without_key(
    raw: RawRecord, words: str, position: Position, mappings: Callable[[str], Sequence[str]]
) -> list[tuple[Plan | None, Parked]]:
    return [(None, Parked(mapping, "", raw, position, ON_REQUEST, words)) for mapping in mappings(raw.topic)]


def _planned(plans: Callable[[TableSchema], Sequence[Plan]], schema: TableSchema) -> Sequence[Plan] | None:
    try:
        return plans(schema)
    except CdcError:
        return None  # the mapping does not fit this version of the table


def _holds(plan: Plan, event: ChangeEvent) -> list[str]:
    """The keys of the rows that an event makes; of its source row when it makes none."""
    try:
        (mapped,) = plan.map_batch([event])
    except Exception:
        mapped = None
    rows = mapped if isinstance(mapped, tuple) else (mapped,)
    keys = [row.key for row in rows if isinstance(row, MappedRow) and row.key]
    return [hold_of(key) for key in keys] or [hold_of_event(plan, event)]


def hold_of_event(plan: Plan, event: ChangeEvent) -> str:
    """The hold text of an event that could not be mapped: its target key if that much can be told, else ''."""
    image = event.after or event.before
    try:
        return "" if image is None else hold_of(plan.key_of_image(image))
    except Poison:
        return ""


def hold_of_source(plan: Plan, source_key: tuple[Value, ...]) -> str:
    """The hold text of a source key, '' when it does not tell the target key."""
    try:
        return hold_of(plan.key_of_source(source_key))
    except Poison:
        return ""
