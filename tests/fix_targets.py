"""The targets of the conformance suite, each behind a `Bench`: what the suite must know to break and to read it.

Adding a target: a subclass of `Bench` here, and its line in `TARGETS`. Every test that takes `bench` then runs on it.

    bench   one target's storage, shared by the tests of a file; every test makes tables and owners of its own
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec
import psycopg
import pytest

from cdc.db import mariadb
from cdc.entries import MariaDbTargetSettings
from cdc.model import DeletePolicy, MappedRow, Position, TargetTable
from cdc.target import mariadb_outlook, postgres_outlook, sqlite_outlook
from cdc.target.base import Owner, Target, hold_of
from cdc.target.beside import Beside
from cdc.target.mariadb import MariaDbTarget
from cdc.target.mariadb_database import MariaDbDatabase, open_database
from cdc.target.mariadb_rows import MariaDbRows
from cdc.target.mariadb_tables import columns_of
from cdc.target.memory import MemoryTarget, Storage
from cdc.target.operator import Operator
from cdc.target.outlook import Outlook
from cdc.target.postgres import PostgresTarget
from cdc.target.postgres_beside import PostgresBeside
from cdc.target.postgres_operator import PostgresOperator
from cdc.target.read_beside import ReadBeside
from cdc.target.sqlite import SqliteTarget
from cdc.target.sqlite_database import SqliteDatabase, quote
from cdc.target.sqlite_rows import SqliteRows
from cdc.target.sqlite_statements import table_name
from cdc.target.sqlstate_operator import SqlOperator
from tests import tapes
from tests.fix_stack import Database, new_mariadb_database
from tests.tapes import REFUSED_TEXT, expected, play

Rows = dict[tuple[Any, ...], tuple[Any, ...]]
_numbers = itertools.count(1)

IDLE_S = 120
"""The tests' own process may be kept waiting for longer than a worker would be, and nobody here tries again."""


class Bench:
    """One target's storage. `differences`: what the suite may not expect of it, by a case's name, with the reason;
    the README's table of targets says the same."""

    differences: Mapping[str, str] = MappingProxyType({})

    shows: Mapping[tuple[str, str], str] = MappingProxyType({})
    """How it shows values as text, by (case of target_values.py, PostgreSQL's text), where that is something else."""

    integer = "bigint"
    """Its type for the keys of the suite's tables."""

    def target(self, idle_s: int = IDLE_S) -> Target:
        """Another connection to it, not open yet. `idle_s`: how long its transactions may stand still, where a server
        ends those of frozen workers."""
        raise NotImplementedError

    def operator(self) -> Operator:
        """The operator's side of it, not open yet."""
        raise NotImplementedError

    def refuse(self, table: TargetTable) -> None:
        """From now on the (prepared) table takes no row whose name is `REFUSED_TEXT`."""
        raise NotImplementedError

    def rows(self, table: TargetTable, columns: Sequence[str]) -> list[tuple[Any, ...]]:
        """What the table holds, as a reader gets it; the soft-delete mark as a bool."""
        raise NotImplementedError

    def shown(self, table: TargetTable, column: str) -> list[str | None]:
        """A column as text, by key."""
        raise NotImplementedError

    def cut(self, target: Target) -> None:
        """The connection goes away under the target, in whatever state it is."""
        target.close()

    def run(self, statement: str, **tables: TargetTable) -> None:
        """A statement in which {name} stands for a table's quoted name."""
        raise NotImplementedError

    def outlook(self, table: TargetTable, count: bool = False) -> Outlook:
        """What writing the table would mean."""
        raise NotImplementedError

    def beside(self, table: TargetTable) -> Beside:
        """Rows beside those of the table, over another connection."""
        raise NotImplementedError

    # -- the same for all

    def table(self, policy: DeletePolicy = DeletePolicy.DELETE, **rules: Any) -> TargetTable:
        """A table that nothing has written to; its name is new. `rules`: see `tapes.table`."""
        return tapes.table(f"customers_{next(_numbers)}", policy, **rules)

    def visible(self, table: TargetTable) -> Rows:
        """What the oracle calls visible: key → values, then the soft-delete mark where the table has one."""
        soft = (table.soft_delete,) if table.soft_delete else ()
        names = [column.name for column in table.columns]
        return {(row[0],): tuple(row) for row in self.rows(table, (*names, *soft))}

    def positions(self, table: TargetTable) -> dict[tuple[Any, ...], Position]:
        rows = self.rows(table, ("id", "_cdc_position"))
        return {(key,): Position.unpack(packed) for key, packed in rows}

    def tallied(self, owner: Owner) -> Counter[str]:
        """Counts by outcome."""
        operator = self.operator()
        operator.open(owner)
        with closing(operator):
            counts: Counter[str] = Counter()
            for tally in operator.tallies():
                counts[tally.outcome] += tally.number
            return counts

    def ask(self, owner: Owner) -> None:
        """A person asks for the retry of everything that is parked."""
        operator = self.operator()
        operator.open(owner)
        with closing(operator):
            operator.request_retry([entry.id for entry in operator.parked()])

    def check(
        self,
        tape: list[MappedRow],
        cuts: Sequence[int],
        policy: DeletePolicy = DeletePolicy.DELETE,
        *,
        blocks: bool = True,
        aside: Collection[int] = (),
        asked: bool = False,
        **rules: Any,
    ) -> None:
        """The tape, cut into batches there, leaves what the oracle says: rows, positions, parked keys, counts.

        `aside`: offsets that somebody asked to set aside; `asked`: afterwards the retry of all that is parked is asked
        for; `rules`: of the table.
        """
        table, target = self.table(policy, **rules), self.target()
        owner = Owner(table.name, "target")
        target.open(owner)
        target.prepare(table)
        self.refuse(table)
        target.close()
        oracle = expected(table, tape, aside)
        with closing(target):
            applier = play(target, table, tape, cuts, owner, blocks=blocks, aside=aside)
            if asked:
                self.ask(owner)
                tapes.retry_asked(target, table, tape, applier)
                tapes.retry_everything(oracle)
                left = sum(len(queue.rows) for queue in oracle.parked.values())
                assert (target.standing().records, target.standing().asked) == (left, False)
            stored = target.parked([tapes.PARTITION])
        assert self.visible(table) == oracle.visible()
        assert self.positions(table) == {key: row.position for key, row in oracle.rows.items()}
        assert set(applier.held) == {(table.mapping, hold_of(key)) for key in oracle.parked}
        assert set(stored) == set(applier.held)
        tallied = self.tallied(owner)
        assert tallied.total() == len(tape)
        assert min(tallied.values(), default=0) >= 0


class MemoryBench(Bench):
    differences = MappingProxyType(
        {
            "foreign keys": "it has none",
            "unique columns": "it has none",
            "tables of somebody else": "it has no columns, only rows",
            "operator": "nobody operates it",
            "values": "it keeps canonical values as they are",
            "lost connection": "it has none to lose",
            "frozen worker": "nobody watches it",
        }
    )

    def __init__(self) -> None:
        self.storage = Storage()
        self.refusing: set[str] = set()

    def target(self, idle_s: int = IDLE_S) -> Target:
        return MemoryTarget(
            self.storage, lambda table, values: table.mapping not in self.refusing or values[1] != REFUSED_TEXT
        )

    def refuse(self, table: TargetTable) -> None:
        self.refusing.add(table.mapping)

    def ask(self, owner: Owner) -> None:
        by = self.storage.parked_by
        self.storage.retry_requests |= {
            (each.mapping, each.hold) for number, each in self.storage.parked.items() if by[number] == owner
        }

    def rows(self, table: TargetTable, columns: Sequence[str]) -> list[tuple[Any, ...]]:
        names = [column.name for column in table.columns]
        found = []
        for row in self.storage.tables[table.mapping].rows.values():
            cells = dict(zip(names, row.values, strict=False))
            if table.history is not None:
                cells |= dict(
                    zip((table.history.valid_to, table.history.current), row.values[len(names) :], strict=False)
                )
            cells |= {"is_deleted": row.deleted, "_cdc_position": row.position.pack()}
            found.append(tuple(cells.get(name) for name in columns))
        return found

    def tallied(self, owner: Owner) -> Counter[str]:
        counts: Counter[str] = Counter()
        for (mapping, _, outcome, _), number in self.storage.tallies.items():
            counts[outcome] += number if mapping == f"tapes/{owner.pipeline}" else 0
        return counts


class PostgresBench(Bench):
    differences = MappingProxyType(
        {
            "NUL in a text": "PostgreSQL's text cannot hold it: the row is parked (value_out_of_range)",
            "json written oddly": "values that a key change lends pass through jsonb: no spaces, no duplicate keys",
            "negative zero": "values that a key change lends pass through jsonb",
        }
    )

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.reader = self.connect()

    def connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self.dsn, autocommit=True)

    def target(self, idle_s: int = IDLE_S) -> Target:
        return PostgresTarget(self.connect, {"idle_in_transaction_session_timeout": f"{idle_s}s"})

    def operator(self) -> Operator:
        return PostgresOperator(self.connect)

    def refuse(self, table: TargetTable) -> None:
        self.run(f"ALTER TABLE {{table}} ADD CHECK (name <> '{REFUSED_TEXT}')", table=table)

    def rows(self, table: TargetTable, columns: Sequence[str]) -> list[tuple[Any, ...]]:
        return self.reader.execute(f"SELECT {', '.join(columns)} FROM hub.{table.name}").fetchall()

    def shown(self, table: TargetTable, column: str) -> list[str | None]:
        rows = self.reader.execute(f"SELECT {column}::text FROM hub.{table.name} ORDER BY id").fetchall()
        return [text for (text,) in rows]

    def run(self, statement: str, **tables: TargetTable) -> None:
        self.reader.execute(statement.format(**{name: f"hub.{table.name}" for name, table in tables.items()}))

    def outlook(self, table: TargetTable, count: bool = False) -> Outlook:
        return postgres_outlook.outlook(self.reader, table, count=count)

    def beside(self, table: TargetTable) -> Beside:
        return PostgresBeside(self.connect(), table)

    def cut(self, target: Target) -> None:
        assert isinstance(target, PostgresTarget)
        self.reader.execute("SELECT pg_terminate_backend(%s)", (target.connection.info.backend_pid,))

    def close(self) -> None:
        self.reader.close()


class SqliteBench(Bench):
    differences = MappingProxyType({"frozen worker": "no server watches it: its lock goes when its process does"})
    integer = "INTEGER"
    shows = MappingProxyType(
        {
            ("boolean", "true"): "1",
            ("boolean", "false"): "0",
            ("float64", "-1.5e+300"): "-1.5e+300",
            ("float64", "5e-324"): "4.94065645841247e-324",  # SQLite shows 15 digits; it holds all
            ("float64", "9.007199254740992e+15"): "9.00719925474099e+15",
            ("negative zero", "-0"): "0.0",  # it holds -0.0
            ("float specials", "Infinity"): "Inf",
            ("float specials", "-Infinity"): "-Inf",
            ("timestamptz", "2026-11-23 09:58:02.000001+00"): "2026-11-23T09:58:02.000001Z",
            ("timestamptz", "0044-03-15 00:00:00+00 BC"): "-0043-03-15T00:00:00Z",
            ("interval", "-1 mons -2 days -03:04:05.000006"): "P0Y-1M-2DT-3H-4M-5.000006S",
            ("integers", "{1,NULL,-3}"): "[1,null,-3]",
            ("integers", "{}"): "[]",
            ("texts", '{"a\\"b",NULL,"NULL",""}'): '["a\\"b",null,"NULL",""]',
            ("floats", "{0.1,NaN,-Infinity}"): '[0.1,"NaN","-Infinity"]',
            ("dates", "{1970-01-01,NULL}"): '["1970-01-01",null]',
            ("byte strings", '{"\\\\x0061"}'): '["\\\\x0061"]',
        }
    )

    def __init__(self, path: Path) -> None:
        self.path = path
        self.reader = self.connect(True)

    def connect(self, create: bool) -> SqliteDatabase:
        return SqliteDatabase(self.path, create=create, durable=False, wait_s=5)

    def target(self, idle_s: int = IDLE_S) -> Target:
        return SqliteTarget(self.connect)

    def operator(self) -> Operator:
        return SqlOperator(self.connect)

    def refuse(self, table: TargetTable) -> None:
        for event in ("INSERT", "UPDATE"):
            self.run(
                f"CREATE TRIGGER refuse_{event}_{table.name} BEFORE {event} ON {{table}}"
                f" WHEN new.name = '{REFUSED_TEXT}' BEGIN SELECT raise(ABORT, 'refused'); END",
                table=table,
            )

    def outlook(self, table: TargetTable, count: bool = False) -> Outlook:
        return sqlite_outlook.outlook(self.reader, table, count=count)

    def beside(self, table: TargetTable) -> Beside:
        return ReadBeside(SqliteRows(self.connect(False), table), table)

    def rows(self, table: TargetTable, columns: Sequence[str]) -> list[tuple[Any, ...]]:
        rows = self.reader.rows(f"SELECT {', '.join(columns)} FROM {quote(table_name(table))}")
        if table.soft_delete not in columns:
            return rows
        mark = list(columns).index(str(table.soft_delete))
        return [(*row[:mark], bool(row[mark]), *row[mark + 1 :]) for row in rows]

    def shown(self, table: TargetTable, column: str) -> list[str | None]:
        text = f"CASE typeof({column}) WHEN 'blob' THEN '\\x' || lower(hex({column})) ELSE CAST({column} AS TEXT) END"
        return [shown for (shown,) in self.reader.rows(f"SELECT {text} FROM {table_name(table)} ORDER BY id")]

    def run(self, statement: str, **tables: TargetTable) -> None:
        self.reader.run(statement.format(**{name: table_name(table) for name, table in tables.items()}))

    def close(self) -> None:
        self.reader.close()


class MariaDbBench(Bench):
    differences = MappingProxyType(
        {
            "circles": "foreign keys are checked row by row: rows that refer to one another stay parked",
            "free decimal": "decimal(65,30) has 35 digits before the point: the row is parked (value_out_of_range)",
            "date": "a date has the years 1 to 9999: the row is parked (value_out_of_range)",
            "timestamp": "a datetime has the years 1 to 9999: the row is parked (value_out_of_range)",
            "timestamptz": "a datetime has the years 1 to 9999: the row is parked (value_out_of_range)",
            "decimal specials": "a decimal has no NaN and no infinities: the row is parked (value_out_of_range)",
            "float specials": "a double has no NaN and no infinities: the row is parked (value_out_of_range)",
            "date specials": "a date has no infinities: the row is parked (value_out_of_range)",
            "timestamp specials": "a datetime has no infinities: the row is parked (value_out_of_range)",
            "timestamptz specials": "a datetime has no infinities: the row is parked (value_out_of_range)",
        }
    )
    shows = MappingProxyType(
        {
            ("boolean", "true"): "1",
            ("boolean", "false"): "0",
            ("float64", "-1.5e+300"): "-1.5e300",
            ("float64", "9.007199254740992e+15"): "9.007199254740992e15",
            ("time", "00:00:00"): "00:00:00.000000",
            ("time", "24:00:00"): "24:00:00.000000",
            ("interval", "-1 mons -2 days -03:04:05.000006"): "P0Y-1M-2DT-3H-4M-5.000006S",
            ("integers", "{1,NULL,-3}"): "[1,null,-3]",
            ("integers", "{}"): "[]",
            ("texts", '{"a\\"b",NULL,"NULL",""}'): '["a\\"b",null,"NULL",""]',
            ("floats", "{0.1,NaN,-Infinity}"): '[0.1,"NaN","-Infinity"]',
            ("dates", "{1970-01-01,NULL}"): '["1970-01-01",null]',
            ("byte strings", '{"\\\\x0061"}'): '["\\\\x0061"]',
        }
    )

    def __init__(self, database: Database) -> None:
        self.database = database
        self.reader = self.connect(True)

    def connect(self, create: bool, idle_s: int = IDLE_S) -> MariaDbDatabase:
        settings = MariaDbTargetSettings(
            name="target",
            kind="mariadb",
            **self.database.settings,
        )
        return open_database(settings, settings.database, {"idle_transaction_timeout": str(idle_s)})

    def table(self, policy: DeletePolicy = DeletePolicy.DELETE, **rules: Any) -> TargetTable:
        """In the database of the test, beside the state."""
        return msgspec.structs.replace(super().table(policy, **rules), namespace=self.database.name)

    def target(self, idle_s: int = IDLE_S) -> Target:
        return MariaDbTarget(lambda create: self.connect(create, idle_s))

    def operator(self) -> Operator:
        return SqlOperator(self.connect)

    def refuse(self, table: TargetTable) -> None:
        self.run(f"ALTER TABLE {{table}} ADD CHECK (name <> '{REFUSED_TEXT}')", table=table)

    def outlook(self, table: TargetTable, count: bool = False) -> Outlook:
        return mariadb_outlook.outlook(self.reader, table, count=count)

    def beside(self, table: TargetTable) -> Beside:
        return ReadBeside(MariaDbRows(self.connect(False), table), table)

    def rows(self, table: TargetTable, columns: Sequence[str]) -> list[tuple[Any, ...]]:
        rows = self.reader.rows(f"SELECT {', '.join(columns)} FROM {_qualified(table)}")
        return [
            tuple(bool(cell) if name == table.soft_delete else cell for name, cell in zip(columns, row, strict=True))
            for row in rows
        ]

    def shown(self, table: TargetTable, column: str) -> list[str | None]:
        binary = {
            "bytes": f"concat(char(92 USING utf8mb4), 'x', lower(hex({column})))",
            "bits": f"lpad(bin({column}), 5, '0')",
        }
        stored = columns_of(self.reader, table.namespace, table.name)[column].type
        kind = "bytes" if stored.endswith(("blob", "binary")) else "bits" if stored == "bit" else ""
        shown = binary.get(kind, f"CAST({column} AS CHAR)")
        return [text for (text,) in self.reader.rows(f"SELECT {shown} FROM {_qualified(table)} ORDER BY id")]

    def cut(self, target: Target) -> None:
        assert isinstance(target, MariaDbTarget)
        self.reader.run(f"KILL {target.server.thread_id}")

    def run(self, statement: str, **tables: TargetTable) -> None:
        self.reader.run(statement.format(**{name: _qualified(table) for name, table in tables.items()}))

    def close(self) -> None:
        self.reader.close()


def _qualified(table: TargetTable) -> str:
    return mariadb.quote(table.namespace, table.name)


def _memory(request: pytest.FixtureRequest) -> Bench:
    return MemoryBench()


def _postgres(request: pytest.FixtureRequest) -> Bench:
    made = PostgresBench(request.getfixturevalue("module_database").dsn)
    request.addfinalizer(made.close)
    return made


def _sqlite(request: pytest.FixtureRequest) -> Bench:
    made = SqliteBench(request.getfixturevalue("tmp_path_factory").mktemp("sqlite") / "target.db")
    request.addfinalizer(made.close)
    return made


def _mariadb(request: pytest.FixtureRequest) -> Bench:
    held = ExitStack()
    request.addfinalizer(held.close)
    made = MariaDbBench(held.enter_context(new_mariadb_database(request.getfixturevalue("mariadb"))))
    held.callback(made.close)
    return made


TARGETS: dict[str, tuple[Callable[[pytest.FixtureRequest], Bench], tuple[pytest.MarkDecorator, ...]]] = {
    "memory": (_memory, ()),
    "postgresql": (_postgres, (pytest.mark.database,)),
    "sqlite": (_sqlite, ()),
    "mariadb": (_mariadb, (pytest.mark.database,)),
}
"""Every target of the suite: how its bench is made, and what a test of it needs."""


@pytest.fixture(scope="module", params=[pytest.param(name, marks=marks) for name, (_, marks) in TARGETS.items()])
def bench(request: pytest.FixtureRequest) -> Bench:
    make, _ = TARGETS[request.param]
    return make(request)


@pytest.fixture
def ruled(bench: Bench) -> Bench:
    """Targets that decide conflicts by rules."""
    with closing(bench.target()) as target:
        if not target.capabilities.rules:
            pytest.skip("decides no conflicts")
    return MemoryBench() if isinstance(bench, MemoryBench) else bench  # which copies all its tables all the time


def differs(bench: Bench, case: str) -> None:
    """Skip a case that the target declares as a difference."""
    if case in bench.differences:
        pytest.skip(f"declared: {bench.differences[case]}")
