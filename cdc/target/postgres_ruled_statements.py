"""The SQL for a table with conflict rules (`cdc.rules`), composed once per table.

Its staging table has more columns: `_kind` (bits below), `_least` (the lowest version or commit time of the changes
that were folded), `_time`, and for before images `_before_i`, with bits that say which of them are compared (`_seen_…`,
NULL without an image) and which come with a value (`_given_…`; the others are as the new one). What no rule has to
decide is written at once, by statements that check that nothing is to be decided; for the others the facts are read,
and what was decided on them is written only onto the very rows that were read (by their `ctid`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from psycopg import sql

from cdc.errors import Terminal
from cdc.model import Combine, Detect, Kind, Rules, TargetTable, Unit
from cdc.target.postgres_found import FoundTable
from cdc.target.postgres_statements import DELETE, FULL, PARTIAL, Composer, identifier, with_parameters
from cdc.target.postgres_types import parse, sql_type

Piece = sql.SQL | sql.Composed

TIME = "_cdc_time"
"""Of tables whose rules compare commit times: when the change that made the row what it is was committed, in µs."""

CREATED, MOVED, UNKNOWN = 1, 2, 4
"""Bits of `_kind`: a create or a snapshot read; the create half of a key change; a delete of an unknown version."""

_PAIRS = "unnest(%s::tid[], %s::tid[]) AS v(here, there)"
_PAIRED = "s.ctid = v.here AND t.ctid = v.there AND {t_is_s}"
BITS = 60
"""Columns that one number of `_seen_…` and `_given_…` tells of."""
_BASE = sql.SQL("coalesce(s._base, s._position)")
"""The position of the first of the changes that were folded."""
_AS_TEXT = {Kind.JSON, Kind.LITERAL, Kind.ARRAY}  # some of their types have no equality


@dataclass(frozen=True)
class RuledStatements:
    """`…_pairs` take two parallel arrays, the places of staged rows and of the target rows that were read for them;
    they return the numbers of those that were still there. `seen_…`: rows as arrays of texts, for who asks later."""

    create_stage: Piece
    copy_stage: Piece
    copy_full: Piece
    copy_deletes: Piece
    drop_staged: Piece
    merge: Piece
    upsert_facts: Piece
    insert: Piece
    uninserted: Piece
    remove: Piece
    delete_facts: Piece
    undeleted: Piece
    merge_pairs: Piece
    replace_pairs: Piece
    remove_pairs: Piece
    keep_pairs: Piece
    same_pairs: Piece
    seen_before: Piece
    seen_after: Piece
    unique_conflicts: Piece | None


def compose_ruled(
    table: TargetTable, table_id: int, stage: str, domains: Mapping[str, str], unique: Iterable[Sequence[str]]
) -> RuledStatements:
    """The statements for a table that has rules; see `postgres_statements.compose`. `unique`: the columns of each of
    its unique indexes."""
    return _Composer(table, table_id, stage, domains).ruled(unique)


class _Composer(Composer):
    def __init__(self, table: TargetTable, table_id: int, stage: str, domains: Mapping[str, str]) -> None:
        super().__init__(table, table_id, stage, domains)
        assert table.rules is not None
        self.rules: Rules = table.rules
        self.unit_of: dict[int, Unit] = {index: unit for unit in self.rules.units for index in unit.columns}
        self.timed = self.rules.detect is Detect.COMMIT_TIME

    def ruled(self, unique: Iterable[Sequence[str]]) -> RuledStatements:
        extras = sql.SQL(", ").join([identifier("_kind"), *(identifier(name) for name, _ in self.typed_extras())])
        columns = self.columns()
        return RuledStatements(
            create_stage=self.create_stage(),
            copy_stage=self.text(
                "COPY {stage} (_n, _op, _position, _base, _mask, {columns}, {extras}) FROM STDIN",
                columns=columns,
                extras=extras,
            ),
            copy_full=self.text("COPY {stage} ({columns}, _position, _kind, _n) FROM STDIN", columns=columns),
            copy_deletes=self.text("COPY {stage} ({key}, _position, _op, _kind, _n) FROM STDIN"),
            drop_staged=with_parameters(self.text("DELETE FROM {stage} WHERE ctid = ANY(%s::tid[])")),
            merge=self.update(self.merged(), "", self.plain(f"s._op IN ({FULL}, {PARTIAL})", self.unopposed)),
            upsert_facts=self.upsert_facts(),
            insert=self.insert(),
            uninserted=self.text(
                "SELECT s._n, EXISTS (SELECT FROM {target} t WHERE {t_is_s}) FROM {stage} s"
                f" WHERE s._op = {FULL} AND NOT EXISTS (SELECT FROM {{target}} t WHERE {{t_is_s}}"
                " AND t.{p} = s._position)"
            ),
            remove=self.removal("", self.plain(f"s._op = {DELETE}", self.expected)),
            delete_facts=self.delete_facts(),
            undeleted=self.text(
                "SELECT s._n, NOT {plain} FROM {stage} s JOIN {target} t ON {t_is_s}"
                f" WHERE s._op = {DELETE} AND t.{{p}} IS DISTINCT FROM s._position",
                plain=self.text("({plain})", plain=self.plain("true", self.expected)),
            ),
            merge_pairs=self.paired(self.update(self.merged(), _PAIRS, self.text(_PAIRED))),
            replace_pairs=self.paired(self.update(self.replaced(), _PAIRS, self.text(_PAIRED))),
            remove_pairs=self.paired(self.removal(_PAIRS, self.text(_PAIRED))),
            keep_pairs=self.paired(
                self.text(
                    f"UPDATE {{target}} t SET {{p}} = CASE WHEN t.{{p}} IS NULL THEN NULL ELSE s._position END"
                    f" FROM {{stage}} s, {_PAIRS} WHERE {_PAIRED}"
                )
            ),
            same_pairs=with_parameters(
                self.text(f"SELECT s._n FROM {{target}} t, {{stage}} s, {_PAIRS} WHERE {_PAIRED}")
            ),
            seen_before=with_parameters(
                self.text(
                    f"SELECT s._n, t.ctid IS NOT NULL, {{was}}, {{comes}} FROM {_PAIRS}"
                    " JOIN {stage} s ON s.ctid = v.here LEFT JOIN {target} t ON t.ctid = v.there",
                    was=self.texts("t."),
                    comes=self.texts("s."),
                )
            ),
            seen_after=with_parameters(
                self.text(
                    "SELECT s._n, {now} FROM {stage} s JOIN {target} t ON {t_is_s} WHERE s._n = ANY(%s)",
                    now=self.texts("t."),
                )
            ),
            unique_conflicts=self.unique_conflicts(unique),
        )

    def unique_conflicts(self, unique: Iterable[Sequence[str]]) -> Piece | None:
        """How many unique indexes keep other rows with values of the staged ones; None: there are not two of them."""
        found = []
        for columns in unique:
            if set(columns) != set(self.table.key) and set(columns) <= set(self.names):
                pairs = [self.column(each, "t.") + sql.SQL(" = ") + self.column(each, "s.") for each in columns]
                found.append(
                    self.text(
                        "EXISTS (SELECT FROM {target} t, {stage} s"
                        f" WHERE s._op = {FULL} AND {{same}} AND NOT ({{t_is_s}}))::int",
                        same=sql.SQL(" AND ").join(pairs),
                    )
                )
        return sql.SQL("SELECT ") + sql.SQL(" + ").join(found) if len(found) > 1 else None

    def texts(self, prefix: str) -> Piece:
        columns = [self.column(name, prefix) + sql.SQL("::text") for name in self.names]
        return sql.SQL("ARRAY[") + sql.SQL(", ").join(columns) + sql.SQL("]")

    def paired(self, statement: Piece) -> Piece:
        return with_parameters(statement + sql.SQL(" RETURNING s._n"))

    def update(self, assignments: list[Piece], more: str, condition: Piece) -> Piece:
        """`more`: what else it is joined with."""
        made = [*assignments, self.text("{p} = s._position")]
        if self.soft is not None:
            made.append(self.text("{soft} = false", soft=identifier(self.soft)))
        if self.timed:
            made.append(self.text("{time} = coalesce(s._time, t.{time})", time=identifier(TIME)))
        return self.text(
            f"UPDATE {{target}} t SET {{made}} FROM {{stage}} s{', ' + more if more else ''} WHERE {{condition}}",
            made=sql.SQL(", ").join(made),
            condition=condition,
        )

    def removal(self, more: str, condition: Piece) -> Piece:
        with_what = f"{{stage}} s{', ' + more if more else ''} WHERE {{condition}}"
        if self.soft is None:
            return self.text(f"DELETE FROM {{target}} t USING {with_what}", condition=condition)
        return self.text(
            f"UPDATE {{target}} t SET {{soft}} = true, {{p}} = s._position FROM {with_what}",
            soft=identifier(self.soft),
            condition=condition,
        )

    def plain(self, ops: str, condition: Piece) -> Piece:
        """A staged change onto a row of ours that is older than all of it, where nothing is to be decided."""
        return self.text(
            f"{ops} AND {{t_is_s}} AND coalesce(t.{{p}} < {{base}}, false) AND {{base}} >= {{floor}} AND {{condition}}",
            base=_BASE,
            condition=condition,
        )

    def insert(self) -> Piece:
        extra: Piece = sql.SQL("")
        value: Piece = sql.SQL("")
        if self.soft is not None:
            extra, value = sql.SQL(", ") + identifier(self.soft), sql.SQL(", false")
        if self.timed:
            extra, value = extra + sql.SQL(", ") + identifier(TIME), value + sql.SQL(", s._time")
        return self.text(
            "INSERT INTO {target} AS t ({columns}, {p}{extra}) OVERRIDING SYSTEM VALUE"
            f" SELECT {{s_columns}}, s._position{{value}} FROM {{stage}} s WHERE s._op = {FULL}"
            " AND NOT EXISTS (SELECT FROM {target} t WHERE {t_is_s}) ORDER BY {s_key} ON CONFLICT ({key}) DO NOTHING",
            columns=self.columns(),
            s_columns=self.columns("s."),
            extra=extra,
            value=value,
        )

    # -- what was met

    def upsert_facts(self) -> Piece:
        """Of upserts that are not written yet and are not simply inserted."""
        return self.facts(
            f"s._op <> {DELETE} AND CASE WHEN t.ctid IS NOT NULL THEN t.{{p}} IS DISTINCT FROM s._position"
            f" ELSE s._op <> {FULL} OR s._kind & {CREATED | MOVED} = 0 OR {{late}} END"
        )

    def delete_facts(self) -> Piece:
        """Of deletes that are not simply executed."""
        return self.facts(
            f"s._op = {DELETE} AND CASE WHEN t.ctid IS NOT NULL THEN NOT ({{plain}})"
            f" ELSE s._kind & {CREATED} = 0 OR {{late}} END"
        )

    def facts(self, condition: str) -> Piece:
        """For `Facts`: places of the staged and the target row, number and kind of the change; see `RuledRound`."""
        late = self.text("(coalesce(d._position >= {base}, false) OR {floor} > {base})", base=_BASE)
        return self.text(
            "SELECT s.ctid::text, t.ctid::text, s._n, s._op, t.{p}, d._position, {floor}, {deleted}, {different},"
            " {newest}, {oldest}, {newer}"
            " FROM {stage} s LEFT JOIN {target} t ON {t_is_s} LEFT JOIN {tombstones} d ON {d_is_s} WHERE {condition}",
            deleted=sql.SQL("false") if self.soft is None else self.column(self.soft, "t."),
            different=self.different_text(),
            newest=self.winner(">="),
            oldest=self.winner("<"),
            newer=self.winner(">"),
            condition=self.text(condition, late=late, plain=self.plain("true", self.expected)),
        )

    def winner(self, sign: str) -> Piece:
        """Whether the change's version compares so with the row's (see `cdc.rules.wins`)."""
        if not self.timed and self.rules.version is None:
            return sql.SQL("false")
        template = f"({{there}} IS NULL OR coalesce({{incoming}} {sign} {{there}}, false))"
        return self.text(template, there=self.there, incoming=self.incoming)

    def different_text(self) -> Piece:
        """'1' for each column that differs, '0' for those that do not; where no columns are compared, for the row."""
        found = self.different() if self.rules.reads_before else [self.differs]
        return sql.SQL(" || ").join(
            [sql.SQL("''"), *(sql.SQL("CASE WHEN {} THEN '1' ELSE '0' END").format(each) for each in found)]
        )

    # -- the staging table

    def typed_extras(self) -> Iterable[tuple[str, Piece]]:
        """The columns of a staged row that only some rules need, with what they are made of."""
        if self.timed:
            yield from (("_least", sql.SQL("0::bigint")), ("_time", sql.SQL("0::bigint")))
        if self.rules.version is not None:
            yield "_least", self.typed(self.names[self.rules.version])
        if self.rules.reads_before:
            for number in range(0, len(self.rules.compared), BITS):
                yield f"_seen_{number // BITS}", sql.SQL("0::bigint")
                yield f"_given_{number // BITS}", sql.SQL("0::bigint")
            yield from ((f"_before_{index}", self.typed(self.names[index])) for index in self.rules.compared)

    def stage_extras(self) -> Piece:
        pieces: list[Piece] = [sql.SQL(", 0::smallint AS _kind")]
        pieces += [sql.SQL(", ") + made + sql.SQL(" AS ") + identifier(name) for name, made in self.typed_extras()]
        return sql.SQL("").join(pieces)

    def stage_defaults(self) -> Piece:
        return sql.SQL(", ALTER COLUMN _kind SET DEFAULT 0")

    # -- what is compared

    @property
    def expected(self) -> Piece:
        """The row is as a delete expects it."""
        if self.soft is None:
            return self.text("NOT {differs}", differs=self.differs)
        return self.text("NOT t.{soft} AND NOT {differs}", soft=identifier(self.soft), differs=self.differs)

    @property
    def unopposed(self) -> Piece:
        """The row, one of ours, is as an upsert expects it: see `cdc.rules.conflict_of`."""
        if self.soft is None:
            return self.text(f"s._kind & {MOVED} = 0 AND NOT {{differs}}", differs=self.differs)
        return self.text(
            f"CASE WHEN t.{{soft}} THEN s._kind & {CREATED | MOVED} <> 0"
            f" ELSE s._kind & {MOVED} = 0 AND NOT {{differs}} END",
            soft=identifier(self.soft),
            differs=self.differs,
        )

    @property
    def differs(self) -> Piece:
        """Whether a row is not what the change expects; never NULL."""
        if self.rules.version is not None:
            template = (
                f"(s._kind & {UNKNOWN} = 0 AND {{there}} IS NOT NULL AND coalesce({{there}} > {{incoming}}, true))"
            )
            return self.text(template, there=self.there, incoming=self.incoming)
        if self.timed:
            return self.text("coalesce({there} > {incoming}, false)", there=self.there, incoming=self.incoming)
        if not self.rules.reads_before or not self.rules.compared:
            return sql.SQL("false")
        return self.text("coalesce({any}, false)", any=sql.SQL(" OR ").join(self.different()))

    def different(self) -> list[Piece]:
        """Of each compared column, whether it differs; NULL for a change without a before image."""
        found: list[Piece] = []
        for place, index in enumerate(self.rules.compared):
            column = self.table.columns[index]
            cast = sql.SQL("::text" if column.type.kind in _AS_TEXT or column.type.native == "xml" else "")
            found.append(
                sql.SQL("({} <> 0 AND {}{} IS DISTINCT FROM CASE WHEN {} = 0 THEN {} ELSE {} END{})").format(
                    self.bit("_seen", place),
                    self.column(column.name, "t."),
                    cast,
                    self.bit("_given", place),
                    self.column(column.name, "s."),
                    sql.SQL("s.") + identifier(f"_before_{index}"),
                    cast,
                )
            )
        return found

    def bit(self, name: str, place: int) -> Piece:
        """Not 0 where the compared column at `place` has its bit."""
        number = identifier(f"{name}_{place // BITS}")
        return sql.SQL("s.{} & {}").format(number, sql.Literal(1 << place % BITS))

    @property
    def there(self) -> Piece:
        """The row's version, or commit time."""
        if self.rules.version is not None:
            return self.column(self.names[self.rules.version], "t.")
        return sql.SQL("t.") + identifier(TIME)

    @property
    def incoming(self) -> Piece:
        """The change's; the lowest of those that were folded."""
        if self.rules.version is not None:
            return sql.SQL("coalesce(s._least, ") + self.column(self.names[self.rules.version], "s.") + sql.SQL(")")
        return sql.SQL("s._least")

    # -- how columns combine

    def merged(self) -> list[Piece]:
        return self.assignments(self._combined)

    def replaced(self) -> list[Piece]:
        return self.assignments(lambda index: self._named(index, "s."))

    def assignments(self, value: Callable[[int], Piece]) -> list[Piece]:
        """Of all columns but the key's; what the change does not bring, or did not change, keeps its own."""
        made: list[Piece] = []
        for index, name in enumerate(self.names):
            if name not in self.table.key:
                lacking = self._lacking(index)
                new = value(index)
                if lacking:
                    new = sql.SQL("CASE WHEN {} THEN {} ELSE {} END").format(
                        sql.SQL(" OR ").join(lacking), self._named(index, "t."), new
                    )
                made.append(identifier(name) + sql.SQL(" = ") + new)
        return made

    def _lacking(self, index: int) -> list[Piece]:
        found: list[Piece] = []
        if self.table.partials:
            found.append(sql.SQL("substr(s._mask, {}, 1) = '0'").format(sql.Literal(index + 1)))
        if self.rules.detect is Detect.CHANGED_COLUMNS and index in self.rules.compared:
            place = self.rules.compared.index(index)
            found.append(self.bit("_seen", place) + sql.SQL(" = 0"))
        return found

    def _combined(self, index: int) -> Piece:
        """The new value of a column, as `cdc.rules.combined` says."""
        unit, old, new = self.unit_of.get(index), self._named(index, "t."), self._named(index, "s.")
        if unit is None:
            return new
        if len(unit.columns) == 1 and unit.combine in (Combine.KEEP_IF_NULL, Combine.FILL_NULLS):
            first, second = (new, old) if unit.combine is Combine.KEEP_IF_NULL else (old, new)
            return sql.SQL("coalesce({}, {})").format(first, second)
        return sql.SQL("CASE WHEN {} THEN {} ELSE {} END").format(self._takes(unit), new, old)

    def _takes(self, unit: Unit) -> Piece:
        """Whether the incoming values of a unit take the place of those that are there."""
        match unit.combine:
            case Combine.KEEP_IF_NULL:
                return sql.SQL(" OR ").join(self._named(each, "s.") + sql.SQL(" IS NOT NULL") for each in unit.columns)
            case Combine.FILL_NULLS:
                return sql.SQL(" AND ").join(self._named(each, "t.") + sql.SQL(" IS NULL") for each in unit.columns)
            case Combine.TARGET_WINS:
                return sql.SQL("false")
        index = unit.columns[0] if unit.version is None else unit.version
        sign = {Combine.MAX: ">", Combine.MIN: "<", Combine.NEWEST: ">=", Combine.OLDEST: "<"}[unit.combine]
        old, new = self._ordered(index, "t."), self._ordered(index, "s.")
        return sql.SQL("{} IS NULL OR {} " + sign + " {}").format(self._named(index, "t."), new, old)

    def _ordered(self, index: int, prefix: str) -> Piece:
        """Texts by code point, whatever the database's collation."""
        text = self.table.columns[index].type.kind is Kind.TEXT
        return self._named(index, prefix) + sql.SQL(' COLLATE "C"' if text else "")

    def _named(self, index: int, prefix: str) -> Piece:
        return self.column(self.names[index], prefix)


_NUMBERS = frozenset({"smallint", "integer", "bigint", "numeric", "real", "double precision"})
_MOMENTS = frozenset({"date", "timestamp", "timestamptz"})
_ORDERED = {
    Kind.TEXT: {"text", "varchar", "char"},
    Kind.BYTES: {"bytea"},
    Kind.BOOLEAN: {"boolean"},
    Kind.UUID: {"uuid"},
    **dict.fromkeys((Kind.INTEGER, Kind.DECIMAL, Kind.FLOAT32, Kind.FLOAT64), _NUMBERS),
    **dict.fromkeys((Kind.DATE, Kind.TIMESTAMP, Kind.TIMESTAMPTZ), _MOMENTS),
    Kind.TIME: {"time", "interval"},
}
"""Types whose order is that of the values."""


def check_ordered(table: TargetTable, found: FoundTable | None) -> None:
    """Raise `Terminal` for a column whose rule compares values, and whose type compares them in another order."""
    rules = table.rules
    if rules is None:
        return
    units = [unit for unit in rules.units if unit.version is not None or unit.combine in (Combine.MAX, Combine.MIN)]
    compared = {unit.columns[0] if unit.version is None else unit.version for unit in units}
    compared |= set() if rules.version is None else {rules.version}
    for column in (table.columns[index] for index in sorted(compared)):
        there = None if found is None or column.name not in found.columns else found.columns[column.name].type
        type_ = parse(there or column.sql_type or sql_type(column.type))
        if type_.array or type_.name not in _ORDERED.get(column.type.kind, ()):
            raise Terminal(
                f"column {column.name} is {type_.name}, which orders {column.type.kind} values in another way",
                where=f"{table.namespace}.{table.name}",
                hint="its rule compares values: give it another rule, or the column another type",
            )
