"""Raw records at rest: a parked record is kept as it came, for its retry; where a mapping masks anything, encrypted.

Sealed is every record of a topic of which some mapping of the pipeline's target masks a column: key, value and headers
together, by AES-256-GCM, bound to the record's topic, partition and offset. The key's name and version stand beside the
ciphertext, so that records outlive a rotation as long as connections.yaml keeps the older version.
"""

from __future__ import annotations

import os
from collections.abc import Collection

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from cdc.errors import Poison, Usage
from cdc.keys import DEFAULT, Keyring
from cdc.mapping.mask_checks import SEALING
from cdc.model import RawRecord
from cdc.target.base import Parked

_MARK = b"cdc sealed\0"  # no JSON begins like this
_NONCE = 12
_PURPOSE = "parked records"


class _Content(msgspec.Struct, array_like=True):
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]


class Seal:
    """Seals records of `topics`, opens those of any. `keys`: those of connections.yaml."""

    def __init__(self, keys: Keyring, topics: Collection[str]) -> None:
        self._keys = keys
        self._topics = frozenset(topics)
        self._name = SEALING if SEALING in keys.names else DEFAULT

    def sealed(self, parked: Parked) -> Parked:
        """As it is stored. Raises `Usage` where there is no key; that is checked at the start."""
        record = parked.record
        if record.topic not in self._topics or _is_sealed(record):
            return parked
        version = self._keys.version(self._name)
        head = _head(self._name, version)
        nonce = os.urandom(_NONCE)
        content = msgspec.msgpack.encode(_Content(record.key, record.value, record.headers))
        value = head + nonce + self._cipher(self._name, version).encrypt(nonce, content, _place(record) + head)
        return msgspec.structs.replace(
            parked, record=msgspec.structs.replace(record, key=None, value=value, headers=())
        )

    def sealed_by(self, record: RawRecord) -> str | None:
        """The key that a record is sealed by, as NAME/VERSION; None: it is not sealed."""
        if record.value is None or not _is_sealed(record):
            return None
        name, version, _ = record.value.removeprefix(_MARK).split(b"\0", 2)
        return f"{name.decode()}/{version.decode()}"

    def opened(self, record: RawRecord) -> RawRecord:
        """The record as it came. Raises `Poison` when its key is not there any more."""
        value = record.value
        if value is None or not _is_sealed(record):
            return record
        name, version, rest = value.removeprefix(_MARK).split(b"\0", 2)
        head = value[: len(value) - len(rest)]
        try:
            cipher = self._cipher(name.decode(), version.decode())
            content = cipher.decrypt(rest[:_NONCE], rest[_NONCE:], _place(record) + head)
        except (Usage, InvalidTag, ValueError) as error:
            why = error.what if isinstance(error, Usage) else "another secret stands under that name now"
            what = f"sealed by version '{version.decode()}' of the masking key '{name.decode()}': {why}"
            raise Poison(what, reason="sealed", where=record.where, hint=_HINT) from error
        found = msgspec.msgpack.decode(content, type=_Content)
        return msgspec.structs.replace(record, key=found.key, value=found.value, headers=found.headers)

    def _cipher(self, name: str, version: str) -> AESGCM:
        return AESGCM(self._keys.key(name, version, _PURPOSE))


_HINT = "put that version back under masking: in connections.yaml, or load the row anew and discard the record"


def _is_sealed(record: RawRecord) -> bool:
    return record.value is not None and record.key is None and record.value.startswith(_MARK)


def _head(name: str, version: str) -> bytes:
    return _MARK + name.encode() + b"\0" + version.encode() + b"\0"


def _place(record: RawRecord) -> bytes:
    """What a ciphertext is bound to: it opens as no other record."""
    return msgspec.msgpack.encode((record.topic, record.partition, record.offset))
