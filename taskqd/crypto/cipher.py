"""Encryption of users' values: AES-256-GCM, and the only file that knows the `cryptography` package.

The first key encrypts, all decrypt, so keys can be rotated.  A frame is

    key id (8 hex digits)  nonce (24 bytes)  ciphertext with its tag

The first half of the nonce makes a key of its own from the user's, the second half is AES-GCM's: so
random nonces do not wear a key out, however many jobs there are.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Sequence
from typing import Any

from taskqd.errors import ConfigError, SealError

KEY_BYTES_MIN = 16
_ID_BYTES = 8
_NONCE_BYTES = 24


class Cipher:
    def __init__(self, keys: Sequence[str | bytes]) -> None:
        """Raises ConfigError for a key that is too short, or without the package."""
        self._keys = {_key_id(key): _master(key) for key in map(_checked, keys)}
        if not self._keys:
            raise ConfigError("encryption_keys: expected at least one key")
        self._first = next(iter(self._keys))
        self._aes = _aes_gcm()

    def close(self, subject: bytes, data: bytes) -> bytes:
        """Return the frame of `data`, which opens only for the same subject."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed: bytes = self._box(self._first, nonce).encrypt(nonce[12:], data, subject)
        return self._first + nonce + sealed

    def open(self, subject: bytes, frame: bytes) -> bytes:
        """Raises SealError where it was changed, or is of an unknown key or of another subject."""
        key_id, nonce = frame[:_ID_BYTES], frame[_ID_BYTES : _ID_BYTES + _NONCE_BYTES]
        if key_id not in self._keys or len(nonce) < _NONCE_BYTES:
            raise SealError(
                f"encrypted with key {key_id.decode('ascii', 'replace')!r}, which is not among"
                " encryption_keys"
            )
        try:
            opened: bytes = self._box(key_id, nonce).decrypt(
                nonce[12:], frame[_ID_BYTES + _NONCE_BYTES :], subject
            )
        except Exception as error:  # InvalidTag, or a frame cut short
            raise SealError(
                f"cannot be decrypted ({type(error).__name__}): it was changed, or belongs elsewhere"
            ) from None
        return opened

    def fingerprint(self, data: bytes) -> bytes:
        """Return what is equal for equal data, and tells nothing else of it without the key."""
        return hmac.digest(self._keys[self._first], b"fingerprint" + data, "sha256")

    def _box(self, key_id: bytes, nonce: bytes) -> Any:
        return self._aes(hmac.digest(self._keys[key_id], nonce[:12], "sha256"))


def _checked(key: str | bytes) -> bytes:
    data = key.encode() if isinstance(key, str) else bytes(key)
    if len(data) < KEY_BYTES_MIN:
        raise ConfigError(
            f"encryption_keys: a key has {len(data)} bytes; expected at least {KEY_BYTES_MIN}, as"
            " from `openssl rand -base64 32`"
        )
    return data


def _master(key: bytes) -> bytes:
    return hmac.digest(key, b"taskqd encryption", "sha256")


def _key_id(key: bytes) -> bytes:
    return hashlib.sha256(b"taskqd cipher id" + key).hexdigest()[:_ID_BYTES].encode()


def _aes_gcm() -> Any:
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError as error:
        raise ConfigError(
            f"encryption_keys: {error}; install the extra: pip install 'taskqd[crypto]'"
        ) from None
    return AESGCM
