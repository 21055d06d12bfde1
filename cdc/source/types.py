"""What both kinds of sources have in common: the shape of a type's entry, and finding a column's entry.

One table per kind (`types_postgres.TYPES`, `types_mariadb.TYPES`) says everything that is known about a type: what it
becomes, how it arrives, whether it can be carried exactly. The decoder, the doctor, the mapping compiler and the
generated page of documentation read the same entries.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from cdc.errors import Terminal
from cdc.model import ColumnType, Kind
from cdc.source.values import Field, Wire

REFUSED = Wire(msgspec.Raw)
"""The form of columns that can never be exact: never looked at, always UNAVAILABLE."""


class SourceType(msgspec.Struct, frozen=True):
    """One type of a source database.

    natives    the source's names of it, lower case
    kind       of its canonical values
    wire       how it arrives; a function where that depends on the column
    connect    Connect's types it may arrive as under the right settings; anything else is a wrong setting
    setting    the connector setting that makes it so
    refused    why it can never be carried exactly ('' when it can)
    full       why PostgreSQL must have REPLICA IDENTITY FULL for it ('' when DEFAULT will do)
    full_above   the length up to which DEFAULT will do all the same
    fix        what to do about `refused`
    condition  the values that do not arrive exactly and that no reader can tell from others ('' when there are none)
    check      SQL predicate over `{column}` that finds rows with such values
    parks      values that are recognised as inexact: their records are parked as `value_not_exact`
    """

    natives: tuple[str, ...]
    kind: Kind
    wire: Wire | Callable[[Field], Wire] = REFUSED
    connect: tuple[str, ...] = ()
    setting: str = ""
    refused: str = ""
    full: str = ""
    full_above: int = 0
    fix: str = ""
    condition: str = ""
    check: str = ""
    parks: str = ""


class Resolved(msgspec.Struct, frozen=True):
    """A column's type, as targets and mappings see it, and the form its values arrive in."""

    type: ColumnType
    wire: Wire


def wire_of(entry: SourceType, field: Field) -> Wire:
    """The form in which `field` arrives. Raises `Terminal` when the connector's settings make it an inexact one."""
    if entry.refused:
        return REFUSED
    if entry.connect and field.connect not in entry.connect:
        raise Terminal(
            f"column {field.name} of type {field.native or field.semantic} arrives as {field.connect}",
            hint=f"set {entry.setting} in the connector's configuration, then take a new snapshot of the table",
        )
    return entry.wire if isinstance(entry.wire, Wire) else entry.wire(field)
