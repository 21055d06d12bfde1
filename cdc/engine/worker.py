"""One worker: a member of the pipeline's consumer group, from polled records to durable rows.

Reading, decoding, mapping and encoding happen in this thread, writing in another: while the target works on one batch
the next one is made ready, and the one after it filled. A batch is handed over as soon as the writer is free, so an
idle stream is written at once and a busy one in large batches, without a timer.
"""

from __future__ import annotations

import math
import os
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from dataclasses import dataclass, field

import msgspec
import structlog

from cdc.engine.apply import Batch
from cdc.engine.deployed import Adopted
from cdc.engine.epochs import Ask, Epochs
from cdc.engine.failpoints import Failpoint, nothing
from cdc.engine.intake import Intake, Limits, remapped
from cdc.engine.limits import ParkedLimits
from cdc.engine.meter import Meter, Profile
from cdc.engine.oracle import HEALING
from cdc.engine.order import Held
from cdc.engine.partitions import Partitions
from cdc.engine.plans import Plans
from cdc.engine.sealed import Seal
from cdc.engine.writer import Writer, Written
from cdc.errors import CdcError, Fenced, Terminal
from cdc.keys import NO_KEYS, Keyring
from cdc.mapping.model import Pipeline
from cdc.model import Decision, MappedRow, Outcome, TargetTable, TopicPartition
from cdc.source.consumer import Consumer
from cdc.source.envelope import Decoder, Notice
from cdc.source.positions import SourceKind, restore
from cdc.target.base import Owner, Parked, RepeatedSnapshot, Target, Watermark, WorkerReport
from cdc.target.versions import Deployed

_log = structlog.get_logger(__name__)

RUN = 256
"""Records read and decoded at once: few enough to stay in the processor's caches, and not to be kept whole for long."""
POLL_SECONDS = 0.2  # also how soon a stop request is seen while nothing comes
BUSY_POLL_SECONDS = 0.001  # while the target works: as late may its answer be seen
REPORT_SECONDS = 2.0
HOUSEKEEPING_SECONDS = 1.0
LIMITS_SECONDS = 10.0
DISPLAY_SECONDS = 5.0
GARBAGE_SECONDS = 30.0
PURGE_SECONDS, PURGE_AGAIN_SECONDS = 3600.0, 10.0


@dataclass
class Parts:
    """What a worker is made of. `control` and `target` are two connections to the same target."""

    pipeline: Pipeline
    consumer: Consumer
    target: Target
    control: Target
    source_kinds: dict[str, SourceKind]
    ask_identity: Ask
    placeholder: str
    version: int = 0  # of the mappings, as it was deployed; 0: none ever was
    adopt: Callable[[Deployed], Adopted] | None = None  # None: stays with the mappings it began with
    failpoint: Failpoint = nothing
    clock: Callable[[], float] = time.monotonic
    now_us: Callable[[], int] = field(default=lambda: time.time_ns() // 1000)
    keys: Keyring = NO_KEYS  # of masks and sealed records
    writers: Executor | None = None  # where batches are written; default: a thread of the worker's own


class Worker:
    """Runs until `stop()` or an error. Everything it raises leaves the target consistent."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.version = parts.version
        self.owner = Owner(parts.pipeline.name, parts.pipeline.target)
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        self._consumer = parts.consumer
        self._control = parts.control
        self._decoder = Decoder(placeholder=parts.placeholder)
        self._retry_decoder = Decoder(placeholder=parts.placeholder, standalone=True)  # the writer thread's own
        self._partitions = Partitions(parts.consumer, parts.control, lambda topic: self._plans.source_of(topic))
        self._epochs = Epochs(parts.control, parts.ask_identity, parts.clock)
        self._epoch_of: dict[str, int] = {}
        wait_s = parts.pipeline.parked.wait_hours * 3600.0
        self._writer = Writer(
            parts.target, self.owner, parts.failpoint, parts.writers, parts.clock, wait_s, self._sealed
        )
        self._meter = Meter(parts.clock, parts.now_us)
        self._run_by(parts.pipeline, parts.target)
        self._asked: set[Held] = set()  # keys whose retry waits for the writer
        self._due: dict[str, float] = {}
        self._ready: Batch | None = None  # mapped and encoded, for the writer as soon as it is free
        self.stopping = False
        self.orphaned: Callable[[], bool] = lambda: False  # its supervisor died: leave
        self.collect_garbage: Callable[[], object] = lambda: None  # where that does not happen by itself

    def _run_by(self, pipeline: Pipeline, target: Target) -> None:
        """Mappings, and all that depends on them but the writer."""
        self.pipeline = pipeline
        self._plans = Plans(pipeline, self.parts.keys)
        self._seal = Seal(self.parts.keys, self._plans.masked_topics)
        most = target.capabilities.max_rows or pipeline.batch.rows
        limits = Limits(min(most, pipeline.batch.rows), pipeline.batch.bytes)
        self._intake = Intake(self._decoder, self._plans.of, self._plans.mappings_of, limits, self.parts.failpoint)
        self._limits = ParkedLimits(pipeline, self._control, self.parts.clock)

    def _sealed(self, parked: Parked) -> Parked:
        """As it is stored by the mappings of now."""
        return self._seal.sealed(parked)

    def stop(self) -> None:
        """Finish the batch in flight and leave. Safe to call from a signal handler."""
        self.stopping = True

    def run(self) -> None:
        """Work until `stop()`, then finish what was read. Raises what stops the pipeline."""
        state, problem = "stopped", ""
        try:
            self.begin()
            while not self.stopping:
                self.turn()
            self._finish()
        except CdcError as error:
            state, problem = "failed", str(error)
            raise
        except Exception as error:
            state, problem = "failed", f"a defect in the program: {type(error).__name__}; the worker's log says where"
            raise
        finally:
            self._close(state, problem)

    def profile(self) -> Profile:
        """Where its time went, so far."""
        return self._meter.profile(self.pipeline.name, self.name)

    def begin(self) -> None:
        """Connect, make sure that the sources are the known ones, join the group."""
        self._control.open(self.owner)
        self._writer.open()
        for source in self._plans.sources:
            self._epoch_of[source] = self._epochs.start(source)
        self._subscribe()
        self._report("running")

    def _subscribe(self) -> None:
        self._consumer.subscribe(self._plans.topics, f"cdc.{self.owner.pipeline}.{self.owner.target}")

    def turn(self) -> None:
        """One turn of the loop: rebalances, records, hand-over, housekeeping."""
        try:
            self._rebalance()
            self._read()
            self._hand_over()
            self._housekeeping()
        except Fenced as error:
            _log.warning("fenced: reading the watermarks again", reason=error.what, where=error.where)
            self._start_over()

    # -- partitions

    def _rebalance(self) -> None:
        changes = self._consumer.changes()
        if not changes:
            return
        if changes.revoked or changes.lost:
            self.parts.failpoint("revoked")
        self._give_up()  # what was only read is read again by its new owner
        gone = changes.revoked | changes.lost
        self._partitions.drop(gone)
        for partition in gone:
            self._decoder.forget(partition)
        if changes.assigned:
            self.parts.failpoint("assigned")
        self._take({*self._partitions.mine, *changes.assigned})
        _log.info(
            "partitions assigned",
            owned=[f"{each.topic}:{each.partition}" for each in sorted(self._partitions.owned)],
            given_up=len(gone),
        )

    def _take(self, partitions: Iterable[TopicPartition]) -> None:
        marks = self._partitions.take([each for each in partitions if self._plans.reads(each.topic)])
        self._look_for_version()  # afterwards: who deploys from now on raises the fences that were just taken
        self._follow([mark for mark in marks if mark.partition in self._partitions.owned])

    def _look_for_version(self) -> None:
        """Go on by the version of the mappings that is deployed; nothing is read or on its way now."""
        deployed = self._control.deployed() if self.parts.adopt is not None else None
        if deployed is None or deployed.number == self.version or self.parts.adopt is None:
            return
        topics = self._plans.topics
        adopted = self.parts.adopt(deployed)
        self.parts.failpoint("adopted")
        self.parts.source_kinds = adopted.source_kinds
        self._run_by(adopted.pipeline, adopted.target)
        self._writer.change(adopted.target, adopted.pipeline.parked.wait_hours * 3600.0)
        self.version = deployed.number
        for source in self._plans.sources:
            if source not in self._epoch_of:
                self._epoch_of[source] = self._epochs.start(source)
        if self._plans.topics != topics:
            self._partitions.drop([each for each in self._partitions.mine if not self._plans.reads(each.topic)])
            self._subscribe()
        _log.info("another version of the mappings from here on", version=deployed.number, reason=deployed.reason)

    def _follow(self, marks: Iterable[Watermark]) -> None:
        """Continue at these watermarks: position trackers, and the keys held there."""
        for mark in marks:
            source = self._partitions.owned[mark.partition].source
            tracker = restore(self.parts.source_kinds[source], self._epoch_of[source], mark.tracker)
            self._decoder.follow(mark.partition, tracker)
        owned = list(self._partitions.owned)
        self._writer.held = self._control.parked(owned)
        self._intake.requested = self._control.park_requests(owned)
        self._limits.look()

    def _start_over(self) -> None:
        """Somebody moved or took partitions. Learn first which are still ours, then take those again."""
        self._give_up()
        self._consumer.poll(1, 1, POLL_SECONDS)
        self._rebalance()
        self._take(self._partitions.mine)

    # -- records

    def _read(self) -> None:
        with self._meter.stage("waiting for broker") as stage:
            idle = self._intake.empty and self._nothing_on_its_way
            # kafka-python talks to the broker inside `poll` only: a wait elsewhere would keep records from coming.
            timeout = POLL_SECONDS if idle else BUSY_POLL_SECONDS if self._writer.busy else 0.0
            if self._intake.full:
                return
            records = self._consumer.poll(min(self._intake.room, RUN), self.pipeline.batch.bytes, timeout)
            if not records and not self._writer.busy:
                stage.name = "idle"
        if not records:
            return
        self.parts.failpoint("polled")
        with self._meter.stage("decoding"):
            self._intake.add(records, self._partitions.owned)
        self.parts.failpoint("decoded")

    def _next_batch(self) -> Batch:
        """What was read, with everything settled that was noticed while it was decoded: a position that fell, before
        anything is skipped as stale; a repeated snapshot, in the batch whose trackers will not tell of it again."""
        self._settle(self._decoder.notices())
        return self._intake.take(self._partitions.owned, self._partitions.positions(), self._tracker_state)

    def _settle(self, notices: list[Notice]) -> None:
        for notice in notices:
            if notice.what == "fell":
                source = self._plans.source_of(notice.partition.topic)
                self._epochs.check(source, self._newest(notice.partition))
            else:
                _log.warning("a snapshot of a captured table came again", where=notice.where)
                topic = notice.partition.topic
                self._intake.note(
                    RepeatedSnapshot(mapping, topic, notice.position) for mapping in self._plans.mappings_of(topic)
                )

    def _newest(self, partition: TopicPartition) -> tuple[int, int]:
        tracker = self._decoder.tracker(partition)
        return (0, 0) if tracker is None else tracker.reached

    # -- writing

    def _hand_over(self) -> None:
        """Make the next batch ready when the writer is free or it can grow no more; hand it over to a free writer."""
        with self._meter.stage("waiting for target"):
            # Not for ever: whoever waits for a target that is away still says so.
            self._collect(POLL_SECONDS if self._ready is not None and self._intake.full else 0.0)
        more = self._intake.full or not (self._writer.busy or self._intake.empty)
        if self._ready is None and not self._asked and more:  # a retry that is asked for goes before
            self._make_ready()
        if self._ready is not None and not self._writer.busy:
            self._submit_ready()

    def _make_ready(self) -> None:
        with self._meter.stage("mapping"):
            batch = self._next_batch()
        if not batch.moves:
            return
        self._partitions.advance(batch.moves)
        with self._meter.stage("encoding"):
            self._writer.encode(batch)
        self._ready = batch

    def _submit_ready(self) -> None:
        assert self._ready is not None
        self._writer.submit(self._ready, self._remap, self._partitions.guard())
        self._ready = None

    def _give_up(self) -> None:
        """Drop what was only read, and wait for what is in flight: it may still commit (the fence decides)."""
        self._writer.abandon()
        self._intake.clear()
        self._ready = None
        self._asked.clear()

    def _collect(self, wait_s: float | None) -> None:
        written = self._writer.collect(wait_s)
        if written is None:
            return
        self._meter.wrote(written)
        self._log_written(written)
        if not written.batch.moves:
            self._asked.clear()  # it was the retry: what is asked for since then is seen again
        self._limits.wrote(written.applied)

    def _log_written(self, written: Written) -> None:
        _log.debug(
            "batch",
            moves=[f"{move.partition.topic}:{move.partition.partition}:{move.next}" for move in written.batch.moves],
        )
        parked = Counter((mapping, reason) for (mapping, _), reason in written.applied.parked.items())
        for (mapping, reason), keys in parked.items():
            log = _log.info if reason in HEALING else _log.warning
            log("parked", mapping=mapping, reason=reason, keys=keys, see="cdc parked list")
        settled = Counter[tuple[str, str]]()
        for (mapping, _, outcome, reason), number in written.applied.tallies.items():
            if outcome == Outcome.PARKED and number < 0:
                settled[mapping, reason] -= number
        for (mapping, reason), records in settled.items():
            _log.info("parked no more", mapping=mapping, reason=reason, records=records)

    def _tracker_state(self, partition: TopicPartition) -> str:
        tracker = self._decoder.tracker(partition)
        return "" if tracker is None else tracker.state()

    def _remap(self, parked: Parked) -> tuple[TargetTable, MappedRow | Decision]:
        opened = msgspec.structs.replace(parked, record=self._seal.opened(parked.record))
        return remapped(opened, self._retry_decoder, self._plans.of)

    def _check_waiting(self) -> None:
        waiting, most = self._writer.waiting(), self.pipeline.parked.max_waiting
        if waiting > most:
            raise Terminal(
                f"{waiting:,} rows wait for other rows, more than the {most:,} this pipeline allows a worker",
                where=f"pipeline {self.pipeline.label}",
                hint="cdc parked list; load what they refer to (cdc source load), or raise parked.max_waiting",
            )

    # -- housekeeping

    def _housekeeping(self) -> None:
        if self._is_due("report", REPORT_SECONDS):
            trouble = self._writer.trouble
            self._report("waiting" if trouble else "running", trouble)
        if self._is_due("display", DISPLAY_SECONDS):
            self._consumer.commit_for_display({own.partition: own.next for own in self._partitions.owned.values()})
        if self._is_due("garbage", GARBAGE_SECONDS):
            self.collect_garbage()
        self._collect(0.0)
        if self._is_due("requests", HOUSEKEEPING_SECONDS):
            self._look_for_requests()
        if self._is_due("limits", LIMITS_SECONDS):
            self._limits.look()
        if not self._nothing_on_its_way or not (self._asked or self._is_due("housekeeping", HOUSEKEEPING_SECONDS)):
            return
        if self.orphaned():
            self.stop()
        if self._is_due("purge", PURGE_SECONDS):
            self._purge()
        self._check_fences()
        if not self._partitions.owned:  # no fence tells it
            self._look_for_version()
        self._follow_released()
        self._move_idle()
        if self._writer.busy or not self._partitions.owned:
            return
        self._check_waiting()
        keys, self._asked = self._asked, set()
        keys |= self._writer.due()
        if keys:
            self._writer.retry(keys, self._remap, self._partitions.guard())

    def _look_for_requests(self) -> None:
        """What people asked for: records to set aside, keys to retry. Both are seen while the target works."""
        owned = list(self._partitions.owned)
        requested, known = self._control.park_requests(owned), self._intake.requested
        if any(set(offsets) - set(known.get(partition, ())) for partition, offsets in requested.items()):
            raise Fenced("a record is to be set aside: it may have been read already")
        self._intake.requested = requested
        self._asked = set(self._control.retries(owned))

    def _purge(self) -> None:
        """Forget what no replay can need any more: nothing that a topic still holds is older than its retention.
        And conflicts that were kept long enough."""
        more = self._writer.purge_conflicts(self.pipeline.decisions.keep_days * 86_400.0)
        keep = self.pipeline.tombstones.keep_days * 86_400.0
        retention = max(self._consumer.retention_s(self._plans.topics).values(), default=0.0)
        if not math.isinf(retention):
            more += self._writer.purge(max(keep, 2 * retention + 86_400))
        if more:
            self._due["purge"] = self.parts.clock() + PURGE_AGAIN_SECONDS

    def _check_fences(self) -> None:
        """An idle worker commits nothing that would tell it of a rewind: it looks."""
        stored = {mark.partition: mark.fence for mark in self._control.watermarks()}
        for partition, own in self._partitions.owned.items():
            if stored.get(partition) != own.fence:
                raise Fenced("the watermarks were moved", where=f"{partition.topic}:{partition.partition}")

    def _follow_released(self) -> None:
        released = self._partitions.release()
        if released:
            self._follow(released)

    def _move_idle(self) -> None:
        """Watermarks of partitions whose position moved past control records only."""
        if not self._intake.empty or self._writer.busy:
            return
        self._make_ready()
        if self._ready is not None:
            self._submit_ready()

    @property
    def _nothing_on_its_way(self) -> bool:
        """No batch is ready or being written: the partitions stand where the target says."""
        return self._ready is None and not self._writer.busy

    def _is_due(self, what: str, every_s: float) -> bool:
        now = self.parts.clock()
        if now < self._due.get(what, 0.0):
            return False
        self._due[what] = now + every_s
        return True

    def _report(self, state: str, error: str = "") -> None:
        self._control.report(
            WorkerReport(
                self.name,
                state,
                error,
                self._meter.rows_per_second(),
                self._meter.latency_ms(),
                self._meter.shares(),
                [f"{each.topic}:{each.partition}" for each in sorted(self._partitions.owned)],
            )
        )

    def _finish(self) -> None:
        """Write what was read, then leave. What somebody else has taken meanwhile is theirs to write."""
        self._asked.clear()
        try:
            while not self._intake.empty or not self._nothing_on_its_way:
                self._collect(None)
                self._hand_over()
            self._collect(None)
        except Fenced as error:
            _log.warning("fenced while leaving", reason=error.what, where=error.where)

    def _close(self, state: str, problem: str) -> None:
        self._writer.abandon()
        try:
            self._report(state, problem)
        except CdcError as error:
            _log.warning("the last report could not be stored", error=error.what)
        self._writer.close()
        self._control.close()
        self._consumer.close()
