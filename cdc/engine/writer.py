"""The writing half of a worker: one thread, one connection, one batch at a time, so that reading overlaps writing.

The thread owns its target connection and the held keys. A lost connection may hide a commit that happened: after
reconnecting, the stored watermarks say whether the batch is in, and only a batch that is not in is applied again.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import structlog

from cdc.engine.apply import Applied, Applier, Batch
from cdc.engine.failpoints import Failpoint
from cdc.engine.oracle import HEALING
from cdc.engine.order import WAIT_S, Held, Waiting
from cdc.engine.parked import Guard, Remap, retry
from cdc.errors import Fenced, Transient
from cdc.retry import retrying
from cdc.target.base import WAITING, Owner, Parked, Target

_log = structlog.get_logger(__name__)

RETRY_SECONDS = 60.0
"""How long a target may be away before the worker gives up and its supervisor starts it anew."""


@dataclass
class Written:
    """What one job of the writer did. `seconds`: how long it took; `cpu_s`: of it on the CPU rather than waiting."""

    batch: Batch
    applied: Applied = field(default_factory=Applied)
    seconds: float = 0.0
    cpu_s: float = 0.0


class Writer:
    """Applies batches in order. `submit` while `busy` is an error: the worker keeps at most one batch in flight, and
    has the next one encoded meanwhile."""

    def __init__(
        self,
        target: Target,
        owner: Owner,
        failpoint: Failpoint,
        pool: Executor | None = None,
        clock: Callable[[], float] = time.monotonic,
        wait_s: float = WAIT_S,
        sealed: Callable[[Parked], Parked] = lambda parked: parked,
    ) -> None:
        """`wait_s`: see `Waiting`; `sealed`: see `Applier`."""
        self._target = target
        self._owner = owner
        self._failpoint = failpoint
        self._clock = clock
        self._sealed = sealed
        self._write_to(target, wait_s)
        self._pool = pool or ThreadPoolExecutor(max_workers=1, thread_name_prefix="writer")
        self._job: Future[Written] | None = None
        self.finished = threading.Event()
        self.trouble = ""  # why the target does not take the batch in flight, while it is tried again

    def _write_to(self, target: Target, wait_s: float) -> None:
        self._target = target
        self._waiting = Waiting(target.related, self._clock, wait_s)
        self._applier = Applier(target, self._failpoint, self._waiting, self._sealed)

    def open(self) -> None:
        self._target.open(self._owner)

    def change(self, target: Target, wait_s: float) -> None:
        """Go on with another connection, which is opened; only while the writer is not busy. Held keys come anew."""
        self._target.close()
        self._write_to(target, wait_s)
        self.open()

    def close(self) -> None:
        self._pool.shutdown(wait=True)
        self._target.close()

    @property
    def busy(self) -> bool:
        """Whether there is a job, running or not collected yet."""
        return self._job is not None

    @property
    def held(self) -> dict[Held, str]:
        """Held keys; read or replaced only while the writer is not busy."""
        return self._applier.held

    @held.setter
    def held(self, held: dict[Held, str]) -> None:
        self._applier.held = held

    def waiting(self) -> int:
        """How many held keys wait for other rows; only while the writer is not busy."""
        return sum(reason in WAITING for reason in self._applier.held.values())

    def due(self) -> set[Held]:
        """Those of them whose turn to be tried again has come; only while the writer is not busy."""
        return self._waiting.due(self._applier.held)

    def encode(self, batch: Batch) -> None:
        """In the caller's thread, while another batch is written: all of it that needs no connection."""
        for table in batch.tables:
            if table.writes is not None:
                table.writes.encoded = self._target.encode(table.table, table.writes)

    def submit(self, batch: Batch, remap: Remap, guard: Guard) -> None:
        """`guard` compares the partitions as the batch leaves them: what heals through it must pass that."""
        self._start(lambda: self._write(batch, remap, guard))

    def retry(self, keys: set[Held], remap: Remap, guard: Guard) -> None:
        self._start(lambda: self._retry(keys, remap, guard))

    def purge(self, keep_s: float) -> int:
        """See `Target.purge`; only while the writer is not busy."""
        return self._target.purge(keep_s)

    def purge_conflicts(self, keep_s: float) -> int:
        """The same of conflicts."""
        return self._target.purge_conflicts(keep_s)

    def collect(self, wait_s: float | None = 0.0) -> Written | None:
        """The finished job's result, or None when there is none in `wait_s` (None: as long as it takes).

        Raises what the job raised.
        """
        job = self._job
        if job is None:
            return None
        if wait_s is None or wait_s > 0:
            self.finished.wait(wait_s)
        if not job.done():
            return None
        self._job = None
        return job.result()

    def abandon(self) -> None:
        """Wait for what is in flight and forget its result: the watermarks tell what became of it."""
        if self._job is not None:
            self._job.exception()
            self._job = None

    def _start(self, job: Callable[[], Written]) -> None:
        assert self._job is None
        self.finished.clear()

        def timed() -> Written:
            began, cpu_began = time.monotonic(), time.thread_time()
            done = job()
            done.seconds, done.cpu_s = time.monotonic() - began, time.thread_time() - cpu_began
            return done

        self._job = self._pool.submit(timed)
        self._job.add_done_callback(lambda _: self.finished.set())

    def _write(self, batch: Batch, remap: Remap, guard: Guard) -> Written:
        attempts = 0

        def attempt() -> Applied:
            nonlocal attempts
            attempts += 1
            if attempts > 1:
                self._reconnect()
                if self._is_in(batch):
                    return self._what_it_parked(batch)
            for table in batch.tables:
                self._target.prepare(table.table)
            return self._applier.apply(batch)

        applied = retrying(lambda: self._told(attempt), for_seconds=RETRY_SECONDS)
        healing = applied.may_heal | self.due()  # a busy stream leaves no other moment for it
        if healing:
            applied.tallies.update(self._heal(healing, remap, guard).tallies)
        return Written(batch, applied)

    def _told(self, attempt: Callable[[], Applied]) -> Applied:
        try:
            done = attempt()
        except Transient as error:
            self.trouble = str(error)
            raise
        self.trouble = ""
        return done

    def _heal(self, keys: set[Held], remap: Remap, guard: Guard) -> Applied:
        """Healing is tried once here: what fails for a passing reason is tried again later."""
        try:
            return self._retried(keys, remap, guard)
        except Transient as error:
            _log.warning("parked keys could not be retried now", error=error.what)
            return Applied()

    def _retry(self, keys: set[Held], remap: Remap, guard: Guard) -> Written:
        def attempt() -> Applied:
            if any(self.held.get(key) not in HEALING for key in keys):
                self._target.forget()  # a person asks, and may have changed the table
            return self._retried(keys, remap, guard)

        def again() -> Applied:
            self._reconnect()
            return attempt()

        try:
            return Written(Batch(), attempt())
        except Transient:
            return Written(Batch(), retrying(again, for_seconds=RETRY_SECONDS))

    def _retried(self, keys: set[Held], remap: Remap, guard: Guard) -> Applied:
        return retry(self._target, keys, remap, guard, self._applier.held, self._waiting)

    def _reconnect(self) -> None:
        self._target.close()
        self._target.open(self._owner)

    def _what_it_parked(self, batch: Batch) -> Applied:
        """A batch that is in although nobody said so may have parked keys: later rows must wait behind those."""
        stored = self._target.parked([move.partition for move in batch.moves])
        new = {key: reason for key, reason in stored.items() if key not in self.held}
        self.held.update(new)
        return Applied(parked=new)

    def _is_in(self, batch: Batch) -> bool:
        """Whether a batch whose commit got no answer is in. Raises `Fenced` when somebody moved its partitions."""
        stored = {mark.partition: mark for mark in self._target.watermarks()}
        states = Counter[str]()
        for move in batch.moves:
            mark = stored.get(move.partition)
            if mark is None or mark.fence != move.fence:
                states["fenced"] += 1
            elif mark.next == move.next:
                states["in"] += 1
            elif mark.next == move.expected:
                states["out"] += 1
            else:
                states["fenced"] += 1
        if states["fenced"] or (states["in"] and states["out"]):
            raise Fenced("partitions were taken or moved while the target was away")
        return states["in"] > 0
