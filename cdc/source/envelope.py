"""RawRecord → ChangeEvent: the hot path.

JsonConverter writes `{"schema":…,"payload":…}`, and everything up to the payload is the same bytes for all records of
one schema version. So a record is compared with the prefixes already met on its topic and only the payload is decoded,
into structs made for that schema. A new prefix is found by a JSON parser, never by searching for bytes.

Here single records; runs of plain ones go through `cdc.source.runs`, which costs half of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import msgspec

from cdc.blocks import EventBlock
from cdc.errors import Poison, Terminal
from cdc.model import ChangeEvent, Op, Position, RawRecord, TableSchema, TopicPartition, Value
from cdc.source.positions import SNAPSHOTS, PositionTracker, Snapshot, SourceKind, restore
from cdc.source.runs import Known, Segment, cut, source_time
from cdc.source.schema import NOT_ROWS, SOURCES, ConnectSchema, Plan, compile_plan
from cdc.source.values import Inexact

PLACEHOLDER = "__debezium_unavailable_value"
KNOWN_SCHEMAS = 32
"""Schema versions remembered per topic; beyond it the one not used for longest is forgotten."""

OPS = {"c": Op.CREATE, "u": Op.UPDATE, "d": Op.DELETE, "r": Op.READ, "t": Op.TRUNCATE}
NEW_KEY, OLD_KEY = "__debezium.newkey", "__debezium.oldkey"


class Skip(msgspec.Struct, frozen=True):
    """A record that is no row event. `reason`: tombstone, heartbeat, transaction, schema_change, message."""

    reason: str


TOMBSTONE = Skip("tombstone")


class Notice(msgspec.Struct, frozen=True):
    """Something the tracker saw that the engine must look into; drained with `Decoder.notices`.

    fell               an event stands before one already seen: a redelivery, or the source was reset
    repeated_snapshot  a table that was captured before is read again: rows before `position` may be gone
    """

    what: Literal["fell", "repeated_snapshot"]
    partition: TopicPartition
    position: Position
    where: str


class PoisonRecord(Poison):
    """A record that cannot become an event, with what is known of it: enough to park it with its key.

    `position`, `schema` and `key` (canonical, in the order of `schema.key`) are None where they could not be read.
    """

    def __init__(
        self,
        what: str,
        *,
        reason: str,
        where: str,
        position: Position | None = None,
        schema: TableSchema | None = None,
        key: tuple[Value, ...] | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(what, reason=reason, where=where, hint=hint)
        self.position = position
        self.schema = schema
        self.key = key


class _Document(msgspec.Struct):
    schema: msgspec.Raw = msgspec.Raw()
    payload: msgspec.Raw = msgspec.Raw()


class _JustSource(msgspec.Struct):
    source: msgspec.Raw


_decode_document = msgspec.json.Decoder(_Document).decode
_decode_schema = msgspec.json.Decoder(ConnectSchema).decode


class Decoder:
    """Decodes the records of one worker. Not for several threads at once: it holds the position trackers.

    `placeholder`: the connectors' `unavailable.value.placeholder`. `standalone`: partitions that were not given a
    tracker get a fresh one of epoch 0 (for previews and tests; an engine gives each its restored one).
    """

    def __init__(self, *, placeholder: str = PLACEHOLDER, standalone: bool = False) -> None:
        self._placeholder = placeholder
        self._standalone = standalone
        self._known: dict[str, list[Known]] = {}
        self._trackers: dict[tuple[str, int], PositionTracker] = {}
        self._notices: dict[tuple[str, TopicPartition], Notice] = {}

    # -- trackers

    def follow(self, partition: TopicPartition, tracker: PositionTracker) -> None:
        """Use this tracker for a partition's next records."""
        self._trackers[partition] = tracker

    def forget(self, partition: TopicPartition) -> None:
        self._trackers.pop(partition, None)

    def tracker(self, partition: TopicPartition) -> PositionTracker | None:
        """The partition's tracker; its `state()` belongs to the records decoded so far."""
        return self._trackers.get(partition)

    def notices(self) -> list[Notice]:
        """What was noticed since the last call: the first of each kind per partition."""
        if not self._notices:
            return []
        found = list(self._notices.values())
        self._notices.clear()
        return found

    # -- records

    def decode(self, raw: RawRecord, position: Position | None = None) -> ChangeEvent | Skip:
        """The record's change event, or why it is none.

        `position`: for records decoded again (parked ones): it is taken as it is and no tracker moves.
        Raises `PoisonRecord` (unreadable_record, schemaless, missing_key, unknown_op, value_not_exact), and `Terminal`
        when the schema shows a wrong connector setting or the partition has no tracker.
        """
        value = raw.value
        if value is None:
            return TOMBSTONE
        try:
            key = raw.key
            for known in self._known.get(raw.topic, ()):
                if value.startswith(known.prefix) and (
                    key is None or (known.key_prefix is not None and key.startswith(known.key_prefix))
                ):
                    plan = known.plan
                    try:
                        envelope = plan.decode(value[known.size : -1])
                    except (msgspec.MsgspecError, UnicodeDecodeError):
                        envelope = self._decode_slowly(raw, value, plan)
                    return self._event(raw, plan, envelope, position)
            learned = self._learn(raw, value)
            if isinstance(learned, Skip):
                return learned
            return self._event(raw, learned, self._decode_slowly(raw, value, learned), position)
        except PoisonRecord as poison:
            self._name_row(raw, poison)
            raise

    def cut(self, raws: Sequence[RawRecord]) -> Iterator[Segment | RawRecord | list[RawRecord]]:
        """Consecutive records of one partition, in segments for `settle`, single records for `decode`, and perhaps a
        list to be cut later: each must be settled, decoded or cut in this order."""
        return cut(self._known.get(raws[0].topic, ()), raws)

    def settle(self, segment: Segment) -> tuple[EventBlock | None, list[RawRecord]]:
        """A segment's events with their positions, and the records from the first one on that has none."""
        raws, plan = segment.raws, segment.known.plan
        positions: list[Position] = []
        before, read_before = None, ""  # the last snapshot read that took a step
        tracker = self._trackers.get((raws[0].topic, raws[0].partition))
        for raw, envelope in zip(raws, segment.envelopes, strict=True):
            source = envelope.source
            snapshot = SNAPSHOTS.get(source.snapshot, "initial")
            if snapshot and snapshot == read_before and tracker is not None and tracker.stands_with(source, before):
                positions.append(positions[-1])
                continue
            try:
                positions.append(self._position(raw, plan, source, snapshot))
            except PoisonRecord:
                break
            before, read_before = source, snapshot
        block = segment.block(positions, self._event) if positions else None
        return block, raws[len(positions) :]

    def _event(self, raw: RawRecord, plan: Plan, envelope: Any, position: Position | None) -> ChangeEvent:
        source = envelope.source
        snapshot = SNAPSHOTS.get(source.snapshot, "initial")
        if position is None:
            position = self._position(raw, plan, source, snapshot)
        op = OPS.get(envelope.op)
        if op is None:
            raise PoisonRecord(
                "the record's operation is none of c, u, d, r, t",
                reason="unknown_op",
                where=raw.where,
                position=position,
                schema=plan.schema,
            )
        before, after = envelope.before, envelope.after
        moved_from = moved_to = None
        if op is Op.TRUNCATE:
            before = after = None
        else:
            if raw.key is None or not plan.keyed:
                raise PoisonRecord(
                    "the record has no key",
                    reason="missing_key",
                    where=raw.where,
                    position=position,
                    schema=plan.schema,
                    hint="give the table a primary key, or set message.key.columns in the connector's configuration",
                )
            if raw.headers and not snapshot and (op is Op.CREATE or op is Op.DELETE):
                moved_from, moved_to = self._moves(raw, plan)
        try:
            if before is not None:
                before = plan.before(before)
            if after is not None:
                if op is Op.READ:
                    after = plan.read(after)
                elif (op is Op.UPDATE and before is None) or moved_from is not None:
                    after = plan.partial(after)
                else:
                    after = plan.streamed(after)
        except (Inexact, ValueError) as error:
            raise self._inexact(raw, plan, position, error) from error
        if op is Op.DELETE and before is None:
            raise self._inexact(raw, plan, position, ValueError("a delete without a before-image"))
        return ChangeEvent(
            raw,
            plan.schema,
            op,
            position,
            before,
            after,
            snapshot,
            moved_from,
            moved_to,
            source_time(source),
            _transaction(plan.kind, source),
        )

    def _position(self, raw: RawRecord, plan: Plan, source: Any, snapshot: Snapshot) -> Position:
        tracker = self._trackers.get((raw.topic, raw.partition))
        if tracker is None:
            tracker = self._new_tracker(raw, plan.kind)
        if tracker.kind != plan.kind:
            raise Terminal(
                f"the topic carries {plan.kind} events, but its stored positions are of {tracker.kind}",
                where=raw.where,
                hint="the topic was taken over by another source: re-load it under a new topic.prefix",
            )
        try:
            step = tracker.step(source, snapshot)
        except (ValueError, TypeError) as error:
            raise PoisonRecord(
                f"the record's source block holds no position: {error}", reason="unreadable_record", where=raw.where
            ) from error
        if step.fell or step.repeated_snapshot:
            self._notice(raw, "fell" if step.fell else "repeated_snapshot", step.position)
        return step.position

    def _new_tracker(self, raw: RawRecord, kind: SourceKind) -> PositionTracker:
        if not self._standalone:
            raise Terminal("records of a partition that has no position tracker", where=raw.where)
        tracker = self._trackers[raw.topic, raw.partition] = restore(kind)
        return tracker

    def _notice(self, raw: RawRecord, what: Literal["fell", "repeated_snapshot"], position: Position) -> None:
        partition = TopicPartition(raw.topic, raw.partition)
        self._notices.setdefault((what, partition), Notice(what, partition, position, raw.where))

    def _moves(self, raw: RawRecord, plan: Plan) -> tuple[tuple[Value, ...] | None, tuple[Value, ...] | None]:
        moved_from = moved_to = None
        for name, content in raw.headers:
            if name == NEW_KEY:
                moved_to = self._header_key(raw, plan, content)
            elif name == OLD_KEY:
                moved_from = self._header_key(raw, plan, content)
        return moved_from, moved_to

    def _header_key(self, raw: RawRecord, plan: Plan, content: bytes) -> tuple[Value, ...]:
        try:
            # Connect's default header converter (SimpleHeaderConverter) writes the struct as JSON without a schema
            return plan.decode_key(bytes(_decode_document(content).payload) or content)
        except (msgspec.MsgspecError, ValueError, Inexact) as error:
            raise Terminal(
                "the header with the other half of a key change cannot be read",
                where=raw.where,
                hint="set header.converter=org.apache.kafka.connect.json.JsonConverter in the connector's config",
            ) from error

    def _inexact(self, raw: RawRecord, plan: Plan, position: Position, error: Exception) -> PoisonRecord:
        return PoisonRecord(
            f"a value did not arrive exactly: {error}",
            reason="value_not_exact",
            where=raw.where,
            position=position,
            schema=plan.schema,
            key=self._key(raw, plan),
        )

    def _name_row(self, raw: RawRecord, poison: PoisonRecord) -> None:
        """Say which row an unreadable record is of, by Kafka's key: later changes of that row must wait behind it.

        Not possible before anything of its topic was read: the key's columns are those of a schema.
        """
        if poison.key is not None:
            return
        for known in self._known.get(raw.topic, ()):
            key = self._key(raw, known.plan) if known.plan.keyed else None
            if key is not None:
                poison.schema, poison.key = known.plan.schema, key
                return

    def _key(self, raw: RawRecord, plan: Plan) -> tuple[Value, ...] | None:
        """The record's key values from Kafka's key, or None when it cannot be read."""
        if raw.key is None:
            return None
        try:
            return plan.decode_key(bytes(_decode_document(raw.key).payload))
        except (msgspec.MsgspecError, ValueError, Inexact):
            return None

    # -- new schemas

    def _learn(self, raw: RawRecord, value: bytes) -> Plan | Skip:
        """Parse a schema that was not met before, and remember it by its bytes."""
        schema_text, payload = self._split(raw, value)
        schema = self._schema(raw, schema_text)
        reason = NOT_ROWS.get(schema.name or "")
        if reason is not None:
            return Skip(reason)
        source_type = _source_type(schema)
        key_prefix, key_schema = (None, None) if raw.key is None else self._key_schema(raw)
        try:
            source = msgspec.json.decode(payload, type=_JustSource).source
            block = msgspec.json.decode(source, type=source_type)
        except msgspec.MsgspecError as error:
            raise _unreadable(raw, error) from error
        plan = compile_plan(schema, key_schema, block, self._placeholder)
        prefix = _prefix(schema_text)
        if value == b"%s%s}" % (prefix, payload):
            versions = self._known.setdefault(raw.topic, [])
            # A truncate has no key: its plan knows none and stands behind those that do.
            versions.insert(len(versions) if raw.key is None else 0, Known(prefix, len(prefix), key_prefix, plan))
            del versions[KNOWN_SCHEMAS:]
        return plan

    def _decode_slowly(self, raw: RawRecord, value: bytes, plan: Plan) -> Any:
        """For records whose bytes after the prefix are not exactly a payload and a brace."""
        try:
            return plan.decode(self._split(raw, value)[1])
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise _unreadable(raw, error) from error

    def _split(self, raw: RawRecord, value: bytes) -> tuple[bytes, bytes]:
        """Schema and payload of a record, as JSON bytes."""
        try:
            document = _decode_document(value)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise _unreadable(raw, error) from error
        if bytes(document.schema) in (b"", b"null") or not bytes(document.payload):
            raise PoisonRecord(
                "the record carries no schema",
                reason="schemaless",
                where=raw.where,
                hint="set value.converter.schemas.enable=true and key.converter.schemas.enable=true",
            )
        return bytes(document.schema), bytes(document.payload)

    def _schema(self, raw: RawRecord, text: bytes) -> ConnectSchema:
        try:
            return _decode_schema(text)
        except msgspec.MsgspecError as error:
            raise _unreadable(raw, error) from error

    def _key_schema(self, raw: RawRecord) -> tuple[bytes, ConnectSchema]:
        assert raw.key is not None
        text = self._split(raw, raw.key)[0]
        return _prefix(text), self._schema(raw, text)


def _prefix(schema: bytes) -> bytes:
    """What JsonConverter writes before the payload."""
    return b'{"schema":%s,"payload":' % schema


def _source_type(schema: ConnectSchema) -> type[Any]:
    block = schema.child("source")
    found = SOURCES.get((block.name or "") if block is not None else "")
    if found is None:
        raise Terminal(
            f"records of schema {schema.name} are no change events of a known connector",
            hint="remove transforms (such as ExtractNewRecordState) from the connector's configuration",
        )
    return found[1]


def _transaction(kind: str, source: Any) -> str | None:
    """An id that all events of one source transaction share."""
    if kind == "mariadb":
        gtid: str | None = source.gtid
        return gtid
    return str(source.txId) if source.txId is not None else None


def _unreadable(raw: RawRecord, error: Exception) -> PoisonRecord:
    """msgspec's messages name places and types, never values; other texts are not repeated."""
    detail = str(error) if isinstance(error, msgspec.ValidationError) else "it is not valid JSON"
    return PoisonRecord(f"the record cannot be read: {detail}", reason="unreadable_record", where=raw.where)
