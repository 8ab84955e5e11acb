"""Which faults, when and to whom: a plan that a seed makes.  Pure.

The same seed and storage give the same plan; it is kept in the report, so that a run can be
repeated and cut down.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import msgspec

WEIGHTS: dict[str, float] = {
    "kill worker": 80,
    "freeze worker": 5,
    "kill zygote": 4,
    "freeze zygote": 2,
    "kill scheduler": 5,
    "freeze scheduler": 3,
    "freeze master": 3,
    "kill master": 5,
    "kill tree": 5,
    "lose node": 1.5,
    "freeze node": 1.5,
    "stop": 4,
    "stop now": 1,
    "stop hard": 1,
    "kill storage": 8,
    "freeze storage": 3,
    "lock storage": 6,
    "cut connections": 4,
    "fill storage": 2,
    "read-only storage": 2,
    "busy storage": 2,
    "forget scripts": 2,
    "kill client": 4,
    "quiet": 2,
    "scale": 3,
    "storm": 2,
    "reload": 3,
    "kill at": 10,
    "error at": 6,
    "stop at": 4,
    "unsaved storage": 2,
    "password storage": 2,
    "loading storage": 2,
    "stall connections": 3,
    "halve replies": 3,
    "starve descriptors": 3,
}
ONLY_FOR: dict[str, tuple[str, ...]] = {
    "kill storage": ("redis", "valkey"),
    "freeze storage": ("redis", "valkey"),
    "cut connections": ("redis", "valkey"),
    "fill storage": ("redis", "valkey"),
    "read-only storage": ("redis", "valkey"),
    "busy storage": ("redis", "valkey"),
    "forget scripts": ("redis", "valkey"),
    "unsaved storage": ("redis", "valkey"),
    "password storage": ("redis", "valkey"),
    "loading storage": ("redis", "valkey"),
    "stall connections": ("redis", "valkey"),
    "halve replies": ("redis", "valkey"),
    "lock storage": ("sqlite",),
}
HOLD_S: dict[str, tuple[float, float]] = {
    "freeze worker": (0.2, 4.0),
    "freeze zygote": (0.2, 3.0),
    "freeze scheduler": (0.5, 5.0),
    "freeze master": (0.5, 6.0),
    "lose node": (5.5, 9.0),
    "freeze node": (5.5, 9.0),
    "quiet": (0.2, 2.0),
    "scale": (0.2, 2.0),
    "kill storage": (0.1, 2.0),
    "freeze storage": (0.5, 8.0),
    "lock storage": (0.5, 7.0),
    "fill storage": (0.5, 3.0),
    "read-only storage": (0.2, 3.0),
    "busy storage": (0.2, 3.0),
    "unsaved storage": (0.2, 2.0),
    "password storage": (0.2, 2.0),
    "loading storage": (0.0, 0.3),
    "stall connections": (0.2, 6.0),
    "halve replies": (0.2, 0.5),
    "starve descriptors": (0.5, 3.0),
}
"""How long a fault lasts before it is healed; others are healed at once."""
TOGETHER = 0.15
"""The share of steps in which a second fault comes on top of the first."""
OF_THE_SERVER = {name for name, storages in ONLY_FOR.items() if "redis" in storages}
"""At most one of these in a step, too: what one says of the server is not true beside another."""
ALONE = {
    "freeze master",
    "lose node",
    "freeze node",
    "kill master",
    "kill tree",
    "stop",
    "stop now",
    "stop hard",
    "password storage",
}
"""At most one of these in a step."""


LONG: dict[str, int] = {
    "kill worker": 1180,
    "kill storage": 110,
    "kill tree": 70,
    "kill master": 45,
    "kill scheduler": 50,
    "kill at": 60,
    "freeze worker": 15,
    "cut connections": 15,
}
"""How often each fault happens in the long run; some find no victim."""
LONG_S = 1700.0
LONG_HOLD_S = 0.4


class Step(msgspec.Struct, frozen=True):
    after_s: float
    """Since the end of the step before."""
    names: tuple[str, ...]
    chances: tuple[float, ...]
    """For each name: who is the victim, as a share of those there are."""
    hold_s: float


def make_plan(
    seed: int, seconds: float, storage: str, only: Sequence[str] = (), pace: float = 1.0
) -> list[Step]:
    """Return steps for about `seconds`; `only`: choose among these faults; `pace`: how dense."""
    dice = random.Random(f"{seed} {storage}")
    names = [name for name in only or WEIGHTS if storage in ONLY_FOR.get(name, (storage,))]
    steps, left_s = [], seconds
    while left_s > 0:
        step = _step(dice, names, pace)
        steps.append(step)
        left_s -= step.after_s + step.hold_s
    return steps


def make_long_plan(seed: int, seconds: float) -> list[Step]:
    """Return steps one after the other, in the numbers of `LONG` as far as the time allows."""
    dice = random.Random(f"{seed} long")
    names = [name for name, count in LONG.items() for _ in range(round(count * seconds / LONG_S))]
    dice.shuffle(names)
    steps = []
    for name in names:
        hold_s = dice.uniform(0.0, LONG_HOLD_S) if name in HOLD_S else 0.0
        chance = round(dice.random(), 4)
        after_s = dice.uniform(0.5, 1.1) * seconds / max(1, len(names))
        steps.append(Step(round(after_s, 3), (name,), (chance,), round(hold_s, 3)))
    return steps


def _go_together(one: str, other: str) -> bool:
    return one != other and not any(
        one in group and other in group for group in (ALONE, OF_THE_SERVER)
    )


def _step(dice: random.Random, names: Sequence[str], pace: float) -> Step:
    weights = [WEIGHTS.get(name, 8.0) for name in names]
    chosen = [dice.choices(names, weights)[0]]
    if dice.random() < TOGETHER:
        others = [n for n in names if _go_together(n, chosen[0])]
        chosen += dice.sample(others, min(1, len(others)))
    low_s, high_s = max(HOLD_S.get(name, (0.0, 0.0)) for name in chosen)
    return Step(
        after_s=round(min(5.0, dice.expovariate(1.2 * pace)), 3),
        names=tuple(chosen),
        chances=tuple(round(dice.random(), 4) for _ in chosen),
        hold_s=round(dice.uniform(low_s, high_s), 3),
    )
