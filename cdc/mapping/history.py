"""What a table's `history:` may say: its rows are the changes of the source's rows, none is ever overwritten."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from cdc.model import ColumnType, History, Kind, TargetColumn

Name = Annotated[str, Field(min_length=1)]
_ONLY_VERSIONS = ("valid_from", "valid_to", "is_current")


class HistoryTable(BaseModel):
    """`append`: one row a change. `versions`: the same, and from when until when each was the row's state (type 2)."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)

    keep: Literal["append", "versions"]
    """`append`: one row a change (create, update, delete, snapshot read, truncate). `versions`: with `valid_from`,
    `valid_to` and `is_current`."""
    operation: Name = "change_op"
    """The column for what happened: c(reate), u(pdate), d(elete), r(ead by a snapshot), t(runcate), s(wept)."""
    changed_at: Name = "changed_at"
    """With `append`: the column for the commit time at the source; of a snapshot's rows, when they were read."""
    position: Name = "change_position"
    """The column for the change's position in the source's log, which tells changes of a key apart and orders them."""
    valid_from: Name = "valid_from"
    """With `versions`: the same as `changed_at`."""
    valid_to: Name = "valid_to"
    """With `versions`: when the next change took its place; NULL for the newest. A delete's own is `valid_from`."""
    is_current: Name = "is_current"
    """With `versions`: true for the newest version of a row that is there."""

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        return {"keep": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _fitting(self) -> HistoryTable:
        wrong = ("changed_at",) if self.keep == "versions" else _ONLY_VERSIONS
        for name in wrong:
            if name in self.model_fields_set:
                other = "'valid_from'" if self.keep == "versions" else "'keep: versions'"
                raise PydanticCustomError("history_column", f"'{name}' is no column of 'keep: {self.keep}': {other}")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """All columns that it adds, in their order in the table."""
        made = self.compiled
        return (*(column.name for column in history_columns(made)), *filter(None, (made.valid_to, made.current)))

    @property
    def compiled(self) -> History:
        if self.keep == "append":
            return History(self.operation, self.changed_at, self.position)
        return History(self.operation, self.valid_from, self.position, self.valid_to, self.is_current)

    def key_of(self, name: str) -> str:
        """The key of this mapping under which a column's name is written."""
        return next(key for key in type(self).model_fields if key != "keep" and getattr(self, key) == name)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        full = handler.resolve_ref_schema(handler(schema))
        return {"description": cls.__doc__ or "", "anyOf": [{"enum": ["append", "versions"]}, full]}


def history_columns(history: History) -> tuple[TargetColumn, TargetColumn, TargetColumn]:
    """The columns that a mapping fills itself, in their order (`HISTORY_COLUMNS`)."""
    return (
        TargetColumn(history.operation, ColumnType(Kind.TEXT, "varchar", 1), nullable=False),
        TargetColumn(history.at, ColumnType(Kind.TIMESTAMPTZ, "timestamptz"), nullable=False),
        TargetColumn(history.position, ColumnType(Kind.BYTES, "bytea", 22), nullable=False),
    )
