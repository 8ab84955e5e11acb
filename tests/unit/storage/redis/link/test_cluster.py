"""Whom a client of a cluster asks for the map of the slots, and for how long."""

from __future__ import annotations

from typing import Any

import pytest

from taskqd.errors import StorageUnavailable
from taskqd.storage.redis.link import cluster
from taskqd.storage.redis.link.connection import CALL_S
from taskqd.storage.redis.link.slots import Place

PLACES = [("127.0.0.1", 7000 + number) for number in range(6)]


class Servers:
    """Six servers that are silent, but for some; asking a silent one takes as long as a call may."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.asked: list[Place] = []
        self.serving: set[Place] = set()

    def at(self, place: Place) -> Any:
        servers = self

        class One:
            is_connected = False

            def call(self, *_: object, write: bool) -> list[object]:
                servers.asked.append(place)
                if place in servers.serving:
                    return [[0, 16383, [place[0].encode(), place[1], b"id"]]]
                servers.now_s += CALL_S
                raise StorageUnavailable(f"{place}: silent")

        return One()


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Servers:
    made = Servers()
    monkeypatch.setattr(cluster, "monotonic_s", lambda: made.now_s)
    monkeypatch.setattr(cluster.Cluster, "_at", lambda _, place: made.at(place))
    return made


def _client() -> cluster.Cluster:
    return cluster.Cluster("redis+cluster://" + ",".join(f"{h}:{p}" for h, p in PLACES))


def test_silent_servers_together_hold_up_a_call_no_longer_than_one(servers: Servers) -> None:
    client = _client()
    for number in range(1, 7):
        with pytest.raises(StorageUnavailable, match="not asked|silent"):
            client.servers()
        assert servers.now_s == number * CALL_S
    assert servers.asked == PLACES, "each call goes on where the last one gave up"
    with pytest.raises(StorageUnavailable):
        client.servers()
    assert servers.asked[6:] == PLACES[:1]


def test_the_one_that_serves_is_found_among_the_silent(servers: Servers) -> None:
    servers.serving = {PLACES[3]}
    client = _client()
    for _ in range(3):
        with pytest.raises(StorageUnavailable):
            client.servers()
    assert len(client.servers()) == 1
    assert servers.asked == PLACES[:4]


def test_no_last_words_are_said_to_servers_of_which_one_has_failed(servers: Servers) -> None:
    servers.serving = set(PLACES)
    client = _client()
    client.servers()
    link = servers.at(PLACES[0])
    link.is_connected = True
    client._links[PLACES[0]] = link
    assert client.is_connected
    client._suspect(PLACES[0])
    assert not client.is_connected


def test_a_call_to_many_silent_servers_waits_for_two_of_them(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And one that serves is asked, whichever they are: it is not to lose a heartbeat."""
    client = _client()
    client._stale = False
    links = {place: servers.at(place) for place in PLACES}
    monkeypatch.setattr(client, "server_of", lambda key: links[PLACES[int(key)]])
    asked: list[Place] = []

    def exchange(link: Any, todo: Any, *_: object) -> tuple[list[Any], list[Any]]:
        [place] = [place for place, one in links.items() if one is link]
        asked.append(place)
        if place in servers.serving:
            link.is_connected = True
            return [b"well" for _ in todo], []
        servers.now_s += CALL_S
        link.is_connected = False
        raise StorageUnavailable(f"{place}: silent")

    monkeypatch.setattr(cluster, "exchange", exchange)
    commands = [("GET", str(number)) for number in range(6)]
    with pytest.raises(StorageUnavailable, match="silent"):
        client.pipeline(commands)
    assert servers.now_s == 2 * CALL_S
    assert asked == PLACES[:2]
    servers.serving = {PLACES[5]}
    links[PLACES[5]].is_connected = True
    asked.clear()
    with pytest.raises(StorageUnavailable):
        client.pipeline(commands)
    assert asked[0] == PLACES[5]
