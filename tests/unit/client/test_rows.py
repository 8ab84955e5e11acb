"""Rows for people and tools, from any record, damaged ones included."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskqd.client.rows import describe, iso, job_row, node_row, queue_row, task_of
from taskqd.jobs.job import Answer, Envelope, Failure, Marks, State, encode_answer, join_record
from taskqd.storage.base import JobRow, Node, NodeRow, QueueRow

PAYLOAD = msgspec.json.encode(
    Envelope(
        t="shop.thumbnail", p=3, a=msgspec.Raw(b'["a.png"]'), k=msgspec.Raw(b'{"w":1}'), e=1000
    )
)
PROMISED = {
    "id",
    "task",
    "queue",
    "state",
    "reason",
    "error",
    "attempts",
    "interruptions",
    "crashes",
}
TIMES = {"enqueued_at", "run_at", "finished_at"}
FAILED = Answer(
    "dead", 7, 3000, 60, attempts=2, reason="failed", failure=Failure("E", "no", "Trace")
)


def test_a_waiting_job_has_the_promised_keys_and_iso_times() -> None:
    marks = Marks(attempts=2, failures=1, interruptions=1, error="E: no")
    row = job_row(
        JobRow("j1", "images", State.SCHEDULED, join_record(marks, PAYLOAD), run_at_ms=2000)
    )
    assert set(row) >= PROMISED | TIMES
    assert row["task"] == "shop.thumbnail"
    assert (row["attempts"], row["failures"], row["interruptions"], row["crashes"]) == (2, 1, 1, 0)
    assert row["error"] == "E: no"
    assert row["priority"] == 3
    assert (row["enqueued_at"], row["run_at"]) == (
        "1970-01-01T00:00:01.000Z",
        "1970-01-01T00:00:02.000Z",
    )
    assert row["finished_at"] is None


def test_a_dead_job_says_why_when_and_with_which_traceback() -> None:
    dead = JobRow("j1", "q", State.DEAD, PAYLOAD, run_at_ms=3000, reason="failed")
    row = job_row(dead)
    assert (row["reason"], row["finished_at"], row["run_at"]) == (
        "failed",
        "1970-01-01T00:00:03.000Z",
        None,
    )
    details = describe(dead, encode_answer(FAILED))
    assert details["error"] == "E: no"
    assert details["traceback"] == "Trace"
    assert details["args"] == ["a.png"]
    assert details["kwargs"] == {"w": 1}
    assert details["payload"] == PAYLOAD.decode()


def test_an_ended_job_is_known_by_its_answer() -> None:
    answer = encode_answer(Answer("done", 1, 5000, 60, attempts=2, value=msgspec.Raw(b'{"a":1}')))
    row = JobRow("j1", "q", State.DONE, b"", answer=answer)
    assert job_row(row)["finished_at"] == "1970-01-01T00:00:05.000Z"
    assert job_row(row)["attempts"] == 2
    assert set(job_row(row)) == set(job_row(JobRow("j", "q", State.QUEUED, PAYLOAD)))
    assert describe(row)["result"] == {"a": 1}


@pytest.mark.parametrize(
    "record", [b"garbage", b"[broken\n{}", b"{}", b'{"t":1}', b'{"t":"x"', b"\xff\xfe{", b"[1]\nx"]
)
def test_an_undecodable_record_is_a_row_with_its_size(record: bytes) -> None:
    row = JobRow("j1", "q", State.QUEUED, record)
    shown = job_row(row)
    assert (shown["task"], shown["reason"], shown["raw_bytes"]) == (
        None,
        "undecodable",
        len(record),
    )
    assert shown["error"]
    assert describe(row)["payload"]
    assert task_of(row) == ""


@given(st.binary(max_size=200), st.binary(max_size=50), st.sampled_from(State))
def test_whatever_a_storage_holds_it_is_shown(record: bytes, answer: bytes, state: State) -> None:
    row = JobRow("j1", "q", state, record, run_at_ms=10**18, answer=answer)
    for shown in (job_row(row), describe(row)):
        assert set(shown) >= PROMISED | TIMES
        msgspec.json.encode(shown)


def test_a_call_without_arguments_has_none() -> None:
    row = JobRow("j1", "q", State.QUEUED, msgspec.json.encode(Envelope(t="shop.sweep")))
    assert (describe(row)["args"], describe(row)["kwargs"]) == ([], {})


def test_task_of_a_record() -> None:
    assert task_of(JobRow("j1", "q", State.QUEUED, PAYLOAD)) == "shop.thumbnail"


def test_no_time_is_none() -> None:
    assert iso(0) is None
    assert iso(None) is None


def test_queues_and_nodes_are_flat_rows() -> None:
    assert queue_row(QueueRow("q", 1, 2, 3, 4, paused=True)) == {
        "queue": "q",
        "queued": 1,
        "scheduled": 2,
        "running": 3,
        "dead": 4,
        "paused": True,
    }
    node = Node("n1", name="prod@h", host="h", pid=7, info={"url": "redis://:pw@h"})
    shown = node_row(NodeRow(node, -1.5, {"n1.1": 2, "n1.2": 0}))
    assert (shown["workers"], shown["held"], shown["expires_in_s"]) == (1, 2, -1.5)
    assert shown["info"] == {"url": "redis://:***@h"}
