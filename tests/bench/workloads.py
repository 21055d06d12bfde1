"""What is in the topics: tables, the rows that a connector reads first, and the changes that it captures then."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

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
_EXPRESSIONS = """
    columns:
      "*": { except: [email, name, notes] }
      email: { sql: "lower(trim(email))" }
      name: { sql: "upper(name) || ' (' || country::text || ')'" }
      masked: { sql: "left(email, 2) || '***'" }
      grade: { sql: "CASE WHEN balance > 1000 THEN 'gold' WHEN balance > 100 THEN 'silver' ELSE 'none' END" }
"""


@dataclass(frozen=True)
class Workload:
    """`tables`: name → definition. `fill`, `changes`: statements for the source, before and after its first snapshot.

    `again`: the name under which a second run onto the rows of the first is measured too; that one is `existing`.
    `columns`: YAML lines for every table's mapping. `sink`: whether the JDBC sink runs it too.
    """

    name: str
    what: str
    tables: dict[str, str]
    fill: tuple[str, ...]
    changes: tuple[str, ...] = ()
    again: str = ""
    existing: bool = False
    columns: str = ""
    sink: bool = True
    topics_of: str = ""  # another workload's topics, not its own

    @property
    def source(self) -> str:
        """Name of the source: database, connector and topics."""
        return f"bench_{self.topics_of or self.name}"


def workloads(rows: int) -> list[Workload]:
    """All of them, each of about `rows` records."""
    customers = {"customers": CUSTOMERS}
    fill = (f"INSERT INTO customers SELECT {_A_CUSTOMER.format(n='n')} FROM generate_series(1, {rows}) n",)
    return [
        Workload(
            "snapshot", "14 columns into an empty table, and onto rows that exist", customers, fill, again="existing"
        ),
        Workload(
            "expressions",
            "the same through four SQL expressions, masking among them",
            customers,
            fill,
            columns=_EXPRESSIONS,
            sink=False,
            topics_of="snapshot",
        ),
        _mixed(rows),
        _wide(rows // 10),
        _large(rows // 50),
        _many(rows),
    ]


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


def _wide(rows: int) -> Workload:
    columns = ", ".join(
        f"c{number} {('int', 'text', 'numeric(12,2)', 'timestamptz')[number % 4]}" for number in range(99)
    )
    values = ", ".join(("n", "'text ' || n", "n / 3.0", "now()")[number % 4] for number in range(99))
    return Workload(
        "wide",
        "rows of 100 columns",
        {"wide": f"id bigint PRIMARY KEY, {columns}"},
        (f"INSERT INTO wide SELECT n, {values} FROM generate_series(1, {rows}) n",),
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
    names = [f"small_{number}" for number in range(200)]
    each = max(rows // 200, 1)
    return Workload(
        "many",
        "200 small tables",
        dict.fromkeys(names, "id bigint PRIMARY KEY, name text, amount numeric(12,2)"),
        tuple(f"INSERT INTO {n} SELECT n, 'row ' || n, n / 3.0 FROM generate_series(1, {each}) n" for n in names),
        sink=False,
    )
