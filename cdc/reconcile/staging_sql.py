"""The SQL of staging.py for one target table. Identifiers are quoted; values are parameters or COPY's data."""

from __future__ import annotations

from cdc.db.postgres import quote
from cdc.model import DeletePolicy, TargetTable


class StagingSql:
    """Statements by name. `e` is an expected row, `t` the target's, `o` an open key."""

    stage = "pg_temp.cdc_compare_stage"
    open = "pg_temp.cdc_compare_open"
    parked = "pg_temp.cdc_compare_parked"

    def __init__(self, table: TargetTable) -> None:
        self._names = [quote(column.name).replace("%", "%%") for column in table.columns]
        self._keys = [quote(name).replace("%", "%%") for name in table.key]
        self._target = quote(table.namespace, table.name).replace("%", "%%")
        self._soft = quote(table.soft_delete).replace("%", "%%") if _is_soft(table) and table.soft_delete else None
        alive = f" WHERE {self._soft} IS NOT TRUE" if self._soft else ""
        self._there = f"(SELECT {self._list(self._names)}, true AS _cdc_there FROM {self._target}{alive})"

    @staticmethod
    def _list(names: list[str], prefix: str = "") -> str:
        return ", ".join(f"{prefix}{name}" for name in names)

    def _same_key(self, left: str, right: str) -> str:
        return " AND ".join(f"{left}.{name} = {right}.{name}" for name in self._keys)

    @property
    def _equal(self) -> str:
        """Whether `e` and `t`, both there, are the same; never NULL. A row's text tells NULL from ''."""
        whole = f"ROW({self._list(self._names, 'e.')})::text = ROW({self._list(self._names, 't.')})::text"
        parts = " AND ".join(
            f"(substr(e._cdc_mask, {number}, 1) = '0' OR ROW(e.{name})::text = ROW(t.{name})::text)"
            for number, name in enumerate(self._names, 1)
        )
        return f"(e._cdc_reason IS NULL AND CASE WHEN e._cdc_mask = '' THEN {whole} ELSE {parts} END)"

    def create(self) -> list[str]:
        keys = self._list(self._keys)
        return [
            *(f"DROP TABLE IF EXISTS {name}" for name in (self.stage, self.open, self.parked)),
            f"CREATE TEMP TABLE cdc_compare_stage AS SELECT 0 AS _cdc_round, ''::text AS _cdc_mask,"
            f" NULL::text AS _cdc_reason, false AS _cdc_absent, {self._list(self._names)} FROM {self._target}"
            " WITH NO DATA",
            f"CREATE TEMP TABLE cdc_compare_open AS SELECT {keys}, ''::text AS _cdc_state, NULL::text AS _cdc_image,"
            f" NULL::double precision AS _cdc_since FROM {self._target} WITH NO DATA",
            "ALTER TABLE pg_temp.cdc_compare_open ADD COLUMN _cdc_number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
            f"CREATE TEMP TABLE cdc_compare_parked AS SELECT {keys} FROM {self._target} WITH NO DATA",
            f"CREATE INDEX ON {self.open} ({keys})",
            f"CREATE INDEX ON {self.stage} ({keys}) WHERE _cdc_round > 0",
            *self._soft_check(),
        ]
