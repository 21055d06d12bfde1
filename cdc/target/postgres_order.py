"""Rows that depend on one another in PostgreSQL: foreign and unique keys as they are found, and what of a round waits.

Rows without a parent are found by one anti-join of the staging table with the parents. It is asked when an upsert met a
violation, and from then on before the upserts of the next rounds: 5,000 rows, of which none lacks a parent, take 34 ms
without it and 54 with it (2 shared cores). Foreign keys that may be checked at the commit are looked at in every round.
Deletes of rows that others refer to are found by one join before the delete.

Unique values are looked at when an upsert met a violation, which costs that upsert: then a few statements tell who
wants what from whom, rows that cannot have it are taken out, and rows that give up a value which another one of the
round takes give it up first: it becomes NULL, or, where it may not, the row is taken out and put back with its new
values in one statement. PostgreSQL checks unique keys row by row, so that no UPDATE could swap two.

Left to the engine, which then isolates rows one by one: unique indexes with a condition or over expressions, exclusion
constraints, foreign keys to tables that this role may not read, and unique values that may not be NULL in a table with
triggers or with foreign keys to it that do more than forbid (ON DELETE CASCADE…).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from cdc.model import Decision, DeletePolicy, TargetTable, Write
from cdc.target.base import ForeignKey, Related
from cdc.target.postgres_found import FoundTable
from cdc.target.postgres_statements import DELETE, FULL, PARTIAL, Composer, identifier, with_parameters
from cdc.target.related import (
    FOREIGN_KEY_REFERENCED,
    Edge,
    arrival,
    blocked,
    unique_edges,
    value_taken,
    without_parent,
)

_Piece = sql.SQL | sql.Composed

_FOREIGN_KEYS = """
SELECT k.conrelid = t.oid, k.confrelid = t.oid, cn.nspname, c.relname,
       ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY AS u (number, place)
             JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.number ORDER BY u.place),
       pn.nspname, p.relname,
       ARRAY(SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY AS u (number, place)
             JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.number ORDER BY u.place),
       k.confdeltype IN ('a', 'r'), k.condeferrable,
       coalesce((to_jsonb(k) ->> 'conenforced')::boolean, true)
       AND has_schema_privilege(cn.oid, 'USAGE') AND has_schema_privilege(pn.oid, 'USAGE')
       AND has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(p.oid, 'SELECT')
       AND NOT row_security_active(c.oid) AND NOT row_security_active(p.oid)
FROM pg_class t JOIN pg_namespace n ON n.oid = t.relnamespace
JOIN pg_constraint k ON k.contype = 'f' AND k.conparentid = 0 AND t.oid IN (k.conrelid, k.confrelid)
JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace cn ON cn.oid = c.relnamespace
JOIN pg_class p ON p.oid = k.confrelid JOIN pg_namespace pn ON pn.oid = p.relnamespace
WHERE n.nspname = %s AND t.relname = %s ORDER BY k.conname
"""

_UNIQUE_KEYS = """
SELECT ARRAY(SELECT a.attname::text FROM unnest(i.indkey::smallint[]) WITH ORDINALITY AS u (number, place)
             JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = u.number
             WHERE u.place <= i.indnkeyatts ORDER BY u.place),
       coalesce((to_jsonb(i) ->> 'indnullsnotdistinct')::boolean, false)
FROM pg_index i JOIN pg_class t ON t.oid = i.indrelid JOIN pg_namespace n ON n.oid = t.relnamespace
WHERE n.nspname = %s AND t.relname = %s AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
ORDER BY i.indexrelid
"""

_MAY_BE_PUT_BACK = """
SELECT NOT EXISTS (SELECT FROM pg_constraint k WHERE k.confrelid = t.oid AND k.contype = 'f' AND k.confdeltype <> 'a')
       AND NOT EXISTS (SELECT FROM pg_trigger g WHERE g.tgrelid = t.oid AND NOT g.tgisinternal)
FROM pg_class t JOIN pg_namespace n ON n.oid = t.relnamespace WHERE n.nspname = %s AND t.relname = %s
"""


_CHECKED_LATER = """
SELECT k.contype = 'f', n.nspname, k.conname
FROM pg_class t JOIN pg_namespace n ON n.oid = t.relnamespace JOIN pg_constraint k ON k.conrelid = t.oid
WHERE n.nspname = %s AND t.relname = %s AND k.condeferrable
"""


@dataclass(frozen=True)
class UniqueKey:
    """`give_up` makes the rows in `%(rows)s` (numbers of writes) free their values; None where that is impossible."""

    columns: tuple[str, ...]
    held: _Piece
    leaving: _Piece
    doubles: _Piece
    give_up: _Piece | None


@dataclass(frozen=True)
class Links:
    """Foreign and unique keys of one table, with the statements that ask about a round. '' where nothing is asked.

    `missing` answers `_n`, which foreign key, and what is referred to, as text; `missing_now` only of foreign keys that
    cannot be deferred. `inside`: by what the rows of the round can be referred to, of each foreign key to the table
    itself. `check` ends the waiting of deferred unique keys. `checked_later`: a foreign key may be checked at the
    commit, when it is too late to find out the row.
    """

    related: Related
    number: _Piece
    missing: _Piece | None
    missing_now: _Piece | None
    inside: Mapping[int, _Piece]
    referenced: _Piece | None
    unique: Sequence[UniqueKey]
    check: _Piece | None
    take_out: _Piece
    checked_later: bool


def find_links(connection: psycopg.Connection[Any], table: TargetTable, found: FoundTable, composer: Composer) -> Links:
    """The links of a prepared table; `composer` knows its staging table."""
    place = (table.namespace, table.name)
    columns = {column.name for column in table.columns}
    parents, children = list[_Key](), list[_Key]()
    for of_us, to_us, *names, forbids, deferrable, askable in connection.execute(_FOREIGN_KEYS, place).fetchall():
        key = _Key((names[0], names[1]), tuple(names[2]), (names[3], names[4]), tuple(names[5]), deferrable)
        if of_us and askable and columns >= {*key.columns, *(key.referenced if to_us else ())}:
            parents.append(key)
        if to_us and askable and forbids:
            children.append(key)
    unique = [
        (tuple(names), nulls)
        for names, nulls in connection.execute(_UNIQUE_KEYS, place).fetchall()
        if columns >= set(names) and set(names) != set(table.key)
    ]
    row = connection.execute(_MAY_BE_PUT_BACK, place).fetchone() if unique else None
    later = connection.execute(_CHECKED_LATER, place).fetchall()
    made = _LinkComposer(table, found, composer, put_back=row == (True,))
    return made.all(
        parents,
        children,
        unique,
        [(schema, name) for foreign, schema, name in later if not foreign],
        any(foreign for foreign, *_ in later),
    )


def no_links(table: TargetTable, composer: Composer) -> Links:
    """Of a table that is known by name only."""
    nothing = FoundTable("", {}, None, False, False, ())
    return _LinkComposer(table, nothing, composer, put_back=False).all((), (), (), (), checked_later=False)


@dataclass(frozen=True)
class _Key:
    child: tuple[str, str]
    columns: tuple[str, ...]
    parent: tuple[str, str]
    referenced: tuple[str, ...]
    deferrable: bool


class _LinkComposer:
    """In its statements s is the staged row, t the target's row of the same key, o another row."""

    def __init__(self, table: TargetTable, found: FoundTable, composer: Composer, *, put_back: bool) -> None:
        self.table = table
        self.place = (table.namespace, table.name)
        self.found = found
        self.composer = composer
        self.text = composer.text
        self.put_back = put_back
        self.passes = self.text("s._position >= greatest({newest})", newest=composer.newest())
        self.upserts = sql.SQL(f"s._op IN ({FULL}, {PARTIAL})")

    def all(
        self,
        parents: Sequence[_Key],
        children: Sequence[_Key],
        unique: Sequence[tuple[tuple[str, ...], bool]],
        later: Sequence[tuple[str, str]],
        checked_later: bool,
    ) -> Links:
        keys = tuple(ForeignKey(key.columns, ".".join(key.parent), key.referenced) for key in parents)
        deletes = children if self.table.on_delete is DeletePolicy.DELETE else ()
        places = dict(enumerate(parents))
        at_once = {place: key for place, key in places.items() if not key.deferrable}
        return Links(
            related=Related(".".join(self.place), keys),
            number=self.text(
                "UPDATE {stage} s SET _n = v.place FROM (SELECT ctid AS at,"
                " row_number() OVER (ORDER BY ctid) - 1 AS place FROM {stage}) v WHERE s.ctid = v.at"
            ),
            missing=self.missing(places) if places else None,
            missing_now=self.missing(at_once) if at_once else None,
            inside={place: self.inside(key) for place, key in places.items() if key.parent == self.place},
            referenced=self.referenced(deletes) if deletes else None,
            unique=[self.unique(*key) for key in unique],
            check=sql.SQL("SET CONSTRAINTS {} IMMEDIATE").format(
                sql.SQL(", ").join(identifier(*name) for name in later)
            )
            if later
            else None,
            take_out=self.text("DELETE FROM {stage} s WHERE s._n = ANY(%s)"),
            checked_later=checked_later,
        )

    def missing(self, keys: Mapping[int, _Key]) -> _Piece:
        parts = [
            self.text(
                "SELECT s._n, {place}, {wanted} FROM {stage} s WHERE {upserts} AND {given}"
                " AND NOT EXISTS (SELECT FROM {parent} o WHERE {same}) AND {passes}",
                place=sql.Literal(place),
                wanted=_texts("s.", key.columns),
                upserts=self.upserts,
                given=_given("s.", key.columns),
                parent=identifier(*key.parent),
                same=_same("o.", key.referenced, "s.", key.columns),
                passes=self.passes,
            )
            for place, key in keys.items()
        ]
        return sql.SQL(" UNION ALL ").join(parts)

    def inside(self, key: _Key) -> _Piece:
        """Of the rows that will be there: only full images bring rows that are not there yet."""
        return self.text(
            f"SELECT {{wanted}}, s._n FROM {{stage}} s WHERE s._op = {FULL} AND {{passes}}",
            wanted=_texts("s.", key.referenced),
            passes=self.passes,
        )

    def referenced(self, keys: Sequence[_Key]) -> _Piece:
        parts = [
            self.text(
                "EXISTS (SELECT FROM {child} o WHERE {same}{another})",
                child=identifier(*key.child),
                same=_same("o.", key.columns, "t.", key.referenced),
                another=self.text(" AND NOT ({o_is_t})", o_is_t=self.composer.same_key("o.", "t."))
                if key.child == self.place
                else sql.SQL(""),
            )
            for key in keys
        ]
        return self.text(
            f"SELECT s._n FROM {{stage}} s JOIN {{target}} t ON {{t_is_s}} WHERE s._op = {DELETE}"
            " AND coalesce(t.{p}, '') <= s._position AND ({any})",
            any=sql.SQL(" OR ").join(parts),
        )

    def unique(self, columns: tuple[str, ...], nulls_are_values: bool) -> UniqueKey:
        freed = next((n for n in columns if self.found.columns[n].nullable and n not in self.table.key), None)
        give_up = self.take_and_put_back() if self.put_back else None
        if freed is not None and not nulls_are_values:
            give_up = with_parameters(
                self.text(
                    "UPDATE {target} t SET {c} = NULL FROM {stage} s WHERE s._n = ANY(%(rows)s) AND {t_is_s}",
                    c=identifier(freed),
                )
            )
        return UniqueKey(
            columns,
            held=self.text(
                "SELECT s._n, {o_key} FROM {stage} s JOIN {target} o ON {same}"
                " WHERE {upserts} AND NOT ({o_is_s}) AND {passes}",
                o_key=_texts("o.", self.table.key),
                same=_same("o.", columns, "s.", columns),
                upserts=self.upserts,
                o_is_s=self.composer.same_key("o.", "s."),
                passes=self.passes,
            ),
            leaving=self.text(
                "SELECT {s_key_text}, s._n FROM {stage} s JOIN {target} t ON {t_is_s}"
                " WHERE {upserts} AND ({changed}) AND {passes}",
                s_key_text=_texts("t.", self.table.key),
                upserts=self.upserts,
                changed=sql.SQL(" OR ").join(map(self.changed, columns)),
                passes=self.passes,
            ),
            doubles=self.text(
                "SELECT array_agg(s._n) FROM {stage} s WHERE {upserts} AND {given} AND {passes}"
                " GROUP BY {wanted} HAVING count(*) > 1",
                upserts=self.upserts,
                given=_given("s.", columns),
                passes=self.passes,
                wanted=sql.SQL(", ").join(self.composer.column(name, "s.") for name in columns),
            ),
            give_up=give_up,
        )

    def sent(self, name: str) -> _Piece:
        """Whether the change says what the column holds."""
        place = self.composer.names.index(name) + 1
        return sql.SQL(f"(s._op = {FULL} OR substr(s._mask, {{}}, 1) = '1')").format(sql.Literal(place))

    def changed(self, name: str) -> _Piece:
        both = {"s": self.composer.column(name, "s."), "t": self.composer.column(name, "t.")}
        return sql.SQL("({sent} AND {s} IS DISTINCT FROM {t})").format(sent=self.sent(name), **both)

    def take_and_put_back(self) -> _Piece:
        """The rows go and come back with their new values, in one statement: sorting makes all of them go first, and
        foreign keys to them, checked at its end, find them again."""
        names = [each.name for each in self.found.columns.values() if not each.generated]
        written = set(self.composer.names) - set(self.table.key)
        values = [
            sql.SQL("CASE WHEN {sent} THEN {s} ELSE {t} END AS {c}").format(
                sent=self.sent(name),
                s=self.composer.column(name, "s."),
                t=self.composer.column(name, "t."),
                c=identifier(name),
            )
            if name in written
            else self.composer.column(name, "t.")
            for name in names
        ]
        listed = sql.SQL(", ").join(map(identifier, names))
        statement = self.text(
            "WITH gone AS (DELETE FROM {target} t USING {stage} s WHERE s._n = ANY(%(rows)s) AND {t_is_s}"
            " RETURNING {values}) INSERT INTO {target} ({listed}) OVERRIDING SYSTEM VALUE"
            " SELECT {listed} FROM gone ORDER BY {key}",
            values=sql.SQL(", ").join(values),
            listed=listed,
        )
        return with_parameters(statement)


def _texts(prefix: str, columns: Sequence[str]) -> _Piece:
    each = [sql.SQL(prefix) + identifier(name) + sql.SQL("::text") for name in columns]
    return sql.SQL("ARRAY[{}]").format(sql.SQL(", ").join(each))


def _given(prefix: str, columns: Sequence[str]) -> _Piece:
    return sql.SQL(" AND ").join(sql.SQL(prefix) + identifier(name) + sql.SQL(" IS NOT NULL") for name in columns)


def _same(left: str, left_columns: Sequence[str], right: str, right_columns: Sequence[str]) -> _Piece:
    pairs = zip(left_columns, right_columns, strict=True)
    return sql.SQL(" AND ").join(
        sql.SQL(left) + identifier(one) + sql.SQL(" = " + right) + identifier(other) for one, other in pairs
    )


class Dependants:
    """What of one round waits for other rows; it leaves the staging table, and the decision on it is noted."""

    def __init__(
        self,
        connection: psycopg.Connection[Any],
        links: Links,
        writes: Sequence[Write],
        decisions: dict[int, Decision],
        numbered: bool,
    ) -> None:
        self._connection = connection
        self._links = links
        self._writes = writes
        self._decisions = decisions
        self._numbered = numbered
        self.taken_out = 0

    def take_out_referenced(self) -> None:
        """Before rows are deleted: those that others refer to."""
        if self._links.referenced is not None:
            rows = self._asked(self._links.referenced)
            self._take_out({number for (number,) in rows}, FOREIGN_KEY_REFERENCED)

    def take_out_orphans(self, deferring: bool) -> None:
        """Before rows are written: those whose parents are neither there nor in the round."""
        query = self._links.missing_now if deferring else self._links.missing
        rows = [] if query is None else self._asked(query)
        if not rows:
            return
        inside = {
            place: {tuple(value): number for value, number in self._ask(query)}
            for place, query in self._links.inside.items()
        }
        edges = [(number, inside.get(place, {}).get(tuple(wanted))) for number, place, wanted in rows]
        waiting, keys = blocked(edges), self._links.related.foreign_keys
        for at, key in enumerate(keys):
            self._take_out({number for number, place, _ in rows if place == at} & waiting, without_parent(key))

    def free_unique_values(self) -> bool:
        """After rows could not be written for a unique value: take out those that cannot have theirs, and free the
        values that pass from row to row. False when the table does not allow that."""
        self._number()
        rank, edges, passed = arrival(self._writes), list[Edge](), list[list[Edge]]()
        for key in self._links.unique:
            held = [(number, tuple(name)) for number, name in self._ask(key.held)]
            if held and key.give_up is None:
                return False
            leaving = {tuple(name): number for name, number in self._ask(key.leaving)}
            passed.append(unique_edges(held, leaving, [same for (same,) in self._ask(key.doubles)], rank))
            edges += passed[-1]
        waiting = blocked(edges)
        for key, found in zip(self._links.unique, passed, strict=True):
            givers = {giver for _, giver in found if giver is not None and giver not in waiting}
            if givers and key.give_up is not None:
                self._connection.execute(key.give_up, {"rows": sorted(givers)})
        for key, found in zip(self._links.unique, passed, strict=True):
            self._take_out({number for number, _ in found} & waiting, value_taken(key.columns))
        return True

    def _asked(self, query: _Piece) -> list[tuple[Any, ...]]:
        """Rows that begin with the numbers of writes, which are only given when there are any."""
        rows = self._ask(query)
        if rows and not self._numbered:
            self._number()
            rows = self._ask(query)
        return rows

    def _ask(self, query: _Piece) -> list[tuple[Any, ...]]:
        return self._connection.execute(query).fetchall()

    def _number(self) -> None:
        """Rows of plain writes are numbered by their place, which holds until one is taken out."""
        if not self._numbered:
            self._connection.execute(self._links.number)
            self._numbered = True

    def _take_out(self, numbers: set[int], decision: Decision) -> None:
        numbers = numbers - self._decisions.keys()
        if numbers:
            self._connection.execute(self._links.take_out, (sorted(numbers),))
            self._decisions.update(dict.fromkeys(numbers, decision))
            self.taken_out += len(numbers)
