"""Conflicts in the state tables of sqlstate.py: cdc_conflict (those that are kept with values), cdc_conflict_count."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from cdc.decisions import Conflicts, Counted, KeptConflict
from cdc.model import Conflict, Position, TopicPartition
from cdc.target.operator import ConflictCount, ConflictEntry, ConflictFilter
from cdc.target.sqlstate import Database, Row, digest, marks
from cdc.target.sqlstate_parked import MINE

HOUR_US = 3_600_000_000
_COUNTED = ("pipeline", "target", "mapping", "topic", "partition_number", "conflict_type", "action", "hour_us")
_KEPT = (
    "pipeline, target, mapping, hold, hold_digest, conflict_type, conflict, position, topic, partition_number,"
    " record_offset, at_us"
)
Mine = tuple[str, str]


def note(database: Database, mine: Mine, conflicts: Conflicts) -> None:
    """Add to the counts of this hour, keep those that are kept."""
    now = int(database.rows(f"SELECT {database.now}")[0][0])
    hour = now - now % HOUR_US
    database.run_many(
        f"INSERT INTO cdc_conflict_count ({', '.join(_COUNTED)}, number) VALUES ({marks(9)})"
        + database.on_conflict(_COUNTED, {"number": "cdc_conflict_count.number + {new}"}),
        [
            (*mine, each.mapping, *each.partition, each.type.value, each.action.value, hour, number)
            for each, number in sorted(conflicts.counts.items())
        ],
    )
    if conflicts.kept:
        database.run_many(
            f"INSERT INTO cdc_conflict ({_KEPT}) VALUES ({marks(12)})",
            [(*mine, *_fields(kept), now) for kept in conflicts.kept],
        )


def _fields(kept: KeptConflict) -> Row:
    conflict = msgspec.json.encode(kept.conflict).decode()
    return (
        *(kept.mapping, kept.hold, digest(kept.hold), kept.conflict.type.value, conflict),
        *(kept.position.pack(), *kept.partition, kept.offset),
    )


def purge(database: Database, mine: Mine, keep_s: float) -> int:
    """Forget those that are older."""
    before = int(database.rows(f"SELECT {database.now}")[0][0]) - int(keep_s * 1_000_000)
    return sum(
        database.run(f"DELETE FROM {table} WHERE {MINE} AND {column} < ?", (*mine, before))
        for table, column in (("cdc_conflict", "at_us"), ("cdc_conflict_count", "hour_us"))
    )


def entries(database: Database, mine: Mine, wanted: ConflictFilter) -> list[ConflictEntry]:
    """See `Operator.conflicts`."""
    if not database.has_table("cdc_conflict"):
        return []
    condition, parameters = _condition(wanted)
    for column, value in (
        ("at_us >= ?", None if wanted.since is None else int(wanted.since.timestamp() * 1_000_000)),
        ("hold_digest = ?", None if wanted.hold is None else digest(wanted.hold)),
        ("id = ?", wanted.id),
    ):
        if value is not None:
            condition, parameters = f"{condition} AND {column}", [*parameters, value]
    rows = database.rows(
        "SELECT id, at_us, mapping, hold, conflict, position, topic, partition_number, record_offset"
        f" FROM cdc_conflict WHERE {MINE}{condition} ORDER BY id DESC LIMIT ?",
        (*mine, *parameters, wanted.limit),
    )
    return [_entry(row) for row in rows]


def counts(database: Database, mine: Mine, wanted: ConflictFilter) -> list[ConflictCount]:
    """See `Operator.conflict_counts`."""
    if not database.has_table("cdc_conflict_count"):
        return []
    condition, parameters = _condition(wanted)
    if wanted.since is not None:
        since = int(wanted.since.timestamp() * 1_000_000)
        condition, parameters = f"{condition} AND hour_us >= ?", [*parameters, since - since % HOUR_US]
    rows = database.rows(
        "SELECT mapping, topic, partition_number, conflict_type, action, sum(number) FROM cdc_conflict_count"
        f" WHERE {MINE}{condition} GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5",
        (*mine, *parameters),
    )
    return [
        ConflictCount(msgspec.convert((mapping, (topic, partition), type_, action), Counted), int(number))
        for mapping, topic, partition, type_, action, number in rows
    ]


def _condition(wanted: ConflictFilter) -> tuple[str, Sequence[object]]:
    condition, parameters = "", list[object]()
    if wanted.mappings is not None:
        condition = f" AND mapping IN ({marks(len(wanted.mappings))})" if wanted.mappings else " AND 1 = 0"
        parameters += wanted.mappings
    if wanted.type is not None:
        condition += " AND conflict_type = ?"
        parameters.append(wanted.type)
    return condition, parameters


def _entry(row: Row) -> ConflictEntry:
    id_, at_us, mapping, hold, conflict, position, topic, partition, offset = row
    kept = KeptConflict(
        mapping,
        hold,
        msgspec.json.decode(conflict, type=Conflict),
        Position.unpack(bytes(position)),
        TopicPartition(topic, partition),
        offset,
    )
    return ConflictEntry(id_, datetime.fromtimestamp(at_us / 1e6, UTC), kept)
