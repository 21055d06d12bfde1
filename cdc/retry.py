"""Retries: the only module that uses tenacity. Only `Transient` errors are retried, always with a named bound."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import structlog
import tenacity

from cdc.errors import Resting, Transient

T = TypeVar("T")
_log = structlog.get_logger(__name__)


def _log_retry(state: tenacity.RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    wait = state.next_action.sleep if state.next_action else 0.0
    log = _log.debug if isinstance(error, Resting) else _log.warning
    log("retry", attempt=state.attempt_number, wait_s=round(wait, 2), error=str(error))


def retrying(
    action: Callable[[], T],
    *,
    for_seconds: float,
    first_wait: float = 0.1,
    max_wait: float = 5.0,
    retry_on: type[Exception] | tuple[type[Exception], ...] = Transient,
    sleep: Callable[[float], None] | None = None,
) -> T:
    """Call `action` until it returns, while it raises `retry_on` and fewer than `for_seconds` have passed.

    Waits double from `first_wait` to `max_wait` seconds, with jitter. The last error is raised as it is.
    """
    options = {} if sleep is None else {"sleep": sleep}
    retry = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(retry_on),
        stop=tenacity.stop_after_delay(for_seconds),
        wait=tenacity.wait_exponential(multiplier=first_wait, max=max_wait) + tenacity.wait_random(0, first_wait),
        before_sleep=_log_retry,
        reraise=True,
        **options,  # type: ignore[arg-type]
    )
    return retry(action)
