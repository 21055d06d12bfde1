"""Fixtures live in `fix_*.py` plugins, one a subject."""

from __future__ import annotations

import logging

import structlog

pytest_plugins = ["tests.fix_stack", "tests.fix_pipeline", "tests.fix_targets"]

# Logs of the engine's own are noise in a test that passes; pytest shows those that are left when one fails.
structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
