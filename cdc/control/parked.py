"""Parked records for operators: which there are and what waits behind them, retry, discard.

Records of one key wait in a queue; its first record (the head) is the one that could not be applied. Retrying is the
work of the partition's owner: a command only asks for it and watches. Row values, the key's text among them, stay out
of everything here but `Detail`.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any, Literal

from cdc.control.operate import is_running, opened
from cdc.control.parked_content import content
from cdc.engine.limits import exceeded
from cdc.errors import Usage
from cdc.mapping.model import Pipeline
from cdc.settings import Settings
from cdc.target.operator import Operator, ParkedEntry

POLL_S = 0.1
SETTLE_S = 3.0
"""A request is cleared when its retry begins; a record that is still there this much later was not applied."""
FILTERS = ("reason", "mapping")


@dataclass(frozen=True)
class ParkedRecord:
    """One parked record. `behind`: ids of the records of its key that wait behind it; none unless it is the head."""

    pipeline: str
    id: int
    mapping: str
    where: str
    reason: str
    error: str
    parked_at: str
    retry_requested: bool
    head: bool
    behind: tuple[int, ...]

    @property
    def table(self) -> str:
        """The target table; of one that several sources make, without the source."""
        return self.mapping.partition("/")[2].partition("@")[0]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Detail:
    """A record with its bytes. `key`, `value`, `target_key`: text, None when hidden (or when the record has none).
    `masked`: the value is what the mapping makes of the record's images, because it masks some of their columns."""

    record: ParkedRecord
    headers: tuple[str, ...]
    key_bytes: int
    value_bytes: int
    key: str | None
    value: str | None
    target_key: str | None
    masked: bool = False

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Chosen:
    """Records that a command is about, and what it is about to do with them."""

    action: Literal["retry", "discard"]
    records: tuple[ParkedRecord, ...]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Became:
    """What became of one record: settled (it is not parked any more), parked (with the reason now), waiting (nobody
    has begun: no worker runs, or it is busy)."""

    pipeline: str
    id: int
    state: Literal["settled", "parked", "waiting", "discarded"]
    reason: str = ""


@dataclass(frozen=True)
class Outcome:
    """What a retry or a discard did."""

    records: tuple[Became, ...]

    @property
    def numbers(self) -> dict[str, int]:
        return dict(Counter(each.state for each in self.records))

    @property
    def done(self) -> bool:
        """Nothing of it is parked or waits any more."""
        return all(each.state in ("settled", "discarded") for each in self.records)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"numbers": self.numbers}


@dataclass(frozen=True)
class Requested:
    """A record that somebody asked to set aside and that has not come. `passed`: the watermark was moved past it, so
    that it will not come any more."""

    pipeline: str
    where: str
    who: str
    reason: str
    requested_at: str
    passed: bool

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


# -- looking


def requested(settings: Settings, pipelines: Sequence[Pipeline]) -> list[Requested]:
    """All records that wait to be set aside (`cdc park`). Raises `Transient`, `Terminal`."""
    found = []
    for pipeline in pipelines:
        with opened(settings, pipeline) as operator:
            marks = {each.partition: each.next or 0 for each in operator.partitions()}
            for each in operator.park_requests():
                at = each.requested_at.isoformat(timespec="seconds")
                passed = marks.get(each.partition, 0) > each.offset
                found.append(Requested(pipeline.label, each.where, each.who, each.reason, at, passed))
    return found


def too_much(pipeline: Pipeline, parked: Sequence[ParkedEntry], now_us: int) -> str:
    """The limit that is exceeded; none while a retry is asked for, as for the workers."""
    if any(entry.retry_requested for entry in parked):
        return ""
    heads = [entry.parked_at.timestamp() for entry in parked if entry.reason != "held"]
    return exceeded(pipeline.parked, len(parked), now_us / 1e6 - min(heads) if heads else None) or ""


def parked_records(settings: Settings, pipelines: Sequence[Pipeline]) -> list[ParkedRecord]:
    """All parked records of the pipelines, in the order they were parked. Raises `Transient`, `Terminal`."""
    found = []
    for pipeline in pipelines:
        with opened(settings, pipeline) as operator:
            found += described(pipeline.label, operator.parked())
    return found


def described(pipeline: str, entries: Sequence[ParkedEntry]) -> list[ParkedRecord]:
    """Entries (in the order they were parked) with their places in their keys' queues."""
    queues: dict[tuple[str, str], list[int]] = {}
    for entry in entries:
        queues.setdefault(_queue(entry), []).append(entry.id)
    found = []
    for entry in entries:
        head, *behind = queues[_queue(entry)]
        is_head = head == entry.id
        found.append(
            ParkedRecord(
                pipeline,
                entry.id,
                entry.mapping,
                entry.where,
                entry.reason,
                entry.error,
                entry.parked_at.isoformat(timespec="seconds"),
                entry.retry_requested,
                is_head,
                tuple(behind) if is_head else (),
            )
        )
    return found


def _queue(entry: ParkedEntry) -> tuple[str, str]:
    """Where a record waits; one whose key could not be read waits alone."""
    return entry.mapping, entry.hold or f"#{entry.id}"


By = Literal["reason", "table", "mapping"]


def grouped(records: Iterable[ParkedRecord], by: By) -> list[tuple[str, str, int]]:
    """(pipeline, reason, target table or mapping; number), the largest first."""
    counted = Counter((each.pipeline, getattr(each, by)) for each in records)
    return [(pipeline, name, number) for (pipeline, name), number in counted.most_common()]


def detail(settings: Settings, pipelines: Sequence[Pipeline], parked_id: int, *, values: bool) -> Detail:
    """One record. Raises `Usage` when no pipeline has it, or several do (their targets count each for itself)."""
    (record,) = choose(parked_records(settings, pipelines), ids=[parked_id])
    pipeline = next(each for each in pipelines if each.label == record.pipeline)
    with opened(settings, pipeline) as operator:
        raw = operator.record(parked_id)
        hold = next((entry.hold for entry in operator.parked() if entry.id == parked_id), None)
    if raw is None:
        raise _unknown([parked_id])
    shown = content(settings.keys, pipeline, record.mapping, raw)
    return Detail(
        record,
        tuple(name for name, _ in raw.headers),
        len(raw.key or b""),
        len(raw.value or b""),
        shown.key if values else None,
        shown.value if values else None,
        hold if values else None,
        shown.masked,
    )


# -- choosing


def choose(
    records: Sequence[ParkedRecord], ids: Sequence[int] = (), where: Mapping[str, str] | None = None
) -> list[ParkedRecord]:
    """The records with these ids, or those that fit `where`. Raises `Usage` when neither or both are given, for an
    unknown id and for one that several pipelines have."""
    if bool(ids) == bool(where):
        raise Usage(
            "give either ids or --where", hint="cdc parked list shows the ids; --where reason=…,mapping=… takes many"
        )
    if where:
        return [each for each in records if _fits(each, where)]
    wanted = sorted(set(ids))
    found = [each for each in records if each.id in wanted]
    missing = set(wanted) - {each.id for each in found}
    if missing:
        raise _unknown(sorted(missing))
    if len(found) > len(wanted):
        names = ", ".join(sorted({each.pipeline for each in found}))
        raise Usage(f"several pipelines have parked records with these ids: {names}", hint="say which: --pipeline NAME")
    return found


def read_where(text: str) -> dict[str, str]:
    """'reason=…,mapping=…' in any order. Raises `Usage`."""
    found: dict[str, str] = {}
    for part in filter(None, text.split(",")):
        name, equals, value = part.partition("=")
        if name not in FILTERS or not equals or not value or name in found:
            raise Usage(
                f"--where {text!r}: {part!r} is no condition", hint="--where reason=…,mapping=…, or one of them"
            )
        found[name] = value
    return found


def _fits(record: ParkedRecord, where: Mapping[str, str]) -> bool:
    names = (record.mapping, record.mapping.partition("/")[2], record.table)
    return where.get("reason", record.reason) == record.reason and where.get("mapping", record.mapping) in names


def _unknown(ids: Sequence[int]) -> Usage:
    return Usage(f"no parked record {', '.join(map(str, ids))}", hint="cdc parked list shows those there are")


# -- retry and discard


def retry(settings: Settings, pipelines: Sequence[Pipeline], chosen: Chosen, deadline_s: float) -> Outcome:
    """Ask the owners to retry the keys of these records; watch what becomes of them, up to `deadline_s`.

    A record is asked for once. What nobody began by then is still asked for: the next worker does it.
    """
    with ExitStack() as stack:
        operators = _opened(stack, settings, pipelines, chosen)
        for name, operator in operators.items():
            operator.request_retry(_ids(chosen, name))
        deadline = time.monotonic() + deadline_s
        found = [each for name, operator in operators.items() for each in _watch(operator, name, chosen, deadline)]
    return Outcome(tuple(found))


def discard(settings: Settings, pipelines: Sequence[Pipeline], chosen: Chosen, deadline_s: float) -> Outcome:
    """Remove these records for good; what waited behind them is retried by the owners, watched up to `deadline_s`."""
    found = []
    with ExitStack() as stack:
        for name, operator in _opened(stack, settings, pipelines, chosen).items():
            gone = operator.discard(_ids(chosen, name))
            found += [Became(name, each.id, "discarded") for each in gone]
            _retry_behind(operator, gone, time.monotonic() + deadline_s)
    return Outcome(tuple(found))


def _opened(stack: ExitStack, settings: Settings, pipelines: Sequence[Pipeline], chosen: Chosen) -> dict[str, Operator]:
    names = {each.pipeline for each in chosen.records}
    return {each.label: stack.enter_context(opened(settings, each)) for each in pipelines if each.label in names}


def _ids(chosen: Chosen, pipeline: str) -> list[int]:
    return [each.id for each in chosen.records if each.pipeline == pipeline]


def _watch(operator: Operator, pipeline: str, chosen: Chosen, deadline: float) -> list[Became]:
    pause = threading.Event()
    ids = _ids(chosen, pipeline)
    begun: dict[int, float] = {}
    while True:
        there = {entry.id: entry for entry in operator.parked() if entry.id in ids}
        now = time.monotonic()
        for entry in there.values():
            if not entry.retry_requested:
                begun.setdefault(entry.id, now)
        unsettled = [each for each in there if now - begun.get(each, now) < SETTLE_S]
        if not unsettled or now > deadline or not is_running(operator):
            return [_became(pipeline, parked_id, there.get(parked_id)) for parked_id in ids]
        pause.wait(POLL_S)


def _became(pipeline: str, parked_id: int, entry: ParkedEntry | None) -> Became:
    if entry is None:
        return Became(pipeline, parked_id, "settled")
    return Became(pipeline, parked_id, "waiting" if entry.retry_requested else "parked", entry.reason)


def _retry_behind(operator: Operator, gone: Sequence[ParkedEntry], deadline: float) -> None:
    """See to it that what waited behind discarded records is retried.

    `Operator.discard` asked for it and raised the fences. A worker that runs meets its old fence when it does, reads
    everything again, and has forgotten the request by then: so it is asked once more.
    """
    keys = {_queue(entry) for entry in gone if entry.hold}
    pause = threading.Event()
    asked = time.monotonic()
    while time.monotonic() < deadline and is_running(operator):
        held = [head for head in _heads(operator, keys) if head.reason == "held"]
        if not held:
            return
        if time.monotonic() - asked > SETTLE_S:
            operator.request_retry([head.id for head in held])
            asked = time.monotonic()
        pause.wait(POLL_S)


def _heads(operator: Operator, keys: set[tuple[str, str]]) -> list[ParkedEntry]:
    heads: dict[tuple[str, str], ParkedEntry] = {}
    for entry in operator.parked():
        if _queue(entry) in keys:
            heads.setdefault(_queue(entry), entry)
    return list(heads.values())
