"""The SQL that writes one target table, composed once per table. Identifiers are quoted; values never enter SQL text.

A round goes through a temporary staging table: number `_n` of the write (NULL: its place in the table), `_op` (below;
FULL unless said), `_position` (packed), `_base`, `_mask` (one character a column, '1' where the change has a value;
NULL for full images) and the target's columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from psycopg import sql

from cdc.model import DeletePolicy, TargetTable

POSITION = "_cdc_position"
"""The version column of every target table: the packed position of the change that made the row what it is."""

FULL, PARTIAL, DELETE, BORROWING = 0, 1, 2, 3
"""Values of `_op`. BORROWING: the create half of a key change that lacks values: it becomes FULL, PARTIAL, or waits."""

_Piece = sql.SQL | sql.Composed


def identifier(*names: str) -> sql.Identifier:
    return sql.Identifier(*names)


@dataclass(frozen=True)
class Statements:
    """All statements for one table; `%(…)s` parameters are named where they occur."""

    create_stage: _Piece
    create_moves: _Piece
    copy_stage: _Piece
    copy_full: _Piece
    copy_deletes: _Piece
    copy_moves: _Piece
    never_deleted: _Piece
    load: _Piece
    mixed: _Piece
    lend: _Piece
    delete: _Piece
    bury: _Piece
    settle_redelivered: _Piece
    borrow: _Piece
    has_tombstones: _Piece
    upsert: _Piece
    upsert_undeleted: _Piece
    partial: _Piece
    unbury: _Piece
    forget_lent: _Piece
    unapplied: _Piece
    stale: _Piece
    clear: _Piece
    empty: _Piece
    drop: _Piece
    truncate: _Piece
    sweep_examples: _Piece
    sweep_bury: _Piece
    sweep: _Piece


def with_parameters(piece: sql.Composable) -> _Piece:
    """The same statement for execution with `%(position)s`: a '%' in a name is no parameter."""
    if isinstance(piece, sql.Composed):
        return sql.Composed([with_parameters(each) for each in piece])
    return piece if isinstance(piece, sql.SQL) else sql.SQL(piece.as_string(None).replace("%", "%%"))


class Composer:
    """Names, conditions and statements of `table`, whose row in cdc.target_table has `table_id`; `stage` names the
    temporary table. `domains`: columns of a domain, with the type it is made of. In statements t is the target's row,
    s the staged one, d the tombstone."""

    def __init__(self, table: TargetTable, table_id: int, stage: str, domains: Mapping[str, str]) -> None:
        self.table = table
        self.domains = domains
        self.target = identifier(table.namespace, table.name)
        self.tombstones = identifier("cdc", tombstone_name(table_id))
        self.stage = identifier("pg_temp", stage)
        self.moves = identifier("pg_temp", stage + "_moves")
        self.stage_name, self.moves_name = identifier(stage), identifier(stage + "_moves")
        self.names = [column.name for column in table.columns]
        self.soft = table.soft_delete if table.on_delete is DeletePolicy.SOFT else None
        self.id = sql.Literal(table_id)
        self.mapping = sql.Literal(table.mapping)

    def columns(self, prefix: str = "") -> _Piece:
        return sql.SQL(", ").join(self.column(name, prefix) for name in self.names)

    def column(self, name: str, prefix: str = "") -> _Piece:
        return sql.SQL(prefix) + identifier(name)

    def keys(self, prefix: str = "") -> _Piece:
        return sql.SQL(", ").join(self.column(name, prefix) for name in self.table.key)

    def same_key(self, left: str, right: str) -> _Piece:
        return sql.SQL(" AND ").join(
            self.column(name, left) + sql.SQL(" = ") + self.column(name, right) for name in self.table.key
        )

    def text(self, template: str, **pieces: sql.Composable) -> _Piece:
        """`template` with the names every statement uses, and those given."""
        return sql.SQL(template).format(
            target=self.target,
            tombstones=self.tombstones,
            stage=self.stage,
            moves=self.moves,
            p=identifier(POSITION),
            key=self.keys(),
            s_key=self.keys("s."),
            t_is_s=self.same_key("t.", "s."),
            d_is_s=self.same_key("d.", "s."),
            floor=self.floor,
            mapping=self.mapping,
            id=self.id,
            **pieces,
        )

    @property
    def floor(self) -> _Piece:
        return sql.SQL("(SELECT floor FROM cdc.target_table WHERE id = {})").format(self.id)

    def all(self) -> Statements:
        return Statements(
            create_stage=self.create_stage(),
            create_moves=self.text(
                "CREATE TEMP TABLE {name} (_n integer, old_key text, new_key text, place bytea)",
                name=self.moves_name,
            ),
            copy_stage=self.text(
                "COPY {stage} (_n, _op, _position, _base, _mask, {columns}) FROM STDIN", columns=self.columns()
            ),
            copy_full=self.text("COPY {stage} ({columns}, _position) FROM STDIN", columns=self.columns()),
            copy_deletes=self.text("COPY {stage} ({key}, _position, _op) FROM STDIN"),
            copy_moves=self.text("COPY {moves} (_n, old_key, new_key, place) FROM STDIN"),
            never_deleted=self.text("SELECT {floor} = '' AND NOT EXISTS (SELECT FROM {tombstones})"),
            load=self.load(),
            mixed=self.mixed(),
            lend=self.lend(),
            delete=self.delete(),
            bury=self.bury(),
            settle_redelivered=self.text(
                f"UPDATE {{stage}} s SET _op = {PARTIAL} FROM {{target}} t"
                f" WHERE s._op = {BORROWING} AND {{t_is_s}} AND t.{{p}} = s._position"
            ),
            borrow=self.borrow(),
            has_tombstones=self.text("SELECT EXISTS (SELECT FROM {tombstones})"),
            upsert=self.upsert(
                self.text(" AND NOT EXISTS (SELECT FROM {tombstones} d WHERE {d_is_s} AND d._position > s._position)")
            ),
            upsert_undeleted=self.upsert(sql.SQL("")),
            partial=self.partial(),
            unbury=self.text(
                "DELETE FROM {tombstones} d USING {stage} s, {target} t"
                f" WHERE s._op <> {DELETE} AND {{d_is_s}} AND {{t_is_s}} AND t.{{p}} >= d._position"
            ),
            forget_lent=self.text(
                "DELETE FROM cdc.moved v USING {moves} m, {stage} s, {target} t"
                f" WHERE m._n = s._n AND s._op <> {DELETE} AND {{t_is_s}} AND t.{{p}} = s._position"
                " AND v.mapping = {mapping} AND v.old_key = m.old_key AND v.new_key = m.new_key"
                " AND v.place = m.place"
            ),
            unapplied=self.unapplied(),
            stale=self.text("SELECT s._n FROM {stage} s WHERE s._position < greatest({newest})", newest=self.newest()),
            clear=self.text("TRUNCATE {stage}, {moves}" if self.table.partials else "TRUNCATE {stage}"),
            empty=self.text(
                "DELETE FROM {stage}; DELETE FROM {moves}" if self.table.partials else "DELETE FROM {stage}"
            ),
            drop=self.text("DROP TABLE {stage}, {moves}" if self.table.partials else "DROP TABLE {stage}"),
            truncate=with_parameters(self.truncate()),
            sweep_examples=with_parameters(self.sweep_examples()),
            sweep_bury=with_parameters(self.sweep_bury()),
            sweep=with_parameters(self.sweep()),
        )

    def create_stage(self) -> _Piece:
        """Columns have the target's types, but a domain's own type: a delete has NULL where the domain allows none."""
        columns = [self.typed(name) + sql.SQL(" AS ") + identifier(name) for name in self.names]
        return self.text(
            "CREATE TEMP TABLE {name} AS SELECT 0::integer AS _n, 0::smallint AS _op,"
            " ''::bytea AS _position, ''::bytea AS _base, ''::text AS _mask, {columns}{extras} FROM {target}"
            f" WITH NO DATA; ALTER TABLE {{name}} ALTER COLUMN _op SET DEFAULT {FULL}{{defaults}}",
            name=self.stage_name,
            columns=sql.SQL(", ").join(columns),
            extras=self.stage_extras(),
            defaults=self.stage_defaults(),
        )

    def typed(self, name: str) -> _Piece:
        """A column of the target, as its type is written there or, of a domain, as the type that it is made of."""
        domain = self.domains.get(name)
        return self.column(name) + sql.SQL("" if domain is None else f"::{domain}")

    def stage_extras(self) -> _Piece:
        """More columns of the staging table, and what the next says of their defaults; for tables with rules."""
        return sql.SQL("")

    def stage_defaults(self) -> _Piece:
        return sql.SQL("")

    def load(self) -> _Piece:
        """Rows straight into the target: lines as for `copy_stage`, without what stands in front of the columns."""
        return self.text(
            "COPY {target} ({columns}, {p}{extra}) FROM STDIN",
            columns=self.columns(),
            extra=sql.SQL("") if self.soft is None else sql.SQL(", ") + identifier(self.soft),
        )

    def mixed(self) -> _Piece:
        """Merged chains of which only a part passes the guard: take them out of the round."""
        return self.text(
            "DELETE FROM {stage} s WHERE s._base < s._position AND s._position >= greatest({newest})"
            " AND s._base < greatest({newest}) RETURNING s._n",
            newest=self.newest(),
        )

    def newest(self) -> _Piece:
        """The guard's measure for a staged row, as arguments of greatest(): row, tombstone, floor."""
        return self.text(
            "coalesce((SELECT t.{p} FROM {target} t WHERE {t_is_s}), ''),"
            " coalesce((SELECT d._position FROM {tombstones} d WHERE {d_is_s}), ''), {floor}"
        )

    def lend(self) -> _Piece:
        return self.text(
            "INSERT INTO cdc.moved (mapping, old_key, new_key, place, row_values)"
            " SELECT {mapping}, m.old_key, m.new_key, m.place, to_jsonb(t)"
            " FROM {moves} m JOIN {stage} s ON s._n = m._n JOIN {target} t ON {t_is_s}"
            f" WHERE s._op = {DELETE} AND s._position >= coalesce(t.{{p}}, '') AND s._position >= {{floor}}"
            " ON CONFLICT DO NOTHING"
        )

    def delete(self) -> _Piece:
        if self.soft is None:
            return self.text(
                f"DELETE FROM {{target}} t USING {{stage}} s WHERE s._op = {DELETE} AND {{t_is_s}}"
                " AND coalesce(t.{p}, '') <= s._position"
            )
        return self.text(
            "UPDATE {target} t SET {soft} = true, {p} = s._position FROM {stage} s"
            f" WHERE s._op = {DELETE} AND {{t_is_s}} AND coalesce(t.{{p}}, '') <= s._position"
            " AND s._position >= {floor}",
            soft=identifier(self.soft),
        )

    def bury(self) -> _Piece:
        """Tombstones for the staged deletes that pass the guard and left no row behind."""
        return self.text(
            "INSERT INTO {tombstones} AS d ({key}, _position) SELECT {s_key}, s._position FROM {stage} s"
            f" WHERE s._op = {DELETE} AND s._position >= {{floor}}"
            " AND NOT EXISTS (SELECT FROM {target} t WHERE {t_is_s})"
            " ON CONFLICT ({key}) DO UPDATE SET _position = excluded._position, buried_at = now()"
            " WHERE d._position <= excluded._position"
        )

    def borrow(self) -> _Piece:
        """Fill what a key change's create lacks from the values its delete lent."""
        lent = [
            self.column(name)
            + sql.SQL(" = CASE substr(s._mask, {}, 1) WHEN '1' THEN ").format(sql.Literal(number))
            + self.column(name, "s.")
            + sql.SQL(" ELSE ")
            + self.column(name, "r.")
            + sql.SQL(" END")
            for number, name in enumerate(self.names, 1)
            if name not in self.table.key
        ]
        return self.text(
            f"UPDATE {{stage}} s SET _op = {FULL}, _mask = NULL{{comma}}{{lent}} FROM {{moves}} m, cdc.moved v,"
            " LATERAL jsonb_populate_record(NULL::{target}, v.row_values) r"
            f" WHERE s._op = {BORROWING} AND m._n = s._n AND v.mapping = {{mapping}} AND v.old_key = m.old_key"
            " AND v.new_key = m.new_key AND v.place = m.place",
            comma=sql.SQL(", " if lent else ""),
            lent=sql.SQL(", ").join(lent),
        )

    def upsert(self, undeleted: _Piece) -> _Piece:
        """`undeleted`: the condition that keeps rows away whose delete is newer; empty where nothing was deleted."""
        assignments = [
            self.column(name) + sql.SQL(" = excluded.") + identifier(name)
            for name in self.names
            if name not in self.table.key
        ]
        assignments.append(sql.SQL("{p} = excluded.{p}").format(p=identifier(POSITION)))
        extra: _Piece = sql.SQL("")
        value = sql.SQL("")
        if self.soft is not None:
            extra, value = sql.SQL(", ") + identifier(self.soft), sql.SQL(", false")
            assignments.append(sql.SQL("{s} = false").format(s=identifier(self.soft)))
        return self.text(
            "INSERT INTO {target} AS t ({columns}, {p}{extra}) OVERRIDING SYSTEM VALUE"
            " SELECT {s_columns}, s._position{value} FROM {stage} s"
            f" WHERE s._op = {FULL} AND s._position >= {{floor}}"
            "{undeleted} ORDER BY {s_key}"
            " ON CONFLICT ({key}) DO UPDATE SET {assignments} WHERE coalesce(t.{p}, '') <= excluded.{p}",
            columns=self.columns(),
            s_columns=self.columns("s."),
            extra=extra,
            value=value,
            assignments=sql.SQL(", ").join(assignments),
            undeleted=undeleted,
        )

    def partial(self) -> _Piece:
        assignments = [
            self.column(name)
            + sql.SQL(" = CASE substr(s._mask, {}, 1) WHEN '1' THEN ").format(sql.Literal(number))
            + self.column(name, "s.")
            + sql.SQL(" ELSE ")
            + self.column(name, "t.")
            + sql.SQL(" END")
            for number, name in enumerate(self.names, 1)
            if name not in self.table.key
        ]
        assignments.append(sql.SQL("{p} = s._position").format(p=identifier(POSITION)))
        if self.soft is not None:
            assignments.append(sql.SQL("{s} = false").format(s=identifier(self.soft)))
        return self.text(
            "UPDATE {target} t SET {assignments} FROM {stage} s"
            f" WHERE s._op = {PARTIAL} AND {{t_is_s}} AND coalesce(t.{{p}}, '') <= s._position"
            " AND s._position >= {floor}",
            assignments=sql.SQL(", ").join(assignments),
        )

    def unapplied(self) -> _Piece:
        """The staged rows that left no mark on the target: their number, and whether something newer was there.

        A trigger may have let rows vanish, or kept deleted ones."""
        kept = {
            DeletePolicy.DELETE: f" OR (s._op = {DELETE} AND EXISTS"
            " (SELECT FROM {target} t WHERE {t_is_s} AND coalesce(t.{p}, '') <= s._position))",
            DeletePolicy.SOFT: f" OR (s._op = {DELETE} AND s._position >= {{floor}} AND EXISTS"
            " (SELECT FROM {target} t WHERE {t_is_s} AND coalesce(t.{p}, '') < s._position))",
            DeletePolicy.IGNORE: "",
        }
        return self.text(
            "SELECT coalesce(s._n, s._place), s._op, s._position < greatest({newest})"
            " FROM (SELECT *, row_number() OVER (ORDER BY ctid) - 1 AS _place FROM {stage}) s"
            f" WHERE (s._op <> {DELETE} AND NOT EXISTS"
            " (SELECT FROM {target} t WHERE {t_is_s} AND t.{p} = s._position))"
            f" OR (s._op = {DELETE} AND s._position < greatest({{newest}}))" + kept[self.table.on_delete],
            newest=self.newest(),
        )

    def truncate(self) -> _Piece:
        """The second half of a truncate, after the floor was raised to %(position)s."""
        if self.table.on_delete is DeletePolicy.IGNORE:
            return sql.SQL("SELECT 1 WHERE %(position)s::bytea IS NULL")
        if self.soft is not None:
            return self.text(
                "UPDATE {target} t SET {soft} = true, {p} = %(position)s WHERE coalesce(t.{p}, '') < %(position)s",
                soft=identifier(self.soft),
            )
        return self.text("DELETE FROM {target} t WHERE coalesce(t.{p}, '') < %(position)s")

    def swept(self) -> _Piece:
        """The rows a sweep to %(position)s removes; the staged keys are kept."""
        return self.text(
            "coalesce(t.{p}, '') < %(position)s{alive} AND NOT EXISTS (SELECT FROM {stage} s WHERE {t_is_s})",
            alive=sql.SQL("") if self.soft is None else sql.SQL(" AND NOT t.") + identifier(self.soft),
        )

    def sweep_examples(self) -> _Piece:
        return self.text("SELECT {key} FROM {target} t WHERE {swept} ORDER BY {key} LIMIT 5", swept=self.swept())

    def sweep_bury(self) -> _Piece:
        if self.soft is not None:
            return sql.SQL("SELECT 1 WHERE %(position)s::bytea IS NULL")
        return self.text(
            "INSERT INTO {tombstones} AS d ({key}, _position) SELECT {key}, %(position)s FROM {target} t WHERE {swept}"
            " ON CONFLICT ({key}) DO UPDATE SET _position = greatest(d._position, excluded._position)",
            swept=self.swept(),
        )

    def sweep(self) -> _Piece:
        if self.soft is not None:
            return self.text(
                "UPDATE {target} t SET {soft} = true, {p} = %(position)s WHERE {swept}",
                soft=identifier(self.soft),
                swept=self.swept(),
            )
        return self.text("DELETE FROM {target} t WHERE {swept}", swept=self.swept())


def tombstone_name(table_id: int) -> str:
    """The table in schema cdc that remembers the positions of a target table's deleted rows."""
    return f"tombstone_{table_id}"
