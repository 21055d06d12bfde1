"""What a parked record holds, for people: as it came, or through the masks of its mapping.

Where the mapping (or another one of the same topic and target) masks a column, a record is never shown as it came, but
as what the mapping makes of its images: masked columns are masked, and columns that it leaves out are not there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from cdc.engine.plans import Plans
from cdc.engine.sealed import Seal
from cdc.errors import CdcError
from cdc.keys import Keyring
from cdc.mapping.model import Pipeline
from cdc.mapping.plan import Plan
from cdc.model import ChangeEvent, RawRecord, Value
from cdc.source.envelope import Decoder


@dataclass(frozen=True)
class Content:
    """Texts; None: there is none. `masked`: the value tells images through a mapping, and the key is not told."""

    key: str | None
    value: str | None
    masked: bool


def content(keys: Keyring, pipeline: Pipeline, mapping: str, raw: RawRecord) -> Content:
    """What `raw`, parked for `mapping`, holds. Raises nothing because of the record."""
    plans = Plans(pipeline, keys)
    seal = Seal(keys, plans.masked_topics)
    if raw.topic not in plans.masked_topics and seal.sealed_by(raw) is None:
        return Content(_text(raw.key), _text(raw.value), False)
    try:
        return Content(None, through_masks(plans, mapping, seal.opened(raw)), True)
    except CdcError as error:
        return Content(None, f"(cannot be shown through the mapping: {error.what})", True)


def through_masks(plans: Plans, mapping: str, raw: RawRecord) -> str:
    """A record's images as one mapping tells them, as JSON. Raises `Poison` for what is no change event, `MappingError`
    where the mapping does not fit it."""
    event = Decoder(standalone=True).decode(raw)
    if not isinstance(event, ChangeEvent):
        return f"({event.reason})"
    plan = next((each for each in plans.of(event.schema) if each.target.mapping == mapping), None)
    told: dict[str, Any] = {"op": event.op.value}
    if isinstance(plan, Plan):
        told |= {"before": _told(plan, event.before), "after": _told(plan, event.after)}
    return msgspec.json.encode(told).decode()


def _told(plan: Plan, image: tuple[Value, ...] | None) -> dict[str, Value] | None:
    return None if image is None else plan.told(image)


def _text(content: bytes | None) -> str | None:
    return None if content is None else content.decode("utf-8", "backslashreplace")
