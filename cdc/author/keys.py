"""The keys that tests of a mapping mask with: every set and version that a mapping names, always the same.

A test needs no secret, and what it expects of a masked column stays the same on every machine. These keys hide nothing.
"""

from __future__ import annotations

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from cdc.keys import Keyring


class OpenKeys(Keyring):
    """Made of the names alone."""

    def __init__(self) -> None:
        super().__init__({})

    def versions(self, name: str) -> tuple[str, ...]:
        return ("1",)

    def version(self, name: str, wanted: str = "1") -> str:
        return wanted

    def key(self, name: str, version: str, purpose: str) -> bytes:
        return HKDF(SHA256(), 32, salt=None, info=f"cdc {purpose}".encode()).derive(f"{name} {version}".encode())
