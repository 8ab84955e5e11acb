"""No script makes more than a bounded number of commands, however much there is to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from taskqd.storage.redis import RedisStorage
from tests.support.rigs.rig import Rig, ids, outcome
from tests.support.rigs.ring import rung
from tests.support.servers.redis_server import RedisServer, servers

server = servers()
COMMANDS_MAX = 4000
"""Of one script: some milliseconds."""
MANY = 6000


class Counted:
    """A storage that notes how many commands the server ran for each of its scripts."""

    def __init__(self, storage: RedisStorage, client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.storage = storage
        self.client = client
        self.rig = Rig(storage)
        self.commands: dict[str, int] = {}
        self.is_counting = False
        link: Any = storage._link
        plain, plain_all = link.run, link.run_all

        def run(script: Any, *args: Any, **options: Any) -> Any:
            return self._count(script.name, lambda: plain(script, *args, **options))

        def run_all(calls: Any, **options: Any) -> Any:
            name = "+".join(script.name for script, *_ in calls)
            return self._count(name, lambda: plain_all(calls, **options))

        monkeypatch.setattr(link, "run", run)
        monkeypatch.setattr(link, "run_all", run_all)

    def _count(self, name: str, call: Callable[[], Any]) -> Any:
        if not self.is_counting:
            return call()
        before = self._total()
        reply = call()
        self.commands[name] = max(self._total() - before, self.commands.get(name, 0))
        return reply

    def _total(self) -> int:
        return sum(row["calls"] for row in self.client.info("commandstats").values())

    def of(self, call: Callable[[], Any]) -> Any:
        self.commands.clear()
        self.is_counting = True
        result = call()
        self.is_counting = False
        assert self.commands, "no script ran"
        assert max(self.commands.values()) <= COMMANDS_MAX, self.commands
        return result

    def put(self, count: int = MANY) -> list[str]:
        names = [f"j{number}" for number in range(count)]
        self.rig.put(*names)
        return names

    def cancel(self, names: list[str]) -> None:
        for name in names:
            assert self.storage.cancel(name, "q", b"", 0)


@pytest.fixture
def counted(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Counted]:
    client = server.client()
    client.flushall()
    storage = RedisStorage(server.url, "shop")
    yield Counted(storage, client, monkeypatch)
    storage.close()


def test_stale_entries_of_cancelled_jobs_are_dropped_in_steps(counted: Counted) -> None:
    """One turn dropped all of 200,000 in one script."""
    counted.cancel(counted.put())
    counted.rig.put("last")
    assert ids(counted.of(lambda: counted.rig.lease(1))) == ["last"]
    assert not counted.client.exists("{shop:q}:ghosts")


def test_an_idle_worker_gets_the_job_behind_stale_entries(counted: Counted) -> None:
    """It is woken to ask, where one script must not come to the end of them."""
    storage = counted.storage
    bell = storage.bell("n.1", ["q"])
    counted.cancel(counted.put())
    storage.pause("q")
    bell.arm()
    assert not storage.turn("n.1", (), ["q"], 1, idle=True).leases
    counted.rig.put("last")
    counted.of(lambda: storage.resume("q"))
    handed = rung(bell)
    leased = handed or counted.of(lambda: storage.turn("n.1", (), ["q"], 1, idle=True)).leases
    assert ids(leased) == ["last"]
    bell.close()


def test_a_queue_of_stale_entries_is_purged_in_steps(counted: Counted) -> None:
    names = counted.put()
    counted.cancel(names[:-5])
    assert counted.of(lambda: counted.storage.purge_queue("q")) == 5
    assert counted.rig.counts() == (0, 0, 0, 0)
    assert not counted.client.exists("{shop:q}:ghosts")


def _bury(counted: Counted, **fields: Any) -> list[str]:
    names = counted.put()
    ends = [outcome(lease, "bury", reason="failed", **fields) for lease in counted.rig.lease(MANY)]
    assert all(counted.rig.settle(*ends))
    return names


@pytest.mark.parametrize("label", ["another", ""])
def test_parked_letters_go_to_another_label_in_steps(counted: Counted, label: str) -> None:
    names = _bury(counted, parked="task x")
    assert counted.of(lambda: counted.storage.relabel("q", names, label)) == names
    assert [row.label for row in counted.storage.parked(["q"])] == [label] * bool(label)


def test_parked_letters_over_their_bound_go_in_steps(counted: Counted) -> None:
    _bury(counted, parked="task x")
    purged = counted.of(lambda: counted.storage.purge(["q"], dead_ttl_s=1000, dead_max=3))
    assert purged == MANY - 3


def test_marks_of_workers_that_are_gone_go_in_steps(counted: Counted) -> None:
    """All that were past their lifetime went at once."""
    counted.client.zadd("{shop:q}:gone", {f"n.{number}": 1 for number in range(MANY)})
    counted.client.zadd("{shop:q}:strangers", {f"j{number}": 1 for number in range(MANY)})
    counted.client.hset("{shop:q}:waiters", mapping={f"j{n}": "w" for n in range(MANY)})
    counted.of(lambda: counted.storage.purge(["q"], dead_ttl_s=1, dead_max=1))
    assert not counted.client.exists("{shop:q}:gone", "{shop:q}:strangers", "{shop:q}:waiters")
    assert list(counted.storage.leftovers()) == []


def test_locks_are_listed_in_steps(counted: Counted) -> None:
    for number in range(MANY):
        counted.storage.lock(f"L{number}", "me", ttl_s=600)
    assert len(counted.of(counted.storage.locks)) == MANY


def test_answers_of_a_large_group_come_in_order(counted: Counted) -> None:
    counted.storage.group_open("g", "q", 2500, None, 600)
    for index in range(0, 2500, 7):
        counted.storage.group_put("g", "q", index, b"%d" % index)
    answers = counted.storage.group_answers("g", "q")
    assert answers == [b"%d" % index if index % 7 == 0 else None for index in range(2500)]
    assert counted.storage.group_answers("none", "q") == []
