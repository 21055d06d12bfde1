"""Structured logs to standard error: for people on a terminal, JSON lines elsewhere. Row values never reach them."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

_everywhere: dict[str, str] = {}


def configure_logs(level: str = "info", **everywhere: str) -> None:
    """Set up structlog for this process; `level` is a name of `logging`'s. `everywhere`: what every line says, of
    whatever thread (context variables are a thread's own). The last call counts."""
    _everywhere.clear()
    _everywhere.update(everywhere)
    terminal = sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            _add_everywhere,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def _add_everywhere(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {**_everywhere, **event}
