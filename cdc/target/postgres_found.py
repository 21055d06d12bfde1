"""A PostgreSQL table as it is found: what its columns and its rules mean for writing to it.

Somebody else may have made the table: partitioned, with an identity key, domains, enums, generated columns, triggers,
policies. What makes writing wrong or impossible for every row is refused here, once, with the statement that helps;
what depends on the row parks that row when it comes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import psycopg
from psycopg import sql

from cdc.errors import Terminal
from cdc.model import TargetColumn, TargetTable
from cdc.target.postgres_statements import POSITION, identifier

Statement = Callable[..., str]


@dataclass(frozen=True)
class FoundColumn:
    """`type`: as a definition would write it; of a domain: the type that it is made of in the end."""

    name: str
    type: str
    domain: bool
    nullable: bool
    default: bool
    generated: bool
    always_identity: bool


@dataclass(frozen=True)
class FoundTable:
    """`kind` is pg_class.relkind. `hidden_from`: this role, when row security keeps rows from it. `unlogged`: it is, or
    a partition of it. `fills`: a trigger may give columns their values before they are checked. `partition_key`: its
    columns, without expressions."""

    kind: str
    columns: dict[str, FoundColumn]
    hidden_from: str | None
    unlogged: bool
    fills: bool
    partition_key: tuple[str, ...]

    def typed(self, columns: Sequence[TargetColumn]) -> tuple[TargetColumn, ...]:
        """`columns` with the types that are there: these decide what a value's text must be, and whether it fits."""
        return tuple(
            msgspec.structs.replace(column, sql_type=self.columns[column.name].type)
            if column.name in self.columns
            else column
            for column in columns
        )

    @property
    def domains(self) -> dict[str, str]:
        """Column → the type that its domain is made of."""
        return {column.name: column.type for column in self.columns.values() if column.domain}


_TABLE = """
SELECT c.oid, c.relkind::text,
       CASE WHEN row_security_active(c.oid) AND (
           EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid AND NOT p.polpermissive)
           OR NOT EXISTS (
               SELECT FROM pg_policy p WHERE p.polrelid = c.oid AND p.polcmd = '*'
               AND pg_get_expr(p.polqual, p.polrelid) = 'true'
               AND coalesce(pg_get_expr(p.polwithcheck, p.polrelid), 'true') = 'true'
               AND EXISTS (SELECT FROM unnest(p.polroles) r
                           WHERE CASE WHEN r = 0 THEN true ELSE pg_has_role(r, 'USAGE') END)))
       THEN current_user::text END,
       c.relpersistence = 'u' OR EXISTS (SELECT FROM pg_partition_tree(c.oid) p JOIN pg_class m ON m.oid = p.relid
                                         WHERE m.relpersistence = 'u'),
       EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal AND t.tgenabled IN ('O', 'A')
               AND t.tgtype & 7 = 7), -- before, each row, insert
       ARRAY(SELECT a.attname::text FROM pg_partitioned_table p, pg_attribute a
             WHERE p.partrelid = c.oid AND a.attrelid = c.oid AND a.attnum = ANY (p.partattrs::smallint[]))
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = %s
"""

_COLUMNS = """
WITH RECURSIVE base AS (
    SELECT a.attnum, t.oid, t.typtype, t.typbasetype, a.atttypmod AS modifier, t.typnotnull AS required,
           t.typdefault IS NOT NULL AS filled, 0 AS depth
    FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
    WHERE a.attrelid = %(table)s AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL
    SELECT b.attnum, t.oid, t.typtype, t.typbasetype, d.typtypmod, b.required OR t.typnotnull,
           b.filled OR t.typdefault IS NOT NULL, b.depth + 1
    FROM base b JOIN pg_type d ON d.oid = b.oid JOIN pg_type t ON t.oid = d.typbasetype WHERE d.typtype = 'd'
)
SELECT a.attname, format_type(b.oid, b.modifier), b.depth > 0, NOT (a.attnotnull OR b.required),
       a.atthasdef OR a.attidentity <> '' OR b.filled, a.attgenerated <> '', a.attidentity = 'a'
FROM base b JOIN pg_attribute a ON a.attrelid = %(table)s AND a.attnum = b.attnum
WHERE b.typtype <> 'd' ORDER BY a.attnum
"""


def find(connection: psycopg.Connection[Any], table: TargetTable) -> FoundTable | None:
    """The table as it is there; None when it is not."""
    row = connection.execute(_TABLE, (table.namespace, table.name)).fetchone()
    if row is None:
        return None
    oid, kind, hidden_from, unlogged, fills, partition_key = row
    columns = [FoundColumn(*each) for each in connection.execute(_COLUMNS, {"table": oid}).fetchall()]
    return FoundTable(kind, {each.name: each for each in columns}, hidden_from, unlogged, fills, tuple(partition_key))


def check(connection: psycopg.Connection[Any], table: TargetTable, found: FoundTable) -> None:
    """Raise `Terminal` for the first thing that no row of the mapping could be written with, or not safely."""

    def statement(template: str, **names: str) -> str:
        pieces = {name: identifier(text) for name, text in names.items()}
        return sql.SQL(template).format(t=identifier(table.namespace, table.name), **pieces).as_string(connection)

    for what, hint in (*_of_table(table, found, statement), *_of_columns(table, found, statement)):
        raise Terminal(what, where=f"{table.namespace}.{table.name}", hint=hint)


def _of_table(table: TargetTable, found: FoundTable, statement: Statement) -> Iterator[tuple[str, str]]:
    """What is wrong with the table, and what to do about it."""
    if found.kind not in ("r", "p"):
        yield "it is no table that takes guarded upserts (a view, a foreign table)", "name the table itself in 'to:'"
    who = found.hidden_from
    if who is not None:
        policy = statement("CREATE POLICY cdc ON {t} TO {who} USING (true) WITH CHECK (true)", who=who)
        bypass = statement("ALTER ROLE {who} BYPASSRLS", who=who)
        yield (
            "row security hides rows from this role: deletes and comparisons would miss them",
            f"run: {policy}; and drop what restricts this role, or as a superuser: {bypass};",
        )
    if found.unlogged:
        yield (
            "the table, or a partition of it, is unlogged: a crash of the server empties it, and nothing would tell",
            f"run: {statement('ALTER TABLE {t} SET LOGGED')}; (of each partition, where it has them)",
        )
    outside = [name for name in found.partition_key if name not in table.key]
    if outside:
        yield (
            f"it is partitioned by {', '.join(outside)}, which the mapping's key ({', '.join(table.key)}) lacks",
            "add it to 'key:', and to the table's primary key: only then can the table tell a row that is there",
        )


def _of_columns(table: TargetTable, found: FoundTable, statement: Statement) -> Iterator[tuple[str, str]]:
    written = {*(column.name for column in table.columns), table.soft_delete, POSITION}
    for column in found.columns.values():
        name = column.name
        if name not in written:
            if not (column.nullable or column.default or column.generated or found.fills):
                default = statement("ALTER TABLE {t} ALTER {c} SET DEFAULT …", c=name)
                nullable = statement("ALTER TABLE {t} ALTER {c} DROP NOT NULL", c=name)
                yield (
                    f"column {name} must not be NULL, has no default, and the mapping does not write it",
                    f"give {name} a value in the mapping; or run: {default}; or run: {nullable};",
                )
        elif column.generated:
            plain = statement("ALTER TABLE {t} ALTER {c} DROP EXPRESSION", c=name)
            yield (
                f"column {name} is generated: the table computes it",
                f"leave {name} out of the mapping; or run: {plain};",
            )
        elif column.always_identity and name not in table.key:
            plain = statement("ALTER TABLE {t} ALTER {c} SET GENERATED BY DEFAULT", c=name)
            yield (
                f"column {name} is GENERATED ALWAYS AS IDENTITY and not in the key: it cannot be updated",
                f"leave {name} out of the mapping; or run: {plain};",
            )
