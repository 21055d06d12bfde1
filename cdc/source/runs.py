"""Runs of records → blocks of events: the decoder's way for what is plain.

A run (consecutive records of one partition) is cut into segments of one schema version, decoded in one loop and without
an object per event; what is not plain (tombstones, halves of key changes, truncates, values that are missing or not
exact, unknown schemas, anything unreadable) is left as a record for `Decoder.decode`. Decoding keeps no state;
positions are given later, by `Decoder.settle`, when a segment's turn has come.

Only the payload's bytes are kept: a record's schema is the same bytes for all of a segment. Records that were read a
moment ago are still in the processor's caches, so a run should be short (a few hundred records): with 5,000 at once,
comparing the prefixes alone took three times as long.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec

from cdc.blocks import EventBlock, Image
from cdc.model import ChangeEvent, Position, RawRecord, TopicPartition
from cdc.source.positions import SNAPSHOTS
from cdc.source.schema import Plan
from cdc.source.values import Inexact

_REST = attrgetter("offset", "key", "timestamp_ms")
MakeEvent = Callable[[RawRecord, Plan, Any, Position], ChangeEvent]


class Known(NamedTuple):
    """A schema version met on a topic: its records' bytes up to the payload, and those of their keys."""

    prefix: bytes
    size: int
    key_prefix: bytes | None
    plan: Plan


class Segment:
    """Records of one run and schema version, decoded, without positions yet."""

    __slots__ = ("after", "before", "envelopes", "known", "payloads", "raws")

    def __init__(self, known: Known, raws: Sequence[RawRecord], at: int) -> None:
        """Take plain records from `at` on, up to the first that is not; perhaps none."""
        self.known = known
        self.payloads: list[bytes] = []
        self.envelopes: list[Any] = []
        self.after: list[Image | None] = []
        self.before: list[Image | None] = []
        self._fill(raws, at)
        self.raws = list(raws[at : at + len(self.payloads)])

    def __len__(self) -> int:
        return len(self.payloads)

    def _fill(self, raws: Sequence[RawRecord], at: int) -> None:
        prefix, size, key_prefix, plan = self.known
        if key_prefix is None or not plan.keyed:
            return
        decode, before_image, partial, whole, read = plan.decode, plan.before, plan.whole_partial, plan.whole, plan.read
        afters, befores, payloads, envelopes = self.after, self.before, self.payloads, self.envelopes
        try:
            for number in range(at, len(raws)):
                raw = raws[number]
                value, key = raw.value, raw.key
                if value is None or key is None or raw.headers:
                    break
                if not value.startswith(prefix) or not key.startswith(key_prefix):
                    break
                payload = value[size:-1]
                envelope = decode(payload)
                op, image, gone = envelope.op, envelope.after, None
                if image is None:
                    if op != "d" or envelope.before is None:
                        break
                    gone = before_image(envelope.before)
                elif op == "r":
                    image = read(image)
                elif op == "u" or op == "c":
                    image = partial(image) if op == "u" and envelope.before is None else whole(image)
                else:
                    break
                payloads.append(payload)
                envelopes.append(envelope)
                afters.append(image)
                befores.append(gone)
        except (msgspec.MsgspecError, UnicodeDecodeError, Inexact, ValueError):
            pass  # the decoder of single records says what is wrong with it

    def block(
        self, positions: list[Position], event: Callable[[RawRecord, Plan, Any, Position], ChangeEvent]
    ) -> EventBlock:
        """The first events as a block, as many as there are positions. `event`: makes a single one of an envelope."""
        number, plan, prefix = len(positions), self.known.plan, self.known.prefix
        raws, envelopes, payloads = self.raws[:number], self.envelopes[:number], self.payloads[:number]
        topic, partition = raws[0].topic, raws[0].partition
        offsets, keys, timestamps = zip(*map(_REST, raws), strict=True)

        def record(index: int) -> RawRecord:
            value = b"%s%s}" % (prefix, payloads[index])
            return RawRecord(topic, partition, offsets[index], keys[index], value, (), timestamps[index])

        return EventBlock(
            plan.schema,
            TopicPartition(topic, partition),
            raws[-1].offset + 1,
            positions,
            self.after[:number],
            self.before[:number],
            sum(map(len, payloads)),
            next((time for time in map(_time, reversed(envelopes)) if time is not None), None),
            lambda index: event(record(index), plan, envelopes[index], positions[index]),
            lambda: [envelope.op != "u" for envelope in envelopes],
            lambda: list(map(_time, envelopes)),
            record,
            lambda: [(envelope.op, source_time(envelope.source)) for envelope in envelopes],
        )


def cut(known: Sequence[Known], raws: Sequence[RawRecord]) -> Iterator[Segment | RawRecord | list[RawRecord]]:
    """The run in segments and single records, in order. `known`: the schema versions of its topic, newest first.

    Ends with a list of what is not cut yet: records behind one of an unknown schema, which is known when that was
    decoded.
    """
    at = 0
    while at < len(raws):
        raw = raws[at]
        version = _version(known, raw)
        segment = None if version is None else Segment(version, raws, at)
        if segment:
            at += len(segment.raws)
            yield segment
            continue
        at += 1
        yield raw
        if version is None and raw.value is not None:
            break
    if at < len(raws):
        yield list(raws[at:])


def _version(known: Sequence[Known], raw: RawRecord) -> Known | None:
    value = raw.value
    return None if value is None else next((each for each in known if value.startswith(each.prefix)), None)


def _time(envelope: Any) -> int | None:
    """Commit time of a streamed event; a snapshot's rows are older than its time says."""
    source = envelope.source
    if SNAPSHOTS.get(source.snapshot, "initial"):
        return None
    return source_time(source)


def source_time(source: Any) -> int:
    """The time that a `source` block tells, in µs: of the commit, or of a snapshot's read."""
    time_us: int | None = source.ts_us
    return int(source.ts_ms) * 1000 if time_us is None else time_us
