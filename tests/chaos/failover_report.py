"""What a campaign of failovers has seen, and its table on a page of docs/.  Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from tests.chaos.ledger import Line
from tests.chaos.outage_report import joined, section

AGAIN_S = 5.0
"""A queue whose server has died begins a job within so long of the election."""
OTHERS_S = 5.0
"""A queue of another server begins one within so long all the time."""
PART_AWAY = "part away"
HEADING = "# Failovers under load"
_HEAD = [
    "| storage | durability | event | times | no server for s | then begins within s | other queues s | jobs | twice | laws |",
    "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
]
_TEXT = """\
Real servers: a cluster of three masters with a replica each, and three servers under a Sentinel. One
daemon serves a queue on each master, and a client for each queue enqueues jobs, pipelines and chords
over all queues the whole time. Nothing that was acknowledged may be lost (with `memory` and `local`: but
for what was acknowledged less than 2 s before its server died), no process of the daemon may end, and
nothing may be left over at `replica`. Times are the longest: without a server for the queue, from the
election to the first job that begins, and without a begin in the queues of other servers. In "part
away" a master and its replica are killed together and stay away for one and a half leases. "Twice" are
second starts: what a lease or an end has written a moment before the server died is forgotten with it.

`make failovers STORAGE=cluster REPORT=docs/chaos.md` and `STORAGE=sentinel` repeat rows and put them here.
"""


class Event(NamedTuple):
    name: str
    away_s: float
    """From the fault until all slots were served again."""
    again_s: float
    """From then until a job of the affected queue began."""
    others_s: float
    """The longest time in which no job of another server's queue began."""


class Outcome(NamedTuple):
    storage: str
    durability: str
    kind: str
    events: Sequence[Event]
    jobs: int
    twice: int
    broken: Sequence[str]


def longest_gap_s(
    lines: Sequence[Line], queues: Sequence[str], since_ns: int, until_ns: int
) -> float:
    """Return the longest time between two begins of any one of these queues in that time."""
    gaps = [0.0]
    for queue in queues:
        begun = sorted(x.m for x in lines if x.name == queue and since_ns < x.m < until_ns)
        gaps += [(b - a) / 1e9 for a, b in pairwise([since_ns, *begun, until_ns])]
    return max(gaps)


def late(outcome: Outcome) -> list[str]:
    """Return which bounds did not hold."""
    slow = [e for e in outcome.events if e.again_s > AGAIN_S]
    deaf = [e for e in outcome.events if e.others_s > OTHERS_S]
    return [f"{e.name}: begins after {e.again_s:.1f} s" for e in slow] + [
        f"{e.name}: other queues wait {e.others_s:.1f} s" for e in deaf
    ]


def has_failed(outcome: Outcome) -> bool:
    return bool(outcome.broken) or bool(late(outcome))


def line(outcome: Outcome) -> str:
    """Return the rows of one campaign: one for each kind of event."""
    rows = []
    for name, times in Counter(event.name for event in outcome.events).items():
        mine = [event for event in outcome.events if event.name == name]
        worst = [
            max(getattr(e, field) for e in mine) for field in ("away_s", "again_s", "others_s")
        ]
        wrong = "; ".join([*outcome.broken[:3], *late(outcome)[:3]])
        others = f"{worst[2]:.1f}" if outcome.storage == "cluster" else ""
        rows.append(
            f"| {outcome.storage} | {outcome.durability} | {name} | {times} | {worst[0]:.1f} "
            f"| {worst[1]:.1f} | {others} | {outcome.jobs} | {outcome.twice} "
            f"| {f'**{wrong}**' if wrong else 'held'} |"
        )
    return "\n".join(rows)


def with_outcomes(page: str, outcomes: Sequence[Outcome]) -> str:
    """Return the page with these campaigns in its table, in the place of earlier ones of their kind."""
    before, part, after = section(page, HEADING)
    done = {(outcome.storage, outcome.durability) for outcome in outcomes}
    kept = [row for row in part.splitlines() if _is_row(row) and _key(row) not in done]
    rows = sorted([*kept, *(row for one in outcomes for row in line(one).splitlines())], key=_key)
    return joined(before, HEADING, f"{_TEXT}\n" + "\n".join([*_HEAD, *rows]), after)


def _is_row(text: str) -> bool:
    return text.startswith(("| sentinel |", "| cluster |"))


def _key(row: str) -> tuple[str, str]:
    storage, durability = [field.strip() for field in row.split("|")[1:3]]
    return storage, durability
