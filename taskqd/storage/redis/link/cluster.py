"""Many servers as one: each command goes to the server that has its key's slot.

All that one script touches lies in one slot (`keys.py`), so nothing here knows what is asked.

law: each script is given a second key, one that never exists.  While a slot moves to another server
its keys are here and there, and a script would fail halfway; but a server refuses a command whose
keys are not all at hand before it begins (TRYAGAIN), and this one never is.  So the queues of a slot
pause while it moves, and nothing is lost (test_a_script_in_a_slot_that_moves_does_all_or_nothing).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from redis.exceptions import NoScriptError, RedisError

from taskqd.clock import monotonic_s
from taskqd.errors import StorageError, StorageUnavailable
from taskqd.storage.redis.keyspace.scripts import Script
from taskqd.storage.redis.link.address import address, is_cluster
from taskqd.storage.redis.link.cluster_commands import Todo, evalsha, exchange, redirection
from taskqd.storage.redis.link.cluster_server import ServerLink
from taskqd.storage.redis.link.connection import BLOCK_S, CALL_S, SILENT_S, Args, Link
from taskqd.storage.redis.link.faults import code_of
from taskqd.storage.redis.link.slots import Place, SlotMap, slot_of

KEYLESS = {"CONFIG", "INFO", "PING", "TIME"}
_PAUSE_S = (0.002, 0.02)


class Cluster:
    """As `Link`, for the servers of a cluster."""

    def __init__(self, url: str) -> None:
        self.where, _, _, _, self._seeds = address(url, CALL_S)
        self._url = url
        self._links: dict[Place, ServerLink] = {}
        self._slots = SlotMap()
        self._link_of: dict[str, Link] = {}
        """What the hot path needs: key -> its server's connection."""
        self._stale = True
        self._told_by: Place | None = None
        """Who told the map last."""
        self._asked_in_vain: set[Place] = set()
        """Who has not told it since."""

    # -- who has what ----------------------------------------------------------------------

    def server_of(self, key: str) -> Link:
        """Return the connection to the server that has a key.  Raises StorageUnavailable."""
        if self._stale:
            self._learn()
        link = self._link_of.get(key)
        if link is None:
            link = self._link_of[key] = self._at(self._place(key))
        return link

    def place_of(self, key: str) -> Place | None:
        """Return which server has a key as far as is known, without asking; None: not known."""
        return self._slots.place(key)

    def is_at_hand(self, key: str) -> bool:
        """Return whether the server that has a key is connected, without asking."""
        place = self._slots.place(key)
        return place in self._links and self._links[place].is_connected

    def servers(self) -> list[Link]:
        """Return the connections to all servers that have slots."""
        self._learn()
        return [self._at(place) for place in self._slots.places()]

    def lanes(self, keys: Sequence[str]) -> list[tuple[Link, list[str]]]:
        """Return new connections for blocking reads of these keys: one for each slot."""
        by_slot: dict[int, list[str]] = {}
        for key in keys:
            by_slot.setdefault(slot_of(key), []).append(key)
        return [
            (Link(self._url, timeout_s=BLOCK_S + SILENT_S, seek=self._finder(some[0])), some)
            for some in by_slot.values()
        ]

    def _finder(self, key: str) -> Callable[[], Place]:
        def find() -> Place:
            self._learn()  # what it was connected to may be gone, or may have moved the slot
            return self._place(key)

        return find

    def _place(self, key: str) -> Place:
        place = self._slots.place(key)
        if place is None:
            self._stale = True
            raise StorageUnavailable(f"{self.where}: CLUSTERDOWN: no server has the slot of {key}")
        return place

    def _at(self, place: Place) -> Link:
        if place not in self._links:
            self._links[place] = ServerLink(self._url, place, self._suspect)
        return self._links[place]

    def _suspect(self, place: Place) -> None:
        """A server failed: the map is old."""
        self._stale = True

    def _asked_in_turn(self) -> list[Place]:
        """Return whom to ask for the map: those that are connected first, who told it last time last.

        A server that is cut off goes on telling the old map.  Who was not come to is asked first.
        """
        connected = [place for place, link in self._links.items() if link.is_connected]
        places = dict.fromkeys([*connected, *self._seeds, *self._links])
        turn = sorted(places, key=lambda place: place == self._told_by)
        if self._asked_in_vain.issuperset(turn):
            self._asked_in_vain.clear()
        return sorted(turn, key=self._asked_in_vain.__contains__)

    def _learn(self) -> None:
        """Ask any server who has which slots.

        law: all the silent hold up a call for about as long as one does: who waits shows no sign of
        life (test_silent_servers_together_hold_up_a_call_no_longer_than_one).
        """
        failures = []
        deadline_s = monotonic_s() + CALL_S
        for place in self._asked_in_turn():
            if monotonic_s() >= deadline_s:
                failures.append("the others were not asked, for want of time")
                break
            self._asked_in_vain.add(place)
            try:
                rows = self._at(place).call("CLUSTER", "SLOTS", write=False)
            except StorageError as error:
                failures.append(str(error))
                continue
            if rows:
                if self._slots.learn(place, rows):
                    self._link_of.clear()
                self._stale, self._told_by = False, place
                self._asked_in_vain.clear()
                return
            failures.append(f"{place[0]}:{place[1]}: knows no slots")
        raise StorageUnavailable(
            f"{self.where}: CLUSTERDOWN: no server tells its slots ({'; '.join(failures)})"
        )

    # -- commands --------------------------------------------------------------------------

    def call(self, *args: Any, write: bool = True) -> Any:
        """Send one command and return its reply."""
        return self.pipeline([args], write=write)[0]

    def pipeline(self, commands: Sequence[Args], *, write: bool = True) -> list[Any]:
        """Send commands, those to one server in one go; raises the first error among the replies."""
        if commands and commands[0][0] in KEYLESS:
            return self._any_server().pipeline(commands, write=write)
        todo = [Todo(i, command[1], command) for i, command in enumerate(commands)]
        return self._all(todo, write)[0]

    def _any_server(self) -> Link:
        """Return one that has slots, one that is connected where there is one."""
        servers = self.servers()
        return next((link for link in servers if link.is_connected), servers[0])

    def run(self, script: Script, key: str, args: Args, *, write: bool = True) -> Any:
        """Run one script.  The hot path of everything."""
        link = self._link_of.get(key)
        if link is not None and link.is_ready_for(script):
            [reply] = link.exchange([evalsha(script, key, args)], write)
            if not isinstance(reply, RedisError):
                return reply  # else it had no effect, and is repeated where it belongs
        return self.run_all([(script, key, args)], write=write)[0]

    def run_all(
        self,
        calls: Sequence[tuple[Script, str, Args]],
        *,
        write: bool = True,
        then: Sequence[Args] = (),
    ) -> list[Any]:
        """Run scripts, those of one server in one go, each followed by the commands `then`."""
        todo = [
            Todo(i, key, evalsha(script, key, args), script)
            for i, (script, key, args) in enumerate(calls)
        ]
        replies, after = self._all(todo, write, then)
        return replies + after

    def _all(
        self, todo: Sequence[Todo], write: bool, then: Sequence[Args] = ()
    ) -> tuple[list[Any], list[Any]]:
        """Return the replies to all, and all replies to `then`."""
        replies: list[Any] = [None] * len(todo)
        after: list[Any] = []
        deadline_s = monotonic_s() + CALL_S
        while todo:
            again: list[Todo] = []
            errors: list[StorageError] = []
            silences = 0
            # Those that are connected first: one that was silent is not any more.
            for link, some in sorted(self._grouped(todo), key=_is_cut):
                if silences > 1:
                    # law: of many silent servers two are waited for, not each in turn
                    # (test_a_call_to_many_silent_servers_waits_for_two_of_them).
                    break
                since_s = monotonic_s()
                try:
                    got, confirmed = exchange(link, some, write, then)
                except StorageError as error:
                    # law: the others are asked all the same: a heartbeat must reach who lives
                    # (test_the_death_of_a_server_is_waited_out_and_the_others_hear_heartbeats).
                    errors.append(error)
                    silences += monotonic_s() > since_s + SILENT_S
                    continue
                after += confirmed
                for item, reply in zip(some, got, strict=True):
                    if not isinstance(reply, RedisError):
                        replies[item.number] = reply
                    elif (other := self._elsewhere(link, item, reply)) is not None:
                        again.append(other)
                    else:
                        errors.append(link.failure(reply))
            if errors:
                raise errors[0]
            todo = again
            if todo and monotonic_s() > deadline_s:
                raise StorageUnavailable(
                    f"{self.where}: TRYAGAIN: the slot of {todo[0].key} has been moving for "
                    f"{CALL_S:g} s"
                )
        return replies, after

    def _grouped(self, todo: Iterable[Todo]) -> list[tuple[Link, list[Todo]]]:
        groups: dict[Link, list[Todo]] = {}
        for item in todo:
            link = self._at(item.asked) if item.asked else self.server_of(item.key)
            groups.setdefault(link, []).append(item)
        return list(groups.items())

    def _elsewhere(self, link: Link, item: Todo, reply: RedisError) -> Todo | None:
        """Return what to try next, None where the reply is no redirection.

        What was redirected has had no effect.
        """
        if isinstance(reply, NoScriptError):
            link.forget_scripts()
            return item
        code = code_of(reply)
        if code == "MOVED":
            slot, place = redirection(link, reply)
            self._slots.moved(slot, place)
            self._link_of.pop(item.key, None)
            if item.moves:  # they do not agree yet
                time.sleep(random.uniform(*_PAUSE_S))
            return item._replace(asked=None, moves=item.moves + 1)
        if code == "ASK" and item.script is None:
            return item._replace(asked=redirection(link, reply)[1])
        if code in ("ASK", "TRYAGAIN"):
            time.sleep(random.uniform(*_PAUSE_S))
            return item._replace(asked=None)
        return None

    # -- connections -----------------------------------------------------------------------

    @property
    def connects(self) -> int:
        """How often any of them was opened."""
        return sum(link.connects for link in self._links.values())

    @property
    def is_connected(self) -> bool:
        """Whether last words may be said to it; not where a server has just failed."""
        return not self._stale and any(link.is_connected for link in self._links.values())

    def close(self) -> None:
        for link in self._links.values():
            link.close()


def _is_cut(group: tuple[Link, list[Todo]]) -> bool:
    return not group[0].is_connected


def open_link(url: str) -> Link | Cluster:
    """Return the command connection for a storage's URL; it opens at first use."""
    return Cluster(url) if is_cluster(url) else Link(url)
