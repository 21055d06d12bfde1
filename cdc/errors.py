"""One family of errors. Each says what happened, where, and what to do next.

The class decides what the engine does with it, so that no caller ever reads message text:

* `Transient`  the same call may go through later: retried with a bound (`cdc/retry.py`), then raised.
* `Terminal`   a person must decide or repair: the pipeline stops, nothing is skipped.
* `Poison`     one record (or one row) is bad: it is parked with its key, the stream goes on.
* `Fenced`     another worker owns the partition now: this worker drops its batch and re-reads its watermarks.
* `Usage`      the command line or a file the user wrote is wrong: exit code 2.
"""

from __future__ import annotations


class CdcError(Exception):
    """Base: `what` happened, `where` (file:line, topic/partition/offset, server), `hint` (what to run or change next).

    Never put a secret or a row value into any of the three: they reach logs and screens.
    """

    def __init__(self, what: str, *, where: str | None = None, hint: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        text = self.what
        if self.where:
            text += f" (at {self.where})"
        if self.hint:
            text += f"\n  hint: {self.hint}"
        return text


class Transient(CdcError):
    """May heal by itself: a server that is down, a lock that was not granted, a lost connection."""


class Resting(Transient):
    """Not even tried, because what is wrong has been noticed and logged already: retries say nothing of it."""


class Terminal(CdcError):
    """Stops the pipeline until somebody acts: retention overrun, a new epoch, a wrong setting."""


class Poison(CdcError):
    """One record cannot be applied. `reason` is a short stable word that is counted and can be searched for."""

    def __init__(self, what: str, *, reason: str, where: str | None = None, hint: str | None = None) -> None:
        super().__init__(what, where=where, hint=hint)
        self.reason = reason


class Fenced(CdcError):
    """The watermark's fence or `next` is not the one this worker holds: it must commit nothing."""


class Usage(CdcError):
    """The user's input is wrong (a flag, a name, a YAML file). `where` is file:line:column for files."""
