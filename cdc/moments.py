"""Moments as canonical values of TIMESTAMPTZ columns (see `cdc.model`)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@lru_cache(maxsize=4096)  # the changes of a transaction share theirs
def moment(time_us: int) -> str:
    """Microseconds since 1970 as text."""
    text = (_EPOCH + timedelta(microseconds=time_us)).strftime("%Y-%m-%dT%H:%M:%S.%f")
    return f"{text.rstrip('0').rstrip('.')}Z"
