"""`python -m tests.bench.postgres`: the PostgreSQL target's write path beside hand-written COPY and guarded upsert.

Both get the same rows, ready: the target as ready.py says, the statements as COPY text. Batches of 5,000 rows, one
COMMIT each, rounds that take turns, the best of each counts. Its own stack with PostgreSQL alone, which does not wait
for its disk. The last line is JSON; `ratio_…` is the target's rows/s divided by those of the statements:

    empty      COPY straight into the table
    existing   COPY into a staging table, then a guarded INSERT … ON CONFLICT

`ratio_ruled_…` is the target's rows/s with conflict rules that compare divided by its own without rules: on existing
rows (`conflicts`: of which every hundredth was made by somebody else), new ones into a table that is not empty, and
updates with before images, beside the same rows, carried one by one too.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Sequence
from typing import Any

import msgspec
import psycopg
from cyclopts import App

from cdc.model import Action, Combine, ConflictType, Detect, Rules, TargetTable, Unit, Value
from cdc.target.postgres import PostgresTarget
from cdc.target.postgres_lines import copy_line_builder
from tests.bench.ready import COLUMNS, ROUNDS, batches_of, rows_per_s, server_of, single_rows_per_s, table_of, values_of

_versions = itertools.count(1)
_AT = {name: index for index, name in enumerate(COLUMNS)}
RULES = Rules(
    units=(
        Unit(Combine.KEEP_IF_NULL, (_AT["email"],)),
        Unit(Combine.FILL_NULLS, (_AT["born"],)),
        Unit(Combine.MAX, (_AT["amount"],)),
        Unit(Combine.NEWEST, (_AT["name"], _AT["notes"]), _AT["updated"]),
        Unit(Combine.MAX, (_AT["updated"],)),
    ),
    on=((ConflictType.UPDATE_ORIGIN_DIFFERS, Action.MERGE),),
)
app = App(help="The PostgreSQL target beside hand-written COPY and guarded upsert.")


class Bench:
    def __init__(self, dsn: str, rows: int) -> None:
        self.dsn, self.rows, self.table = dsn, rows, table_of("bench")
        self.line = copy_line_builder(self.table.columns)
        self.ruled = msgspec.structs.replace(self.table, rules=RULES)
        self.target(self.table)  # makes the table
        self.connection: psycopg.Connection[Any] = psycopg.connect(dsn, autocommit=True)
        self.run(
            "CREATE TABLE by_hand (LIKE bench.people INCLUDING ALL)",
            "ALTER TABLE by_hand DROP _cdc_position, ADD position bigint",
            "CREATE TEMP TABLE stage ON COMMIT DELETE ROWS AS SELECT * FROM by_hand WITH NO DATA",
            "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off",
        )

    def run(self, *statements: str) -> None:
        for statement in statements:
            self.connection.execute(statement.encode())

    def target(self, table: TargetTable) -> float:
        target = PostgresTarget(lambda: psycopg.connect(self.dsn, autocommit=True))
        return rows_per_s(target, table, self.rows, next(_versions))

    def among_others(self, table: TargetTable) -> float:
        """The same, where a part of the rows lost its position: somebody else wrote it anew."""
        self.run("UPDATE bench.people SET _cdc_position = NULL WHERE id % 100 = 0", "VACUUM bench.people")
        return self.target(table)

    def comparing(self, detect: Detect) -> TargetTable:
        rules = Rules(detect, compared=tuple(index for name, index in _AT.items() if name != "id"))
        return msgspec.structs.replace(self.table, rules=rules)

    def expecting(self, table: TargetTable) -> float:
        """Updates with before images, on rows that are as these say."""
        target = PostgresTarget(lambda: psycopg.connect(self.dsn, autocommit=True))
        return single_rows_per_s(target, table, self.rows, next(_versions))

    def new_rows(self, table: TargetTable) -> float:
        """New rows into a table that holds another one."""
        self.run("TRUNCATE bench.people", "INSERT INTO bench.people (id) VALUES (-1)")
        return self.target(table)

    def by_hand(self, table: str, *statements: str) -> float:
        version = next(_versions)
        texts = [
            "".join(self._text(values_of(key, version), version) for key in keys) for keys in batches_of(self.rows)
        ]
        began = time.monotonic()
        for text in texts:
            with self.connection.transaction():
                with self.connection.cursor().copy(f"COPY {table} FROM STDIN".encode()) as copy:
                    copy.write(text)
                self.run(*statements)
        return self.rows / (time.monotonic() - began)

    def _text(self, values: Sequence[Value], version: int) -> str:
        return f"{self.line(values)}\t{version}\n"

    def measure(self) -> dict[str, float]:
        updates = ", ".join(f"{name} = excluded.{name}" for name in (*COLUMNS, "position") if name != "id")
        upsert = (
            f"INSERT INTO by_hand AS t SELECT * FROM stage ORDER BY id ON CONFLICT (id) DO UPDATE SET {updates}"
            " WHERE t.position <= excluded.position"
        )
        best: dict[str, float] = {}
        for _ in range(ROUNDS):
            self.run("TRUNCATE bench.people, by_hand")
            for name, contender in {
                "target_empty": lambda: self.target(self.table),
                "copy_empty": lambda: self.by_hand("by_hand"),
                "target_existing": lambda: self.target(self.table),
                "upsert_existing": lambda: self.by_hand("stage", upsert),
                "ruled_existing": lambda: self.target(self.ruled),
                "ruled_conflicts": lambda: self.among_others(self.ruled),
                "target_single": lambda: self.expecting(self.table),
                "ruled_all_columns": lambda: self.expecting(self.comparing(Detect.ALL_COLUMNS)),
                "ruled_changed_columns": lambda: self.expecting(self.comparing(Detect.CHANGED_COLUMNS)),
                "target_new": lambda: self.new_rows(self.table),
                "ruled_new": lambda: self.new_rows(self.ruled),
            }.items():
                best[name] = max(best.get(name, 0.0), contender())
        return {
            **{name: round(figure) for name, figure in best.items()},
            "ratio_empty": round(best["target_empty"] / best["copy_empty"], 2),
            "ratio_existing": round(best["target_existing"] / best["upsert_existing"], 2),
            "ratio_ruled_existing": round(best["ruled_existing"] / best["target_existing"], 2),
            "ratio_ruled_conflicts": round(best["ruled_conflicts"] / best["target_existing"], 2),
            "ratio_ruled_all_columns": round(best["ruled_all_columns"] / best["target_single"], 2),
            "ratio_ruled_changed_columns": round(best["ruled_changed_columns"] / best["target_single"], 2),
            "ratio_ruled_new": round(best["ruled_new"] / best["target_new"], 2),
        }


@app.default
def main(*, rows: int = 100_000) -> int:
    """Measure and print. rows: of the table."""
    with server_of("postgres") as server:
        print(json.dumps({"rows": rows, "rows_per_s": Bench(server.url("postgresql", "postgres"), rows).measure()}))  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(app())
