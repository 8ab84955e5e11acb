"""An end that is kept with its job, and what is believed of it when it is read again."""

from __future__ import annotations

import msgspec
import pytest

from taskqd.jobs.end import (
    ConcludeStage,
    CountMember,
    End,
    EnqueueNext,
    ShortenGroup,
    encode_end,
    resumed_end,
)
from taskqd.jobs.job import Answer, Entry, Lease, Marks, decode_answer, encode_answer

LEASE = Lease("j", "q", 8, b"{}")
ANSWER = encode_answer(Answer("done", 3, 1000, 60, value=msgspec.Raw(b'{"a":[1.5,null]}')))
END = End(
    *("j", "q", 3, "ack", ANSWER, 60),
    marks=Marks(2, 1, 0, 1, "x"),
    follow_ups=(
        EnqueueNext(Entry("next", "r", b'{"t":"x"}\nkey:00', 5, 3, fresh=False)),
        ConcludeStage("later", "r", b"\xff", 60),
        CountMember("g", "q", 4, ANSWER),
        ShortenGroup("g", "q", 3600),
    ),
    lines=(("job.done", {"job_id": "j", "run_ms": 1.5}),),
    lease=LEASE,
)


def test_it_is_read_as_the_end_of_the_lease_under_which_it_is_settled() -> None:
    kept = resumed_end(encode_end(END), LEASE)
    assert kept is not None
    assert (kept.id, kept.token, decode_answer(kept.answer).token) == ("j", 8, 8)
    assert bytes(decode_answer(kept.answer).value) == b'{"a":[1.5,null]}'
    assert (kept.follow_ups, kept.lines, kept.marks) == (END.follow_ups, END.lines, END.marks)


@pytest.mark.parametrize("data", [b"", b"{}", b"[" * 5000, encode_end(END)[:-9], b"\xff\xfe"])
def test_what_is_no_end_is_not_believed(data: bytes) -> None:
    assert resumed_end(data, LEASE) is None


def test_an_end_that_ends_nothing_or_tells_what_no_event_is_was_written_by_somebody_else() -> None:
    """An unknown kind or event would have cost the worker that reads it."""
    assert resumed_end(encode_end(msgspec.structs.replace(END, kind="retry")), LEASE) is None
    assert resumed_end(encode_end(msgspec.structs.replace(END, kind="x")), LEASE) is None
    told = resumed_end(
        encode_end(msgspec.structs.replace(END, id="other", lines=(("no.event", {}),))), LEASE
    )
    assert told is not None
    assert (told.id, told.lines) == ("j", ())


def test_its_size_counts_what_follows() -> None:
    assert END.size_bytes > 2 * len(ANSWER) + len(b'{"t":"x"}\nkey:00')
