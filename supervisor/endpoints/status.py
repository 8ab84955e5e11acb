"""The status of the daemon, for `taskqctl`, probes, the service manager and the process title.

The functions only read: fleet, totals and time -> plain values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from taskqd.settings import slots_per_worker
from taskqd.supervisor.context import COUNTERS, MasterContext
from taskqd.supervisor.policy import recycling
from taskqd.supervisor.state.child import Child
from taskqd.supervisor.state.fleet import Fleet, Post
from taskqd.supervisor.state.lifecycle import ChildState
from taskqd.supervisor.state.observation import Observation

GIVEN_UP_S = 150.0
"""Time after its last answer by which a worker that no longer consumes should have been replaced."""
UNKILLED_S = 15.0
"""Time after which a child that was killed and still lives is reported as stuck."""


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
    """Return the generation that serves: neither a canary's nor one that was given up."""
    zygote = fleet.zygote()
    return zygote.generation if zygote is not None else fleet.generation


def memory(fleet: Fleet) -> dict[str, Any] | None:
    """Return the memory that our control group uses; None where the group has no limit."""
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
    """Return the names of what a fork of the present zygote would break."""
    zygote = fleet.zygote()
    return zygote.unsafe if zygote is not None else ()


def storage_error(fleet: Fleet) -> str:
    """Return the storage error that the children report; "" if one of them reaches the storage."""
    serving = [c for c in fleet.children() if c.state in (ChildState.BOOTING, ChildState.READY)]
    if not serving or not all(child.storage_error for child in serving):
        return ""
    return serving[0].storage_error


# -- probes ------------------------------------------------------------------------------------


def live(context: MasterContext) -> dict[str, Any]:
    """Return the liveness: no child is stuck.  That the loop turns is shown by the answer itself.

    The storage is never asked."""
    now_s = context.clock()
    stuck = [
        f"worker {child.number} (pid {child.pid}) cannot be killed"
        for child in context.fleet.children()
        if child.state is ChildState.DYING and child.pid and now_s > child.since_s + UNKILLED_S
    ]
    workers = context.fleet.living_workers()
    unresponsive = [
        (child, why)
        for child in workers
        if (why := recycling.unresponsive(context.fleet, child, now_s))
    ]
    reasons = [f"worker {child.number} (pid {child.pid}) {why}" for child, why in unresponsive]
    # It is being replaced; only where that does not help a new start of everything might.
    lost = any(_silent_s(context.fleet, child) > GIVEN_UP_S for child, _why in unresponsive)
    return {"ok": not stuck and not lost, "state": state(context.fleet), "reasons": stuck + reasons}


def _silent_s(fleet: Fleet, child: Child) -> float:
    return fleet.observations[child.worker_id].heard_age_s or 0.0


def ready(context: MasterContext) -> dict[str, Any]:
    """Return the readiness: a worker serves, and reaches its storage."""
    fleet = context.fleet
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
    return {
        "ok": usable,
        "state": state(fleet),
        "reasons": reasons,
        "settling": settling(fleet),
    }


def startup(context: MasterContext) -> dict[str, Any]:
    served = context.fleet.served
    reasons = [] if served else ["no worker has been ready yet"]
    return {"ok": served, "state": state(context.fleet), "reasons": reasons}


# -- everything --------------------------------------------------------------------------------


def everything(context: MasterContext, pid: int) -> dict[str, Any]:
    fleet, totals, now_s = context.fleet, context.totals, context.clock()
    return {
        "pid": pid,
        "instance": context.instance,
        "app": context.app_name,
        "node": context.node_id,
        "state": state(fleet),
        "uptime_s": round(now_s - context.started_s, 3),
        "generation": generation(fleet),
        "memory": memory(fleet),
        "unsafe": list(unsafe(fleet)),
        "queues": list(context.queues),
        "health": context.health_address,
        "storage": {"url": context.storage_url, "error": storage_error(fleet)},
        "worker_type": context.settings.workers.type,
        "slots": slots_per_worker(context.settings.workers),
        "grace_s": fleet.grace_s,
        "wanted": fleet.wanted(),
        "ready": fleet.ready(),
        "busy": busy(fleet),
        "settling": settling(fleet),
        "fenced": fenced(context),
        "jobs": jobs(context),
        "deaths": dict(totals.deaths),
        "spawned": totals.spawned,
        "orphaned": totals.orphaned,
        "debts": len(fleet.pending_recoveries),
        "seconds_left": round(fleet.stop.timeline.end_s - now_s, 3) if fleet.stop else None,
        "scheduler": _row(context, fleet.scheduler, now_s),
        "workers": [
            _row(context, post, now_s) for post in fleet.workers if post.active or post.child
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
    return sum(
        bool(seen.busy) for key, seen in fleet.observations.items() if _is_worker(fleet, key)
    )


def settling(fleet: Fleet) -> int:
    """Return how many jobs have ended whose ends cannot be written yet."""
    return sum(seen.settling for seen in fleet.observations.values())


def fenced(context: MasterContext) -> int:
    """Return how many ends came too late since the start: somebody else had the job by then."""
    seen = context.fleet.observations.values()
    return context.totals.fenced + sum(worker.fenced for worker in seen)


def _is_worker(fleet: Fleet, key: str) -> bool:
    scheduler = fleet.scheduler.child
    return scheduler is None or scheduler.worker_id != key


def jobs(context: MasterContext) -> dict[str, int]:
    """Return the counts of jobs since the start, of living and dead workers."""
    total = {name: context.totals.jobs[name] for name in COUNTERS}
    for child in context.fleet.living_workers():
        seen = context.fleet.observations.get(child.worker_id)
        for name, count in zip(COUNTERS, seen.counters if seen else (), strict=False):
            total[name] += count
    return total


def _row(context: MasterContext, post: Post, now_s: float) -> dict[str, Any]:
    child = post.child
    if child is None:
        wait_s = max(0.0, post.spawn_at_s - now_s)
        return {
            "worker": post.number,
            "state": "waiting",
            "respawn_in_s": round(wait_s, 3),
            "error": post.last_error,
        }
    seen = context.fleet.observations.get(child.worker_id)
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


def _of_board(seen: Observation | None, now_s: float) -> dict[str, Any]:
    if seen is None:
        return {}
    return {
        "beat_age_s": None if seen.beat_age_s is None else round(seen.beat_age_s, 3),
        "heard_age_s": None if seen.heard_age_s is None else round(seen.heard_age_s, 3),
        "jobs": dict(zip(COUNTERS, seen.counters, strict=True)),
        "settling": seen.settling,
        "running": [
            {
                "job_id": view.job_id,
                "task": view.task,
                "ran_s": round(max(0.0, now_s - view.started_ns / 1e9), 3),
            }
            for view in seen.busy
        ],
    }


def line(context: MasterContext) -> str:
    """Return the daemon's state in a few words, for the service manager."""
    fleet = context.fleet
    text = f"{state(fleet)}: {fleet.ready()} of {fleet.wanted()} workers ready, {busy(fleet)} busy"
    if waiting := settling(fleet):
        text = f"{text}, {waiting} settling"
    error = storage_error(fleet)
    return f"{text}; storage: {error}" if error else text


def title(context: MasterContext) -> str:
    fleet = context.fleet
    word = state(fleet)
    note = "" if word == "ready" else f" {word}"
    workers = f"{len(fleet.living_workers())} workers, {busy(fleet)} busy"
    return f"taskqd: master [{context.instance}]{note} {workers}"
