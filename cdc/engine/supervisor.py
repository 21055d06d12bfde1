"""`cdc run`: worker processes started, watched, restarted and stopped.

Exit codes of a worker: 0 done, 75 gave up on something that may heal (restarted, later each time), 1 needs a person
(its pipeline stops), anything else it died of (restarted). When the supervisor dies, its workers notice and leave.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

import structlog

from cdc.engine.build import WorkerSpec, parts
from cdc.engine.logs import configure_logs
from cdc.engine.meter import Profile
from cdc.engine.worker import Worker
from cdc.errors import CdcError, Transient

_log = structlog.get_logger(__name__)

TEMPORARY, NEEDS_A_PERSON = 75, 1
RESTARTS_WITHOUT_PROGRESS = 10
"""How often a worker that lived less than `PROGRESS_SECONDS` each time is started again before a person must look."""
PROFILES_KEPT = 1000
PROGRESS_SECONDS = 60.0
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.5, 30.0
STOP_SECONDS = 60.0
"""How long workers may take to finish their batch; then they are killed, which loses nothing."""


@dataclass
class _Slot:
    """One worker's place: the process in it now, and how often it had to be filled again."""

    spec: WorkerSpec
    process: BaseProcess | None = None
    last_words: Connection | None = None
    began: float = 0.0
    failures: int = 0
    not_before: float = 0.0
    ended: bool = False
    problem: str = ""  # why it ended, by its own last words


class Supervisor:
    """Runs workers until they are done, until `until()` says so, or until a person is needed."""

    def __init__(
        self,
        specs: Sequence[WorkerSpec],
        until: Callable[[], bool] | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._slots = [_Slot(spec) for spec in specs]
        self._until = until
        self._clock = clock
        self._sleep = sleep
        self._signals = 0
        self._context = multiprocessing.get_context("spawn")
        self.profiles: deque[Profile] = deque(maxlen=PROFILES_KEPT)
        """Where the time of the workers that have ended by themselves went."""

    def run(self) -> int:
        """The exit code: 0 stopped or caught up, 1 a pipeline needs a person. What `until` waits for does not come
        without that pipeline: then all stop at once."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        code = 0
        try:
            while not self._signals and not all(slot.ended for slot in self._slots):
                for slot in self._slots:
                    code = max(code, self._tend(slot))
                if self._until is not None and (code or self._until()):
                    break
                self._sleep(0.1)
        finally:
            self._stop_all()
        return code

    def _hear(self, slot: _Slot) -> None:
        """What an ended process said last: where its time went, and what it ended of. One that was killed said
        nothing."""
        if slot.last_words is None:
            return
        with suppress(EOFError, OSError):
            while slot.last_words.poll():
                words = slot.last_words.recv()
                if isinstance(words, Profile):
                    self.profiles.append(words)
                else:
                    slot.problem = str(words)
        slot.last_words.close()
        slot.last_words = None

    def _tend(self, slot: _Slot) -> int:
        if slot.ended:
            return 0
        if slot.process is None:
            if self._clock() >= slot.not_before:
                self._start(slot)
            return 0
        status = slot.process.exitcode
        if status is None:
            return 0
        slot.process = None
        self._hear(slot)
        if status == 0:
            slot.ended = True
            return 0
        if status == NEEDS_A_PERSON:
            self._end_pipeline(slot)
            return NEEDS_A_PERSON
        return self._again(slot, status)

    def _start(self, slot: _Slot) -> None:
        # A pipe for each: a queue would be shared, and a killed worker could leave it locked.
        slot.last_words, theirs = self._context.Pipe(duplex=False)
        slot.process = self._context.Process(target=work, args=(slot.spec, os.getpid(), theirs))
        slot.process.start()
        theirs.close()
        slot.began = self._clock()

    def _again(self, slot: _Slot, status: int) -> int:
        lived = self._clock() - slot.began
        slot.failures = 1 if lived > PROGRESS_SECONDS else slot.failures + 1
        if slot.failures > RESTARTS_WITHOUT_PROGRESS:
            _log.error("worker keeps failing, not started again", **_part(slot.spec), status=status)
            self._end_pipeline(slot)
            return NEEDS_A_PERSON
        wait = min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2 ** (slot.failures - 1))
        slot.not_before = self._clock() + wait
        _log.warning("worker ended, starting it again", status=status, wait_s=wait, **_part(slot.spec))
        return 0

    def _end_pipeline(self, slot: _Slot) -> None:
        """One worker of a pipeline needs a person: its other workers of that target stop too, other pipelines and the
        pipeline's other targets go on."""
        if self._until is not None:
            reason = slot.problem or "its worker ended again and again"
            _log.error("not waited for any longer: a part stopped", **_part(slot.spec), reason=reason)
        ended = (slot.spec.mapping_file, slot.spec.target)
        for other in self._slots:
            if (other.spec.mapping_file, other.spec.target) == ended:
                other.ended = True
                if other.process is not None:
                    other.process.terminate()

    def _on_signal(self, number: int, frame: object) -> None:
        self._signals += 1
        if self._signals > 1:
            for process in self._processes():
                process.kill()

    def _processes(self) -> list[BaseProcess]:
        return [slot.process for slot in self._slots if slot.process is not None]

    def _stop_all(self) -> None:
        for process in self._processes():
            process.terminate()
        deadline = self._clock() + STOP_SECONDS
        for process in self._processes():
            process.join(max(0.0, deadline - self._clock()))
            if process.exitcode is None:
                process.kill()
                process.join()
        for slot in self._slots:
            self._hear(slot)


def _part(spec: WorkerSpec) -> dict[str, str]:
    """Which of the parts a line of the log is about."""
    return {"mapping": str(spec.mapping_file)} | ({"target": spec.target} if spec.target else {})


def say(last_words: Connection, words: Profile | str) -> None:
    """To the supervisor, if it is still there to listen: without it the worker leaves too, and nothing is wrong."""
    with suppress(OSError):
        last_words.send(words)


def work(spec: WorkerSpec, parent: int, last_words: Connection) -> None:
    """The body of a worker process; its last words are where its time went, and why a person is needed."""
    os.environ.update(spec.environment)
    configure_logs(spec.log_level, **_part(spec))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to all; the supervisor decides
    try:
        worker = Worker(parts(spec))
    except Transient as error:
        _log.error("the worker could not start for now", error=error.what, where=error.where, hint=error.hint)
        sys.exit(TEMPORARY)
    except CdcError as error:
        _log.error("the worker could not start", error=error.what, where=error.where, hint=error.hint)
        say(last_words, str(error))
        sys.exit(NEEDS_A_PERSON)
    configure_logs(spec.log_level, pipeline=worker.pipeline.name, target=worker.pipeline.target)

    # One or many: a signal to a whole group reaches workers twice. It is the supervisor that kills at the second.
    signal.signal(signal.SIGTERM, lambda number, frame: worker.stop())
    worker.orphaned = lambda: os.getppid() != parent
    # Rows are many, short-lived and free of cycles: the collector would walk them for nothing (8 % of the time). What
    # cycles there are, of errors mostly, go every half minute.
    gc.freeze()
    gc.disable()
    worker.collect_garbage = gc.collect
    # The writing thread asks for the interpreter after each portion that it sends; at the default of 5 ms the server
    # would wait for it longer than it works.
    sys.setswitchinterval(0.0005)
    try:
        try:
            worker.run()
        finally:
            say(last_words, worker.profile())
    except Transient as error:
        _log.error("the worker gives up for now", error=error.what, where=error.where, hint=error.hint)
        sys.exit(TEMPORARY)
    except CdcError as error:
        _log.error("the pipeline needs a person", error=error.what, where=error.where, hint=error.hint)
        say(last_words, str(error))
        sys.exit(NEEDS_A_PERSON)
    except Exception as error:
        # Its message may hold a row's values; its kind and place do not.
        place = "".join(traceback.format_tb(error.__traceback__)[-5:])
        _log.error("a defect in the program: the pipeline needs a person", error=type(error).__name__, where=place)
        say(last_words, f"a defect in the program: {type(error).__name__}")
        sys.exit(NEEDS_A_PERSON)
