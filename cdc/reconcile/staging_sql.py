"""The SQL of staging.py for one target table. Identifiers are quoted; values are parameters or COPY's data.

All statements but the COPYs are run with parameters, so a '%' in a name is doubled.
"""

# ruff: noqa: S608  composed of quoted identifiers and constants only

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cdc.db.postgres import quote
from cdc.model import DeletePolicy, TargetTable

_META = "_cdc_round, _cdc_mask, _cdc_reason"


class StagingSql:
    """Statements for one table. In them `e` is an expected row, `t` the target's own, `o` an open key.

    `keeps`: rows that the source no longer has may stay at the target. `number` tells this table's temporary tables
    from those of others in the same session. `domains`: columns of a domain, with the type it is made of, which is what
    expected rows are held in: a row of which only the key is known has NULLs where a domain allows none.
    """

    def __init__(self, table: TargetTable, *, number: int, keeps: bool, domains: Mapping[str, str]) -> None:
        self.stage, self._image, self._open, self.parked, self._found = (
            f"pg_temp.cdc_compare_{name}{number}" for name in ("stage", "image", "open", "parked", "found")
        )
        self._names = [_name(column.name) for column in table.columns]
        self._keys = [_name(name) for name in table.key]
        self._target = _name(table.namespace, table.name)
        soft = table.soft_delete if table.on_delete is DeletePolicy.SOFT else None
        self._soft = _name(soft) if soft is not None else None
        self._keeps = keeps
        self._domains = {_name(name): base.replace("%", "%%") for name, base in domains.items()}
        alive = f" WHERE {self._soft} IS NOT TRUE" if self._soft else ""
        self._there = f"(SELECT {_list(self._names)}, true AS _cdc_there FROM {self._target}{alive})"

    # --- tables

    def create(self) -> list[str]:
        keys, names = _list(self._typed(self._keys)), _list(self._typed(self._names))
        nothing, key_names = f"FROM {self._target} WITH NO DATA", _list(self._keys)
        meta = "0 AS _cdc_round, ''::text AS _cdc_mask, NULL::text AS _cdc_reason"
        return [
            *([f"SELECT {self._soft} FROM {self._target} WHERE false"] if self._soft else []),
            f"CREATE TABLE {self.stage} AS SELECT {meta}, {names} {nothing}",
            f"CREATE TABLE {self._image} AS SELECT {meta}, false AS _cdc_absent, {names} {nothing}",
            f"CREATE INDEX ON {self._image} ({key_names})",
            f"CREATE TABLE {self._open} AS SELECT {keys}, ''::text AS _cdc_state, NULL::text AS _cdc_seen,"
            f" NULL::double precision AS _cdc_since {nothing}",
            f"ALTER TABLE {self._open} ADD COLUMN _cdc_number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
            f"CREATE INDEX ON {self._open} ({key_names})",
            f"CREATE TABLE {self.parked} AS SELECT {keys} {nothing}",
        ]

    def _typed(self, names: Sequence[str]) -> list[str]:
        return [f"{name}::{self._domains[name]} AS {name}" if name in self._domains else name for name in names]

    @property
    def drop(self) -> str:
        return f"DROP TABLE IF EXISTS {self.stage}, {self._image}, {self._open}, {self.parked}, {self._found}"

    @property
    def copy_stage(self) -> str:
        return f"COPY {self.stage} ({_META}, {_list(self._names)}) FROM STDIN".replace("%%", "%")

    @property
    def copy_parked(self) -> str:
        return f"COPY {self.parked} ({_list(self._keys)}) FROM STDIN".replace("%%", "%")

    # --- the first pass

    @property
    def find_open(self) -> str:
        """The keys where the stage and the target differ."""
        join = "LEFT" if self._keeps else "FULL"
        keys = ", ".join(f"coalesce(e.{name}, t.{name})" for name in self._keys)
        return (
            f"INSERT INTO {self._open} ({_list(self._keys)}, _cdc_state) SELECT DISTINCT {keys}, ''"
            f" FROM {self.stage} e {join} JOIN {self._there} t ON {self._same_key('e', 't')}"
            f" WHERE e._cdc_round IS NULL OR t._cdc_there IS NULL OR NOT {self._equal}"
        )

    @property
    def counts(self) -> str:
        """Live rows, soft-deleted rows."""
        soft = f"count(*) FILTER (WHERE {self._soft})" if self._soft else "0"
        alive = f"count(*) FILTER (WHERE {self._soft} IS NOT TRUE)" if self._soft else "count(*)"
        return f"SELECT {alive}, {soft} FROM {self._target}"

    @property
    def kept(self) -> str:
        same = self._same_key("e", "t")
        return f"SELECT count(*) FROM {self._there} t WHERE NOT EXISTS (SELECT FROM {self.stage} e WHERE {same})"

    # --- the rounds

    @property
    def open_keys(self) -> str:
        keys = ", ".join(f"o.{name}::text" for name in self._keys)
        return (
            f"SELECT o._cdc_number, {keys} FROM {self._open} o WHERE o._cdc_state = '' AND o._cdc_number > %(last)s"
            " ORDER BY o._cdc_number LIMIT %(limit)s"
        )

    @property
    def take_images(self) -> list[str]:
        """Move what this round staged of undecided keys to the images, and note the keys it found no row for."""
        keys = _list(self._keys)
        wanted = f"SELECT FROM {self._open} o WHERE o._cdc_state = '' AND {self._same_key('o', 'e')}"
        return [
            f"INSERT INTO {self._image} ({_META}, _cdc_absent, {_list(self._names)})"
            f" SELECT {_META}, false, {_list(self._names, 'e.')} FROM {self.stage} e WHERE EXISTS ({wanted})",
            f"INSERT INTO {self._image} ({_META}, _cdc_absent, {keys})"
            f" SELECT %(round)s::integer, '', NULL, true, {_list(self._keys, 'o.')} FROM {self._open} o"
            " WHERE o._cdc_state = '' AND NOT EXISTS"
            f" (SELECT FROM {self._image} e WHERE e._cdc_round = %(round)s AND {self._same_key('e', 'o')})",
            f"TRUNCATE {self.stage}",
            f"ANALYZE {self._image}",
        ]

    @property
    def forget_settled(self) -> str:
        """The target shows what the source held in some round."""
        gone = "true" if self._keeps else "t._cdc_there IS NULL"
        return (
            f"DELETE FROM {self._open} o WHERE o._cdc_state = '' AND EXISTS (SELECT FROM {self._image} e"
            f" LEFT JOIN {self._there} t ON {self._same_key('e', 't')} WHERE {self._same_key('e', 'o')}"
            f" AND CASE WHEN e._cdc_absent THEN {gone} ELSE t._cdc_there IS NOT NULL AND {self._equal} END)"
        )

    @property
    def note_changes(self) -> str:
        """Since when the source row has been as it is."""
        row = f"ROW(e._cdc_absent, e._cdc_reason, {_list(self._names, 'e.')})::text"
        return (
            f"UPDATE {self._open} o SET _cdc_seen = i.seen, _cdc_since = %(now)s FROM (SELECT n._cdc_number AS number,"
            f" (SELECT md5(string_agg({row}, ',' ORDER BY {row})) FROM {self._image} e WHERE e._cdc_round = %(round)s"
            f" AND {self._same_key('e', 'n')}) AS seen FROM {self._open} n WHERE n._cdc_state = '') i"
            " WHERE i.number = o._cdc_number AND i.seen IS DISTINCT FROM o._cdc_seen"
        )

    @property
    def excuse(self) -> str:
        return (
            f"UPDATE {self._open} o SET _cdc_state = 'excused' WHERE o._cdc_state = ''"
            f" AND EXISTS (SELECT FROM {self.parked} p WHERE {self._same_key('p', 'o')})"
        )

    @property
    def confirm(self) -> str:
        return f"UPDATE {self._open} SET _cdc_state = 'confirmed' WHERE _cdc_state = '' AND _cdc_since <= %(before)s"

    @property
    def give_up(self) -> str:
        return f"UPDATE {self._open} SET _cdc_state = 'unsettled' WHERE _cdc_state = ''"

    @property
    def undecided(self) -> str:
        return f"SELECT count(*) FROM {self._open} WHERE _cdc_state = ''"

    # --- the result

    @property
    def find(self) -> str:
        """Each decided key's difference, as it stands at this moment; '' when there is none any more."""
        differing = ", ".join(f"ROW(e.{name})::text <> ROW(t.{name})::text" for name in self._names)
        return (
            f"CREATE TABLE {self._found} AS SELECT o._cdc_number AS number, o._cdc_state AS state, CASE"
            " WHEN e._cdc_reason IS NOT NULL THEN 'unmapped'"
            " WHEN e._cdc_absent THEN CASE WHEN t._cdc_there IS NULL THEN '' ELSE 'surplus' END"
            " WHEN t._cdc_there IS NULL THEN 'missing'"
            f" WHEN {self._equal} THEN '' ELSE 'different' END AS what,"
            f" CASE WHEN t._cdc_there AND NOT e._cdc_absent THEN ARRAY[{differing}] END AS differing"
            f" FROM {self._open} o {self._sides}"
        )

    @property
    def _sides(self) -> str:
        return (
            f"JOIN LATERAL (SELECT * FROM {self._image} e WHERE {self._same_key('e', 'o')}"
            f" ORDER BY e._cdc_round DESC LIMIT 1) e ON true LEFT JOIN {self._there} t ON {self._same_key('t', 'o')}"
        )

    @property
    def totals(self) -> str:
        return f"SELECT what, state, count(*) FROM {self._found} GROUP BY what, state"

    @property
    def column_totals(self) -> str:
        counts = ", ".join(f"count(*) FILTER (WHERE differing[{n}])" for n in range(1, len(self._names) + 1))
        return f"SELECT {counts} FROM {self._found} WHERE what = 'different' AND state = 'confirmed'"

    @property
    def examples(self) -> str:
        keys, expected, actual = (
            ", ".join(f"{prefix}.{name}::text" for name in names)
            for prefix, names in (("o", self._keys), ("e", self._names), ("t", self._names))
        )
        soft = "NULL"
        if self._soft:
            same = self._same_key("s", "o")
            soft = (
                f"CASE WHEN f.what = 'missing' AND EXISTS (SELECT FROM {self._target} s WHERE {same})"
                " THEN 'marked as deleted at the target' END"
            )
        return (
            f"SELECT f.what, f.state, ARRAY[{keys}], coalesce(e._cdc_reason, {soft}), f.differing, ARRAY[{expected}],"
            f" ARRAY[{actual}] FROM {self._found} f JOIN {self._open} o ON o._cdc_number = f.number {self._sides}"
            " WHERE f.what <> '' ORDER BY f.state, f.what, f.number LIMIT %(limit)s"
        )

    # --- conditions

    def _same_key(self, left: str, right: str) -> str:
        return " AND ".join(f"{left}.{name} = {right}.{name}" for name in self._keys)

    @property
    def _equal(self) -> str:
        """Whether `e` and `t`, both there, are the same; never NULL. A row's text tells NULL from ''."""
        whole = f"ROW({_list(self._names, 'e.')})::text = ROW({_list(self._names, 't.')})::text"
        parts = " AND ".join(
            f"(substr(e._cdc_mask, {number}, 1) = '0' OR ROW(e.{name})::text = ROW(t.{name})::text)"
            for number, name in enumerate(self._names, 1)
        )
        return f"(e._cdc_reason IS NULL AND CASE WHEN e._cdc_mask = '' THEN {whole} ELSE {parts} END)"


def _name(*names: str) -> str:
    return quote(*names).replace("%", "%%")


def _list(names: list[str], prefix: str = "") -> str:
    return ", ".join(f"{prefix}{name}" for name in names)
