"""taskqctl and a storage with a job in every state, on SQLite and on a server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from taskqd.jobs.job import (
    Answer,
    Entry,
    Envelope,
    Failure,
    Lease,
    Marks,
    Outcome,
    State,
    encode_answer,
)
from taskqd.storage.base import Node, Storage
from tests.support.rigs.ctl import Done, taskqctl
from tests.support.servers.storages import Backend, backends

LATER_MS = 4_102_444_800_000  # the year 2100
APP = """
from taskqd import App
app = App("{namespace}")

@app.task(queue="images")
def thumbnail(path: str, width: int = 200) -> str:
    return path
"""


backend = backends("sqlite", "redis")


class World(NamedTuple):
    """A namespace in which `q` has had jobs of every fate; their ids are their fates."""

    folder: Path
    url: str
    namespace: str
    storage: Storage

    def ctl(self, *words: str, code: int = 0, **env: str) -> Done:
        given = {"TASKQD_STORAGE": self.url, **env}
        done = taskqctl(self.folder, *words, "--namespace", self.namespace, **given)
        assert done.code == code, done.err
        return done

    def json(self, *words: str, code: int = 0) -> Any:
        return msgspec.json.decode(self.ctl(*words, "--json", code=code).out)

    def ids(self, *words: str) -> set[str]:
        return {row["id"] for row in self.json(*words)}


@pytest.fixture
def world(backend: Backend, tmp_path: Path) -> Iterator[World]:
    namespace = backend.namespace()
    storage = backend.open(namespace)
    fill(storage)
    yield World(tmp_path, backend.url, namespace, storage)
    storage.close()


def fill(storage: Storage) -> None:
    storage.register(Node("n1", name="prod@host", pid=7), ["q"], 60)
    storage.enqueue([entry(name) for name in ("done", "failed", "poisoned", "running")])
    leases = {lease.id: lease for lease in storage.lease("n1.1", ["q"], 4).leases}
    storage.settle(
        "n1.1",
        [
            ended(leases["done"], "ack", Answer("done", 1, 1, 10**6, value=msgspec.Raw(b"42"))),
            buried(leases["failed"], "failed", "ValueError: no"),
            buried(leases["poisoned"], "poisoned", "killed by SIGKILL", crashes=3),
        ],
    )
    storage.enqueue([entry("queued"), entry("later", run_at_ms=LATER_MS)])


def entry(job_id: str, *, run_at_ms: int = 0) -> Entry:
    envelope = Envelope(t="shop.thumbnail", a=msgspec.Raw(b'["a.png"]'), e=1000)
    return Entry(job_id, "q", msgspec.json.encode(envelope), run_at_ms, fresh=False)


def ended(lease: Lease, kind: str, answer: Answer, **facts: Any) -> Outcome:
    data = encode_answer(answer)
    return Outcome(lease.id, lease.queue, lease.token, kind, data, answer.ttl_s, **facts)


def buried(lease: Lease, reason: str, error: str, *, crashes: int = 0) -> Outcome:
    failure = Failure(*error.partition(": ")[::2], "Traceback of the worker")
    answer = Answer("dead", lease.token, 1, 10**6, reason=reason, failure=failure)
    marks = Marks(attempts=3, failures=3 - crashes, crashes=crashes, error=error)
    return ended(lease, "bury", answer, marks=marks, reason=reason)


def test_jobs_are_listed_by_state_queue_and_task(world: World) -> None:
    assert world.ids("job", "ls") == {"running", "queued", "later"}
    assert world.ids("job", "ls", "--state", "scheduled") == {"later"}
    assert world.ids("job", "ls", "--state", "dead") == {"failed", "poisoned"}
    assert world.ids("job", "ls", "--queue", "other") == set()
    assert world.ids("job", "ls", "--task", "shop.other") == set()
    assert len(world.ids("job", "ls", "--task", "shop.thumbnail", "--limit", "2")) == 2
    (later,) = world.json("job", "ls", "--state", "scheduled")
    assert later["run_at"] == "2100-01-01T00:00:00.000Z"
    assert later["enqueued_at"] == "1970-01-01T00:00:01.000Z"
    table = world.ctl("job", "ls", "--state", "queued").out.splitlines()
    assert [line.split()[:4] for line in table] == [
        ["ID", "TASK", "QUEUE", "STATE"],
        ["queued", "shop.thumbnail", "q", "queued"],
    ]


def test_a_job_is_shown_in_whatever_state_it_is(world: World) -> None:
    assert world.json("job", "show", "queued")["args"] == ["a.png"]
    done = world.json("job", "show", "done")
    assert (done["state"], done["result"]) == ("done", 42)
    assert world.json("job", "show", "running")["worker"] == "n1.1"
    dead = world.json("job", "show", "failed")
    assert (dead["reason"], dead["error"]) == ("failed", "ValueError: no")
    missing = world.ctl("job", "show", "nothing", code=1)
    assert missing.err == "job nothing: not known, or its result's lifetime is over\n"


def test_dead_letters_are_listed_shown_retried_and_purged(world: World) -> None:
    rows = {row["id"]: row for row in world.json("dead", "ls")}
    assert set(rows) == {"failed", "poisoned"}
    assert (rows["poisoned"]["reason"], rows["poisoned"]["crashes"]) == ("poisoned", 3)
    assert rows["poisoned"]["finished_at"]
    assert world.ids("dead", "ls", "--reason", "failed") == {"failed"}
    shown = world.ctl("dead", "show", "failed").out
    assert "Traceback of the worker" in shown
    assert '"shop.thumbnail"' in world.json("dead", "show", "failed")["payload"]
    assert "not among the dead letters" in world.ctl("dead", "show", "queued", code=1).err

    assert world.json("dead", "retry", "failed") == {"retried": 1, "missing": 0}
    assert world.ids("job", "ls", "--state", "queued") == {"queued", "failed"}
    assert world.json("dead", "retry", "failed", code=1) == {"retried": 0, "missing": 1}
    assert world.json("dead", "purge", "--reason", "poisoned") == {"purged": 1, "missing": 0}
    assert world.json("dead", "ls") == []


def test_purging_needs_a_choice(world: World) -> None:
    for verb in ("retry", "purge"):
        assert "say which" in world.ctl("dead", verb, code=64).err
    assert world.json("dead", "purge", "--all")["purged"] == 2


def test_jobs_are_revoked_and_retried_one_by_one(world: World) -> None:
    rows = world.json("job", "revoke", "queued", "running", "nothing", code=1)
    assert [(row["id"], row["revoked"], row["state"]) for row in rows] == [
        ("queued", True, "queued"),
        ("running", False, "running"),
        ("nothing", False, "unknown"),
    ]
    shown = world.json("job", "show", "queued")
    assert (shown["state"], shown["reason"]) == ("cancelled", "revoked")
    assert world.json("job", "retry", "later", "failed")[0]["retried"] is True
    assert world.ids("job", "ls", "--state", "queued") == {"later", "failed"}


def test_queues_are_listed_paused_resumed_and_purged(world: World) -> None:
    counts = {"queue": "q", "queued": 1, "scheduled": 1, "running": 1, "dead": 2, "paused": False}
    assert world.json("queue", "ls") == [counts]
    world.ctl("queue", "pause", "q")
    assert world.storage.lease("n1.1", ["q"], 1).leases == []
    assert world.json("queue", "ls")[0]["paused"] is True
    world.ctl("queue", "resume", "q")
    assert world.json("queue", "purge", "q") == {"queue": "q", "purged": 2}
    assert world.ids("job", "ls") == {"running"}


def test_a_node_is_recovered_only_when_it_is_dead_or_by_force(world: World) -> None:
    (node,) = world.json("node", "ls")
    assert (node["id"], node["name"], node["held"]) == ("n1", "prod@host", 1)
    assert world.json("node", "recover") == []
    assert "--force takes its jobs" in world.ctl("node", "recover", "prod@host", code=1).err
    (row,) = world.json("node", "recover", "prod@host", "--force")
    assert (row["id"], row["how"], row["crashes"]) == ("running", "orphaned", 1)
    assert "not known" in world.ctl("node", "recover", "zzz", code=1).err


def test_force_recovers_every_node_of_a_name_also_beside_the_instances_own(world: World) -> None:
    """As the systemd unit asks for it, after a second crash."""
    world.storage.register(Node("n2", name="prod@host", pid=8), ["q"], 60)
    world.storage.lease("n2.1", ["q"], 1)
    several = world.ctl("node", "recover", "prod@host", code=1).err
    assert "several have that name" in several
    words = ("node", "recover", "prod@host", "--force", "--name", "prod")
    assert world.ids(*words) == {"running", "queued"}
    assert world.json("node", "ls") == []


def test_a_damaged_record_is_listed_and_shown(world: World) -> None:
    world.storage.enqueue([Entry("broken", "q", b"{damaged", fresh=False)])
    rows = {row["id"]: row for row in world.json("job", "ls", "--state", "queued")}
    assert rows["broken"]["reason"] == "undecodable"
    assert rows["broken"]["raw_bytes"] == len(b"{damaged")
    assert world.json("job", "show", "broken")["payload"] == "{damaged"


def test_a_job_is_enqueued_as_it_is_without_an_app(world: World) -> None:
    words = ("enqueue", "shop.thumbnail", "--args", '["b.png"]', "--kwargs", '{"width": 3}')
    first = world.json(*words, "--id", "mine", "--queue", "q", "--delay", "1000")
    assert first == {"id": "mine", "task": "shop.thumbnail", "queue": "q", "new": True}
    assert world.json(*words, "--id", "mine", "--queue", "q")["new"] is False
    shown = world.json("job", "show", "mine")
    assert (shown["args"], shown["kwargs"], shown["state"]) == (
        ["b.png"],
        {"width": 3},
        "scheduled",
    )


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--args", "[1"], "--args: not JSON"),
        (["--args", "3"], "--args: expected a JSON array"),
        (["--kwargs", "[]"], "--kwargs: expected a JSON object"),
        (["--id", "a b"], "nothing enqueued: id"),
        (["--queue", "a b"], "nothing enqueued: queue 'a b'"),
        (["--priority", "12"], "Invalid value for '--priority'"),
    ],
)
def test_bad_calls_enqueue_nothing(world: World, words: list[str], error: str) -> None:
    assert error in world.ctl("enqueue", "shop.thumbnail", *words, code=64).err
    assert world.ids("job", "ls", "--state", "queued") == {"queued"}


def test_with_an_app_the_call_is_checked_and_goes_to_the_tasks_queue(world: World) -> None:
    (world.folder / "shop.py").write_text(APP.format(namespace=world.namespace))
    words = ("enqueue", "shop.thumbnail", "--app", "shop:app", "--args")
    assert world.json(*words, '{"path": "c.png"}')["queue"] == "images"
    for call in ('["a", "wide"]', "[]", '["a", 1, 2]'):
        assert "nothing enqueued: " in world.ctl(*words, call, code=64).err
    assert (
        "no task named 'shop.other'"
        in world.ctl("enqueue", "shop.other", "--app", "shop:app", code=64).err
    )
    assert world.storage.queues()[0].queued == 1


def test_a_bad_call_is_told_as_one_although_the_storage_is_away(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(APP.format(namespace="shop"))
    away = {"TASKQD_STORAGE": "redis://127.0.0.1:1/0"}
    for words in (["--id", "a b"], ["--app", "shop:app", "--args", "[]"]):
        told = taskqctl(tmp_path, "enqueue", "shop.thumbnail", *words, **away)
        assert told.code == 64, told.err
        assert "nothing enqueued: " in told.err


def test_the_namespace_is_the_apps_or_the_only_one(world: World) -> None:
    def ctl(*words: str, **env: str) -> Done:
        return taskqctl(world.folder, "queue", "ls", *words, TASKQD_STORAGE=world.url, **env)

    (world.folder / "shop.py").write_text(APP.format(namespace=world.namespace))
    assert ctl("--app", "shop:app", "--json").json()[0]["queue"] == "q"
    assert ctl("--json", TASKQD_APP="shop:app").json()[0]["queue"] == "q"
    several = ctl()
    if several.code:
        assert several.code == 64
        assert f" {world.namespace}" in several.err
        assert "say --namespace" in several.err
    else:
        assert several.out.splitlines()[1].split()[0] == "q"


def test_of_several_namespaces_the_error_lists_them(world: World, backend: Backend) -> None:
    other = backend.namespace()
    with_other = backend.open(other)
    with_other.enqueue([entry("x")])
    with_other.close()
    done = taskqctl(world.folder, "queue", "ls", TASKQD_STORAGE=world.url)
    assert done.code == 64
    assert other in done.err
    assert world.namespace in done.err


def test_states_are_complete(world: World) -> None:
    for state in State:
        world.json("job", "ls", "--state", str(state))
    assert world.ids("job", "ls", "--state", "done") == {"done"}
