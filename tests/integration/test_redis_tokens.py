"""Fencing tokens past 2^53, and receipts of more outcomes than one script takes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from taskqd.storage.base import Storage
from taskqd.storage.features import Revocation
from taskqd.storage.redis import RedisStorage
from tests.support.rigs.rig import Rig, ack, ids, outcome
from tests.support.servers.redis_server import RedisServer, servers

server = servers()
END = 2**45
"""The count that the clock reaches in September 2039."""
FAR = END * 20


@pytest.fixture
def client(server: RedisServer) -> Any:
    client = server.client()
    client.flushall()
    return client


@pytest.fixture
def storage(server: RedisServer, client: Any) -> Iterator[Storage]:
    storage = RedisStorage(server.url, "shop")
    yield storage
    storage.close()


def _at(client: Any, count: int, *queues: str) -> None:
    """Have the counts of queues, and of locks, be as the clock makes them one day."""
    client.set("{shop}:seq", count)
    for queue in queues:
        client.set(f"{{shop:{queue}}}:seq", count)


@pytest.mark.parametrize("count", [END - 3, END, FAR])
def test_tokens_differ_and_grow_whatever_the_year(
    storage: Storage, client: Any, count: int
) -> None:
    """They were inexact beyond 2^53, so that several jobs were held under one token."""
    queues = [f"q{number}" for number in range(40)]
    rig = Rig(storage, queues)
    before = {}
    for queue in queues:
        rig.put(f"{queue}-a", queue=queue)
    for lease in rig.lease(len(queues)):
        before[lease.queue] = lease.token
    _at(client, count, *queues)
    for queue in queues:
        rig.put(*(f"{queue}-{number}" for number in range(10)), queue=queue)
    leases = [lease for queue in queues for lease in storage.lease("n.2", [queue], 10).leases]
    assert len({lease.token for lease in leases}) == 400
    for queue in queues:
        tokens = [lease.token for lease in leases if lease.queue == queue]
        assert tokens == sorted(tokens)
        assert before[queue] < tokens[0]
        assert tokens[-1] < 2**63
    told = {(lease.id, lease.token) for lease in storage.holdings("n.2", queues)}
    assert told == {(lease.id, lease.token) for lease in leases}
    assert all(storage.settle("n.2", [ack(lease) for lease in leases]))


@pytest.mark.parametrize("count", [END - 1, FAR])
def test_what_goes_back_keeps_its_order_whatever_the_year(
    storage: Storage, client: Any, count: int
) -> None:
    rig = Rig(storage)
    _at(client, count, "q")
    rig.put(*"abcdefgh")
    leases = rig.lease(8)
    rig.settle(*(outcome(lease, "requeue") for lease in reversed(leases[:4])))
    storage.release("n.1", [(lease.id, lease.queue, lease.token) for lease in leases[4:]])
    order = list("efghabcd")
    assert rig.order() == order
    rig.lease(8)
    storage.recover_node("n", ["q"])
    rig.register("n")
    suspects = [rig.lease(alone=True, worker=f"n.{number}")[0] for number in range(2, 10)]
    assert ids(suspects) == order


@pytest.mark.parametrize("count", [END - 2, FAR])
def test_locks_and_orders_whatever_the_year(storage: Storage, client: Any, count: int) -> None:
    """A fencing token is greater than those before it; a waiter that came first goes first; a queue
    hears of each change to the orders."""
    rig = Rig(storage)
    first = storage.lock("L", "me", ttl_s=600)
    storage.lock("L", "n.1#1", waiter=("q", "w1"))
    _at(client, count, "q")
    storage.lock("L", "n.1#2", waiter=("q", "w2"))
    storage.lock("L", "n.1#3", waiter=("q", "w3"))
    line = [name.decode() for name in client.zrange("{shop}:line:L", 0, -1)]
    assert line == ["q w1", "q w2", "q w3"]
    storage.unlock("L", "me")
    second = storage.lock("L", "me", ttl_s=600)
    assert first is not None
    assert second is not None
    assert first < second < 2**63
    rig.put("a")
    seen = []
    for number in range(20):
        storage.revoke(f"task:{number}", Revocation(), 600)
        seen.append(storage.turn("n.1", (), ["q"], 0).revocations)
    assert seen == sorted(set(seen))


def test_a_repeat_of_more_outcomes_than_one_script_takes_took_effect(storage: Storage) -> None:
    """The second thousand's receipt took the place of the first one's, whose ends then were refused."""
    rig = Rig(storage)
    rig.put(*(f"j{number}" for number in range(2500)))
    leases = rig.lease(2500)
    assert len(leases) == 2500
    ends = [outcome(lease, "retry", delay_ms=60_000) for lease in leases]
    assert rig.settle(*ends) == [True] * 2500
    assert rig.settle(*ends) == [True] * 2500


def test_a_repeat_of_more_releases_than_one_script_takes_took_effect(storage: Storage) -> None:
    rig = Rig(storage)
    rig.put(*(f"j{number:04}" for number in range(2500)))
    leases = [(lease.id, lease.queue, lease.token) for lease in rig.lease(2500)]
    assert storage.release("n.1", leases) == [True] * 2500
    assert storage.release("n.1", leases) == [True] * 2500
    assert rig.order(2500) == sorted(name for name, _, _ in leases)
