"""The words of the engine as frozen values: columns, positions, change events, mapped rows, batches.

Everything here is plain data. Values of columns are *canonical*: one exact Python form for each `Kind`, the same for
every source, so that a target only has to know kinds, never where a value came from:

    kind          Python value                                          beyond the ordinary
    BOOLEAN       bool
    INTEGER       int (any size: an unsigned 64-bit fits)
    DECIMAL       str, PostgreSQL's numeric text: '1.10'                'NaN', 'Infinity', '-Infinity'
    FLOAT32/64    float                                                 nan, inf, -inf, -0.0
    TEXT          str
    BYTES         bytes
    BITS          str of '0' and '1', most significant first
    DATE          int, days since 1970-01-01, proleptic Gregorian       POS_INFINITY, NEG_INFINITY
    TIME          int, microseconds since midnight (86400000000 = 24:00; MariaDB: signed, may exceed a day)
    TIMESTAMP     int, microseconds since 1970-01-01 00:00 (no zone)    POS_INFINITY, NEG_INFINITY
    TIMESTAMPTZ   str, ISO 8601 in UTC ending in Z, as Debezium writes  'infinity', '-infinity';
                  it ('2026-11-23T09:58:02.000001Z')                    year 0000 is 1 BC, '-0001-…', '+10000-…'
    INTERVAL      str, ISO 8601 with signed fields ('P0Y-1M-2DT-3H-4M-5.000006S')
    UUID          str, canonical lower case
    JSON          str, JSON text
    LITERAL       str, the text form that PostgreSQL's input function of the source's type reads (inet, ranges, point…)
    ARRAY         list of the element's canonical values, None for NULL elements

NULL is None. `UNAVAILABLE` is not None: it says the source did not send the value and the target must keep its own.
"""

from __future__ import annotations

from enum import Enum, StrEnum
from struct import Struct
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import msgspec


class _Unavailable(Enum):
    """A value the source did not send (an unchanged large value). Falsy checks are a bug: compare with `is`."""

    UNAVAILABLE = "UNAVAILABLE"

    def __repr__(self) -> str:
        return "UNAVAILABLE"


UNAVAILABLE: Final = _Unavailable.UNAVAILABLE
Value: TypeAlias = Any  # a canonical value, None, or UNAVAILABLE

POS_INFINITY: Final = 1 << 70  # dates and timestamps: later than any real one
NEG_INFINITY: Final = -(1 << 70)


class Kind(StrEnum):
    """What a column's canonical values look like (see the table above)."""

    BOOLEAN = "boolean"
    INTEGER = "integer"
    DECIMAL = "decimal"
    FLOAT32 = "float32"
    FLOAT64 = "float64"
    TEXT = "text"
    BYTES = "bytes"
    BITS = "bits"
    DATE = "date"
    TIME = "time"
    TIMESTAMP = "timestamp"
    TIMESTAMPTZ = "timestamptz"
    INTERVAL = "interval"
    UUID = "uuid"
    JSON = "json"
    LITERAL = "literal"
    ARRAY = "array"


class ColumnType(msgspec.Struct, frozen=True):
    """The type of a column as a source has it.

    `native` is the source's own type name, lower case without modifiers ('varchar', 'int8', 'bigint unsigned').
    `length`: characters, bytes or bits; for DECIMAL the precision, with `scale`. `element` only for ARRAY.
    """

    kind: Kind
    native: str
    length: int | None = None
    scale: int | None = None
    element: ColumnType | None = None


class Column(msgspec.Struct, frozen=True):
    """One column of a source table, as one schema version of its topic describes it."""

    name: str
    type: ColumnType
    nullable: bool = True
    key: bool = False


class TableSchema(msgspec.Struct, frozen=True):
    """One schema version of one source table. `columns` is the order of `ChangeEvent.before` and `.after`.

    `version` is a small number, unique among the schemas a process has met and never stored: a cheap key for plans.
    """

    source: str  # the connector's topic.prefix
    kind: Literal["postgresql", "mariadb"]
    namespace: str  # PostgreSQL schema, MariaDB database
    table: str
    columns: tuple[Column, ...]
    version: int

    @property
    def key(self) -> tuple[str, ...]:
        """Names of the key columns, in the order of `columns`; empty when the table has no key."""
        return tuple(column.name for column in self.columns if column.key)


class Op(StrEnum):
    CREATE = "c"
    UPDATE = "u"
    DELETE = "d"
    READ = "r"
    TRUNCATE = "t"


_PACKED = Struct(">HQQI")


class Position(NamedTuple):
    """Where in a source's log a change stands. Compares as a tuple, the epoch first.

    PostgreSQL: major = commit part, minor = lsn, row = 0. MariaDB: major = binlog file number, minor = pos, row = row.
    A position orders changes of *one source row*; equal positions apply in topic order, so it is no event identity.
    """

    epoch: int
    major: int
    minor: int
    row: int = 0

    @property
    def place(self) -> Position:
        """The place in the log without its major part: the same for both halves of a key change, which may stand in
        different partitions and, in the first transaction after a snapshot, get different major parts there."""
        return self._replace(major=0)

    def pack(self) -> bytes:
        """22 bytes whose order as bytes is the order of positions: how targets store and compare it."""
        return _PACKED.pack(*self)

    @classmethod
    def unpack(cls, packed: bytes) -> Position:
        return cls(*_PACKED.unpack(packed))


class TopicPartition(NamedTuple):
    topic: str
    partition: int


class RawRecord(msgspec.Struct, frozen=True):
    """A Kafka record as it came. `timestamp_ms` is Kafka's own time, not the source's commit time."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    timestamp_ms: int = 0

    @property
    def where(self) -> str:
        return f"{self.topic}:{self.partition}:{self.offset}"


NO_RECORD: Final = RawRecord("", 0, 0, None, None)
"""Of rows that no record brought: keys that are looked for, rows that were worked out."""


class ChangeEvent(msgspec.Struct, frozen=True):
    """One typed row change.

    `before`/`after` follow `schema.columns`; None where Debezium sent none (before of a create, after of a delete, both
    of a truncate). `snapshot`: '' for streamed, 'initial', or 'incremental'. When the source changed a row's key, the
    create carries `moved_from` and the delete `moved_to`: the other half's key values in the order of `schema.key`.
    `time_us`: commit time at the source in µs since the epoch (snapshot: the snapshot's time).
    """

    record: RawRecord
    schema: TableSchema
    op: Op
    position: Position
    before: tuple[Value, ...] | None
    after: tuple[Value, ...] | None
    snapshot: Literal["", "initial", "incremental"] = ""
    moved_from: tuple[Value, ...] | None = None
    moved_to: tuple[Value, ...] | None = None
    time_us: int | None = None
    transaction: str | None = None

    @property
    def created(self) -> bool:
        """Whether the row is new at the source, or was read there by a snapshot: nobody need have it yet."""
        return self.op is Op.CREATE or self.op is Op.READ


class TargetColumn(msgspec.Struct, frozen=True):
    """One column of a target table: canonical values of `type.kind` arrive for it. `sql_type`: the target's type text,
    or None for the target's default for `type`."""

    name: str
    type: ColumnType
    sql_type: str | None = None
    nullable: bool = True


class DeletePolicy(StrEnum):
    DELETE = "delete"
    SOFT = "soft"  # set `TargetTable.soft_delete` to true, keep the row
    IGNORE = "ignore"


class ConflictType(StrEnum):
    """What can be wrong between a change and the target as it is (defined in `cdc.rules`)."""

    INSERT_EXISTS = "insert_exists"
    UPDATE_DIFFERING = "update_differing"
    UPDATE_MISSING = "update_missing"
    UPDATE_ORIGIN_DIFFERS = "update_origin_differs"
    UPDATE_RECENTLY_DELETED = "update_recently_deleted"
    DELETE_MISSING = "delete_missing"
    DELETE_RECENTLY_UPDATED = "delete_recently_updated"
    KEY_EXISTS = "key_exists"
    SECOND_UNIQUE_VIOLATION = "second_unique_violation"
    MULTIPLE_UNIQUE_CONFLICTS = "multiple_unique_conflicts"
    STALE = "stale"
    FOREIGN_KEY_MISSING = "foreign_key_missing"
    VALUE_OUT_OF_RANGE = "value_out_of_range"
    TARGET_COLUMN_MISSING = "target_column_missing"
    SOURCE_COLUMN_MISSING = "source_column_missing"
    TARGET_TABLE_MISSING = "target_table_missing"


class Action(StrEnum):
    """What is done about a conflict (defined in `cdc.rules`)."""

    SOURCE_WINS = "source_wins"
    TARGET_WINS = "target_wins"
    UPDATE_OR_INSERT = "update_or_insert"
    INSERT_OR_SKIP = "insert_or_skip"
    UPDATE_IF_NEWER = "update_if_newer"
    NEWEST = "newest"
    OLDEST = "oldest"
    MERGE = "merge"
    SKIP = "skip"
    PARK = "park"
    ERROR = "error"


class Combine(StrEnum):
    """How the value of an existing row and the incoming one make the new one."""

    SOURCE_WINS = "source_wins"
    TARGET_WINS = "target_wins"  # what is there stays; written on insert only
    KEEP_IF_NULL = "keep_if_null"  # a NULL never takes a value's place
    FILL_NULLS = "fill_nulls"  # a value that is there stays; a NULL is filled
    MAX = "max"
    MIN = "min"
    NEWEST = "newest"  # the incoming one, unless the version column of the row is higher
    OLDEST = "oldest"  # the incoming one, when the version column of the row is higher


class Unit(msgspec.Struct, frozen=True):
    """Columns (their indexes) that are combined together, all in the same way; `version`: the column that decides."""

    combine: Combine
    columns: tuple[int, ...]
    version: int | None = None


class Detect(StrEnum):
    """How it is found out that somebody else changed a row."""

    POSITION = "position"
    CHANGED_COLUMNS = "changed_columns"
    ALL_COLUMNS = "all_columns"
    VERSION = "version"
    COMMIT_TIME = "commit_time"


class Rules(msgspec.Struct, frozen=True):
    """Conflict rules of a target table where one source row makes one target row; what they mean: `cdc.rules`.

    `version`: the index of the column that `Detect.VERSION` compares. `compared`: the columns of `before` images that
    the others compare. `units`: every column that is not simply replaced is in exactly one.
    """

    detect: Detect = Detect.POSITION
    version: int | None = None
    compared: tuple[int, ...] = ()
    units: tuple[Unit, ...] = ()
    on: tuple[tuple[ConflictType, Action], ...] = ()
    max_skew_us: int = 60_000_000

    @property
    def reads_before(self) -> bool:
        """Whether changes are compared by their before images."""
        return self.detect in (Detect.CHANGED_COLUMNS, Detect.ALL_COLUMNS)


class TruncatePolicy(StrEnum):
    """What a TRUNCATE of the source table does."""

    APPLY = "apply"
    IGNORE = "ignore"
    REFUSE = "refuse"  # the pipeline stops
    PARK = "park"  # it is set aside by itself; the table's rows go on


class Contributes(msgspec.Struct, frozen=True):
    """Of a table whose rows are contributions: several sources make one row of the target table.

    `mapping` is that table's stable name; `contributor` this source's name among its `sources`. The key's first `width`
    columns are the target row's key; the others, which the target table does not have, tell apart source rows that
    meet in one target row. `soft_delete`: the column that marks rows which no source has any more; None: they go.
    """

    mapping: str
    contributor: str
    width: int
    soft_delete: str | None = None


GONE: Final = ("d", "t", "s")
"""The operations in a history after which a row is not there: deleted, truncated, swept."""


class History(msgspec.Struct, frozen=True):
    """Of a table that keeps one row a change, not one a source row: names of the columns that say so.

    `operation`: a change's `Op` (or 's': a sweep found the row gone); `at`: its time at the source; `position`: its
    packed position. These are the last of the table's columns, and `position` and `operation` the last of its key: what
    stands before them is the row's own key. `valid_to`, `current`: where versions are kept, the columns which the
    target works out from all changes of a key; they are not among the table's columns.
    """

    operation: str
    at: str
    position: str
    valid_to: str | None = None
    current: str | None = None

    @property
    def versions(self) -> bool:
        return self.valid_to is not None


HISTORY_KEYS, HISTORY_COLUMNS = 2, 3
"""How many of a history's key columns and columns tell about the change."""


class TargetTable(msgspec.Struct, frozen=True):
    """What a compiled mapping writes: one table, its columns (key columns included) and its key.

    `mapping` is the stable name 'pipeline/table' under which state is kept. `partials`: some column may arrive
    UNAVAILABLE. The soft-delete column, a boolean, is not among `columns`. `rules`: None for a table whose changes meet
    no rule; then a change that passes the guard is written as it is. `supersede`: a later whole image of a key
    takes the place of its parked changes, whatever they were parked for. `contributes`: its rows are not the target
    table's, but contributions to them. `history`: its rows are changes.
    """

    mapping: str
    namespace: str
    name: str
    columns: tuple[TargetColumn, ...]
    key: tuple[str, ...]
    on_delete: DeletePolicy = DeletePolicy.DELETE
    soft_delete: str | None = None
    partials: bool = False
    rules: Rules | None = None
    on_truncate: TruncatePolicy = TruncatePolicy.APPLY
    supersede: bool = False
    contributes: Contributes | None = None
    history: History | None = None

    @property
    def key_indexes(self) -> tuple[int, ...]:
        names = [column.name for column in self.columns]
        return tuple(names.index(name) for name in self.key)


class RowOp(StrEnum):
    UPSERT = "upsert"
    DELETE = "delete"
    TRUNCATE = "truncate"


class MappedRow(msgspec.Struct, frozen=True):
    """What one change event says about one row of one target table.

    `values` follows `TargetTable.columns` (None for deletes and truncates) and may hold UNAVAILABLE: then it is a
    partial image. `key`: values of the key columns, in `TargetTable.key` order (() for a truncate).
    `moved_from`/`moved_to`: target keys of the other half of a key change.

    Only looked at where a table has rules: `created`: the row is new at the source, or was read there by a snapshot, so
    the target need not have it. `before`: the row before the change, UNAVAILABLE where it is not compared; None when
    the change came without it.

    `filtered`: the target may well not have the row, because the mapping's filter left it out: a delete of what is
    outside of the filter, or a partial image that does not tell whether it is inside, which is only for a row that is
    there.
    """

    op: RowOp
    key: tuple[Value, ...]
    values: tuple[Value, ...] | None
    position: Position
    record: RawRecord
    snapshot: Literal["", "initial", "incremental"] = ""
    moved_from: tuple[Value, ...] | None = None
    moved_to: tuple[Value, ...] | None = None
    time_us: int | None = None
    created: bool = False
    before: tuple[Value, ...] | None = None
    filtered: bool = False

    @property
    def partial(self) -> bool:
        return self.values is not None and UNAVAILABLE in self.values


class Outcome(StrEnum):
    """What was decided about one (record, mapping)."""

    APPLIED = "applied"
    SUPERSEDED = "superseded"  # a newer change of the same key in the same batch took its place
    SKIPPED = "skipped"  # with a reason: stale, filtered, ignored_delete, tombstone…
    PARKED = "parked"  # with a reason: set aside, or held behind a parked one of its key


class Seen(msgspec.Struct, frozen=True):
    """The values between which a conflict was decided, as texts by column, where they differ: the row before, the
    change, the row afterwards. None: there is no such row, or nobody looked."""

    before: dict[str, str | None] | None = None
    incoming: dict[str, str | None] | None = None
    resulting: dict[str, str | None] | None = None


class Conflict(msgspec.Struct, frozen=True):
    """A conflict that was met, and the rule's word on it. `columns`: those that differ, where that is known. `seen`: of
    the first of its type in a round (`cdc.decisions.KEPT`), where the target told."""

    type: ConflictType
    action: Action
    columns: tuple[str, ...] = ()
    seen: Seen | None = None


class Decision(msgspec.Struct, frozen=True):
    """The rules' word on one record for one mapping. `reason` is a short stable word ('' for applied; where a conflict
    was met and the change is not parked, 'type:action'); `detail` says more to a person, without row values."""

    outcome: Outcome
    reason: str = ""
    detail: str = ""
    conflict: Conflict | None = None


APPLIED = Decision(Outcome.APPLIED)
STALE = Decision(Outcome.SKIPPED, "stale")


class Write(msgspec.Struct, frozen=True):
    """One key's change in a round of a batch, after folding: what a target's `Transaction.write` receives.

    `row` is the change to make: the rows of `chain`, folded. When it is merged from partial images the result is only
    right if *all* of them pass the guard, so `base` is the position of the first one whose values it still carries
    (`row.position` when nothing was merged). `chain` is empty when there is only `row` itself.
    """

    row: MappedRow
    base: Position
    chain: tuple[MappedRow, ...] = ()

    @property
    def rows(self) -> tuple[MappedRow, ...]:
        """The rows as they came, in order; the last one gave `row` its position."""
        return self.chain or (self.row,)
