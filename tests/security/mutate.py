"""Spoils bytes in the ways in which bytes get spoilt, by accident or on purpose.  Seeded."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

Mutation = Callable[[random.Random, bytes, bytes], bytes]
"""(random, the bytes, another sample) -> spoilt bytes."""

_HUGE = 100_000
_DEEP = 5_000
_TOKENS = (
    b"null",
    b"true",
    b"-1",
    b"1e999",
    b"99999999999999999999999",
    b'"\\ud800"',
    b"\xff\xfe",
    b"\x00",
    b"\n",
    b"[]",
    b"{}",
    b'"__class__"',
    b'"__reduce__"',
    b"NaN",
    b"cposix\nsystem\n",
    b"\x80\x05",
)


def _flip(rng: random.Random, data: bytes, _other: bytes) -> bytes:
    spoilt = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        if spoilt:
            spoilt[rng.randrange(len(spoilt))] ^= 1 << rng.randrange(8)
    return bytes(spoilt)


def _cut(rng: random.Random, data: bytes, _other: bytes) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _splice(rng: random.Random, data: bytes, other: bytes) -> bytes:
    return data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other) + 1) :]


def _insert(rng: random.Random, data: bytes, _other: bytes) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.choice(_TOKENS) + data[at:]


def _swap_value(rng: random.Random, data: bytes, _other: bytes) -> bytes:
    """Put a token where a value of the JSON begins."""
    colons = [i for i, byte in enumerate(data) if byte == ord(":")]
    if not colons:
        return data
    at = rng.choice(colons) + 1
    ends = [i for i in range(at, len(data)) if data[i] in b",}"]
    return data[:at] + rng.choice(_TOKENS) + data[rng.choice(ends) if ends else len(data) :]


def _repeat(rng: random.Random, data: bytes, _other: bytes) -> bytes:
    start = rng.randrange(len(data) + 1)
    end = rng.randrange(start, len(data) + 1)
    return data[:end] + data[start:end] * rng.randint(1, 30) + data[end:]


def _noise(rng: random.Random, _data: bytes, _other: bytes) -> bytes:
    return rng.randbytes(rng.randrange(400))


def _huge(rng: random.Random, data: bytes, _other: bytes) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.choice([b"9", b"x", b'"', b"\\"]) * _HUGE + data[at:]


def _deep(rng: random.Random, data: bytes, _other: bytes) -> bytes:
    at = rng.randrange(len(data) + 1)
    left, right = rng.choice([(b"[", b"]"), (b'{"a":', b"}")])
    return data[:at] + left * _DEEP + right * rng.choice([0, _DEEP]) + data[at:]


_COMMON: Sequence[Mutation] = (_flip, _cut, _splice, _insert, _swap_value, _repeat, _noise)
_COSTLY: Sequence[Mutation] = (_huge, _deep)


def spoil(rng: random.Random, samples: Sequence[bytes]) -> bytes:
    """Return one of the samples, spoilt once to three times (now and then not at all)."""
    data = rng.choice(samples)
    for _ in range(rng.choice([0, 1, 1, 1, 2, 3])):
        mutations = _COSTLY if rng.random() < 0.01 else _COMMON
        data = rng.choice(mutations)(rng, data, rng.choice(samples))
    return data
