"""What is in the topics: tables, the rows that a connector reads first, and the changes that it captures then."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

CUSTOMERS = (
    "id bigint PRIMARY KEY, name text NOT NULL, email varchar(200), city text, country char(2), balance numeric(14,2),"
    " score double precision, active boolean, tags jsonb, created timestamptz, updated timestamp(3), birth date,"
    " visits int, notes text"
)
"""Fourteen columns, as in the first measurements of the design."""
_A_CUSTOMER = (
    "{n}, 'Customer ' || {n}, 'c' || {n} || '@example.org', 'City ' || {n} % 1000, 'DE', {n} / 7.0, {n} * 1.1,"
    " {n} % 3 = 0, jsonb_build_object('a', {n}, 'b', 'x'), now(), now(), date '1980-01-01' + ({n} % 9000)::int,"
    " {n} % 100, repeat('note ', 10)"
)
REMOTE_MS = 2.0
_EXPRESSIONS = """
    columns:
      "*": { except: [email, name, notes] }
      email: { sql: "lower(trim(email))" }
      name: { sql: "upper(name) || ' (' || country::text || ')'" }
      masked: { sql: "left(email, 2) || '***'" }
      grade: { sql: "CASE WHEN balance > 1000 THEN 'gold' WHEN balance > 100 THEN 'silver' ELSE 'none' END" }
"""


ALL = ("applier", "kafka-python", "workers", "sink")
ONLY_APPLIER = ("applier", "kafka-python", "workers")


@dataclass(frozen=True)
class Workload:
    """`tables`: name → definition. `fill`, `changes`: statements for the source, before and after its first snapshot.

    `again`: the name under which a second run onto the rows of the first is measured too; that one is `existing`.
    `columns`: YAML lines for every table's mapping. `by`: the kinds of contenders that run it, in at most `rounds`.
    `topics_of`: another workload whose topics it reads, not its own. `delay_ms`: how far away the target is, one way.
    `batch_rows`: the applier's batch.rows. `grows`: what is varied here, and its value.
    """

    name: str
    what: str
    tables: dict[str, str]
    fill: tuple[str, ...]
    changes: tuple[str, ...] = ()
    again: str = ""
    existing: bool = False
    columns: str = ""
    by: tuple[str, ...] = ALL
    rounds: int = 1
    topics_of: str = ""
    partitions: int = 4
    delay_ms: float = 0.0
    batch_rows: int = 5000
    grows: tuple[str, int] | None = None

    @property
    def source(self) -> str:
        """Name of the source: database, connector and topics."""
        return f"bench_{self.topics_of or self.name}"


def workloads(rows: int) -> list[Workload]:
    """All of them, each of about `rows` records; those that share topics follow one another."""
    what = "14 columns into an empty table, and onto rows that exist"
    snapshot = Workload("snapshot", what, *customers(rows), again="existing", by=(*ALL, "limit", "reading"), rounds=3)
    of_snapshot = replace(snapshot, topics_of="snapshot", again="", by=ONLY_APPLIER)
    return [
        snapshot,
        replace(
            of_snapshot,
            name="expressions",
            what="the same through four SQL expressions, masking among them",
            columns=_EXPRESSIONS,
            rounds=2,
        ),
        replace(
            of_snapshot,
            name="remote",
            what=f"the same, the target {REMOTE_MS:g} ms away, each way",
            again="remote_existing",
            delay_ms=REMOTE_MS,
            by=("applier", "workers"),
        ),
        _mixed(rows),
        _wide(rows // 5),
        _large(rows // 50),
        _many(rows),
    ]


def customers(rows: int, tables: int = 1) -> tuple[dict[str, str], tuple[str, ...]]:
    """So many tables of 14 columns and the statements that fill them with `rows` in all."""
    names = ["customers", *(f"customers_{number}" for number in range(1, tables))]
    each = f"generate_series(1, {max(rows // tables, 1)}) n"
    return dict.fromkeys(names, CUSTOMERS), tuple(
        f"INSERT INTO {name} SELECT {_A_CUSTOMER.format(n='n')} FROM {each}" for name in names
    )


def growth(rows: int) -> list[Workload]:
    """One thing varied at a time: tables, partitions, row width, rows a batch."""
    made = Workload("", "", *customers(rows), by=("applier",))
    found = [replace(made, grows=("batch.rows", number), batch_rows=number) for number in (500, 2000, 5000, 20_000)]
    found = [replace(each, topics_of="partitions_4") for each in found]
    found = [replace(made, grows=("partitions", number), partitions=number) for number in (1, 4)] + found
    found.append(replace(made, grows=("partitions", 8), partitions=8))
    for tables in (1, 20, 200):
        defined, fill = customers(rows, tables)
        found.append(replace(made, grows=("tables", tables), tables=defined, fill=fill, partitions=1))
    for columns in (6, 14, 100):
        wide = _wide(rows // 4, columns)
        found.append(replace(made, grows=("columns", columns), tables=wide.tables, fill=wide.fill))
    return [_named(each) for each in found]


def _named(workload: Workload) -> Workload:
    assert workload.grows is not None
    what, value = workload.grows
    name = f"{what.replace('.', '_')}_{value}"
    return replace(workload, name=name, what=f"{what}: {value:,}", again=f"{name}_existing")


def backlog(rows: int) -> Workload:
    """`rows` changes of one table that was empty: 35 % inserts, 60 % updates (half of them of hot keys), 5 %
    deletes."""
    tables, _ = customers(rows)
    return Workload("backlog", f"a backlog of {rows:,} changes", tables, (), tuple(_backlog_changes(rows)))


def _backlog_changes(rows: int) -> Iterator[str]:
    new, updated, gone = int(rows * 0.035), int(rows * 0.03), int(rows * 0.005)  # of each of ten portions
    hot = max(rows // 1000, 1)
    for portion in range(10):
        first = portion * new + 1
        series = f"generate_series({first}, {first + new - 1}) n"
        yield f"INSERT INTO customers SELECT {_A_CUSTOMER.format(n='n')} FROM {series}"
        yield f"UPDATE customers SET balance = balance + 1 WHERE id BETWEEN {first} AND {first + updated - 1}"
        for _ in range(max(updated // hot, 1)):
            yield f"UPDATE customers SET visits = visits + 1, updated = now() WHERE id <= {hot}"
        yield f"DELETE FROM customers WHERE id BETWEEN {first + new - gone} AND {first + new - 1}"


def _mixed(rows: int) -> Workload:
    """60 % updates, 35 % inserts, 5 % deletes over 20 tables; half of the updates hit a hundredth of the keys."""
    names = [f"customers_{number}" for number in range(20)]
    each = rows // 40
    return Workload(
        "mixed",
        "60/35/5 updates, inserts, deletes over 20 tables, hot keys",
        dict.fromkeys(names, CUSTOMERS),
        tuple(f"INSERT INTO {n} SELECT {_A_CUSTOMER.format(n='n')} FROM generate_series(1, {each}) n" for n in names),
        tuple(statement for name in names for statement in _mixed_changes(name, each)),
        rounds=3,
    )


def _mixed_changes(table: str, rows: int) -> Iterator[str]:
    """In ten portions, so that kinds of change alternate in the log; `rows` of them in all."""
    for portion in range(10):
        number = rows // 10
        first = rows + 1 + portion * number
        hot = max(rows // 100, 1)
        new = f"generate_series({first}, {first + int(number * 0.35) - 1}) n"
        yield f"INSERT INTO {table} SELECT {_A_CUSTOMER.format(n='n')} FROM {new}"
        for _ in range(max(int(number * 0.3) // hot, 1)):
            yield f"UPDATE {table} SET visits = visits + 1, updated = now() WHERE id <= {hot}"
        low = hot + 1 + portion * int(number * 0.3)
        yield f"UPDATE {table} SET balance = balance + 1 WHERE id BETWEEN {low} AND {low + int(number * 0.3) - 1}"
        gone = rows - portion * int(number * 0.05)
        yield f"DELETE FROM {table} WHERE id BETWEEN {gone - int(number * 0.05) + 1} AND {gone}"


def _wide(rows: int, columns: int = 100) -> Workload:
    numbers = range(columns - 1)
    kinds, values = ("int", "text", "numeric(12,2)", "timestamptz"), ("n", "'text ' || n", "n / 3.0", "now()")
    defined = ", ".join(f"c{number} {kinds[number % 4]}" for number in numbers)
    row = ", ".join(values[number % 4] for number in numbers)
    return Workload(
        "wide",
        f"rows of {columns} columns",
        {"wide": f"id bigint PRIMARY KEY, {defined}"},
        (f"INSERT INTO wide SELECT n, {row} FROM generate_series(1, {rows}) n",),
    )


def _large(rows: int) -> Workload:
    text = "(SELECT string_agg(md5(n::text || i::text), '') FROM generate_series(1, 1600) i)"
    return Workload(
        "large",
        "a text of 50 kB a row",
        {"large": "id bigint PRIMARY KEY, body text"},
        (f"INSERT INTO large SELECT n, {text} FROM generate_series(1, {rows}) n",),
    )


def _many(rows: int) -> Workload:
    """One partition a table: small tables need no more."""
    names = [f"small_{number}" for number in range(1000)]
    each = max(rows // 1000, 1)
    return Workload(
        "many",
        "1,000 small tables",
        dict.fromkeys(names, "id bigint PRIMARY KEY, name text, amount numeric(12,2)"),
        tuple(f"INSERT INTO {n} SELECT n, 'row ' || n, n / 3.0 FROM generate_series(1, {each}) n" for n in names),
        by=("applier", "kafka-python"),
        partitions=1,
    )
