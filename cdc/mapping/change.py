"""What an expression may read beside the row as it is: the row as it was (`before.x`), and the change (`meta.x`).

Such an expression gets a *wide row*: the columns of `after`, those of `before` (NULLs where none came), and the facts
of `_FACTS`. Everything in it is the event's own, so a value does not depend on how a batch is folded, and a record that
comes again, or is taken from where it was parked, gives it again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import itemgetter
from typing import Any, Final, NamedTuple

from cdc.mapping.closures import Node
from cdc.mapping.sqltypes import BOOLEAN, TEXT, TIMESTAMPTZ, Type
from cdc.model import ChangeEvent, Op, TableSchema, Value

META: Final = "meta"
ROWS: Final = ("after", "before")
SCOPES: Final = (*ROWS, META)
_WORDS: Final = {Op.CREATE: "create", Op.UPDATE: "update", Op.DELETE: "delete", Op.READ: "read"}

Image = tuple[Value, ...]


class _Fact(NamedTuple):
    type: Type
    of: Callable[[ChangeEvent], Any]
    meaning: str


_FACTS: Final = {
    "operation": _Fact(TEXT, lambda event: _WORDS.get(event.op), "create, update, or read (of a snapshot)"),
    "committed_at": _Fact(
        TIMESTAMPTZ,
        lambda event: None if event.snapshot else event.time_us,
        "when the source committed the change; NULL for what a snapshot read",
    ),
    "transaction": _Fact(TEXT, lambda event: event.transaction, "the source's name of its transaction, or NULL"),
    "snapshot": _Fact(BOOLEAN, lambda event: bool(event.snapshot), "whether a snapshot read the row"),
    "position": _Fact(
        TEXT, lambda event: event.position.pack().hex(), "where the change stands in the source's log; sorts like that"
    ),
}
_OF_TABLE: Final[dict[str, tuple[Callable[[TableSchema], str], str]]] = {
    "source": (lambda schema: schema.source, "the source's name (topic.prefix)"),
    "schema": (lambda schema: schema.namespace, "the source table's schema (MariaDB: database)"),
    "table": (lambda schema: schema.table, "the source table's name"),
}
NAMES: Final = (*_FACTS, *_OF_TABLE)


def fact(schema: TableSchema, name: str) -> Node | None:
    """`meta.name` as a part of an expression; None: there is no such thing."""
    if name in _OF_TABLE:
        return Node(TEXT, None, _OF_TABLE[name][0](schema))
    found = _FACTS.get(name)
    if found is None:
        return None
    index = 2 * len(schema.columns) + list(_FACTS).index(name)
    return Node(found.type, itemgetter(index), None, frozenset((index,)))


def of_change(schema: TableSchema, inputs: Iterable[int]) -> bool:
    """Whether an expression with these inputs reads more than the row as it is."""
    return any(index >= len(schema.columns) for index in inputs)


def is_of_change(scope: str, name: str) -> bool:
    """Whether `scope.name` is something that the row itself does not tell."""
    return scope == "before" or (scope == META and name in _FACTS)


def reads_before(schema: TableSchema, inputs: Iterable[int]) -> bool:
    """Whether an expression with these inputs reads the row as it was."""
    width = len(schema.columns)
    return any(width <= index < 2 * width for index in inputs)


def column_of(schema: TableSchema, index: int) -> int | None:
    """Which column an input is, of the row as it is or was; None for other facts."""
    width = len(schema.columns)
    return index % width if index < 2 * width else None


def name_of(schema: TableSchema, index: int) -> str:
    """An input as an expression names it."""
    width = len(schema.columns)
    if index < 2 * width:
        name = schema.columns[index % width].name
        return name if index < width else f"before.{name}"
    return f"{META}.{list(_FACTS)[index - 2 * width]}"


def widener(schema: TableSchema, inputs: Iterable[int]) -> Callable[[ChangeEvent], Image] | None:
    """Makes the wide row of an event that has an `after`; None: nothing reads more than that. Facts that are not among
    `inputs` are left NULL."""
    read = set(inputs)
    if not of_change(schema, read):
        return None
    width = len(schema.columns)
    nothing = (None,) * width
    facts = [each.of if 2 * width + place in read else lambda event: None for place, each in enumerate(_FACTS.values())]

    def wide(event: ChangeEvent) -> Image:
        assert event.after is not None
        return (*event.after, *(event.before or nothing), *[of(event) for of in facts])

    return wide


def described() -> list[str]:
    """One line for each thing that may be read, for people."""
    rows = ["after.column: the row as it is, the same as the column's name alone"]
    rows.append("before.column: the row as it was; NULL where the source did not send it (REPLICA IDENTITY FULL does)")
    facts = {name: (each.type.name, each.meaning) for name, each in _FACTS.items()}
    facts |= {name: ("text", meaning) for name, (_, meaning) in _OF_TABLE.items()}
    return rows + [f"meta.{name} {type_}: {meaning}" for name, (type_, meaning) in facts.items()]
