"""What the local stack raises: one class, since nobody but a person acts on it."""

from __future__ import annotations

from cdc.errors import Terminal


class StackError(Terminal):
    """A part did not start, a tool is missing, a download failed. `where` is a log file or a folder."""
