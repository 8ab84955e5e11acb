"""What the daemon says of itself: to `taskqctl`, to probes, to the service manager, in its title.

It only reads: fleet, tally and time -> plain values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from taskqd.settings import slots_per_worker
from taskqd.supervisor.context import COUNTERS, House
from taskqd.supervisor.policy import recycling as recycle
from taskqd.supervisor.state.fleet import Child, Fleet, Post, Seen
from taskqd.supervisor.state.lifecycle import State

GIVEN_UP_S = 150.0
"""So long after its last answer a worker that no longer consumes should have been replaced."""
UNKILLED_S = 15.0
"""A child that lives on for so long after it was condemned is past our help."""


def state(fleet: Fleet) -> str:
    """Return "starting", "ready", "degraded" (not every worker is), "unready", "quiet", "stopping"."""
    if fleet.stop is not None:
        return "stopping"
    if not fleet.served:
        return "starting"
    if fleet.quiet:
        return "quiet"
    if not fleet.ready():
        return "unready"
    return "ready" if fleet.ready() >= fleet.wanted() else "degraded"


def generation(fleet: Fleet) -> int:
    """Return the generation that counts: not one on trial, nor one that was given up."""
    zygote = fleet.zygote()
    return zygote.generation if zygote is not None else fleet.generation


def memory(fleet: Fleet) -> dict[str, Any] | None:
    """Return the use of our control group's memory, None where it has no limit."""
    now = fleet.memory.pressure
    if now is None:
        return None
    return {
        "used_bytes": now.used_bytes,
        "limit_bytes": now.limit_bytes,
        "percent": round(now.percent, 1),
        "held": fleet.memory.held,
    }


def unsafe(fleet: Fleet) -> tuple[str, ...]:
    """Return what a fork of the present zygote breaks."""
    zygote = fleet.zygote()
    return zygote.unsafe if zygote is not None else ()


def storage_error(fleet: Fleet) -> str:
    """Return what the children say of the storage, "" if anyone reaches it."""
    serving = [c for c in fleet.children() if c.state in (State.BOOTING, State.READY)]
    if not serving or not all(child.storage_error for child in serving):
        return ""
    return serving[0].storage_error


# -- probes ------------------------------------------------------------------------------------


def live(house: House) -> dict[str, Any]:
    """The loop turns (or nobody would answer) and no child is past help; never asks the storage."""
    now_s = house.clock()
    stuck = [
        f"worker {child.number} (pid {child.pid}) cannot be killed"
        for child in house.fleet.children()
        if child.state is State.DYING and child.pid and now_s > child.since_s + UNKILLED_S
    ]
    crew = house.fleet.crew()
    deaf = [(child, why) for child in crew if (why := recycle.deaf(house.fleet, child, now_s))]
    reasons = [f"worker {child.number} (pid {child.pid}) {why}" for child, why in deaf]
    # It is being replaced; only where that does not help a new start of everything might.
    lost = any(_silent_s(house.fleet, child) > GIVEN_UP_S for child, _why in deaf)
    return {"ok": not stuck and not lost, "state": state(house.fleet), "reasons": stuck + reasons}


def _silent_s(fleet: Fleet, child: Child) -> float:
    return fleet.seen[child.worker_id].heard_age_s or 0.0


def ready(house: House) -> dict[str, Any]:
    """A worker serves, and reaches its storage."""
    fleet = house.fleet
    reasons = []
    if fleet.stop is not None:
        reasons.append("stopping")
    if fleet.quiet:
        reasons.append("quiet")
    if not fleet.ready():
        reasons.append("no worker is ready")
    if error := storage_error(fleet):
        reasons.append(f"storage: {error}")
    if fleet.app_error:
        reasons.append(f"app: {fleet.app_error}")
    usable = not reasons or (bool(fleet.ready()) and reasons == [f"app: {fleet.app_error}"])
    return {"ok": usable, "state": state(fleet), "reasons": reasons}


def startup(house: House) -> dict[str, Any]:
    served = house.fleet.served
    reasons = [] if served else ["no worker has been ready yet"]
    return {"ok": served, "state": state(house.fleet), "reasons": reasons}


# -- everything --------------------------------------------------------------------------------


def everything(house: House, pid: int) -> dict[str, Any]:
    fleet, tally, now_s = house.fleet, house.tally, house.clock()
    return {
        "pid": pid,
        "instance": house.instance,
        "app": house.app_name,
        "node": house.node_id,
        "state": state(fleet),
        "uptime_s": round(now_s - house.started_s, 3),
        "generation": generation(fleet),
        "memory": memory(fleet),
        "unsafe": list(unsafe(fleet)),
        "queues": list(house.queues),
        "health": house.health_address,
        "storage": {"url": house.storage_url, "error": storage_error(fleet)},
        "worker_type": house.settings.workers.type,
        "slots": slots_per_worker(house.settings.workers),
        "grace_s": fleet.grace_s,
        "wanted": fleet.wanted(),
        "ready": fleet.ready(),
        "busy": busy(fleet),
        "jobs": jobs(house),
        "deaths": dict(tally.deaths),
        "spawned": tally.spawned,
        "orphaned": tally.orphaned,
        "debts": len(fleet.debts),
        "seconds_left": round(fleet.stop.line.end_s - now_s, 3) if fleet.stop else None,
        "scheduler": _row(house, fleet.scheduler, now_s),
        "workers": [
            _row(house, post, now_s) for post in fleet.workers if post.active or post.child
        ],
    }


def with_costs(
    facts: dict[str, Any], costs: Mapping[str, tuple[float | None, int]]
) -> dict[str, Any]:
    """Add to the row of each child its processor time and its memory, where they are known."""
    for row in (*facts["workers"], facts["scheduler"]):
        cpu_s, pss_bytes = costs.get(row.get("id", ""), (None, 0))
        row |= {"cpu_s": cpu_s, "pss_bytes": pss_bytes or None}
    return facts


def busy(fleet: Fleet) -> int:
    return sum(bool(seen.busy) for key, seen in fleet.seen.items() if _is_worker(fleet, key))


def _is_worker(fleet: Fleet, key: str) -> bool:
    scheduler = fleet.scheduler.child
    return scheduler is None or scheduler.worker_id != key


def jobs(house: House) -> dict[str, int]:
    """Return the counts of jobs since the start, of living and dead workers."""
    total = {name: house.tally.jobs[name] for name in COUNTERS}
    for child in house.fleet.crew():
        seen = house.fleet.seen.get(child.worker_id)
        for name, count in zip(COUNTERS, seen.counters if seen else (), strict=False):
            total[name] += count
    return total


def _row(house: House, post: Post, now_s: float) -> dict[str, Any]:
    child = post.child
    if child is None:
        wait_s = max(0.0, post.spawn_at_s - now_s)
        return {
            "worker": post.number,
            "state": "waiting",
            "respawn_in_s": round(wait_s, 3),
            "error": post.last_error,
        }
    seen = house.fleet.seen.get(child.worker_id)
    return {"worker": post.number, **_of_child(child, now_s), **_of_board(seen, now_s)}


def _of_child(child: Child, now_s: float) -> dict[str, Any]:
    return {
        "id": child.worker_id,
        "pid": child.pid,
        "state": str(child.state),
        "generation": child.generation,
        "uptime_s": round(now_s - child.spawned_s, 3),
        "storage_error": child.storage_error,
    }


def _of_board(seen: Seen | None, now_s: float) -> dict[str, Any]:
    if seen is None:
        return {}
    return {
        "beat_age_s": None if seen.beat_age_s is None else round(seen.beat_age_s, 3),
        "heard_age_s": None if seen.heard_age_s is None else round(seen.heard_age_s, 3),
        "jobs": dict(zip(COUNTERS, seen.counters, strict=True)),
        "running": [
            {
                "job_id": view.job_id,
                "task": view.task,
                "ran_s": round(max(0.0, now_s - view.started_ns / 1e9), 3),
            }
            for view in seen.busy
        ],
    }


def line(house: House) -> str:
    """Return the daemon's state in a few words, for the service manager."""
    fleet = house.fleet
    text = f"{state(fleet)}: {fleet.ready()} of {fleet.wanted()} workers ready, {busy(fleet)} busy"
    error = storage_error(fleet)
    return f"{text}; storage: {error}" if error else text


def title(house: House) -> str:
    fleet = house.fleet
    word = state(fleet)
    note = "" if word == "ready" else f" {word}"
    crew = f"{len(fleet.crew())} workers, {busy(fleet)} busy"
    return f"taskqd: master [{house.instance}]{note} {crew}"
