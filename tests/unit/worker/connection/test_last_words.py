"""What a worker leaves on its host for who recovers it: found again, by nobody else, and not for ever."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from taskqd.ipc.messages import RecoverWorker
from taskqd.jobs.end import End, EnqueueNext
from taskqd.jobs.job import Entry, Lease, Outcome
from taskqd.worker.connection.last_words import LastWords, Words, folders

END = End(
    *("j", "q", 3, "ack", b"[]"),
    follow_ups=(EnqueueNext(Entry("next", "q", b"{}")),),
    lease=Lease("j", "q", 3, b"{}"),
)


def test_what_was_said_is_heard_until_it_is_forgotten(tmp_path: Path) -> None:
    words = LastWords([str(tmp_path / "state")])
    words.say("n.1", [END, Outcome("k", "q", 4, "requeue", reason="interrupted")])
    words.say("n.12", [])
    words.say("m.1", [])
    assert words.workers_of("n") == ["n.1", "n.12"]
    kept, back = words.heard("n.1").ends
    assert (kept.id, kept.follow_ups, kept.lease) == ("j", END.follow_ups, None)
    assert (back.kind, back.reason) == ("requeue", "interrupted")
    words.forget("n.1")
    assert words.heard("n.1") == Words()
    assert words.workers_of("n") == ["n.12"]


def test_an_order_is_kept_beside_the_ends_and_goes_with_them(tmp_path: Path) -> None:
    words = LastWords([str(tmp_path)])
    order = RecoverWorker("n.1", (3, 4), "orphaned", "SIGKILL")
    assert words.ordered("n.1") is None
    words.order(order)
    words.say("n.1", [END], left=True)
    assert words.workers_of("n") == ["n.1"]
    assert (words.ordered("n.1"), words.heard("n.1").left) == (order, True)
    words.forget("n.1")
    assert os.listdir(tmp_path) == []


def test_nobody_else_can_read_it(tmp_path: Path) -> None:
    LastWords([str(tmp_path / "state")]).say("n.1", [END])
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "state" / "n.1.ends").stat().st_mode & 0o777 == 0o600


def test_the_first_place_of_our_own_is_taken(tmp_path: Path) -> None:
    shared, own = tmp_path / "shared", tmp_path / "own"
    shared.mkdir()
    shared.chmod(0o777)
    words = LastWords([str(shared), str(own)])
    words.say("n.1", [END])
    assert os.listdir(own) == ["n.1.ends"]
    with pytest.raises(PermissionError, match="no folder of our own"):
        LastWords([str(shared)]).say("n.1", [END])


@pytest.mark.parametrize("data", [b"", b"[1]", b"\xff", b"[" * 5000])
def test_what_cannot_be_read_is_as_if_nothing_had_been_said(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "n.1.ends").write_bytes(data)
    assert LastWords([str(tmp_path)]).heard("n.1") == Words()


def test_what_others_can_write_to_is_not_believed(tmp_path: Path) -> None:
    words = LastWords([str(tmp_path)])
    words.say("n.1", [END])
    (tmp_path / "n.1.ends").chmod(0o666)
    assert words.heard("n.1") == Words()


def test_what_nobody_asks_for_in_a_week_is_swept_away(tmp_path: Path) -> None:
    words = LastWords([str(tmp_path)])
    for name in ("old.1", "new.1"):
        words.say(name, [END])
    (tmp_path / "other").touch()
    week_ago = time.time() - 8 * 86400
    for name in ("old.1.ends", "other"):
        os.utime(tmp_path / name, (week_ago, week_ago))
    words.sweep()
    assert sorted(os.listdir(tmp_path)) == ["new.1.ends", "other"]


def test_a_folder_that_outlives_the_daemon_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/taskqd:/var/lib/more")
    monkeypatch.setenv("RUNTIME_DIRECTORY", "/run/taskqd")
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    assert folders()[:2] == ["/var/lib/taskqd", "/run/taskqd"]
    assert len(folders()) == 3
