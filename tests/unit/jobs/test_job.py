from __future__ import annotations

import msgspec
import pytest

from taskqd.jobs.job import (
    NO_MARKS,
    Answer,
    BadRecord,
    Envelope,
    Failure,
    Marks,
    clip,
    decode_answer,
    encode_answer,
    join_record,
    split_record,
    strip_marks,
)

PAYLOAD = b'{"t":"shop.add","e":1}'


def test_record_without_marks_is_its_payload() -> None:
    assert join_record(NO_MARKS, PAYLOAD) == PAYLOAD
    assert split_record(PAYLOAD) == (NO_MARKS, PAYLOAD, None)


def test_marks_and_signature_travel_beside_an_unchanged_payload() -> None:
    marks = Marks(3, 1, 1, 1, "ValueError: [1]\n" + "x")
    record = join_record(marks, PAYLOAD + b"\nkey:00ff")
    assert split_record(record) == (marks, PAYLOAD, b"key:00ff")
    assert strip_marks(record) == PAYLOAD + b"\nkey:00ff"


@pytest.mark.parametrize(
    "record",
    [
        b"",
        b"garbage",
        b"[1,2",
        b"[1,2]",
        b'["x"]\n' + PAYLOAD,
        PAYLOAD + b"\na\nb",
        b"\n",
        b"[]\n[]",
    ],
)
def test_damaged_record_is_a_bad_record(record: bytes) -> None:
    with pytest.raises(BadRecord):
        split_record(record)


def test_priority_stands_at_the_fixed_front_of_a_payload() -> None:
    encoded = msgspec.json.encode(Envelope(p=7, t="a", e=5))
    assert encoded.startswith(b'{"p":7,')
    assert msgspec.json.encode(Envelope(t="a")) == b'{"t":"a"}'


def test_answer_survives_its_encoding() -> None:
    answer = Answer(
        "dead", 5, 1000, 60, 3, 1.5, msgspec.Raw(b"null"), "failed", Failure("E", "m", "t")
    )
    assert decode_answer(encode_answer(answer)) == answer


def test_answer_of_a_plain_job_fits_the_small_encoding_of_redis() -> None:
    answer = Answer("done", 123_456_789, 1_763_660_000_123, 86_400, 1, 0.02)
    assert len(encode_answer(answer)) <= 64


def test_clip_keeps_one_line() -> None:
    assert clip("a\n b\t c") == "a b c"
    assert len(clip("x" * 900)) == 500
