"""Signatures of payloads: HMAC-SHA256 over what the job is and where it belongs.

The first key signs, all verify, so keys can be rotated.  The signature covers namespace, queue and
id, so a payload cannot be replayed as another job.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

from taskqd.errors import ConfigError, SignatureError

_KEY_BYTES_MIN = 16


class Signer:
    def __init__(self, keys: Sequence[str | bytes]) -> None:
        self._keys = {_key_id(key): key for key in map(_checked, keys)}
        if not self._keys:
            raise ConfigError("signing_keys: expected at least one key")
        self._signing_id = next(iter(self._keys))

    def sign(self, namespace: str, queue: str, job_id: str, payload: bytes) -> bytes:
        """Return the signature line ``key-id:hex``."""
        digest = _digest(self._keys[self._signing_id], namespace, queue, job_id, payload)
        return f"{self._signing_id}:{digest}".encode()

    def verify(
        self, namespace: str, queue: str, job_id: str, payload: bytes, signature: bytes | None
    ) -> None:
        """Raises SignatureError where the signature is absent, wrong or of an unknown key."""
        if signature is None:
            raise SignatureError("the payload is unsigned; this app accepts signed payloads only")
        key_id, _, digest = signature.decode("ascii", "replace").partition(":")
        key = self._keys.get(key_id)
        if key is None:
            raise SignatureError(
                f"the payload is signed with key {key_id[:16]!r}, which is not among signing_keys"
            )
        expected = _digest(key, namespace, queue, job_id, payload)
        if not hmac.compare_digest(digest.encode(), expected.encode()):
            raise SignatureError("the payload does not match its signature; it was changed")


def _checked(key: str | bytes) -> bytes:
    data = key.encode() if isinstance(key, str) else bytes(key)
    if len(data) < _KEY_BYTES_MIN:
        raise ConfigError(
            f"signing_keys: a key has {len(data)} bytes; expected at least {_KEY_BYTES_MIN}"
        )
    return data


def _key_id(key: bytes) -> str:
    return hashlib.sha256(b"taskqd key id" + key).hexdigest()[:8]


def _digest(key: bytes, namespace: str, queue: str, job_id: str, payload: bytes) -> str:
    subject = f"{namespace}\n{queue}\n{job_id}\n".encode() + payload
    return hmac.new(key, subject, hashlib.sha256).hexdigest()
