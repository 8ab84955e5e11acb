"""Look at every state of the protocol that can be reached, and ask real storages to go random ways.

python -m tests.property.explore --losses 1 --crashes 1 --expiries 1 --stops 1 --outages 1 --once 1 --traces 5000
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.property.protocol import Faults, Move, Rules, State, at_rest, broken, misled, moves
from tests.property.replay import Replay
from tests.support.servers.redis_server import available_servers
from tests.support.servers.storages import open_backend


class Found(NamedTuple):
    states: int
    moves: int
    broken: str
    """The first law that does not hold, "" if all do in every state."""
    path: tuple[Move, ...]
    """How to come there."""


def explore(rules: Rules, faults: Faults, once: tuple[int, ...] = ()) -> Found:
    """Look at all states within these faults; `once`: jobs that are to run at most once."""
    start = State(faults=faults, once=once)
    came: dict[State, tuple[State, Move] | None] = {start: None}
    back: dict[State, list[State]] = {}
    queue, count = deque([start]), 0
    while queue:
        state = queue.popleft()
        for move in moves(rules, state):
            count += 1
            if wrong := misled(state, move):
                return Found(len(came), count, wrong, (*_path(came, state), move))
            back.setdefault(move.state, []).append(state)
            if move.state in came:
                continue
            came[move.state] = state, move
            if wrong := broken(move.state):
                return Found(len(came), count, wrong, _path(came, move.state))
            queue.append(move.state)
    stuck = _stuck(came, back)
    if stuck is not None:
        return Found(len(came), count, "a confirmed job can never end", _path(came, stuck))
    return Found(len(came), count, "", ())


def _path(came: dict[State, tuple[State, Move] | None], state: State) -> tuple[Move, ...]:
    path = []
    while (step := came[state]) is not None:
        state, move = step
        path.append(move)
    return tuple(reversed(path))


def _stuck(came: dict[State, object], back: dict[State, list[State]]) -> State | None:
    """Return a state from which no path leads to rest."""
    good = {state for state in came if at_rest(state)}
    queue = deque(good)
    while queue:
        for before in back.get(queue.popleft(), ()):
            if before not in good:
                good.add(before)
                queue.append(before)
    return next((state for state in came if state not in good), None)


def traces(
    rules: Rules,
    faults: Faults,
    count: int,
    seed: int,
    *,
    once: tuple[int, ...] = (),
    steps: int = 25,
) -> Iterator[list[Move]]:
    """Yield random paths; each prefers moves that no path has taken before."""
    dice = random.Random(seed)
    taken: set[tuple[State, str, object]] = set()
    for _ in range(count):
        state, path = State(faults=faults, once=once), []
        for _ in range(steps):
            choices = list(moves(rules, state))
            if not choices:
                break
            fresh = [m for m in choices if (state, m.call, m.state) not in taken]
            move = dice.choice(fresh or choices)
            taken.add((state, move.call, move.state))
            state = move.state
            if move.call:
                path.append(move)
        yield path


def main() -> int:
    parser = argparse.ArgumentParser(prog="explore", description=__doc__)
    for fault in Faults._fields:
        parser.add_argument(f"--{fault}", type=int, default=1)
    parser.add_argument("--once", type=int, nargs="*", default=[], help="jobs to run at most once")
    parser.add_argument("--traces", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    faults, began = Faults(*(getattr(given, name) for name in Faults._fields)), time.monotonic()
    once = tuple(given.once)
    paths = list(traces(Rules(), faults, given.traces, given.seed, once=once))
    for name in ("memory", "sqlite", *available_servers()):
        with open_backend(name, Path(tempfile.mkdtemp())) as backend:
            storage = backend.open(backend.namespace())
            for path in paths:
                Replay(storage).run(path)
            print(f"{name}: {len(paths)} paths, {sum(map(len, paths))} calls, all as predicted")
    found = explore(Rules(), faults, once)
    print(f"{found.states} states, {found.moves} moves, {time.monotonic() - began:.0f} s: ", end="")
    print(found.broken or "every law holds in each")
    for move in found.path:
        print(f"  {move.call or '(unseen by the storage)'} {move.args} -> {move.answer}")
    return bool(found.broken)


if __name__ == "__main__":
    sys.exit(main())
