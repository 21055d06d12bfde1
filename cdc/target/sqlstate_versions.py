"""Deployed versions of mappings in tables cdc_mapping_version and cdc_mapping_switch (see sqlstate.py, versions.py)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from cdc.model import TopicPartition
from cdc.target.operator import Move
from cdc.target.sqlstate import Database, marks
from cdc.target.sqlstate_parked import MINE
from cdc.target.versions import Deployed, Switch

STATE_VERSION = 6
"""Of the state that has these tables."""
_PLACE = ("pipeline", "target", "topic", "partition_number")


def versions(database: Database, mine: tuple[str, str], most: int = 1_000_000) -> list[Deployed]:
    """The newest first; `most` of them."""
    rows = database.rows(
        f"SELECT number, content, file, who, reason, restores, at_us FROM cdc_mapping_version WHERE {MINE}"
        " ORDER BY number DESC LIMIT ?",
        (*mine, most),
    )
    return [
        Deployed(number, text, file, who, reason, restores, datetime.fromtimestamp(at_us / 1e6, UTC))
        for number, text, file, who, reason, restores, at_us in rows
    ]


def switches(database: Database, mine: tuple[str, str]) -> list[Switch]:
    rows = database.rows(
        f"SELECT topic, partition_number, number, next_offset, tracker FROM cdc_mapping_switch WHERE {MINE}"
        " ORDER BY 1, 2, 3",
        mine,
    )
    return [Switch(TopicPartition(topic, partition), *rest) for topic, partition, *rest in rows]


def deploy(database: Database, mine: tuple[str, str], version: Deployed) -> bool:
    """See `Operator.deploy`; in a transaction. Watermarks are locked in the order of a rewind."""
    key = ("pipeline", "target", "number")
    newest = database.rows(f"SELECT coalesce(max(number), 0) FROM cdc_mapping_version WHERE {MINE}", mine)
    if newest != [(version.number - 1,)]:
        return False
    database.run(
        f"INSERT INTO cdc_mapping_version ({', '.join(key)}, file, content, who, reason, restores, at_us)"
        f" VALUES ({marks(8)}, {database.now})" + database.on_conflict(key),
        (*mine, version.number, version.file, version.text, version.who, version.reason, version.restores),
    )
    # Somebody else may have put that number in a moment before: theirs was kept.
    query = f"SELECT who, reason, content FROM cdc_mapping_version WHERE {MINE} AND number = ?"
    if database.rows(query + database.for_update, (*mine, version.number)) != [
        (version.who, version.reason, version.text)
    ]:
        return False
    at = database.rows(
        f"SELECT {', '.join(_PLACE)}, ?, next_offset, tracker FROM cdc_watermark WHERE {MINE}"
        f" ORDER BY topic, partition_number{database.for_update}",
        (version.number, *mine),
    )
    database.run_many(
        f"INSERT INTO cdc_mapping_switch ({', '.join(_PLACE)}, number, next_offset, tracker) VALUES ({marks(7)})"
        + database.on_conflict((*_PLACE, "number")),
        at,
    )
    database.run(f"UPDATE cdc_watermark SET fence = fence + 1 WHERE {MINE}", mine)
    return True


def read_again(database: Database, mine: tuple[str, str], moves: Sequence[Move]) -> None:
    """What a rewind moves back begins anew under the version that is deployed; in its transaction."""
    ((newest,),) = database.rows(f"SELECT coalesce(max(number), 0) FROM cdc_mapping_version WHERE {MINE}", mine)
    database.run_many(
        f"UPDATE cdc_mapping_switch SET next_offset = ?, tracker = '' WHERE {MINE} AND topic = ?"
        " AND partition_number = ? AND number = ? AND next_offset > coalesce(?, -1)",
        [(move.next, *mine, *move.partition, newest, move.next) for move in moves],
    )
