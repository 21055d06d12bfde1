"""`python -m tests.bench.sources`: rows that three sources make, beside the same guarded workload of one source.

The write path alone, as in postgres.py: rows are mapped, batches of 5,000 with one COMMIT each. `one` is the PostgreSQL
target onto existing rows; `three` the contributions of three sources to rows that all of them made before, 14 columns
each, rules of several kinds. The last line is JSON; `ratio` is contributions/s of the one divided by rows/s of the
other (wished: 0.35).

Measured (2 cores, 40,000 rows, best of three rounds): 80,200 and 16,000, a ratio of 0.20. A contribution costs 25 to
30 µs of Python (half of it the rules, a tenth the documents), and its server 12 for the documents and 11 for the row;
in one process they overlap only in part. Workers share it: several sources have partitions enough.
"""

from __future__ import annotations

import itertools
import json
import sys

import msgspec
import psycopg
from cyclopts import App

from cdc.engine.merging_target import MergingTarget
from cdc.mapping.rules import TableRules
from cdc.model import Contributes, TargetTable
from cdc.target.postgres import PostgresTarget
from tests.bench.ready import ROUNDS, rows_per_s, server_of, table_of

_versions = itertools.count(1)
SOURCES = ("crm", "portal", "billing")
RULES = TableRules.model_validate(
    {
        "sources": SOURCES,
        "columns": {
            "name": {"priority": ["crm", "portal"]},
            "email": "keep_if_null",
            "profile": "merge",
            "a": "max",
            "amount": "delta",
        },
        "groups": {"state": {"columns": ["active", "state"], "resolve": {"newest": "b"}}},
    }
)
app = App(help="Three sources of one row beside one.")


def contributor(name: str) -> TargetTable:
    plain = table_of("bench")
    return msgspec.structs.replace(
        plain, name="golden", mapping=f"bench/golden@{name}", contributes=Contributes("bench/golden", name, 1)
    )


class Bench:
    def __init__(self, dsn: str, rows: int) -> None:
        self.dsn, self.rows = dsn, rows

    def one(self) -> float:
        return rows_per_s(self._target(), table_of("bench"), self.rows, next(_versions))

    def three(self) -> float:
        """Each source in turn; the mean of their speeds, by time."""
        seconds = 0.0
        for name in SOURCES:
            target = MergingTarget(self._target(), {"bench/golden": RULES})
            seconds += self.rows / rows_per_s(target, contributor(name), self.rows, next(_versions))
        return len(SOURCES) * self.rows / seconds

    def _target(self) -> PostgresTarget:
        return PostgresTarget(lambda: psycopg.connect(self.dsn, autocommit=True))

    def measure(self) -> dict[str, float]:
        self.one()
        self.three()
        best = {"one": 0.0, "three": 0.0}
        for _ in range(ROUNDS):
            best = {"one": max(best["one"], self.one()), "three": max(best["three"], self.three())}
        return {**{name: round(rate) for name, rate in best.items()}, "ratio": round(best["three"] / best["one"], 2)}


@app.default
def main(*, rows: int = 60_000) -> int:
    """Measure and print. rows: of the table."""
    with server_of("postgres") as server:
        print(json.dumps({"rows": rows, "rows_per_s": Bench(server.url("postgresql", "postgres"), rows).measure()}))  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(app())
