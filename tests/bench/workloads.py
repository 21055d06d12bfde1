"""What is written at the source. Each workload is one set of tables, captured into topics once and read by everybody.

Every table has a `bigint` key `id`. Ids from `SENTINEL` on are written last: they tell the end of a stream.
"""

from __future__ import annotations

from dataclasses import dataclass, field

SENTINEL = 1_000_000_000
SENTINELS = 64
"""Rows written at the end of every stream of changes, enough to reach all partitions."""

ORDERS = (
    "customer integer NOT NULL, code varchar(20) NOT NULL, name text, email text, amount numeric(12,2),"
    " rate double precision, quantity integer, active boolean NOT NULL, born date, created timestamp NOT NULL,"
    " updated timestamptz NOT NULL, attributes jsonb, ref uuid NOT NULL"
)
ORDERS_ROW = (
    "(n * 7919) % 100000, 'C-' || lpad(n::text, 9, '0'), 'Name of customer ' || n, 'user' || n || '@example.org',"
    " (n % 1000000) / 100.0, n / 7.0, n % 50, n % 3 = 0, date '1950-01-01' + (n % 20000)::integer,"
    " timestamp '2024-01-01 00:00' + n * interval '7 s', timestamptz '2025-01-01 00:00Z' + n * interval '1.5 s',"
    " jsonb_build_object('tier', n % 5, 'tags', jsonb_build_array('a', 'b'), 'note', 'order ' || n),"
    " md5(n::text)::uuid"
)


@dataclass(frozen=True)
class Table:
    """A source table: its columns besides `id`, and its rows as expressions over `n` (1…rows)."""

    name: str
    columns: str
    row: str
    rows: int

    def create(self) -> str:
        return f"CREATE TABLE public.{self.name} (id bigint PRIMARY KEY, {self.columns})"

    def fill(self) -> str:
        return f"INSERT INTO public.{self.name} SELECT n, {self.row} FROM generate_series(1, {self.rows}) n"

    def add_sentinels(self) -> str:
        first, last = SENTINEL, SENTINEL + SENTINELS - 1
        return f"INSERT INTO public.{self.name} SELECT n, {self.row} FROM generate_series({first}, {last}) n"


@dataclass(frozen=True)
class Workload:
    """Tables and, for a stream, the changes made to them after the snapshot.

    `changes` is SQL that makes `stream` changes and commits as it goes.
    """

    name: str
    tables: tuple[Table, ...]
    stream: int = 0
    changes: str = ""
    partitions: int = 4
    existing: bool = False  # measure a second pass, onto the rows of the first, too
    limit: bool = False  # the hand-written limit can be measured
    setup: str = field(default="", repr=False)

    @property
    def rows(self) -> int:
        return sum(table.rows for table in self.tables)


def snapshot(rows: int) -> Workload:
    return Workload("snapshot", (Table("orders", ORDERS, ORDERS_ROW, rows),), existing=True, limit=True)


def wide(rows: int) -> Workload:
    kinds = (
        ("integer", "n % 10000 + {i}"),
        ("text", "'value {i} of ' || n"),
        ("numeric(12,2)", "(n % 1000000) / 100.0"),
        ("timestamp", "timestamp '2024-01-01 00:00' + n * interval '{i} s'"),
        ("boolean", "(n + {i}) % 2 = 0"),
    )
    columns = [(f"c{i:02}", *kinds[i % len(kinds)]) for i in range(99)]
    return Workload(
        "wide",
        (
            Table(
                "wide",
                ", ".join(f"{name} {kind}" for name, kind, _ in columns),
                ", ".join(row.format(i=i) for i, (_, _, row) in enumerate(columns)),
                rows,
            ),
        ),
        limit=True,
    )


def large(rows: int) -> Workload:
    text = "(SELECT string_agg(md5((n * 1600 + k)::text), '') FROM generate_series(1, 1563) k)"
    return Workload("large", (Table("documents", "title text, body text", f"'title ' || n, {text}", rows),), limit=True)


def many(tables: int, rows: int) -> Workload:
    columns, row = "name text, amount numeric(12,2), at timestamp", "'name ' || n, n / 4.0, timestamp '2025-01-01 00:00'"
    return Workload(
        "many", tuple(Table(f"t{number:04}", columns, row, rows) for number in range(tables)), partitions=1
    )


_CHANGES = """
CREATE PROCEDURE public.change_all(total integer) LANGUAGE plpgsql AS $$
DECLARE
    done integer := 0; name text; key bigint; dice double precision; fresh bigint := {rows};
BEGIN
    PERFORM setseed(0.42);
    WHILE done < total LOOP
        name := 'm' || lpad(floor({tables} * power(random(), 2))::text, 2, '0');
        key := 1 + floor(power({rows}, random()))::bigint % {rows};  -- Zipf: as many below 100 as from 100 to 10,000
        dice := random();
        IF dice < 0.60 THEN
            EXECUTE format('UPDATE public.%I SET amount = $1, quantity = quantity + 1, updated = clock_timestamp(),'
                || ' name = $2 WHERE id = $3', name) USING random() * 1000, 'changed ' || done, key;
        ELSIF dice < 0.95 THEN
            fresh := fresh + 1;
            EXECUTE format('INSERT INTO public.%I SELECT $1, {row_of_n} FROM (SELECT $1 AS n) r', name) USING fresh;
        ELSE
            EXECUTE format('DELETE FROM public.%I WHERE id = (SELECT max(id) FROM public.%I)', name, name);
        END IF;
        done := done + 1;
        IF done % 100 = 0 THEN
            COMMIT;
        END IF;
    END LOOP;
END $$
"""


def mixed(tables: int, rows: int, changes: int) -> Workload:
    """60 % updates of Zipf-hot keys, 35 % inserts, 5 % deletes (of the newest row), in transactions of 100."""
    setup = _CHANGES.format(tables=tables, rows=rows, row_of_n=ORDERS_ROW.replace("'", "''").replace("%", "%%"))
    return Workload(
        "mixed",
        tuple(Table(f"m{number:02}", ORDERS, ORDERS_ROW, rows) for number in range(tables)),
        stream=changes,
        changes=f"CALL public.change_all({changes})",
        setup=setup,
    )
