"""What a pipeline file may say about conflicts: the `rules` section, by target table.

Two kinds of tables. Without `sources`, one source row makes one target row: rules say what happens when the target row
is not what the change expected (somebody else wrote there), and how single columns are combined; such rules are
comparisons inside the statements that write (`cdc.rules` defines them). With `sources`, several source rows make one
target row: each one's latest contribution is kept and the row is worked out from them (`cdc.conflict`).

Shape only; names of columns and what fits what are checked in rule_checks.py.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from cdc.model import Action, ConflictType

Name: TypeAlias = Annotated[str, Field(min_length=1)]
Names: TypeAlias = Annotated[tuple[Name, ...], Field(min_length=1, strict=False)]


class _Part(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True, populate_by_name=False
    )


class ByVersion(_Part):
    """Compare a column that says which row is newer: a version number or a time of change."""

    version: Name
    """The target column."""


Detect: TypeAlias = Literal["position", "changed_columns", "all_columns", "commit_time"] | ByVersion


class DetailedRule(_Part):
    """A rule that needs to be told more than its name."""

    newest: Name | None = None
    """A target column that holds a version or a time of change: the highest wins."""
    oldest: Name | None = None
    """The same, the lowest wins."""
    priority: Names | None = None
    """The first of these sources that has the row, also with NULL."""
    fill_nulls: Names | None = None
    """The first of these sources that has a value; a NULL is filled from the next."""
    sql: Name | None = None
    """An expression over what each source says: `coalesce(crm.email, portal.email)`."""

    @model_validator(mode="after")
    def _one(self) -> DetailedRule:
        if len(self.model_fields_set) != 1:
            raise PydanticCustomError(
                "resolver", "a rule with details is one of newest, oldest, priority, fill_nulls and sql"
            )
        return self


Word: TypeAlias = Literal[
    "source_wins",
    "target_wins",
    "newest",
    "oldest",
    "keep_if_null",  # a NULL never takes a value's place
    "fill_nulls",  # a value that is there stays; a NULL is filled
    "max",
    "min",
    "delta",  # each source row adds its number
    "union",  # lists as sets
    "merge",  # JSON objects, the newest key wins
]
Resolver: TypeAlias = Word | DetailedRule


class Group(_Part):
    """Columns that belong together: all of them come from the same source row."""

    columns: Names
    """Target columns."""
    resolve: Resolver
    """Which source row they come from."""


class TableRules(_Part):
    """Rules for one target table."""

    sources: Names | None = None
    """Several sources make one row: the names (topic prefixes, or `as` of a table) of those that do, in the order of
    their rank. Each one's latest word on the row is kept; the row is worked out from all of them."""
    exists: Literal["any", "all"] | Names = "any"
    """With `sources`: the row is there while any of them has it, while all have it, or while one of those named has
    it."""
    resolve: Resolver | None = None
    """For columns that nothing else is said of. Default: source_wins; with `sources`: newest."""
    columns: dict[Name, Resolver] = Field(default_factory=dict)
    """Target columns with a rule of their own."""
    groups: dict[Name, Group] = Field(default_factory=dict)
    """Columns that belong together."""
    detect: Detect = "position"
    """Without `sources`: how it is found out that somebody else changed the row. `position`: not at all (rows that
    this mapping did not write are still known). `changed_columns`: what the change changes must be as its before
    image says; what it does not change is neither compared nor written. `all_columns`: every column without a rule
    of its own must be so. On PostgreSQL both need REPLICA IDENTITY FULL at the source; a change without before
    image is not compared. `{version: column}`: the row's version must not be higher than the change's.
    `commit_time`: nor must the commit time of the change that made the row (kept beside it, in `_cdc_time`, where
    others may set it too)."""
    on: dict[Annotated[ConflictType, Field(strict=False)], Annotated[Action, Field(strict=False)]] = Field(
        default_factory=dict
    )
    """What to do, by type of conflict. Without a word: what is there is merged by the columns' rules, what is
    missing is inserted, deletes delete, and what the target refuses is parked. `source_wins` writes the change as
    it is; `target_wins` and `skip` leave the row; `update_if_newer`, `newest` and `oldest` need `detect` by version
    or commit time; `park` sets the change and its key aside for a person; `error` stops the pipeline.
    `target_column_missing` and `target_table_missing: error`: nothing is added to the target, the pipeline stops;
    `source_column_missing: skip`: a column that the source no longer has is not written any more."""
    max_skew_s: float = Field(default=60.0, gt=0, le=86_400)
    """Where commit times are compared: a change dated further in the future than this, by this machine's clock, is
    parked: it would win over every other for as long."""

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        if value is None:
            raise PydanticCustomError("rules_empty", "say something: resolve, columns, groups, on …")
        return value
