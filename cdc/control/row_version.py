"""By which version of the mappings a row was applied, told by the position that is stored with it.

A version begins in a partition at an offset, and what its position tracker had seen by then is kept: a position that is
new to it came later. One that is not was there before, unless the change came again (a redelivery, a retry of what was
parked): then the version of that time applied it, which positions do not tell. Nothing is kept with each row for this,
and nothing is written with a batch.
"""

from __future__ import annotations

from collections.abc import Sequence

from cdc.entries import SourceKind
from cdc.model import Position
from cdc.source.positions import restore
from cdc.target.versions import Switch


def applied_by(versions: Sequence[Switch], position: Position, kind: SourceKind) -> tuple[int, ...]:
    """The versions of one partition (see `in_force`) that may have applied the change at a position."""
    found = [versions[0].number]
    for switch in versions[1:]:
        if not switch.tracker:
            if switch.next is not None:
                found.append(switch.number)  # read again after a rewind: what was seen by then is not known
        elif restore(kind, None, switch.tracker).is_new(position):
            found = [switch.number]
        else:
            break
    return tuple(found)
