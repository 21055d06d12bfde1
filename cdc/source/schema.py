"""From a record's embedded Connect schema to a compiled plan: typed structs for msgspec, and functions that turn a row
into a tuple of canonical values. Made once per schema version; nothing here runs per record.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from typing import Any, Literal

import msgspec

from cdc.errors import Terminal
from cdc.model import UNAVAILABLE, Column, TableSchema, Value
from cdc.source import types_mariadb, types_postgres
from cdc.source.types import REFUSED, Resolved
from cdc.source.values import Field, Inexact, Wire

Values = tuple[Value, ...]

_versions = itertools.count(1)


class ConnectSchema(msgspec.Struct, omit_defaults=True):
    """Connect's schema as JsonConverter writes it."""

    type: str
    optional: bool = False
    name: str | None = None
    field: str = ""
    parameters: dict[str, str] = {}
    fields: list[ConnectSchema] = []
    items: ConnectSchema | None = None

    def child(self, name: str) -> ConnectSchema | None:
        return next((field for field in self.fields if field.field == name), None)

    def as_field(self) -> Field:
        return Field(
            name=self.field,
            connect=self.type,
            semantic=self.name or "",
            optional=self.optional,
            parameters=self.parameters,
            element=self.items.as_field() if self.items is not None else None,
        )


class PostgresSource(msgspec.Struct, gc=False):
    """What the decoder reads of PostgreSQL's `source` block."""

    name: str
    schema: str
    table: str
    ts_ms: int
    ts_us: int | None = None
    snapshot: str | None = None
    sequence: str | None = None
    lsn: int | None = None
    txId: int | None = None


class MariadbSource(msgspec.Struct, gc=False):
    """What the decoder reads of MariaDB's `source` block."""

    name: str
    db: str
    ts_ms: int
    table: str | None = None
    ts_us: int | None = None
    snapshot: str | None = None
    file: str | None = None
    pos: int | None = None
    row: int | None = None
    gtid: str | None = None


SOURCES: dict[str, tuple[Literal["postgresql", "mariadb"], type[Any]]] = {
    "io.debezium.connector.postgresql.Source": ("postgresql", PostgresSource),
    "io.debezium.connector.mariadb.Source": ("mariadb", MariadbSource),
    "io.debezium.connector.mysql.Source": ("mariadb", MariadbSource),
}
NOT_ROWS = {
    "io.debezium.connector.common.Heartbeat": "heartbeat",
    "io.debezium.connector.common.TransactionMetadataValue": "transaction",
    "io.debezium.connector.postgresql.MessageValue": "message",
    "io.debezium.connector.mariadb.SchemaChangeValue": "schema_change",
    "io.debezium.connector.mysql.SchemaChangeValue": "schema_change",
}
"""Schema names of records that are no row events, and the reason under which they are counted."""


class Plan(msgspec.Struct, frozen=True):
    """How to decode the records of one schema version.

    `streamed`, `read`: a decoded row → canonical values; they raise `Inexact`. `before` gives UNAVAILABLE for what is
    not exact, since a before-image only informs. `partial` is `streamed` for events that do not carry unchanged large
    values: it also refuses nulls that may stand for one.
    """

    kind: Literal["postgresql", "mariadb"]
    namespace: str
    schema: TableSchema
    keyed: bool
    decode: Callable[[bytes | memoryview], Any]
    streamed: Callable[[Any], Values]
    partial: Callable[[Any], Values]
    whole: Callable[[Any], Values]
    whole_partial: Callable[[Any], Values]
    read: Callable[[Any], Values]
    before: Callable[[Any], Values]
    key_of: Callable[[Values], Values]
    decode_key: Callable[[bytes], Values]


def compile_plan(value: ConnectSchema, key: ConnectSchema | None, source: Any, placeholder: str) -> Plan:
    """The plan of an envelope schema. `source` is the decoded block of the first record; it names the table.

    Raises `Terminal` when a column's form shows that a connector setting gives inexact values.
    """
    row, block = value.child("after"), value.child("source")
    if row is None or block is None or (block.name or "") not in SOURCES:
        raise Terminal("the record's schema is no Debezium change event", hint="remove transforms from the connector")
    kind, source_type = SOURCES[block.name or ""]
    key_names = {field.field for field in key.fields} if key is not None else set()
    fields = [field.as_field() for field in row.fields]
    resolved = [_resolve(kind, field) for field in fields]
    columns = tuple(
        Column(field.name, one.type, field.optional, field.name in key_names)
        for field, one in zip(fields, resolved, strict=True)
    )
    namespace = source.schema if kind == "postgresql" else source.db
    schema = TableSchema(source.name, kind, namespace, source.table or "", columns, next(_versions))
    row_type, unpack = _row_type(columns, [one.wire for one in resolved])
    rows = _Rows(columns, [one.wire for one in resolved], unpack, placeholder if kind == "postgresql" else None)
    envelope = msgspec.defstruct(
        "Envelope",
        [
            ("op", str),
            ("source", source_type),
            ("before", row_type | None, None),
            ("after", row_type | None, None),
        ],
        gc=False,
    )
    indexes = [index for index, column in enumerate(columns) if column.key]
    return Plan(
        kind=kind,
        namespace=namespace,
        schema=schema,
        keyed=bool(schema.key),
        decode=msgspec.json.Decoder(envelope).decode,
        streamed=rows.function(),
        partial=rows.function(partial=True),
        whole=rows.function(whole=True),
        whole_partial=rows.function(partial=True, whole=True),
        read=rows.function(reads=True),
        before=rows.lenient(),
        key_of=_picker(indexes),
        decode_key=_key_decoder(key, columns, resolved),
    )


def _resolve(kind: str, field: Field) -> Resolved:
    return types_postgres.resolve(field) if kind == "postgresql" else types_mariadb.resolve(field)


def _picker(indexes: list[int]) -> Callable[[Values], Values]:
    return lambda values: tuple([values[index] for index in indexes])


def _key_decoder(
    key: ConnectSchema | None, columns: tuple[Column, ...], resolved: list[Resolved]
) -> Callable[[bytes], Values]:
    """Key payload as JSON bytes → canonical key values in the order of `TableSchema.key`."""
    places = [index for index, column in enumerate(columns) if column.key]
    chosen = [columns[index] for index in places]
    if key is None or not chosen:
        return lambda payload: ()
    row_type, unpack = _row_type(tuple(chosen), [resolved[index].wire for index in places])
    convert = _Rows(tuple(chosen), [resolved[index].wire for index in places], unpack, None).function()
    decode = msgspec.json.Decoder(row_type).decode
    return lambda payload: convert(decode(payload))


# --- rows ----------------------------------------------------------------------------------------------------------

_UNNAMEABLE = re.compile(r'["\\\x00-\x1f]')


def _row_type(columns: tuple[Column, ...], wires: list[Wire]) -> tuple[Any, Callable[[Any], tuple[Any, ...]]]:
    """A msgspec type for a row, and the function that gives its values in the order of `columns`.

    A struct with positional access; its fields are numbered since column names need not be identifiers. msgspec cannot
    name a field with quotes, backslashes or control characters: such a table pays for dicts.
    """
    names = [column.name for column in columns]
    annotations = [wire.annotation if wire is REFUSED else wire.annotation | None for wire in wires]
    if any(_UNNAMEABLE.search(name) for name in names):
        decoders = [msgspec.json.Decoder(annotation).decode for annotation in annotations]
        pairs = list(zip(names, decoders, strict=True))
        return dict[str, msgspec.Raw], lambda row: tuple([decode(row[name]) for name, decode in pairs])
    fields = [(f"c{index}", annotation) for index, annotation in enumerate(annotations)]
    rename = {f"c{index}": name for index, name in enumerate(names)}
    return msgspec.defstruct("Row", fields, rename=rename, gc=False), msgspec.structs.astuple


class _Rows:
    """Generates the functions that turn a decoded row into canonical values.

    One expression per column, so that a value which is canonical as it arrives costs no call.
    """

    def __init__(
        self,
        columns: tuple[Column, ...],
        wires: list[Wire],
        unpack: Callable[[Any], tuple[Any, ...]],
        placeholder: str | None,
    ) -> None:
        self._columns = columns
        self._wires = wires
        self._unpack = unpack
        self._placeholder = placeholder

    def function(self, *, reads: bool = False, partial: bool = False, whole: bool = False) -> Callable[[Any], Values]:
        """`whole`: a row that lacks a value raises `Inexact` instead of holding UNAVAILABLE."""
        names: dict[str, Any] = {"unpack": self._unpack, "UNAVAILABLE": UNAVAILABLE, "ambiguous": _ambiguous}
        names["lacking"] = _lacking
        missing = "lacking()" if whole else "UNAVAILABLE"
        expressions = [
            self._expression(index, names, missing, reads=reads, partial=partial) for index in range(len(self._wires))
        ]
        variables = [f"v{index}" for index in range(len(self._wires))]
        if expressions == variables or not variables:
            return self._unpack
        code = (
            f"def convert(row):\n    ({', '.join(variables)},) = unpack(row)\n    return ({', '.join(expressions)},)\n"
        )
        exec(code, names)
        function: Callable[[Any], Values] = names["convert"]
        return function

    def _expression(self, index: int, names: dict[str, Any], missing: str, *, reads: bool, partial: bool) -> str:
        wire, column, value = self._wires[index], self._columns[index], f"v{index}"
        if wire is REFUSED:
            return "UNAVAILABLE"
        convert, passes = wire.for_reads() if reads else (wire.convert, wire.passes)
        result = value
        if convert is not None:
            names[f"f{index}"] = convert
            stays = f"{value} is None" + (f" or {passes.format(v=value)}" if passes else "")
            result = f"({value} if {stays} else f{index}({value}))"
        if reads or column.key or self._placeholder is None:
            return result
        if wire.unavailable is not None:
            names[f"p{index}"] = wire.unavailable(self._placeholder)
            return f"({missing} if {value} == p{index} else {result})"
        if wire.ambiguous and partial:
            names[f"n{index}"] = column.name
            return f"(ambiguous(n{index}) if {value} is None else {result})"
        return result

    def lenient(self) -> Callable[[Any], Values]:
        """For before-images: UNAVAILABLE where a value is not exact.

        Under any REPLICA IDENTITY but FULL all columns outside the identity arrive as null, which says nothing: when
        every column outside the key is null they are all UNAVAILABLE.
        """
        strict = self.function()
        singles = [
            _Rows((column,), [wire], lambda value: (value,), self._placeholder).function()
            for column, wire in zip(self._columns, self._wires, strict=True)
        ]
        others = [index for index, column in enumerate(self._columns) if not column.key]
        postgres, unpack = self._placeholder is not None, self._unpack

        def one(single: Callable[[Any], Values], value: Any) -> Value:
            try:
                return single(value)[0]
            except Inexact:
                return UNAVAILABLE

        def convert(row: Any) -> Values:
            try:
                values = strict(row)
            except Inexact:
                values = tuple([one(single, value) for single, value in zip(singles, unpack(row), strict=True)])
            if postgres and others and all(values[index] is None or values[index] is UNAVAILABLE for index in others):
                hidden = list(values)
                for index in others:
                    hidden[index] = UNAVAILABLE
                return tuple(hidden)
            return values

        return convert


def _lacking() -> Value:
    raise Inexact("the source did not send every value")


def _ambiguous(name: str) -> Value:
    raise Inexact(f"null in {name} may stand for an unchanged large value: set REPLICA IDENTITY FULL on the table")
