"""Named points of the commit path where tests stop, freeze or kill a worker. In production they do nothing.

The points, in the order a batch meets them:

    polled          records have been read from Kafka
    decoded         they are typed change events
    mapped          they are rows of target tables
    rows_written    the target transaction holds the rows
    parked          … and the records set aside
    watermark_set   … and the watermarks
    pre_commit      the next statement is COMMIT
    post_commit     COMMIT was acknowledged; nothing else has happened
    assigned        partitions were assigned, nothing taken yet
    revoked         partitions were revoked
    adopted         another version of the mappings was read, nothing follows it yet

and, of a target that requests are sent to, between `mapped` and `rows_written`:

    recorded        deliveries are on record as sent, none has left
    requested       one request was answered, nothing of it is stored
    answered        all of them were answered, nothing of it is stored

`CDC_FAILPOINT=pre_commit:3:kill` kills the process (SIGKILL) the third time it gets there; `:stop` freezes it
(SIGSTOP); `:exit` leaves at once. Only a worker process reads the variable.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

POINTS = (
    "polled",
    "decoded",
    "mapped",
    "rows_written",
    "parked",
    "watermark_set",
    "pre_commit",
    "post_commit",
    "assigned",
    "revoked",
)
DELIVERY_POINTS = ("recorded", "requested", "answered")
ROLLOUT_POINTS = ("adopted",)
_ALL = POINTS + DELIVERY_POINTS + ROLLOUT_POINTS

Failpoint = Callable[[str], None]


def nothing(point: str) -> None:
    """The failpoint of production."""


def from_environment(environment: dict[str, str] | None = None) -> Failpoint:
    """The failpoint that `CDC_FAILPOINT=POINT:COUNT:ACTION` asks for, or `nothing`."""
    text = (os.environ if environment is None else environment).get("CDC_FAILPOINT", "")
    if not text:
        return nothing
    point, count, action = text.split(":")
    if point not in _ALL:
        raise ValueError(f"unknown failpoint {point!r}; there are {', '.join(_ALL)}")
    actions: dict[str, Callable[[], None]] = {
        "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
        "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
        "exit": lambda: os._exit(70),
    }
    if action not in actions:
        raise ValueError(f"unknown action {action!r}; there are {', '.join(actions)}")
    act, left = actions[action], int(count)

    def failpoint(reached: str) -> None:
        nonlocal left
        if reached == point:
            left -= 1
            if left == 0:
                act()

    return failpoint
