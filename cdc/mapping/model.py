"""What a pipeline file may say.

These models are the language: their fields are its keys, their docstrings what an editor shows. They check shape only;
names of columns meet a source's schema later, in compile.py. Everything is frozen.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, GetJsonSchemaHandler, PrivateAttr, model_validator
from pydantic.json_schema import JsonSchemaValue, WithJsonSchema
from pydantic_core import CoreSchema, PydanticCustomError

from cdc.mapping.diagnostics import Diagnostic
from cdc.mapping.history import HistoryTable
from cdc.mapping.masks import Mask
from cdc.mapping.requests import RestTable
from cdc.mapping.rules import TableRules
from cdc.model import Contributes, DeletePolicy, TruncatePolicy
from cdc.yamlfile import Document, SourceFile, Span, ValuePath

EVERYTHING = "*"
_WORD = r"[A-Za-z][A-Za-z0-9_-]*"
_PART = r'(?:"(?:[^"]|"")+"|[^".\s]+)'
_QUALIFIED = re.compile(rf"({_PART})\.({_PART})")


class QualifiedName(NamedTuple):
    """'schema.table' (PostgreSQL) or 'database.table' (MariaDB). A part with a dot stands in double quotes."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return ".".join(f'"{part}"' if "." in part or '"' in part else part for part in self)


def _qualified(value: Any) -> QualifiedName:
    match = _QUALIFIED.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise PydanticCustomError("table_name", "a table is written schema.table (or database.table)")
    return QualifiedName(*(part[1:-1].replace('""', '"') if part[0] == '"' else part for part in match.groups()))


TableName: TypeAlias = Annotated[
    QualifiedName,
    BeforeValidator(_qualified),
    WithJsonSchema({"type": "string", "pattern": f"^{_QUALIFIED.pattern}$", "examples": ["public.customers"]}),
]
Name: TypeAlias = Annotated[str, Field(min_length=1)]
Word: TypeAlias = Annotated[str, Field(pattern=f"^{_WORD}$")]
Constant: TypeAlias = Annotated[
    str | bool | int | Decimal | None, WithJsonSchema({"type": ["string", "boolean", "number", "null"]})
]


_DURATION = re.compile(r"(\d+)\s*([smhd])")
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def _duration(value: Any) -> float:
    """Seconds, from a number of them or a number with a unit."""
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        return float(value)
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise PydanticCustomError("duration", "a time is written 90s, 30m, 2h or 7d, or as a number of seconds")
    return float(int(match[1]) * _UNIT_S[match[2]])


Duration: TypeAlias = Annotated[
    float,
    BeforeValidator(_duration),
    Field(gt=0),
    WithJsonSchema(
        {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string", "pattern": rf"^{_DURATION.pattern}$"}]}
    ),
]


Share: TypeAlias = Annotated[
    Decimal,
    Field(gt=0, le=1, strict=False),
    WithJsonSchema({"type": "number", "exclusiveMinimum": 0, "maximum": 1}),
]


class _Part(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True, populate_by_name=False
    )


class Batch(_Part):
    """How much is written in one target transaction: whichever limit is reached first."""

    rows: int = Field(default=5000, ge=1, le=1_000_000)
    """Most records of one batch."""
    bytes: int = Field(default=16 * 1024 * 1024, ge=1024, le=1 << 30)
    """Most bytes of Kafka records in one batch."""
    max_wait_ms: int = Field(default=200, ge=0, le=60_000)
    """Longest wait for a batch to fill while records keep coming. An idle stream is written at once."""


class Snapshot(_Part):
    """What happens when a source repeats its snapshot (deletes made meanwhile are not in it)."""

    repeat: Literal["ask", "sweep"] = "ask"
    """`ask`: go on, and show in `cdc status` what to do; `sweep`: remove by itself, after the snapshot, the rows that
    it no longer showed."""


class Parked(_Part):
    """Records that could not be applied and were set aside: how much of that is too much, and what ends it."""

    supersede: Literal["never", "full_image"] = "never"
    """What waits for a person: whether a later change of its key that tells the whole row takes its place
    (`full_image`), or everything waits behind it (`never`). A change that tells only some columns always waits."""
    max: int = Field(default=1000, ge=0)
    """The pipeline stops when more than this many records are parked. Those that wait for another row do not count."""
    max_age: Duration | None = None
    """The pipeline stops when a record has been parked for longer: '30m', '2h', '7d', or seconds."""
    max_share: Share | None = None
    """The pipeline stops when a greater share of the newest records was parked: 0.01 is one of a hundred."""
    share_minutes: int = Field(default=10, ge=1, le=1440)
    """Which records `max_share` counts: those that a worker has read in so many minutes."""
    share_least: int = Field(default=20, ge=1)
    """Fewer parked records than this are no share yet: one of three does not stop a pipeline."""
    max_waiting: int = Field(default=20_000, ge=0)
    """The pipeline stops when in one worker more rows than this wait for another row (a parent, a unique value)."""
    wait_hours: int = Field(default=24, ge=0)
    """How long a row that waits for another one is tried again by the clock."""


class Tombstones(_Part):
    """How long a deleted row's position is remembered, so that an older change does not bring the row back."""

    keep_days: int = Field(default=30, ge=1, le=3650)
    """At least so long, and at least twice the topics' retention; for ever when a topic keeps its records for ever."""


class Decisions(_Part):
    """How long conflicts are remembered: their counts, and the values of those that were kept."""

    keep_days: int = Field(default=7, ge=1, le=3650)
    """`cdc conflicts` shows no older ones."""


class Star(_Part):
    """`'*'`: every column of the source table that the other entries do not take by name."""

    except_: tuple[Name, ...] = Field(default=(), alias="except", strict=False)
    """Source columns to leave out."""
    rename: dict[Name, Name] = Field(default_factory=dict)
    """source column: target column."""


class ElseValue(_Part):
    """A value that would otherwise be one of the words of `else`."""

    value: Constant
    """The value for all others."""


class ColumnSpec(_Part):
    """One target column: a copied source column, a constant, or an SQL expression over the source's columns; copies
    and expressions may be masked."""

    copy_: Name | None = Field(default=None, alias="copy")
    """The source column to copy. `name: full_name` is short for `name: {copy: full_name}`."""
    map: dict[str, Constant] | None = Field(default=None, min_length=1)
    """Of a copied column: source value: target value."""
    else_: ElseValue | Constant = Field(default="park", alias="else")
    """Of values not in `map`: `park` sets the row aside, `keep` copies them, `null`, a value ({value: keep})."""
    default: Constant = None
    """Of a copied column: what a NULL becomes."""
    value: Constant = None
    """The same value for every row."""
    sql: Name | None = None
    """An expression in PostgreSQL's SQL over the source's columns: `lower(email)`."""
    mask: Mask | None = None
    """How its values are masked. `email: {mask: …}` copies the source's column of that name."""
    type: Name | None = None
    """The column's type in the target, in its own SQL. Default: the target's type for the source's column."""

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"copy": value}
        if value is None:
            raise PydanticCustomError(
                "column_empty", "say what the column holds: a source column, {value: …} or {sql: …}"
            )
        return value

    @model_validator(mode="after")
    def _one_origin(self) -> ColumnSpec:
        given = [name for name in ("copy_", "value", "sql") if name in self.model_fields_set]
        if self.masked and "value" in given:
            raise PydanticCustomError("column_mask", "a constant value needs no mask")
        if self.masked and self.model_fields_set & {"map", "else_", "default"}:
            raise PydanticCustomError("column_form", "a masked column has no 'map' or 'default'; mask a CASE in sql")
        if self.masked and not given:
            return self
        if len(given) != 1 or (given != ["value"] and getattr(self, given[0]) is None):
            raise PydanticCustomError("column_origin", "a column has exactly one of 'copy', 'value' and 'sql'")
        if given != ["copy_"] and self.model_fields_set & {"map", "else_", "default"}:
            raise PydanticCustomError("column_form", "'map', 'else' and 'default' go with 'copy'; sql has CASE for it")
        if "else_" in self.model_fields_set and self.map is None:
            raise PydanticCustomError("column_form", "'else' goes with 'map'")
        return self

    @property
    def masked(self) -> bool:
        """Whether a mask is written, be it `mask: null`."""
        return "mask" in self.model_fields_set

    def source_of(self, name: str) -> str | None:
        """The source column that the target column `name` copies, masked or not."""
        return name if self.copy_ is None and self.sql is None and self.masked else self.copy_

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        full = handler.resolve_ref_schema(handler(schema))
        masked = {
            "required": ["mask"],
            "not": {"anyOf": [{"required": [origin]} for origin in ("copy", "value", "sql")]},
        }
        full["oneOf"] = [*({"required": [origin]} for origin in ("copy", "value", "sql")), masked]
        short = {"type": "string", "description": "the source column to copy"}
        return {"description": cls.__doc__ or "", "anyOf": [short, full]}


class Columns(BaseModel):
    """Target columns by name. `'*'` takes all remaining source columns; without it, only what is written here."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)
    __pydantic_extra__: dict[str, ColumnSpec] = Field(init=False)

    everything: Star | None = Field(default=None, alias="*")

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        if value == EVERYTHING:
            return {EVERYTHING: {}}
        if isinstance(value, dict):
            if not value:
                raise PydanticCustomError("columns_empty", "name at least one column, or leave 'columns' out for all")
            if value.get(EVERYTHING, ...) is None:
                return {**value, EVERYTHING: {}}
        elif isinstance(value, str):
            raise PydanticCustomError(
                "columns_text", "'columns' is '*' or a list of target columns with what they hold"
            )
        return value

    @property
    def named(self) -> dict[str, ColumnSpec]:
        """The entries written by name, in file order."""
        return self.__pydantic_extra__ or {}

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        full = handler.resolve_ref_schema(handler(schema))
        star = full["properties"][EVERYTHING]
        full["properties"][EVERYTHING] = {"anyOf": [star, {"type": "null"}], "description": Star.__doc__}
        return {"description": cls.__doc__ or "", "anyOf": [{"const": EVERYTHING}, full]}


class TableMapping(_Part):
    """One mapping: the change events of a source table become rows of a target table."""

    from_: TableName = Field(alias="from")
    """The source table: schema.table (PostgreSQL) or database.table (MariaDB)."""
    to: TableName
    """The target table: schema.table. For a REST target only a name, under which state is kept and shown."""
    targets: tuple[Word, ...] | None = Field(default=None, min_length=1, strict=False)
    """Those of the pipeline's targets that this table goes to; default: all. A table of which other columns go to
    another target is written twice, with other `targets` and `columns`."""
    rest: RestTable | None = None
    """The requests that write this table's rows; for REST targets."""
    source: Word | None = None
    """The source (topic prefix) of this table; default: the pipeline's."""
    as_: Word | None = Field(default=None, alias="as")
    """Its name among the `sources` of the target table's rules; default: the source's."""
    key: tuple[Name, ...] | None = Field(default=None, min_length=1, strict=False)
    """Target columns that identify a row. Default: the columns that copy the source table's key."""
    columns: Columns = Field(default_factory=lambda: Columns.model_validate(EVERYTHING))
    """What the target's columns hold. Default: all source columns under their own names."""
    where: Name | None = None
    """Which source rows the target has: an SQL condition over the source's columns, as in PostgreSQL's WHERE. A change
    that leaves it removes the target's row (as `on_delete` says), one that comes into it brings the row."""
    on_delete: DeletePolicy = Field(default=DeletePolicy.DELETE, strict=False)
    """`delete` the target row, mark it (`soft`), or `ignore` deletes."""
    soft_delete_column: Name = "is_deleted"
    """The boolean column that `on_delete: soft` sets."""
    on_truncate: TruncatePolicy = Field(default=TruncatePolicy.APPLY, strict=False)
    """What a TRUNCATE of the source table does: `apply` removes the target's rows from before it (under `on_delete:
    soft` it marks them), `ignore` counts it as skipped, `refuse` stops the pipeline there, `park` sets it aside for a
    person while the table's rows go on: a retry of it removes what is then still from before it."""

    history: HistoryTable | None = None
    """`append` or `versions`: each change becomes a row of its own, none is overwritten."""

    _supersede: bool = PrivateAttr(default=False)
    _pipeline: str = PrivateAttr(default="")
    _default_source: str | None = PrivateAttr(default=None)
    _document: Document | None = PrivateAttr(default=None)
    _path: ValuePath = PrivateAttr(default=())
    _rules: TableRules | None = PrivateAttr(default=None)
    _rules_name: str = PrivateAttr(default="")

    @property
    def id(self) -> str:
        """'pipeline/target table': the stable name under which a target keeps this mapping's state; with '@name' where
        it is one of several sources of the table's rows."""
        return f"{self.target_id}@{self.contributor}" if self.contributor else self.target_id

    @property
    def target_id(self) -> str:
        """The name of the target table's own state, where that is another."""
        return f"{self._pipeline}/{self.to}"

    @property
    def rules(self) -> TableRules | None:
        """What the pipeline's `rules` say about the target table."""
        return self._rules

    @property
    def rules_name(self) -> str:
        """The name under which they stand there."""
        return self._rules_name

    @property
    def contributor(self) -> str | None:
        """Its name among the sources of the target table's rows; None where one source row makes one row."""
        return (self.as_ or self.source_name) if self._rules is not None and self._rules.sources else None

    def contributes(self, width: int) -> Contributes | None:
        """How its rows contribute to the target table's; `width`: key columns that the target table has too."""
        if self.contributor is None:
            return None
        soft = self.soft_delete_column if self.on_delete is DeletePolicy.SOFT else None
        return Contributes(self.target_id, self.contributor, width, soft)

    @property
    def source_name(self) -> str:
        """The source (topic prefix) that this table's events come from; load.py made sure that there is one."""
        return self.source or self._default_source or ""

    @property
    def supersede(self) -> bool:
        """The pipeline's rule for parked keys (`parked.supersede`)."""
        return self._supersede

    def span(self, *path: str | int, key: bool = False) -> Span:
        """The place of something of this mapping in its file, such as `span('columns', 'email', 'sql')`."""
        return self._document.span((*self._path, *path), key=key) if self._document else Span(1, 1, 1, 1)

    def finding(
        self,
        code: str,
        message: str,
        path: ValuePath,
        *,
        help: str | None = None,
        key: bool = False,
        within: tuple[int, int] | None = None,
        severity: Literal["error", "warning"] = "error",
    ) -> Diagnostic:
        """A diagnostic at `path` below this mapping; `within` = (start, length) inside the text that stands there."""
        return self._finding(code, message, (*self._path, *path), help, key, within, severity)

    def rule_finding(
        self,
        code: str,
        message: str,
        path: ValuePath,
        *,
        help: str | None = None,
        key: bool = False,
        severity: Literal["error", "warning"] = "error",
    ) -> Diagnostic:
        """A diagnostic at `path` below the rules of this table."""
        return self._finding(code, message, ("rules", self._rules_name, *path), help, key, None, severity)

    def _finding(
        self,
        code: str,
        message: str,
        full: ValuePath,
        help: str | None,
        key: bool,
        within: tuple[int, int] | None,
        severity: Literal["error", "warning"],
    ) -> Diagnostic:
        if self._document is None:
            return Diagnostic(code, message, SourceFile("<mapping>", ""), Span(1, 1, 1, 1), help, severity)
        span = self._document.place_in(full, *within) if within else self._document.span(full, key=key)
        return Diagnostic(code, message, self._document.file, span, help, severity)


class Pipeline(_Part):
    """One file: mappings of one or more sources into one target or several, each with workers of its own."""

    pipeline: Word
    """The pipeline's name, unique among all files. State in the target is kept under it."""
    description: str | None = None
    """For people."""
    source: Word | None = None
    """The source (connector, topic prefix) of all tables that do not name their own."""
    target_: Word | None = Field(default=None, alias="target")
    """The connection to write to."""
    targets_: tuple[Word, ...] = Field(default=(), alias="targets", strict=False)
    """In place of `target`: several connections. Each is written by workers of its own and has its own watermarks: a
    slow or broken one does not hold the others."""
    client: Literal["kafka-python", "librdkafka"] = "kafka-python"
    """The Kafka client. librdkafka reads several times faster and needs the extra of that name."""
    batch: Batch = Batch()
    """Limits of one write."""
    snapshot: Snapshot = Snapshot()
    """Repeated snapshots."""
    parked: Parked = Parked()
    """Records that were set aside."""
    tombstones: Tombstones = Tombstones()
    """Memories of deleted rows."""
    decisions: Decisions = Decisions()
    """Conflicts that were met and decided."""
    rules: dict[Name, TableRules] = Field(default_factory=dict)
    """What happens in a conflict, by target table (schema.table, as in `to`); '*': all that are not named."""
    tables: tuple[TableMapping, ...] = Field(min_length=1, strict=False)
    """The mappings."""

    _document: Document | None = PrivateAttr(default=None)
    _one_of_several: bool = PrivateAttr(default=False)

    @model_validator(mode="after")
    def _some_target(self) -> Pipeline:
        if (self.target_ is None) == (not self.targets_):
            raise PydanticCustomError("pipeline_target", "give either 'target' or 'targets'")
        return self

    @property
    def name(self) -> str:
        return self.pipeline

    @property
    def label(self) -> str:
        """How commands name it: NAME, or NAME:TARGET for a part of a pipeline with several targets."""
        return f"{self.name}:{self.target}" if self._one_of_several else self.name

    @property
    def targets(self) -> tuple[str, ...]:
        """All targets, in file order."""
        return self.targets_ or (self.target,)

    @property
    def target(self) -> str:
        """The target, of a pipeline that has one: of every `part`."""
        assert self.target_ is not None, "ask for a part of a pipeline with several targets first"
        return self.target_

    def part(self, target: str) -> Pipeline:
        """The pipeline as it runs for one of its targets: that target's tables, with their places in the file."""
        assert target in self.targets, f"{target} is none of {self.targets}"
        tables = tuple(table for table in self.tables if table.targets is None or target in table.targets)
        part = self.model_copy(update={"target_": target, "targets_": (), "tables": tables})
        part._document = self._document
        part._one_of_several = self._one_of_several or len(self.targets) > 1
        return part

    @property
    def file(self) -> str:
        """The file's name, as it was given to `load`."""
        return self._document.file.name if self._document else ""

    @property
    def document(self) -> Document | None:
        return self._document

    def bind(self, document: Document) -> Pipeline:
        """Tell this pipeline and its mappings where they were written. Called once, by load.py."""
        self._document = document
        for index, table in enumerate(self.tables):
            table._pipeline = self.pipeline
            table._default_source = self.source
            table._supersede = self.parked.supersede == "full_image"
            table._document = document
            table._path = ("tables", index)
            named = (
                str(table.to) in self.rules or table.history is not None
            )  # rules for all are not meant for histories
            table._rules_name = str(table.to) if named else EVERYTHING
            table._rules = self.rules.get(table._rules_name)
        return self
