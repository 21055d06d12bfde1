"""Where the applier's time goes: a worker in a process of its own, both of its threads under cProfile or sampled.

    python -m tests.bench profile [--client librdkafka] [--rows 200000] [--sample]

cProfile counts calls and inflates small functions; `--sample` looks at both threads' stacks every few milliseconds,
which costs nearly nothing, and tells waiting from working by the threads' CPU time.
"""

from __future__ import annotations

import cProfile
import gc
import io
import os
import pstats
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from cdc.engine.build import WorkerSpec, parts
from cdc.engine.worker import Worker
from tests.bench.contenders import _SPAWN, Ours
from tests.bench.usage import Usage
from tests.bench.world import Filled, World

_EVERY_S = 0.004
_SHOWN = 30


class Profiled(Ours):
    """`Ours` with one worker, which writes its profile to `report`."""

    def __init__(self, client: Any, *, sample: bool, report: Path) -> None:
        super().__init__(client)
        self._sample = sample
        self._report = report

    @contextmanager
    def running(self, world: World, filled: Filled, database: str, usage: Usage) -> Iterator[Callable[[], str | None]]:
        stop = _SPAWN.Event()
        arguments = (self.spec(world, filled, database), stop, self._sample, str(self._report))
        process = _SPAWN.Process(target=_profiled, args=arguments)
        process.start()
        assert process.pid is not None
        usage.watch(process.pid)
        try:
            yield lambda: None if process.exitcode is None else f"the worker ended with {process.exitcode}"
        finally:
            usage.look()
            stop.set()
            process.join(60)


def _profiled(spec: WorkerSpec, stop: Any, sample: bool, report: str) -> None:
    os.environ.update(spec.environment)
    made = parts(spec)
    profiles: list[cProfile.Profile] = []

    def begin() -> None:
        if not sample:
            profiles.append(cProfile.Profile(time.thread_time))
            profiles[-1].enable()

    made.writers = ThreadPoolExecutor(1, thread_name_prefix="writer", initializer=begin)
    worker = Worker(made)
    gc.freeze()
    gc.set_threshold(200_000, 50, 100)
    out = io.StringIO()
    done = threading.Event()
    counts: dict[int, tuple[Counter[str], Counter[str]]] = {}
    main = threading.get_ident()

    def watch() -> None:
        while not done.wait(_EVERY_S):
            for thread, frame in sys._current_frames().items():
                if thread != threading.get_ident():
                    own, within = counts.setdefault(thread, (Counter(), Counter()))
                    own[_line(frame)] += 1
                    within.update({_function(each) for each in _stack(frame)})
            if stop.is_set():
                worker.stop()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    begin()
    began = time.perf_counter()
    try:
        worker.run()
    finally:
        done.set()
        watcher.join()
        for profile in profiles:
            profile.disable()
        seconds = time.perf_counter() - began
        out.write(f"{seconds:.1f} s in all\n")
        for number, profile in enumerate(profiles):
            out.write(f"\n=== {'reading' if number == 0 else 'writing'} thread, CPU time\n")
            pstats.Stats(profile, stream=out).strip_dirs().sort_stats("tottime").print_stats(_SHOWN)
        if sample:
            for thread, (own, within) in counts.items():
                total = sum(own.values())
                out.write(f"\n=== {'reading' if thread == main else 'other'} thread: {total} samples\n")
                for title, counter in (("here", own), ("within", within)):
                    out.write(f"-- {title}\n")
                    for what, number in counter.most_common(_SHOWN):
                        out.write(f"{100 * number / total:5.1f} %  {what}\n")
        Path(report).write_text(out.getvalue())


def _stack(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _function(frame: FrameType) -> str:
    return f"{_short(frame.f_code.co_filename)}:{frame.f_code.co_qualname}"


def _line(frame: FrameType) -> str:
    return f"{_function(frame)}:{frame.f_lineno}"


def _short(name: str) -> str:
    return "/".join(Path(name).parts[-2:])
