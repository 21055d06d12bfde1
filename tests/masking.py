"""Keyring for tests of masks."""

from __future__ import annotations

from cdc.keys import Keyring, KeySet
from cdc.references import Secret

OLD, NEW = "old secret of at least 32 characters", "new secret of at least 32 characters"


def keys(current: str = "v1", **versions: str) -> Keyring:
    """One set, `default`."""
    secrets = {name: Secret.of(text) for name, text in (versions or {"v1": OLD}).items()}
    return Keyring({"default": KeySet(current, secrets)}, "connections.yaml")
