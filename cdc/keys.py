"""Keys of masked values and of sealed records: sets of versions, by reference (`masking` in connections.yaml).

A set has versions side by side, one of them `current`. What was made with an older one stays readable (records) or can
be made again (values), as long as that version stands in the file. What a key is used for is derived from it by HKDF,
so that one secret serves many uses of which none tells another.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from cdc.errors import Usage
from cdc.references import Secret

DEFAULT = "default"
"""The set that is meant where none is named."""
CURRENT = "current"
_SHORTEST = 32
_HINT = "make one with: openssl rand -hex 32"


class KeySet(NamedTuple):
    """One set: its versions and which of them is for what is made from now on."""

    current: str
    versions: Mapping[str, Secret]


class Keyring:
    """All sets. `where`: the file that they stand in, for errors. Secrets are looked up when a key is asked for."""

    def __init__(self, sets: Mapping[str, KeySet], where: str | None = None) -> None:
        self._sets = sets
        self._where = where
        self._derived = lru_cache(maxsize=None)(self._derive)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._sets)

    def versions(self, name: str) -> tuple[str, ...]:
        """The versions of a set; none when there is no such set."""
        return tuple(self._sets[name].versions) if name in self._sets else ()

    def version(self, name: str, wanted: str = CURRENT) -> str:
        """The version that is meant. Raises `Usage` when there is no such set or version."""
        known = self._sets.get(name)
        if known is None:
            hint = f"add it under masking: ({', '.join(self._sets) or 'it names none'})"
            raise Usage(f"there is no masking key '{name}'", where=self._where, hint=hint)
        version = known.current if wanted == CURRENT else wanted
        if version not in known.versions:
            hint = f"known there: {', '.join(known.versions)}"
            raise Usage(f"the masking key '{name}' has no version '{version}'", where=self._where, hint=hint)
        return version

    def key(self, name: str, version: str, purpose: str) -> bytes:
        """32 bytes for one purpose. Raises `Usage` for an unknown set or version, a reference that leads nowhere and a
        secret that is too short to be one."""
        return self._derived(name, self.version(name, version), purpose)

    def _derive(self, name: str, version: str, purpose: str) -> bytes:
        secret = self._sets[name].versions[version].resolve().get_secret_value().encode()
        if len(secret) < _SHORTEST:
            what = f"version '{version}' of the masking key '{name}' is shorter than {_SHORTEST} characters"
            raise Usage(what, where=self._where, hint=_HINT)
        return HKDF(SHA256(), 32, salt=None, info=f"cdc {purpose}".encode()).derive(secret)


NO_KEYS = Keyring({})
"""Where no file names any."""
