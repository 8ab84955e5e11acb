"""How an app keeps its users' values where they are not plain JSON: pickled, encrypted, or both.

law: a pickle is loaded only after its signature has been verified: a job's by `taskqd.execution.unpacking.unpack`,
which has verified the whole payload; a result's or member's here
(test_pickle_is_not_loaded_unless_its_signature_is_right, test_forged_result_and_member_are_not_loaded).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import pickle
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from taskqd.crypto.cipher import Cipher
from taskqd.crypto.signing import Signer
from taskqd.errors import ConfigError, EncodeError, SealError
from taskqd.jobs.codec import decode_plain, encode_checked
from taskqd.jobs.exception_text import describe
from taskqd.jobs.job import NOTHING, Envelope

_PICKLE, _AES = "pickle", "aes"
_raw_pair = msgspec.json.Decoder(tuple[msgspec.Raw, msgspec.Raw]).decode
_SIGN_BYTES = 73
"""``key-id:hex``: 8, 1 and 64."""


class Call(NamedTuple):
    """The arguments of a job: as values where they were pickled, else as JSON."""

    args: Any
    kwargs: Any
    pickled: bool


class Sealer:
    """One app's way.  Apps with plain JSON have none, and pay nothing."""

    def __init__(
        self, namespace: str, *, pickles: bool, signer: Signer | None, cipher: Cipher | None
    ) -> None:
        self._namespace = namespace
        self._signer = signer
        self._cipher = cipher
        self.pickles = pickles

    # -- calls -------------------------------------------------------------------------------

    def seal_call(self, envelope: Envelope, job_id: str, call: Call) -> None:
        """Put the arguments into the envelope."""
        if not (call.pickled or self._cipher):
            envelope.a, envelope.k = msgspec.Raw(call.args), msgspec.Raw(call.kwargs)
            return
        data = self.plain(call)
        way = _PICKLE if call.pickled else ""
        if self._cipher is not None:
            data = self._cipher.close(self._subject("call", job_id, envelope.t), data)
            way = f"{way}+{_AES}".lstrip("+")
        envelope.a = envelope.k = NOTHING
        envelope.b, envelope.z = base64.b64encode(data).decode(), way

    def unseal_call(self, envelope: Envelope, job_id: str) -> Call:
        """Return the arguments of an envelope whose signature, where the app signs, is verified.

        Raises SealError where they are not kept in this app's way, or were changed.
        """
        way = (envelope.z or "").split("+")
        if (_AES in way) != (self._cipher is not None):
            raise SealError(_PLAIN if self._cipher else _NO_KEYS)
        if envelope.z is None:
            return Call(bytes(envelope.a) or b"[]", bytes(envelope.k) or b"{}", pickled=False)
        data = _from_base64(envelope.b or "")
        if self._cipher is not None:
            data = self._cipher.open(self._subject("call", job_id, envelope.t), data)
        if _PICKLE not in way:
            args, kwargs = _raw_pair(data)
            return Call(bytes(args), bytes(kwargs), pickled=False)
        if not self.pickles:
            raise SealError("the arguments are pickled; this app reads JSON only")
        args, kwargs = _unpickled(data)
        return Call(args, kwargs, pickled=True)

    def plain(self, call: Call) -> bytes:
        """Return the arguments as bytes, neither encrypted nor in base64."""
        if call.pickled:
            return _pickled((call.args, call.kwargs), "arguments")
        return b"[" + (call.args or b"[]") + b"," + (call.kwargs or b"{}") + b"]"

    def fingerprint(self, call: Call) -> str:
        """Return what is equal for equal arguments, for unique jobs."""
        data = self.plain(call)
        digest = self._cipher.fingerprint(data) if self._cipher else hashlib.sha256(data).digest()
        return digest.hex()[:32]

    # -- results, members of groups, checkpoints ---------------------------------------------

    def seal_value(self, subject: str, value: Any, data: bytes, *, pickles: bool = True) -> bytes:
        """Return `value` as JSON.  `data`: its plain JSON, where it is not to be pickled."""
        way = _PICKLE if self.pickles and pickles else ""
        if way:
            assert self._signer is not None
            data = _pickled(value, subject)
            data = self._signer.sign(self._namespace, "", subject, data) + data
        if self._cipher is not None:
            data = self._cipher.close(self._subject("value", subject), data)
            way = f"{way}+{_AES}".lstrip("+")
        return encode_checked([way, base64.b64encode(data).decode()], subject) if way else data

    def unseal_value(
        self,
        subject: str,
        data: bytes,
        decode: Callable[[bytes], Any] = decode_plain,
        *,
        pickles: bool = True,
    ) -> Any:
        """Return what `seal_value` was given; `decode`: how JSON becomes a value.

        None is kept as it is.  Raises SealError.
        """
        if data == b"null" or not ((self.pickles and pickles) or self._cipher):
            return decode(data)
        way, frame = _parts(data)
        if self._cipher is not None:
            if _AES not in way:
                raise SealError(_PLAIN)
            frame = self._cipher.open(self._subject("value", subject), frame)
        if _PICKLE not in way:
            return decode(frame)
        if not self.pickles or self._signer is None:
            raise SealError(f"{subject} is pickled; this app reads JSON only")
        signature, pickled = frame[:_SIGN_BYTES], frame[_SIGN_BYTES:]
        self._signer.verify(self._namespace, "", subject, pickled, signature)
        return _unpickled(pickled)

    def _subject(self, *parts: str) -> bytes:
        return "\n".join((self._namespace, *parts)).encode()


def make_sealer(
    namespace: str,
    serializer: str,
    signer: Signer | None,
    encryption_keys: Sequence[str | bytes] | None,
) -> Sealer | None:
    """Return the sealer of an app, None for one that keeps plain JSON.  Raises ConfigError."""
    if serializer not in ("json", "pickle"):
        raise ConfigError(f"serializer {serializer!r}: expected 'json' or 'pickle'")
    pickles = serializer == "pickle"
    if pickles and signer is None:
        raise ConfigError(
            "serializer 'pickle': expected signing_keys with it, because whoever can write to the"
            " storage could run any code; give signing_keys=[...], or use 'json'"
        )
    cipher = Cipher(encryption_keys) if encryption_keys is not None else None
    if not pickles and cipher is None:
        return None
    return Sealer(namespace, pickles=pickles, signer=signer, cipher=cipher)


def result_of(job_id: str) -> str:
    """Return the subject of a job's result."""
    return f"result of {job_id}"


def member_of(group: str, index: int) -> str:
    """Return the subject of what a group keeps of one member."""
    return f"member {index} of {group}"


def checkpoint_of(job_id: str) -> str:
    return f"checkpoint of {job_id}"


def _parts(data: bytes) -> tuple[list[str], bytes]:
    try:
        way, text = msgspec.json.decode(data, type=tuple[str, str])
    except msgspec.MsgspecError:
        raise SealError(_PLAIN) from None
    return way.split("+"), _from_base64(text)


def _from_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise SealError(f"it is not valid base64: {error}") from None


def _pickled(value: Any, what: str) -> bytes:
    try:
        return pickle.dumps(value, protocol=5)
    except Exception as error:
        raise EncodeError(f"{what}: cannot be pickled: {describe(error)}") from None


def _unpickled(data: bytes) -> Any:
    try:
        return pickle.loads(data)  # noqa: S301 - its signature was verified
    except Exception as error:
        raise SealError(f"cannot be unpickled: {describe(error)}") from None


_PLAIN = "it is not encrypted or pickled, as this app's serializer and encryption_keys ask for"
_NO_KEYS = "the arguments are encrypted; this app has no encryption_keys"
