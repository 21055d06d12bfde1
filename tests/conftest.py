"""Fixtures live in `fix_*.py` plugins, one a subject."""

pytest_plugins = ["tests.fix_stack"]
