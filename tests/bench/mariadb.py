"""`python -m tests.bench.mariadb`: the MariaDB target's write path beside the best that its server does in bulk.

Both get the same rows, ready: the target as ready.py says (`…_alone`: encoded in turns with the transactions), the
native statements as the bytes that LOAD DATA reads. Batches of 5,000 rows, one COMMIT each, rounds that take turns, the
best of each counts.
Its own stack with MariaDB alone, which does not wait for its disk. The last line is JSON; `ratio_…` is the target's
rows/s divided by those of the fastest native statement:

    empty      LOAD DATA straight into the table
    existing   LOAD DATA into a staging table, then a guarded INSERT … ON DUPLICATE KEY UPDATE, or a guarded UPDATE …
               JOIN alone (which takes no new rows)
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing

from cyclopts import App

from cdc.entries import MariaDbTargetSettings
from cdc.model import Value
from cdc.settings import Secret
from cdc.stack import Server
from cdc.target.base import Owner
from cdc.target.mariadb import MariaDbTarget
from cdc.target.mariadb_database import MariaDbDatabase, open_database
from tests.bench.ready import COLUMNS, ROUNDS, batches_of, rows_per_s, server_of, table_of, values_of

_PACKET = 1 << 18
_FORMAT = r"CHARACTER SET binary FIELDS TERMINATED BY '\t' ESCAPED BY '\\'"
_versions = itertools.count(1)
app = App(help="The MariaDB target beside its own server's bulk statements.")


def _line(values: Sequence[Value]) -> bytes:
    id_, name, email, notes, profile, a, b, amount, *_, state, score = values
    times = "2026-01-02\t2026-01-02 03:04:05.123456\t2026-01-02 03:04:05.123456\t1"
    return f"{id_}\t{name}\t{email}\t{notes}\t{profile}\t{a}\t{b}\t{amount}\t{times}\t{state}\t{score}\t{b}\n".encode()


class Bench:
    def __init__(self, server: Server, rows: int) -> None:
        self.rows = rows
        settings = MariaDbTargetSettings(
            name="target",
            kind="mariadb",
            host=server.host,
            port=server.port,
            user=server.user,
            password=Secret.of(server.password),
            database="bench",
        )
        with closing(open_database(settings, "mysql")) as admin:
            admin.run("CREATE OR REPLACE DATABASE bench")
        self.connect: Callable[[bool], MariaDbDatabase] = lambda create: open_database(settings, "bench")
        self.table = table_of("bench")
        target = MariaDbTarget(self.connect)
        target.open(Owner("bench", "setup"))
        with closing(target):
            target.prepare(self.table)
        self.database = self.connect(True)
        self.run("CREATE TABLE by_hand LIKE people", "ALTER TABLE by_hand DROP _cdc_position, ADD position bigint")

    def run(self, *statements: str) -> None:
        for statement in statements:
            self.database.run(statement)

    def target(self, ahead: bool = True) -> float:
        return rows_per_s(MariaDbTarget(self.connect), self.table, self.rows, next(_versions), ahead=ahead)

    def by_hand(self, *statements: str) -> float:
        """A LOAD DATA a batch, into the staging table if statements follow."""
        version = next(_versions)
        batches = [b"".join(_line(values_of(key, version)) for key in keys) for keys in batches_of(self.rows)]
        packets = [[batch[at : at + _PACKET] for at in range(0, len(batch), _PACKET)] for batch in batches]
        table = "stage" if statements else "by_hand"
        if statements:
            self.run("DROP TEMPORARY TABLE IF EXISTS stage", "CREATE TEMPORARY TABLE stage ENGINE=Aria TRANSACTIONAL=0"
                     " AS SELECT * FROM by_hand LIMIT 0")  # fmt: skip
        began = time.monotonic()
        for batch in packets:
            with self.database.transaction():
                if statements:
                    self.run("DELETE FROM stage")
                self.database.load(f"LOAD DATA LOCAL INFILE 'rows' INTO TABLE {table} {_FORMAT}", batch)
                self.run(*statements)
        return self.rows / (time.monotonic() - began)

    def measure(self) -> dict[str, float]:
        others = [name for name in (*COLUMNS, "position") if name != "id"]
        guarded = ", ".join(f"{name} = IF(VALUES(position) >= t.position, VALUES({name}), t.{name})" for name in others)
        upsert = f"INSERT INTO by_hand SELECT * FROM stage s ON DUPLICATE KEY UPDATE {guarded}".replace(
            " t.", " by_hand."
        )
        update = (
            "UPDATE stage s STRAIGHT_JOIN by_hand t ON t.id = s.id SET "
            + ", ".join(f"t.{name} = s.{name}" for name in others)
            + " WHERE t.position <= s.position"
        )
        best: dict[str, float] = {}
        for _ in range(ROUNDS):
            self.run("TRUNCATE people", "TRUNCATE by_hand")
            for name, contender in {
                "target_empty": self.target,
                "load_empty": self.by_hand,
                "target_existing": self.target,
                "target_existing_alone": lambda: self.target(ahead=False),
                "upsert_existing": lambda: self.by_hand(upsert),
                "update_existing": lambda: self.by_hand(update),
            }.items():
                best[name] = max(best.get(name, 0.0), contender())
        native = max(best["upsert_existing"], best["update_existing"])
        return {
            **{name: round(figure) for name, figure in best.items()},
            "ratio_empty": round(best["target_empty"] / best["load_empty"], 2),
            "ratio_existing": round(best["target_existing"] / native, 2),
        }


@app.default
def main(*, rows: int = 100_000) -> int:
    """Measure and print. rows: of the table."""
    with server_of("mariadb") as server:
        print(json.dumps({"rows": rows, "rows_per_s": Bench(server, rows).measure()}))  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(app())
